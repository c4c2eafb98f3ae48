//! Curves read back from event files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use protobuf::wire_format::WireType;
use protobuf::{CodedInputStream, ProtobufResult};

use super::values::{Moment, each_value};

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The step that it stands at.
    pub step: i64,
    /// When it was written, in seconds since 1970.
    pub wall_time: f64,
    /// Its value, which may be NaN or infinite.
    pub value: f32,
}

/// A curve: its points in the order of their steps.
pub type Curve = Vec<Point>;

/// The scalars in a directory's event files by their tags. As in TensorBoard a file ends at its first damaged record, and a
/// point takes back those of its own and later steps that were written before it. None where there is no such directory.
///
/// # Errors
/// The directory or a file in it cannot be read.
pub fn scalars(dir: &Path) -> Result<BTreeMap<String, Curve>> {
    let mut curves: BTreeMap<String, Curve> = BTreeMap::new();
    each_value(dir, |input, Moment { step, wall_time }| {
        let Some((tag, value)) = scalar(input)? else {
            return Ok(());
        };
        let point = Point {
            step,
            wall_time,
            value,
        };
        match curves.get_mut(&tag) {
            Some(curve) => {
                let kept = curve.partition_point(|earlier| earlier.step < point.step);
                curve.truncate(kept);
                curve.push(point);
            }
            None => drop(curves.insert(tag, vec![point])),
        }
        Ok(())
    })?;
    Ok(curves)
}

// Value: tag 1, simple_value 2
// https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/summary.proto

/// The tag and the number of a value of a summary, if it is a scalar. Histograms and pictures are skipped by their lengths.
fn scalar(input: &mut CodedInputStream) -> ProtobufResult<Option<(String, f32)>> {
    let length = input.read_raw_varint64()?;
    let end = input.push_limit(length)?;
    let (mut tag, mut scalar) = (String::new(), None);
    while !input.eof()? {
        match input.read_tag_unpack()? {
            (1, WireType::WireTypeLengthDelimited) => input.read_string_into(&mut tag)?,
            (2, WireType::WireTypeFixed32) => scalar = Some(input.read_float()?),
            (_, other) => input.skip_field(other)?,
        }
    }
    input.pop_limit(end);
    Ok(scalar.map(|scalar| (tag, scalar)))
}

#[cfg(test)]
mod tests {
    use super::super::{EventWriter, Summaries, Tag, file};
    use super::*;
    use std::fs;

    fn write(dir: &Path, tag: &str, points: &[(u64, f64)]) {
        let events = EventWriter::open(dir).unwrap();
        for &(step, value) in points {
            let histogram = Tag::new("weights");
            let mut summaries = Summaries::at(step);
            summaries.scalar(&Tag::new(tag), value);
            events.write(summaries.histogram(&histogram, &[1.0, 2.0]));
        }
    }

    fn points(dir: &Path, tag: &str) -> Vec<(i64, f32)> {
        let curves = scalars(dir).unwrap();
        let curve = curves.get(tag).into_iter().flatten();
        curve.map(|point| (point.step, point.value)).collect()
    }

    #[test]
    fn scalars_are_the_points_of_all_files_without_histograms() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "loss", &[(0, 3.0), (10, 2.0)]);
        write(dir.path(), "loss", &[(20, f64::INFINITY)]);
        write(dir.path(), "rate", &[(20, 0.5)]);
        assert_eq!(
            points(dir.path(), "loss"),
            [(0, 3.0), (10, 2.0), (20, f32::INFINITY)]
        );
        let curves = scalars(dir.path()).unwrap();
        assert_eq!(Vec::from_iter(curves.keys()), ["loss", "rate"]);
        assert!(curves["rate"][0].wall_time > 1e9);
        assert!(scalars(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn scalars_of_a_step_that_was_trained_again_are_the_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "loss", &[(0, 3.0), (10, 2.0), (20, 1.0)]);
        write(dir.path(), "loss", &[(10, 2.5)]);
        assert_eq!(points(dir.path(), "loss"), [(0, 3.0), (10, 2.5)]);
    }

    #[test]
    fn scalars_of_a_damaged_file_end_at_the_damage() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "loss", &[(0, 3.0), (10, 2.0)]);
        let path = &file::list(dir.path()).unwrap()[0];
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
        assert_eq!(points(dir.path(), "loss"), [(0, 3.0)]);
    }
}
