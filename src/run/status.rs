//! How a run's processes are doing: one small JSON file each, which only its own process writes.

use std::io::ErrorKind;
use std::mem;

use anyhow::{Context, Result};
use chrono::Local;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lock::LockState;
use super::process::DirectoryId;
use super::{EvaluationProgress, Lock, Process, ProcessState, Role, RunDir};
use crate::console;
use crate::files::{read_small, replace};
use crate::user_error;

/// A status has a few hundred bytes, and the message of the error that ended the process.
const MAX_BYTES: u64 = 1 << 20;

/// A status file. How often it is saved is the caller's choice: once a second is plenty.
pub trait Status: Serialize + DeserializeOwned {
    /// Whose status it is.
    const ROLE: Role;

    /// The part that all processes share.
    fn process(&self) -> &Process;

    /// As [`Status::process`], to change it.
    fn process_mut(&mut self) -> &mut Process;

    /// Whether the process was asked to stop, and says so.
    fn stopping(&self) -> bool {
        false
    }

    /// Whether the process is running: it has not said that it ended, and its lock is held, which no copy of the
    /// directory and no other process with its pid can make so. Where the file system has no locks, or none that
    /// reach another machine, the process itself or its heartbeat decides.
    fn alive(&self, run: &RunDir) -> bool {
        let process = self.process();
        process.goes_on()
            && match Lock::probe(run, Self::ROLE) {
                LockState::Held => true,
                LockState::Free => process.may_run_elsewhere(run),
                LockState::Unknown => process.seems_to_run(run),
            }
    }

    /// The state, but `Failed` for a process that vanished without a word.
    fn observed(&self, run: &RunDir) -> ProcessState {
        match self.process().state {
            ProcessState::Starting | ProcessState::Running if !self.alive(run) => {
                ProcessState::Failed
            }
            state => state,
        }
    }

    /// Writes the status of the role in `run`, with the present time as its heartbeat.
    ///
    /// # Errors
    /// If the file cannot be written; the last one then stays.
    fn save(&mut self, run: &RunDir) -> Result<()> {
        let process = self.process_mut();
        process.heartbeat = Local::now();
        process.directory = DirectoryId::of(run);
        let mut json = serde_json::to_vec_pretty(self)
            .with_context(|| format!("failed to encode the status of {}", Self::ROLE))?;
        json.push(b'\n');
        replace(&run.status(Self::ROLE), &json)
    }

    /// [`Status::save`] as a sign of life. That it cannot be written does not end the process: the user is
    /// warned once, and the next one tries again.
    fn save_heartbeat(&mut self, run: &RunDir) {
        let saved = self.save(run);
        let heartbeat_failed = &mut self.process_mut().heartbeat_failed;
        match saved {
            Ok(()) if mem::take(heartbeat_failed) => {
                console::warning(format_args!(
                    "the status of {} is written again",
                    Self::ROLE
                ));
            }
            Err(error) if !mem::replace(heartbeat_failed, true) => console::warning(format_args!(
                "{error:#}; {} goes on without showing how far it is",
                Self::ROLE
            )),
            _ => {}
        }
    }

    /// Reads the last status of the role in `run`, `None` if there is none yet.
    ///
    /// # Errors
    /// If the file cannot be read or is no such status.
    fn load(run: &RunDir) -> Result<Option<Self>> {
        let path = run.status(Self::ROLE);
        let json = match read_small(&path, MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(user_error!("{}: {error}", path.display()));
            }
            json => json.with_context(|| format!("failed to read {}", path.display()))?,
        };
        // Not as an option: `null` is no status either.
        let status: serde_json::Result<Self> = serde_json::from_slice(&json);
        let status = status.map_err(|error| {
            user_error!(
                "{}: no status: {error}; want what {} wrote; remove the file, it is written anew",
                path.display(),
                Self::ROLE
            )
        });
        status.map(Some)
    }
}

/// The supervisor's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorStatus {
    /// State and identity.
    pub process: Process,
    /// Whether more checkpoints may come: the trainer is running, or will be started again.
    pub training: bool,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// How often each process was started again.
    pub restarts: Restarts,
}

/// How often the processes of a run were started again after they had died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// The trainer.
    pub train: u32,
    /// The evaluator.
    pub eval: u32,
}

impl Status for SupervisorStatus {
    const ROLE: Role = Role::Supervisor;

    fn stopping(&self) -> bool {
        self.stopping
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The trainer's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainStatus {
    /// State and identity.
    pub process: Process,
    /// Steps done.
    pub step: u64,
    /// Steps to do in all.
    pub steps: u64,
    /// The last loss; `None` before the first one (and for one that JSON cannot hold, such as NaN).
    pub loss: Option<f64>,
    /// Images trained on a second, lately.
    pub examples_per_sec: Option<f64>,
    /// Threads of the arithmetic; `None` before it is prepared for the first time.
    #[serde(default)]
    pub threads: Option<usize>,
}

impl Status for TrainStatus {
    const ROLE: Role = Role::TRAIN;

    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A checkpoint's accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The checkpoint's step.
    pub step: u64,
    /// Share of the test images whose likeliest class is their own, in 0..=1: the tutorial's precision @ 1.
    #[serde(alias = "precision")] // as earlier versions wrote it
    pub accuracy: f64,
}

/// The evaluator's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalStatus {
    /// State and identity.
    pub process: Process,
    /// The checkpoint evaluated last.
    pub last: Option<Score>,
    /// The best checkpoint so far.
    pub best: Option<Score>,
    /// The lowest loss on the test set so far, whichever checkpoint had it.
    pub lowest_loss: Option<f64>,
}

impl EvalStatus {
    /// Take over what the journal comes to by now.
    pub fn update(&mut self, progress: EvaluationProgress) {
        self.last = progress.last;
        self.best = progress.best;
        self.lowest_loss = progress.lowest_loss;
    }
}

impl Status for EvalStatus {
    const ROLE: Role = Role::Eval;

    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::provenance;
    use chrono::TimeDelta;
    use std::fs;
    use std::process::Command;

    fn run() -> (tempfile::TempDir, RunDir) {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        (directory, run)
    }

    #[test]
    fn status_is_loaded_as_it_was_saved() {
        let (_directory, run) = run();
        assert_eq!(TrainStatus::load(&run).unwrap(), None);
        let mut status = TrainStatus {
            process: Process::current(),
            step: 10,
            steps: 500,
            loss: Some(4.64),
            examples_per_sec: None,
            threads: None,
        };
        let before = status.process.heartbeat - TimeDelta::days(1);
        status.process.heartbeat = before;
        status.process.state = ProcessState::Running;
        status.save(&run).unwrap();
        assert_eq!(TrainStatus::load(&run).unwrap(), Some(status.clone()));
        assert!(status.process.heartbeat > before);

        status.loss = Some(f64::NAN);
        status.save(&run).unwrap();
        assert_eq!(TrainStatus::load(&run).unwrap().unwrap().loss, None);
    }

    #[test]
    fn heartbeat_that_cannot_be_written_is_written_the_next_time() {
        let (_directory, run) = run();
        let mut status = TrainStatus {
            process: Process::current(),
            step: 1,
            steps: 2,
            loss: None,
            examples_per_sec: None,
            threads: None,
        };
        fs::create_dir(run.status(Role::TRAIN)).unwrap(); // no file can replace it
        status.save(&run).unwrap_err();
        status.save_heartbeat(&run);
        assert!(status.process.heartbeat_failed);
        fs::remove_dir(run.status(Role::TRAIN)).unwrap();
        status.step = 2;
        status.save_heartbeat(&run);
        assert!(!status.process.heartbeat_failed);
        assert_eq!(TrainStatus::load(&run).unwrap().unwrap().step, 2);
    }

    #[test]
    fn status_of_an_earlier_version_is_read() {
        let (_directory, run) = run();
        let score = Some(Score {
            step: 10,
            accuracy: 0.5,
        });
        let mut status = EvalStatus {
            process: Process::current(),
            last: score,
            best: score,
            lowest_loss: None,
        };
        status.save(&run).unwrap();
        let path = run.status(Role::Eval);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("\"accuracy\": 0.5").count(), 2, "{text}");
        fs::write(&path, text.replace("accuracy", "precision")).unwrap();
        assert_eq!(EvalStatus::load(&run).unwrap(), Some(status));
    }

    #[test]
    fn load_names_a_file_that_is_no_status_and_never_waits_for_one() {
        let (_directory, run) = run();
        fs::write(run.status(Role::Eval), "{}").unwrap();
        let error = format!("{:#}", EvalStatus::load(&run).unwrap_err());
        assert!(
            error.contains("eval.status.json: no status: missing field `process`"),
            "{error}"
        );
        fs::write(run.status(Role::Eval), "null").unwrap();
        assert!(EvalStatus::load(&run).is_err());
        fs::remove_file(run.status(Role::Eval)).unwrap();
        let pipe = Command::new("mkfifo").arg(run.status(Role::Eval)).status();
        assert!(pipe.unwrap().success());
        let error = format!("{:#}", EvalStatus::load(&run).unwrap_err());
        assert!(error.ends_with("no regular file"), "{error}");
    }
}
