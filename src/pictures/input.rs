//! An image as the network sees it.

use image::{Rgb, RgbImage};

/// In place of values that are not finite.
const BAD: Rgb<u8> = Rgb([255, 0, 0]);

/// `values`, [height, width, 3] and `width` wide, scaled as tf.summary.image scales floats: without
/// negative values the largest becomes 255; with any, 0 becomes 128 and the largest magnitude 1 or 255.
/// Red pixels have values that are not finite.
pub fn input(values: &[f32], width: usize) -> RgbImage {
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

    #[test]
    fn zero_is_grey_among_signed_values_and_black_otherwise() {
        let signed = input(&[0.0, 2.0, -1.0, f32::NAN, 0.0, 0.0], 2);
        assert_eq!(signed.dimensions(), (2, 1));
        assert_eq!(*signed.get_pixel(0, 0), Rgb([128, 255, 64]));
        assert_eq!(*signed.get_pixel(1, 0), BAD);
        assert_eq!(
            *input(&[0.0, 5.0, 10.0], 1).get_pixel(0, 0),
            Rgb([0, 127, 255])
        );
        assert_eq!(*input(&[0.0; 3], 1).get_pixel(0, 0), Rgb([0; 3]));
    }
}
