//! How the trainer's and the evaluator's process ends, and what it leaves in its status.

use super::status::MAX_BYTES;
use super::{ProcessState, RunDir, Status, SupervisorStatus};
use crate::{error, files};
use anyhow::Result;
use std::fmt;
use std::path::PathBuf;

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

/// What ends an evaluator that has nothing left to do for a trainer that is gone.
#[derive(Debug)]
pub struct TrainerDied {
    /// The trainer's error; none if it left none in its status.
    pub error: Option<String>,
    /// Whether training diverged. Its error is the trainer's to tell, once.
    pub diverged: bool,
}

impl TrainerDied {
    /// Exit code of a process that this ends.
    pub const EXIT_CODE: i32 = 3;
}

impl fmt::Display for TrainerDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.diverged {
            return f.write_str("training diverged; its checkpoints are evaluated");
        }
        f.write_str("the trainer died; its checkpoints are evaluated")?;
        match &self.error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TrainerDied {}

/// A status file as it was before a process writes its own.
pub struct FormerStatus {
    path: PathBuf,
    /// None where there was none.
    text: Option<Vec<u8>>,
}

impl FormerStatus {
    /// That of the role of `S` in `run`.
    pub fn read<S: Status>(run: &RunDir) -> Self {
        let path = run.status(S::ROLE);
        FormerStatus {
            text: files::read_small(&path, MAX_BYTES).ok(),
            path,
        }
    }

    /// Puts it back if bad input ended a process that was started by hand: how the run stands does not follow from
    /// that. A supervisor's child, and the first process of its role, leave their own. Returns whether it did.
    pub fn restore_if_refused(&self, run: &RunDir, result: &Result<Completion>) -> bool {
        let supervised = || {
            let status = SupervisorStatus::load(run).ok().flatten();
            status.is_some_and(|status| status.alive(run))
        };
        let is_refused = result.as_ref().is_err_and(error::is_user_error);
        let former = self.text.as_ref().filter(|_| is_refused && !supervised());
        former.is_some_and(|text| files::replace(&self.path, text).is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Role, TrainStatus, provenance};
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    #[test]
    fn status_that_is_no_regular_file_is_as_none() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunDir::create(runs.path(), "a", "", &provenance()).unwrap();
        mkfifo(&run.status(Role::TRAIN), Mode::S_IRWXU).unwrap();
        let former = FormerStatus::read::<TrainStatus>(&run); // and waits for no writer
        assert!(former.text.is_none());
    }
}
