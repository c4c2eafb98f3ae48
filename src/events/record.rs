//! The framing of an event file: one checksummed record an event.

use crate::files::open_regular;
use protobuf::wire_format::WireTypeVarint;
use protobuf::{CodedInputStream, Message};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tensorboard_proto::event::Event;
use tensorboard_rs::masked_crc32c::masked_crc32c;
use tensorboard_rs::record_writer::RecordWriter;

// uint64  length         little-endian
// uint32  masked CRC-32C of the length
// byte    data[length]   an Event
// uint32  masked CRC-32C of the data
// https://github.com/tensorflow/tensorflow/blob/v2.16.1/tensorflow/core/lib/io/record_writer.cc
const HEADER_BYTES: u64 = 12;
const FOOTER_BYTES: u64 = 4;

/// Of an event's data. Ours have a few MB at most.
const MAX_DATA: u64 = 256 << 20;

/// The bytes of one whole record.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    let data = message(event);
    let mut record = Vec::with_capacity(data.len() + (HEADER_BYTES + FOOTER_BYTES) as usize);
    RecordWriter::new(&mut record)
        .write(&data)
        .expect("writing into a Vec does not fail");
    record
}

/// The bytes of one message.
pub(super) fn message(message: &impl Message) -> Vec<u8> {
    message
        .write_to_bytes()
        .expect("encoding into memory fails only on a missing required field, and proto3 has none")
}

/// What decides whether an event stays in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EventHead {
    pub step: i64,
    /// Whether it is the version that a file begins with.
    pub is_version: bool,
}

impl EventHead {
    // Event: wall_time 1, step 2, file_version 3
    // https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/event.proto
    const STEP: u32 = 2;
    const FILE_VERSION: u32 = 3;

    /// Enough of an event's data for its wall time and its step, each behind a byte that names it.
    const BYTES: u64 = 1 + 8 + 1 + 10;

    /// Read it from the beginning of an event's data; none unless that is a wall time and then a step, as in all events
    /// but the version and those of step 0.
    fn of_beginning(data: &[u8]) -> Option<Self> {
        let (wall_time, step) = data.split_at_checked(9)?;
        let mut input = CodedInputStream::from_bytes(step);
        let begins = wall_time[0] == 0x09 && input.read_raw_byte().ok()? == 0x10;
        let step = begins.then(|| input.read_int64().ok()).flatten()?;
        let is_version = false;
        Some(EventHead { step, is_version })
    }

    /// Read it from an event's data; none if that is no message. The whole event would take a hundred times
    /// the memory of data that is full of empty values.
    fn of(data: &[u8]) -> Option<Self> {
        let mut input = CodedInputStream::from_bytes(data);
        let mut head = EventHead::default();
        while !input.eof().ok()? {
            let (field, wire_type) = input.read_tag_unpack().ok()?;
            if field == Self::STEP && wire_type == WireTypeVarint {
                head.step = input.read_int64().ok()?;
            } else {
                head.is_version |= field == Self::FILE_VERSION;
                input.skip_field(wire_type).ok()?;
            }
        }
        Some(head)
    }
}

/// The events of a file, from its beginning to the first record that TensorBoard could not read.
pub(super) struct EventReader {
    input: BufReader<File>,
    length: u64,
    position: u64,
    /// Whether the record at `position` is there in full and its checksums say that it is not what was written.
    damaged: bool,
    data: Vec<u8>,
}

impl EventReader {
    /// Read `path` as long as it is now.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        Ok(EventReader {
            length: file.metadata()?.len(),
            input: BufReader::new(file),
            position: 0,
            damaged: false,
            data: Vec::new(),
        })
    }

    /// Offset behind the last event read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Size of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the record begins whose checksum was wrong; none at the end of the file, or at a torn record.
    pub fn damaged(&self) -> Option<u64> {
        self.damaged.then_some(self.position)
    }

    /// The next event; none at the end, and none at a torn or damaged record, which ends the file for
    /// both of TensorBoard's readers as well.
    ///
    /// Fails for a record that is too large to be read here, beside I/O errors.
    pub fn read(&mut self) -> io::Result<Option<EventHead>> {
        let Some(length) = self.read_length()? else {
            return Ok(None);
        };
        if length > MAX_DATA {
            return Err(io::Error::other(format!(
                "the record at byte {} has {length} bytes, want at most {MAX_DATA}",
                self.position
            )));
        }
        self.data.resize(length as usize, 0);
        self.input.read_exact(&mut self.data)?;
        if self.read_checksum()? != masked_crc32c(&self.data) {
            self.damaged = true;
            return Ok(None);
        }
        let head = EventHead::of(&self.data);
        if head.is_some() {
            self.position += HEADER_BYTES + length + FOOTER_BYTES;
        }
        Ok(head)
    }

    /// The data of the event that was read last.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Skip the next event by its length, without reading or verifying more of it than its beginning. None, and nothing
    /// is skipped, where that does not tell: then [`EventReader::read`] does.
    pub fn skip(&mut self) -> io::Result<Option<EventHead>> {
        if let Some(length) = self.read_length()? {
            let beginning = length.min(EventHead::BYTES);
            self.data.resize(beginning as usize, 0);
            self.input.read_exact(&mut self.data)?;
            if let Some(head) = EventHead::of_beginning(&self.data) {
                let rest = length - beginning + FOOTER_BYTES;
                self.input.seek_relative(rest as i64)?;
                self.position += HEADER_BYTES + length + FOOTER_BYTES;
                return Ok(Some(head));
            }
        }
        self.input.seek(SeekFrom::Start(self.position))?;
        Ok(None)
    }

    /// The length of the next record's data; none where it is damaged, or longer than the file.
    fn read_length(&mut self) -> io::Result<Option<u64>> {
        let left = self.length - self.position;
        let Some(room) = left.checked_sub(HEADER_BYTES + FOOTER_BYTES) else {
            return Ok(None);
        };
        let mut length = [0; 8];
        self.input.read_exact(&mut length)?;
        if self.read_checksum()? != masked_crc32c(&length) {
            self.damaged = true;
            return Ok(None);
        }
        // Checked against the file before memory is reserved for it.
        Ok(Some(u64::from_le_bytes(length)).filter(|length| *length <= room))
    }

    /// The next event as a whole; none where [`EventReader::read`] has none, and at data that is no event.
    pub fn read_whole(&mut self) -> io::Result<Option<Event>> {
        let head = self.read()?;
        Ok(head.and_then(|_| Event::parse_from_bytes(&self.data).ok()))
    }

    fn read_checksum(&mut self) -> io::Result<u32> {
        let mut crc = [0; 4];
        self.input.read_exact(&mut crc)?;
        Ok(u32::from_le_bytes(crc))
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Graph;
    use super::super::hparams::{self, END_TAG, START_TAG, SessionStatus};
    use super::super::layout::{Category, Chart};
    use super::super::summaries::{Summaries, event};
    use super::super::tag::Tag;
    use super::*;
    use serde_json::json;
    use tensorboard_rs::masked_crc32c::crc32c;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        // Appendix B.4.
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(&descending), 0x113f_db5c);
        // TensorFlow's mask: rotated right by 15, plus a constant.
        assert_eq!(
            masked_crc32c(&[0; 32]),
            0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }

    fn example() -> Vec<Event> {
        let mut version = event(0, 1234567890.5);
        version.set_file_version("brain.Event:2".into());
        let mut step = Summaries::at_time(7, 1234567891.25);
        let loss = Tag::new("total_loss");
        step.scalar(&loss.description("*sum*"), 0.75)
            .histogram(&Tag::new("conv1/weights"), &[-1.0, 0.0, 0.5, 0.5, f32::NAN])
            .text(&Tag::new("spec"), "```yaml\nseed: 1\n```");
        let mut graph = Graph::new();
        graph.node("conv1/weights", "VariableV2", &[], &[5, 5, 3, 64]);
        let mut drawn = event(0, 1234567892.0);
        drawn.set_graph_def(graph.encode());
        let charts = [Chart {
            title: "both",
            tags: &["total_loss", "loss"],
        }];
        let layout = Category {
            title: "loss",
            charts: &charts,
        };
        let mut run = Summaries::at_time(0, 1234567893.0);
        run.pr_curve(&Tag::new("cat"), &[0.2, 0.8], &[false, true], 3)
            .layout(&[layout])
            .session(START_TAG, hparams::start("run", &json!({"seed": 1}), 5.0));
        let mut end = Summaries::at_time(u64::MAX, 1234567894.0);
        end.session(END_TAG, hparams::end(SessionStatus::Success, 6.0));
        let summaries = [step, run, end].map(|summaries| summaries.event().clone());
        [version]
            .into_iter()
            .chain(summaries)
            .chain([drawn])
            .collect()
    }

    fn bytes(events: &[Event]) -> Vec<u8> {
        events.iter().flat_map(encode).collect()
    }

    #[test]
    fn records_have_the_bytes_of_the_frozen_file() {
        // Read back by TensorBoard 2.21 when it was frozen.
        let frozen = include_bytes!("testdata/golden.tfevents");
        let example = bytes(&example());
        let differs = example.iter().zip(frozen).position(|(a, b)| a != b);
        assert_eq!(differs, None, "first byte that differs");
        assert_eq!(example.len(), frozen.len());
    }

    #[test]
    #[ignore = "freezes the format anew"]
    fn freeze() {
        let directory = Path::new(file!()).parent().unwrap().join("testdata");
        std::fs::write(directory.join("golden.tfevents"), bytes(&example())).unwrap();
    }

    #[test]
    fn reading_an_event_of_empty_values_takes_no_more_memory_than_the_file() {
        let values = [0x0a, 0].repeat(500_000);
        let head = [0x2a, 0xc0, 0x84, 0x3d, 0x10, 7]; // the summary of so many bytes, the step
        let data = [&head[..4], &values, &head[4..]].concat();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        RecordWriter::new(&mut file).write(&data).unwrap();
        let mut reader = EventReader::open(file.path()).unwrap();
        let event = crate::testing::heap::within(3 << 20, || reader.read())
            .unwrap()
            .unwrap();
        assert_eq!((event.step, event.is_version), (7, false));
        let whole = Event::parse_from_bytes(&data).unwrap();
        assert_eq!(whole.get_summary().get_value().len(), 500_000);
    }

    #[test]
    fn reading_refuses_a_large_record_before_it_asks_for_memory() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let length = (1_u64 << 40).to_le_bytes();
        let header = [&length[..], &masked_crc32c(&length).to_le_bytes()].concat();
        io::Write::write_all(&mut file, &header).unwrap();
        file.as_file().set_len(2 << 40).unwrap();
        let mut reader = EventReader::open(file.path()).unwrap();
        let error = crate::testing::heap::within(1 << 20, || reader.read()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the record at byte 0 has 1099511627776 bytes, want at most 268435456"
        );
    }

    #[test]
    fn skipped_events_are_those_that_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let steps = [0, 1, 127, 128, 1 << 40, i64::MAX as u64, 0, 5];
        let events =
            steps.map(|step| encode(Summaries::at(step).text(&Tag::new("a"), "b").event()));
        std::fs::write(&path, events.concat()).unwrap();
        let mut skipping = EventReader::open(&path).unwrap();
        let mut reading = EventReader::open(&path).unwrap();
        for step in steps {
            let skipped = skipping.skip().unwrap();
            // The format leaves out a step of 0: what is there instead may be anything.
            assert_eq!(skipped.is_some(), step > 0, "{step}");
            let event = skipped.or_else(|| skipping.read().unwrap());
            assert_eq!(event, reading.read().unwrap());
            assert_eq!(event.unwrap().step, step as i64);
            assert_eq!(skipping.position(), reading.position());
        }
        assert_eq!(skipping.skip().unwrap(), None);
        assert_eq!(skipping.read().unwrap(), None);
    }

    #[test]
    fn reading_ends_before_a_torn_or_damaged_record() {
        let whole = bytes(&example()[..2]);
        let first = 12 + 24 + 4;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let position = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut reader = EventReader::open(&path).unwrap();
            while reader.read().unwrap().is_some() {}
            reader.position() as usize
        };
        assert_eq!(position(&whole), whole.len());
        let empty = [[0; 8].as_slice(), &masked_crc32c(&[0; 8]).to_le_bytes()].concat();
        for torn in 0..=empty.len() {
            let bytes = [&whole, &empty[..torn]].concat();
            assert_eq!(
                position(&bytes),
                whole.len(),
                "an empty one, torn at {torn}"
            );
        }
        for torn in 0..whole.len() {
            let want = if torn < first { 0 } else { first };
            assert_eq!(position(&whole[..torn]), want, "torn at {torn}");
        }
        for at in first..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(position(&damaged), first, "damaged at {at}");
        }
    }
}
