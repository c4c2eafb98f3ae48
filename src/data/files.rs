//! Finds a set's files, and reads the names of its classes.

use super::cifar::{BATCHES_FOLDER, CLASS_COUNT, CLASSES, META_FILE, TEST_FILE, TRAIN_FILES};
use crate::{bail_user, user_error};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folder that holds the files: `folder` itself or `cifar-10-batches-bin/` in it. None if neither
/// holds any of them.
///
/// # Errors
/// A user error if some of the files are there and others are not.
pub(super) fn locate(folder: &Path) -> Result<Option<PathBuf>> {
    let names = || TRAIN_FILES.iter().chain([&TEST_FILE]);
    for holder in [folder.to_path_buf(), folder.join(BATCHES_FOLDER)] {
        let missing: Vec<&str> = names()
            .filter(|name| !holder.join(name).exists())
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(Some(holder));
        }
        if missing.len() < names().count() {
            bail_user!(
                "{} holds part of a set: {} missing",
                holder.display(),
                missing.join(", ")
            );
        }
    }
    Ok(None)
}

/// As [`locate`], where the files have to be there.
pub(super) fn require(folder: &Path) -> Result<PathBuf> {
    locate(folder)?.ok_or_else(|| absent(folder))
}

/// Neither `folder` nor the archive's folder in it holds the files.
pub(super) fn absent(folder: &Path) -> anyhow::Error {
    user_error!(
        "no CIFAR-10 binary files in {}: want {} to {} and {TEST_FILE}, there or in {BATCHES_FOLDER}/",
        folder.display(),
        TRAIN_FILES[0],
        TRAIN_FILES[4],
    )
}

/// Names of the classes in the order of their labels: from `batches.meta.txt`, else CIFAR-10's own.
/// `folder` is as for [`Images::read`](super::Images::read).
///
/// # Errors
/// A user error if the files are missing or `batches.meta.txt` does not hold ten names.
pub fn class_names(folder: &Path) -> Result<Vec<String>> {
    let path = require(folder)?.join(META_FILE);
    if !path.exists() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(1 << 16).read_to_string(&mut text))
        .with_context(|| format!("failed to read {}", path.display()))?;
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect();
    if names.len() != CLASS_COUNT {
        bail_user!(
            "{}: got {} class names, want {CLASS_COUNT}",
            path.display(),
            names.len()
        );
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use std::fs;

    fn set() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in TRAIN_FILES.into_iter().chain([TEST_FILE]) {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        folder
    }

    #[test]
    fn the_files_are_found_in_the_folder_or_the_archives_folder_in_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(locate(home.path()).unwrap(), None);
        assert_eq!(locate(&home.path().join("absent")).unwrap(), None);
        let holder = home.path().join(BATCHES_FOLDER);
        fs::rename(set().keep(), &holder).unwrap();
        assert_eq!(locate(home.path()).unwrap().unwrap(), holder);
        assert_eq!(locate(&holder).unwrap().unwrap(), holder);
    }

    #[test]
    fn missing_files_are_named() {
        let folder = set();
        fs::remove_file(folder.path().join("data_batch_2.bin")).unwrap();
        let error = require(folder.path()).unwrap_err();
        assert!(is_user_error(&error));
        let want = "holds part of a set: data_batch_2.bin missing";
        assert_eq!(
            error.to_string(),
            format!("{} {want}", folder.path().display())
        );
        let empty = tempfile::tempdir().unwrap();
        let error = require(empty.path()).unwrap_err();
        assert!(is_user_error(&error));
        assert!(
            error
                .to_string()
                .contains("want data_batch_1.bin to data_batch_5.bin and test_batch.bin")
        );
    }

    #[test]
    fn class_names_come_from_the_folder() {
        let folder = set();
        assert_eq!(class_names(folder.path()).unwrap(), CLASSES);
        let meta = folder.path().join(META_FILE);
        fs::write(&meta, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        assert_eq!(class_names(folder.path()).unwrap()[9], "j");
        fs::write(&meta, "a\nb\n").unwrap();
        assert!(is_user_error(&class_names(folder.path()).unwrap_err()));
    }
}
