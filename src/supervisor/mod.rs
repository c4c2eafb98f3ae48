//! Starts the trainer and the evaluator, watches both, starts again what dies, and ends with them:
//! `runboard run` and `resume`.

mod child;
mod detached;
pub mod display;
mod log;
mod node;
mod outcome;
mod restart;
mod screen;
mod silence;
mod speed;
mod terminal;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, Local};
use nix::sys::signal::Signal;

pub use self::child::Child;
pub use self::detached::{StopOptions, Stopping, detach, stop};
pub use self::node::{NodeOptions, silence, supervise_ranks};
pub use self::outcome::{Failure, Outcome, SessionSummary};
pub use self::terminal::Terminal;
pub use self::watch::watch;
use crate::checkpoint;
use crate::launch::Launch;
use crate::overview;
use crate::run::{
    EvalStatus, Lock, LockState, Process, ProcessState, Restarts, Role, RunDir, Status, Statuses,
    StopRequests, SupervisorStatus, TrainStatus, TrainerDied,
};
use crate::shutdown::{Shutdown, can_go_on_after_a_pause, stop_like_a_terminal};
use detached::frozen_notice;
use display::Display;
use log::Log;
use silence::Silence;
use worker::Worker;

/// How often an unchanged status is written again, as a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long processes whose supervisor was killed may take to end.
const ORPHANS_END: Duration = Duration::from_secs(30);

/// How the supervisor waits and how often it restarts.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often in a row, with no new checkpoint between, a trainer that dies is started again.
    pub restarts: u32,
    /// The wait before the first restart in a row; it doubles with each one.
    pub delay: Duration,
    /// How often the children, their logs and their statuses are looked at.
    pub poll: Duration,
    /// The trainer is to train until so many steps are done; None: to the last one.
    pub until: Option<u64>,
    /// The ranks that the trainer has to start and to wait for; None: those of `compute.devices`.
    pub launch: Option<Launch>,
    /// How long a trainer may give no sign of life; None: for ever, as nobody but its own host's processes waits for it.
    pub silence: Option<Duration>,
}

impl Options {
    const POLL: Duration = Duration::from_millis(200);

    /// Those of `runboard run`.
    pub fn new(restarts: u32) -> Self {
        Options {
            restarts,
            delay: Duration::from_secs(1),
            poll: Self::POLL,
            until: None,
            launch: None,
            silence: None,
        }
    }
}

/// The last `count` lines of a log; none of one that cannot be read.
pub fn end_of_log(path: PathBuf, count: usize) -> Vec<String> {
    Log::of_all_sessions(path).tail(count)
}

/// The right to supervise `run`.
///
/// # Errors
/// A user error if one of its processes is running already; otherwise if a lock file cannot be written.
pub fn lock(run: &RunDir) -> Result<Lock> {
    let lock = Lock::take(run, Role::Supervisor)?;
    for role in [Role::TRAIN, Role::Eval] {
        drop(Lock::take(run, role)?); // the processes take theirs themselves
    }
    Ok(lock)
}

/// Whether a process of `run` is there, whatever its status says by now.
pub(crate) fn is_locked(run: &RunDir) -> bool {
    let roles = [Role::Supervisor, Role::TRAIN, Role::Eval];
    roles
        .map(|role| Lock::probe(run, role))
        .contains(&LockState::Held)
}

/// Waits for the processes of a session whose supervisor was killed: the trainer saves a last checkpoint and the evaluator ends
/// what it is at, which is no matter of minutes. Whoever then works there still is for [`lock`] to name.
pub fn wait_for_orphans(run: &RunDir) {
    let deadline = Instant::now() + ORPHANS_END;
    if is_locked(run) {
        crate::console::line(format_args!(
            "waiting up to {} s for the processes of before to end",
            ORPHANS_END.as_secs()
        ));
    }
    while is_locked(run) && Instant::now() < deadline {
        thread::sleep(Options::POLL);
    }
}

/// Trains and evaluates `run`, whose [`lock`] this is, in two processes of `program` (runboard-compute), `program train --run DIR`
/// and `program eval --run DIR`, and returns when both have ended.
///
/// - The first request to stop is passed on to both as SIGHUP, and they take their time to end well.
///   When it is forced they are killed. So `shutdown` must count, see [`Shutdown::counting_signals`].
/// - A pause that `shutdown` asks for stops both, and then the calling process, until that gets SIGCONT.
/// - A trainer that dies is started again, which resumes it from its newest checkpoint: at most
///   [`Options::restarts`] times without a new checkpoint, and not after a failure that would repeat
///   itself: bad input, or the same exit code at the same step as the last time.
/// - An evaluator that dies is started again for as long as there is training, and then within the same
///   limit. With bad input it is not, and training goes on without it.
/// - A trainer that gives no sign of life for [`Options::silence`] is killed, and started again as one that died.
/// - After the trainer has ended, well or not, the evaluator is waited for: it evaluates the last
///   checkpoint and exits by itself.
///
/// Must be called on a thread that lives as long as the run is wanted: the children end with it, or with
/// the whole process, even if that is killed.
///
/// # Errors
/// If a child cannot be started or waited for.
/// What goes wrong in a child is no error here but part of the [`SessionSummary`].
pub fn supervise(
    run: &RunDir,
    lock: &Lock,
    program: &Path,
    shutdown: &Shutdown,
    display: &mut Display,
    options: Options,
) -> Result<SessionSummary> {
    let _requests = StopRequests::watch(lock, shutdown)?;
    let before = SupervisorStatus::load(run).ok().flatten();
    let mut status = SupervisorStatus::new(Process::current(), before.as_ref());
    status.process.state = ProcessState::Running;
    // Before the evaluator starts, which must not take an earlier trainer's word that training is over.
    status.save(run)?;
    let mut arguments = vec!["--supervised".to_owned()];
    if let Some(until) = options.until {
        arguments.extend(["--until".to_owned(), until.to_string()]);
    }
    if let Some(launch) = &options.launch {
        arguments.extend(["--launch".to_owned(), serde_json::to_string(launch)?]);
    }
    let mut supervisor = Supervisor {
        run,
        trainer: Worker::new(run, program, arguments, options.delay),
        evaluator: Worker::new(run, program, Vec::new(), options.delay),
        saved: Some(Instant::now()),
        killed: false,
        frozen_noted: false,
        silence: Silence::default(),
        status,
    };
    supervisor.trainer.restarts.limit(options.restarts);
    let result = supervisor.supervise(shutdown, display, &options);
    display.finish();
    supervisor.finish(result, shutdown, display)
}

struct Supervisor<'a> {
    run: &'a RunDir,
    trainer: Worker<'a, TrainStatus>,
    evaluator: Worker<'a, EvalStatus>,
    status: SupervisorStatus,
    /// When the status was saved, if it was since it changed.
    saved: Option<Instant>,
    /// Whether the children were killed on request.
    killed: bool,
    /// Whether it was said that a child is frozen.
    frozen_noted: bool,
    /// That of the trainer.
    silence: Silence<DateTime<Local>>,
}

impl Supervisor<'_> {
    fn supervise(
        &mut self,
        shutdown: &Shutdown,
        display: &mut Display,
        options: &Options,
    ) -> Result<()> {
        loop {
            if shutdown.take_pause() {
                self.pause(display);
            }
            self.forward_stop(shutdown, display);
            self.note_frozen(display);
            self.trainer.poll(display)?;
            self.evaluator.poll(display)?;
            display.update(self.statuses());
            self.handle_exits(display, options.restarts);
            self.publish_status();
            if let Some(limit) = options.silence {
                self.end_silent(limit, display);
            }
            if self.trainer.is_done() && self.evaluator.is_done() {
                return Ok(());
            }
            thread::sleep(options.poll);
        }
    }

    /// What the processes of this session said last.
    fn statuses(&self) -> Statuses {
        Statuses {
            train: self.trainer.status().cloned(),
            eval: self.evaluator.status().cloned(),
            supervisor: Some(self.status.clone()),
        }
    }

    /// Handles the ends of processes: restarts, or what the user must hear about.
    fn handle_exits(&mut self, display: &mut Display, limit: u32) {
        if self.trainer.exit_status().is_some() {
            let step = self.trainer.status().map(|status| status.step);
            // Unreadable, the directory shows no progress.
            let newest = checkpoint::latest(&self.run.checkpoints()).ok().flatten();
            let saved = newest.map(|entry| entry.step);
            let failure = self.trainer.handle_exit(step, saved, display);
            if let Some(failure) = failure.filter(|_| !self.status.stopping) {
                display.note(match failure.is_divergence() {
                    true => "training diverged; the evaluator scores its last checkpoint",
                    false => "the trainer died; the evaluator scores its last checkpoint",
                });
            }
        }
        let training = !self.trainer.is_done();
        if !training {
            self.evaluator.restarts.limit(limit);
        }
        let ended = self.evaluator.exit_status();
        if !training && ended.and_then(|status| status.code()) == Some(TrainerDied::EXIT_CODE) {
            self.evaluator.mark_done(); // that is not its own failure
        } else if ended.is_some() {
            let scored = self.evaluator.status().and_then(|status| status.last);
            let step = scored.map(|score| score.step);
            let failure = self.evaluator.handle_exit(step, step, display);
            if let Some(failure) = failure.filter(|_| training && !self.status.stopping) {
                display.evaluator_failed(&format!("{failure}\ntraining goes on without it"));
            }
        }
    }

    /// Passes on to the children that a stop was requested, or forced.
    fn forward_stop(&mut self, shutdown: &Shutdown, display: &mut Display) {
        // Both may come at once, and the children then do not begin to save.
        let (signal, note) = if shutdown.forced() && !self.killed {
            self.killed = true;
            (Signal::SIGKILL, "ending at once".to_owned())
        } else if shutdown.requested().is_some() && !self.status.stopping {
            // One that a child may get from others as well without taking it for a second request.
            let signal = Signal::SIGHUP;
            (signal, self.stop_note(shutdown.is_passed_on()))
        } else {
            return;
        };
        self.status.stopping = true;
        self.saved = None;
        self.trainer.stop(signal);
        self.evaluator.stop(signal);
        self.publish_status();
        display.note(&note); // last: a terminal may let its writer wait
    }

    /// What follows from a stop, which another host may have passed on.
    fn stop_note(&self, is_passed_on: bool) -> String {
        let trained = self.trainer.status().map(|status| status.process.state);
        match trained {
            Some(ProcessState::Finished) if self.trainer.is_done() => format!(
                "stopping to score: {} stay unscored; training {}",
                overview::unscored(self.run),
                self.trainer
                    .status()
                    .map_or_else(String::new, overview::how_trained)
            ),
            _ if is_passed_on => {
                "stopping after a last checkpoint, as another host was asked to; ask twice to end at once, without it"
                    .to_owned()
            }
            _ => {
                "stopping after a last checkpoint; ask again to end at once, without it".to_owned()
            }
        }
    }

    /// Says, once, that a child is frozen which is to stop.
    fn note_frozen(&mut self, display: &mut Display) {
        if !self.status.stopping || self.killed || self.frozen_noted {
            return;
        }
        let frozen = self.trainer.frozen().or_else(|| self.evaluator.frozen());
        if let Some((role, pid)) = frozen {
            self.frozen_noted = true;
            display.note(&frozen_notice(role, pid, "ask again (Ctrl-C)"));
        }
    }

    /// Kills a trainer that gives no sign of life any more: the ranks of other hosts have noticed, and wait for another one.
    fn end_silent(&mut self, limit: Duration, display: &mut Display) {
        // A disk that refuses this process's status may refuse that of the trainer, which trains on without.
        let sign = self.trainer.sign_of_life().filter(|_| self.saved.is_some());
        if self.silence.since(sign) >= limit {
            self.silence = Silence::default();
            display.note(&format!(
                "the trainer gives no sign of life for {} s: it is frozen, or waits for a disk; it is killed",
                limit.as_secs()
            ));
            self.trainer.send(Signal::SIGKILL);
        }
    }

    /// Pauses the whole run until this process goes on: the terminal's Ctrl-Z reaches this process alone.
    ///
    /// If this process is killed meanwhile the children get SIGHUP and, see [`Shutdown::on_signals`], SIGCONT.
    fn pause(&mut self, display: &mut Display) {
        if !can_go_on_after_a_pause() {
            display.note(
                "not paused: there is no shell here that would let it go on; Ctrl-C stops the run",
            );
            return;
        }
        self.trainer.send(Signal::SIGSTOP);
        self.evaluator.send(Signal::SIGSTOP);
        display.pause("paused; to go on: fg");
        // All of this process's threads stop here.
        let _ = stop_like_a_terminal();
        self.trainer.send(Signal::SIGCONT);
        self.evaluator.send(Signal::SIGCONT);
        self.silence = Silence::default(); // it could give no sign
        display.note("going on");
    }

    /// Writes the status for the evaluator and whoever else reads it, when it has changed or is old.
    fn publish_status(&mut self) {
        let under_way = (!self.trainer.is_done(), !self.evaluator.is_done());
        let restarts = Restarts {
            train: self.trainer.restart_count(),
            eval: self.evaluator.restart_count(),
        };
        let status = &mut self.status;
        if (under_way, restarts) != ((status.training, status.evaluation), status.restarts) {
            (status.training, status.evaluation) = under_way;
            status.restarts = restarts;
            self.saved = None;
        }
        if self.saved.is_none_or(|saved| saved.elapsed() >= HEARTBEAT) {
            // On a full disk it is tried again at the next look.
            self.saved = self.status.save(self.run).ok().map(|()| Instant::now());
        }
    }

    fn finish(
        mut self,
        result: Result<()>,
        shutdown: &Shutdown,
        display: &mut Display,
    ) -> Result<SessionSummary> {
        let stop_requested = self.trainer.stop_requested() || self.evaluator.stop_requested();
        let failed = self.trainer.failure().or(self.evaluator.failure()).cloned();
        let outcome = match (failed, shutdown.requested()) {
            (Some(failure), _) => Outcome::Failed(failure),
            // Asked while it was at its last work, it may have finished that.
            (None, Some(signal)) if stop_requested && !self.is_finished() => {
                Outcome::Stopped(signal)
            }
            (None, _) => Outcome::Finished,
        };
        let (state, error) = match (&result, &outcome) {
            (Err(error), _) => (ProcessState::Failed, Some(format!("{error:#}"))),
            (Ok(()), Outcome::Failed(failure)) => (ProcessState::Failed, Some(failure.headline())),
            (Ok(()), Outcome::Stopped(_)) => (ProcessState::Stopped, None),
            (Ok(()), Outcome::Finished) => (ProcessState::Finished, None),
        };
        (self.status.process.state, self.status.process.error) = (state, error);
        if let Err(error) = self.status.save(self.run) {
            display.note(&format!("warning: {error:#}")); // the run itself is as it is
        }
        result.map(|()| SessionSummary::new(self.run, outcome, self.statuses()))
    }

    /// Whether both processes say that all their work is done.
    fn is_finished(&self) -> bool {
        let finished = |process: &Process| process.state == ProcessState::Finished;
        let (train, eval) = (self.trainer.status(), self.evaluator.status());
        train.is_some_and(|status| finished(&status.process))
            && eval.is_some_and(|status| finished(&status.process))
    }
}
