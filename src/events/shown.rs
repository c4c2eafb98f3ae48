//! Pictures and precision-recall curves read back from event files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use protobuf::Message;
use protobuf::wire_format::WireType;
use tensorboard_proto::summary::Summary_Value;

use super::pr_curve::{PLUGIN, ROWS};
use super::values::each_value;

/// What every PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

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
    each_value(dir, |input, moment| {
        if moment.step != step {
            return input.skip_field(WireType::WireTypeLengthDelimited);
        }
        let value = Summary_Value::parse_from_bytes(&input.read_bytes()?)?;
        let shown = picture(&value).or_else(|| pr_curve(&value));
        all.extend(shown.map(|shown| (value.get_tag().to_owned(), shown)));
        Ok(())
    })?;
    Ok(all)
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
    if plugin != PLUGIN {
        return None;
    }
    let rows = value.get_tensor().get_float_val();
    let thresholds = rows.len() / ROWS;
    if thresholds < 2 || thresholds * ROWS != rows.len() {
        return None;
    }
    let row = |index: usize| rows[index * thresholds..(index + 1) * thresholds].to_vec();
    // The last two.
    Some(Shown::PrCurve {
        precision: row(ROWS - 2),
        recall: row(ROWS - 1),
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
