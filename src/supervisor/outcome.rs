//! How a supervised run ended: the exit code, and the last words to the user.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use indicatif::FormattedDuration;

use super::child::{describe, exit_code};
use crate::run::{EvalStatus, Restarts, Role, RunDir, TrainStatus, commands};

/// A child that ended badly.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which one.
    pub role: Role,
    /// How it ended.
    pub status: ExitStatus,
    /// The error it left in its status, if it could.
    pub error: Option<String>,
    /// Why it was not started again.
    pub no_restart: String,
    /// The last lines of its log.
    pub tail: Vec<String>,
    /// The whole log.
    pub log: PathBuf,
}

impl Failure {
    /// Who died, and of what, in a line.
    pub fn headline(&self) -> String {
        let mut line = format!(
            "the {} died ({})",
            self.role.process_name(),
            describe(self.status)
        );
        if let Some(error) = &self.error {
            line += &format!(": {error}");
        }
        line
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nnot started again: {}",
            self.headline(),
            self.no_restart
        )?;
        if self.tail.is_empty() {
            return write!(f, "\n{} has no line of it", self.log.display());
        }
        write!(f, "\nthe end of {}:", self.log.display())?;
        for line in &self.tail {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// How the run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps trained, the last checkpoint evaluated.
    Finished,
    /// By this signal, sent to the supervisor.
    Stopped(i32),
    /// A child died; if both did, this is the trainer.
    Failed(Failure),
}

/// The end of [`super::supervise`]; displays as the closing message for the user.
#[derive(Debug)]
pub struct SessionSummary {
    /// The run supervised.
    pub run: RunDir,
    /// How it ended.
    pub outcome: Outcome,
    /// How long this session took.
    pub elapsed: Duration,
    /// How often a process was started again.
    pub restarts: Restarts,
    /// The trainer's last status in this session.
    pub train: Option<TrainStatus>,
    /// The evaluator's last status in this session.
    pub eval: Option<EvalStatus>,
}

impl SessionSummary {
    /// 0 for a finished run, 128 + signal for a stopped one, otherwise the dead child's own exit code
    /// (128 + signal if a signal killed it).
    pub fn exit_code(&self) -> i32 {
        match &self.outcome {
            Outcome::Finished => 0,
            Outcome::Stopped(signal) => 128 + signal,
            Outcome::Failed(failure) => exit_code(failure.status),
        }
    }
}

impl fmt::Display for SessionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run, id) = (&self.run, self.run.id());
        match &self.outcome {
            Outcome::Finished => write!(f, "{id} is finished")?,
            Outcome::Stopped(_) => write!(f, "{id} is stopped")?,
            Outcome::Failed(failure) => write!(f, "{failure}\n\n{id} failed")?,
        }
        if let Some(train) = &self.train {
            write!(f, " at step {} of {}", train.step, train.steps)?;
        }
        write!(f, ", after {}", FormattedDuration(self.elapsed))?;
        if let Some(eval) = &self.eval
            && let (Some(last), Some(best)) = (eval.last, eval.best)
        {
            write!(
                f,
                "\n  accuracy       {:.3} at step {}, best {:.3} at step {}",
                last.accuracy, last.step, best.accuracy, best.step
            )?;
        }
        let Restarts { train, eval } = self.restarts;
        if train + eval > 0 {
            write!(f, "\n  restarts       trainer {train}, evaluator {eval}")?;
        }
        let (train, eval) = (run.events(Role::TRAIN), run.events(Role::Eval));
        write!(
            f,
            "\n  curves         {} and {}",
            train.display(),
            eval.display()
        )?;
        write!(f, "\n  to see them    {}", commands::curves(run))?;
        if !matches!(self.outcome, Outcome::Finished) {
            write!(f, "\n  to go on       {}", commands::resume(run))?;
        }
        Ok(())
    }
}
