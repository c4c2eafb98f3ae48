//! How a supervised run ended: the exit code, and the last words to the user.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use indicatif::FormattedDuration;

use super::child::{describe, exit_code};
use crate::run::{EvalStatus, Restarts, Role, RunDir, TrainStatus};

/// A child that ended badly.
#[derive(Clone, Debug)]
pub struct Death {
    /// Which one.
    pub role: Role,
    /// How it ended.
    pub status: ExitStatus,
    /// The error it left in its status, if it could.
    pub error: Option<String>,
    /// Why it was not started again; `None` if the run was stopping.
    pub why: Option<String>,
    /// The last lines of its log.
    pub tail: Vec<String>,
    /// The whole log.
    pub log: PathBuf,
}

impl Death {
    /// Who died, and of what, in a line.
    pub fn headline(&self) -> String {
        let mut line = format!("the {} died ({})", self.role.noun(), describe(self.status));
        if let Some(error) = &self.error {
            line += &format!(": {error}");
        }
        line
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        if let Some(why) = &self.why {
            write!(f, "\nnot started again: {why}")?;
        }
        if self.tail.is_empty() {
            return write!(f, "\n{} says nothing", self.log.display());
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
pub enum Ending {
    /// All steps trained, the last checkpoint evaluated.
    Finished,
    /// By this signal, sent to the supervisor.
    Stopped(i32),
    /// A child died; if both did, this is the trainer.
    Died(Death),
}

/// The end of [`super::supervise`]; displays as the closing message for the user.
#[derive(Debug)]
pub struct Outcome {
    /// The run supervised.
    pub run: RunDir,
    /// How it ended.
    pub ending: Ending,
    /// How long this session took.
    pub elapsed: Duration,
    /// How often a process was started again.
    pub restarts: Restarts,
    /// The trainer's last status in this session.
    pub train: Option<TrainStatus>,
    /// The evaluator's last status in this session.
    pub eval: Option<EvalStatus>,
}

impl Outcome {
    /// 0 for a finished run, 128 + signal for a stopped one, otherwise the dead child's own exit code
    /// (128 + signal if a signal killed it).
    pub fn exit_code(&self) -> i32 {
        match &self.ending {
            Ending::Finished => 0,
            Ending::Stopped(signal) => 128 + signal,
            Ending::Died(death) => exit_code(death.status),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run, id) = (&self.run, self.run.id());
        match &self.ending {
            Ending::Finished => write!(f, "{id} is finished")?,
            Ending::Stopped(_) => write!(f, "{id} is stopped")?,
            Ending::Died(death) => write!(f, "{death}\n\n{id} failed")?,
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
        let (train, eval) = (run.events(Role::Train), run.events(Role::Eval));
        write!(
            f,
            "\n  curves         {} and {}",
            train.display(),
            eval.display()
        )?;
        let logdir = run.siblings();
        write!(
            f,
            "\n  to see them    make tensorboard, or: tensorboard --logdir {}",
            logdir.display()
        )?;
        if !matches!(self.ending, Ending::Finished) {
            write!(
                f,
                "\n  to go on       make resume NAME={}, or: runboard resume {id}",
                run.name()
            )?;
        }
        Ok(())
    }
}
