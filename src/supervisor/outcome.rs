//! How a supervised run ended: the exit code, and the last words to the user.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::child::{describe, final_code};
use crate::error::DIVERGED;
use crate::overview::{RunSnapshot, SnapshotReader, closing, wrap};
use crate::run::{Role, RunDir, RunState, Statuses, TrainStatus};

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
    /// Whether the trainer ended because training diverged.
    pub fn is_divergence(&self) -> bool {
        self.role == Role::TRAIN && self.status.code() == Some(DIVERGED)
    }

    /// Who died, and of what, in a line. Of a divergence, its error: it says all that there is.
    pub fn headline(&self) -> String {
        if let Some(error) = self.error.as_ref().filter(|_| self.is_divergence()) {
            return error.clone();
        }
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
        f.write_str(&self.headline())?;
        if self.is_divergence() && self.error.is_some() {
            return Ok(()); // the end of the log repeats it
        }
        write!(f, "\nnot started again: {}", self.no_restart)?;
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
    /// All steps trained that were to be, the last checkpoint evaluated.
    Finished,
    /// By this signal, sent to the supervisor.
    Stopped(i32),
    /// A child died; if both did, this is the trainer.
    Failed(Failure),
}

/// The end of [`super::supervise`]; displays as the closing message for the user.
#[derive(Debug)]
pub struct SessionSummary {
    /// How the run ended.
    pub outcome: Outcome,
    /// The run as it is left.
    pub snapshot: RunSnapshot,
}

impl SessionSummary {
    /// The end of a session of `run`, whose processes said this last.
    pub(super) fn new(run: &RunDir, outcome: Outcome, statuses: Statuses) -> Self {
        let mut snapshot = SnapshotReader::new(run).read(statuses);
        // What a process that was killed said last is not how the run ended.
        snapshot.state = Some(match (&outcome, snapshot.state) {
            (Outcome::Finished, _) => {
                let train = snapshot.statuses.train.as_ref();
                train.map_or(RunState::Finished, TrainStatus::finished_as)
            }
            (Outcome::Stopped(_), _) => RunState::Stopped,
            (Outcome::Failed(_), Some(RunState::Diverged)) => RunState::Diverged,
            (Outcome::Failed(_), _) => RunState::Failed,
        });
        SessionSummary { outcome, snapshot }
    }

    /// The closing message, the failure in lines of at most `columns`. Commands are never broken: they are to be copied.
    pub fn text(&self, columns: Option<usize>) -> String {
        let failure = match &self.outcome {
            Outcome::Failed(failure) => {
                let text = failure.to_string();
                columns.map_or(text.clone(), |columns| wrap(&text, columns)) + "\n\n"
            }
            _ => String::new(),
        };
        failure + &closing(&self.snapshot).join("\n")
    }

    /// 0 for a finished run and one that has trained as far as it was to, 128 + signal for a stopped one, otherwise the dead child's own exit code
    /// (128 + signal if a signal killed it).
    pub fn exit_code(&self) -> i32 {
        match &self.outcome {
            Outcome::Finished => 0,
            Outcome::Stopped(signal) => 128 + signal,
            Outcome::Failed(failure) => final_code(failure.status),
        }
    }
}

impl fmt::Display for SessionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(None))
    }
}
