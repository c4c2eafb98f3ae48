//! Leases: a checkpoint that somebody reads is not removed meanwhile.
//!
//! A lease is a shared flock(2) on the manifest, for which a reader needs no right to write. Whoever wants to
//! remove the checkpoint tries the exclusive one. The kernel releases both when their process ends. Where a
//! file system knows no locks there are no leases: [`super::load`] then notices a removal and says so.

use super::format::MANIFEST;
use crate::files::open_regular;
use anyhow::{Context, Result};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A checkpoint that stays on disk until this is dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    manifest: File,
}

impl Lease {
    /// Lease the checkpoint at `path`; waits while it is being removed, which takes moments.
    ///
    /// # Errors
    /// If it has no manifest that can be read.
    pub fn take(path: &Path) -> Result<Self> {
        let path = path.join(MANIFEST);
        let manifest =
            open_regular(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let _ = manifest.lock_shared(); // fails only where there are no locks
        Ok(Lease { path, manifest })
    }

    /// The manifest of the leased checkpoint, wherever that lies by now.
    pub(super) fn manifest(&self) -> &File {
        &self.manifest
    }

    /// Whether the leased checkpoint lies at its path no more: it was removed before it was leased, or
    /// another one of its step has taken its place.
    pub(super) fn is_lost(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let leased = self.manifest.metadata().map(identity);
        let there = fs::metadata(&self.path).map(identity);
        !matches!((leased, there), (Ok(leased), Ok(there)) if leased == there)
    }
}

/// The right to remove a checkpoint: nobody has leased it, and nobody can until this is dropped.
pub(super) struct RemovalLock(#[expect(dead_code, reason = "holds the lock")] Option<File>);

impl RemovalLock {
    /// Without waiting: none while a reader has leased the checkpoint at `path`. One without a manifest
    /// cannot be leased.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        // Some network file systems want a file open for writing to lock it exclusively.
        let manifest = File::options()
            .read(true)
            .write(true)
            .open(path.join(MANIFEST));
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) if absent(&error) => return Ok(Some(RemovalLock(None))),
            Err(error) => return Err(error),
        };
        match manifest.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            _ => Ok(Some(RemovalLock(Some(manifest)))),
        }
    }
}

/// Whether there is no such file; a checkpoint may be a plain file itself, or its manifest a directory.
fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("step-00000001");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(MANIFEST), "").unwrap();
        (directory, path)
    }

    #[test]
    fn removal_lock_is_refused_as_long_as_anybody_has_a_lease() {
        let (_directory, path) = checkpoint();
        let first = Lease::take(&path).unwrap();
        let second = Lease::take(&path).unwrap();
        assert!(RemovalLock::of(&path).unwrap().is_none());
        drop(first);
        assert!(RemovalLock::of(&path).unwrap().is_none());
        drop(second);
        // A process that another test is starting has inherited the leases, until it is started.
        while RemovalLock::of(&path).unwrap().is_none() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn removal_lock_is_given_where_nothing_can_be_leased() {
        let (directory, path) = checkpoint();
        fs::remove_file(path.join(MANIFEST)).unwrap();
        assert!(Lease::take(&path).is_err());
        assert!(RemovalLock::of(&path).unwrap().is_some());
        fs::create_dir(path.join(MANIFEST)).unwrap();
        assert!(RemovalLock::of(&path).unwrap().is_some());
        let file = directory.path().join("step-00000002");
        fs::write(&file, "").unwrap();
        assert!(RemovalLock::of(&file).unwrap().is_some());
    }

    #[test]
    fn lease_is_lost_when_its_checkpoint_is_replaced_or_gone() {
        let (directory, path) = checkpoint();
        let lease = Lease::take(&path).unwrap();
        assert!(!lease.is_lost());
        fs::rename(&path, directory.path().join("away")).unwrap();
        assert!(lease.is_lost());
        fs::create_dir(&path).unwrap();
        fs::write(path.join(MANIFEST), "").unwrap();
        assert!(lease.is_lost());
    }
}
