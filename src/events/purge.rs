//! Removing from event files what a resumed run is going to write again: every event of a step or later.
//!
//! TensorBoard's readers do not do it for us: the Python one drops everything from the step of a session's
//! start on, the fast one only points of a tag that is written again. If orphans do not exist, both show
//! one clean curve.
//!
//! A long run has a gigabyte of events, nearly all of it histograms, so of an event only the beginning is read, which
//! tells its length and its step. No order of steps is assumed: a summary of step 0 may be the last in a file. Only the
//! end of the files is read whole; from the first record on whose checksum is wrong, it is removed.

use super::record::EventReader;
use crate::console;
use crate::files::{remove_stale_of, replace_by};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How many bytes at the end of all files together are verified by their checksums. A kill tears the last record alone;
/// a power cut may lose any page that was written in the half minute before it, which are fewer bytes than these. A
/// record that is damaged further up stays where it is: TensorBoard's readers end before it whether it is there or not.
const VERIFIED_BYTES: u64 = 64 << 20;

/// What the name of a temporary file begins with: nothing that TensorBoard takes for an event file.
const TEMPORARY: &str = ".events.";

/// Remove the events of `first_step` and later from `files`, and a torn tail. No process may write to them any more.
/// A file that does not begin as one of ours stays as it is: somebody else has put it there.
pub(super) fn purge_from(files: &[PathBuf], first_step: u64) -> Result<()> {
    let failed = |path: &Path| {
        let path = path.display();
        format!("failed to remove the events from step {first_step} on from {path}")
    };
    let mut readers = Vec::new();
    for path in files {
        if is_event_file(path).with_context(|| failed(path))? {
            let reader = EventReader::open(path).with_context(|| failed(path))?;
            readers.push((path, reader));
        } else {
            console::warning(format_args!(
                "{} is left as it is: it does not begin as an event file",
                path.display()
            ));
        }
    }
    let bytes: u64 = readers.iter().map(|(_, reader)| reader.length()).sum();
    let mut unverified = bytes.saturating_sub(VERIFIED_BYTES);
    for (path, mut reader) in readers {
        purge_file(path, &mut reader, first_step, unverified).with_context(|| failed(path))?;
        unverified = unverified.saturating_sub(reader.length());
    }
    Ok(())
}

/// Whether a file begins with an event, or with the beginning of one that a crash has cut short.
pub(super) fn is_event_file(path: &Path) -> io::Result<bool> {
    let mut reader = EventReader::open(path)?;
    Ok(match reader.read() {
        Ok(Some(_)) => true,
        // No longer than the record of the version: what was written when the power failed.
        Ok(None) => reader.length() < 64,
        Err(_) => false,
    })
}

/// As [`purge_from`], without verifying records that begin in the first `unverified` bytes.
fn purge_file(
    path: &Path,
    reader: &mut EventReader,
    first_step: u64,
    unverified: u64,
) -> io::Result<()> {
    let ranges = ranges_to_keep(reader, first_step, unverified)?;
    if let Some(byte) = reader.damaged() {
        let lost = reader.length() - byte;
        console::warning(format_args!(
            "{}: the record at byte {byte} is damaged; it and what stands behind it are removed, {lost} bytes",
            path.display()
        ));
    }
    match ranges.as_slice() {
        // A prefix, the usual case: shortening the file in place keeps it valid for a reader at any moment.
        [] => truncate(path, 0),
        [prefix] if prefix.start == 0 && prefix.end == reader.length() => Ok(()),
        [prefix] if prefix.start == 0 => truncate(path, prefix.end),
        // Something early was written late, such as a summary of the whole run at step 0.
        _ => rewrite(path, &ranges),
    }
}

/// Where the events lie that stay, neighbours joined.
fn ranges_to_keep(
    reader: &mut EventReader,
    first_step: u64,
    unverified: u64,
) -> io::Result<Vec<Range<u64>>> {
    let first_step = i64::try_from(first_step).unwrap_or(i64::MAX);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    loop {
        let start = reader.position();
        let skipped = match start < unverified {
            true => reader.skip()?,
            false => None,
        };
        let Some(event) = skipped.map_or_else(|| reader.read(), |event| Ok(Some(event)))? else {
            return Ok(ranges);
        };
        let end = reader.position();
        // The version is the file's, whatever its step.
        if event.is_version || event.step < first_step {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
    }
}

fn truncate(path: &Path, length: u64) -> io::Result<()> {
    File::options().write(true).open(path)?.set_len(length)
}

/// Replace the file by one of these ranges, atomically.
fn rewrite(path: &Path, ranges: &[Range<u64>]) -> io::Result<()> {
    let mut old = File::open(path)?;
    replace_by(path, TEMPORARY, true, |new| {
        for range in ranges {
            old.seek(SeekFrom::Start(range.start))?;
            io::copy(&mut (&mut old).take(range.end - range.start), new)?;
        }
        new.set_permissions(old.metadata()?.permissions())
    })
}

/// Removes what a kill left of files that were being rewritten in `dir`, where nobody else may write events.
pub(super) fn remove_stale(dir: &Path) {
    remove_stale_of(dir, TEMPORARY);
}

#[cfg(test)]
mod tests {
    use super::super::record::encode;
    use super::super::summaries::{Summaries, event};
    use super::super::tag::Tag;
    use super::*;
    use std::fs;
    use std::io::Write;
    use tensorboard_rs::masked_crc32c::masked_crc32c;

    fn version() -> Vec<u8> {
        let mut version = event(0, 1.0);
        version.set_file_version("brain.Event:2".into());
        encode(&version)
    }

    fn point(step: u64) -> Vec<u8> {
        encode(
            Summaries::at_time(step, 1.0)
                .scalar(&Tag::new("a"), 1.0)
                .event(),
        )
    }

    /// What remains of a version, these steps and `tail` after a purge from `first_step` on; the same whether all of
    /// it is verified or, as far as it is whole, nothing.
    fn remains(steps: &[u64], tail: &[u8], first_step: u64) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        let whole = file(steps, b"").len() as u64;
        let remains = |unverified| {
            fs::write(&path, file(steps, tail)).unwrap();
            let mut reader = EventReader::open(&path).unwrap();
            purge_file(&path, &mut reader, first_step, unverified).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            fs::read(&path).unwrap()
        };
        let verified = remains(0);
        for unverified in [1, whole / 2, whole] {
            assert_eq!(
                remains(unverified),
                verified,
                "{unverified} bytes not verified"
            );
        }
        verified
    }

    fn file(steps: &[u64], tail: &[u8]) -> Vec<u8> {
        let points = steps.iter().flat_map(|&step| point(step));
        version()
            .into_iter()
            .chain(points)
            .chain(tail.to_vec())
            .collect()
    }

    #[test]
    fn purge_removes_the_events_from_the_first_step_on() {
        let steps = [0, 10, 10, 20, 30];
        assert_eq!(remains(&steps, b"", 20), file(&[0, 10, 10], b""));
        assert_eq!(remains(&steps, b"", 11), file(&[0, 10, 10], b""));
        assert_eq!(remains(&steps, b"", 31), file(&steps, b""));
        // The version stays even at step 0, or the file would be none.
        assert_eq!(remains(&steps, b"", 0), version());
    }

    #[test]
    fn purge_removes_a_torn_tail_wherever_it_is_torn() {
        let torn = point(30);
        for length in 0..torn.len() {
            let tail = &torn[..length];
            assert_eq!(remains(&[0, 10, 20], tail, 40), file(&[0, 10, 20], b""));
            assert_eq!(remains(&[0, 10, 20], tail, 20), file(&[0, 10], b""));
        }
    }

    #[test]
    fn purge_keeps_a_small_step_behind_a_large_one() {
        let steps = [0, 10, 20, 5, 30, 0];
        assert_eq!(remains(&steps, b"torn", 20), file(&[0, 10, 5, 0], b""));
        assert_eq!(remains(&steps, b"", 31), file(&steps, b""));
    }

    #[test]
    fn purge_keeps_the_permissions_of_a_file_that_it_rewrites() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        fs::write(&path, file(&[20, 0], b"")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        purge_from(std::slice::from_ref(&path), 20).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn rewritten_file_of_a_process_that_was_killed_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            ".events.x.tmp",
            ".events.x",
            ".other.x.tmp",
            "events.out.tfevents.1.h.1",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        remove_stale(dir.path());
        assert!(!dir.path().join(".events.x.tmp").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn purge_leaves_a_file_that_does_not_begin_as_an_event_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        let notes =
            "not an event file at all, but longer than what a crash leaves of the first record";
        fs::write(&path, notes).unwrap();
        purge_from(std::slice::from_ref(&path), 1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), notes);
        fs::write(&path, &version()[..20]).unwrap();
        purge_from(std::slice::from_ref(&path), 1).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn purge_takes_the_step_of_an_event_without_reading_its_data() {
        const LENGTH: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        // 200 MiB of holes between the beginnings of events: read whole, their checksums would be wrong.
        let mut file = File::create(&path).unwrap();
        file.write_all(&version()).unwrap();
        let begin = version().len() as u64;
        let length = u64::to_le_bytes(LENGTH);
        let checksum = masked_crc32c(&length).to_le_bytes();
        let record = 8 + 4 + LENGTH + 4;
        for step in 1..=200u8 {
            file.seek(SeekFrom::Start(begin + u64::from(step - 1) * record))
                .unwrap();
            let event = [&[0x09; 9][..], &[0x10, step | 0x80, step >> 7]].concat();
            let beginning = [&length[..], &checksum, &event].concat();
            file.write_all(&beginning).unwrap();
        }
        file.set_len(begin + 200 * record).unwrap();
        purge_from(std::slice::from_ref(&path), 101).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), begin + 100 * record);
        // What is left is at the end, and verified.
        purge_from(std::slice::from_ref(&path), 101).unwrap();
        let verified = fs::metadata(&path).unwrap().len();
        let left = (100 - VERIFIED_BYTES / record) * record;
        assert_eq!(verified, begin + left);
    }
}
