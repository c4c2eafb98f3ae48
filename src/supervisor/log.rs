//! A child's log file while it grows: its lines as they come, and its end when the child has failed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files::{open_regular, open_regular_with};

/// What is kept of a line that does not end, and read for the end of a log.
const WINDOW: u64 = 64 << 10; // bytes

/// The most that is read at once. Whoever writes more meanwhile is read again from there on.
const MAX_READ: u64 = 1 << 20; // bytes

/// Follows one session's part of a log file.
pub(super) struct Log {
    path: PathBuf,
    /// The file's inode, once it was seen.
    inode: Option<u64>,
    /// Where the session begins, behind those before it.
    start: u64,
    offset: u64,
    /// The beginning of a line whose end is not yet written.
    partial: Vec<u8>,
}

impl Log {
    /// Begins at the present end of the file, which need not exist yet.
    pub(super) fn follow(path: PathBuf) -> Self {
        let metadata = fs::metadata(&path).ok();
        let start = metadata.as_ref().map_or(0, |metadata| metadata.len());
        Log {
            path,
            inode: metadata.map(|metadata| metadata.ino()),
            start,
            offset: start,
            partial: Vec::new(),
        }
    }

    /// The whole file, whoever wrote it.
    pub(super) fn of_all_sessions(path: PathBuf) -> Self {
        Log {
            start: 0,
            offset: 0,
            ..Log::follow(path)
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, to write at its end.
    ///
    /// # Errors
    /// If it cannot be made or written, or is no regular file.
    pub(super) fn open_for_writing(&self) -> Result<File> {
        open_regular_with(&self.path, File::options().create(true).append(true))
            .with_context(|| format!("failed to open {}", self.path.display()))
    }

    /// The lines completed since the last call; with `ended`, an unfinished last one as well. A log that
    /// cannot be read right now has no new lines. Of more than [`MAX_READ`] new bytes only the last are read.
    pub(super) fn lines(&mut self, ended: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if let Ok((mut file, length)) = self.open() {
            let skipped = (length - self.offset).saturating_sub(MAX_READ);
            if skipped > 0 {
                self.offset += skipped;
                self.partial.clear();
                let path = self.path.display();
                lines.push(format!("({skipped} bytes are not shown, see {path})"));
            }
            if let Ok(read) = read_from(&mut file, self.offset, MAX_READ, &mut self.partial) {
                self.offset += read as u64;
            }
        }
        let complete = if ended || self.partial.len() as u64 > WINDOW {
            self.partial.len()
        } else {
            let end = self.partial.iter().rposition(|&byte| byte == b'\n');
            end.map_or(0, |end| end + 1)
        };
        let rest = self.partial.split_off(complete);
        lines.extend(split(&std::mem::replace(&mut self.partial, rest)));
        lines
    }

    /// The last `count` lines of the session.
    pub(super) fn tail(&mut self, count: usize) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = self.open().and_then(|(mut file, length)| {
            let from = length.saturating_sub(WINDOW).max(self.start);
            read_from(&mut file, from, WINDOW, &mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let mut lines = split(&bytes);
        lines.split_off(lines.len().saturating_sub(count))
    }

    /// The file, and its length. One that was truncated, or replaced by another, is followed from its beginning.
    fn open(&mut self) -> io::Result<(File, u64)> {
        let file = open_regular(&self.path)?;
        let metadata = file.metadata()?;
        let (inode, length) = (metadata.ino(), metadata.len());
        let replaced = self
            .inode
            .replace(inode)
            .is_some_and(|known| known != inode);
        if replaced || length < self.offset {
            (self.start, self.offset) = (0, 0);
            self.partial.clear();
        }
        Ok((file, length))
    }
}

fn read_from(file: &mut File, offset: u64, limit: u64, into: &mut Vec<u8>) -> io::Result<usize> {
    file.seek(SeekFrom::Start(offset))?;
    file.take(limit).read_to_end(into)
}

/// Lines as a terminal would leave them: of one redrawn by carriage returns, the last state.
fn split(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| line.rsplit('\r').find(|part| !part.is_empty()))
        .map(|line| line.unwrap_or_default().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_come_once_each_when_they_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.log");
        append(&path, "an earlier session\n");
        let mut log = Log::follow(path.clone());
        assert!(log.lines(false).is_empty());
        append(&path, "one\ntw");
        assert_eq!(log.lines(false), ["one"]);
        append(&path, "o\n10 %\r20 %\r\n\nthr");
        assert_eq!(log.lines(false), ["two", "20 %", ""]);
        append(&path, "ee");
        assert!(log.lines(false).is_empty());
        assert_eq!(log.lines(true), ["three"]);
        assert!(log.lines(true).is_empty());
        assert_eq!(log.tail(2), ["", "three"]);
        assert_eq!(
            log.tail(20).len(),
            5,
            "an earlier session's lines are not this one's"
        );
    }

    #[test]
    fn truncated_or_replaced_log_is_followed_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.log");
        append(&path, "an earlier session\n");
        let mut log = Log::follow(path.clone());
        append(&path, "before, and half a li");
        assert!(log.lines(false).is_empty());
        fs::write(&path, "").unwrap();
        append(&path, "after\n");
        assert_eq!(log.lines(false), ["after"]);
        assert_eq!(log.tail(20), ["after"]);

        let other = directory.path().join("other");
        append(&other, "a longer text in another file\n");
        fs::rename(&other, &path).unwrap();
        assert_eq!(log.tail(20), ["a longer text in another file"]);
        assert_eq!(log.lines(false), ["a longer text in another file"]);
        fs::remove_file(&path).unwrap();
        assert!(log.lines(false).is_empty());
    }

    #[test]
    fn log_without_line_end_stays_in_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.log");
        let mut log = Log::follow(path.clone());
        assert!(log.lines(false).is_empty() && log.tail(20).is_empty());
        fs::write(&path, vec![b'x'; WINDOW as usize + 1]).unwrap();
        assert_eq!(log.lines(false)[0].len() as u64, WINDOW + 1);
        assert_eq!(log.tail(20)[0].len() as u64, WINDOW);
        // A file with a hole of a terabyte in it.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        append(&path, "\nlast\n");
        let lines = log.lines(false);
        assert!(lines[0].ends_with(&format!(" bytes are not shown, see {})", path.display())));
        assert_eq!(lines.last().unwrap(), "last");
        assert_eq!(lines.len(), 3);
    }
}
