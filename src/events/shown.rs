//! Pictures and precision-recall curves read back from event files.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use protobuf::wire_format::WireType;
use protobuf::{CodedInputStream, Message, ProtobufResult};
use tensorboard_proto::summary::Summary_Value;

use super::file;
use super::record::EventReader;

/// What every PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Rows of a precision-recall curve's tensor, the last two of which are precision and recall.
const PR_ROWS: usize = 6;

/// What was shown at a step and is no scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A PNG, its sides in pixels.
    Picture {
        width: u32,
        height: u32,
        png: Vec<u8>,
    },
    /// Precision and recall at evenly spaced thresholds from 0 to 1, as many of one as of the other.
    PrCurve {
        precision: Vec<f32>,
        recall: Vec<f32>,
    },
}

/// The pictures and the precision-recall curves of `step` in a directory's event files, by their tags; of several the last.
/// As in TensorBoard a file ends at its first damaged record. None where there is no such directory.
///
/// # Errors
/// The directory or a file in it cannot be read.
pub fn shown(dir: &Path, step: i64) -> Result<BTreeMap<String, Shown>> {
    let mut all = BTreeMap::new();
    if !dir.exists() {
        return Ok(all);
    }
    for path in file::list(dir)? {
        read(&path, step, &mut all)
            .with_context(|| format!("failed to read {}", path.display()))?;
    }
    Ok(all)
}

fn read(path: &Path, step: i64, all: &mut BTreeMap<String, Shown>) -> io::Result<()> {
    let mut reader = EventReader::open(path)?;
    while let Some(head) = reader.read()? {
        if head.step == step {
            // Data whose checksum is right and that is no event is another program's.
            let _ = event(reader.data(), all);
        }
    }
    Ok(())
}

// Event: summary 5; Summary: value 1
// https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/event.proto

/// Adds what an event shows. A value at a time: to parse all of an event may take many times its memory.
fn event(data: &[u8], all: &mut BTreeMap<String, Shown>) -> ProtobufResult<()> {
    let mut input = CodedInputStream::from_bytes(data);
    while !input.eof()? {
        match input.read_tag_unpack()? {
            (5, WireType::WireTypeLengthDelimited) => {
                let length = input.read_raw_varint64()?;
                let event_end = input.push_limit(length)?;
                while !input.eof()? {
                    match input.read_tag_unpack()? {
                        (1, WireType::WireTypeLengthDelimited) => {
                            let value = Summary_Value::parse_from_bytes(&input.read_bytes()?)?;
                            let shown = picture(&value).or_else(|| pr_curve(&value));
                            all.extend(shown.map(|shown| (value.get_tag().to_owned(), shown)));
                        }
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

fn picture(value: &Summary_Value) -> Option<Shown> {
    let image = value.has_image().then(|| value.get_image())?;
    let png = image.get_encoded_image_string();
    png.starts_with(PNG).then_some(Shown::Picture {
        width: u32::try_from(image.get_width()).ok()?,
        height: u32::try_from(image.get_height()).ok()?,
        png: png.to_vec(),
    })
}

fn pr_curve(value: &Summary_Value) -> Option<Shown> {
    let plugin = value.get_metadata().get_plugin_data().get_plugin_name();
    if plugin != "pr_curves" {
        return None;
    }
    let rows = value.get_tensor().get_float_val();
    let thresholds = rows.len() / PR_ROWS;
    if thresholds < 2 || thresholds * PR_ROWS != rows.len() {
        return None;
    }
    let row = |index: usize| rows[index * thresholds..(index + 1) * thresholds].to_vec();
    Some(Shown::PrCurve {
        precision: row(PR_ROWS - 2),
        recall: row(PR_ROWS - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{EventWriter, Summaries, Tag};
    use super::*;
    use image::{Rgb, RgbImage};

    #[test]
    fn shown_are_the_pictures_and_pr_curves_of_the_step_and_of_two_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let (matrix, cat) = (Tag::new("matrix"), Tag::new("pr/cat"));
        for (step, side) in [(10, 1), (20, 2), (20, 3), (30, 4)] {
            let events = EventWriter::open(dir.path()).unwrap();
            let mut summaries = Summaries::at(step);
            summaries
                .scalar(&Tag::new("loss"), 1.0)
                .image(&matrix, &RgbImage::from_pixel(side, 1, Rgb([9; 3])))
                .pr_curve(&cat, &[0.2, 0.8], &[false, true], 3);
            events.write(&summaries);
        }
        let all = shown(dir.path(), 20).unwrap();
        assert_eq!(Vec::from_iter(all.keys()), ["matrix", "pr/cat"]);
        let Shown::Picture { width, png, .. } = &all["matrix"] else {
            panic!("{all:?}")
        };
        let decoded = image::load_from_memory(png).unwrap().to_rgb8();
        assert_eq!((*width, decoded.dimensions()), (3, (3, 1)));
        let want = Shown::PrCurve {
            precision: vec![0.5, 1.0, 0.0],
            recall: vec![1.0, 1.0, 0.0],
        };
        assert_eq!(all["pr/cat"], want);
        assert!(shown(dir.path(), 25).unwrap().is_empty());
        assert!(shown(&dir.path().join("none"), 20).unwrap().is_empty());
    }
}
