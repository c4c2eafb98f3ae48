//! A directory that appears whole or not at all: filled under a temporary name beside its place, then
//! renamed; processes that want the same one take turns.

use crate::console;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The sole right to fill a place in a directory, until it is dropped.
#[derive(Debug)]
pub(in crate::data) struct Turn {
    /// None where the file system has no locks, as some network ones: then two processes may do the
    /// same work twice, and the rename decides whose stays.
    _lock: Option<File>,
}

impl Turn {
    /// Creates `directory` if need be and waits until no other process is filling it.
    pub(in crate::data) fn take(directory: &Path) -> Result<Turn> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to create the directory {}", directory.display()))?;
        let path = directory.join(".lock");
        let lock =
            File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        let held = match lock.try_lock() {
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
        Ok(Turn {
            _lock: held.is_ok().then_some(lock),
        })
    }

    /// An empty directory to fill, to become `place`. Left-overs of processes that died are removed.
    pub(in crate::data) fn stage(&self, place: &Path) -> Result<Staging> {
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            anyhow::bail!("{} is no place for a directory", place.display());
        };
        let prefix = format!(".{}.", name.to_string_lossy());
        if self._lock.is_some() {
            remove_leftovers(parent, &prefix)?;
        }
        let directory = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(parent)
            .with_context(|| format!("failed to create a directory in {}", parent.display()))?;
        Ok(Staging {
            directory,
            place: place.to_path_buf(),
        })
    }
}

fn remove_leftovers(parent: &Path, prefix: &str) -> Result<()> {
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

/// A directory being filled. Dropped without [`Staging::commit`], it disappears.
#[derive(Debug)]
pub(in crate::data) struct Staging {
    directory: TempDir,
    place: PathBuf,
}

impl Staging {
    /// Where to write.
    pub(in crate::data) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes one file of the directory through to the disk.
    pub(in crate::data) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_pieces(name, [Ok(bytes)])
    }

    /// As [`Staging::write`], piece after piece, until there is none or one is an error.
    pub(in crate::data) fn write_pieces<B: AsRef<[u8]>>(
        &self,
        name: &str,
        pieces: impl IntoIterator<Item = Result<B>>,
    ) -> Result<()> {
        let path = self.path().join(name);
        let failed = || format!("failed to write {}", path.display());
        let mut file = File::create_new(&path).with_context(failed)?;
        for piece in pieces {
            file.write_all(piece?.as_ref()).with_context(failed)?;
        }
        file.sync_all().with_context(failed)
    }

    /// Puts the directory in its place and returns that. A directory with files that is there already stays:
    /// another process was faster.
    pub(in crate::data) fn commit(self) -> Result<PathBuf> {
        match fs::rename(self.path(), &self.place) {
            Ok(()) => {
                // The temporary name is gone; nothing is left to clean up.
                let _ = self.directory.keep();
                if let Some(parent) = self.place.parent() {
                    File::open(parent)
                        .and_then(|directory| directory.sync_all())
                        .with_context(|| format!("failed to sync {}", parent.display()))?;
                }
                Ok(self.place)
            }
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(self.place),
            Err(error) => Err(error)
                .with_context(|| format!("failed to put {} in its place", self.place.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_appears_whole_and_the_first_stays() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("set");
        let turn = Turn::take(home.path()).unwrap();
        let (winner, loser) = (turn.stage(&place).unwrap(), {
            // As on a file system without locks, where nobody clears the other's directory.
            Turn { _lock: None }.stage(&place).unwrap()
        });
        winner.write("x", b"winner").unwrap();
        loser.write("x", b"loser").unwrap();
        assert!(!place.exists());
        assert_eq!(winner.commit().unwrap(), place);
        assert_eq!(loser.commit().unwrap(), place);
        assert_eq!(fs::read(place.join("x")).unwrap(), b"winner");
        assert_eq!(names(home.path()), [".lock", "set"]);
    }

    #[test]
    fn failures_and_dead_processes_leave_nothing() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("set");
        let turn = Turn::take(home.path()).unwrap();
        drop(turn.stage(&place).unwrap());
        assert_eq!(names(home.path()), [".lock"]);
        let dead = turn.stage(&place).unwrap();
        dead.write("x", b"half").unwrap();
        std::mem::forget(dead);
        drop(turn.stage(&place).unwrap());
        assert_eq!(names(home.path()), [".lock"]);
    }

    #[test]
    fn processes_take_turns() {
        let home = tempfile::tempdir().unwrap();
        let turn = Turn::take(home.path()).unwrap();
        let other = File::open(home.path().join(".lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(turn);
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
