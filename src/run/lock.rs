//! One writer: each process of a run holds a lock in its directory for as long as it lives.
//!
//! It is an exclusive flock(2), which the kernel releases when the process ends, however that happens. So
//! there are no stale locks: whoever gets the lock may write, and a lock file by itself means nothing. And no copy of a
//! run directory is locked, whatever its files say: the lock tells whether a process is running.
//!
//! Whoever asks for that takes a shared lock for a moment, which whoever wants the exclusive one waits for. The file says who
//! has locked it: a line for people, and one that tells the process, and the directory, from others.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::process::DirectoryId;
use super::{Process, ProcessDir, Role, stop_request};
use crate::{bail_user, console, files, hint, user_error};

/// How long those who ask whether a lock is held are waited for; they need a moment, unless they are frozen.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// How long a process that was killed may hold its locks: until its last thread has ended, and what it was writing is on the
/// disk.
const KILLED_ENDS: Duration = Duration::from_secs(3);

/// After this time a process that has just taken a lock has written who it is.
const WRITTEN_AFTER: Duration = Duration::from_millis(100);

/// A line of pid, host and time, and one of what tells the process from others.
const MAX_BYTES: u64 = 4096;

/// The right to write in a run directory, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    directory: ProcessDir,
    role: Role,
    file: File,
}

/// What a lock says about its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// It is running.
    Held,
    /// It is not, on any machine whose locks are seen here.
    Free,
    /// It is not: the lock file is a hard link to that of another run directory, where one is.
    Linked,
    /// It is not: another program than this one holds the lock.
    Foreign,
    /// The file system has no locks, or the lock file may not be read.
    Unknown,
}

/// Who took a lock last, as people read it: pid, host and time. Equal if it was taken at the same time: no two are, and a
/// process may hand its lock over to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Holder(String);

impl Holder {
    fn new(process: &Process, since: &str) -> Self {
        let host = process.host.as_deref().unwrap_or_default();
        Holder(format!("pid {} on {host} since {since}", process.pid))
    }

    /// When it took the lock; `None` of earlier versions, which did not say it.
    fn since(&self) -> Option<&str> {
        Some(self.0.rsplit_once(" since ")?.1)
    }

    /// Whether it looks for requests to stop, which those of earlier versions did not.
    pub(crate) fn reads_requests(&self) -> bool {
        self.since().is_some()
    }
}

#[cfg(test)]
impl From<&str> for Holder {
    fn from(line: &str) -> Self {
        Holder(line.to_owned())
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        match (self.since(), other.since()) {
            (None, None) => self.0 == other.0,
            (own, other) => own == other,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Lock {
    /// Takes the lock of the role in `run`, before anything else is written there. Where the file system has
    /// no locks, that is a warning: runs there have worked before, and are still the user's to look after.
    ///
    /// # Errors
    /// A user error if another process holds the lock, with its pid; otherwise if the lock file cannot be
    /// opened for writing.
    pub fn take(directory: &ProcessDir, role: Role) -> Result<Self> {
        let path = directory.lock(role);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = files::open_regular_with(&path, &options)
            .with_context(|| format!("failed to open {}", path.display()))?;
        let deadline = Instant::now() + KILLED_ENDS;
        loop {
            match lock_exclusively(&file, PROBE_LIMIT) {
                Ok(()) => {
                    // What an earlier process of the role was just writing.
                    for path in directory.replaced_by(role) {
                        files::remove_stale(&path);
                    }
                    break;
                }
                Err(Refusal::Shared) => return Err(locked_by_another_program(directory, role)),
                // Before its state is asked for: it may have ended by then.
                Err(Refusal::Exclusive)
                    if is_ending(directory, role) && Instant::now() < deadline =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(Refusal::Exclusive) => match state_of_held(directory, role, &file) {
                    LockState::Linked => bail_user!(
                        "{} is a hard link to that of a run that is running ({}, {}): this directory shares its files; copy \
                         them to go on here, with cp -a say",
                        path.display(),
                        role.process_name(),
                        shown(Self::holder(directory, role))
                    ),
                    LockState::Foreign if Instant::now() < deadline => {} // the look has taken its time
                    LockState::Foreign => return Err(locked_by_another_program(directory, role)),
                    _ => bail_user!(
                        "{} is already running ({}, {})",
                        directory.path().display(),
                        role.process_name(),
                        shown(Self::holder(directory, role))
                    ),
                },
                Err(Refusal::Failed(error)) => {
                    console::warning(format_args!(
                        "failed to lock {} ({error}): nothing keeps a second {} out",
                        path.display(),
                        role.process_name()
                    ));
                    break;
                }
            }
        }
        stop_request::remove(directory, role); // which was made to an earlier process
        let lock = Lock {
            directory: directory.clone(),
            role,
            file,
        };
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        lock.write_holder(Process::current(), &now);
        Ok(lock)
    }

    /// The lock as the standard input of a child, which then holds it as well: see [`Lock::inherited`].
    ///
    /// # Errors
    /// If the file cannot be opened once more.
    pub(crate) fn as_stdin(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// Leaves the lock to the child that has it as its standard input.
    pub(crate) fn hand_over(self, child: &Process) {
        let holder = Self::holder(&self.directory, self.role);
        if let Some(since) = holder.as_ref().and_then(Holder::since) {
            self.write_holder(child.clone(), since);
        }
    }

    /// The role's lock in `run`, if the process that started this one has handed it over; standard input is empty then.
    pub(crate) fn inherited(directory: &ProcessDir, role: Role) -> Option<Self> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        let (given, own) = (file.metadata().ok()?, directory.lock(role).metadata().ok()?);
        let is_own = given.is_file() && (given.dev(), given.ino()) == (own.dev(), own.ino());
        if !is_own || matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let _ = nix::unistd::dup2_stdin(File::open("/dev/null").ok()?);
        Some(Lock {
            directory: directory.clone(),
            role,
            file,
        })
    }

    /// Whether a process of the role holds its lock in this very directory.
    pub(crate) fn probe(directory: &ProcessDir, role: Role) -> LockState {
        let file = match files::open_regular(&directory.lock(role)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return LockState::Free,
            Err(_) => return LockState::Unknown,
            Ok(file) => file,
        };
        match file.try_lock_shared() {
            Ok(()) => LockState::Free, // until the file is closed, at once
            Err(TryLockError::WouldBlock) => state_of_held(directory, role, &file),
            Err(TryLockError::Error(_)) => LockState::Unknown,
        }
    }

    /// Does something while no process holds the role's lock, and none starts: it would wait for up to
    /// [`PROBE_LIMIT`]. Does nothing, and returns `None`, if one holds it, and where the file system has no locks.
    pub(crate) fn while_free<T>(
        directory: &ProcessDir,
        role: Role,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        let file = match files::open_regular(&directory.lock(role)) {
            // Only who goes to train makes it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Some(work()),
            file => file.ok()?,
        };
        file.try_lock_shared().ok()?;
        Some(work()) // the file is closed after it
    }

    /// Who took the role's lock last.
    pub(crate) fn holder(directory: &ProcessDir, role: Role) -> Option<Holder> {
        let text = read(directory, role)?;
        let (line, _) = text.split_once('\n')?;
        Some(Holder(line.to_owned())).filter(|_| !line.is_empty())
    }

    /// The process that took the role's lock last; `None` of an earlier version.
    pub(crate) fn process(directory: &ProcessDir, role: Role) -> Option<Process> {
        let text = read(directory, role)?;
        serde_json::from_str(text.lines().nth(1)?).ok()
    }

    pub(super) fn directory(&self) -> &ProcessDir {
        &self.directory
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// For people and messages, to address a request to stop, and to tell a process of the run from others that lock the
    /// file: a full disk must not keep a run from going on.
    fn write_holder(&self, mut process: Process, since: &str) {
        process.directory = DirectoryId::of(&self.directory);
        let write = || -> Result<()> {
            let holder = Holder::new(&process, since);
            let text = format!("{holder}\n{}\n", serde_json::to_string(&process)?);
            // At no moment empty: whoever reads it meanwhile would find nobody to ask to stop.
            self.file.write_all_at(text.as_bytes(), 0)?;
            Ok(self.file.set_len(text.len() as u64)?)
        };
        if write().is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

fn read(directory: &ProcessDir, role: Role) -> Option<String> {
    let file = files::open_regular(&directory.lock(role)).ok()?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whether the process that took the role's lock last was killed, or ends by itself, and only has to free what it holds.
fn is_ending(directory: &ProcessDir, role: Role) -> bool {
    Lock::process(directory, role).is_some_and(|process| process.is_ending(directory))
}

/// What it means that the role's lock file is locked exclusively.
fn state_of_held(directory: &ProcessDir, role: Role, file: &File) -> LockState {
    let state = || {
        let process = Lock::process(directory, role)?;
        let linked = file.metadata().is_ok_and(|metadata| metadata.nlink() > 1);
        Some(match process {
            process if linked && !process.is_in(directory) => LockState::Linked,
            process if process.has_ended() => LockState::Foreign,
            _ => LockState::Held,
        })
    };
    let first = state().unwrap_or(LockState::Held);
    if first == LockState::Held {
        return first;
    }
    // It may be one that has just taken the lock, and the file still tells of one before.
    thread::sleep(WRITTEN_AFTER);
    state().unwrap_or(LockState::Held)
}

fn locked_by_another_program(directory: &ProcessDir, role: Role) -> anyhow::Error {
    let path = directory.lock(role);
    user_error!(
        "{} is locked by another program, and no {} is running: want that program to end (fuser {} names it)",
        path.display(),
        role.process_name(),
        hint::shell(&[path.as_os_str()])
    )
}

/// Not known while it has the lock since a moment ago.
fn shown(holder: Option<Holder>) -> String {
    holder.map_or_else(
        || "pid not known yet".to_owned(),
        |holder| holder.to_string(),
    )
}

/// Why a lock cannot be had.
#[derive(Debug)]
enum Refusal {
    /// Somebody has locked the file alone.
    Exclusive,
    /// Somebody has locked it with others, and goes on to: longer than those who only ask.
    Shared,
    /// The file system has no locks, say.
    Failed(io::Error),
}

impl From<TryLockError> for Refusal {
    fn from(error: TryLockError) -> Self {
        match error {
            TryLockError::WouldBlock => Refusal::Exclusive,
            TryLockError::Error(error) => Refusal::Failed(error),
        }
    }
}

/// Locks the file, after those who only ask whether it is locked.
fn lock_exclusively(file: &File, limit: Duration) -> Result<(), Refusal> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            done => return Ok(done?),
        }
        // A shared lock can be had beside theirs, but not beside an exclusive one.
        file.try_lock_shared()?;
        file.unlock().map_err(Refusal::Failed)?;
        if begin.elapsed() >= limit {
            return Err(Refusal::Shared);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::measure::peak_memory_mib;
    use crate::run::RunDir;
    use crate::run::{Process, Status, TrainStatus, provenance};
    use std::collections::HashSet;
    use std::fs;
    use std::process::{self, Command};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn lock_admits_one_process_of_each_role() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        // What a process left behind that was killed.
        fs::write(
            run.lock(Role::TRAIN),
            "pid 12345678 on some other machine\n",
        )
        .unwrap();
        let held = Lock::take(&run, Role::TRAIN).unwrap();
        let _others = [Role::Eval, Role::Supervisor].map(|role| Lock::take(&run, role).unwrap());

        let error = Lock::take(&run, Role::TRAIN).unwrap_err();
        assert!(is_user_error(&error));
        let begin = format!(
            "{} is already running (trainer, pid {} on ",
            run.path().display(),
            process::id()
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        let text = fs::read_to_string(run.lock(Role::TRAIN)).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");

        drop(held);
        // A process that another test is starting has inherited the lock, until it is started.
        while Lock::take(&run, Role::TRAIN).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn probe_tells_who_is_running_and_disturbs_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        assert_eq!(Lock::probe(&run, Role::TRAIN), LockState::Free);
        let held = Lock::take(&run, Role::TRAIN).unwrap();
        assert_eq!(Lock::probe(&run, Role::TRAIN), LockState::Held);
        assert_eq!(Lock::probe(&run, Role::Eval), LockState::Free);
        let holder = Lock::holder(&run, Role::TRAIN).unwrap();
        let begin = format!("pid {} on ", process::id());
        assert!(holder.to_string().starts_with(&begin), "{holder}");

        // A copy says the same, and is not locked.
        let path = directory.path().join("b/copy");
        fs::create_dir_all(&path).unwrap();
        for name in ["spec.yaml", "train.lock"] {
            fs::copy(run.path().join(name), path.join(name)).unwrap();
        }
        let copy = RunDir::open(&path).unwrap();
        assert_eq!(Lock::holder(&copy, Role::TRAIN), Some(holder));
        assert_eq!(Lock::probe(&copy, Role::TRAIN), LockState::Free);
        drop(held);

        // Taken again and again, while others ask: whoever asks keeps nobody out.
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        Lock::probe(&copy, Role::TRAIN);
                    }
                });
            }
            let taken: Vec<_> = (0..200)
                .map(|_| {
                    lock_exclusively(&File::open(copy.lock(Role::TRAIN)).unwrap(), PROBE_LIMIT)
                })
                .collect();
            over.store(true, Ordering::Relaxed);
            for result in taken {
                result.unwrap();
            }
        });
    }

    #[test]
    fn probe_tells_hard_links_from_the_directory_where_the_process_works() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let held = Lock::take(&run, Role::TRAIN).unwrap();
        let linked = Command::new("cp")
            .arg("-al")
            .arg(run.path())
            .arg(directory.path().join("b"))
            .status();
        assert!(linked.unwrap().success());
        let link = RunDir::open(&directory.path().join("b")).unwrap();
        assert_eq!(Lock::probe(&run, Role::TRAIN), LockState::Held);
        assert_eq!(Lock::probe(&link, Role::TRAIN), LockState::Linked);
        let error = Lock::take(&link, Role::TRAIN).unwrap_err();
        assert!(is_user_error(&error));
        assert!(
            error
                .to_string()
                .contains(" is a hard link to that of a run "),
            "{error}"
        );
        let error = Lock::take(&run, Role::TRAIN).unwrap_err();
        assert!(
            error.to_string().contains(" is already running ("),
            "{error}"
        );
        // Renamed, a directory stays the same.
        let moved = directory.path().join("a/moved");
        fs::rename(run.path(), &moved).unwrap();
        assert_eq!(
            Lock::probe(&RunDir::open(&moved).unwrap(), Role::TRAIN),
            LockState::Held
        );
        drop(held);
    }

    #[test]
    fn locks_of_other_programs_are_no_processes_of_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let lock = Lock::take(&run, Role::TRAIN).unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        lock.write_holder(Process::of(child.id()), "then");
        child.wait().unwrap();
        // As when the trainer has ended, and another program locks the file.
        assert_eq!(Lock::probe(&run, Role::TRAIN), LockState::Foreign);
        let error = Lock::take(&run, Role::TRAIN).unwrap_err();
        assert!(is_user_error(&error));
        let begin = format!(
            "{} is locked by another program, and no trainer is running: ",
            run.lock(Role::TRAIN).display()
        );
        assert!(error.to_string().starts_with(&begin), "{error}");

        let shared = File::open(run.lock(Role::TRAIN)).unwrap();
        drop(lock);
        // A process that another test is starting has inherited the lock, until it is started.
        while shared.try_lock_shared().is_err() {
            thread::yield_now();
        }
        assert_eq!(Lock::probe(&run, Role::TRAIN), LockState::Free);
        let file = File::open(run.lock(Role::TRAIN)).unwrap();
        let refusal = lock_exclusively(&file, Duration::ZERO).unwrap_err();
        assert!(matches!(refusal, Refusal::Shared), "{refusal:?}");
    }

    #[test]
    fn lock_that_is_handed_over_is_of_the_same_holder() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let lock = Lock::take(&run, Role::Supervisor).unwrap();
        let before = Lock::holder(&run, Role::Supervisor).unwrap();
        let mut child = Command::new("sleep")
            .arg("3600")
            .stdin(lock.as_stdin().unwrap())
            .spawn()
            .unwrap();
        lock.hand_over(&Process::of(child.id()));
        assert_eq!(Lock::probe(&run, Role::Supervisor), LockState::Held);
        let after = Lock::holder(&run, Role::Supervisor).unwrap();
        assert_eq!(after, before);
        let begin = format!("pid {} on ", child.id());
        assert!(after.to_string().starts_with(&begin), "{after}");
        child.kill().unwrap();
        child.wait().unwrap();
        while Lock::probe(&run, Role::Supervisor) != LockState::Free {
            thread::yield_now();
        }
        let _again = Lock::take(&run, Role::Supervisor).unwrap();
        assert_ne!(Lock::holder(&run, Role::Supervisor), Some(before));
    }

    #[test]
    fn lock_of_a_process_that_was_just_killed_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let lock = Lock::take(&run, Role::Supervisor).unwrap();
        // The more memory it has, the longer the kernel takes to end it: this one keeps all that it reads.
        let mut child = Command::new("tail")
            .arg("/dev/zero")
            .stdin(lock.as_stdin().unwrap())
            .spawn()
            .unwrap();
        lock.hand_over(&Process::of(child.id()));
        while peak_memory_mib(child.id()).unwrap() < 400.0 {
            thread::yield_now();
        }
        child.kill().unwrap();
        Lock::take(&run, Role::Supervisor).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn lock_removes_what_a_killed_process_of_its_role_was_writing() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let status = TrainStatus {
            step: 1,
            steps: 2,
            ..TrainStatus::new(Process::current())
        };
        status.clone().save(&run).unwrap();
        let names = || {
            let entries = fs::read_dir(run.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<HashSet<_>>()
        };
        let before = names();
        let leftover = |role: &str| run.path().join(format!(".{role}.status.json.x1Y2z3.tmp"));
        fs::write(leftover("train"), "{").unwrap();
        fs::write(leftover("eval"), "{").unwrap();
        let _lock = Lock::take(&run, Role::TRAIN).unwrap();
        assert!(!leftover("train").exists() && leftover("eval").exists());
        assert_eq!(TrainStatus::load(&run).unwrap().unwrap().step, 1);
        let _lock = Lock::take(&run, Role::Eval).unwrap();
        let new: HashSet<_> = names().difference(&before).cloned().collect();
        assert_eq!(
            new,
            HashSet::from(["train.lock", "eval.lock"].map(String::from))
        );
    }

    #[test]
    fn lock_names_a_file_that_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        fs::create_dir(run.lock(Role::TRAIN)).unwrap();
        let error = Lock::take(&run, Role::TRAIN).unwrap_err();
        assert!(!is_user_error(&error));
        let begin = format!("failed to open {}", run.lock(Role::TRAIN).display());
        assert_eq!(error.to_string(), begin);
    }
}
