//! Lines of text as images.

use super::system_font::SystemFont;
use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{
    FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width,
};
use std::collections::BTreeSet;

const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;

/// Height of a line in pixels.
pub(super) const HEIGHT: u32 = SIZE.val() as u32;

/// What letters are drawn with: the built-in font (western and central European letters), and for others a font of the
/// system.
#[derive(Default)]
pub(super) struct Font {
    system: Option<SystemFont>,
}

impl Font {
    /// A font that has all letters of `texts`, if there is one.
    pub fn covering(texts: &[String]) -> Option<Self> {
        let letters = texts.iter().flat_map(|text| text.chars());
        let others: BTreeSet<char> = letters
            .filter(|&letter| built_in(letter).is_none())
            .collect();
        if others.is_empty() {
            return Some(Font::default());
        }
        let system = Some(SystemFont::covering(&others)?);
        Some(Font { system })
    }

    /// Width of `text` in pixels.
    pub fn width(&self, text: &str) -> u32 {
        let width = |letter| match &self.system {
            Some(system) if built_in(letter).is_none() => system.width(letter),
            _ => get_raster_width(WEIGHT, SIZE) as u32,
        };
        text.chars().map(width).sum()
    }

    /// `text` in `ink` on `paper`, [`Font::width`] by [`HEIGHT`] pixels. Letters that the font lacks become `?`.
    pub fn line(&self, text: &str, ink: Rgb<u8>, paper: Rgb<u8>) -> RgbImage {
        let mut image = RgbImage::from_pixel(self.width(text), HEIGHT, paper);
        let mut left = 0;
        for letter in text.chars() {
            let mut put = |x: u32, y: u32, cover: f64| {
                image.put_pixel(left + x, y, mix(paper, ink, cover));
            };
            match (built_in(letter), &self.system) {
                (None, Some(system)) => {
                    system.draw(letter, |x, y, cover| put(x, y, f64::from(cover)));
                    left += system.width(letter);
                }
                (raster, _) => {
                    let Some(raster) = raster.or_else(|| built_in('?')) else {
                        continue;
                    };
                    for (y, row) in raster.rows().enumerate() {
                        for (x, &cover) in row.iter().enumerate() {
                            put(x as u32, y as u32, f64::from(cover) / 255.0);
                        }
                    }
                    left += raster.width() as u32;
                }
            }
        }
        image
    }
}

fn built_in(letter: char) -> Option<RasterizedChar> {
    get_raster(letter, WEIGHT, SIZE)
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
    use super::super::system_font::test_font;
    use super::super::{BLACK, WHITE};
    use super::*;

    /// Whether a pixel of column `x` is more ink than paper.
    fn inked(image: &RgbImage, x: u32) -> bool {
        (0..HEIGHT).any(|y| image.get_pixel(x, y)[0] < 128)
    }

    #[test]
    fn letters_stand_side_by_side() {
        let font = Font::default();
        let one = font.width("l");
        let text = font.line("l l", BLACK, WHITE);
        assert_eq!(text.dimensions(), (3 * one, 16));
        let stem = (0..one).find(|&x| inked(&text, x)).unwrap();
        assert!((one..2 * one).all(|x| !inked(&text, x)), "a blank");
        assert!(inked(&text, 2 * one + stem));
        assert_eq!(font.line("", BLACK, WHITE).dimensions(), (0, 16));
    }

    #[test]
    fn built_in_font_has_european_letters_and_shows_that_others_are_missing() {
        let names = ["avión", "perro", "Łódź", "Größe"].map(String::from);
        let font = Font::covering(&names).unwrap();
        assert!(font.system.is_none());
        let line = |text| font.line(text, BLACK, WHITE);
        assert_ne!(line("é"), line("e"));
        assert_ne!(line("é"), line("?"));
        assert_eq!(line("飞"), line("?"));
    }

    #[test]
    fn letters_of_both_fonts_stand_in_one_line() {
        let font = Font {
            system: Some(test_font()),
        };
        let text = font.line("l飞l", BLACK, WHITE);
        let one = font.width("l");
        assert_eq!(text.dimensions(), (one + 14 + one, 16));
        let l = font.line("l", BLACK, WHITE);
        for x in [0, one + 14] {
            let part = image::imageops::crop_imm(&text, x, 0, one, HEIGHT);
            assert_eq!(part.to_image(), l);
        }
        // A square of 10 pixels, two from the left and two above the baseline.
        let square = |x: u32, y: u32| (one + 2..one + 12).contains(&x) && (1..11).contains(&y);
        for y in 0..HEIGHT {
            for x in one..one + 14 {
                let want = if square(x, y) { BLACK } else { WHITE };
                assert_eq!(text.get_pixel(x, y), &want, "({x}, {y})");
            }
        }
    }

    #[test]
    fn colours_mix_in_proportion() {
        let (a, b) = (Rgb([0, 100, 255]), Rgb([255, 200, 255]));
        assert_eq!(mix(a, b, 0.0), a);
        assert_eq!(mix(a, b, 0.5), Rgb([128, 150, 255]));
        assert_eq!(mix(a, b, 1.0), b);
    }
}
