//! An image as the network sees it, over the name of its class.

use super::{BLACK, ClassLabels, WHITE, centre, text};
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};

/// Side of a value's square, in pixels of the picture: then the names of CIFAR-10's classes are not wider than an image of
/// 24 by 24.
const MAGNIFIED: u32 = 4;
/// Between image and name.
const LEADING: u32 = 2;

/// In place of values that are not finite.
const BAD: Rgb<u8> = Rgb([255, 0, 0]);

/// [`scaled`] and magnified four times over the label of class `class`.
///
/// # Panics
/// Where there is no such class.
pub fn input(values: &[f32], width: usize, class: usize, labels: &ClassLabels) -> RgbImage {
    let image = scaled(values, width);
    let (width, height) = (MAGNIFIED * image.width(), MAGNIFIED * image.height());
    let image = resize(&image, width, height, FilterType::Nearest);
    let name = labels.font.line(&labels.texts()[class], BLACK, WHITE);
    let (across, down) = (width.max(name.width()), height + LEADING + text::HEIGHT);
    let mut picture = RgbImage::from_pixel(across, down, WHITE);
    centre(&mut picture, &image, across / 2, height / 2);
    centre(&mut picture, &name, across / 2, down - text::HEIGHT / 2);
    picture
}

/// `values`, [height, width, 3] and `width` wide, scaled as tf.summary.image scales floats: without
/// negative values the largest becomes 255; with any, 0 becomes 128 and the largest magnitude 1 or 255.
/// Red pixels have values that are not finite.
fn scaled(values: &[f32], width: usize) -> RgbImage {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let largest = finite().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let (middle, reach) = if finite().any(|value| value < 0.0) {
        (128.0, 127.0)
    } else {
        (0.0, 255.0)
    };
    let scale = if largest < 1e-6 { 0.0 } else { reach / largest };
    let byte = |value: f32| (middle + value * scale) as u8; // the cast saturates
    let height = values.len() / (3 * width.max(1));
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = 3 * (y as usize * width + x as usize);
        let pixel = [values[at], values[at + 1], values[at + 2]];
        if pixel.iter().all(|value| value.is_finite()) {
            Rgb(pixel.map(byte))
        } else {
            BAD
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GenericImageView;

    #[test]
    fn input_is_magnified_over_the_name_of_its_class() {
        let labels = ClassLabels::new(&["cat", "automobile"].map(String::from));
        let picture = input(&[1.0; 24 * 24 * 3], 24, 1, &labels);
        assert_eq!(picture.dimensions(), (96, 96 + 2 + 16));
        assert_eq!(picture.get_pixel(95, 95), &Rgb([255; 3]));
        let name = picture.view(0, 98, 96, 16).to_image();
        assert!(name.pixels().any(|pixel| *pixel == BLACK));
        // A name that is wider than the image makes room for itself.
        let small = input(&[0.0; 2 * 2 * 3], 2, 1, &labels);
        assert_eq!(small.width(), 10 * 7);
    }

    #[test]
    fn zero_is_grey_among_signed_values_and_black_otherwise() {
        let signed = scaled(&[0.0, 2.0, -1.0, f32::NAN, 0.0, 0.0], 2);
        assert_eq!(signed.dimensions(), (2, 1));
        assert_eq!(*signed.get_pixel(0, 0), Rgb([128, 255, 64]));
        assert_eq!(*signed.get_pixel(1, 0), BAD);
        assert_eq!(
            *scaled(&[0.0, 5.0, 10.0], 1).get_pixel(0, 0),
            Rgb([0, 127, 255])
        );
        assert_eq!(*scaled(&[0.0; 3], 1).get_pixel(0, 0), Rgb([0; 3]));
    }
}
