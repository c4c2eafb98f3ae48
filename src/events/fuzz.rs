//! Random event files, read back at a resume.

use super::purge::purge_from;
use super::record::{EventReader, message};
use super::summaries::{Summaries, event};
use super::tag::Tag;
use crate::testing::fuzz::{check, edited, pick};
use crate::testing::heap::within;
use rand::Rng;
use std::fs;
use std::path::Path;
use tensorboard_rs::masked_crc32c::masked_crc32c;
use tensorboard_rs::record_writer::RecordWriter;

/// Pieces of messages: groups within groups, and fields of every kind.
const WORDS: &[&[u8]] = &[
    &[0x7b; 50_000],
    b"\x7b",
    b"\x7c",
    b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x10\x05",
    b"\x12\x02\x08\x01",
    b"\x1a\x0dbrain.Event:2",
    b"\x2a\xff\xff\xff\xff\x0f",
    b"\x0a\x80\x80\x80\x80\x10",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00",
    b"\x0d",
    b"\x09",
    &[0; 12],
];

/// Make the checksums of every record right whose length fits into the file.
fn seal(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = bytes.get(at..at + 8) {
        let sum = masked_crc32c(length).to_le_bytes();
        let length = u64::from_le_bytes(length.try_into().unwrap());
        if let Some(place) = bytes.get_mut(at + 8..at + 12) {
            place.copy_from_slice(&sum);
        }
        let end = (length as usize).saturating_add(at + 12);
        if end.saturating_add(4) > bytes.len() {
            return;
        }
        let sum = masked_crc32c(&bytes[at + 12..end]).to_le_bytes();
        bytes[end..end + 4].copy_from_slice(&sum);
        at = end + 4;
    }
}

/// The steps of the file's events, none for the version, and whether they are all of the file.
fn steps(path: &Path) -> (Vec<Option<i64>>, bool) {
    let mut reader = EventReader::open(path).unwrap();
    let mut steps = Vec::new();
    while let Some(event) = reader.read().unwrap() {
        steps.push((!event.is_version).then_some(event.step));
    }
    assert!(reader.position() <= reader.length());
    (steps, reader.position() == reader.length())
}

#[test]
fn purge_keeps_all_readable_events_before_the_step() {
    let mut version = event(0, 1.0);
    version.set_file_version("brain.Event:2".into());
    let point = |step| {
        let mut point = Summaries::at_time(step, 1.0);
        message(point.scalar(&Tag::new("a"), 1.0).event())
    };
    let mut events = vec![message(&version)];
    events.extend([0, 10, 20, 15, 30].map(point));
    check(300, |rng| {
        let mut bytes = Vec::new();
        for event in &events {
            let event = edited(rng, event, WORDS);
            RecordWriter::new(&mut bytes).write(&event).unwrap();
        }
        if rng.random_bool(0.5) {
            bytes = edited(rng, &bytes, WORDS);
        }
        if rng.random_bool(0.5) {
            seal(&mut bytes);
        }
        let first_step = pick(rng, &[0, 1, 15, 20, 31, i64::MAX as u64, u64::MAX]);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.out.tfevents.1.h.1");
        fs::write(&path, &bytes).unwrap();
        // For a field that claims to be long the protobuf library makes room for 10 MB.
        let memory = (11 << 20) + 2 * bytes.len();
        let (before, _) = within(memory, || steps(&path));
        let files = std::slice::from_ref(&path);
        within(memory, || purge_from(files, first_step)).unwrap();
        let first_step = i64::try_from(first_step).unwrap_or(i64::MAX);
        let stays = |step: &Option<i64>| step.is_none_or(|step| step < first_step);
        let kept: Vec<_> = before.into_iter().filter(stays).collect();
        let (left, whole) = steps(&path);
        assert_eq!(left, kept);
        // A file that does not begin with an event is somebody else's, and TensorBoard shows nothing of it.
        assert!(whole || fs::read(&path).unwrap() == bytes);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    });
}
