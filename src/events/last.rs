//! What was shown last, read back from the event files: the point of a curve, the event of a step.

use super::file;
use super::purge::is_event_file;
use super::record::EventReader;
use super::tag::Tag;
use anyhow::{Context, Result};
use std::io;
use std::path::{Path, PathBuf};
use tensorboard_proto::event::Event;

/// The value of the last scalar of `tag` in the files of `dir`, of which the newest are read first; none if there is none.
///
/// # Errors
/// The directory or a file in it cannot be read.
pub fn last_scalar(dir: &Path, tag: &Tag) -> Result<Option<f32>> {
    for path in file::list(dir)?.iter().rev() {
        let last = last_of_file(path, tag);
        let last = last.with_context(|| format!("failed to read {}", path.display()))?;
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// The last event of `step` with summaries in these files of sessions; none if there is none. Files that do not begin as
/// event files are passed over.
pub(super) fn last_event(files: &[PathBuf], step: i64) -> Result<Option<Event>> {
    for path in files.iter().rev() {
        let last = || -> io::Result<Option<Event>> {
            let mut last = None;
            if is_event_file(path)? {
                let mut reader = EventReader::open(path)?;
                while let Some(event) = reader.read_whole()? {
                    if event.get_step() == step && event.has_summary() {
                        last = Some(event);
                    }
                }
            }
            Ok(last)
        };
        let last = last().with_context(|| format!("failed to read {}", path.display()))?;
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

fn last_of_file(path: &Path, tag: &Tag) -> io::Result<Option<f32>> {
    let mut reader = EventReader::open(path)?;
    let mut last = None;
    while let Some(event) = reader.read_whole()? {
        let values = event.get_summary().get_value().iter();
        let found = values.rev().find(|value| value.get_tag() == tag.name());
        last = found.map(|value| value.get_simple_value()).or(last);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::super::{EventWriter, Summaries};
    use super::*;

    #[test]
    fn last_scalar_is_that_of_the_newest_file_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let (loss, other) = (Tag::new("loss"), Tag::new("other"));
        let last = || last_scalar(dir.path(), &loss).unwrap();
        assert_eq!(last(), None);
        let write = |tag: &Tag, points: &[(u64, f64)]| {
            let events = EventWriter::open(dir.path()).unwrap();
            for &(step, value) in points {
                events.write(Summaries::at(step).scalar(tag, value));
            }
        };
        write(&loss, &[(0, 3.0), (10, 2.0)]);
        write(&other, &[(20, 7.0)]);
        assert_eq!(last(), Some(2.0));
        write(&loss, &[(20, 1.0)]);
        assert_eq!(last(), Some(1.0));
    }
}
