//! Lines of text as images.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;

/// Height of a line in pixels.
pub(super) const HEIGHT: u32 = SIZE.val() as u32;

/// Width of `text` in pixels.
pub(super) fn width(text: &str) -> u32 {
    (text.chars().count() * get_raster_width(WEIGHT, SIZE)) as u32
}

/// `text` in `ink` on `paper`, [`width`] by [`HEIGHT`] pixels. Letters beyond ASCII become `?`.
pub(super) fn line(text: &str, ink: Rgb<u8>, paper: Rgb<u8>) -> RgbImage {
    let mut image = RgbImage::from_pixel(width(text), HEIGHT, paper);
    for (at, letter) in text.chars().enumerate() {
        let raster = get_raster(letter, WEIGHT, SIZE).or_else(|| get_raster('?', WEIGHT, SIZE));
        let Some(raster) = raster else { continue };
        let left = at * raster.width();
        for (y, row) in raster.rows().enumerate() {
            for (x, &cover) in row.iter().enumerate() {
                let colour = mix(paper, ink, f64::from(cover) / 255.0);
                image.put_pixel((left + x) as u32, y as u32, colour);
            }
        }
    }
    image
}

/// The colour `share` (0 to 1) of the way from one to another.
pub(super) fn mix(from: Rgb<u8>, to: Rgb<u8>, share: f64) -> Rgb<u8> {
    Rgb(std::array::from_fn(|c| {
        let (from, to) = (f64::from(from[c]), f64::from(to[c]));
        (from + share * (to - from)).round() as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{BLACK, WHITE};
    use super::*;

    /// Whether a pixel of column `x` is more ink than paper.
    fn inked(image: &RgbImage, x: u32) -> bool {
        (0..HEIGHT).any(|y| image.get_pixel(x, y)[0] < 128)
    }

    #[test]
    fn letters_stand_side_by_side() {
        let one = width("l");
        let text = line("l l", BLACK, WHITE);
        assert_eq!(text.dimensions(), (3 * one, 16));
        let stem = (0..one).find(|&x| inked(&text, x)).unwrap();
        assert!((one..2 * one).all(|x| !inked(&text, x)), "a blank");
        assert!(inked(&text, 2 * one + stem));
    }

    #[test]
    fn unknown_letters_show_and_nothing_is_empty() {
        assert_eq!(line("é", BLACK, WHITE), line("?", BLACK, WHITE));
        assert_eq!(line("", BLACK, WHITE).dimensions(), (0, 16));
    }

    #[test]
    fn colours_mix_in_proportion() {
        let (a, b) = (Rgb([0, 100, 255]), Rgb([255, 200, 255]));
        assert_eq!(mix(a, b, 0.0), a);
        assert_eq!(mix(a, b, 0.5), Rgb([128, 150, 255]));
        assert_eq!(mix(a, b, 1.0), b);
    }
}
