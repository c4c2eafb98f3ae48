//! One of the two processes over all its restarts.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::child::Child;
use super::display::Display;
use super::outcome::Death;
use super::restart::{End, RestartPolicy};
use crate::run::{RunDir, Status};

/// How many lines of a dead child's log are shown.
const TAIL: usize = 20;

/// The process whose status is `S`: due to be started, at work, or over for good.
pub(super) struct Worker<'a, S> {
    run: &'a RunDir,
    program: &'a Path,
    phase: Phase,
    /// How often it was started.
    starts: u32,
    pub(super) restarts: RestartPolicy,
    /// Whether it was asked to stop while there was work left.
    told: bool,
    /// The status of its latest process, or of one before until that has written its own.
    status: Option<S>,
}

enum Phase {
    Due(Instant),
    Running(Child),
    Over(Option<Death>),
}

impl<'a, S: Status> Worker<'a, S> {
    /// Due now. Its restarts will begin with a wait of `shortest`.
    pub(super) fn new(run: &'a RunDir, program: &'a Path, shortest: Duration) -> Self {
        Worker {
            run,
            program,
            phase: Phase::Due(Instant::now()),
            starts: 0,
            restarts: RestartPolicy::new(shortest),
            told: false,
            status: None,
        }
    }

    /// Starts its process if that is due, and takes in what the process says.
    ///
    /// # Errors
    /// If it cannot be waited for, not be started at first, or not within the limit of its restarts; if the run
    /// directory has vanished.
    pub(super) fn look(&mut self, display: &mut Display) -> Result<()> {
        match &mut self.phase {
            Phase::Due(at) if *at <= Instant::now() => self.start(display),
            Phase::Running(child) => {
                // Polled before log and status are read, which then hold all that it had to say.
                child.poll()?;
                for line in child.new_lines() {
                    display.line(S::ROLE, &line);
                }
                if let Ok(Some(status)) = S::load(self.run)
                    && status.process().pid == child.pid()
                {
                    self.status = Some(status);
                }
                Ok(())
            }
            Phase::Due(_) | Phase::Over(_) => Ok(()),
        }
    }

    fn start(&mut self, display: &mut Display) -> Result<()> {
        self.run.check_present()?; // or it would be tried again and again
        match Child::start(self.program, S::ROLE, self.run) {
            Ok(child) => {
                self.starts += 1;
                self.phase = Phase::Running(child);
            }
            Err(error) if self.starts == 0 => return Err(error),
            // Short of memory or processes, or its binary is just being built: that may pass.
            Err(error) => match self.restarts.next() {
                Ok(wait) => self.wait(wait, &format!("{error:#}"), display),
                Err(_) => return Err(error),
            },
        }
        Ok(())
    }

    fn wait(&mut self, wait: Duration, why: &str, display: &mut Display) {
        let count = self.restarts.count();
        display.note(&format!("{why}; restart {count} in {} s", wait.as_secs()));
        self.phase = Phase::Due(Instant::now() + wait);
    }

    /// How its process ended, until that is settled.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        match &self.phase {
            Phase::Running(child) => child.ended(),
            _ => None,
        }
    }

    /// Settles what follows from the end of its process: it is over if it ended well, or as it was told to,
    /// or if there is a reason against another one, else due again. `step` is what it had reached, `safe`
    /// what will not be done again.
    ///
    /// Returns how it died, if it did and is over.
    pub(super) fn settle(
        &mut self,
        step: Option<u64>,
        safe: Option<u64>,
        display: &mut Display,
    ) -> Option<&Death> {
        let Phase::Running(child) = &self.phase else {
            return None;
        };
        let Some(status) = child.failure() else {
            self.phase = Phase::Over(None);
            return None;
        };
        let said = self.status().map(Status::process);
        let mut death = Death {
            role: S::ROLE,
            status,
            error: said
                .filter(|process| process.pid == child.pid())
                .and_then(|process| process.error.clone()),
            why: None,
            tail: child.log.tail(TAIL),
            log: child.log.path().to_owned(),
        };
        if !self.told {
            match self.restarts.after(End::new(status, step, safe)) {
                Ok(wait) => {
                    self.wait(wait, &death.headline(), display);
                    return None;
                }
                Err(why) => death.why = Some(why),
            }
        }
        self.phase = Phase::Over(Some(death));
        self.death()
    }

    /// Passes on the wish to stop, or with SIGKILL ends it at once. Nothing is started after that.
    pub(super) fn stop(&mut self, signal: Signal) {
        match &mut self.phase {
            Phase::Due(_) => self.phase = Phase::Over(None),
            Phase::Running(child) => child.signal(signal),
            Phase::Over(_) => return,
        }
        self.told = true;
    }

    /// Takes the end of its process for a good one.
    pub(super) fn rest(&mut self) {
        self.phase = Phase::Over(None);
    }

    pub(super) fn over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    pub(super) fn told(&self) -> bool {
        self.told
    }

    /// How it died, if that was its end.
    pub(super) fn death(&self) -> Option<&Death> {
        match &self.phase {
            Phase::Over(death) => death.as_ref(),
            _ => None,
        }
    }

    /// How often it was started again.
    pub(super) fn restarted(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// What it said last in this session.
    pub(super) fn status(&self) -> Option<&S> {
        self.status.as_ref()
    }
}
