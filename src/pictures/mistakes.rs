//! Images that the network takes for something else, with what it takes them for.

use super::{BLACK, ClassLabels, WHITE, centre, text, tile};
use crate::data::SIDE;
use image::{Rgb, RgbImage};

/// Side of a stored image's pixel, in pixels of the picture: then the longest caption of CIFAR-10's
/// classes is not wider than the image.
const MAGNIFIED: usize = 5;
const COLUMNS: usize = 4;
const GAP: u32 = 6;
/// Between image and caption.
const LEADING: u32 = 2;

/// An image and what is written below it.
#[derive(Clone, Copy, Debug)]
pub struct MistakenImage<'a> {
    /// [3, 32, 32] bytes, as stored in the set.
    pub pixels: &'a [u8],
    /// The true class.
    pub label: usize,
    /// The predicted class.
    pub predicted: usize,
    /// Of the predicted class, 0 to 1.
    pub probability: f64,
}

/// `images` in rows of four, each magnified five times over the lines `label -> predicted` and the
/// probability in percent; without images `none`.
///
/// # Panics
/// Where an image has fewer pixels, or a class no label.
pub fn mistakes(images: &[MistakenImage], labels: &ClassLabels) -> RgbImage {
    let cells: Vec<RgbImage> = images.iter().map(|image| draw(image, labels)).collect();
    if cells.is_empty() {
        return tile(&[labels.font.line("none", BLACK, WHITE)], 1, GAP, WHITE);
    }
    tile(&cells, COLUMNS, GAP, WHITE)
}

fn draw(image: &MistakenImage, labels: &ClassLabels) -> RgbImage {
    let (font, texts) = (&labels.font, labels.texts());
    let side = (SIDE * MAGNIFIED) as u32;
    let lines = [
        format!("{} -> {}", texts[image.label], texts[image.predicted]),
        format!("{:.1} %", 100.0 * image.probability),
    ];
    let widths = lines.iter().map(|line| font.width(line));
    let width = widths.fold(side, u32::max);
    let height = side + LEADING + lines.len() as u32 * text::HEIGHT;
    let mut cell = RgbImage::from_pixel(width, height, WHITE);
    centre(&mut cell, &magnify(image.pixels), width / 2, side / 2);
    for (line, y) in lines
        .iter()
        .zip((side + LEADING..).step_by(text::HEIGHT as usize))
    {
        let line = font.line(line, BLACK, WHITE);
        centre(&mut cell, &line, width / 2, y + text::HEIGHT / 2);
    }
    cell
}

/// [3, 32, 32] bytes, each pixel a square of [`MAGNIFIED`].
fn magnify(planes: &[u8]) -> RgbImage {
    let side = (SIDE * MAGNIFIED) as u32;
    RgbImage::from_fn(side, side, |x, y| {
        let (x, y) = (x as usize / MAGNIFIED, y as usize / MAGNIFIED);
        Rgb([0, 1, 2].map(|channel| planes[(channel * SIDE + y) * SIDE + x]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GenericImageView;

    fn labels() -> ClassLabels {
        let long = "a name that is longer than any image";
        ClassLabels::new(&["automobile", "airplane", long].map(String::from))
    }

    fn mistaken(pixels: &[u8]) -> MistakenImage<'_> {
        MistakenImage {
            pixels,
            label: 0,
            predicted: 1,
            probability: 0.973,
        }
    }

    #[test]
    fn planes_become_magnified_pixels() {
        let mut planes = vec![0; 3 * SIDE * SIDE];
        planes[1] = 10; // red of column 1 of row 0
        planes[SIDE * SIDE + SIDE] = 20; // green of column 0 of row 1
        planes[3 * SIDE * SIDE - 1] = 30; // blue of the last
        let image = magnify(&planes);
        assert_eq!(image.dimensions(), (160, 160));
        for (x, y, pixel) in image.enumerate_pixels() {
            let want = match (x / 5, y / 5) {
                (1, 0) => [10, 0, 0],
                (0, 1) => [0, 20, 0],
                (31, 31) => [0, 0, 30],
                _ => [0; 3],
            };
            assert_eq!(pixel.0, want, "({x}, {y})");
        }
    }

    #[test]
    fn mistakes_lie_four_in_a_row_with_captions_below() {
        let planes = vec![77; 3 * SIDE * SIDE];
        let picture = mistakes(&[mistaken(&planes); 16], &labels());
        let (across, down) = (160 + 6, 160 + 2 + 32 + 6);
        assert_eq!(picture.dimensions(), (6 + 4 * across, 6 + 4 * down));
        for at in 0..16 {
            let (x, y) = (6 + at % 4 * across, 6 + at / 4 * down);
            for (x, y) in [(x, y), (x + 159, y + 159)] {
                assert_eq!(picture.get_pixel(x, y), &Rgb([77; 3]));
            }
            for top in [y + 162, y + 178] {
                let line = picture.view(x, top, 160, text::HEIGHT);
                assert!(line.pixels().any(|(.., pixel)| pixel != WHITE));
            }
        }
    }

    #[test]
    fn mistakes_of_any_number_and_with_long_names_can_be_drawn() {
        let none = mistakes(&[], &labels());
        assert_eq!(none.dimensions(), (6 + 28 + 6, 6 + 16 + 6));
        let planes = vec![0; 3 * SIDE * SIDE];
        let long = MistakenImage {
            label: 2,
            probability: f64::NAN,
            ..mistaken(&planes)
        };
        let picture = mistakes(&[mistaken(&planes), long], &labels());
        let widest =
            text::Font::default().width("a name that is longer than any image -> airplane");
        assert_eq!(picture.width(), 6 + 4 * (widest + 6));
        assert_eq!(picture.height(), 6 + 194 + 6);
    }
}
