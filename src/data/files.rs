//! Finds a set's files, and reads the names of its classes.

use super::cifar::{BATCHES_DIR, CLASS_COUNT, CLASSES, META_FILE, TEST_FILE, TRAIN_FILES};
use crate::files::read_small;
use crate::{bail_user, user_error};
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The longest name of a class, in characters: names stand beside pictures and in tags.
const MAX_NAME: usize = 100;
/// Of the file of class names.
const MAX_BYTES: u64 = 64 << 10;

/// The directory that holds the files: `directory` itself or `cifar-10-batches-bin/` in it. None if neither
/// holds any of them.
///
/// # Errors
/// A user error if some of the files are there and others are not.
pub(super) fn locate(directory: &Path) -> Result<Option<PathBuf>> {
    let names = || TRAIN_FILES.iter().chain([&TEST_FILE]);
    for holder in [directory.to_path_buf(), directory.join(BATCHES_DIR)] {
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
pub(super) fn require(directory: &Path) -> Result<PathBuf> {
    locate(directory)?.ok_or_else(|| absent(directory))
}

/// Neither `directory` nor the archive's directory in it holds the files.
pub(super) fn absent(directory: &Path) -> anyhow::Error {
    user_error!(
        "no CIFAR-10 binary files in {}: want {} to {} and {TEST_FILE}, there or in {BATCHES_DIR}/",
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
    let path = require(directory)?.join(META_FILE);
    if !path.exists() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    let bytes = match read_small(&path, MAX_BYTES) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            bail_user!("{}: {error}, want class names", path.display())
        }
        read => read.with_context(|| format!("failed to read {}", path.display()))?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| user_error!("{}: want class names in UTF-8", path.display()))?;
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
    match bad_name(&names) {
        Some(message) => bail_user!("{}: {message}", path.display()),
        None => Ok(names),
    }
}

/// What is wrong with the names of classes, if anything is: they stand in tags, tables and pictures, one a
/// line in their file, and each is of one class.
pub(super) fn bad_name(names: &[String]) -> Option<String> {
    let bad = |name: &String| {
        name.trim() != name || name.chars().count() > MAX_NAME || name.contains(char::is_control)
    };
    if let Some(name) = names.iter().find(|name| bad(name)) {
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

    fn set() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in TRAIN_FILES.into_iter().chain([TEST_FILE]) {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        directory
    }

    #[test]
    fn the_files_are_found_in_the_directory_or_the_archives_directory_in_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(locate(home.path()).unwrap(), None);
        assert_eq!(locate(&home.path().join("absent")).unwrap(), None);
        let holder = home.path().join(BATCHES_DIR);
        fs::rename(set().keep(), &holder).unwrap();
        assert_eq!(locate(home.path()).unwrap().unwrap(), holder);
        assert_eq!(locate(&holder).unwrap().unwrap(), holder);
    }

    #[test]
    fn missing_files_are_named() {
        let directory = set();
        fs::remove_file(directory.path().join("data_batch_2.bin")).unwrap();
        let error = require(directory.path()).unwrap_err();
        assert!(is_user_error(&error));
        let want = "holds part of a set: data_batch_2.bin missing";
        assert_eq!(
            error.to_string(),
            format!("{} {want}", directory.path().display())
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
    fn class_names_come_from_the_directory() {
        let directory = set();
        assert_eq!(class_names(directory.path()).unwrap(), CLASSES);
        let meta = directory.path().join(META_FILE);
        fs::write(&meta, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        assert_eq!(class_names(directory.path()).unwrap()[9], "j");
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
        fs::create_dir(&meta).unwrap();
        let error = class_names(directory.path()).unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
    }
}
