//! What is done to an image before the network sees it: random in training, the central crop in evaluation.

use super::format::SIDE;
use crate::spec::{Flip, Input, PadMode};
use rand::Rng;

/// The random parameters of one image's augmentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// First row of the crop; negative where it begins in the padding.
    pub top: i32,
    /// First column of the crop; negative where it begins in the padding.
    pub left: i32,
    /// What the crop holds where it leaves the image.
    pub pad_mode: PadMode,
    /// Mirror left to right.
    pub mirror: bool,
    /// Added to all pixels, on the 0..255 scale.
    pub brightness: f32,
    /// Factor on each channel's distance from its mean over the crop.
    pub contrast: f32,
    /// First row and column, within the crop, of the square that is cut out; none where nothing is.
    pub cutout: Option<[usize; 2]>,
}

impl Augmentation {
    /// Random parameters, for training. The first five values always take the same random numbers, so that switching
    /// one off leaves the others as they were; cutout takes its own after them. A further one takes a stream of its own
    /// (`random.rs`), as the batches' cutmix does: after cutout it would depend on whether that is on.
    ///
    /// # Panics
    /// If `input` is out of range, which a spec's is not.
    pub fn sample(input: &Input, rng: &mut impl Rng) -> Augmentation {
        let pad = input.pad as i32;
        let max_offset = (SIDE + 2 * input.pad - input.crop) as u32;
        Augmentation {
            top: rng.random_range(0..=max_offset) as i32 - pad,
            left: rng.random_range(0..=max_offset) as i32 - pad,
            pad_mode: input.pad_mode,
            mirror: rng.random::<bool>() && input.flip == Flip::Random,
            brightness: uniform(-input.brightness, input.brightness, rng),
            contrast: uniform(input.contrast.lower, input.contrast.upper, rng),
            cutout: (input.cutout > 0).then(|| {
                let last = (input.crop - input.cutout) as u32;
                std::array::from_fn(|_| rng.random_range(0..=last) as usize)
            }),
        }
    }

    /// The evaluation input: central crop, nothing else.
    pub fn central(input: &Input) -> Augmentation {
        let offset = ((SIDE - input.crop) / 2) as i32;
        Augmentation {
            top: offset,
            left: offset,
            pad_mode: input.pad_mode,
            mirror: false,
            brightness: 0.0,
            contrast: 1.0,
            cutout: None,
        }
    }

    /// The row of the image that is row `y` of the crop; none where that is black padding.
    pub(super) fn row(&self, y: usize) -> Option<usize> {
        unpadded(self.top + y as i32, self.pad_mode)
    }

    /// As [`Augmentation::row`], of a column of the crop before it is mirrored.
    pub(super) fn column(&self, x: usize) -> Option<usize> {
        unpadded(self.left + x as i32, self.pad_mode)
    }

    /// Whether the crop holds no padding.
    pub(super) fn is_within_image(&self, crop: usize) -> bool {
        let last = (SIDE - crop) as i32;
        (0..=last).contains(&self.top) && (0..=last).contains(&self.left)
    }
}

/// Uniform in [low, high); `low` where the interval is empty.
fn uniform(low: f32, high: f32, rng: &mut impl Rng) -> f32 {
    let unit: f32 = rng.random();
    let value = low + (high - low) * unit;
    // Rounding may reach the excluded bound.
    if value < high { value } else { low }
}

/// The row or column of an image that stands at this place, counted from the image's first; none for black. Padding is
/// torchvision.transforms.Pad's: `constant` with fill 0, or `reflect`.
fn unpadded(at: i32, mode: PadMode) -> Option<usize> {
    let last = SIDE as i32 - 1;
    let inside = match mode {
        _ if (0..=last).contains(&at) => at,
        PadMode::Zero => return None,
        PadMode::Reflect if at < 0 => -at,
        PadMode::Reflect => 2 * last - at,
    };
    Some(inside as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random;
    use crate::spec::Seed;
    use crate::testing::golden::assert_uniform;

    #[test]
    fn padded_crops_are_uniform_over_the_padded_image() {
        let input = Input {
            crop: 32,
            pad: 4,
            ..Input::default()
        };
        let mut counts = vec![0; 81];
        for position in 0..32_400 {
            let mut rng = random::stream(Seed(2), random::AUGMENTATION, position);
            let Augmentation { top, left, .. } = Augmentation::sample(&input, &mut rng);
            counts[((top + 4) * 9 + left + 4) as usize] += 1; // -4 to 4 each, or it panics
        }
        assert_uniform("row, column", &counts, 80.0, 1.0);
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
}
