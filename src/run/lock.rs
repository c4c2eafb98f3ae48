//! One writer: each process of a run holds a lock in its directory for as long as it lives.
//!
//! It is an exclusive flock(2), which the kernel releases when the process ends, however that happens. So
//! there are no stale locks: whoever gets the lock may write, and a lock file by itself means nothing.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::process;

use anyhow::{Context, Result};
use sysinfo::System;

use super::{Role, RunDir};
use crate::{bail_user, console};

/// Whoever writes in a run directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// One of the two processes.
    Process(Role),
    /// The process that started them.
    Supervisor,
}

impl fmt::Display for Writer {
    /// `train`, `eval` or `supervisor`: the first part of the lock file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Process(role) => role.fmt(f),
            Writer::Supervisor => f.pad("supervisor"),
        }
    }
}

/// The right to write in a run directory, until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holds the lock")] File);

impl Lock {
    /// Takes the lock of `writer` in `run`, before anything else is written there. Where the file system has
    /// no locks, that is a warning: runs there have worked before, and are still the user's to look after.
    ///
    /// # Errors
    /// A user error if another process holds the lock, with its pid; otherwise if the lock file cannot be
    /// opened for writing.
    pub fn take(run: &RunDir, writer: Writer) -> Result<Self> {
        let path = run.lock(writer);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
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
                    _ => "a pid not known yet", // it has the lock since a moment ago
                };
                bail_user!(
                    "{} is at work already: its process {writer} has {holder}",
                    run.path().display()
                );
            }
            Err(TryLockError::Error(error)) => console::line(format_args!(
                "warning: failed to lock {} ({error}): nothing keeps a second process {writer} out",
                path.display()
            )),
        }
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::provenance;
    use std::fs;

    const TRAIN: Writer = Writer::Process(Role::Train);

    #[test]
    fn there_is_one_writer_of_each_kind() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path(), "a", "", &provenance()).unwrap();
        // What a process left behind that was killed.
        fs::write(run.lock(TRAIN), "pid 12345678 on some other machine\n").unwrap();
        let held = Lock::take(&run, TRAIN).unwrap();
        let _others = [Writer::Process(Role::Eval), Writer::Supervisor]
            .map(|writer| Lock::take(&run, writer).unwrap());

        let error = Lock::take(&run, TRAIN).unwrap_err();
        assert!(is_user_error(&error));
        let begin = format!(
            "{} is at work already: its process train has pid {} on ",
            run.path().display(),
            process::id()
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        let text = fs::read_to_string(run.lock(TRAIN)).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");

        drop(held);
        // A process that another test is starting has inherited the lock, until it is started.
        while Lock::take(&run, TRAIN).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_lock_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path(), "a", "", &provenance()).unwrap();
        fs::create_dir(run.lock(TRAIN)).unwrap();
        let error = Lock::take(&run, TRAIN).unwrap_err();
        assert!(!is_user_error(&error));
        let begin = format!("failed to open {}", run.lock(TRAIN).display());
        assert_eq!(error.to_string(), begin);
    }
}
