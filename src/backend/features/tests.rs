//! What the agreement with burn's operations, tested in `native`, leaves open.

use super::backward::Backward;
use super::forward::{Forward, Passed};
use super::*;
use pulp::{Simd, WithSimd};
use rand::{Rng, SeedableRng};

/// Uneven sizes: 6 x 6 cells between the poolings, 12 and 20 channels.
fn uneven() -> Features {
    let images = Native::zeros([1, 11, 11, 3], (tch::Kind::Float, tch::Device::Cpu));
    let mut spec = Spec::default();
    let layers = &mut spec.network;
    (layers.conv1.channels, layers.conv2.channels) = (12, 20);
    layers.norm.alpha = 0.1;
    Features::of(&spec, &images).unwrap()
}

fn random(count: usize, scale: f32) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(count as u64);
    (0..count)
        .map(|_| rng.random_range(-scale..scale))
        .collect()
}

fn parameters() -> Parameters {
    Parameters {
        conv1: random(12 * 75, 0.2),
        bias1: random(12, 0.2),
        conv2: random(20 * 12 * 25, 0.2),
        bias2: random(20, 0.2),
    }
}

fn images(features: &Features, n: usize) -> Vec<f32> {
    random(n * features.image_len(), 1.5)
}

/// Every gradient of the sum of pool2 weighted by fixed numbers.
fn gradients(features: &Features, weights: &Weights, images: &[f32]) -> Vec<f32> {
    let passed = features.forward(weights, images);
    let n = images.len() / features.image_len();
    let gradient = random(n * features.feature_count(), 1.0);
    let sums = features.backward(weights, images, &passed, &gradient);
    flat(sums.unpack(features))
}

fn flat(all: Parameters) -> Vec<f32> {
    [all.conv1, all.bias1, all.conv2, all.bias2].concat()
}

fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let scale = want
        .iter()
        .fold(0f32, |scale, value| scale.max(value.abs()));
    for (got, want) in got.iter().zip(want) {
        assert!(
            (got - want).abs() <= 2e-5 * scale,
            "got {got}, want {want}, scale {scale}"
        );
    }
}

#[test]
fn threads_change_nothing_but_the_last_bits_and_the_same_number_not_even_these() {
    let features = uneven();
    let weights = Weights::pack(&features, &parameters());
    let images = images(&features, 11);
    let by = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| gradients(&features, &weights, &images))
    };
    let (one, three) = (by(1), by(3));
    assert_close(&three, &one);
    assert_eq!(three, by(3));
}

#[test]
fn narrower_vectors_agree_with_the_widest() {
    fn both<S: Simd>(simd: S, features: &Features, images: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let weights = &Weights::pack(features, &parameters());
        let passed: Passed = simd.vectorize(Forward {
            features,
            weights,
            images,
        });
        let gradient = random(passed.features.len(), 1.0);
        let sums = simd.vectorize(Backward {
            features,
            weights,
            images,
            passed: &passed,
            gradient: &gradient,
        });
        (passed.features, flat(sums.unpack(features)))
    }
    struct Both<'a>(&'a Features, &'a [f32]);
    impl WithSimd for Both<'_> {
        type Output = (Vec<f32>, Vec<f32>);

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            both(simd, self.0, self.1)
        }
    }
    let features = uneven();
    let images = images(&features, 5);
    let widest = Arch::new().dispatch(Both(&features, &images));
    let plain = both(pulp::Scalar, &features, &images);
    assert_close(&widest.0, &plain.0);
    assert_close(&widest.1, &plain.1);
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = pulp::x86::V3::try_new() {
        let narrow = both(v3, &features, &images);
        assert_close(&narrow.0, &plain.0);
        assert_close(&narrow.1, &plain.1);
    }
}

#[test]
fn nan_is_not_lost_on_the_way() {
    let features = uneven();
    let images = images(&features, 2);
    for place in [0, 1] {
        let mut parameters = parameters();
        match place {
            0 => parameters.conv1[3] = f32::NAN,
            _ => parameters.bias2[3] = f32::NAN,
        }
        let passed = features.forward(&Weights::pack(&features, &parameters), &images);
        assert!(
            passed[0].features.iter().any(|value| value.is_nan()),
            "{place}"
        );
    }
}
