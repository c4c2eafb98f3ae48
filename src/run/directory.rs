//! The run directory: the one place that trainer, evaluator and supervisor share, and its layout.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Local};

use super::timestamp::Timestamp;
use super::{ProcessDir, Provenance};
use crate::files::write_atomic;
use crate::{bail_user, user_error};

/// One of the processes of a run. Each owns the files it writes; nobody else writes them, but a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts the others and starts them again.
    Supervisor,
    /// Trains; the one of rank 0 writes checkpoints.
    Train {
        /// Its number among the processes that train together, from 0.
        rank: u32,
    },
    /// Evaluates the checkpoints.
    Eval,
    /// Starts the supervisors of a sweep's points; in the sweep's directory.
    Sweep,
}

impl Role {
    /// The trainer of rank 0, the only one there is in a run that one process trains.
    pub const TRAIN: Role = Role::Train { rank: 0 };

    /// What people call the process.
    pub fn process_name(self) -> String {
        match self {
            Role::Supervisor => "supervisor".to_owned(),
            Role::TRAIN => "trainer".to_owned(),
            Role::Train { rank } => format!("trainer {rank}"),
            Role::Eval => "evaluator".to_owned(),
            Role::Sweep => "sweep".to_owned(),
        }
    }
}

impl fmt::Display for Role {
    /// `train`, `train-1` (of rank 1), `eval`, `supervisor` or `sweep`: the first part of its files' names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Role::Supervisor => f.pad("supervisor"),
            Role::TRAIN => f.pad("train"),
            Role::Train { rank } => f.pad(&format!("train-{rank}")),
            Role::Eval => f.pad("eval"),
            Role::Sweep => f.pad("sweep"),
        }
    }
}

impl FromStr for Role {
    type Err = anyhow::Error;

    /// Reads what `Display` writes, and nothing else: each role has one name.
    fn from_str(name: &str) -> Result<Self> {
        let rank = name.strip_prefix("train-").and_then(|n| n.parse().ok());
        let roles = [Role::Supervisor, Role::TRAIN, Role::Eval, Role::Sweep];
        let ranked = rank.map(|rank| Role::Train { rank });
        let mut known = roles.into_iter().chain(ranked);
        known.find(|role| role.to_string() == name).ok_or_else(|| {
            user_error!(
                "role {name:?}: want supervisor, train, eval, sweep or train-RANK, with a rank from 1"
            )
        })
    }
}

/// The paths of one run, `RUNS/NAME/TIMESTAMP/`, or `RUNS/NAME/TIMESTAMP/POINT/` for a point of a sweep. A handle of a
/// directory known to hold a frozen spec.
#[derive(Clone, Debug)]
pub struct RunDir {
    directory: ProcessDir,
}

/// What each of its processes has there.
impl Deref for RunDir {
    type Target = ProcessDir;

    fn deref(&self) -> &ProcessDir {
        &self.directory
    }
}

impl RunDir {
    /// Claims a new directory `runs/name/<YYYYmmdd-HHMMSS>` (local time) and freezes the spec and the
    /// provenance in it. Its name sorts after those of the runs that are there: see [`Timestamp`].
    ///
    /// # Errors
    /// A user error for a name that cannot be one directory's; otherwise if the files cannot be written.
    /// Nothing is left behind then.
    pub fn create(
        runs: &Path,
        name: &str,
        spec_yaml: &str,
        provenance: &Provenance,
    ) -> Result<Self> {
        let (run, ()) = Self::create_with(runs, name, spec_yaml, provenance, |_| Ok(()))?;
        Ok(run)
    }

    /// As [`RunDir::create`]. What `prepare` does in the directory is done before that is a run, which others may find and
    /// stop.
    ///
    /// # Errors
    /// As [`RunDir::create`], and that of `prepare`: nothing is left behind then, either.
    pub fn create_with<T>(
        runs: &Path,
        name: &str,
        spec_yaml: &str,
        provenance: &Provenance,
        prepare: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(Self, T)> {
        RunDir::at(&claim(runs, name)?).fill_or_remove(spec_yaml, provenance, prepare)
    }

    /// As [`RunDir::create_with`], in the directory `path`, which is not there yet; the one around it is.
    ///
    /// # Errors
    /// As [`RunDir::create_with`]; if there is something at `path`, that is left alone.
    pub fn create_at<T>(
        path: &Path,
        spec_yaml: &str,
        provenance: &Provenance,
        prepare: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(Self, T)> {
        fs::create_dir(path).with_context(|| format!("failed to create {}", path.display()))?;
        RunDir::at(path).fill_or_remove(spec_yaml, provenance, prepare)
    }

    fn at(path: &Path) -> Self {
        RunDir {
            directory: ProcessDir::new(path.to_owned()),
        }
    }

    fn fill_or_remove<T>(
        self,
        spec_yaml: &str,
        provenance: &Provenance,
        prepare: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(Self, T)> {
        match self.fill(spec_yaml, provenance, prepare) {
            Ok(prepared) => Ok((self, prepared)),
            Err(error) => {
                // Ours alone, and useless; that it cannot be removed is not what the user must hear about.
                let _ = fs::remove_dir_all(self.path());
                Err(error)
            }
        }
    }

    fn fill<T>(
        &self,
        spec_yaml: &str,
        provenance: &Provenance,
        prepare: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        for directory in [
            self.events(Role::TRAIN),
            self.events(Role::Eval),
            self.checkpoints(),
        ] {
            fs::create_dir(&directory)
                .with_context(|| format!("failed to create {}", directory.display()))?;
        }
        provenance.record(self)?;
        let prepared = prepare(self)?;
        // Last: the spec is what makes the directory a run.
        write_atomic(&self.spec(), spec_yaml.as_bytes())?;
        Ok(prepared)
    }

    /// Opens an existing run directory.
    ///
    /// # Errors
    /// A user error if `path` holds no frozen spec.
    pub fn open(path: &Path) -> Result<Self> {
        let run = RunDir::at(path);
        let found = match run.spec().metadata() {
            Ok(metadata) if metadata.is_file() => return Ok(run),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail_user!("{} cannot be read: {error}", run.spec().display())
            }
            _ if path.is_dir() => "a directory without spec.yaml",
            _ if path.exists() => "a file",
            _ => "nothing",
        };
        bail_user!(
            "{} is no run directory: got {found}, want a directory that `runboard run` has made",
            path.display()
        )
    }

    /// Checks that the directory is still where it was: without its spec it is no run any more, and what is
    /// written there nobody would find.
    ///
    /// # Errors
    /// If it was removed or moved away.
    pub fn check_present(&self) -> Result<()> {
        let spec = fs::metadata(self.spec());
        let gone = spec.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        ensure!(
            !gone,
            "the run directory {} has vanished: it was removed or moved while its processes were running",
            self.path().display()
        );
        Ok(())
    }

    /// The resolved spec, frozen when the run was created; `resume --set` replaces it, see [`super::read_spec`].
    pub fn spec(&self) -> PathBuf {
        self.path().join("spec.yaml")
    }

    /// The evaluator's journal.
    pub fn evaluations(&self) -> PathBuf {
        self.path().join("evaluations.jsonl")
    }

    /// What was computed of an evaluation that gave way to a stop.
    pub fn partial_evaluation(&self) -> PathBuf {
        self.path().join("evaluation.partial")
    }

    /// Where earlier versions wrote the run's row of the HParams tab, which is in the evaluator's events now.
    pub fn earlier_hparams(&self) -> PathBuf {
        self.path().join("hparams")
    }

    /// What the run's data are, and where.
    pub fn data(&self) -> PathBuf {
        self.path().join("data.json")
    }

    /// Of which fields a sweep has other values in its other points, if the run is one of them.
    pub fn point(&self) -> PathBuf {
        self.path().join("point.json")
    }

    /// What each session of the run was started from: commit, versions, machine, command.
    pub fn provenance(&self) -> PathBuf {
        self.path().join("provenance.json")
    }

    /// The directory of the role's event files.
    pub fn events(&self, role: Role) -> PathBuf {
        self.path().join(role.to_string())
    }

    /// The directory of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path().join("checkpoints")
    }

    /// What is kept of a step that diverged.
    pub fn divergence(&self, step: u64) -> PathBuf {
        self.path()
            .join("divergence")
            .join(format!("step-{step:08}"))
    }
}

/// Creates a directory `runs/name/TIMESTAMP`, named by the time, or by what comes after the latest one there.
///
/// # Errors
/// A user error for a name that cannot be one directory's; otherwise if the directory cannot be created.
pub fn claim(runs: &Path, name: &str) -> Result<PathBuf> {
    check_name(name)?;
    claim_at(&runs.join(name), Local::now)
}

/// Creating a directory is atomic, so it is the claim as well.
fn claim_at(directory: &Path, now: impl Fn() -> DateTime<Local>) -> Result<PathBuf> {
    fs::create_dir_all(directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    // One at a time, or of two that are created at once the later one might get the earlier name. Without the lock each
    // gets a directory of its own all the same.
    let _lock = lock(directory, A_MOMENT);
    loop {
        let now = Timestamp::of(&now());
        let timestamp = match latest(directory)? {
            Some(latest) if latest >= now => latest.next().ok_or_else(|| {
                user_error!(
                    "no run can be named after {}: rename that directory",
                    directory.join(latest.to_string()).display()
                )
            })?,
            _ => now,
        };
        let path = directory.join(timestamp.to_string());
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                made.with_context(|| format!("failed to create {}", path.display()))?;
                return Ok(path);
            }
        }
    }
}

/// Longer than a directory is made, or a small file of one changed.
pub(super) const A_MOMENT: Duration = Duration::from_secs(2);

/// A lock on a directory, until it is dropped; `None` where the file system has no locks, or where a holder that needs it
/// for less than `limit` is frozen.
pub(crate) fn lock(directory: &Path, limit: Duration) -> Option<File> {
    let directory = File::open(directory).ok()?;
    let begin = Instant::now();
    loop {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) if begin.elapsed() < limit => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(_) => return None,
        }
    }
}

/// The latest timestamp in a directory of runs, of a run or of whatever else is there.
fn latest(directory: &Path) -> Result<Option<Timestamp>> {
    let failed = || format!("failed to read {}", directory.display());
    let mut latest = None;
    for entry in fs::read_dir(directory).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        latest = latest.max(name.to_str().and_then(Timestamp::parse));
    }
    Ok(latest)
}

/// A name becomes a directory, a make variable and a part of TensorBoard's run names.
fn check_name(name: &str) -> Result<()> {
    const WANTED: &str = "want a letter or digit, then letters, digits and any of \"-_.=,+@\"";
    let Some(first) = name.chars().next() else {
        bail_user!("the run's name is empty; {WANTED}");
    };
    let strange = Some(first).filter(|c| !c.is_alphanumeric()).or_else(|| {
        name.chars()
            .find(|&c| !c.is_alphanumeric() && !"-_.=,+@".contains(c))
    });
    match strange {
        Some(c) => Err(user_error!("run name {name:?}: got {c:?}, {WANTED}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::process_dir::last_component;
    use crate::run::provenance;
    use chrono::TimeZone;
    use std::collections::HashSet;

    #[test]
    fn create_leaves_nothing_behind_when_it_fails() {
        let runs = tempfile::tempdir().unwrap();
        let fail = |run: &RunDir| {
            assert!(!run.spec().exists(), "others find it already");
            fs::write(run.data(), "{").unwrap();
            anyhow::bail!("the disk is full")
        };
        let error = RunDir::create_with::<()>(runs.path(), "a", "", &provenance(), fail);
        assert_eq!(error.unwrap_err().to_string(), "the disk is full");
        assert_eq!(fs::read_dir(runs.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn claim_gives_runs_started_at_once_directories_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let second = || Local.with_ymd_and_hms(2026, 11, 23, 3, 10, 0).unwrap();
        let paths: HashSet<PathBuf> = thread::scope(|scope| {
            let claims: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| claim_at(&directory.path().join("a"), second).unwrap()))
                .collect();
            claims.into_iter().map(|c| c.join().unwrap()).collect()
        });
        assert_eq!(paths.len(), 8);
        assert!(paths.contains(&directory.path().join("a/20261123-031000")));
        assert!(paths.contains(&directory.path().join("a/20261123-031000-008")));
    }

    #[test]
    fn claim_sorts_after_every_run_although_the_time_goes_back() {
        let directory = tempfile::tempdir().unwrap();
        let claimed = |hour| {
            let now = Local.with_ymd_and_hms(2026, 11, 23, hour, 10, 0).unwrap();
            last_component(&claim_at(directory.path(), || now).unwrap())
        };
        for other in ["renamed by hand", "20261123-031000-nine", "99991231"] {
            fs::create_dir(directory.path().join(other)).unwrap();
        }
        assert_eq!(claimed(3), "20261123-031000");
        assert_eq!(claimed(2), "20261123-031000-002");
        fs::create_dir(directory.path().join("20261123-031000-9")).unwrap();
        assert_eq!(claimed(1), "20261123-031000-010");
        assert_eq!(claimed(4), "20261123-041000");

        let last = directory.path().join("99991231-235959-4294967295");
        fs::create_dir(&last).unwrap();
        let error = claim_at(directory.path(), Local::now).unwrap_err();
        assert!(is_user_error(&error));
        assert_eq!(
            error.to_string(),
            format!(
                "no run can be named after {}: rename that directory",
                last.display()
            )
        );
    }

    #[test]
    fn run_holds_its_spec_when_created_and_opens_again() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a=1,b", "steps: 5\n", &provenance()).unwrap();
        assert_eq!(fs::read_to_string(run.spec()).unwrap(), "steps: 5\n");
        assert!(run.events(Role::TRAIN).is_dir() && run.events(Role::Eval).is_dir());
        assert!(run.checkpoints().is_dir());
        assert!(run.path().join("provenance.json").is_file());

        let again = RunDir::open(run.path()).unwrap();
        assert_eq!(again.id(), format!("a=1,b/{}", last_component(run.path())));
        assert_eq!(again.logdir(), directory.path().join("a=1,b"));
        assert!(again.log(Role::Eval).ends_with("eval.log"));
        assert!(again.status(Role::TRAIN).ends_with("train.status.json"));
    }

    #[test]
    fn roles_name_their_files_and_are_read_from_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let second = Role::Train { rank: 1 };
        for (role, name, file) in [
            (Role::Train { rank: 0 }, "train", "train.log"),
            (second, "train-1", "train-1.log"),
            (Role::Eval, "eval", "eval.log"),
            (Role::Supervisor, "supervisor", "supervisor.log"),
        ] {
            assert_eq!(role.to_string(), name);
            assert_eq!(name.parse::<Role>().unwrap(), role);
            assert_eq!(run.log(role), run.path().join(file));
        }
        assert!(run.status(second).ends_with("train-1.status.json"));
        assert!(run.lock(second).ends_with("train-1.lock"));
        assert!(run.events(second).ends_with("train-1"));
        assert_eq!(second.process_name(), "trainer 1");
        for name in ["train-0", "train-01", "train-+1", "train-", "trainer", ""] {
            let error = name.parse::<Role>().unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(
                error.to_string(),
                format!(
                    "role {name:?}: want supervisor, train, eval, sweep or train-RANK, with a rank from 1"
                )
            );
        }
    }

    #[test]
    fn check_present_fails_once_the_directory_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        run.check_present().unwrap();
        fs::remove_dir_all(run.path()).unwrap();
        let error = run.check_present().unwrap_err().to_string();
        let want = format!("the run directory {} has vanished", run.path().display());
        assert!(error.starts_with(&want), "{error}");
    }

    #[test]
    fn create_refuses_names_that_are_no_single_directory() {
        let directory = tempfile::tempdir().unwrap();
        let wanted = "want a letter or digit, then letters, digits and any of \"-_.=,+@\"";
        for (name, found) in [
            ("", "the run's name is empty; "),
            ("..", "run name \"..\": got '.', "),
            ("../up", "run name \"../up\": got '.', "),
            ("a/b", "run name \"a/b\": got '/', "),
            ("-v", "run name \"-v\": got '-', "),
            ("a b", "run name \"a b\": got ' ', "),
        ] {
            let error = RunDir::create(directory.path(), name, "", &provenance()).unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(error.to_string(), format!("{found}{wanted}"));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn open_refuses_what_is_no_run_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, found) in [
            (directory.path().to_owned(), "a directory without spec.yaml"),
            (file, "a file"),
            (directory.path().join("none"), "nothing"),
        ] {
            let error = RunDir::open(&path).unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(
                error.to_string(),
                format!(
                    "{} is no run directory: got {found}, want a directory that `runboard run` has made",
                    path.display()
                )
            );
        }
    }
}
