//! How the trainer's and the evaluator's process ends, and what it leaves in its status.

use super::{ProcessState, RunDir, Status};
use crate::{error, files};
use anyhow::Result;

/// How a process ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// All of its work is done.
    Finished,
    /// This signal stopped it; its work can go on later.
    Stopped(i32),
}

impl Completion {
    /// 0, or 128 + signal as a shell reports it.
    pub fn exit_code(self) -> i32 {
        match self {
            Completion::Finished => 0,
            Completion::Stopped(signal) => 128 + signal,
        }
    }
}

/// Write how the process ended into its status, and pass the result on. A good end that the disk refuses
/// to take is tried again for some seconds.
///
/// # Errors
/// The result's own, or else that of writing the status.
pub fn record_completion<S: Status>(
    status: &mut S,
    run: &RunDir,
    result: Result<Completion>,
) -> Result<Completion> {
    let process = status.process_mut();
    process.state = match &result {
        Ok(Completion::Finished) => ProcessState::Finished,
        Ok(Completion::Stopped(_)) => ProcessState::Stopped,
        Err(error) if error::exit_code(error) == error::DIVERGED => ProcessState::Diverged,
        Err(_) => ProcessState::Failed,
    };
    process.error = result.as_ref().err().map(|error| format!("{error:#}"));
    match result {
        Ok(ended) => files::retry_io(|| status.save(run)).map(|()| ended),
        Err(error) => {
            // The error is the news; that it cannot be written either would only hide it.
            let _ = status.save(run);
            Err(error)
        }
    }
}
