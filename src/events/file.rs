//! The event files of a directory: their names, and a new one behind all others.

use super::queue::RecordFile;
use super::record::encode;
use super::summaries::{event, wall_time};
use crate::files::make_dir;
use anyhow::{Context, Result};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use sysinfo::System;

/// What TensorBoard recognises an event file by, anywhere in the name.
pub(super) const MARK: &str = "tfevents";

/// What a file begins with: by it readers recognise the format.
pub(super) const VERSION: &str = "brain.Event:2";

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

/// A file that events are added to. It begins with the record by which readers recognise the format.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
    dir: PathBuf,
    path: PathBuf,
    /// Device and number of the file: its identity, whatever its name.
    identity: (u64, u64),
}

impl EventFile {
    /// A new file in `dir` that sorts behind `existing` ones: `events.out.tfevents.SECOND.HOST.PID`, its
    /// second at least one above theirs. TensorBoard's Python reader never returns to a name that sorts
    /// before one it has read.
    pub fn create(dir: &Path, existing: &[PathBuf], now: f64) -> Result<Self> {
        let newest = existing.iter().filter_map(|path| second(path)).max();
        let second = newest.map_or(0, |second| second + 1).max(now as u64);
        // A host name with a slash would be another directory.
        let host = System::host_name().unwrap_or_default().replace('/', "_");
        let pid = std::process::id();
        let path = dir.join(format!("events.out.{MARK}.{second:010}.{host}.{pid}"));
        Self::begin(dir, &path, now)
            .with_context(|| format!("failed to create the event file {}", path.display()))
    }

    fn begin(dir: &Path, path: &Path, now: f64) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        let mut version = event(0, now);
        version.set_file_version(VERSION.into());
        if let Err(error) = file.write_all(&encode(&version)) {
            let _ = fs::remove_file(path); // without its beginning it is of no use
            return Err(error);
        }
        Ok(EventFile {
            identity: identity(&file.metadata()?),
            file,
            dir: dir.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Whether the file is no longer where readers look for it.
    fn removed(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(found) => identity(&found) != self.identity,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl RecordFile for EventFile {
    /// Go on in a new file if somebody has removed this one: what is written to it then, nobody could read.
    /// Its directory is made again, but not that around it: a whole run that was removed stays so.
    fn replace_if_removed(&mut self) -> Result<bool> {
        if !self.removed() {
            return Ok(false);
        }
        make_dir(&self.dir)?;
        *self = Self::create(&self.dir, &list(&self.dir)?, wall_time())?;
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
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
    fn new_files_sort_behind_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = Vec::new();
        // The clock stands still, then goes back.
        for now in [1000.9, 1000.9, 500.0] {
            let new = EventFile::create(dir.path(), &list(dir.path()).unwrap(), now).unwrap();
            want.push(new.path);
            assert_eq!(list(dir.path()).unwrap(), want);
        }
        let seconds: Vec<_> = want.iter().map(|path| second(path)).collect();
        assert_eq!(seconds, [Some(1000), Some(1001), Some(1002)]);
    }

    #[test]
    fn list_has_the_files_that_tensorboard_reads_and_no_named_pipes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["notes.txt", "tfevents.x", "events.out.tfevents.2000000000"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        // Opening a pipe would wait for a writer.
        let pipe = dir.path().join("tfevents.pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(dir.path().join("tfevents.directory")).unwrap();
        let files = list(dir.path()).unwrap();
        assert_eq!(files.len(), 2);
        let new = EventFile::create(dir.path(), &files, 5.0).unwrap();
        assert_eq!(second(&new.path), Some(2_000_000_001));
    }

    #[test]
    fn removed_file_is_followed_by_a_new_one_unless_the_run_is_gone() {
        let run = tempfile::tempdir().unwrap();
        let dir = run.path().join("run/train");
        fs::create_dir_all(&dir).unwrap();
        let mut file = EventFile::create(&dir, &[], 1000.0).unwrap();
        assert!(!file.replace_if_removed().unwrap());
        let first = file.path.clone();
        fs::remove_dir_all(&dir).unwrap();
        assert!(file.replace_if_removed().unwrap());
        assert!(!file.replace_if_removed().unwrap());
        let version = fs::read(&file.path).unwrap();
        assert!(String::from_utf8_lossy(&version).contains("brain.Event:2"));

        // Another file of the same name is not this one.
        fs::rename(&file.path, &first).unwrap();
        fs::write(&file.path, "").unwrap();
        assert!(file.replace_if_removed().unwrap());
        assert!(file.path > first);

        fs::remove_dir_all(run.path().join("run")).unwrap();
        let error = file.replace_if_removed().unwrap_err();
        let want = format!("failed to create {}", dir.display());
        assert_eq!(error.to_string(), want);
        assert!(!run.path().join("run").exists());
    }
}
