//! Pictures for TensorBoard's Images tab: inputs, filters, the confusion matrix, mistakes.
//!
//! All are drawn to be read at their actual size, one pixel to one.

mod confusion;
mod filters;
mod input;
mod labels;
mod mistakes;
mod system_font;
mod text;

pub use confusion::confusion;
pub use filters::filters;
pub use input::input;
pub use labels::ClassLabels;
pub use mistakes::{MistakenImage, mistakes};

use image::imageops::replace;
use image::{Rgb, RgbImage};

const BLACK: Rgb<u8> = Rgb([0; 3]);
const WHITE: Rgb<u8> = Rgb([255; 3]);

/// `images` row by row in a grid of `columns`, each at the top left of a cell that fits the largest, with
/// lines of `gap` pixels in `background`, at least one, around and between them.
fn tile(images: &[RgbImage], columns: usize, gap: u32, background: Rgb<u8>) -> RgbImage {
    let columns = columns.max(1);
    let pitch = |side: fn(&RgbImage) -> u32| images.iter().map(side).max().unwrap_or(0) + gap;
    let (across, down) = (pitch(RgbImage::width), pitch(RgbImage::height));
    let size = |cells: usize, pitch: u32| cells as u32 * pitch + gap;
    let mut picture = RgbImage::from_pixel(
        size(columns, across),
        size(images.len().div_ceil(columns), down),
        background,
    );
    for (i, image) in images.iter().enumerate() {
        let x = size(i % columns, across);
        let y = size(i / columns, down);
        replace(&mut picture, image, x.into(), y.into());
    }
    picture
}

/// Puts `image` into `picture` with its middle at (`x`, `y`).
fn centre(picture: &mut RgbImage, image: &RgbImage, x: u32, y: u32) {
    let corner = |middle: u32, side: u32| i64::from(middle) - i64::from(side / 2);
    let (x, y) = (corner(x, image.width()), corner(y, image.height()));
    replace(picture, image, x, y);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Rgb<u8> = Rgb([255, 0, 0]);

    #[test]
    fn tiles_lie_row_by_row_in_cells_of_the_largest() {
        let images = [(1, 2), (3, 1), (2, 2)].map(|(w, h)| RgbImage::from_pixel(w, h, RED));
        let picture = tile(&images, 2, 1, WHITE);
        assert_eq!(picture.dimensions(), (1 + 4 + 4, 1 + 3 + 3));
        let rows: Vec<String> = picture
            .rows()
            .map(|row| row.map(|p| if *p == RED { '#' } else { '.' }).collect())
            .collect();
        let want = [
            ".........",
            ".#...###.",
            ".#.......",
            ".........",
            ".##......",
            ".##......",
            ".........",
        ];
        assert_eq!(rows, want);
    }

    #[test]
    fn tile_of_no_images_is_a_picture() {
        assert_eq!(tile(&[], 4, 2, WHITE).dimensions(), (10, 2));
        assert_eq!(tile(&[], 0, 2, WHITE).dimensions(), (4, 2));
    }

    #[test]
    fn centred_image_lies_around_its_middle() {
        let mut picture = RgbImage::from_pixel(5, 5, WHITE);
        centre(&mut picture, &RgbImage::from_pixel(3, 1, RED), 2, 4);
        let red = picture.enumerate_pixels().filter(|(.., p)| **p == RED);
        let red: Vec<_> = red.map(|(x, y, _)| (x, y)).collect();
        assert_eq!(red, [(1, 4), (2, 4), (3, 4)]);
    }
}
