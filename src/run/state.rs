//! How a run stands, by what its processes said last and which of them live.

use std::fmt;

use super::{EvalStatus, Process, ProcessState, RunDir, Status, SupervisorStatus, TrainStatus};

/// How a run stands: the words that people read everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its processes prepare.
    Starting,
    /// It trains, or its trainer is about to be started again.
    Running,
    /// Training has ended, and checkpoints are still scored.
    Evaluating,
    /// Its trainer is frozen, by Ctrl-Z or SIGSTOP.
    Paused,
    /// It was asked to stop, and saves its last checkpoint.
    Stopping,
    /// All steps are trained, and the last checkpoint is scored.
    Finished,
    /// The spec's section `stop` ended training before its last step, and the last checkpoint is scored.
    StoppedEarly,
    /// It was stopped, with a last checkpoint or at once, or has trained as far as `--until` asked for, and can go on.
    Stopped,
    /// A process of it ended by an error, or was killed, and was not started again.
    Failed,
    /// Training came to a loss that is not finite, and would again.
    Diverged,
}

impl RunState {
    pub const ALL: [RunState; 10] = [
        RunState::Starting,
        RunState::Running,
        RunState::Evaluating,
        RunState::Paused,
        RunState::Stopping,
        RunState::Finished,
        RunState::StoppedEarly,
        RunState::Stopped,
        RunState::Failed,
        RunState::Diverged,
    ];

    /// As it is written and read everywhere.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Starting => "starting",
            RunState::Running => "running",
            RunState::Evaluating => "evaluating",
            RunState::Paused => "paused",
            RunState::Stopping => "stopping",
            RunState::Finished => "finished",
            RunState::StoppedEarly => "stopped early",
            RunState::Stopped => "stopped",
            RunState::Failed => "failed",
            RunState::Diverged => "diverged",
        }
    }

    /// Whether it has trained as far as its spec wants.
    pub fn is_finished(self) -> bool {
        matches!(self, RunState::Finished | RunState::StoppedEarly)
    }

    /// Whether a process of the run is at work.
    pub fn is_under_way(self) -> bool {
        matches!(
            self,
            RunState::Starting
                | RunState::Running
                | RunState::Evaluating
                | RunState::Paused
                | RunState::Stopping
        )
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl TrainStatus {
    /// How a run stands whose trainer has finished, and its evaluator too.
    pub fn finished_as(&self) -> RunState {
        match (&self.stopped_early, self.until) {
            (Some(_), _) => RunState::StoppedEarly,
            (None, Some(_)) => RunState::Stopped,
            (None, None) => RunState::Finished,
        }
    }
}

/// How a run stands; `None` before any process of it has started.
pub fn state(run: &RunDir) -> Option<RunState> {
    Statuses::read(run).state(run)
}

/// What the processes of a run said last. A status that cannot be read says nothing; one bad file must not hide the
/// other runs.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    /// The trainer.
    pub train: Option<TrainStatus>,
    /// The evaluator.
    pub eval: Option<EvalStatus>,
    /// The supervisor.
    pub supervisor: Option<SupervisorStatus>,
}

impl Statuses {
    /// Those of `run`.
    pub fn read(run: &RunDir) -> Self {
        Statuses {
            train: TrainStatus::load(run).ok().flatten(),
            eval: EvalStatus::load(run).ok().flatten(),
            supervisor: SupervisorStatus::load(run).ok().flatten(),
        }
    }

    /// How the run stands: the trainer's state; while that has finished, the evaluator's. A process that died is no
    /// failure as long as a supervisor starts it again, nor if the supervisor was asked to stop before it did.
    pub fn state(&self, run: &RunDir) -> Option<RunState> {
        let alive = |status: &&SupervisorStatus| status.alive(run);
        let supervisor = self.supervisor.as_ref().filter(alive);
        let stopping = supervisor.is_some_and(|status| status.stopping);
        let Some(train) = &self.train else {
            return supervisor.map(|_| RunState::Starting);
        };
        let eval = self.eval.as_ref().filter(|eval| !is_before(eval, train));
        let eval = eval.map(|status| status.observed(run));
        let restarts = |training| supervisor.is_some_and(|status| status.training == training);
        let under_way = match (train.observed(run), eval) {
            (ProcessState::Starting, _) => RunState::Starting,
            (ProcessState::Running, _) => RunState::Running,
            (state, _) if state.is_failure() && restarts(true) => RunState::Running,
            (ProcessState::Stopped, _) if stopping => RunState::Stopping,
            (ProcessState::Finished, Some(ProcessState::Starting | ProcessState::Running)) => {
                RunState::Evaluating
            }
            (ProcessState::Finished, Some(eval)) if eval.is_failure() && restarts(false) => {
                RunState::Evaluating
            }
            (ProcessState::Finished, None) if supervisor.is_some() => RunState::Evaluating,
            (ProcessState::Finished, Some(ProcessState::Finished)) => {
                return Some(train.finished_as());
            }
            // Nobody has begun to evaluate, nor will.
            (ProcessState::Finished, None) => {
                let supervisor = self.supervisor.as_ref();
                return Some(match supervisor.map(|status| status.process.state) {
                    None | Some(ProcessState::Finished) => train.finished_as(),
                    Some(ProcessState::Stopped) => RunState::Stopped,
                    Some(_) => RunState::Failed,
                });
            }
            (ProcessState::Finished, Some(ProcessState::Stopped)) | (ProcessState::Stopped, _) => {
                return Some(RunState::Stopped);
            }
            (ProcessState::Diverged, _) => return Some(RunState::Diverged),
            _ if self.was_stopped() => return Some(RunState::Stopped),
            _ => return Some(RunState::Failed),
        };
        Some(match stopping {
            true => RunState::Stopping,
            false if train.process.goes_on() && train.process.is_frozen(run) => RunState::Paused,
            false => under_way,
        })
    }

    /// Whether an evaluator has come to the end of what was trained.
    pub fn is_evaluated(&self) -> bool {
        let eval = self.eval.as_ref();
        let eval = eval.filter(|eval| eval.process.state == ProcessState::Finished);
        let train = self.train.as_ref();
        eval.is_some_and(|eval| train.is_none_or(|train| !is_before(eval, train)))
    }

    /// What ended the run: the trainer's word, or the evaluator's, or the supervisor's; or which of them said nothing and is gone.
    pub fn error(&self, run: &RunDir) -> Option<String> {
        if self.was_stopped() {
            return None; // also where a process has died before
        }
        let train = self.train.as_ref().map(Status::process);
        let eval = self.eval.as_ref().map(Status::process);
        let supervisor = self.supervisor.as_ref().map(Status::process);
        let processes = [train, eval, supervisor].into_iter().flatten();
        let said = processes.filter_map(|process| process.error.clone()).next();
        said.or_else(|| self.killed(run))
    }

    /// The process that was killed and ended the run by that, if it is over and not finished.
    fn killed(&self, run: &RunDir) -> Option<String> {
        let is_over = |state| matches!(state, RunState::Stopped | RunState::Failed);
        self.state(run).filter(|state| is_over(*state))?;
        let gone = [
            (
                "trainer",
                self.train.as_ref().is_some_and(|it| it.vanished(run)),
            ),
            (
                "evaluator",
                self.eval.as_ref().is_some_and(|it| it.vanished(run)),
            ),
            (
                "supervisor",
                self.supervisor.as_ref().is_some_and(|it| it.vanished(run)),
            ),
        ];
        let (name, _) = gone.into_iter().rfind(|(_, gone)| *gone)?;
        Some(format!("the {name} was killed, or ended without a word"))
    }

    /// Whether the supervisor says that the run was stopped, and so not ended by a process of its that has died: that was killed
    /// on request, or waited for its restart.
    fn was_stopped(&self) -> bool {
        let (Some(supervisor), Some(train)) = (&self.supervisor, &self.train) else {
            return false;
        };
        // One that was started by hand since is no child of it.
        let is_child = |process: &Process| process.started <= supervisor.process.heartbeat;
        let has_trained = [ProcessState::Finished, ProcessState::Stopped];
        let evaluator = self.eval.as_ref().map(Status::process);
        let evaluator = evaluator.filter(|_| has_trained.contains(&train.process.state));
        supervisor.process.state == ProcessState::Stopped
            && is_child(&train.process)
            && evaluator.is_none_or(is_child)
    }
}

/// Whether the evaluator had finished before this training ended: it was of an earlier session, and knows nothing of what was
/// trained since.
fn is_before(eval: &EvalStatus, train: &TrainStatus) -> bool {
    let finished = |process: &Process| process.state == ProcessState::Finished;
    finished(&eval.process)
        && finished(&train.process)
        && eval.process.heartbeat < train.process.heartbeat
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{EarlyStop, Lock, Role};
    use std::fs;

    /// A run whose spec is empty, and the directory that it is in.
    fn run() -> (tempfile::TempDir, RunDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/20261123-031000");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("spec.yaml"), "").unwrap();
        let run = RunDir::open(&path).unwrap();
        (directory, run)
    }

    /// The state of a run whose processes say so, which work if they are said to (`Some(true)`), else are gone. The
    /// last is whether the supervisor trains and whether it is stopping.
    fn state_of(
        train: ProcessState,
        eval: Option<ProcessState>,
        supervisor: Option<(ProcessState, bool, bool)>,
        alive: &[Role],
    ) -> RunState {
        let (_directory, run) = run();
        let _locks: Vec<Lock> = alive
            .iter()
            .map(|&role| Lock::take(&run, role).unwrap())
            .collect();
        let mut status = TrainStatus::new(Process::current());
        status.process.state = train;
        status.save(&run).unwrap();
        if let Some(state) = eval {
            let mut status = EvalStatus::new(Process::current());
            status.process.state = state;
            status.save(&run).unwrap();
        }
        if let Some((state, training, stopping)) = supervisor {
            let mut status = SupervisorStatus::new(Process::current(), None);
            status.process.state = state;
            (status.training, status.stopping) = (training, stopping);
            status.save(&run).unwrap();
        }
        state(&run).unwrap()
    }

    #[test]
    fn state_is_the_trainers_and_then_the_evaluators() {
        use ProcessState::{Diverged, Failed, Finished, Running, Starting, Stopped};
        let (train, eval) = (Role::TRAIN, Role::Eval);
        for (trainer, evaluator, alive, want) in [
            (Starting, None, &[train][..], RunState::Starting),
            (Running, Some(Failed), &[train], RunState::Running),
            (Running, Some(Running), &[], RunState::Failed), // both were killed
            (Stopped, Some(Stopped), &[], RunState::Stopped),
            (Diverged, Some(Failed), &[], RunState::Diverged),
            (Failed, Some(Finished), &[], RunState::Failed),
            (Finished, Some(Running), &[eval], RunState::Evaluating),
            (Finished, Some(Running), &[], RunState::Failed),
            (Finished, Some(Stopped), &[], RunState::Stopped),
            (Finished, Some(Failed), &[], RunState::Failed),
            (Finished, Some(Finished), &[], RunState::Finished),
            (Finished, None, &[], RunState::Finished),
        ] {
            let state = state_of(trainer, evaluator, None, alive);
            assert_eq!(state, want, "{trainer}, {evaluator:?}");
        }
    }

    #[test]
    fn state_of_a_run_whose_evaluator_did_not_come_to_its_last_training_is_not_finished() {
        use ProcessState::{Finished, Running, Stopped};
        let (train, supervisor) = (Role::TRAIN, Role::Supervisor);
        for (said, alive, want) in [
            (
                Some((Running, false, false)),
                &[supervisor][..],
                RunState::Evaluating,
            ),
            (
                Some((Running, true, false)),
                &[supervisor, train],
                RunState::Evaluating,
            ),
            (Some((Running, true, false)), &[], RunState::Failed), // all were killed
            (Some((Stopped, false, true)), &[], RunState::Stopped),
            (Some((Finished, false, false)), &[], RunState::Finished),
            (None, &[], RunState::Finished), // it was trained without a supervisor
        ] {
            assert_eq!(state_of(Finished, None, said, alive), want, "{said:?}");
        }
        // One of an earlier session does not count.
        let (_directory, run) = run();
        SupervisorStatus::new(Process::current(), None)
            .save(&run)
            .unwrap();
        let mut eval = EvalStatus::new(Process::current());
        eval.process.state = Finished;
        let mut train = TrainStatus::new(Process::current());
        train.process.state = Finished;
        eval.save(&run).unwrap();
        train.save(&run).unwrap();
        assert_eq!(state(&run), Some(RunState::Failed));
        eval.save(&run).unwrap();
        assert_eq!(state(&run), Some(RunState::Finished));
    }

    #[test]
    fn evaluator_that_fails_after_a_stop_is_no_failure_unless_somebody_has_started_it_since() {
        let (_directory, run) = run();
        let mut train = TrainStatus::new(Process::current());
        train.process.state = ProcessState::Finished;
        train.save(&run).unwrap();
        let mut eval = EvalStatus::new(Process::current());
        eval.process.state = ProcessState::Failed;
        eval.process.error = Some("no memory".to_owned());
        let mut supervisor = SupervisorStatus::new(Process::current(), None);
        supervisor.process.state = ProcessState::Stopped;
        supervisor.save(&run).unwrap();
        let found = |eval: &EvalStatus| {
            let mut eval = eval.clone();
            eval.save(&run).unwrap();
            let statuses = Statuses::read(&run);
            (statuses.state(&run), statuses.error(&run))
        };
        assert_eq!(found(&eval), (Some(RunState::Stopped), None));
        eval.process.started += chrono::TimeDelta::hours(1);
        let failed = (Some(RunState::Failed), eval.process.error.clone());
        assert_eq!(found(&eval), failed);
    }

    #[test]
    fn state_of_a_part_that_is_trained_is_stopped_and_of_an_early_end_stopped_early() {
        let mut train = TrainStatus::new(Process::current());
        assert_eq!(train.finished_as(), RunState::Finished);
        train.until = Some(10);
        assert_eq!(train.finished_as(), RunState::Stopped);
        train.stopped_early = Some(EarlyStop {
            reason: String::new(),
            higher_limit: String::new(),
        });
        assert_eq!(train.finished_as(), RunState::StoppedEarly);
        assert_eq!(train.finished_as().to_string(), "stopped early");
    }

    #[test]
    fn state_of_a_supervised_run_knows_restarts_and_stops() {
        use ProcessState::{Diverged, Failed, Finished, Running, Stopped};
        let (train, supervisor) = (Role::TRAIN, Role::Supervisor);
        for (trainer, evaluator, said, alive, want) in [
            // (state, training, stopping)
            (
                Failed,
                Running,
                (Running, true, false),
                &[supervisor][..],
                RunState::Running,
            ),
            (
                Running,
                Running,
                (Running, true, false),
                &[supervisor],
                RunState::Running,
            ),
            (
                Failed,
                Running,
                (Running, false, false),
                &[supervisor],
                RunState::Failed,
            ),
            (
                Diverged,
                Running,
                (Running, false, false),
                &[supervisor],
                RunState::Diverged,
            ),
            (
                Finished,
                Failed,
                (Running, false, false),
                &[supervisor],
                RunState::Evaluating,
            ),
            (
                Running,
                Running,
                (Running, true, true),
                &[supervisor, train],
                RunState::Stopping,
            ),
            (
                Stopped,
                Running,
                (Running, false, true),
                &[supervisor],
                RunState::Stopping,
            ),
            (
                Finished,
                Finished,
                (Finished, false, false),
                &[],
                RunState::Finished,
            ),
            // Killed by their supervisor, which was asked twice to stop.
            (
                Running,
                Running,
                (Stopped, false, true),
                &[],
                RunState::Stopped,
            ),
            (
                Finished,
                Running,
                (Stopped, false, true),
                &[],
                RunState::Stopped,
            ),
            // The trainer was about to be started again.
            (
                Failed,
                Running,
                (Stopped, false, true),
                &[],
                RunState::Stopped,
            ),
        ] {
            let state = state_of(trainer, Some(evaluator), Some(said), alive);
            assert_eq!(state, want, "{trainer}, {evaluator}, {said:?}");
        }
    }
}
