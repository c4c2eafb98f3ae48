//! A convolution's filters as a grid of small images.

use super::{BLACK, WHITE, tile};
use image::{Rgb, RgbImage};

/// Side of a weight, in pixels.
const MAGNIFIED: u32 = 8;
const GAP: u32 = 2;
/// What is no number is chequered in this colour and black, in squares that no weight is as small as.
const NONFINITE: Rgb<u8> = Rgb([255, 0, 255]);
const CHEQUER: u32 = MAGNIFIED / 2;

/// The filters `weights` of a first layer, `shape` = [filters, input channels, height, width], as a square
/// grid in reading order.
///
/// One scale for all of them: grey 127.5 is 0, 0 and 255 are minus and plus the largest finite magnitude in
/// `weights`, so a colour is the same value in every filter. Three input channels are red, green and blue;
/// of another number the mean is shown in grey. A weight with a NaN or infinite value among its channels
/// is chequered in magenta and black.
pub fn filters(weights: &[f32], shape: [usize; 4]) -> RgbImage {
    let [_, channels, height, width] = shape;
    let finite = weights.iter().copied().filter(|weight| weight.is_finite());
    let largest = finite.fold(0.0, |largest: f32, weight| largest.max(weight.abs()));
    let filters = weights.chunks_exact((channels * height * width).max(1));
    let images: Vec<RgbImage> = filters
        .map(|filter| draw(filter, [channels, height, width], largest))
        .collect();
    let columns = images.len().isqrt();
    let columns = columns + usize::from(columns * columns < images.len());
    tile(&images, columns, GAP, WHITE)
}

/// One filter, [channels, height, width].
fn draw(filter: &[f32], [channels, height, width]: [usize; 3], largest: f32) -> RgbImage {
    let colour = |x: usize, y: usize| {
        let weight = |channel: usize| f64::from(filter[(channel * height + y) * width + x]);
        if channels == 3 {
            let [red, green, blue] = [0, 1, 2].map(|channel| shade(weight(channel), largest));
            Some(Rgb([red?, green?, blue?]))
        } else {
            let mean = (0..channels).map(weight).sum::<f64>() / channels as f64;
            Some(Rgb([shade(mean, largest)?; 3]))
        }
    };
    let side = |weights: usize| weights as u32 * MAGNIFIED;
    RgbImage::from_fn(side(width), side(height), |x, y| {
        let even = (x / CHEQUER + y / CHEQUER).is_multiple_of(2);
        let chequer = if even { NONFINITE } else { BLACK };
        colour((x / MAGNIFIED) as usize, (y / MAGNIFIED) as usize).unwrap_or(chequer)
    })
}

/// 0 to 255 for -`largest` to `largest`; `None` for what is no number.
fn shade(weight: f64, largest: f32) -> Option<u8> {
    let scale = match largest {
        0.0 => 0.0, // every finite weight is 0
        _ => 127.5 / f64::from(largest),
    };
    let shade = || (127.5 + scale * weight).round() as u8;
    weight.is_finite().then(shade)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixel in the middle of weight (`x`, `y`) of the filter at the top left.
    fn middle(picture: &RgbImage, x: u32, y: u32) -> [u8; 3] {
        let at = |weight: u32| GAP + weight * MAGNIFIED + MAGNIFIED / 2;
        picture.get_pixel(at(x), at(y)).0
    }

    #[test]
    fn filter_has_a_pixel_for_each_weight() {
        // [1, 3, 1, 2]: red, green, blue of the left and the right weight
        let picture = filters(&[1.0, -0.5, 0.0, 0.5, -1.0, 0.0], [1, 3, 1, 2]);
        assert_eq!(picture.dimensions(), (2 + 16 + 2, 2 + 8 + 2));
        assert_eq!(middle(&picture, 0, 0), [255, 128, 0]);
        assert_eq!(middle(&picture, 1, 0), [64, 191, 128]);
        assert_eq!(
            picture.get_pixel(GAP + 7, GAP),
            &Rgb([255, 128, 0]),
            "its corner"
        );
        assert_eq!(picture.get_pixel(GAP - 1, GAP), &WHITE, "a line");
    }

    #[test]
    fn filters_share_one_scale_in_a_square_grid() {
        // five filters of 1 x 1, each of three equal channels
        let weights: Vec<f32> = (0..15).map(|i| (i / 3) as f32 - 1.0).collect();
        let picture = filters(&weights, [5, 3, 1, 1]);
        assert_eq!(picture.dimensions(), (2 + 3 * 10, 2 + 2 * 10));
        let greys: Vec<u8> = (0..5)
            .map(|i| picture.get_pixel(6 + i % 3 * 10, 6 + i / 3 * 10)[0])
            .collect();
        assert_eq!(greys, [85, 128, 170, 213, 255]);
        assert_eq!(picture.get_pixel(26, 16), &WHITE, "no sixth filter");
        assert_eq!(
            filters(&[0.0; 64 * 75], [64, 3, 5, 5]).dimensions(),
            (338, 338)
        );
    }

    #[test]
    fn filters_without_three_channels_are_the_mean_of_theirs() {
        let picture = filters(&[1.0, 0.0, -1.0, 0.0], [1, 2, 1, 2]);
        assert_eq!(middle(&picture, 0, 0), [128; 3]);
        let picture = filters(&[-1.0, -0.5], [1, 1, 1, 2]);
        assert_eq!(middle(&picture, 0, 0), [0; 3]);
        assert_eq!(middle(&picture, 1, 0), [64; 3]);
    }

    #[test]
    fn values_that_are_not_finite_are_chequered_and_leave_the_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let picture = filters(&[bad, -1.0, 0.0, 1.0, 0.0, 0.0], [1, 3, 1, 2]);
            let chequers = [(2, 2), (6, 2), (2, 6)].map(|(x, y)| *picture.get_pixel(x, y));
            assert_eq!(chequers, [NONFINITE, BLACK, BLACK]);
            assert_eq!(middle(&picture, 1, 0), [0, 255, 128]);
            let grey = filters(&[bad, 1.0], [1, 2, 1, 1]);
            assert_eq!(grey.get_pixel(2, 2), &NONFINITE);
        }
        let picture = filters(&[f32::NAN; 3], [1, 3, 1, 1]);
        assert_eq!(picture.get_pixel(2, 2), &NONFINITE);
    }

    #[test]
    fn zero_weights_are_grey_and_extreme_ones_keep_their_order() {
        assert_eq!(middle(&filters(&[0.0; 3], [1, 3, 1, 1]), 0, 0), [128; 3]);
        let picture = filters(&[f32::MAX, f32::MIN, 0.0], [1, 3, 1, 1]);
        assert_eq!(middle(&picture, 0, 0), [255, 0, 128]);
        let picture = filters(&[f32::MAX; 4], [1, 4, 1, 1]);
        assert_eq!(
            middle(&picture, 0, 0),
            [255; 3],
            "the sum does not overflow"
        );
    }

    #[test]
    fn filters_of_empty_shapes_are_a_picture() {
        for shape in [[0, 3, 5, 5], [1, 0, 5, 5], [1, 3, 0, 5], [1, 3, 5, 0]] {
            let picture = filters(&[], shape);
            assert!(picture.width() > 0 && picture.height() > 0);
        }
    }
}
