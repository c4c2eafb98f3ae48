//! The values of the summaries in event files, one after the other.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use protobuf::wire_format::WireType;
use protobuf::{CodedInputStream, ProtobufResult};

use super::file;
use super::record::EventReader;

/// What all values of an event have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub step: i64,
    /// In seconds since 1970.
    pub wall_time: f64,
}

/// Calls `read` at each value of the summaries in a directory's event files, in the order of the files: it reads the value, a
/// message with its length before it, or skips it. To parse all of an event may take many times its memory. As in TensorBoard
/// a file ends at its first damaged record. None where there is no such directory.
///
/// # Errors
/// The directory or a file in it cannot be read.
pub(super) fn each_value(
    dir: &Path,
    mut read: impl FnMut(&mut CodedInputStream, Moment) -> ProtobufResult<()>,
) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for path in file::list(dir)? {
        of_file(&path, &mut read).with_context(|| format!("failed to read {}", path.display()))?;
    }
    Ok(())
}

fn of_file(
    path: &Path,
    read: &mut impl FnMut(&mut CodedInputStream, Moment) -> ProtobufResult<()>,
) -> io::Result<()> {
    let mut reader = EventReader::open(path)?;
    while let Some(head) = reader.read()? {
        // Data whose checksum is right and that is no event is another program's: it has no values.
        let _ = of_event(reader.data(), head.step, read);
    }
    Ok(())
}

// Event: wall_time 1, step 2, summary 5; Summary: value 1
// https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/event.proto

fn of_event(
    data: &[u8],
    step: i64,
    read: &mut impl FnMut(&mut CodedInputStream, Moment) -> ProtobufResult<()>,
) -> ProtobufResult<()> {
    let mut input = CodedInputStream::from_bytes(data);
    let mut moment = Moment {
        step,
        wall_time: 0.0,
    };
    while !input.eof()? {
        match input.read_tag_unpack()? {
            (1, WireType::WireTypeFixed64) => moment.wall_time = input.read_double()?,
            (5, WireType::WireTypeLengthDelimited) => {
                let length = input.read_raw_varint64()?;
                let event_end = input.push_limit(length)?;
                while !input.eof()? {
                    match input.read_tag_unpack()? {
                        (1, WireType::WireTypeLengthDelimited) => read(&mut input, moment)?,
                        (_, other) => input.skip_field(other)?,
                    }
                }
                input.pop_limit(event_end);
            }
            (_, other) => input.skip_field(other)?,
        }
    }
    Ok(())
}
