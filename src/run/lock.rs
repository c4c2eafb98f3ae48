//! One writer: each process of a run holds a lock in its directory for as long as it lives.
//!
//! It is an exclusive flock(2), which the kernel releases when the process ends, however that happens. So
//! there are no stale locks: whoever gets the lock may write, and a lock file by itself means nothing.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::process;

use anyhow::{Context, Result};
use sysinfo::System;

use super::{Role, RunDir};
use crate::{bail_user, console, files};

/// The right to write in a run directory, until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holds the lock")] File);

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
        let mut file = files::open_regular_with(&path, &options)
            .with_context(|| format!("failed to open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                files::remove_stale(&run.status(role)); // what an earlier process of the role was just writing
                // For people and messages only: a full disk must not keep a run from going on.
                let host = System::host_name().unwrap_or_default();
                let _ = file.set_len(0);
                let _ = writeln!(file, "pid {} on {host}", process::id());
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = (&file).take(500).read_to_string(&mut holder);
                let holder = match holder.lines().next() {
                    Some(line) if read.is_ok() => line,
                    _ => "pid not known yet", // it has the lock since a moment ago
                };
                bail_user!(
                    "{} is already running ({}, {holder})",
                    run.path().display(),
                    role.process_name()
                );
            }
            Err(TryLockError::Error(error)) => console::warning(format_args!(
                "failed to lock {} ({error}): nothing keeps a second {} out",
                path.display(),
                role.process_name()
            )),
        }
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::{Process, Status, TrainStatus, provenance};
    use std::collections::HashSet;
    use std::fs;

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
    fn lock_removes_what_a_killed_process_of_its_role_was_writing() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let status = TrainStatus {
            process: Process::current(),
            step: 1,
            steps: 2,
            loss: None,
            examples_per_sec: None,
            threads: None,
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
