//! Starts the trainer and the evaluator, watches both, starts again what dies, and ends with them:
//! `runboard run` and `resume`.

mod child;
mod detached;
pub mod display;
mod log;
mod outcome;
mod restart;
#[cfg(test)]
mod tests;
mod worker;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

pub use self::detached::{detach, stop};
pub use self::outcome::{Death, Ending, Outcome};
use crate::checkpoint;
use crate::evaluator::TrainerDied;
use crate::run::{
    EvalStatus, Lock, Process, ProcessState, Restarts, Role, RunDir, Status, SupervisorStatus,
    TrainStatus,
};
use crate::shutdown::Shutdown;
use display::Display;
use worker::Worker;

/// How often the supervisor's status is renewed that has not changed.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The supervisor's patience.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often in a row, with no new checkpoint between, a trainer that dies is started again.
    pub restarts: u32,
    /// The wait before the first restart in a row; it doubles with each one.
    pub delay: Duration,
    /// How often the children, their logs and their statuses are looked at.
    pub poll: Duration,
}

impl Options {
    /// A person's patience.
    pub fn new(restarts: u32) -> Self {
        Options {
            restarts,
            delay: Duration::from_secs(1),
            poll: Duration::from_millis(200),
        }
    }
}

/// Trains and evaluates `run` in two processes of `program` (runboard itself), `program train --run DIR`
/// and `program eval --run DIR`, and returns when both have ended.
///
/// - The first request to `stop` is passed on to both as SIGHUP, and they take their time to end well.
///   When it insists they are killed. So `stop` must count, see [`Shutdown::counting_signals`].
/// - A trainer that dies is started again, which resumes it from its newest checkpoint: at most
///   [`Options::restarts`] times without a new checkpoint, and not after a failure that would repeat
///   itself: bad input, or the same exit code at the same step as the last time.
/// - An evaluator that dies is started again for as long as there is training, and then within the same
///   limit. With bad input it is not, and training goes on without it.
/// - After the trainer has ended, well or not, the evaluator is waited for: it evaluates the last
///   checkpoint and exits by itself.
///
/// Must be called on a thread that lives as long as the run is wanted: the children end with it, or with
/// the whole process, even if that is killed.
///
/// # Errors
/// A user error if the run is at work already; otherwise if a child cannot be started or waited for.
/// What goes wrong in a child is no error here but an [`Outcome`].
pub fn supervise(
    run: &RunDir,
    program: &Path,
    stop: &Shutdown,
    display: &mut Display,
    options: Options,
) -> Result<Outcome> {
    let _lock = Lock::take(run, Role::Supervisor)?;
    refuse_if_at_work(run, &[Role::Train, Role::Eval])?;
    let mut status = SupervisorStatus {
        process: Process::current(),
        training: true,
        stopping: false,
        restarts: Restarts::default(),
    };
    status.process.state = ProcessState::Running;
    // Before the evaluator starts, which must not take an earlier trainer's word that training is over.
    status.save(run)?;
    let mut supervisor = Supervisor {
        run,
        trainer: Worker::new(run, program, options.delay),
        evaluator: Worker::new(run, program, options.delay),
        saved: Some(Instant::now()),
        killed: false,
        status,
        begin: Instant::now(),
    };
    supervisor.trainer.restarts.limit(options.restarts);
    let result = supervisor.work(stop, display, options);
    display.close();
    supervisor.conclude(result, stop, display)
}

/// # Errors
/// A user error if a process of one of these roles is at work on the run.
fn refuse_if_at_work(run: &RunDir, roles: &[Role]) -> Result<()> {
    // What is free is let go again: the processes take their locks themselves.
    roles
        .iter()
        .try_for_each(|&role| Lock::take(run, role).map(drop))
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
    begin: Instant,
}

impl Supervisor<'_> {
    fn work(&mut self, stop: &Shutdown, display: &mut Display, options: Options) -> Result<()> {
        loop {
            self.pass_on(stop, display);
            self.trainer.look(display)?;
            self.evaluator.look(display)?;
            display.update(self.trainer.status(), self.evaluator.status());
            self.settle(display, options.restarts);
            self.tell();
            if self.trainer.over() && self.evaluator.over() {
                return Ok(());
            }
            thread::sleep(options.poll);
        }
    }

    /// Settles what follows from the ends of processes: restarts, or what the user must hear about.
    fn settle(&mut self, display: &mut Display, limit: u32) {
        if self.trainer.ended().is_some() {
            let step = self.trainer.status().map(|status| status.step);
            // Unreadable, the directory shows no progress.
            let newest = checkpoint::latest(&self.run.checkpoints()).ok().flatten();
            let safe = newest.map(|entry| entry.step);
            let died = self.trainer.settle(step, safe, display).is_some();
            if died && !self.status.stopping {
                display.note("the trainer died; the evaluator scores its last checkpoint");
            }
        }
        let training = !self.trainer.over();
        if !training {
            self.evaluator.restarts.limit(limit);
        }
        let ended = self.evaluator.ended();
        if !training && ended.and_then(|status| status.code()) == Some(TrainerDied::EXIT_CODE) {
            self.evaluator.rest(); // that is not its own failure
        } else if ended.is_some() {
            let scored = self.evaluator.status().and_then(|status| status.last);
            let step = scored.map(|score| score.step);
            let death = self.evaluator.settle(step, step, display);
            if let Some(death) = death.filter(|_| training && !self.status.stopping) {
                display.evaluator_lost(&format!("{death}\ntraining goes on without it"));
            }
        }
    }

    /// Passes on to the children that a stop was requested, or forced on.
    fn pass_on(&mut self, stop: &Shutdown, display: &mut Display) {
        let signal = if stop.requested().is_some() && !self.status.stopping {
            display.note("stopping after a last checkpoint; ask again to end at once, without it");
            self.status.stopping = true;
            // One that a child may get from others as well without taking it for insistence.
            Signal::SIGHUP
        } else if stop.forced() && !self.killed {
            display.note("ending at once");
            self.killed = true;
            Signal::SIGKILL
        } else {
            return;
        };
        self.saved = None;
        self.trainer.stop(signal);
        self.evaluator.stop(signal);
    }

    /// Tells the evaluator and whoever else reads the status how the run is doing.
    fn tell(&mut self) {
        let training = !self.trainer.over();
        let restarts = Restarts {
            train: self.trainer.restarted(),
            eval: self.evaluator.restarted(),
        };
        if (training, restarts) != (self.status.training, self.status.restarts) {
            (self.status.training, self.status.restarts) = (training, restarts);
            self.saved = None;
        }
        if self.saved.is_none_or(|saved| saved.elapsed() >= HEARTBEAT) {
            // On a full disk it is tried again at the next look.
            self.saved = self.status.save(self.run).ok().map(|()| Instant::now());
        }
    }

    fn conclude(
        mut self,
        result: Result<()>,
        stop: &Shutdown,
        display: &mut Display,
    ) -> Result<Outcome> {
        let told = self.trainer.told() || self.evaluator.told();
        let died = self.trainer.death().or(self.evaluator.death()).cloned();
        let ending = match (died, stop.requested()) {
            (Some(death), _) => Ending::Died(death),
            (None, Some(signal)) if told => Ending::Stopped(signal),
            (None, _) => Ending::Finished,
        };
        let (state, error) = match (&result, &ending) {
            (Err(error), _) => (ProcessState::Failed, Some(format!("{error:#}"))),
            (Ok(()), Ending::Died(death)) => (ProcessState::Failed, Some(death.headline())),
            (Ok(()), Ending::Stopped(_)) => (ProcessState::Interrupted, None),
            (Ok(()), Ending::Finished) => (ProcessState::Finished, None),
        };
        (self.status.process.state, self.status.process.error) = (state, error);
        if let Err(error) = self.status.save(self.run) {
            display.note(&format!("warning: {error:#}")); // the run itself is as it is
        }
        result.map(|()| Outcome {
            run: self.run.clone(),
            ending,
            elapsed: self.begin.elapsed(),
            restarts: self.status.restarts,
            train: self.trainer.status().cloned(),
            eval: self.evaluator.status().cloned(),
        })
    }
}
