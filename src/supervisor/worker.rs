//! One of the two processes over all its restarts.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, Local};
use nix::sys::signal::Signal;

use super::child::Child;
use super::display::Display;
use super::outcome::Failure;
use super::restart::{Crash, RestartPolicy};
use crate::run::{ProcessState, Role, RunDir, Status};

/// How many lines of a failed child's log are shown.
const TAIL: usize = 20;

/// The process whose status is `S`: scheduled to start, running, or done for good.
pub(super) struct Worker<'a, S> {
    run: &'a RunDir,
    program: &'a Path,
    /// Those of its processes besides the run.
    arguments: Vec<String>,
    phase: Phase,
    /// How often it was started.
    starts: u32,
    pub(super) restarts: RestartPolicy,
    /// Whether it was asked to stop while there was work left.
    stop_requested: bool,
    /// The status of its latest process, or of one before until that has written its own.
    status: Option<S>,
}

enum Phase {
    Scheduled(Instant),
    Running(Child),
    Done(Option<Failure>),
}

impl<'a, S: Status> Worker<'a, S> {
    /// Scheduled to start now, with these arguments besides the run. Its restarts begin with a wait of `first_delay`.
    pub(super) fn new(
        run: &'a RunDir,
        program: &'a Path,
        arguments: Vec<String>,
        first_delay: Duration,
    ) -> Self {
        let progress = match S::ROLE {
            Role::Eval => "score",
            _ => "checkpoint",
        };
        Worker {
            run,
            program,
            arguments,
            phase: Phase::Scheduled(Instant::now()),
            starts: 0,
            restarts: RestartPolicy::new(first_delay, progress),
            stop_requested: false,
            status: None,
        }
    }

    /// Starts its process if it is time, and takes in what the process says.
    ///
    /// # Errors
    /// If it cannot be waited for, not be started at first, or not within the limit of its restarts; if the run
    /// directory has vanished.
    pub(super) fn poll(&mut self, display: &mut Display) -> Result<()> {
        match &mut self.phase {
            Phase::Scheduled(at) if *at <= Instant::now() => self.start(display),
            Phase::Running(child) => {
                // Polled before log and status are read, which then hold all that it had to say.
                child.poll()?;
                for line in child.new_lines() {
                    display.line(S::ROLE, &line);
                }
                if let Ok(Some(status)) = S::load(self.run)
                    && child.wrote(&status)
                {
                    self.status = Some(status);
                }
                Ok(())
            }
            Phase::Scheduled(_) | Phase::Done(_) => Ok(()),
        }
    }

    fn start(&mut self, display: &mut Display) -> Result<()> {
        self.run.check_present()?; // or it would be tried again and again
        match Child::start(self.program, S::ROLE, self.run, &self.arguments) {
            Ok(child) => {
                self.starts += 1;
                self.phase = Phase::Running(child);
            }
            Err(error) if self.starts == 0 => return Err(error),
            // Short of memory or processes, or its binary is just being built: that may pass.
            Err(error) => match self.restarts.retry_delay() {
                Ok(delay) => self.schedule(delay, &format!("{error:#}"), display),
                Err(_) => return Err(error),
            },
        }
        Ok(())
    }

    fn schedule(&mut self, delay: Duration, reason: &str, display: &mut Display) {
        let count = self.restarts.count();
        display.note(&format!(
            "{reason}; restart {count} in {} s",
            delay.as_secs()
        ));
        self.phase = Phase::Scheduled(Instant::now() + delay);
    }

    /// How its process ended, until that is handled.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        match &self.phase {
            Phase::Running(child) => child.exit_status(),
            _ => None,
        }
    }

    /// Decides what follows from the end of its process: it is done if it ended well, or as it was asked to, or if
    /// there is a reason against a restart; else the restart is scheduled. `step` is what it had reached, `saved`
    /// the step up to which its work is saved.
    ///
    /// Returns the failure, if it failed and is not started again.
    pub(super) fn handle_exit(
        &mut self,
        step: Option<u64>,
        saved: Option<u64>,
        display: &mut Display,
    ) -> Option<&Failure> {
        let Phase::Running(child) = &mut self.phase else {
            return None;
        };
        let Some(status) = child.failure() else {
            self.phase = Phase::Done(None);
            return None;
        };
        let said = self.status.as_ref().filter(|status| child.wrote(*status));
        let mut failure = Failure {
            role: S::ROLE,
            status,
            error: said.and_then(|status| status.process().error.clone()),
            no_restart: String::new(),
            tail: child.log.tail(TAIL),
            log: child.log.path().to_owned(),
        };
        if self.stop_requested {
            failure.no_restart = match S::ROLE {
                Role::Train { .. } => {
                    "the run was asked to stop; what it has trained since its last checkpoint is not saved"
                }
                _ => "the run was asked to stop",
            }
            .to_owned();
        } else {
            match self.restarts.next_delay(Crash::new(status, step, saved)) {
                Ok(delay) => {
                    self.schedule(delay, &failure.headline(), display);
                    return None;
                }
                Err(reason) => failure.no_restart = reason,
            }
        }
        self.phase = Phase::Done(Some(failure));
        self.failure()
    }

    /// Sends its process a signal that ends it, now or (SIGHUP) after its last checkpoint. Nothing is started after
    /// that.
    pub(super) fn stop(&mut self, signal: Signal) {
        match &mut self.phase {
            Phase::Scheduled(_) => self.phase = Phase::Done(None),
            Phase::Running(child) => child.signal(signal),
            Phase::Done(_) => return,
        }
        self.stop_requested = true;
    }

    /// Sends its process, if it has one, a signal that does not end it.
    pub(super) fn send(&self, signal: Signal) {
        if let Phase::Running(child) = &self.phase {
            child.send(signal);
        }
    }

    /// Its role and the pid of its process, if that is frozen: stopped by SIGSTOP, say.
    pub(super) fn frozen(&self) -> Option<(Role, u32)> {
        match &self.phase {
            Phase::Running(child) => child.frozen(self.run).map(|pid| (S::ROLE, pid)),
            _ => None,
        }
    }

    /// When its process gave its last sign of life, if it is at its work and has given one.
    pub(super) fn sign_of_life(&self) -> Option<DateTime<Local>> {
        let Phase::Running(child) = &self.phase else {
            return None;
        };
        let process = self
            .status
            .as_ref()
            .filter(|it| child.wrote(*it))?
            .process();
        let works = matches!(
            process.state,
            ProcessState::Starting | ProcessState::Running
        );
        works.then_some(process.heartbeat)
    }

    /// Counts the end of its process as a good one.
    pub(super) fn mark_done(&mut self) {
        self.phase = Phase::Done(None);
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    pub(super) fn stop_requested(&self) -> bool {
        self.stop_requested
    }

    /// How it failed, if it did.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Done(failure) => failure.as_ref(),
            _ => None,
        }
    }

    /// How often it was started again.
    pub(super) fn restart_count(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// What it said last in this session.
    pub(super) fn status(&self) -> Option<&S> {
        self.status.as_ref()
    }
}
