//! How a run's processes are doing: one small JSON file each, which only its own process writes.

use std::mem;

use anyhow::{Context, Result};
use chrono::{DateTime, Local};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lock::LockState;
use super::process::DirectoryId;
use super::{
    EarlyStop, EvaluationProgress, Lock, Process, ProcessDir, ProcessState, Role, Score,
    SmoothedLoss,
};
use crate::console;
use crate::files::{read_if_there, replace};
use crate::user_error;

/// A status has a few hundred bytes, and the message of the error that ended the process.
pub(super) const MAX_BYTES: u64 = 1 << 20;

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
    fn alive(&self, directory: &ProcessDir) -> bool {
        let process = self.process();
        process.goes_on()
            && match Lock::probe(directory, Self::ROLE) {
                LockState::Held => true,
                LockState::Free => process.may_run_elsewhere(directory),
                LockState::Linked | LockState::Foreign => false,
                LockState::Unknown => process.seems_to_run(directory),
            }
    }

    /// The state, but `Failed` for a process that vanished without a word.
    fn observed(&self, directory: &ProcessDir) -> ProcessState {
        match self.vanished(directory) {
            true => ProcessState::Failed,
            false => self.process().state,
        }
    }

    /// Whether the process is gone and has not said how it ended: it was killed.
    fn vanished(&self, directory: &ProcessDir) -> bool {
        self.process().goes_on() && !self.alive(directory)
    }

    /// Writes the status of the role in `run`, with the present time as its heartbeat.
    ///
    /// # Errors
    /// If the file cannot be written; the last one then stays.
    fn save(&mut self, directory: &ProcessDir) -> Result<()> {
        let process = self.process_mut();
        process.heartbeat = Local::now();
        process.directory = DirectoryId::of(directory);
        let mut json = serde_json::to_vec_pretty(self)
            .with_context(|| format!("failed to encode the status of {}", Self::ROLE))?;
        json.push(b'\n');
        replace(&directory.status(Self::ROLE), &json)
    }

    /// [`Status::save`] as a sign of life. That it cannot be written does not end the process: the user is
    /// warned once, and the next one tries again.
    fn save_heartbeat(&mut self, directory: &ProcessDir) {
        let saved = self.save(directory);
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
    fn load(directory: &ProcessDir) -> Result<Option<Self>> {
        let path = directory.status(Self::ROLE);
        let Some(json) = read_if_there(&path, MAX_BYTES)? else {
            return Ok(None);
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
    /// Whether there is an evaluator, or it will be started again.
    #[serde(default)]
    pub evaluation: bool,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// How often each process was started again in this session.
    pub restarts: Restarts,
    /// How often in those before it.
    #[serde(default)]
    pub restarts_before: Restarts,
    /// How long the sessions before this one took, in seconds.
    #[serde(default)]
    pub seconds_before: f64,
}

/// Whether the supervisor that works here has started training again.
pub fn is_started_again(run: &ProcessDir) -> bool {
    let status = SupervisorStatus::load(run).ok().flatten();
    status.is_some_and(|status| status.alive(run) && status.restarts.train > 0)
}

impl SupervisorStatus {
    /// That of a supervisor which begins, after the session that `before` is of.
    pub fn new(process: Process, before: Option<&Self>) -> Self {
        SupervisorStatus {
            process,
            training: true,
            evaluation: true,
            stopping: false,
            restarts: Restarts::default(),
            restarts_before: before.map_or_else(Restarts::default, Self::all_restarts),
            seconds_before: before.map_or(0.0, Self::seconds),
        }
    }

    /// How often each process was started again, in all sessions.
    pub fn all_restarts(&self) -> Restarts {
        Restarts {
            train: self
                .restarts_before
                .train
                .saturating_add(self.restarts.train),
            eval: self.restarts_before.eval.saturating_add(self.restarts.eval),
        }
    }

    /// Whether it says that more checkpoints may come. What it said long ago does not count: on a full disk it cannot write
    /// that training has ended.
    pub fn is_training(&self) -> bool {
        self.training && !self.process.silent()
    }

    /// How long all sessions took, up to this one's last heartbeat, in seconds.
    pub fn seconds(&self) -> f64 {
        let session = self.process.heartbeat - self.process.started;
        self.seconds_before + session.as_seconds_f64().max(0.0) // the clock may have been set back
    }
}

/// The status of a sweep's process. How its points stand, their own runs tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepStatus {
    /// State and identity.
    pub process: Process,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// What a point waits for, and who has it, if one does. Earlier versions did not write it.
    #[serde(default)]
    pub waiting: Option<String>,
}

impl SweepStatus {
    /// That of a process which begins.
    pub fn new(process: Process) -> Self {
        SweepStatus {
            process,
            stopping: false,
            waiting: None,
        }
    }
}

impl Status for SweepStatus {
    const ROLE: Role = Role::Sweep;

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
    /// How many processes train together; `None` before they do for the first time.
    #[serde(default)]
    pub ranks: Option<usize>,
    /// Whether one of them was lost and has not come back.
    #[serde(default)]
    pub lost_rank: bool,
    /// What computes, as people are told.
    #[serde(default)]
    pub device: Option<String>,
    /// The first step of this session.
    #[serde(default)]
    pub first: Option<u64>,
    /// The last step's learning rate.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// The loss, averaged over this session's last steps.
    #[serde(default)]
    pub smoothed_loss: Option<SmoothedLoss>,
    /// The share of the time, in 0..=1, that steps waited for their batch, lately.
    #[serde(default)]
    pub input_wait: Option<f64>,
    /// How often training went back to an earlier checkpoint, and on with a lower rate.
    #[serde(default)]
    pub rollbacks: usize,
    /// So many steps were to be done in this session (`--until`), of the more that there are in all.
    #[serde(default)]
    pub until: Option<u64>,
    /// How long training took in all sessions, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// Whether it waits for the score of its last checkpoint.
    #[serde(default)]
    pub waits_for_score: bool,
    /// What ended training before its last step.
    #[serde(default)]
    pub stopped_early: Option<EarlyStop>,
}

impl TrainStatus {
    /// That of a trainer which has done nothing yet.
    pub fn new(process: Process) -> Self {
        TrainStatus {
            process,
            step: 0,
            steps: 0,
            loss: None,
            examples_per_sec: None,
            threads: None,
            ranks: None,
            lost_rank: false,
            device: None,
            first: None,
            learning_rate: None,
            smoothed_loss: None,
            input_wait: None,
            rollbacks: 0,
            until: None,
            seconds: 0.0,
            waits_for_score: false,
            stopped_early: None,
        }
    }

    /// How many steps are done when this session has done what was asked of it.
    pub fn target(&self) -> u64 {
        self.until.unwrap_or(self.steps)
    }
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

/// The evaluator's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalStatus {
    /// State and identity.
    pub process: Process,
    /// The checkpoint evaluated last.
    pub last: Option<Score>,
    /// The best checkpoint so far: by the validation images where there are any, else by the test images.
    pub best: Option<Score>,
    /// The lowest loss on the test set so far, whichever checkpoint had it.
    pub lowest_loss: Option<f64>,
    /// What it does now; `None` while it prepares, and of earlier versions.
    #[serde(default)]
    pub activity: Option<Activity>,
    /// How many checkpoints wait, without the one that it scores.
    #[serde(default)]
    pub waiting: usize,
    /// How long the last evaluation took, in seconds.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// What an evaluator does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Nothing; it looks for checkpoints again.
    Idle {
        /// When it does.
        until: DateTime<Local>,
    },
    /// It scores a checkpoint.
    Scoring {
        /// The checkpoint's step.
        step: u64,
        /// How many images are done.
        done: usize,
        /// Of so many, in all passes over images: averaged and raw weights, and whatever else is scored.
        images: usize,
        /// When that began.
        since: DateTime<Local>,
    },
}

impl EvalStatus {
    /// That of an evaluator which has done nothing yet.
    pub fn new(process: Process) -> Self {
        EvalStatus {
            process,
            last: None,
            best: None,
            lowest_loss: None,
            activity: None,
            waiting: 0,
            seconds: None,
        }
    }

    /// How long it takes to score what it is at and what waits, as far as it was as fast before.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = |done: usize, images: usize| 1.0 - done as f64 / images.max(1) as f64;
        let (under_way, whole) = match self.activity {
            Some(Activity::Scoring {
                done,
                images,
                since,
                ..
            }) => {
                let so_far = (self.process.heartbeat - since).as_seconds_f64();
                let measured = (done > 0).then(|| so_far * images as f64 / done as f64);
                let whole = self.seconds.or(measured)?;
                (left(done, images) * measured.unwrap_or(whole), whole)
            }
            _ if self.waiting == 0 => return Some(0.0),
            _ => (0.0, self.seconds?),
        };
        Some(under_way + self.waiting as f64 * whole)
    }

    /// Take over what the journal comes to by now.
    pub fn update(&mut self, progress: EvaluationProgress) {
        self.last = progress.last;
        self.best = progress.best;
        self.lowest_loss = progress.lowest_loss;
        self.seconds = progress.last_seconds;
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
    use crate::run::RunDir;
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
    fn supervisor_that_has_long_been_silent_says_no_more_of_training() {
        let mut status = SupervisorStatus::new(Process::current(), None);
        assert!(status.is_training());
        status.process.heartbeat -= TimeDelta::minutes(6);
        assert!(!status.is_training());
    }

    #[test]
    fn status_is_loaded_as_it_was_saved() {
        let (_directory, run) = run();
        assert_eq!(TrainStatus::load(&run).unwrap(), None);
        let mut status = TrainStatus {
            step: 10,
            steps: 500,
            loss: Some(4.64),
            ..TrainStatus::new(Process::current())
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
            step: 1,
            steps: 2,
            ..TrainStatus::new(Process::current())
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
        let score = Some(Score::new(10, 0.5));
        let mut status = EvalStatus {
            last: score,
            best: score,
            ..EvalStatus::new(Process::current())
        };
        status.save(&run).unwrap();
        let path = run.status(Role::Eval);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("\"accuracy\": 0.5").count(), 2, "{text}");
        fs::write(&path, text.replace("accuracy", "precision")).unwrap();
        assert_eq!(EvalStatus::load(&run).unwrap(), Some(status));
    }

    #[test]
    fn state_of_an_earlier_version_is_read() {
        let (_directory, run) = run();
        let mut status = EvalStatus::new(Process::current());
        status.process.state = ProcessState::Stopped;
        status.save(&run).unwrap();
        let path = run.status(Role::Eval);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"state\": \"stopped\""), "{text}");
        fs::write(&path, text.replace("\"stopped\"", "\"interrupted\"")).unwrap();
        assert_eq!(EvalStatus::load(&run).unwrap(), Some(status));
    }

    #[test]
    fn evaluators_time_left_is_that_of_what_it_scores_and_of_what_waits() {
        let mut status = EvalStatus::new(Process::current());
        assert_eq!(status.seconds_left(), Some(0.0));
        status.waiting = 2;
        assert_eq!(status.seconds_left(), None);
        status.seconds = Some(10.0);
        assert_eq!(status.seconds_left(), Some(20.0));
        let scoring = |done| {
            Some(Activity::Scoring {
                step: 7,
                done,
                images: 400,
                since: status.process.heartbeat - TimeDelta::seconds(2),
            })
        };
        let (before, under_way) = (scoring(0), scoring(100));
        status.activity = before;
        assert_eq!(status.seconds_left(), Some(30.0));
        status.activity = under_way; // 2 s for a quarter
        assert_eq!(status.seconds_left(), Some(26.0));
    }

    #[test]
    fn supervisors_time_is_that_of_all_sessions() {
        let mut first = SupervisorStatus::new(Process::current(), None);
        first.process.heartbeat = first.process.started + TimeDelta::seconds(40);
        let mut second = SupervisorStatus::new(Process::current(), Some(&first));
        second.process.heartbeat = second.process.started + TimeDelta::seconds(5);
        assert_eq!(second.seconds(), 45.0);
        second.process.heartbeat = second.process.started - TimeDelta::days(1);
        assert_eq!(second.seconds(), 40.0);
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
