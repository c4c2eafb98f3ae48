//! The initial weights of the first convolution that whiten the patches of images that it sees.
//!
//! Source: `init_whitening_conv` of airbench94.py, <https://github.com/KellerJordan/cifar10-airbench>, after Page's
//! <https://github.com/davidcpage/cifar10-fast>.

use super::eigen::eigenvectors;
use rayon::prelude::*;
use runboard::data::{Augmentation, CHANNELS, Images, Preprocessor};
use runboard::spec;

/// As many training images as airbench takes, or all where there are fewer; spread evenly over the files.
const IMAGES: usize = 5_000;

/// Added to an eigenvalue before its root divides, as airbench does.
const EPSILON: f64 = 5e-4;

/// Parts of the images, each the work of one thread: a fixed number, so that sums do not depend on that of the threads.
const PARTS: usize = 16;

/// Patches that are added to the sums together.
const GROUP: usize = 4;

/// The weights of a convolution, [channels, 3, kernel, kernel]: the eigenvectors of the patches' second moments from the
/// largest eigenvalue down, each divided by sqrt(eigenvalue + 5e-4), for the first half of the channels, and their
/// negatives for the second.
pub(super) fn whitening(
    layer: &spec::Convolution,
    preprocessor: &Preprocessor,
    images: &Images,
) -> Vec<f32> {
    let moments = second_moments(layer.kernel, preprocessor, images);
    let pairs = eigenvectors(moments, patch_len(layer.kernel));
    let scaled = |(value, vector): (f64, Vec<f64>)| {
        let scale = 1.0 / (value.max(0.0) + EPSILON).sqrt();
        vector.into_iter().map(move |it| (it * scale) as f32)
    };
    let half = pairs.into_iter().take(layer.channels / 2);
    let mut weights: Vec<f32> = half.flat_map(scaled).collect();
    weights.extend_from_within(..);
    let half = weights.len() / 2;
    weights[half..].iter_mut().for_each(|it| *it = -*it);
    weights
}

/// Values of a patch.
fn patch_len(kernel: usize) -> usize {
    CHANNELS * kernel * kernel
}

/// The mean of x x^T over all patches x of all images, as evaluation sees these; [n, n] for patches of n values.
fn second_moments(kernel: usize, preprocessor: &Preprocessor, images: &Images) -> Vec<f64> {
    let n = patch_len(kernel);
    let count = images.len().min(IMAGES);
    let parts: Vec<Vec<f64>> = (0..PARTS)
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; n * n];
            for index in part * count / PARTS..(part + 1) * count / PARTS {
                let pixels = images.pixels(index * images.len() / count);
                add_products(&mut sums, &patches(kernel, preprocessor, pixels), n);
            }
            sums
        })
        .collect();
    let places = preprocessor.input().crop - kernel + 1;
    let patches = (count * places * places) as f64;
    let mut moments = vec![0.0; n * n];
    for row in 0..n {
        for column in row..n {
            let sum: f64 = parts.iter().map(|sums| sums[row * n + column]).sum();
            moments[row * n + column] = sum / patches;
            moments[column * n + row] = sum / patches;
        }
    }
    moments
}

/// The patches of an image, each [channel, row, column] as a kernel is; zeros fill up a group of them.
fn patches(kernel: usize, preprocessor: &Preprocessor, pixels: &[u8]) -> Vec<f64> {
    let input = preprocessor.input();
    let crop = input.crop;
    let mut image = vec![0.0; crop * crop * CHANNELS];
    preprocessor.apply(&Augmentation::central(input), pixels, &mut image);
    let places = crop - kernel + 1;
    let mut patches = Vec::new();
    for (top, left) in (0..places).flat_map(|top| (0..places).map(move |left| (top, left))) {
        for channel in 0..CHANNELS {
            for row in 0..kernel {
                let start = ((top + row) * crop + left) * CHANNELS + channel;
                let values = image[start..].iter().step_by(CHANNELS).take(kernel);
                patches.extend(values.map(|&value| f64::from(value)));
            }
        }
    }
    let group = GROUP * patch_len(kernel);
    patches.resize(patches.len().next_multiple_of(group), 0.0);
    patches
}

/// Add x x^T of every patch x of `n` values; of the sums only what is on the diagonal and above it.
fn add_products(sums: &mut [f64], patches: &[f64], n: usize) {
    for group in patches.chunks_exact(GROUP * n) {
        let (ab, cd) = group.split_at(2 * n);
        let ((a, b), (c, d)) = (ab.split_at(n), cd.split_at(n));
        for (row, sums) in sums.chunks_exact_mut(n).enumerate() {
            let factors = [a[row], b[row], c[row], d[row]];
            let columns = a[row..].iter().zip(&b[row..]).zip(&c[row..]).zip(&d[row..]);
            for (sum, (((a, b), c), d)) in sums[row..].iter_mut().zip(columns) {
                *sum += factors[0] * a + factors[1] * b + factors[2] * c + factors[3] * d;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runboard::spec::{Input, Network, Normalize, Seed};

    fn preprocessor(crop: usize, normalize: Normalize, images: &Images) -> Preprocessor {
        let input = Input {
            crop,
            normalize,
            ..Input::default()
        };
        Preprocessor::new(&input, Some(images))
    }

    fn layer(channels: usize, kernel: usize) -> spec::Convolution {
        spec::Convolution {
            channels,
            kernel,
            ..Network::default().conv1
        }
    }

    /// Images whose neighbouring pixels are alike.
    fn smooth(count: usize) -> Images {
        let mut records = Vec::new();
        for n in 0..count {
            records.push((n % 10) as u8);
            for (c, y, x) in places() {
                let wave = (n * (c + 2) + y * (n % 5 + 1)) as f64 * 0.1 + x as f64 * 0.23;
                let noise = (n * 31 + c * 17 + y * 7 + x * 13) * (y + 3) * (x + 5) % 29;
                records.push((100.0 + 60.0 * wave.sin()) as u8 + noise as u8);
            }
        }
        Images::from_records(records)
    }

    fn places() -> impl Iterator<Item = (usize, usize, usize)> {
        (0..CHANNELS * 32 * 32).map(|it| (it / 1024, it / 32 % 32, it % 32))
    }

    #[test]
    fn whitening_weights_of_four_images_are_numpys() {
        // P [36, 27]: the patches in float64, (x - mean) / std of each image's crop; values, vectors =
        // numpy.linalg.eigh(P.T @ P / 36); v / sqrt(value + 5e-4) of the two largest, v's largest component positive.
        let want = [
            [
                -0.033676, -0.046403, 0.025633, 0.065857, -0.072373, 0.160518, 0.239696, 0.029205,
                0.207881, 0.066649, -0.077557, 0.044929, -0.103674, -0.108765, -0.108862,
                -0.077385, 0.092886, -0.104506, -0.128887, -0.089405, -0.002355, 0.012447,
                -0.053108, -0.138762, 0.193605, 0.166015, -0.040431,
            ],
            [
                -0.037241, 0.261516, -0.166027, -0.179471, 0.146233, -0.067431, 0.07167, 0.01684,
                0.023643, 0.102619, 0.155667, 0.016872, 0.123432, -0.220941, -0.024823, -0.096394,
                -0.017744, -0.073774, -0.02989, -0.051233, 0.107128, -0.239646, -0.132803,
                -0.003192, 0.041097, -0.115135, -0.031162,
            ],
        ]
        .concat();
        let mut records = Vec::new();
        for n in 0..4 {
            records.push(0);
            records.extend(places().map(|(c, y, x)| {
                let value = n * 89 + c * 57 + y * y * 31 + x * 13;
                ((value + (n + 1) * x * y * 7 + c * x * x * 5) % 256) as u8
            }));
        }
        let images = Images::from_records(records);
        let preprocessor = preprocessor(5, Normalize::Image, &images);
        let weights = whitening(&layer(4, 3), &preprocessor, &images);
        assert_eq!(weights.len(), 4 * 27);
        for (index, weight) in weights.iter().enumerate() {
            let want = if index < 54 {
                want[index]
            } else {
                -want[index - 54]
            };
            assert!(
                (weight - want).abs() < 2e-5,
                "{index}: {weight}, want {want}"
            );
        }
    }

    #[test]
    fn whitened_patches_have_the_identity_for_their_second_moments() {
        let images = smooth(60);
        for (normalize, kernel) in [(Normalize::Image, 3), (Normalize::Dataset, 5)] {
            let preprocessor = preprocessor(24, normalize, &images);
            let n = patch_len(kernel);
            let weights = whitening(&layer(2 * n, kernel), &preprocessor, &images);
            let moments = second_moments(kernel, &preprocessor, &images);
            let raw = eigenvectors(moments.clone(), n);
            assert!(
                raw[0].0 > 100.0 * raw[n - 1].0,
                "patches that are not white"
            );
            // Of the outputs W x they are W E[x x^T] W^T.
            let dot = |one: &[f32], other: &[f64]| -> f64 {
                let products = one
                    .iter()
                    .zip(other)
                    .map(|(&one, other)| f64::from(one) * other);
                products.sum()
            };
            for (row, filter) in weights.chunks_exact(n).take(n).enumerate() {
                let transformed: Vec<f64> = moments
                    .chunks_exact(n)
                    .map(|moments| dot(filter, moments))
                    .collect();
                for (column, other) in weights.chunks_exact(n).take(n).enumerate() {
                    let want = if row == column {
                        raw[row].0 / (raw[row].0 + EPSILON)
                    } else {
                        0.0
                    };
                    let got = dot(other, &transformed);
                    assert!((got - want).abs() < 1e-3, "{row}, {column}: {got}");
                }
            }
            assert!(raw[n - 1].0 > 10.0 * EPSILON, "{}", raw[n - 1].0);
        }
    }

    #[test]
    fn whitening_takes_the_largest_eigenvalues_and_their_negatives() {
        let images = smooth(20);
        let preprocessor = preprocessor(24, Normalize::Dataset, &images);
        let all = whitening(&layer(150, 5), &preprocessor, &images);
        let some = whitening(&layer(64, 5), &preprocessor, &images);
        assert_eq!(some[..32 * 75], all[..32 * 75]);
        assert!(
            some[..32 * 75]
                .iter()
                .zip(&some[32 * 75..])
                .all(|(one, other)| *one == -other)
        );
    }

    #[test]
    fn whitening_of_images_of_one_colour_is_finite() {
        let images = Images::from_records(vec![0; 3073]);
        let preprocessor = preprocessor(5, Normalize::Dataset, &images);
        let weights = whitening(&layer(6, 1), &preprocessor, &images);
        assert!(weights.iter().all(|it| it.is_finite()), "{weights:?}");
    }

    #[test]
    fn whitening_looks_at_a_fixed_number_of_images_and_not_at_the_threads() {
        let images = Images::noise(Seed(1), 5_500);
        let preprocessor = preprocessor(5, Normalize::Image, &images);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap()
                .install(|| whitening(&layer(6, 1), &preprocessor, &images))
        };
        assert_eq!(of(1), of(3));
    }
}
