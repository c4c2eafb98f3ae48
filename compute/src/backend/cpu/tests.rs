//! What the agreement with burn's operations, tested in `native`, leaves open.

use super::backward::Backward;
use super::forward::{Forward, ForwardCache, Workspace};
use super::*;
use pulp::{Simd, WithSimd};
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Uneven sizes: 6 x 6 cells between the poolings, 12 and 20 channels.
fn uneven() -> CpuNetwork {
    of_crop(11)
}

/// With images of whole tiles of the first convolution, too: 12 x 12.
fn networks() -> [CpuNetwork; 2] {
    [uneven(), of_crop(12)]
}

fn of_crop(crop: i64) -> CpuNetwork {
    let images = Tensor::zeros([1, crop, crop, 3], (tch::Kind::Float, tch::Device::Cpu));
    let mut spec = Spec::default();
    let layers = &mut spec.network;
    (layers.conv1.channels, layers.conv2.channels) = (12, 20);
    layers.norm.alpha = 0.1;
    CpuNetwork::of(&spec, &images).unwrap()
}

fn random(count: usize, scale: f32) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(count as u64);
    (0..count)
        .map(|_| rng.random_range(-scale..scale))
        .collect()
}

fn parameters() -> ConvolutionParameters<Vec<f32>> {
    ConvolutionParameters {
        conv1: random(12 * 75, 0.2),
        bias1: random(12, 0.2),
        conv2: random(20 * 12 * 25, 0.2),
        bias2: random(20, 0.2),
    }
}

fn pack<'a>(
    cpu: &CpuNetwork,
    parameters: &'a ConvolutionParameters<Vec<f32>>,
) -> PackedWeights<'a> {
    let slices = ConvolutionParameters {
        conv1: &parameters.conv1[..],
        bias1: &parameters.bias1[..],
        conv2: &parameters.conv2[..],
        bias2: &parameters.bias2[..],
    };
    PackedWeights::pack(cpu, &slices)
}

fn images(cpu: &CpuNetwork, n: usize) -> Vec<f32> {
    random(n * cpu.image_len(), 1.5)
}

/// Every gradient of the sum of pool2 weighted by fixed numbers.
fn gradients(cpu: &CpuNetwork, weights: &PackedWeights, images: &[f32]) -> Vec<f32> {
    let cache = cpu.forward(weights, images);
    let n = images.len() / cpu.image_len();
    let gradient = random(n * cpu.feature_count(), 1.0);
    let parts: Vec<_> = cpu
        .backward(weights, images, &cache, &gradient, n)
        .collect();
    let sums: Vec<_> = parts
        .par_iter()
        .map(|part| Arch::new().dispatch(*part))
        .collect();
    flat(cpu, &sums)
}

fn flat(cpu: &CpuNetwork, sums: &[GradientSums]) -> Vec<f32> {
    let mut all = parameters();
    let to = ConvolutionParameters {
        conv1: &mut all.conv1[..],
        bias1: &mut all.bias1[..],
        conv2: &mut all.conv2[..],
        bias2: &mut all.bias2[..],
    };
    GradientSums::unpack(sums, cpu, to);
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

/// Weights and biases by turns.
fn dense_parameters() -> Vec<Vec<f32>> {
    let sizes = [[37, 24], [24, 17], [17, 10]];
    let layer =
        |[inputs, outputs]: [usize; 2]| [random(inputs * outputs, 0.5), random(outputs, 0.5)];
    sizes.into_iter().flat_map(layer).collect()
}

fn dense(parameters: &[Vec<f32>]) -> Dense<'_> {
    let slices: Vec<&[f32]> = parameters.iter().map(|values| &values[..]).collect();
    Dense::of(&slices)
}

#[test]
fn dense_layers_are_the_same_for_every_number_of_threads() {
    let parameters = dense_parameters();
    let dense = dense(&parameters);
    let labels: Vec<i64> = (0..21).map(|image| image % 10).collect();
    let features = random(labels.len() * 37, 1.0);
    let by = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let labels = (&labels[..]).into();
            let backward = dense.backward(&features, labels, 0.0, None).unwrap();
            let mut gradients = parameters.clone();
            let to = gradients.iter_mut().map(|values| &mut values[..]);
            tasks::run(dense.parameter_gradients(&features, &backward, &[false; 3], to.collect()));
            (backward.loss, backward.features.to_vec(), gradients)
        })
    };
    let (one, four) = (by(1), by(4));
    assert!(one == four);
    assert!(one.1.iter().any(|value| *value != 0.0));
    assert!(one.2.iter().zip(&parameters).all(|(got, was)| got != was));
}

#[test]
fn label_that_is_no_class_is_an_error() {
    let parameters = dense_parameters();
    for label in [-1, 10] {
        let error = dense(&parameters)
            .backward(&random(37, 1.0), (&[label][..]).into(), 0.0, None)
            .err()
            .unwrap();
        assert_eq!(error.to_string(), format!("got label {label}, want 0 to 9"));
    }
}

#[test]
fn kernels_of_every_vector_width_agree() {
    fn both<S: Simd>(simd: S, cpu: &CpuNetwork, images: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let parameters = parameters();
        let weights = &pack(cpu, &parameters);
        let mut of_group = ForwardCache::new(cpu, GROUP);
        simd.vectorize(Forward {
            cpu,
            weights,
            images: &images[..GROUP * cpu.image_len()],
            workspace: &mut Workspace::new(cpu),
            cache: of_group.whole(),
        });
        let cache = cpu.forward(weights, images);
        let gradient = random(cache.features.len(), 1.0);
        let sums = simd.vectorize(Backward {
            cpu,
            weights,
            images,
            first: 0,
            cache: &cache,
            gradient: &gradient,
        });
        (of_group.features.to_vec(), flat(cpu, &[sums]))
    }
    struct Both<'a>(&'a CpuNetwork, &'a [f32]);
    impl WithSimd for Both<'_> {
        type Output = (Vec<f32>, Vec<f32>);

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            both(simd, self.0, self.1)
        }
    }
    for cpu in networks() {
        let images = images(&cpu, 2 * GROUP + 1); // a second group, and one that is not full
        let widest = Arch::new().dispatch(Both(&cpu, &images));
        let plain = both(pulp::Scalar, &cpu, &images);
        assert_close(&widest.0, &plain.0);
        assert_close(&widest.1, &plain.1);
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            let narrow = both(v3, &cpu, &images);
            assert_close(&narrow.0, &plain.0);
            assert_close(&narrow.1, &plain.1);
        }
    }
}

#[test]
fn nan_passes_through_the_forward_pass() {
    let cpu = uneven();
    let images = images(&cpu, 2);
    for case in [0, 1] {
        let mut parameters = parameters();
        match case {
            0 => parameters.conv1[3] = f32::NAN,
            _ => parameters.bias2[3] = f32::NAN,
        }
        let cache = cpu.forward(&pack(&cpu, &parameters), &images);
        assert!(cache.features.iter().any(|value| value.is_nan()), "{case}");
    }
}

#[test]
fn gradients_and_features_have_the_same_bits_whatever_the_threads() {
    let cpu = uneven();
    let parameters = parameters();
    let weights = pack(&cpu, &parameters);
    // One image, fewer groups than parts, a last part that is not full, and a batch.
    for n in [1, 13, 50, 128] {
        let images = images(&cpu, n);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let features = cpu.features(&weights, &images).to_vec();
                assert!(cpu.forward(&weights, &images).features[..] == features);
                (features, gradients(&cpu, &weights, &images))
            })
        };
        let one = with(1);
        for threads in [2, 3, 8, 13] {
            assert!(with(threads) == one, "{n} images, {threads} threads");
        }
    }
}

#[test]
fn each_item_is_shared_out_once_and_a_thread_makes_its_state_once() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
    let pool = pool.unwrap();
    let shared = |items: usize| {
        let states = AtomicUsize::new(0);
        let taken: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
        let state = || states.fetch_add(1, Ordering::Relaxed);
        pool.install(|| {
            tasks::share(0..items, state, |_, item| {
                taken[item].fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 1));
        states.into_inner()
    };
    assert!((1..=3).contains(&shared(100)));
    assert_eq!(shared(0), 0);
}
