//! The event files of a directory: their names, and a new one behind all others.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use sysinfo::System;

/// What TensorBoard recognises an event file by, anywhere in the name.
const MARK: &str = "tfevents";

/// All files of `dir` that TensorBoard reads, in the order it reads them.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || format!("failed to list the event files of {}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(read)? {
        let entry = entry.with_context(read)?;
        if entry.file_name().to_string_lossy().contains(MARK) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A new, empty file that sorts behind `existing` ones: `events.out.tfevents.SECOND.HOST.PID`, its second
/// at least one above theirs. TensorBoard's Python reader never returns to a name that sorts before one it
/// has read.
pub(super) fn create(dir: &Path, existing: &[PathBuf], now: f64) -> Result<(File, PathBuf)> {
    let newest = existing.iter().filter_map(|path| second(path)).max();
    let second = newest.map_or(0, |second| second + 1).max(now as u64);
    // A host name with a slash would be another directory.
    let host = System::host_name().unwrap_or_default().replace('/', "_");
    let pid = std::process::id();
    let path = dir.join(format!("events.out.{MARK}.{second:010}.{host}.{pid}"));
    let file = File::create_new(&path)
        .with_context(|| format!("failed to create the event file {}", path.display()))?;
    Ok((file, path))
}

/// The second in a file's name, ten digits.
fn second(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let (_, rest) = name.split_once("tfevents.")?;
    let digits = rest.split('.').next()?;
    digits.parse().ok().filter(|_| digits.len() == 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_file_sorts_behind_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = Vec::new();
        // The clock stands still, then goes back.
        for now in [1000.9, 1000.9, 500.0] {
            let (_, path) = create(dir.path(), &list(dir.path()).unwrap(), now).unwrap();
            want.push(path);
            assert_eq!(list(dir.path()).unwrap(), want);
        }
        let seconds: Vec<_> = want.iter().map(|path| second(path)).collect();
        assert_eq!(seconds, [Some(1000), Some(1001), Some(1002)]);
    }

    #[test]
    fn foreign_names_count_only_when_tensorboard_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["notes.txt", "tfevents.x", "events.out.tfevents.2000000000"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let files = list(dir.path()).unwrap();
        assert_eq!(files.len(), 2);
        let (_, path) = create(dir.path(), &files, 5.0).unwrap();
        assert_eq!(second(&path), Some(2_000_000_001));
    }
}
