//! One writer: each process of a run holds a lock in its directory for as long as it lives.
//!
//! It is an exclusive flock(2), which the kernel releases when the process ends, however that happens. So
//! there are no stale locks: whoever gets the lock may write, and a lock file by itself means nothing. And no copy of a
//! run directory is locked, whatever its files say: the lock tells whether a process is running.
//!
//! Whoever asks for that takes a shared lock for a moment, which whoever wants the exclusive one waits for.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{SecondsFormat, Utc};
use sysinfo::System;

use super::{Role, RunDir, stop_request};
use crate::{bail_user, console, files};

/// How long those who ask whether a lock is held are waited for; they need a moment, unless they are frozen.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A line is a pid, a host and a time.
const MAX_LINE: u64 = 500; // bytes

/// The right to write in a run directory, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    run: RunDir,
    role: Role,
    _file: File,
}

/// What a lock says about its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// It is running.
    Held,
    /// It is not, on any machine whose locks are seen here.
    Free,
    /// The file system has no locks, or the lock file may not be read.
    Unknown,
}

impl Lock {
    /// Takes the lock of the role in `run`, before anything else is written there. Where the file system has
    /// no locks, that is a warning: runs there have worked before, and are still the user's to look after.
    ///
    /// # Errors
    /// A user error if another process holds the lock, with its pid; otherwise if the lock file cannot be
    /// opened for writing.
    pub fn take(run: &RunDir, role: Role) -> Result<Self> {
        let path = run.lock(role);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = files::open_regular_with(&path, &options)
            .with_context(|| format!("failed to open {}", path.display()))?;
        match lock_exclusively(&file) {
            Ok(()) => {
                // What an earlier process of the role was just writing.
                files::remove_stale(&run.status(role));
                if role == Role::Supervisor {
                    files::remove_stale(&run.provenance());
                    files::remove_stale(&run.data());
                }
                stop_request::remove(run, role); // which was made to an earlier process
                let _ = write_holder(&file);
            }
            Err(TryLockError::WouldBlock) => {
                let holder = Self::holder(run, role);
                bail_user!(
                    "{} is already running ({}, {})",
                    run.path().display(),
                    role.process_name(),
                    // Not known while it has the lock since a moment ago.
                    holder.as_deref().unwrap_or("pid not known yet")
                );
            }
            Err(TryLockError::Error(error)) => {
                console::warning(format_args!(
                    "failed to lock {} ({error}): nothing keeps a second {} out",
                    path.display(),
                    role.process_name()
                ));
                stop_request::remove(run, role);
                let _ = write_holder(&file);
            }
        }
        Ok(Lock {
            run: run.clone(),
            role,
            _file: file,
        })
    }

    /// Whether a process of the role holds its lock in this very directory.
    pub(crate) fn probe(run: &RunDir, role: Role) -> LockState {
        let file = match files::open_regular(&run.lock(role)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return LockState::Free,
            Err(_) => return LockState::Unknown,
            Ok(file) => file,
        };
        match file.try_lock_shared() {
            Ok(()) => LockState::Free, // until the file is closed, at once
            Err(TryLockError::WouldBlock) => LockState::Held,
            Err(TryLockError::Error(_)) => LockState::Unknown,
        }
    }

    /// What the process says about itself that took the role's lock last: pid, host and time. No two are the same.
    pub(crate) fn holder(run: &RunDir, role: Role) -> Option<String> {
        let file = files::open_regular(&run.lock(role)).ok()?;
        let mut text = String::new();
        file.take(MAX_LINE).read_to_string(&mut text).ok()?;
        let line = text.strip_suffix('\n')?;
        Some(line.to_owned()).filter(|line| !line.is_empty())
    }

    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }
}

/// Locks the file, after those who only ask whether it is locked.
fn lock_exclusively(file: &File) -> Result<(), TryLockError> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begin.elapsed() < PROBE_LIMIT => {}
            done => return done,
        }
        // A shared lock can be had beside theirs, but not beside an exclusive one.
        file.try_lock_shared()?;
        file.unlock().map_err(TryLockError::Error)?;
        thread::sleep(Duration::from_millis(1));
    }
}

/// For people and messages, and to address a request to stop: a full disk must not keep a run from going on.
fn write_holder(mut file: &File) -> io::Result<()> {
    let host = System::host_name().unwrap_or_default();
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
    file.set_len(0)?;
    writeln!(file, "pid {} on {host} since {now}", process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::{Process, Status, TrainStatus, provenance};
    use std::collections::HashSet;
    use std::fs;
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
        assert_eq!(text.lines().count(), 1, "{text}");

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
        assert!(holder.starts_with(&begin), "{holder}");

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
                .map(|_| lock_exclusively(&File::open(copy.lock(Role::TRAIN)).unwrap()))
                .collect();
            over.store(true, Ordering::Relaxed);
            for result in taken {
                result.unwrap();
            }
        });
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
