//! Finding runs again: a walk over the runs directory, which may hold anything else as well.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Result;
use walkdir::{DirEntry, WalkDir};

use super::process_dir::last_component;
use super::timestamp::Timestamp;
use super::{
    EvalStatus, Process, ProcessDir, ProcessState, RunDir, Status, SupervisorStatus, TrainStatus,
    commands,
};
use crate::{bail_user, console, user_error};

/// How similar (Jaro-Winkler, in 0..=1) a name must be to be suggested.
const MIN_SIMILARITY: f64 = 0.7;

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
    /// failure as long as a supervisor starts it again, nor if the supervisor killed it because it was asked to.
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
            _ if self.killed_on_request(run) => return Some(RunState::Stopped),
            _ => return Some(RunState::Failed),
        };
        Some(match stopping {
            true => RunState::Stopping,
            false if train.process.goes_on() && train.process.is_frozen(run) => RunState::Paused,
            false => under_way,
        })
    }

    /// What ended the run: the trainer's word, or the evaluator's, or the supervisor's; or which of them said nothing and is gone.
    pub fn error(&self, run: &RunDir) -> Option<String> {
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
        if self.killed_on_request(run) {
            return None;
        }
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

    /// Whether the trainer, or after its end the evaluator, was killed because the run was to stop at once: it said
    /// nothing, and its supervisor says that it was stopped.
    fn killed_on_request(&self, run: &RunDir) -> bool {
        let (Some(supervisor), Some(train)) = (&self.supervisor, &self.train) else {
            return false;
        };
        let evaluator_vanished = || {
            let eval = self.eval.as_ref();
            train.process.state == ProcessState::Finished
                && eval.is_some_and(|status| status.vanished(run))
        };
        // A trainer that was started by hand since is no child of it.
        let its_child = train.process.started <= supervisor.process.heartbeat;
        supervisor.process.state == ProcessState::Stopped
            && its_child
            && (train.vanished(run) || evaluator_vanished())
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

/// What lies in a directory of runs.
#[derive(Clone, Debug)]
pub enum Found {
    /// A run, or a point of a sweep.
    Run(RunDir),
    /// The directory of a sweep, whose points lie in it.
    Sweep(ProcessDir),
}

impl Found {
    /// What lies at `path`, if it is a run or a sweep.
    pub fn open(path: &Path) -> Option<Self> {
        let sweep = || Some(ProcessDir::new(path.to_owned())).filter(ProcessDir::is_sweep);
        let run = RunDir::open(path).ok().map(Found::Run);
        run.or_else(|| sweep().map(Found::Sweep))
    }

    /// `NAME/TIMESTAMP`, or `NAME/TIMESTAMP/POINT`.
    pub fn id(&self) -> String {
        match self {
            Found::Run(run) => run.id(),
            Found::Sweep(sweep) => sweep.id(),
        }
    }

    /// The experiment's name.
    pub fn name(&self) -> String {
        match self {
            Found::Run(run) => run.name(),
            Found::Sweep(sweep) => sweep.name(),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory().path()
    }

    /// The same as a directory of processes.
    pub fn directory(&self) -> &ProcessDir {
        match self {
            Found::Run(run) => run,
            Found::Sweep(sweep) => sweep,
        }
    }
}

/// All runs and sweeps in the directory `runs`, by name and then by age. Whatever is neither, or cannot be read, is
/// passed over; a directory that is not there holds none. A link that leads nowhere is warned of: its runs are missed.
pub fn list(runs: &Path) -> Vec<Found> {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let is_hidden = name.to_string_lossy().starts_with('.');
        if path.is_symlink()
            && !is_hidden
            && let Err(error) = check_directory(&path)
        {
            console::warning_beside_answer(error);
        }
    }
    find(runs)
}

/// The points of a sweep that have begun, in the order of their numbers.
pub fn points(sweep: &ProcessDir) -> Vec<RunDir> {
    let entries = fs::read_dir(sweep.path()).into_iter().flatten().flatten();
    let mut points: Vec<RunDir> = entries
        .filter_map(|entry| RunDir::open(&entry.path()).ok())
        .collect();
    points.sort_by_cached_key(|point| {
        let name = last_component(point.path());
        (number(&name), name)
    });
    points
}

/// The number that the name of a point's directory begins with.
fn number(name: &str) -> Option<usize> {
    name.split('-').next()?.parse().ok()
}

/// Makes sure that `directory`, where runs are or will be, is a directory or can become one.
///
/// # Errors
/// A user error if it, or what it is to lie in, is a file or a link that leads nowhere.
pub fn check_directory(directory: &Path) -> Result<()> {
    let there = |path: &&Path| path.symlink_metadata().is_ok();
    let Some(path) = directory.ancestors().find(there) else {
        return Ok(());
    };
    let found = match (path.metadata(), path.read_link()) {
        (Ok(metadata), _) if metadata.is_dir() => return Ok(()),
        (Ok(_), _) => "a file".to_owned(),
        (Err(_), Ok(target)) => format!("a link to {}, which is not there", target.display()),
        (Err(error), _) => error.to_string(),
    };
    Err(user_error!(
        "no runs can be in {}: {} is {found}; want a directory, or nothing there",
        directory.display(),
        path.display()
    ))
}

/// The run that a user means by `path`: a run's directory, `NAME` for its latest run, `NAME/TIMESTAMP`, or
/// `NAME/TIMESTAMP/POINT`.
///
/// # Errors
/// A user error if there is none, with the nearest that there is, and for a sweep.
pub fn resolve(runs: &Path, path: &Path) -> Result<RunDir> {
    let sweep = match resolve_any(runs, path)? {
        Found::Run(run) => return Ok(run),
        Found::Sweep(sweep) => sweep,
    };
    let id = sweep.id();
    match points(&sweep).first() {
        Some(point) => bail_user!(
            "{id} is a sweep; want one of its points, such as {}",
            point.id()
        ),
        None => bail_user!("{id} is a sweep, of which no point has begun; want a run"),
    }
}

/// The run or sweep that a user means by `path`, as [`resolve`]; `NAME` is its latest run or sweep.
///
/// # Errors
/// A user error if there is none, with the nearest that there is.
pub fn resolve_any(runs: &Path, path: &Path) -> Result<Found> {
    if let Some(found) = Found::open(path) {
        return Ok(found);
    }
    let what = &*path.to_string_lossy();
    check_directory(runs)?;
    if path.components().count() == 1 && !path.exists() {
        check_directory(&runs.join(path))?;
    }
    let known = find(runs);
    let what = &*point_of_latest(&known, what).unwrap_or_else(|| what.to_owned());
    if let Some(run) = known
        .iter()
        .rfind(|run| run.name() == what || run.id() == what.trim_end_matches('/'))
    {
        return Ok(run.clone());
    }
    let sweeps = known.iter().filter_map(|found| match found {
        Found::Sweep(sweep) => Some((sweep, format!("{}/", sweep.id()))),
        Found::Run(_) => None,
    });
    let mut names: Vec<String> = match what.contains('/') {
        true => known.iter().map(Found::id).collect(),
        false => known.iter().map(Found::name).collect(),
    };
    for (sweep, prefix) in sweeps {
        let Some(point) = what.strip_prefix(&prefix) else {
            continue;
        };
        let (points, wanted) = (points(sweep), number(point));
        // By its number alone as well.
        let is_it = |run: &&RunDir| {
            let name = last_component(run.path());
            name == point || (wanted.is_some() && wanted == number(&name) && !point.contains('-'))
        };
        if let Some(run) = points.iter().find(is_it) {
            return Ok(Found::Run(run.clone()));
        }
        names = points.iter().map(|point| point.id()).collect();
    }
    if path.is_absolute() || path.exists() {
        return RunDir::open(path).map(Found::Run); // a path beyond doubt: say what is wrong with it
    }
    let nearest = match nearest(what, &names) {
        Some(name) => format!(" (nearest: {name:?})"),
        None => String::new(),
    };
    Err(user_error!(
        "no run {what:?} in {}{nearest}; want NAME, NAME/TIMESTAMP or a run's directory, as `{}` shows them",
        runs.display(),
        commands::list(runs)
    ))
}

/// `NAME/TIMESTAMP/7` for `NAME/7`, a point of the latest sweep of a name; `None` for whatever else it may be.
fn point_of_latest(known: &[Found], what: &str) -> Option<String> {
    let (name, point) = what.split_once('/')?;
    let is_sweep = |found: &&Found| matches!(found, Found::Sweep(_)) && found.name() == name;
    // There may be later runs of the name: of a point that was run again, say.
    let latest = known.iter().rfind(is_sweep)?;
    let is_number = point.parse::<usize>().is_ok();
    is_number.then(|| format!("{}/{point}", latest.id()))
}

fn nearest<'a>(what: &str, names: &'a [String]) -> Option<&'a String> {
    names
        .iter()
        .map(|name| (strsim::jaro_winkler(what, name), name))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The runs and sweeps, `runs/NAME/TIMESTAMP`, sorted by name and age.
fn find(runs: &Path) -> Vec<Found> {
    let hidden = |entry: &DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
    };
    let mut found: Vec<Found> = WalkDir::new(runs)
        .max_depth(2)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| !hidden(entry))
        .filter_map(Result::ok)
        .filter(|entry| entry.depth() == 2)
        .filter_map(|entry| Found::open(entry.path()))
        .collect();
    found.sort_by_cached_key(|run| {
        let timestamp = last_component(run.path());
        // One that somebody renamed sorts before the others.
        (run.name(), Timestamp::parse(&timestamp), timestamp)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::{EarlyStop, Lock, Process, Role, SWEEP};

    /// A runs directory with runs at the given places, each of which holds an empty spec.
    fn runs(ids: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for id in ids {
            fs::create_dir_all(directory.path().join(id)).unwrap();
            fs::write(directory.path().join(id).join("spec.yaml"), "").unwrap();
        }
        directory
    }

    fn ids(runs: &Path) -> Vec<String> {
        list(runs).iter().map(Found::id).collect()
    }

    #[test]
    fn link_that_leads_nowhere_is_no_unknown_run() {
        let directory = runs(&["a/20261123-031000"]);
        std::os::unix::fs::symlink("nowhere", directory.path().join("b")).unwrap();
        let error = resolve(directory.path(), Path::new("b")).unwrap_err();
        assert!(is_user_error(&error));
        let place = directory.path().join("b");
        let want = check_directory(&place).unwrap_err().to_string();
        assert!(
            want.contains(" is a link to nowhere, which is not there"),
            "{want}"
        );
        assert_eq!(error.to_string(), want);
        assert_eq!(ids(directory.path()), ["a/20261123-031000"]);
    }

    #[test]
    fn list_sorts_runs_by_name_and_age_and_skips_what_is_no_run() {
        let directory = runs(&[
            "b/20261123-031000-10",
            "b/20261123-031000-2",
            "b/20261123-031000",
            "b/20251123-031000",
            "b/renamed by hand",
            "a/20261123-031000",
            ".trash/20261123-031000",
            "too/deep/20261123-031000",
        ]);
        fs::write(directory.path().join(".gitignore"), "*").unwrap();
        fs::write(directory.path().join("a/notes.txt"), "").unwrap();
        fs::create_dir(directory.path().join("a/20271123-031000")).unwrap(); // no spec: no run
        std::os::unix::fs::symlink("nowhere", directory.path().join("a/dangling")).unwrap();
        assert_eq!(
            ids(directory.path()),
            [
                "a/20261123-031000",
                "b/renamed by hand",
                "b/20251123-031000",
                "b/20261123-031000",
                "b/20261123-031000-2",
                "b/20261123-031000-10",
            ]
        );
        let latest = resolve(directory.path(), Path::new("b")).unwrap();
        assert_eq!(latest.id(), "b/20261123-031000-10");
        assert!(list(&directory.path().join("none")).is_empty());
    }

    #[test]
    fn points_of_a_sweep_are_runs_that_are_found_by_name_and_number() {
        let names = ["1000-a=1", "007-a=0.5", "012-a=0.25"];
        let sweep = "b/20261123-031000";
        let ids = names.map(|name| format!("{sweep}/{name}"));
        let directory = runs(&ids.each_ref().map(String::as_str));
        fs::write(directory.path().join(sweep).join(SWEEP), "").unwrap();
        let resolved = |what: &str| resolve_any(directory.path(), Path::new(what)).unwrap();
        assert_eq!(self::ids(directory.path()), [sweep]);
        let Found::Sweep(found) = resolved("b") else {
            panic!("no sweep")
        };
        let points: Vec<String> = points(&found).iter().map(|point| point.id()).collect();
        assert_eq!(points, [&*ids[1], &ids[2], &ids[0]]);
        for what in [
            &*ids[1],
            "b/20261123-031000/7",
            "b/20261123-031000/007",
            "b/7", // of its latest sweep
        ] {
            let Found::Run(point) = resolved(what) else {
                panic!("no run")
            };
            assert_eq!((point.id(), point.name()), (ids[1].clone(), "b".to_owned()));
            assert!(point.logdir().ends_with(sweep));
        }
        let message = |what| {
            let error = resolve(directory.path(), Path::new(what)).unwrap_err();
            assert!(is_user_error(&error));
            error.to_string()
        };
        assert_eq!(
            message("b"),
            format!(
                "{sweep} is a sweep; want one of its points, such as {}",
                ids[1]
            )
        );
        let nearest = message("b/20261123-031000/008-a=0.5");
        assert!(
            nearest.contains(&format!("(nearest: {:?})", ids[1])),
            "{nearest}"
        );
    }

    /// The state of a run whose processes say so, which work if they are said to (`Some(true)`), else are gone. The
    /// last is whether the supervisor trains and whether it is stopping.
    fn state_of(
        train: ProcessState,
        eval: Option<ProcessState>,
        supervisor: Option<(ProcessState, bool, bool)>,
        alive: &[Role],
    ) -> RunState {
        let directory = runs(&["a/20261123-031000"]);
        let run = resolve(directory.path(), Path::new("a")).unwrap();
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
        let directory = runs(&["a/20261123-031000"]);
        let run = resolve(directory.path(), Path::new("a")).unwrap();
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
            (
                Failed,
                Running,
                (Stopped, false, true),
                &[],
                RunState::Failed,
            ),
        ] {
            let state = state_of(trainer, Some(evaluator), Some(said), alive);
            assert_eq!(state, want, "{trainer}, {evaluator}, {said:?}");
        }
    }

    #[test]
    fn resolve_takes_paths_names_and_ids() {
        let directory = runs(&["base/20261123-031000", "base/20261123-031001"]);
        let resolved =
            |what: &str| last_component(resolve(directory.path(), Path::new(what)).unwrap().path());
        assert_eq!(resolved("base"), "20261123-031001");
        assert_eq!(resolved("base/20261123-031000"), "20261123-031000");
        let path = directory.path().join("base/20261123-031000");
        assert_eq!(resolved(path.to_str().unwrap()), "20261123-031000");
    }

    #[test]
    fn resolve_suggests_the_nearest_name() {
        let directory = runs(&["baseline/20261123-031000", "quick/20261123-031000"]);
        let shown = directory.path().display();
        let wanted = format!(
            "want NAME, NAME/TIMESTAMP or a run's directory, as `{}` shows them",
            commands::list(directory.path())
        );
        for (what, hint) in [
            ("basline", " (nearest: \"baseline\")"),
            (
                "baseline/20261123-031001",
                " (nearest: \"baseline/20261123-031000\")",
            ),
            ("zzz", ""),
        ] {
            let error = resolve(directory.path(), Path::new(what)).unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(
                error.to_string(),
                format!("no run {what:?} in {shown}{hint}; {wanted}")
            );
        }
        let error = resolve(directory.path(), directory.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{shown} is no run directory: got a directory without spec.yaml, want a directory that `runboard run` has made"
            )
        );
    }
}
