//! Finding runs again: a walk over the runs directory, which may hold anything else as well.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use walkdir::{DirEntry, WalkDir};

use super::process_dir::last_component;
use super::timestamp::Timestamp;
use super::{ProcessDir, RunDir, commands};
use crate::spec::{did_you_mean, nearest};
use crate::{bail_user, console, user_error};

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

/// The runs and sweeps of one name, by age, as [`list`].
pub fn list_of_name(runs: &Path, name: &str) -> Vec<Found> {
    let mut found = find_below(&runs.join(name), 1);
    found.retain(|it| it.name() == name);
    found
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

/// The path from `runs` to a directory below it, as the shell completes one: `NAME` of `runs/NAME/`.
fn below(runs: &Path, path: &Path) -> Option<PathBuf> {
    // Its last part may be a point's number.
    let last = || {
        Some(
            fs::canonicalize(path.parent()?)
                .ok()?
                .join(path.file_name()?),
        )
    };
    let path = fs::canonicalize(path).ok().or_else(last)?;
    let below = path
        .strip_prefix(fs::canonicalize(runs).ok()?)
        .ok()?
        .to_owned();
    (!below.as_os_str().is_empty()).then_some(below)
}

/// The run or sweep that a user means by `path`, as [`resolve`]; `NAME` is its latest run or sweep.
///
/// # Errors
/// A user error if there is none, with the nearest that there is.
pub fn resolve_any(runs: &Path, path: &Path) -> Result<Found> {
    if let Some(found) = Found::open(path) {
        return Ok(found);
    }
    let within = below(runs, path);
    let what = within.as_deref().unwrap_or(path).to_string_lossy();
    let what = what.trim_end_matches('/');
    check_directory(runs)?;
    if path.components().count() == 1 && !path.exists() {
        check_directory(&runs.join(path))?;
    }
    let known = find(runs);
    let what = &*point_of_latest(&known, what).unwrap_or_else(|| what.to_owned());
    if let Some(run) = known
        .iter()
        .rfind(|run| run.name() == what || run.id() == what)
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
        let is_number = !point.contains('-') && !path.exists();
        if let Some(number) = wanted.filter(|_| is_number) {
            bail_user!(
                "there is no run of a point {number} of {id}; `runboard show {id}` tells which points it has and how they stand",
                id = sweep.id()
            );
        }
        names = points.iter().map(|point| point.id()).collect();
    }
    if path.is_absolute() || path.exists() {
        return RunDir::open(path).map(Found::Run); // a path beyond doubt: say what is wrong with it
    }
    let near = nearest(what, names.iter().map(String::as_str));
    Err(user_error!(
        "no run {what:?} in {}{}; want NAME, NAME/TIMESTAMP or a run's directory, as `{}` shows them",
        runs.display(),
        did_you_mean(near),
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

/// The runs and sweeps, `runs/NAME/TIMESTAMP`, sorted by name and age.
fn find(runs: &Path) -> Vec<Found> {
    find_below(runs, 2)
}

/// The runs and sweeps so many levels below a directory, as [`find`].
fn find_below(directory: &Path, depth: usize) -> Vec<Found> {
    let hidden = |entry: &DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
    };
    let mut found: Vec<Found> = WalkDir::new(directory)
        .max_depth(depth)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| !hidden(entry))
        .filter_map(Result::ok)
        .filter(|entry| entry.depth() == depth)
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
    use crate::run::SWEEP;

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
        let none = message("b/8");
        assert!(
            none.starts_with(&format!("there is no run of a point 8 of {sweep}; ")),
            "{none}"
        );
        let nearest = message("b/20261123-031000/008-a=0.5");
        assert!(
            nearest.contains(&format!("; did you mean '{}'?", ids[1])),
            "{nearest}"
        );
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
            ("basline", "; did you mean 'baseline'?"),
            (
                "baseline/20261123-031001",
                "; did you mean 'baseline/20261123-031000'?",
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
