//! Files that are either the old ones or the new ones, never half of each.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces `path` by `bytes`, durably: after a crash or a power cut the file holds the old bytes or all
/// of the new ones, and after an `Ok` the new ones. The folder must exist.
///
/// # Errors
/// If the folder cannot be written or the disk is full; the old file then stays as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, true).with_context(|| format!("failed to write {}", path.display()))
}

/// [`write_atomic`] without its waits for the disk: readers never see half a file, but a power cut may
/// take the last version. For files that are rewritten all the time, such as a status.
///
/// # Errors
/// As [`write_atomic`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, false).with_context(|| format!("failed to write {}", path.display()))
}

/// Makes the names in `folder` durable: files created, renamed or removed there stay so after a power cut.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("failed to sync {}", folder.display()))
}

fn write(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A temporary file is private by default; a run directory may be read by everyone the umask allows.
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    if durable {
        sync_folder(folder)?; // the rename itself
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomic(&path, b"a long first version").unwrap();
        write_atomic(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        replace(&path, b"shorter").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"shorter");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_ne!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o200,
            0,
            "not even writable by its owner"
        );
    }

    #[test]
    fn a_failed_write_names_the_file_and_leaves_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none/a.json");
        let error = format!("{:#}", write_atomic(&missing, b"x").unwrap_err());
        assert!(
            error.starts_with(&format!("failed to write {}: ", missing.display())),
            "{error}"
        );

        let taken = folder.path().join("taken"); // a folder, which no file can replace
        fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
