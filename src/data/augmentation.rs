//! From stored bytes to the network's input: random augmentation in training, the central crop in evaluation,
//! per-image standardisation in both, with the arithmetic of tf.image on float images.

use super::format::{CHANNELS, PIXEL_BYTES, SIDE};
use crate::spec::Input;
use rand::Rng;

/// The random parameters of one image's augmentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// First row of the crop.
    pub top: usize,
    /// First column of the crop.
    pub left: usize,
    /// Mirror left to right.
    pub mirror: bool,
    /// Added to all pixels, on the 0..255 scale.
    pub brightness: f32,
    /// Factor on each channel's distance from its mean over the crop.
    pub contrast: f32,
}

impl Augmentation {
    /// Random parameters, for training. It always takes the same number of random values, so that switching one
    /// parameter off leaves the others as they were.
    ///
    /// # Panics
    /// If `input` is out of range (see [`super::stream::BatchStream::start`], which checks it).
    pub fn sample(input: &Input, rng: &mut impl Rng) -> Augmentation {
        let max_offset = (SIDE - input.crop) as u32;
        Augmentation {
            top: rng.random_range(0..=max_offset) as usize,
            left: rng.random_range(0..=max_offset) as usize,
            mirror: rng.random::<bool>() && input.flip,
            brightness: uniform(-input.brightness, input.brightness, rng),
            contrast: uniform(input.contrast.lower, input.contrast.upper, rng),
        }
    }

    /// The evaluation input: central crop, nothing else.
    pub fn central(input: &Input) -> Augmentation {
        Augmentation {
            top: (SIDE - input.crop) / 2,
            left: (SIDE - input.crop) / 2,
            mirror: false,
            brightness: 0.0,
            contrast: 1.0,
        }
    }
}

/// Uniform in [low, high); `low` where the interval is empty.
fn uniform(low: f32, high: f32, rng: &mut impl Rng) -> f32 {
    let unit: f32 = rng.random();
    let value = low + (high - low) * unit;
    // Rounding may reach the excluded bound.
    if value < high { value } else { low }
}

/// Floats of one input image: crop * crop * 3.
pub fn input_len(input: &Input) -> usize {
    input.crop * input.crop * CHANNELS
}

/// Crops, mirrors, brightens, changes the contrast of and standardises one image.
///
/// `pixels` is [channel, row, column] as stored; `out` is [row, column, channel], [`input_len`] floats.
///
/// The formulas are tf.image's: adjust_contrast is (x - mean_c) * f + mean_c for each channel,
/// per_image_standardization is (x - mean) / max(std, 1/sqrt(n)) over all n values, nothing is clipped.
/// All of them are affine in a channel's pixels, so together they are one factor and one offset a
/// channel, found from its sum and its sum of squares over the crop, which are exact integers.
///
/// # Panics
/// If a slice has another length or the crop leaves the image.
pub fn apply(augmentation: &Augmentation, pixels: &[u8], input: &Input, out: &mut [f32]) {
    assert_eq!(pixels.len(), PIXEL_BYTES, "bytes of an image");
    assert_eq!(out.len(), input_len(input), "floats of an input");
    let crop = input.crop;
    let row = |channel, y| row(augmentation, pixels, crop, channel, y);
    let [red, green, blue] = channel_transforms(augmentation, pixels, input);
    for (y, out) in out.chunks_exact_mut(crop * CHANNELS).enumerate() {
        let rows = row(0, y).iter().zip(row(1, y)).zip(row(2, y));
        let write_pixel = |(out, ((&r, &g), &b)): (&mut [f32], ((&u8, &u8), &u8))| {
            out[0] = red.apply(r);
            out[1] = green.apply(g);
            out[2] = blue.apply(b);
        };
        let out = out.chunks_exact_mut(CHANNELS);
        if augmentation.mirror {
            out.zip(rows.rev()).for_each(write_pixel);
        } else {
            out.zip(rows).for_each(write_pixel);
        }
    }
}

/// What becomes of each channel's pixels, for an augmentation and an image as [`apply`] takes them.
pub(super) fn channel_transforms(
    augmentation: &Augmentation,
    pixels: &[u8],
    input: &Input,
) -> [Affine; CHANNELS] {
    let crop = input.crop;
    let row = |channel, y| row(augmentation, pixels, crop, channel, y);
    let moments = |channel| Moments::of((0..crop).map(|y| row(channel, y)));
    affine_transforms(augmentation, input, std::array::from_fn(moments))
}

/// Row `y` of a channel's crop.
fn row<'a>(
    augmentation: &Augmentation,
    pixels: &'a [u8],
    crop: usize,
    channel: usize,
    y: usize,
) -> &'a [u8] {
    &pixels[(channel * SIDE + augmentation.top + y) * SIDE + augmentation.left..][..crop]
}

/// Mean and population variance of one channel over the crop.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Moments {
        // At most 1024 * 255^2 < 2^32.
        let (mut count, mut sum, mut squares) = (0, 0u32, 0u32);
        for row in rows {
            count += row.len();
            sum += row.iter().map(|&x| u32::from(x)).sum::<u32>();
            squares += row
                .iter()
                .map(|&x| u32::from(x) * u32::from(x))
                .sum::<u32>();
        }
        let (n, sum, squares) = (count as u64, u64::from(sum), u64::from(squares));
        Moments {
            mean: sum as f64 / n as f64,
            variance: (n * squares - sum * sum) as f64 / (n * n) as f64,
        }
    }
}

/// x -> (x - pivot) * factor + offset. The pivot is a whole number near the mean, which makes the
/// difference exact in 32 bits even where a flat image is blown up by a large factor.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub pivot: f32,
    pub factor: f32,
    pub offset: f32,
}

impl Affine {
    #[inline(always)]
    fn apply(self, pixel: u8) -> f32 {
        (f32::from(pixel) - self.pivot) * self.factor + self.offset
    }
}

/// Brightness, contrast and standardisation as one affine transform a channel.
fn affine_transforms(
    augmentation: &Augmentation,
    input: &Input,
    channels: [Moments; CHANNELS],
) -> [Affine; CHANNELS] {
    let average =
        |f: &dyn Fn(&Moments) -> f64| channels.iter().map(f).sum::<f64>() / CHANNELS as f64;
    let contrast = f64::from(augmentation.contrast);
    // Contrast keeps each channel's mean and scales its deviations; brightness shifts all means alike,
    // so standardisation takes it out again.
    let (centre, scale) = if input.standardize {
        let mean = average(&|c| c.mean);
        let within = contrast * contrast * average(&|c| c.variance);
        let between = average(&|c| (c.mean - mean).powi(2));
        let floor = 1.0 / (input_len(input) as f64).sqrt();
        (mean, (within + between).sqrt().max(floor))
    } else {
        (-f64::from(augmentation.brightness), 1.0)
    };
    channels.map(|Moments { mean, .. }| {
        let pivot = mean.round();
        Affine {
            pivot: pivot as f32,
            factor: (contrast / scale) as f32,
            offset: (((pivot - mean) * contrast + mean - centre) / scale) as f32,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random;
    use crate::spec::{Contrast, Seed};

    fn image(seed: u64) -> Vec<u8> {
        let mut pixels = vec![0; PIXEL_BYTES];
        random::stream(Seed(seed), b"testing ", 0).fill(pixels.as_mut_slice());
        // Different channels, so that a mix-up of their means shows.
        pixels[..SIDE * SIDE].iter_mut().for_each(|x| *x /= 2);
        pixels
    }

    /// The definition, step by step in f64.
    fn reference(augmentation: &Augmentation, pixels: &[u8], input: &Input) -> Vec<f64> {
        let crop = input.crop;
        let mut out = vec![0.0; input_len(input)];
        for y in 0..crop {
            for x in 0..crop {
                for c in 0..CHANNELS {
                    let column = if augmentation.mirror { crop - 1 - x } else { x };
                    let at = (c * SIDE + augmentation.top + y) * SIDE + augmentation.left + column;
                    out[(y * crop + x) * CHANNELS + c] =
                        f64::from(pixels[at]) + f64::from(augmentation.brightness);
                }
            }
        }
        for c in 0..CHANNELS {
            let n = (crop * crop) as f64;
            let mean = out.iter().skip(c).step_by(CHANNELS).sum::<f64>() / n;
            for x in out.iter_mut().skip(c).step_by(CHANNELS) {
                *x = (*x - mean) * f64::from(augmentation.contrast) + mean;
            }
        }
        if input.standardize {
            let n = out.len() as f64;
            let mean = out.iter().sum::<f64>() / n;
            let std = (out.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            out.iter_mut()
                .for_each(|x| *x = (*x - mean) / std.max(1.0 / n.sqrt()));
        }
        out
    }

    /// Equal to 1e-6 of the largest value.
    fn assert_close(got: &[f32], want: &[f64]) {
        let bound = 1e-6 * want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
        for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(got) - want).abs();
            assert!(error < bound, "{at}: got {got}, want {want}");
        }
    }

    fn augmented(augmentation: &Augmentation, pixels: &[u8], input: &Input) -> Vec<f32> {
        let mut out = vec![f32::NAN; input_len(input)];
        apply(augmentation, pixels, input, &mut out);
        out
    }

    #[test]
    fn augmentation_agrees_with_its_definition() {
        let mut rng = random::stream(Seed(3), b"testing ", 1);
        for crop in [1, 7, 24, 32] {
            for standardize in [true, false] {
                let input = Input {
                    crop,
                    standardize,
                    ..Input::default()
                };
                for seed in 0..5 {
                    let (augmentation, pixels) =
                        (Augmentation::sample(&input, &mut rng), image(seed));
                    let out = augmented(&augmentation, &pixels, &input);
                    assert_close(&out, &reference(&augmentation, &pixels, &input));
                }
            }
        }
    }

    #[test]
    fn constant_images_become_zeros_and_nearly_constant_ones_stay_exact() {
        let input = Input::default();
        let augmentation = Augmentation::central(&input);
        let mut pixels = vec![201; PIXEL_BYTES];
        assert_eq!(
            augmented(&augmentation, &pixels, &input),
            vec![0.0; input_len(&input)]
        );
        // One grey level in one pixel: the deviation lies just below the floor of 1/sqrt(n).
        pixels[16 * SIDE + 16] = 202;
        assert_close(
            &augmented(&augmentation, &pixels, &input),
            &reference(&augmentation, &pixels, &input),
        );
    }

    #[test]
    fn central_crop_takes_the_centre() {
        let input = Input {
            standardize: false,
            ..Input::default()
        };
        let pixels: Vec<u8> = (0..PIXEL_BYTES).map(|i| (i % SIDE) as u8).collect();
        let out = augmented(&Augmentation::central(&input), &pixels, &input);
        let columns: Vec<f32> = out[..72].iter().step_by(3).copied().collect();
        assert_eq!(columns, (4..28).map(|x| x as f32).collect::<Vec<_>>());
        let odd = Input { crop: 25, ..input };
        assert_eq!(Augmentation::central(&odd).top, 3);
    }

    #[test]
    fn samples_are_uniform_within_their_bounds() {
        let input = Input::default();
        let mut rng = random::stream(Seed(1), b"testing ", 2);
        let samples: Vec<Augmentation> = (0..20_000)
            .map(|_| Augmentation::sample(&input, &mut rng))
            .collect();
        let n = samples.len() as f64;
        // Offsets: each of the nine values one ninth of the time, within five standard deviations.
        let bound = 5.0 * (n * (1.0 / 9.0) * (8.0 / 9.0)).sqrt();
        for offset in 0..=8 {
            for count in [
                samples.iter().filter(|d| d.top == offset).count(),
                samples.iter().filter(|d| d.left == offset).count(),
            ] {
                assert!((count as f64 - n / 9.0).abs() < bound, "{offset}: {count}");
            }
        }
        let mirrored = samples.iter().filter(|d| d.mirror).count() as f64;
        assert!((mirrored - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt());
        uniform_between(-63.0, 63.0, samples.iter().map(|d| d.brightness).collect());
        uniform_between(0.2, 1.8, samples.iter().map(|d| d.contrast).collect());
    }

    /// Bounds, and the Kolmogorov-Smirnov distance below its 0.1 % critical value.
    fn uniform_between(low: f32, high: f32, mut values: Vec<f32>) {
        values.sort_by(f32::total_cmp);
        assert!(values[0] >= low && values[values.len() - 1] < high);
        let n = values.len() as f32;
        let distance = values
            .iter()
            .enumerate()
            .map(|(rank, x)| ((x - low) / (high - low) - rank as f32 / n).abs())
            .fold(0.0, f32::max);
        assert!(distance < 1.95 / n.sqrt(), "{distance}");
    }

    #[test]
    fn augmentation_that_is_switched_off_changes_nothing() {
        let off = Input {
            crop: 32,
            flip: false,
            brightness: 0.0,
            contrast: Contrast {
                lower: 1.0,
                upper: 1.0,
            },
            standardize: false,
        };
        let mut rng = random::stream(Seed(1), b"testing ", 3);
        for _ in 0..100 {
            assert_eq!(
                Augmentation::sample(&off, &mut rng),
                Augmentation::central(&off)
            );
        }
        // The other parameters stay what they are with everything on.
        let sample = |input: &Input| {
            Augmentation::sample(input, &mut random::stream(Seed(1), b"testing ", 4))
        };
        let still = Input {
            flip: false,
            brightness: 0.0,
            ..Input::default()
        };
        assert_eq!(sample(&still).contrast, sample(&Input::default()).contrast);
        assert_eq!(sample(&still).left, sample(&Input::default()).left);
    }

    /// `cargo test --release -- --ignored --nocapture images_per_second`
    #[test]
    #[ignore = "a measurement, not a test"]
    fn images_per_second() {
        let input = Input::default();
        let images: Vec<Vec<u8>> = (0..100).map(image).collect();
        let mut out = vec![0.0; input_len(&input)];
        let start = std::time::Instant::now();
        let count = 200_000;
        for position in 0..count {
            let augmentation = Augmentation::sample(
                &input,
                &mut random::stream(Seed(1), random::AUGMENTATION, position),
            );
            apply(
                &augmentation,
                &images[position as usize % 100],
                &input,
                &mut out,
            );
            std::hint::black_box(&mut out);
        }
        println!(
            "{:.0} images/s",
            count as f64 / start.elapsed().as_secs_f64()
        );
    }
}
