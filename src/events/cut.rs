//! Removing from event files what a resumed run is going to write again.
//!
//! TensorBoard's readers do not do it for us: the Python one drops everything from the step of a session's
//! start on, the fast one only points of a tag that is written again. If orphans do not exist, both show
//! one clean curve.

use super::record::EventReader;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Make `files` end where the run resumes: no event of `first_step` or later remains, and no torn tail. No
/// process may write to them any more.
pub(super) fn cut(files: &[PathBuf], first_step: u64) -> Result<()> {
    for path in files {
        cut_file(path, first_step).with_context(|| {
            format!(
                "failed to remove the events from step {first_step} on from {}",
                path.display()
            )
        })?;
    }
    Ok(())
}

fn cut_file(path: &Path, first_step: u64) -> io::Result<()> {
    let mut reader = EventReader::open(path)?;
    let kept = kept(&mut reader, first_step)?;
    match kept.as_slice() {
        // A prefix, the usual case: shortening the file in place keeps it valid for a reader at any moment.
        [] => truncate(path, 0),
        [prefix] if prefix.start == 0 && prefix.end == reader.length() => Ok(()),
        [prefix] if prefix.start == 0 => truncate(path, prefix.end),
        // Something early was written late, such as a summary of the whole run at step 0.
        _ => rewrite(path, &kept),
    }
}

/// Where the events to keep lie, neighbours joined.
fn kept(reader: &mut EventReader, first_step: u64) -> io::Result<Vec<Range<u64>>> {
    let first_step = i64::try_from(first_step).unwrap_or(i64::MAX);
    let mut kept: Vec<Range<u64>> = Vec::new();
    let mut start = 0;
    while let Some(event) = reader.read()? {
        let end = reader.position();
        // The version is the file's, whatever its step.
        if event.is_version || event.step < first_step {
            match kept.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => kept.push(start..end),
            }
        }
        start = end;
    }
    Ok(kept)
}

fn truncate(path: &Path, length: u64) -> io::Result<()> {
    File::options().write(true).open(path)?.set_len(length)
}

/// Replace the file by one of these ranges, atomically.
fn rewrite(path: &Path, ranges: &[Range<u64>]) -> io::Result<()> {
    let mut old = File::open(path)?;
    // Its name holds nothing that TensorBoard takes for an event file.
    let mut new = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    for range in ranges {
        old.seek(SeekFrom::Start(range.start))?;
        io::copy(
            &mut (&mut old).take(range.end - range.start),
            new.as_file_mut(),
        )?;
    }
    // Temporary files are private; TensorBoard may belong to somebody else.
    fs::set_permissions(new.path(), old.metadata()?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::encode;
    use super::super::summaries::{Summaries, event};
    use super::super::tag::Tag;
    use super::*;

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

    /// What remains of a version, these steps and `tail` after a cut at `first_step`.
    fn remains(steps: &[u64], tail: &[u8], first_step: u64) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        fs::write(&path, file(steps, tail)).unwrap();
        cut(std::slice::from_ref(&path), first_step).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::read(&path).unwrap()
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
    fn events_from_the_first_step_on_are_gone() {
        let steps = [0, 10, 10, 20, 30];
        assert_eq!(remains(&steps, b"", 20), file(&[0, 10, 10], b""));
        assert_eq!(remains(&steps, b"", 11), file(&[0, 10, 10], b""));
        assert_eq!(remains(&steps, b"", 31), file(&steps, b""));
        // The version stays even at step 0, or the file would be none.
        assert_eq!(remains(&steps, b"", 0), version());
    }

    #[test]
    fn a_torn_tail_goes_with_them_wherever_it_is_torn() {
        let torn = point(30);
        for length in 0..torn.len() {
            let tail = &torn[..length];
            assert_eq!(remains(&[0, 10, 20], tail, 40), file(&[0, 10, 20], b""));
            assert_eq!(remains(&[0, 10, 20], tail, 20), file(&[0, 10], b""));
        }
    }

    #[test]
    fn a_small_step_behind_a_large_one_survives() {
        let steps = [0, 10, 20, 5, 30, 0];
        assert_eq!(remains(&steps, b"torn", 20), file(&[0, 10, 5, 0], b""));
        assert_eq!(remains(&steps, b"", 31), file(&steps, b""));
    }

    #[test]
    fn a_rewritten_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        fs::write(&path, file(&[20, 0], b"")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        cut(std::slice::from_ref(&path), 20).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn nothing_readable_leaves_an_empty_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        fs::write(&path, "not an event file at all").unwrap();
        cut(std::slice::from_ref(&path), 1).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}
