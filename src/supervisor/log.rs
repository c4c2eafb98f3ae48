//! A child's log file while it grows: its lines as they come, and its end when the child has died.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What is kept of a line that does not end, and read for the end of a log.
const WINDOW: u64 = 64 << 10; // bytes

/// Follows one session's part of a log file.
pub(super) struct Log {
    path: PathBuf,
    /// Where the session begins, behind those before it.
    start: u64,
    offset: u64,
    /// The beginning of a line whose end is not yet written.
    partial: Vec<u8>,
}

impl Log {
    /// Begins at the present end of the file, which need not exist yet.
    pub(super) fn follow(path: PathBuf) -> Self {
        let start = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Log {
            path,
            start,
            offset: start,
            partial: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The lines completed since the last call; with `ended`, an unfinished last one as well. A log that
    /// cannot be read right now has no new lines.
    pub(super) fn lines(&mut self, ended: bool) -> Vec<String> {
        let mut bytes = Vec::new();
        if let Ok(read) = read_from(&self.path, self.offset, u64::MAX, &mut bytes) {
            self.offset += read as u64;
        }
        self.partial.append(&mut bytes);
        let complete = if ended || self.partial.len() as u64 > WINDOW {
            self.partial.len()
        } else {
            let end = self.partial.iter().rposition(|&byte| byte == b'\n');
            end.map_or(0, |end| end + 1)
        };
        let rest = self.partial.split_off(complete);
        split(&std::mem::replace(&mut self.partial, rest))
    }

    /// The last `count` lines of the session.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let mut bytes = Vec::new();
        let end = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let from = end.saturating_sub(WINDOW).max(self.start);
        if read_from(&self.path, from, WINDOW, &mut bytes).is_err() {
            return Vec::new();
        }
        let mut lines = split(&bytes);
        lines.split_off(lines.len().saturating_sub(count))
    }
}

fn read_from(path: &Path, offset: u64, limit: u64, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut file = File::open(path)?;
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

    #[test]
    fn gives_each_line_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.log");
        let append = |text: &str| {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("an earlier session\n");
        let mut log = Log::follow(path.clone());
        assert!(log.lines(false).is_empty());
        append("one\ntw");
        assert_eq!(log.lines(false), ["one"]);
        append("o\n10 %\r20 %\r\n\nthr");
        assert_eq!(log.lines(false), ["two", "20 %", ""]);
        append("ee");
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
    fn a_log_without_end_stays_in_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.log");
        let mut log = Log::follow(path.clone());
        assert!(log.lines(false).is_empty() && log.tail(20).is_empty());
        fs::write(&path, vec![b'x'; WINDOW as usize + 1]).unwrap();
        assert_eq!(log.lines(false)[0].len() as u64, WINDOW + 1);
        assert_eq!(log.tail(20)[0].len() as u64, WINDOW);
    }
}
