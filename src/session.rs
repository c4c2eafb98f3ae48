//! How the trainer's and the evaluator's process ends, and what it leaves in its status.

use crate::divergence::Divergence;
use crate::error::is_user_error;
use crate::files;
use crate::run::{RunDir, State, Status};
use anyhow::Result;
use std::fmt;

/// Exit code of an error that is the input's.
pub const BAD_INPUT: i32 = 2;

/// How a process ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of its work is done.
    Finished,
    /// This signal stopped it; its work can go on later.
    Interrupted(i32),
}

impl Ended {
    /// 0, or 128 + signal as a shell reports it.
    pub fn exit_code(self) -> i32 {
        match self {
            Ended::Finished => 0,
            Ended::Interrupted(signal) => 128 + signal,
        }
    }
}

/// Exit code of a failure that has no code of its own.
const FAILED: i32 = 1;
/// Exit code of training that diverged. On a CPU it would do so again; the supervisor finds out, once.
pub const DIVERGED: i32 = 4;

/// What ends an evaluator that has nothing left to do for a trainer that is gone.
#[derive(Debug)]
pub struct TrainerDied {
    /// The trainer's error; none if it ended without a word.
    pub error: Option<String>,
}

impl TrainerDied {
    /// Exit code of a process that this ends.
    pub const EXIT_CODE: i32 = 3;
}

impl fmt::Display for TrainerDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the trainer died; what it left is evaluated")?;
        match &self.error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TrainerDied {}

/// Exit code of an error: [`DIVERGED`], [`BAD_INPUT`], 3 for a trainer that died under its evaluator, else 1.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    if error.is::<TrainerDied>() {
        TrainerDied::EXIT_CODE
    } else if error.is::<Divergence>() {
        DIVERGED
    } else if is_user_error(error) {
        BAD_INPUT
    } else {
        FAILED
    }
}

/// Write how the process ended into its status, and pass the result on. A good end that the disk refuses
/// to take is tried again for some seconds.
///
/// # Errors
/// The result's own, or else that of writing the status.
pub fn conclude<S: Status>(status: &mut S, run: &RunDir, result: Result<Ended>) -> Result<Ended> {
    let process = status.process_mut();
    process.state = match &result {
        Ok(Ended::Finished) => State::Finished,
        Ok(Ended::Interrupted(_)) => State::Interrupted,
        Err(_) => State::Failed,
    };
    process.error = result.as_ref().err().map(|error| format!("{error:#}"));
    match result {
        Ok(ended) => files::insist(|| status.save(run)).map(|()| ended),
        Err(error) => {
            // The error is the news; that it cannot be written either would only hide it.
            let _ = status.save(run);
            Err(error)
        }
    }
}
