//! A directory that appears whole or not at all: filled under a temporary name beside its target, then renamed,
//! by one process at a time.

use crate::files::{dir_of, sync_dir};
use crate::{console, user_error};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An exclusive lock on filling a directory, until it is dropped.
#[derive(Debug)]
pub(in crate::data) struct DirectoryLock {
    /// None where the file system has no locks, as some network ones: then two processes may do the
    /// same work twice, and the rename decides whose stays.
    _lock: Option<File>,
}

impl DirectoryLock {
    /// Creates `directory` if need be, and waits until no other process holds its lock.
    pub(in crate::data) fn acquire(directory: &Path) -> Result<DirectoryLock> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to create the directory {}", directory.display()))?;
        let path = directory.join(".lock");
        let lock =
            File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        let locked = match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                console::stderr_line(format_args!(
                    "another process is filling {}: waiting",
                    directory.display()
                ));
                lock.lock()
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        Ok(DirectoryLock {
            _lock: locked.is_ok().then_some(lock),
        })
    }

    /// An empty directory to fill, which then becomes `target`. Those of processes that died are removed.
    pub(in crate::data) fn stage(&self, target: &Path) -> Result<StagingDirectory> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            anyhow::bail!("{} is no name for a directory", target.display());
        };
        let prefix = format!(".{}.", name.to_string_lossy());
        if self._lock.is_some() {
            remove_stale(parent, &prefix)?;
        }
        let directory = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(parent)
            .with_context(|| format!("failed to create a directory in {}", parent.display()))?;
        Ok(StagingDirectory {
            directory,
            target: target.to_path_buf(),
        })
    }
}

fn remove_stale(parent: &Path, prefix: &str) -> Result<()> {
    let listing = || format!("failed to list {}", parent.display());
    for entry in fs::read_dir(parent).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("failed to remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A directory being filled. Dropped without [`StagingDirectory::commit`], it disappears.
#[derive(Debug)]
pub(in crate::data) struct StagingDirectory {
    directory: TempDir,
    target: PathBuf,
}

impl StagingDirectory {
    /// Where to write.
    pub(in crate::data) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes one file of the directory through to the disk.
    pub(in crate::data) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_chunks(name, [Ok(bytes)])
    }

    /// As [`StagingDirectory::write`], chunk after chunk, until there is none or one is an error.
    pub(in crate::data) fn write_chunks<B: AsRef<[u8]>>(
        &self,
        name: &str,
        chunks: impl IntoIterator<Item = Result<B>>,
    ) -> Result<()> {
        let path = self.path().join(name);
        let failed = || format!("failed to write {}", path.display());
        let mut file = File::create_new(&path).with_context(failed)?;
        for chunk in chunks {
            file.write_all(chunk?.as_ref()).with_context(failed)?;
        }
        file.sync_all().with_context(failed)
    }

    /// Renames the directory to its target and returns that. A directory with the same files that is there already stays:
    /// another process was faster.
    ///
    /// # Errors
    /// A user error for a directory with other files.
    pub(in crate::data) fn commit(self) -> Result<PathBuf> {
        match fs::rename(self.path(), &self.target) {
            Ok(()) => {
                // The temporary name is gone; nothing is left to clean up.
                let _ = self.directory.keep();
                sync_dir(dir_of(&self.target))?;
                Ok(self.target)
            }
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                match self.is_all_there()? {
                    true => Ok(self.target),
                    false => Err(holds_others(&self.target)),
                }
            }
            Err(error) => {
                Err(error).with_context(|| format!("failed to create {}", self.target.display()))
            }
        }
    }

    /// Whether the target has all files of this directory.
    fn is_all_there(&self) -> Result<bool> {
        let failed = || format!("failed to list {}", self.path().display());
        for file in fs::read_dir(self.path()).with_context(failed)? {
            let name = file.with_context(failed)?.file_name();
            if !self.target.join(name).exists() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes sure that nothing is in the place of a directory that is to be made, which is not a data set.
///
/// # Errors
/// A user error if it has files.
pub(in crate::data) fn check_target(target: &Path) -> Result<()> {
    match fs::read_dir(target).is_ok_and(|mut there| there.next().is_some()) {
        true => Err(holds_others(target)),
        false => Ok(()),
    }
}

fn holds_others(target: &Path) -> anyhow::Error {
    user_error!(
        "{} holds other files than a whole data set; want it to be moved away or removed",
        target.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_directory_does_not_take_other_files_for_its_own() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("set");
        fs::create_dir(&target).unwrap();
        check_target(&target).unwrap();
        let lock = DirectoryLock::acquire(home.path()).unwrap();
        let staging = lock.stage(&target).unwrap();
        staging.write("x", b"new").unwrap();
        fs::write(target.join("left"), "over").unwrap();
        for error in [
            check_target(&target).unwrap_err(),
            staging.commit().unwrap_err(),
        ] {
            assert!(crate::error::is_user_error(&error), "{error:#}");
        }
        assert_eq!(names(&target), ["left"]);
    }

    #[test]
    fn staging_directory_appears_whole_and_the_first_stays() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("set");
        let lock = DirectoryLock::acquire(home.path()).unwrap();
        let (winner, loser) = (lock.stage(&target).unwrap(), {
            // As on a file system without locks, where nobody clears the other's directory.
            DirectoryLock { _lock: None }.stage(&target).unwrap()
        });
        winner.write("x", b"winner").unwrap();
        loser.write("x", b"loser").unwrap();
        assert!(!target.exists());
        assert_eq!(winner.commit().unwrap(), target);
        assert_eq!(loser.commit().unwrap(), target);
        assert_eq!(fs::read(target.join("x")).unwrap(), b"winner");
        assert_eq!(names(home.path()), [".lock", "set"]);
    }

    #[test]
    fn staging_directory_of_a_failed_or_dead_process_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("set");
        let lock = DirectoryLock::acquire(home.path()).unwrap();
        drop(lock.stage(&target).unwrap());
        assert_eq!(names(home.path()), [".lock"]);
        let dead = lock.stage(&target).unwrap();
        dead.write("x", b"half").unwrap();
        std::mem::forget(dead);
        drop(lock.stage(&target).unwrap());
        assert_eq!(names(home.path()), [".lock"]);
    }

    #[test]
    fn directory_lock_is_exclusive() {
        let home = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(home.path()).unwrap();
        let other = File::open(home.path().join(".lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(lock);
        // A process that another test is starting has inherited the lock, until it is started.
        while other.try_lock().is_err() {
            std::thread::yield_now();
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
