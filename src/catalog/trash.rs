//! Where removed runs lie until they are put back or deleted: `RUNS/.trash/NAME/TIMESTAMP/`.
//!
//! A run is moved there, and back, by one rename, so that a kill at any moment loses nothing. TensorBoard also reads what is
//! in hidden directories, every file with `tfevents` in its name; so those get another name while they are there. What a
//! kill left of that, the next command that looks into the trash does. Commands that change it do so one after the other, by a lock on the
//! directory of runs.
//!
//! Links are never followed, and nothing outside the directory of runs is touched.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Local, TimeZone};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::Entry;
use crate::files::{dir_of, read_small, rename_new, sync_dir, write_atomic};
use crate::hint::shell;
use crate::run::{self, Found, Lock, Role, commands, lock_directory};
use crate::{bail_user, console, supervisor};

/// The trash's name in the directory of runs.
const TRASH: &str = ".trash";
/// The file in a removed run that tells since when it is one.
const REMOVED: &str = "removed.json";
/// Version of that file.
const VERSION: u32 = 1;
/// What the name of a directory begins with that is being deleted.
const DELETING: &str = ".deleting-";
/// What TensorBoard recognises an event file by, and what stands for it in the trash.
const EVENTS: [&str; 2] = ["tfevents", "tf-events"];
/// Before the number of a second run of the same name.
const AGAIN: char = '~';
/// Longer than a run's files are renamed.
const HELD: Duration = Duration::from_secs(60);

/// The trash of a directory of runs.
pub struct Trash {
    runs: PathBuf,
    path: PathBuf,
}

/// A run or sweep in the trash.
pub struct Trashed {
    /// What it is. Its id is its place in the trash, which may have a number at its end.
    pub entry: Entry,
    /// Since when it is there.
    pub removed: DateTime<Local>,
    id: String,
    path: PathBuf,
}

/// Contents of the file.
#[derive(Serialize, Deserialize)]
struct Removed {
    version: u32,
    time: DateTime<Local>,
    /// `NAME/TIMESTAMP`. Files of earlier builds lack it.
    #[serde(default)]
    id: Option<String>,
}

impl Trash {
    /// That of a directory of runs, which need not be there yet.
    pub fn of(runs: &Path) -> Self {
        Trash {
            runs: runs.to_owned(),
            path: runs.join(TRASH),
        }
    }

    /// Makes sure that a run or sweep can be moved to the trash.
    ///
    /// # Errors
    /// A user error if a process of it is at work, if it is a point of a sweep, if it does not lie in this directory of runs,
    /// is there by a link, or holds the current directory.
    pub fn check(&self, entry: &Entry) -> Result<()> {
        self.checked_place(entry).map(drop)
    }

    /// As [`Trash::check`]; returns where it lies, as [`Trash::place`].
    fn checked_place(&self, entry: &Entry) -> Result<PathBuf> {
        let place = self.place(entry)?;
        // Not first a point, which its sweep would miss.
        let points = match entry.is_under_way() {
            true => Vec::new(),
            false => entry.points().unwrap_or_else(|_| entry.begun_points()),
        };
        let at_work = iter::once(entry)
            .chain(&points)
            .find(|it| it.is_under_way());
        match at_work.and_then(|it| Some((it, it.directory()?))) {
            Some((it, directory)) => bail_user!(
                "{} is {}; to stop it: {}",
                directory.id(),
                it.state().unwrap_or_default(),
                commands::stop(directory)
            ),
            None => Ok(place),
        }
    }

    /// Where a run or sweep lies in the directory of runs: `NAME/TIMESTAMP`.
    fn place(&self, entry: &Entry) -> Result<PathBuf> {
        let Some(directory) = entry.directory() else {
            bail_user!("{} has not begun, and has no directory", entry.id());
        };
        let failed = |path: &Path| format!("failed to look at {}", path.display());
        let runs = self.runs.canonicalize();
        let runs = runs.with_context(|| failed(&self.runs))?;
        let path = directory.path();
        let place = match path.file_name() {
            Some(name) => dir_of(path).canonicalize().map(|around| around.join(name)),
            None => path.canonicalize(), // `..`, which is no link
        };
        let place = place.with_context(|| failed(path))?;
        let metadata = place.symlink_metadata().with_context(|| failed(path))?;
        if metadata.is_symlink() {
            bail_user!(
                "{} is a link, which is not followed; want a run's own directory",
                path.display()
            );
        }
        let inside = place.strip_prefix(&runs).ok();
        let is_point = entry.run().is_some_and(|run| run.sweep().is_some());
        match inside {
            Some(_) if is_point => bail_user!(
                "{} is a point of a sweep, which would make it anew; want the sweep or another run",
                directory.id()
            ),
            Some(inside) if env::current_dir().is_ok_and(|here| here.starts_with(&place)) => {
                bail_user!(
                    "{} is where you are; leave it first: {}",
                    inside.display(),
                    shell(&[OsStr::new("cd"), runs.as_os_str()])
                )
            }
            // What is no text could not be told, nor put back by its name.
            Some(inside)
                if inside.components().count() == 2
                    && !inside.starts_with(TRASH)
                    && inside.to_str().is_some() =>
            {
                Ok(inside.to_owned())
            }
            Some(_) => bail_user!(
                "{} is not NAME/TIMESTAMP in the directory of runs; move it to {} first",
                place.display(),
                runs.join("NAME/TIMESTAMP").display()
            ),
            None => bail_user!(
                "{} is in {}, and not in the directory of runs, {}; want --runs DIR for a run elsewhere",
                directory.id(),
                place.display(),
                runs.display()
            ),
        }
    }

    /// Moves a run or sweep to the trash.
    ///
    /// # Errors
    /// As [`Trash::check`], and if the disk refuses it; it then stays where it is. What the disk refuses after the move is told.
    pub fn put(&self, entry: &Entry) -> Result<()> {
        let _held = self.hold();
        let inside = self.checked_place(entry)?;
        let Some(directory) = entry.directory() else {
            return Ok(()); // which `place` has refused
        };
        // Held until it is in the trash, where nobody starts it.
        let roles: &[Role] = match entry.is_sweep() {
            true => &[Role::Sweep],
            false => &[Role::Supervisor, Role::TRAIN, Role::Eval],
        };
        let locks: Result<Vec<Lock>> = roles
            .iter()
            .map(|role| Lock::take(directory, *role))
            .collect();
        let _locks = locks?;
        // Nor is a point at work that says nothing yet.
        let points = run::points(directory);
        if let Some(point) = points.iter().find(|it| supervisor::is_locked(it)) {
            bail_user!(
                "{} is at work; to stop it: {}",
                point.id(),
                commands::stop(point)
            );
        }
        let place = self.runs.join(&inside);
        let first = self.path.join(&inside);
        let trash = dir_of(&first);
        fs::create_dir_all(trash)
            .with_context(|| format!("failed to create {}", trash.display()))?;
        let put = move_to_free(&place, |number| match number {
            1 => first.clone(),
            _ => numbered(&first, number),
        })?;
        warn_of(sync_dir(trash));
        warn_of(sync_dir(dir_of(&place)));
        let _ = fs::remove_dir(dir_of(&place)); // unless there are others
        let removed = Removed {
            version: VERSION,
            time: Local::now(),
            id: inside.to_str().map(str::to_owned),
        };
        warn_of(write_atomic(
            &put.join(REMOVED),
            &serde_json::to_vec(&removed)?,
        ));
        warn_of(rename_events(&put, EVENTS));
        Ok(())
    }

    /// Keeps other commands from changing the trash until it is dropped; they wait.
    fn hold(&self) -> Option<File> {
        lock_directory(&self.runs, HELD)
    }

    /// What is in the trash, the newest first. What a kill left half done is done, and told of where it cannot be.
    ///
    /// # Errors
    /// If the trash cannot be read.
    pub fn list(&self) -> Result<Vec<Trashed>> {
        let held = self.hold();
        let [removed, deleting] = self.places()?;
        removed
            .iter()
            .for_each(|path| warn_of(rename_events(path, EVENTS)));
        drop(held);
        deleting.iter().for_each(|path| warn_of(delete(path)));
        Ok(trashed(removed))
    }

    /// The same, with nothing changed.
    ///
    /// # Errors
    /// As [`Trash::list`].
    pub fn look(&self) -> Result<Vec<Trashed>> {
        let [removed, _] = self.places()?;
        Ok(trashed(removed))
    }

    /// The directories in it: of what was removed, and of what is being deleted.
    fn places(&self) -> Result<[Vec<PathBuf>; 2]> {
        let is_directory = |path: &PathBuf| path.symlink_metadata().is_ok_and(|it| it.is_dir());
        if !is_directory(&self.path) {
            return Ok([Vec::new(), Vec::new()]);
        }
        let is_left = |path: &PathBuf| {
            let name = path.file_name().map(OsStr::to_string_lossy);
            name.is_some_and(|name| name.starts_with(DELETING))
        };
        let (deleting, names): (Vec<_>, Vec<_>) =
            entries(&self.path)?.into_iter().partition(is_left);
        let mut removed = Vec::new();
        for name in names {
            removed.extend(entries(&name)?.into_iter().filter(is_directory));
        }
        Ok([removed, deleting])
    }

    /// Moves a run or sweep back, and returns its directory.
    ///
    /// # Errors
    /// A user error if there is something in its place, and if the disk refuses it; it then stays in the trash.
    pub fn restore(&self, trashed: &Trashed) -> Result<PathBuf> {
        let _held = self.hold();
        let place = self.runs.join(trashed.id());
        if place.symlink_metadata().is_ok() {
            bail_user!(
                "{} cannot be put back: there is something at {}; want it to be moved away first",
                trashed.id(),
                place.display()
            );
        }
        let around = dir_of(&place);
        if around.is_symlink() {
            bail_user!("{} is a link, which is not followed", around.display());
        }
        fs::create_dir_all(around)
            .with_context(|| format!("failed to create {}", around.display()))?;
        let [here, there] = EVENTS;
        rename_events(&trashed.path, [there, here])?;
        rename_new(&trashed.path, &place).with_context(|| {
            format!(
                "failed to move {} to {}",
                trashed.path.display(),
                place.display()
            )
        })?;
        let _ = fs::remove_file(place.join(REMOVED)); // which says nothing where a run is none
        warn_of(sync_dir(around));
        self.forget(&trashed.path);
        Ok(place)
    }

    /// Deletes a run or sweep for good.
    ///
    /// # Errors
    /// If the disk refuses it. The next command that looks into the trash then goes on with it.
    pub fn delete(&self, trashed: &Trashed) -> Result<()> {
        let held = self.hold();
        // Under another name first: half a run is not to be put back.
        let name = trashed.id().replace('/', "-");
        let first = self.path.join(format!("{DELETING}{name}"));
        let target = move_to_free(&trashed.path, |number| numbered(&first, number))?;
        drop(held);
        delete(&target)?;
        self.forget(&trashed.path);
        Ok(())
    }

    /// Removes the directories around what was in the trash, if they are empty; another command may have done it.
    fn forget(&self, path: &Path) {
        let around = dir_of(path);
        let _ = sync_dir(around);
        let _ = fs::remove_dir(around);
        let _ = fs::remove_dir(&self.path);
    }
}

impl Removed {
    fn read(path: &Path) -> Option<Self> {
        let bytes = read_small(&path.join(REMOVED), 1 << 14).ok()?;
        let mut removed: Removed = serde_json::from_slice(&bytes).ok()?;
        // It says where the run is put back: in the directory of runs.
        let is_place = |id: &str| {
            let parts: Vec<Component> = Path::new(id).components().collect();
            matches!(parts[..], [Component::Normal(_), Component::Normal(_)])
        };
        removed
            .id
            .take_if(|id| removed.version > VERSION || !is_place(id));
        Some(removed)
    }
}

impl Trashed {
    /// `NAME/TIMESTAMP`, as it was.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Moves a directory to the first of these places, by their numbers from 1 on, where nothing is, and returns that.
fn move_to_free(from: &Path, place: impl Fn(usize) -> PathBuf) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let target = place(number);
        match rename_new(from, &target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            moved => {
                return moved.map(|()| target.clone()).with_context(|| {
                    format!("failed to move {} to {}", from.display(), target.display())
                });
            }
        }
    }
}

/// The path with a number at its end.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(format!("{AGAIN}{number}"));
    path.into()
}

/// Tells of what failed, where that ends nothing.
fn warn_of(done: Result<()>) {
    if let Err(error) = done {
        console::warning_beside_answer(format_args!("{error:#}"));
    }
}

/// What lies in these directories, the newest first; what is neither run nor sweep is left out.
fn trashed(places: Vec<PathBuf>) -> Vec<Trashed> {
    let found = places.into_iter().filter_map(|path| {
        let entry = Entry::of(Found::open(&path)?);
        let said = Removed::read(&path);
        Some(Trashed {
            removed: said.as_ref().map_or_else(|| changed(&path), |it| it.time),
            id: said.and_then(|it| it.id).unwrap_or_else(|| id(&entry)),
            entry,
            path,
        })
    });
    let mut all: Vec<Trashed> = found.collect();
    all.sort_by_key(|trashed| std::cmp::Reverse(trashed.removed));
    all
}

/// What lies in a directory, in the order of names.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(directory) {
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        read => read.with_context(|| format!("failed to list {}", directory.display()))?,
    };
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// When a directory was changed last: of a run that does not say it, by the move to the trash.
fn changed(path: &Path) -> DateTime<Local> {
    let metadata = path.symlink_metadata().ok();
    let changed = metadata.and_then(|it| Local.timestamp_opt(it.ctime(), 0).earliest());
    changed.unwrap_or_else(Local::now)
}

/// The id of a run that does not say it: its place in the trash, without the number of a second one of that name.
fn id(entry: &Entry) -> String {
    let id = entry.id();
    let numbered = id.rsplit_once(AGAIN).filter(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    numbered.map_or(id, |(id, _)| id).to_owned()
}

/// Gives the event files below a directory names that have the second of these words for the first.
fn rename_events(directory: &Path, [from, to]: [&str; 2]) -> Result<()> {
    let files = WalkDir::new(directory).into_iter().filter_map(Result::ok);
    for file in files.filter(|entry| entry.file_type().is_file()) {
        let name = file.file_name().to_string_lossy();
        if name.contains(from) {
            let renamed = file.path().with_file_name(name.replace(from, to));
            rename_new(file.path(), &renamed)
                .with_context(|| format!("failed to rename {}", file.path().display()))?;
        }
    }
    Ok(())
}

/// Removes a directory and all that is in it. Links in it are removed, not followed.
fn delete(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("failed to remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::{Process, ProcessState, RunDir, SWEEP, Status, TrainStatus, resolve_any};
    use crate::spec::Spec;
    use std::os::unix::fs::symlink;
    use std::thread;

    /// A directory of runs, one of which is in it, with an event file.
    fn runs(id: &str) -> (tempfile::TempDir, Trash) {
        let runs = tempfile::tempdir().unwrap();
        let run = runs.path().join(id);
        fs::create_dir_all(run.join("train")).unwrap();
        fs::write(
            run.join("spec.yaml"),
            Spec::default().to_frozen_yaml().unwrap(),
        )
        .unwrap();
        fs::write(run.join("train/events.out.tfevents.1"), "curves").unwrap();
        let trash = Trash::of(runs.path());
        (runs, trash)
    }

    fn entry(runs: &Path, id: &str) -> Entry {
        Entry::of(resolve_any(runs, Path::new(id)).unwrap())
    }

    /// All files below a directory.
    fn files(directory: &Path) -> Vec<String> {
        let files = WalkDir::new(directory).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| !entry.file_type().is_dir());
        let mut names: Vec<String> = files
            .map(|file| {
                file.path()
                    .strip_prefix(directory)
                    .unwrap()
                    .display()
                    .to_string()
            })
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    }

    const ID: &str = "a/20261126-040758";

    #[test]
    fn removed_run_is_in_the_trash_without_event_files_and_comes_back_as_it_was() {
        let (runs, trash) = runs(ID);
        let before = files(runs.path());
        trash.put(&entry(runs.path(), ID)).unwrap();
        assert_eq!(
            files(runs.path()),
            [
                ".trash/a/20261126-040758/removed.json",
                ".trash/a/20261126-040758/spec.yaml",
                ".trash/a/20261126-040758/train/events.out.tf-events.1",
            ]
        );
        assert!(!runs.path().join("a").exists());
        assert!(Entry::all(runs.path()).is_empty());
        let [trashed] = &trash.list().unwrap()[..] else {
            panic!("one run");
        };
        assert_eq!(trashed.id(), ID);
        assert!((Local::now() - trashed.removed).num_seconds() < 100);
        assert_eq!(trash.restore(trashed).unwrap(), runs.path().join(ID));
        assert_eq!(files(runs.path()), before);
        assert!(!runs.path().join(".trash").exists());
    }

    #[test]
    fn restore_refuses_a_place_that_is_taken() {
        let (runs, trash) = runs(ID);
        trash.put(&entry(runs.path(), ID)).unwrap();
        let place = runs.path().join(ID);
        fs::create_dir_all(&place).unwrap();
        let before = files(runs.path());
        let trashed = trash.list().unwrap().remove(0);
        let error = trash.restore(&trashed).unwrap_err();
        assert!(is_user_error(&error));
        let message = error.to_string();
        assert!(
            message.contains(&format!("there is something at {}", place.display())),
            "{message}"
        );
        assert_eq!(files(runs.path()), before);
        // A second run of that name has a place of its own in the trash.
        fs::write(place.join("spec.yaml"), "train:\n").unwrap();
        trash.put(&entry(runs.path(), ID)).unwrap();
        let ids: Vec<String> = trash
            .list()
            .unwrap()
            .iter()
            .map(|it| it.id().to_owned())
            .collect();
        assert_eq!(ids, [ID, ID]);
        trash.restore(&trash.list().unwrap().remove(0)).unwrap();
        assert_eq!(
            fs::read_to_string(place.join("spec.yaml")).unwrap(),
            "train:\n"
        );
    }

    #[test]
    fn restored_run_has_its_own_name_also_if_that_looks_like_a_second_ones() {
        for id in ["a/good~run", "a/good~2", "a~b/20261126-040758"] {
            let (runs, trash) = runs(id);
            trash.put(&entry(runs.path(), id)).unwrap();
            let trashed = trash.list().unwrap().remove(0);
            assert_eq!(trashed.id(), id);
            assert_eq!(trash.restore(&trashed).unwrap(), runs.path().join(id));
        }
        // Without a file that says it, or with one that leads out of the directory, the place in the trash does.
        for said in [
            "",
            r#"{"version": 1, "time": "2026-11-26T04:07:58Z", "id": "../x"}"#,
        ] {
            let (runs, trash) = runs("a/good~run");
            trash.put(&entry(runs.path(), "a/good~run")).unwrap();
            fs::write(runs.path().join(".trash/a/good~run").join(REMOVED), said).unwrap();
            assert_eq!(trash.list().unwrap()[0].id(), "a/good~run");
        }
    }

    #[test]
    fn trash_refuses_what_is_no_name_and_timestamp_of_the_directory_of_runs() {
        let (runs, trash) = runs("deep/a/20261126-040758");
        let deep = runs.path().join("deep/a/20261126-040758");
        let error = trash
            .put(&entry(runs.path(), deep.to_str().unwrap()))
            .unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
        assert!(
            error.to_string().contains(" is not NAME/TIMESTAMP in "),
            "{error}"
        );
        assert!(deep.exists());
        assert!(!runs.path().join(".trash").exists());
    }

    #[test]
    fn kill_in_a_removal_loses_nothing() {
        let (runs, trash) = runs(ID);
        // After the rename, before the event files had other names; and amid a deletion.
        let half = runs.path().join(".trash").join(ID);
        fs::create_dir_all(half.parent().unwrap()).unwrap();
        fs::rename(runs.path().join(ID), &half).unwrap();
        fs::create_dir_all(runs.path().join(".trash/.deleting-b-1~1/x")).unwrap();
        let [trashed] = &trash.list().unwrap()[..] else {
            panic!("one run");
        };
        assert_eq!(trashed.id(), ID);
        assert_eq!(
            files(runs.path()),
            [
                ".trash/a/20261126-040758/spec.yaml",
                ".trash/a/20261126-040758/train/events.out.tf-events.1",
            ]
        );
        assert!(!runs.path().join(".trash/.deleting-b-1~1").exists());
        trash.delete(trashed).unwrap();
        assert_eq!(files(runs.path()), [""; 0]);
    }

    #[test]
    fn one_run_that_cannot_be_changed_keeps_no_other_in_the_trash() {
        let (runs, trash) = runs(ID);
        let other = runs.path().join("b/20261126-040758");
        fs::create_dir_all(&other).unwrap();
        fs::copy(
            runs.path().join(ID).join("spec.yaml"),
            other.join("spec.yaml"),
        )
        .unwrap();
        trash.put(&entry(runs.path(), ID)).unwrap();
        trash.put(&entry(runs.path(), "b")).unwrap();
        // The name that it would have is taken.
        let events = runs
            .path()
            .join(".trash")
            .join(ID)
            .join("train/events.out.tfevents.1");
        fs::write(&events, "others").unwrap();
        let there = trash.list().unwrap();
        assert_eq!(there.len(), 2);
        let other = there.iter().find(|trashed| trashed.entry.name() == "b");
        trash.restore(other.unwrap()).unwrap();
        assert!(runs.path().join("b/20261126-040758/spec.yaml").exists());
    }

    #[test]
    fn restore_waits_for_another_command_that_changes_the_trash() {
        let (runs, trash) = runs(ID);
        trash.put(&entry(runs.path(), ID)).unwrap();
        let held = trash.hold().unwrap();
        thread::scope(|scope| {
            let restored = scope.spawn(|| {
                let trash = Trash::of(runs.path());
                trash.restore(&trash.look().unwrap()[0]).unwrap()
            });
            thread::sleep(Duration::from_millis(100));
            let curves = runs
                .path()
                .join(".trash")
                .join(ID)
                .join("train/events.out.tf-events.1");
            assert!(curves.exists());
            drop(held);
            assert!(
                restored
                    .join()
                    .unwrap()
                    .join("train/events.out.tfevents.1")
                    .exists()
            );
        });
    }

    #[test]
    fn sweep_that_cannot_be_read_is_removed_unless_a_point_is_at_work() {
        let (runs, trash) = runs("a/20261126-040758/001-seed=1");
        let sweep = runs.path().join(ID);
        fs::write(sweep.join(SWEEP), "version: 1000\n").unwrap();
        let found = Found::open(&sweep.join("001-seed=1")).unwrap();
        let Found::Run(point) = found else {
            panic!("a run");
        };
        let lock = Lock::take(&point, Role::TRAIN).unwrap();
        let mut status = TrainStatus::new(Process::current());
        status.process.state = ProcessState::Running;
        status.save(&point).unwrap();
        let error = trash.put(&entry(runs.path(), ID)).unwrap_err().to_string();
        assert!(error.contains(" is running; to stop it: "), "{error}");
        drop(lock);
        trash.put(&entry(runs.path(), ID)).unwrap();
        assert_eq!(trash.list().unwrap()[0].id(), ID);
    }

    #[test]
    fn trash_refuses_links_and_what_is_outside() {
        let (outside, _) = runs(ID);
        let (runs, trash) = runs("b/20261126-040758");
        symlink(outside.path().join("a"), runs.path().join("linked")).unwrap();
        symlink(
            outside.path().join(ID),
            runs.path().join("b/20261126-040759"),
        )
        .unwrap();
        let before = files(outside.path());
        for (what, problem) in [
            ("linked/20261126-040758".to_owned(), " is in "),
            (
                "b/20261126-040759".to_owned(),
                " is a link, which is not followed",
            ),
            (outside.path().join(ID).display().to_string(), " is in "),
        ] {
            let error = trash.put(&entry(runs.path(), &what)).unwrap_err();
            assert!(is_user_error(&error), "{error:#}");
            assert!(error.to_string().contains(problem), "{error}");
        }
        assert_eq!(files(outside.path()), before);
        // Links inside a run are not followed, either.
        let run = runs.path().join("b/20261126-040758");
        symlink(outside.path(), run.join("more")).unwrap();
        symlink(outside.path().join("a"), run.join("train/tfevents.link")).unwrap();
        trash.put(&entry(runs.path(), "b/20261126-040758")).unwrap();
        trash.delete(&trash.list().unwrap()[0]).unwrap();
        assert_eq!(files(outside.path()), before);
    }

    #[test]
    fn trash_refuses_a_run_that_is_at_work_and_a_point_of_a_sweep() {
        let (runs, trash) = runs(ID);
        let found = entry(runs.path(), ID);
        let lock = Lock::take(found.directory().unwrap(), Role::TRAIN).unwrap();
        let mut status = TrainStatus::new(Process::current());
        status.process.state = ProcessState::Running;
        status.save(found.directory().unwrap()).unwrap();
        let error = trash.put(&entry(runs.path(), ID)).unwrap_err().to_string();
        assert!(
            error.starts_with("a/20261126-040758 is running; to stop it: "),
            "{error}"
        );
        drop(lock);
        // One that prepares has a lock and no status yet.
        let lock = Lock::take(found.directory().unwrap(), Role::Supervisor).unwrap();
        let error = trash.put(&entry(runs.path(), ID)).unwrap_err().to_string();
        assert!(
            error.contains(" is already running (supervisor, pid "),
            "{error}"
        );
        drop(lock);
        let point = runs.path().join("a/20261126-040800/001-seed=1");
        fs::create_dir_all(&point).unwrap();
        fs::write(point.join("spec.yaml"), "").unwrap();
        fs::write(point.parent().unwrap().join(SWEEP), "").unwrap();
        let error = trash
            .put(&entry(runs.path(), "a/20261126-040800/1"))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains(" is a point of a sweep, which would make it anew"),
            "{error}"
        );
        // Nor a sweep, one of whose points somebody is resuming.
        let sweep = entry(runs.path(), "a/20261126-040800");
        let point = RunDir::open(&point).unwrap();
        let _lock = Lock::take(&point, Role::Supervisor).unwrap();
        let error = trash.put(&sweep).unwrap_err().to_string();
        assert!(
            error.starts_with("a/20261126-040800/001-seed=1 is at work; to stop it: "),
            "{error}"
        );
        assert!(!runs.path().join(".trash").exists());
    }
}
