//! Starts the trainer and the evaluator, watches both, and ends with them: `runboard run` and `resume`.

mod child;
mod log;
mod outcome;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

pub use self::outcome::{Death, Ending, Outcome};
use crate::progress::Display;
use crate::run::{EvalStatus, Lock, Role, RunDir, Status, TrainStatus, Writer};
use crate::session::TrainerDied;
use crate::stop::Stop;
use child::Child;

/// How many lines of a dead child's log are shown.
const TAIL: usize = 20;

/// The supervisor's patience.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often the children, their logs and their statuses are looked at.
    pub poll: Duration,
    /// How long after the second request to stop a child is killed that is still there.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            poll: Duration::from_millis(200),
            grace: Duration::from_secs(2),
        }
    }
}

/// Trains and evaluates `run` in two processes of `program` (runboard itself), `program train --run DIR`
/// and `program eval --run DIR`, and returns when both have ended.
///
/// - The first request to `stop` is passed on to both as SIGTERM, and they take their time to end well.
///   The second one is passed on as well, on which they exit at once, or are killed after
///   [`Options::grace`]. So `stop` must count, see [`Stop::counting_signals`].
/// - An evaluator that dies is reported, and training goes on.
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
    stop: &Stop,
    display: &mut Display,
    options: Options,
) -> Result<Outcome> {
    let _lock = Lock::take(run, Writer::Supervisor)?;
    for role in [Role::Train, Role::Eval] {
        // Free now, and released for the child to take.
        Lock::take(run, Writer::Process(role))?;
    }
    forget_earlier_training(run)?;
    let begin = Instant::now();
    let mut trainer = Child::start(program, Role::Train, run)?;
    let mut evaluator = Child::start(program, Role::Eval, run)?;
    let mut requests = Requests::default();
    let (mut trainer_died, mut evaluator_died) = (None, None);
    let (train, eval) = loop {
        // Asked before logs and statuses are read, which then hold all that an ended child had to say.
        let ended = trainer.poll()?.is_some() & evaluator.poll()?.is_some();
        for child in [&mut trainer, &mut evaluator] {
            for line in child.new_lines() {
                display.line(child.role(), &line);
            }
        }
        let train: Option<TrainStatus> = status_of(run, &trainer);
        let eval: Option<EvalStatus> = status_of(run, &evaluator);
        display.update(train.as_ref(), eval.as_ref());

        if trainer_died.is_none() {
            trainer_died = trainer.failure().map(|status| {
                if train.is_some() {
                    display.note("the trainer died; the evaluator scores its last checkpoint");
                } else {
                    // No status ever told the evaluator of this trainer: it would wait for one.
                    evaluator.signal(Signal::SIGTERM);
                }
                death(&trainer, status, train.as_ref())
            });
        }
        if evaluator_died.is_none() {
            evaluator_died = evaluator.failure().map(|status| {
                let death = death(&evaluator, status, eval.as_ref());
                // One that found the trainer dead is ahead of us, who have yet to see it.
                if trainer.running() && status.code() != Some(TrainerDied::EXIT_CODE) {
                    display.evaluator_lost(&format!("{death}\ntraining goes on without it"));
                }
                death
            });
        }
        if ended {
            break (train, eval);
        }
        requests.pass_on(stop, [&mut trainer, &mut evaluator], display, options.grace);
        thread::sleep(options.poll);
    };
    display.close();

    let told = trainer.told() || evaluator.told();
    let ending = match (trainer_died.or(evaluator_died), stop.requested()) {
        (Some(death), _) => Ending::Died(death),
        (None, Some(signal)) if told => Ending::Stopped(signal),
        (None, _) => Ending::Finished,
    };
    Ok(Outcome {
        run: run.clone(),
        ending,
        elapsed: begin.elapsed(),
        train,
        eval,
    })
}

/// Removes the trainer's status of an earlier session: the evaluator must not take its word that training
/// is over before the new trainer has said anything.
fn forget_earlier_training(run: &RunDir) -> Result<()> {
    let path = run.status(Role::Train);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The child's status, if it has written one: an older one is that of an earlier session.
fn status_of<S: Status>(run: &RunDir, child: &Child) -> Option<S> {
    S::load(run)
        .ok()
        .flatten()
        .filter(|status| status.process().pid == child.pid())
}

fn death<S: Status>(child: &Child, status: ExitStatus, said: Option<&S>) -> Death {
    Death {
        role: child.role(),
        status,
        error: said.and_then(|said| said.process().error.clone()),
        tail: child.log.tail(TAIL),
        log: child.log.path().to_owned(),
    }
}

/// The requests to stop that have been passed on to the children.
#[derive(Default)]
struct Requests {
    passed_on: usize,
    kill_at: Option<Instant>,
}

impl Requests {
    fn pass_on(
        &mut self,
        stop: &Stop,
        children: [&mut Child; 2],
        display: &mut Display,
        grace: Duration,
    ) {
        let mut tell = None;
        if self.passed_on == 0 && stop.requests() > 0 {
            display.note("stopping after a last checkpoint; ask again to end at once, without it");
            self.passed_on = 1;
            tell = Some(Signal::SIGTERM);
        } else if self.passed_on == 1 && stop.requests() > 1 {
            display.note("ending at once");
            self.passed_on = 2;
            self.kill_at = Some(Instant::now() + grace);
            tell = Some(Signal::SIGTERM);
        } else if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            tell = Some(Signal::SIGKILL);
        }
        if let Some(signal) = tell {
            for child in children {
                child.signal(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests;
