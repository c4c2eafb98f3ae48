//! From stored bytes to the network's input: an image's augmentation and its normalisation, with the arithmetic of tf.image on
//! float images.

use super::augmentation::Augmentation;
use super::format::{CHANNELS, PIXEL_BYTES, SIDE};
use super::images::Images;
use crate::spec::{Input, Normalize};
use serde::{Deserialize, Serialize};

/// Floats of one input image: crop * crop * 3.
pub fn input_len(input: &Input) -> usize {
    input.crop * input.crop * CHANNELS
}

/// Mean and standard deviation of each channel over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelStatistics {
    /// On the 0..255 scale.
    pub mean: [f64; CHANNELS],
    /// Of the population; 1 where all pixels are the same.
    pub deviation: [f64; CHANNELS],
}

impl ChannelStatistics {
    /// Those of the training images, if they are what images are normalised by.
    pub fn wanted(input: &Input, training: &Images) -> Option<Self> {
        (input.normalize == Normalize::Dataset).then(|| Self::of(training))
    }

    /// Over all pixels of all images: from sums that are exact integers.
    pub fn of(images: &Images) -> Self {
        let (mut sums, mut squares) = ([0u64; CHANNELS], [0u64; CHANNELS]);
        for index in 0..images.len() {
            let channels = images.pixels(index).chunks_exact(SIDE * SIDE);
            for (channel, pixels) in channels.enumerate() {
                let moments = Sums::of([pixels].into_iter());
                sums[channel] += u64::from(moments.sum);
                squares[channel] += u64::from(moments.squares);
            }
        }
        let n = (images.len() * SIDE * SIDE) as u128;
        let variance = |channel: usize| {
            let (sum, squares) = (u128::from(sums[channel]), u128::from(squares[channel]));
            (n * squares - sum * sum) as f64 / (n * n) as f64
        };
        ChannelStatistics {
            mean: sums.map(|sum| sum as f64 / n as f64),
            deviation: std::array::from_fn(|channel| match variance(channel) {
                0.0 => 1.0,
                variance => variance.sqrt(),
            }),
        }
    }
}

/// Makes the network's input of images.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    input: Input,
    /// With `normalize: dataset`.
    statistics: Option<ChannelStatistics>,
}

impl Preprocessor {
    /// As the spec wants it. `training` is needed where it wants the statistics of the training images.
    ///
    /// # Panics
    /// If they are needed and not there.
    pub fn new(input: &Input, training: Option<&Images>) -> Self {
        let statistics = training.and_then(|training| ChannelStatistics::wanted(input, training));
        Self::with_statistics(input, statistics)
    }

    /// As [`Preprocessor::new`], with the statistics of the training images, where the spec wants them.
    ///
    /// # Panics
    /// If they are needed and not there.
    pub fn with_statistics(input: &Input, statistics: Option<ChannelStatistics>) -> Self {
        assert!(
            input.normalize != Normalize::Dataset || statistics.is_some(),
            "the statistics of the training images"
        );
        Preprocessor {
            input: input.clone(),
            statistics,
        }
    }

    /// The spec's wishes.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Crops, mirrors, brightens, changes the contrast of, normalises and cuts a square out of one image.
    ///
    /// `pixels` is [channel, row, column] as stored; `out` is [row, column, channel], [`input_len`] floats.
    ///
    /// The formulas are tf.image's: adjust_contrast is (x - mean_c) * f + mean_c for each channel,
    /// per_image_standardization is (x - mean) / max(std, 1/sqrt(n)) over all n values, nothing is clipped.
    /// All of them are affine in a channel's pixels, so together they are one factor and one offset a
    /// channel, found from its sum and its sum of squares over the crop, which are exact integers.
    ///
    /// # Panics
    /// If a slice has another length or the crop leaves the padded image.
    pub fn apply(&self, augmentation: &Augmentation, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), PIXEL_BYTES, "bytes of an image");
        assert_eq!(out.len(), input_len(&self.input), "floats of an input");
        let mut padded = [0; PIXEL_BYTES];
        let pixels = self.crop(augmentation, pixels, &mut padded);
        let [red, green, blue] = self.transforms(augmentation, &pixels);
        let width = pixels.crop * CHANNELS;
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            let rows = pixels.row(0, y).iter().zip(pixels.row(1, y));
            let rows = rows.zip(pixels.row(2, y));
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
        if let Some([top, left]) = augmentation.cutout {
            let side = self.input.cutout;
            for out in out.chunks_exact_mut(width).skip(top).take(side) {
                out[left * CHANNELS..][..side * CHANNELS].fill(0.0);
            }
        }
    }

    /// What becomes of each channel's pixels, for an augmentation and an image as [`Preprocessor::apply`] takes them.
    pub(super) fn channel_transforms(
        &self,
        augmentation: &Augmentation,
        pixels: &[u8],
    ) -> [Affine; CHANNELS] {
        let mut padded = [0; PIXEL_BYTES];
        self.transforms(augmentation, &self.crop(augmentation, pixels, &mut padded))
    }

    /// The pixels of the crop, where they are; those of one with padding are put into `padded`.
    fn crop<'a>(
        &self,
        augmentation: &Augmentation,
        pixels: &'a [u8],
        padded: &'a mut [u8; PIXEL_BYTES],
    ) -> Crop<'a> {
        let crop = self.input.crop;
        if augmentation.is_within_image(crop) {
            return Crop {
                pixels,
                side: SIDE,
                start: augmentation.top as usize * SIDE + augmentation.left as usize,
                crop,
            };
        }
        let columns: [_; SIDE] = std::array::from_fn(|x| augmentation.column(x));
        for (at, row) in padded
            .chunks_exact_mut(crop)
            .take(CHANNELS * crop)
            .enumerate()
        {
            let (channel, y) = (at / crop, at % crop);
            let Some(y) = augmentation.row(y) else {
                continue; // black, as it is
            };
            let source = &pixels[(channel * SIDE + y) * SIDE..][..SIDE];
            for (out, column) in row.iter_mut().zip(columns) {
                *out = column.map_or(0, |column| source[column]);
            }
        }
        Crop {
            pixels: padded,
            side: crop,
            start: 0,
            crop,
        }
    }

    /// Brightness, contrast and normalisation as one affine transform a channel.
    fn transforms(&self, augmentation: &Augmentation, pixels: &Crop) -> [Affine; CHANNELS] {
        let rows = |channel| (0..pixels.crop).map(move |y| pixels.row(channel, y));
        let channels: [Moments; CHANNELS] =
            std::array::from_fn(|channel| Sums::of(rows(channel)).moments());
        let average =
            |f: &dyn Fn(&Moments) -> f64| channels.iter().map(f).sum::<f64>() / CHANNELS as f64;
        let contrast = f64::from(augmentation.contrast);
        // Contrast keeps each channel's mean and scales its deviations; brightness shifts all means alike,
        // so standardisation of the image takes it out again.
        let (centres, scales) = match (self.input.normalize, &self.statistics) {
            (Normalize::Image, _) => {
                let mean = average(&|c| c.mean);
                let within = contrast * contrast * average(&|c| c.variance);
                let between = average(&|c| (c.mean - mean).powi(2));
                let floor = 1.0 / (input_len(&self.input) as f64).sqrt();
                let scale = (within + between).sqrt().max(floor);
                ([mean; CHANNELS], [scale; CHANNELS])
            }
            (Normalize::Dataset, Some(statistics)) => {
                let brightness = f64::from(augmentation.brightness);
                let centres = statistics.mean.map(|mean| mean - brightness);
                (centres, statistics.deviation)
            }
            _ => (
                [-f64::from(augmentation.brightness); CHANNELS],
                [1.0; CHANNELS],
            ),
        };
        std::array::from_fn(|channel| {
            let mean = channels[channel].mean;
            let (centre, scale) = (centres[channel], scales[channel]);
            let pivot = mean.round();
            Affine {
                pivot: pivot as f32,
                factor: (contrast / scale) as f32,
                offset: (((pivot - mean) * contrast + mean - centre) / scale) as f32,
            }
        })
    }
}

/// The pixels of a crop, [channel, row, column], within others.
struct Crop<'a> {
    pixels: &'a [u8],
    /// Rows of a channel of `pixels`, and columns of a row.
    side: usize,
    /// Of the crop's first pixel in a channel.
    start: usize,
    /// Side of the crop.
    crop: usize,
}

impl Crop<'_> {
    /// Row `y` of a channel.
    fn row(&self, channel: usize, y: usize) -> &[u8] {
        &self.pixels[(channel * self.side + y) * self.side + self.start..][..self.crop]
    }
}

/// Sums over pixels of one channel: exact.
#[derive(Clone, Copy)]
struct Sums {
    count: usize,
    sum: u32,
    squares: u32,
}

impl Sums {
    /// Over rows of an image.
    fn of<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Sums {
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
        Sums {
            count,
            sum,
            squares,
        }
    }

    fn moments(self) -> Moments {
        let (n, sum, squares) = (
            self.count as u64,
            u64::from(self.sum),
            u64::from(self.squares),
        );
        Moments {
            mean: sum as f64 / n as f64,
            variance: (n * squares - sum * sum) as f64 / (n * n) as f64,
        }
    }
}

/// Mean and population variance of one channel over the crop.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    variance: f64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::RECORD_BYTES;
    use crate::data::random;
    use crate::spec::{Contrast, Flip, PadMode, Seed};
    use crate::testing::golden::assert_uniform;
    use rand::Rng;

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
                    let row = augmentation.row(y);
                    let column = augmentation.column(column);
                    let pixel = row
                        .zip(column)
                        .map_or(0, |(row, column)| pixels[(c * SIDE + row) * SIDE + column]);
                    out[(y * crop + x) * CHANNELS + c] =
                        f64::from(pixel) + f64::from(augmentation.brightness);
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
        if input.normalize == Normalize::Image {
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
        Preprocessor::new(input, None).apply(augmentation, pixels, &mut out);
        out
    }

    #[test]
    fn augmentation_agrees_with_its_definition() {
        let mut rng = random::stream(Seed(3), b"testing ", 1);
        for crop in [1, 7, 24, 32] {
            for (pad, pad_mode, normalize) in [
                (0, PadMode::Zero, Normalize::Image),
                (0, PadMode::Zero, Normalize::None),
                (crop - 1, PadMode::Zero, Normalize::Image),
                (crop - 1, PadMode::Reflect, Normalize::None),
            ] {
                let input = Input {
                    crop,
                    pad,
                    pad_mode,
                    normalize,
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
            normalize: Normalize::None,
            ..Input::default()
        };
        let pixels: Vec<u8> = (0..PIXEL_BYTES).map(|i| (i % SIDE) as u8).collect();
        let out = augmented(&Augmentation::central(&input), &pixels, &input);
        let columns: Vec<f32> = out[..72].iter().step_by(3).copied().collect();
        assert_eq!(columns, (4..28).map(|x| x as f32).collect::<Vec<_>>());
        let odd = Input { crop: 25, ..input };
        assert_eq!(Augmentation::central(&odd).top, 3);
    }

    /// An image whose pixels say where they are: row + 1 in the first channel, column + 1 in the second.
    fn places() -> Vec<u8> {
        let mut pixels = vec![0; PIXEL_BYTES];
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let (channel, row, column) = (at / SIDE / SIDE, at / SIDE % SIDE, at % SIDE);
            *pixel = [row + 1, column + 1, 7][channel] as u8;
        }
        pixels
    }

    /// [`places`] at an offset: its channels, each [crop, crop].
    fn at_offset(input: &Input, top: i32, left: i32, mirror: bool) -> [Vec<i32>; 3] {
        let augmentation = Augmentation {
            top,
            left,
            mirror,
            ..Augmentation::central(input)
        };
        let out = augmented(&augmentation, &places(), input);
        [0, 1, 2].map(|channel| {
            let values = out.iter().skip(channel).step_by(CHANNELS);
            values.map(|&value| value as i32).collect()
        })
    }

    /// torchvision.transforms.functional.pad(image, 3, padding_mode) of the places, cropped to 4 x 4 at a corner, by hand.
    #[test]
    fn padding_is_torchvisions() {
        let input = |pad_mode| Input {
            crop: 4,
            pad: 3,
            pad_mode,
            brightness: 0.0,
            normalize: Normalize::None,
            ..Input::default()
        };
        let zero = input(PadMode::Zero);
        // Two rows and three columns of black before the first pixel.
        let [rows, columns, third] = at_offset(&zero, -2, -3, false);
        assert_eq!(rows, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(columns, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(third, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 7]);
        let [rows, columns, _] = at_offset(&zero, -2, -3, true);
        assert_eq!(rows, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(columns, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        let [rows, columns, _] = at_offset(&zero, 30, 31, false);
        assert_eq!(rows, [31, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(columns[..8], [32, 0, 0, 0, 32, 0, 0, 0]);
        // numpy.pad([1, 2, ..., 32], 3, "reflect") is [4, 3, 2, 1, 2, ..., 32, 31, 30, 29].
        let reflect = input(PadMode::Reflect);
        let [rows, columns, third] = at_offset(&reflect, -2, -3, false);
        assert_eq!(rows, [3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(columns, [[4, 3, 2, 1]; 4].concat());
        assert_eq!(third, [7; 16]);
        let [rows, columns, _] = at_offset(&reflect, 31, 30, false);
        assert_eq!(
            rows,
            [
                32, 32, 32, 32, 31, 31, 31, 31, 30, 30, 30, 30, 29, 29, 29, 29
            ]
        );
        assert_eq!(columns, [[31, 32, 31, 30]; 4].concat());
    }

    #[test]
    fn cutout_is_a_square_of_zeros_at_a_uniform_place_within_the_crop() {
        let input = Input {
            crop: 8,
            cutout: 3,
            ..Input::default()
        };
        let whole = Input {
            cutout: 0,
            ..input.clone()
        };
        let pixels = image(1);
        let mut counts = vec![0; 36];
        for position in 0..14_400 {
            let sample = |input| {
                let mut rng = random::stream(Seed(2), random::AUGMENTATION, position);
                Augmentation::sample(input, &mut rng)
            };
            let augmentation = sample(&input);
            let [top, left] = augmentation.cutout.unwrap();
            counts[top * 6 + left] += 1;
            if position >= 100 {
                continue;
            }
            // All else is as without it.
            let mut want = augmented(&sample(&whole), &pixels, &whole);
            for (at, value) in want.iter_mut().enumerate() {
                let (y, x) = (at / CHANNELS / 8, at / CHANNELS % 8);
                if (top..top + 3).contains(&y) && (left..left + 3).contains(&x) {
                    *value = 0.0;
                }
            }
            assert_eq!(augmented(&augmentation, &pixels, &input), want);
        }
        assert_uniform("row, column", &counts, 35.0, 1.0);
    }

    #[test]
    fn dataset_normalisation_makes_mean_0_and_deviation_1_of_each_channel() {
        let records: Vec<u8> = (0..5)
            .flat_map(|seed| [vec![0], image(seed)].concat())
            .collect();
        let images = Images::from_records(records.clone());
        let input = Input {
            crop: 32,
            normalize: Normalize::Dataset,
            ..Input::default()
        };
        let preprocessor = Preprocessor::new(&input, Some(&images));
        let mut sums = [[0.0f64; 2]; CHANNELS];
        for index in 0..5 {
            let mut out = vec![f32::NAN; input_len(&input)];
            preprocessor.apply(
                &Augmentation::central(&input),
                images.pixels(index),
                &mut out,
            );
            for (at, value) in out.iter().enumerate() {
                let value = f64::from(*value);
                sums[at % CHANNELS][0] += value;
                sums[at % CHANNELS][1] += value * value;
            }
            // (x - mean) / deviation of the definition, brightness and contrast before it.
            let bright = Augmentation {
                brightness: 10.0,
                contrast: 1.5,
                ..Augmentation::central(&input)
            };
            preprocessor.apply(&bright, images.pixels(index), &mut out);
            let raw = Input {
                normalize: Normalize::None,
                ..input.clone()
            };
            let ChannelStatistics { mean, deviation } = ChannelStatistics::of(&images);
            let mut want = reference(&bright, images.pixels(index), &raw);
            for (at, value) in want.iter_mut().enumerate() {
                *value = (*value - mean[at % CHANNELS]) / deviation[at % CHANNELS];
            }
            assert_close(&out, &want);
        }
        for [sum, squares] in sums {
            let n = 5.0 * 1024.0;
            assert!((sum / n).abs() < 1e-6 && (squares / n - 1.0).abs() < 1e-6);
        }
        // A channel of one colour becomes 0.
        let flat = Images::from_records(vec![9; RECORD_BYTES]);
        let statistics = ChannelStatistics::of(&flat);
        assert_eq!(
            (statistics.mean, statistics.deviation),
            ([9.0; 3], [1.0; 3])
        );
    }

    #[test]
    fn augmentation_that_is_switched_off_changes_nothing() {
        let off = Input {
            crop: 32,
            flip: Flip::None,
            brightness: 0.0,
            contrast: Contrast {
                lower: 1.0,
                upper: 1.0,
            },
            normalize: Normalize::None,
            ..Input::default()
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
            flip: Flip::None,
            brightness: 0.0,
            ..Input::default()
        };
        assert_eq!(sample(&still).contrast, sample(&Input::default()).contrast);
        assert_eq!(sample(&still).left, sample(&Input::default()).left);
    }
}
