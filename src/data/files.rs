//! Finds a data set's files, and reads the names of its classes.

use super::format::{
    BATCHES_DIR, CLASS_COUNT, CLASSES, META_FILE, RECORD_BYTES, TEST_FILE, TRAIN_FILES,
};
use crate::files::{read_small, without_bom};
use crate::{bail_user, user_error};
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The longest name of a class, in characters: names stand beside pictures and in tags.
const MAX_NAME: usize = 100;
/// The largest file of class names, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The directory that holds a data set's files: `directory` itself or `cifar-10-batches-bin/` in it. None if
/// neither holds any of them.
///
/// # Errors
/// A user error if some of the files are there and others are not, or if it cannot be told.
pub(super) fn find_dataset(directory: &Path) -> Result<Option<PathBuf>> {
    let names = TRAIN_FILES.into_iter().chain([TEST_FILE]);
    for dataset in [directory.to_path_buf(), directory.join(BATCHES_DIR)] {
        let mut missing = Vec::new();
        for name in names.clone() {
            if !is_there(&dataset.join(name))? {
                missing.push(name);
            }
        }
        if missing.is_empty() {
            return Ok(Some(dataset));
        }
        if missing.len() < names.clone().count() {
            bail_user!(
                "{} holds part of a data set: {} missing",
                dataset.display(),
                missing.join(", ")
            );
        }
    }
    Ok(None)
}

/// Whether there is something at `path`, wherever a link there leads.
///
/// # Errors
/// A user error if that cannot be told: what may not be looked at is not absent.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(user_error!("{} cannot be read: {error}", path.display())),
    }
}

/// As [`find_dataset`], where the files have to be there.
pub(super) fn require_dataset(directory: &Path) -> Result<PathBuf> {
    find_dataset(directory)?.ok_or_else(|| dataset_not_found(directory))
}

/// Number of training images in the directory that [`find_dataset`] found, by the sizes of its files.
///
/// # Errors
/// Files that cannot be read.
pub fn count_training_images(dataset: &Path) -> Result<usize> {
    let mut bytes = 0;
    for name in TRAIN_FILES {
        let path = dataset.join(name);
        let metadata = path.metadata();
        bytes += metadata
            .with_context(|| format!("failed to read {}", path.display()))?
            .len();
    }
    Ok(bytes as usize / RECORD_BYTES)
}

/// The error of a directory that holds no data set, nor the archive's directory in it.
pub(super) fn dataset_not_found(directory: &Path) -> anyhow::Error {
    let inside = directory.read_dir().into_iter().flatten().flatten();
    let mut inside = inside.map(|entry| entry.path());
    let hint = match inside.find(|path| path.join(TEST_FILE).is_file()) {
        Some(path) => format!("; {} has them", path.display()),
        None => String::new(),
    };
    user_error!(
        "no CIFAR-10 binary files in {}: want {} to {} and {TEST_FILE}, there or in {BATCHES_DIR}/{hint}",
        directory.display(),
        TRAIN_FILES[0],
        TRAIN_FILES[4],
    )
}

/// Names of the classes in the order of their labels: from `batches.meta.txt`, else CIFAR-10's own.
/// `directory` is as for [`Images::read`](super::Images::read).
///
/// # Errors
/// A user error if the files are missing or `batches.meta.txt` does not hold ten different names.
pub fn class_names(directory: &Path) -> Result<Vec<String>> {
    let path = require_dataset(directory)?.join(META_FILE);
    // A link that leads nowhere is not taken for a missing file: other names would be used in silence.
    if path.symlink_metadata().is_err() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    let bytes = match read_small(&path, MAX_BYTES) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::NotFound) => {
            bail_user!("{}: {error}, want class names", path.display())
        }
        read => read.with_context(|| format!("failed to read {}", path.display()))?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| user_error!("{}: want class names in UTF-8", path.display()))?;
    let text = without_bom(text);
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
    match class_names_error(&names) {
        Some(message) => bail_user!("{}: {message}", path.display()),
        None => Ok(names),
    }
}

/// What is wrong with the names of classes, if anything is. They stand in tags, tables and pictures, one a line in
/// their file, and have to differ.
pub(super) fn class_names_error(names: &[String]) -> Option<String> {
    let is_bad = |name: &String| {
        name.trim() != name || name.chars().count() > MAX_NAME || name.contains(char::is_control)
    };
    if let Some(name) = names.iter().find(|name| is_bad(name)) {
        let name: String = name.chars().take(MAX_NAME).collect();
        return Some(format!(
            "got the class name {name:?}, want at most {MAX_NAME} characters without control characters and \
             blanks around them"
        ));
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(format!(
        "got the class name {:?} twice, want it once",
        twice[0]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use std::fs;

    fn dataset() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in TRAIN_FILES.into_iter().chain([TEST_FILE]) {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        directory
    }

    #[test]
    fn dataset_is_found_in_the_directory_or_the_archives_directory_in_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(find_dataset(home.path()).unwrap(), None);
        assert_eq!(find_dataset(&home.path().join("absent")).unwrap(), None);
        let archive_dir = home.path().join(BATCHES_DIR);
        fs::rename(dataset().keep(), &archive_dir).unwrap();
        assert_eq!(find_dataset(home.path()).unwrap().unwrap(), archive_dir);
        assert_eq!(find_dataset(&archive_dir).unwrap().unwrap(), archive_dir);
    }

    #[test]
    fn missing_files_are_named() {
        let directory = dataset();
        fs::remove_file(directory.path().join("data_batch_2.bin")).unwrap();
        let error = require_dataset(directory.path()).unwrap_err();
        assert!(is_user_error(&error));
        let want = "holds part of a data set: data_batch_2.bin missing";
        assert_eq!(
            error.to_string(),
            format!("{} {want}", directory.path().display())
        );
        let empty = tempfile::tempdir().unwrap();
        let error = require_dataset(empty.path()).unwrap_err();
        assert!(is_user_error(&error));
        assert!(
            error
                .to_string()
                .contains("want data_batch_1.bin to data_batch_5.bin and test_batch.bin")
        );
    }

    #[test]
    fn directory_that_cannot_be_read_is_not_taken_for_an_empty_one() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("loop"); // as good as one without permission, which root has
        std::os::unix::fs::symlink(&folder, &folder).unwrap();
        let error = find_dataset(&folder).unwrap_err();
        assert!(is_user_error(&error));
        let begin = format!("{}/data_batch_1.bin cannot be read: ", folder.display());
        assert!(error.to_string().starts_with(&begin), "{error}");
    }

    #[test]
    fn class_names_come_from_the_directory() {
        let directory = dataset();
        assert_eq!(class_names(directory.path()).unwrap(), CLASSES);
        let meta = directory.path().join(META_FILE);
        fs::write(&meta, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        assert_eq!(class_names(directory.path()).unwrap()[9], "j");
        fs::write(&meta, "\u{feff}a\r\nb\r\nc\nd\ne\nf\ng\nh\ni\nj").unwrap();
        assert_eq!(class_names(directory.path()).unwrap()[0], "a");
        let refused = |bytes: &[u8]| {
            fs::write(&meta, bytes).unwrap();
            let error = class_names(directory.path()).unwrap_err();
            assert!(is_user_error(&error), "{error:#}");
            error
                .to_string()
                .replace(&format!("{}: ", meta.display()), "")
        };
        assert_eq!(refused(b"a\nb\n"), "got 2 class names, want 10");
        assert_eq!(
            refused(b"a\nb\nc\nd\ne\nf\ng\nh\na\nj\n"),
            "got the class name \"a\" twice, want it once"
        );
        let wanted =
            "want at most 100 characters without control characters and blanks around them";
        assert_eq!(
            refused(b"a\nb\nc\x1b[2J\nd\ne\nf\ng\nh\ni\nj\n"),
            format!("got the class name \"c\\u{{1b}}[2J\", {wanted}")
        );
        // The picture of the confusion matrix is as wide as the longest name.
        let long = format!("{}\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", "a".repeat(5_000));
        let message = refused(long.as_bytes());
        assert_eq!(
            message,
            format!("got the class name {:?}, {wanted}", "a".repeat(100))
        );
        assert_eq!(refused(b"a\nb\xff"), "want class names in UTF-8");
        assert_eq!(
            refused(&[b'\n'; 65537]),
            "got more than 65536 bytes, want class names"
        );
        fs::remove_file(&meta).unwrap();
        std::os::unix::fs::symlink("nowhere", &meta).unwrap();
        let error = class_names(directory.path()).unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
        fs::remove_file(&meta).unwrap();
        fs::create_dir(&meta).unwrap();
        let error = class_names(directory.path()).unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
    }
}
