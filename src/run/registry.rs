//! Finding runs again: a walk over the runs directory, which may hold anything else as well.

use std::path::Path;

use anyhow::Result;
use walkdir::{DirEntry, WalkDir};

use super::timestamp::Timestamp;
use super::{
    EvalStatus, ProcessState, RunDir, Score, Status, SupervisorStatus, TrainStatus, commands,
};
use crate::user_error;

/// How similar (Jaro-Winkler, in 0..=1) a name must be to be suggested.
const MIN_SIMILARITY: f64 = 0.7;

/// A run as `runboard list` shows it.
#[derive(Clone, Debug)]
pub struct RunEntry {
    /// The run.
    pub run: RunDir,
    /// As [`state`] tells.
    pub state: Option<ProcessState>,
    /// How often the last supervisor started a process again.
    pub restarts: u32,
    /// Steps done, and steps to do in all.
    pub progress: Option<(u64, u64)>,
    /// The accuracy found last.
    pub last: Option<Score>,
}

impl RunEntry {
    fn read(run: RunDir) -> Self {
        let statuses = Statuses::read(&run);
        let restarts = statuses.supervisor.as_ref().map(|status| status.restarts);
        RunEntry {
            state: statuses.state(&run),
            run,
            restarts: restarts.map_or(0, |restarts| restarts.train + restarts.eval),
            progress: statuses.train.map(|status| (status.step, status.steps)),
            last: statuses.eval.and_then(|status| status.last),
        }
    }
}

/// How a run stands: the trainer's state; while that is `Finished`, the evaluator's. `None` before either
/// started. One that died is `Running` as long as a supervisor sees to it.
pub fn state(run: &RunDir) -> Option<ProcessState> {
    Statuses::read(run).state(run)
}

/// What the processes of a run say. A status that cannot be read says nothing; one bad file must not hide the
/// other runs.
struct Statuses {
    train: Option<TrainStatus>,
    eval: Option<EvalStatus>,
    supervisor: Option<SupervisorStatus>,
}

impl Statuses {
    fn read(run: &RunDir) -> Self {
        Statuses {
            train: TrainStatus::load(run).ok().flatten(),
            eval: EvalStatus::load(run).ok().flatten(),
            supervisor: SupervisorStatus::load(run).ok().flatten(),
        }
    }

    fn state(&self, run: &RunDir) -> Option<ProcessState> {
        let alive = |status: &&SupervisorStatus| status.alive(run);
        let supervisor = self.supervisor.as_ref().filter(alive);
        let train = self.train.as_ref()?.observed(run);
        let eval = self.eval.as_ref().map(|status| status.observed(run));
        Some(match (train, eval) {
            (ProcessState::Failed, _) if supervisor.is_some_and(|status| status.training) => {
                ProcessState::Running
            }
            (ProcessState::Finished, Some(ProcessState::Failed)) if supervisor.is_some() => {
                ProcessState::Running
            }
            (ProcessState::Finished, Some(eval)) => eval,
            (train, _) => train,
        })
    }
}

/// All runs in the directory `runs`, by name and then by age. Whatever is no run, or cannot be read, is
/// passed over; a directory that is not there holds none.
pub fn list(runs: &Path) -> Vec<RunEntry> {
    find(runs).into_iter().map(RunEntry::read).collect()
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

/// The latest run of a name, if there is one.
pub fn latest(runs: &Path, name: &str) -> Option<RunDir> {
    find(runs).into_iter().rfind(|run| run.name() == name)
}

/// The run that a user means by `path`: a run's directory, `NAME` for its latest run, or `NAME/TIMESTAMP`.
///
/// # Errors
/// A user error if there is none, with the nearest that there is.
pub fn resolve(runs: &Path, path: &Path) -> Result<RunDir> {
    if let Ok(run) = RunDir::open(path) {
        return Ok(run);
    }
    let what = &*path.to_string_lossy();
    check_directory(runs)?;
    let known = find(runs);
    if let Some(run) = known
        .iter()
        .rfind(|run| run.name() == what || run.id() == what.trim_end_matches('/'))
    {
        return Ok(run.clone());
    }
    if path.is_absolute() || path.exists() {
        return RunDir::open(path); // a path beyond doubt: say what is wrong with it
    }
    let names: Vec<String> = if what.contains('/') {
        known.iter().map(RunDir::id).collect()
    } else {
        known.iter().map(RunDir::name).collect()
    };
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

fn nearest<'a>(what: &str, names: &'a [String]) -> Option<&'a String> {
    names
        .iter()
        .map(|name| (strsim::jaro_winkler(what, name), name))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The runs, `runs/NAME/TIMESTAMP`, sorted by name and age.
fn find(runs: &Path) -> Vec<RunDir> {
    let hidden = |entry: &DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
    };
    let mut found: Vec<RunDir> = WalkDir::new(runs)
        .max_depth(2)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| !hidden(entry))
        .filter_map(Result::ok)
        .filter(|entry| entry.depth() == 2)
        .filter_map(|entry| RunDir::open(entry.path()).ok())
        .collect();
    found.sort_by_cached_key(|run| {
        let timestamp = run.timestamp();
        // One that somebody renamed sorts before the others.
        (run.name(), Timestamp::parse(&timestamp), timestamp)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::{Lock, Process, Restarts, Role};
    use std::fs;

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
        list(runs).iter().map(|entry| entry.run.id()).collect()
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
        assert_eq!(
            latest(directory.path(), "b").unwrap().timestamp(),
            "20261123-031000-10"
        );
        assert!(latest(directory.path(), "c").is_none());
        assert!(list(&directory.path().join("none")).is_empty());
    }

    #[test]
    fn entry_tells_state_progress_and_accuracy() {
        let directory = runs(&["a/20261123-031000", "a/20261123-031001"]);
        let run = latest(directory.path(), "a").unwrap();
        let _locks = [Role::TRAIN, Role::Supervisor].map(|role| Lock::take(&run, role).unwrap());
        let mut train = TrainStatus {
            process: Process::current(),
            step: 7,
            steps: 9,
            loss: None,
            examples_per_sec: None,
            threads: None,
        };
        train.process.state = ProcessState::Running;
        train.save(&run).unwrap();
        let score = Score {
            step: 5,
            accuracy: 0.5,
        };
        let mut eval = EvalStatus {
            process: Process::current(),
            last: Some(score),
            best: Some(score),
            lowest_loss: None,
        };
        eval.process.state = ProcessState::Failed;
        eval.save(&run).unwrap();

        let entries = list(directory.path());
        assert_eq!(
            (entries[0].state, entries[0].progress, entries[0].last),
            (None, None, None)
        );
        assert_eq!(entries[1].state, Some(ProcessState::Running));
        assert_eq!(entries[1].progress, Some((7, 9)));
        assert_eq!(entries[1].last, Some(score));

        train.process.state = ProcessState::Finished;
        train.save(&run).unwrap();
        assert_eq!(list(directory.path())[1].state, Some(ProcessState::Failed));
        assert_eq!(list(directory.path())[1].restarts, 0);

        let mut supervisor = SupervisorStatus {
            process: Process::current(),
            training: false,
            stopping: false,
            restarts: Restarts { train: 1, eval: 2 },
        };
        supervisor.process.state = ProcessState::Running;
        supervisor.save(&run).unwrap();
        let entry = &list(directory.path())[1];
        assert_eq!(
            (entry.state, entry.restarts),
            (Some(ProcessState::Running), 3)
        );
        train.process.state = ProcessState::Failed;
        train.save(&run).unwrap();
        assert_eq!(list(directory.path())[1].state, Some(ProcessState::Failed));
        supervisor.training = true;
        supervisor.save(&run).unwrap();
        assert_eq!(list(directory.path())[1].state, Some(ProcessState::Running));
        fs::write(run.status(Role::TRAIN), "{").unwrap();
        assert_eq!(list(directory.path())[1].state, None);
    }

    #[test]
    fn resolve_takes_paths_names_and_ids() {
        let directory = runs(&["base/20261123-031000", "base/20261123-031001"]);
        let resolved = |what: &str| {
            resolve(directory.path(), Path::new(what))
                .unwrap()
                .timestamp()
        };
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
