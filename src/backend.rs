//! The only libtorch code: devices, threads, and the network's arithmetic as one native block.
//!
//! burn holds the parameters and says which device they are on; libtorch's own forward and backward do
//! the work on the same memory. burn's generic backward of convolution and normalisation takes about
//! twice as long (docs/ARCHITECTURE.md). `model::Network::forward` is the definition; the tests below
//! hold the two together.

// burn deprecates its libtorch backend in favour of its own kernels; this module is the only user.
#![allow(deprecated)]

use crate::model::{self, Network, PARAMETERS};
use crate::{bail_user, spec};
use anyhow::{Context, Result, anyhow};
use burn::backend::LibTorch;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_tch::TchTensor;
use tch::Tensor as Native;

/// burn's version; Cargo.toml pins it.
pub const BURN: &str = "0.22.1";

/// Version of the libtorch that runboard is built against.
pub const LIBTORCH: &str = env!("RUNBOARD_LIBTORCH");

/// The device that the spec asks for, and its name for people.
///
/// # Errors
/// A GPU that is not there is the user's error.
pub fn device(spec: &str) -> Result<(Device, String)> {
    let gpus = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    let index = match spec {
        "cpu" => None,
        "auto" => (gpus > 0).then_some(0),
        "cuda" => Some(0),
        other => match other.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => Some(index),
            _ => bail_user!("compute.device: got '{other}', want auto, cpu, cuda or cuda:N"),
        },
    };
    match index {
        None => Ok((Device::libtorch(), "cpu".into())),
        Some(index) if index < gpus => Ok((Device::libtorch_cuda(index), format!("cuda:{index}"))),
        Some(index) => bail_user!(
            "compute.device: got '{spec}', but libtorch sees {gpus} GPUs; want cpu{}",
            if gpus > 0 {
                format!(" or cuda:0 to cuda:{}", gpus - 1)
            } else if index == 0 {
                ", or `make setup TORCH=cuda` on a machine with an NVIDIA driver".into()
            } else {
                String::new()
            }
        ),
    }
}

/// Let the arithmetic use `threads` threads; 0 leaves libtorch's choice, one for each core. The results
/// of a run are reproducible bit for bit for the same number.
pub fn set_threads(threads: usize) {
    if threads > 0 {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
}

/// Images as [n, side, side, 3] and labels as [n], on the device.
pub fn upload(
    images: Vec<f32>,
    labels: Vec<i64>,
    side: usize,
    device: &Device,
) -> (Tensor<4>, Tensor<1, Int>) {
    let n = labels.len();
    let images = TensorData::new(images, [n, side, side, crate::data::CHANNELS]);
    let labels = TensorData::new(labels, [n]);
    (
        Tensor::from_data(images, device),
        Tensor::from_data(labels, device),
    )
}

/// A step's losses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Mean cross-entropy plus weight decay: what is descended.
    pub total: f64,
    /// Mean cross-entropy of the batch.
    pub cross_entropy: f64,
}

/// The losses on a batch and the gradient of the total one by every parameter.
///
/// # Errors
/// libtorch's, such as memory that does not suffice.
pub fn gradients(
    network: &Network,
    spec: &spec::Network,
    images: Tensor<4>,
    labels: Tensor<1, Int>,
) -> Result<(Losses, Network)> {
    let weights: Vec<Native> = handles(network)?
        .iter()
        .map(|w| Ok(w.f_detach()?.f_set_requires_grad(true)?))
        .collect::<Result<_>>()?;
    let logits = forward(&weights, spec, &native_float(images)?)?;
    let labels = labels.try_into_primitive::<LibTorch>().map_err(foreign)?;
    let cross_entropy = logits
        .f_log_softmax(-1, tch::Kind::Float)?
        .f_nll_loss::<&Native>(&labels.tensor, None, tch::Reduction::Mean, -100)?;
    let mut total = cross_entropy.shallow_clone();
    for (w, decay) in weights.iter().step_by(2).zip(weight_decays(spec)) {
        if decay != 0.0 {
            // decay * sum(w^2) / 2, tf.nn.l2_loss
            let sum = w.f_square()?.f_sum(tch::Kind::Float)?;
            total = total.f_add(&sum.f_mul_scalar(decay / 2.0)?)?;
        }
    }
    let gradients = Native::f_run_backward(&[&total], &weights, false, false)?;
    let losses = Losses {
        total: total.f_double_value(&[])?,
        cross_entropy: cross_entropy.f_double_value(&[])?,
    };
    Ok((losses, rebuilt(network, gradients)))
}

/// One step of gradient descent, in place: w -= learning_rate * gradient.
///
/// # Errors
/// libtorch's.
pub fn descend(network: &Network, gradients: &Network, learning_rate: f64) -> Result<()> {
    for (mut w, g) in handles(network)?.into_iter().zip(handles(gradients)?) {
        let _ = w.f_sub_(&g.f_mul_scalar(learning_rate)?)?;
    }
    Ok(())
}

/// Move an exponential moving average towards the weights, in place:
/// average -= (1 - decay) * (average - w).
///
/// # Errors
/// libtorch's.
pub fn average(average: &Network, network: &Network, decay: f64) -> Result<()> {
    for (mut a, w) in handles(average)?.into_iter().zip(handles(network)?) {
        let _ = a.f_lerp_(&w, 1.0 - decay)?;
    }
    Ok(())
}

/// A copy with memory of its own. (`clone` shares it, and the steps above write in place.)
///
/// # Errors
/// libtorch's.
pub fn copy(network: &Network) -> Result<Network> {
    let copies = handles(network)?.iter().map(Native::copy).collect();
    Ok(rebuilt(network, copies))
}

/// The logits of a batch: [n, classes] on the host, row by row.
///
/// # Errors
/// libtorch's.
pub fn logits(network: &Network, spec: &spec::Network, images: Tensor<4>) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let logits = forward(&handles(network)?, spec, &native_float(images)?)?;
    let flat = logits.f_to_device(tch::Device::Cpu)?.f_flatten(0, -1)?;
    Ok(Vec::<f32>::try_from(flat)?)
}

/// The network in libtorch's operations; memory is channels-last throughout.
fn forward(weights: &[Native], spec: &spec::Network, images: &Native) -> Result<Native> {
    let [c1w, c1b, c2w, c2b, l3w, l3b, l4w, l4b, sw, sb] = weights else {
        return Err(anyhow!(
            "got {} parameters, want {PARAMETERS}",
            weights.len()
        ));
    };
    let x = images.f_permute([0, 3, 1, 2])?; // [n, 3, h, w]
    // relu after the pooling, where there is a quarter as much of it: both only pass larger values on,
    // so their order changes neither values nor gradients.
    let x = pool(&convolution(&x, c1w, c1b)?, &spec.pool)?.f_relu()?; // [n, 64, h/2, w/2]
    let x = local_response_norm(&x, &spec.norm)?;
    let x = convolution(&x, c2w, c2b)?.f_relu()?; // [n, 64, h/2, w/2]
    let x = local_response_norm(&x, &spec.norm)?;
    let x = pool(&x, &spec.pool)?; // [n, 64, h/4, w/4]
    let x = x.f_permute([0, 2, 3, 1])?.f_flatten(1, 3)?; // [n, h/4 * w/4 * 64]
    let x = l3b.f_addmm(&x, l3w)?.f_relu()?; // [n, 384]
    let x = l4b.f_addmm(&x, l4w)?.f_relu()?; // [n, 192]
    Ok(sb.f_addmm(&x, sw)?) // [n, 10]
}

fn convolution(x: &Native, weights: &Native, biases: &Native) -> Result<Native> {
    let pad = weights.size()[2] / 2; // the kernel is odd, so SAME is symmetric
    Ok(x.f_conv2d(weights, Some(biases), [1, 1], [pad, pad], [1, 1], 1)?)
}

/// Max-pooling with SAME padding. libtorch pads both sides alike, or lets the last window hang over the
/// edge (ceil mode), which is what padding only after the image amounts to.
fn pool(x: &Native, spec: &spec::Pool) -> Result<Native> {
    let size = x.size();
    let (window, stride) = (spec.size as i64, spec.stride as i64);
    let padding = |size: i64| model::same_padding(size as usize, spec.size, spec.stride);
    let ((top, bottom), (left, right)) = (padding(size[2]), padding(size[3]));
    if (top, left) == (0, 0) && spec.size >= spec.stride {
        return Ok(x.f_max_pool2d([window; 2], [stride; 2], [0, 0], [1, 1], true)?);
    }
    let padded = x.f_pad(
        [left as i64, right as i64, top as i64, bottom as i64],
        "constant",
        f64::NEG_INFINITY,
    )?;
    Ok(padded.f_max_pool2d([window; 2], [stride; 2], [0, 0], [1, 1], false)?)
}

/// x / (bias + alpha * windowed sum of x^2)^beta. The sum over neighbouring channels is a product with
/// a constant band matrix, which the matrix unit does faster than any sliding window of libtorch's.
fn local_response_norm(x: &Native, spec: &spec::Norm) -> Result<Native> {
    let channels = x.size()[1];
    let options = (tch::Kind::Float, x.device());
    let radius = spec.radius as i64;
    let band = Native::f_ones([channels, channels], options)?
        .f_tril(radius)?
        .f_triu(-radius)?
        .f_mul_scalar(spec.alpha)?
        .f_reshape([channels, channels, 1, 1])?;
    let sum = x
        .f_square()?
        .f_conv2d::<&Native>(&band, None, [1, 1], [0, 0], [1, 1], 1)?;
    let base = sum.f_add_scalar(spec.bias)?;
    let scale = if spec.beta == 0.75 {
        let root = base.f_rsqrt()?; // base^-0.75 without a logarithm
        root.f_mul(&root.f_sqrt()?)?
    } else {
        base.f_pow_tensor_scalar(-spec.beta)?
    };
    Ok(x.f_mul(&scale)?)
}

/// Decay of each layer's weights, in the order of [`Network`]'s fields.
fn weight_decays(spec: &spec::Network) -> [f64; PARAMETERS / 2] {
    [
        spec.conv1.weight_decay,
        spec.conv2.weight_decay,
        spec.local3.weight_decay,
        spec.local4.weight_decay,
        spec.softmax_linear.weight_decay,
    ]
}

fn foreign<E: std::fmt::Debug>(error: E) -> anyhow::Error {
    anyhow!("a tensor is not libtorch's: {error:?}")
}

fn native_float<const D: usize>(tensor: Tensor<D>) -> Result<Native> {
    let primitive = tensor.try_into_primitive::<LibTorch>().map_err(foreign)?;
    Ok(primitive.tensor)
}

/// The parameters' libtorch handles, on the same memory as the network's.
fn handles(network: &Network) -> Result<Vec<Native>> {
    let mut collect = Collect(Vec::with_capacity(PARAMETERS));
    network.visit(&mut collect);
    collect
        .0
        .into_iter()
        .collect::<Result<_>>()
        .context("failed to reach the parameters")
}

struct Collect(Vec<Result<Native>>);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(native_float(param.val()));
    }
}

/// A network like `like` on other memory.
fn rebuilt(like: &Network, handles: Vec<Native>) -> Network {
    like.clone().map(&mut Rebuild(handles.into_iter()))
}

struct Rebuild(std::vec::IntoIter<Native>);

impl ModuleMapper for Rebuild {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.next() {
            Some(native) => {
                param.map(|_| Tensor::from_primitive::<LibTorch>(TchTensor::new(native)))
            }
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// A small network of uneven sizes, on which nothing agrees by accident.
    fn small() -> (spec::Network, usize) {
        let mut spec = spec::Network::default();
        (spec.conv1.channels, spec.conv2.channels) = (12, 16);
        (spec.conv1.stddev, spec.conv2.stddev) = (0.1, 0.1);
        (spec.local3.units, spec.local4.units) = (24, 16);
        spec.softmax_linear.stddev = 0.3;
        spec.norm.alpha = 0.1;
        spec.conv2.weight_decay = 0.01;
        (spec, 11)
    }

    fn close(got: &[f32], want: &[f32], what: &str) {
        let scale = want.iter().fold(0f32, |m, w| m.max(w.abs()));
        assert!(scale > 0.0, "{what} is all zeros");
        for (g, w) in got.iter().zip(want) {
            assert!(
                (g - w).abs() <= 1e-4 * scale,
                "{what}: got {g}, want {w}, scale {scale}"
            );
        }
    }

    #[test]
    fn the_native_block_agrees_with_burn_forward_and_backward() {
        for (pool, beta) in [((3, 2), 0.75), ((2, 2), 0.5), ((3, 1), 0.75), ((2, 3), 1.0)] {
            let (mut spec, crop) = small();
            (spec.pool.size, spec.pool.stride, spec.norm.beta) = (pool.0, pool.1, beta);
            let device = Device::libtorch();
            let network = Network::init(&spec, crop, spec::Seed(3), &device);
            let pixels = random(5 * crop * crop * 3, 7);
            let labels = vec![0, 9, 4, 4, 2];
            let (images, targets) = upload(pixels.clone(), labels.clone(), crop, &device);
            let fast = logits(&network, &spec, images.clone()).unwrap();
            let (losses, fast_gradients) = gradients(&network, &spec, images, targets).unwrap();

            let tracked = Device::libtorch().autodiff();
            let oracle = Network::init(&spec, crop, spec::Seed(3), &tracked);
            let (images, targets) = upload(pixels, labels, crop, &tracked);
            let slow = oracle.forward(&spec, images);
            let picked = burn::tensor::activation::log_softmax(slow.clone(), 1)
                .gather(1, targets.unsqueeze_dim(1));
            let cross_entropy = -picked.mean();
            let l2 = |w: Tensor<1>| w.powi_scalar(2).sum();
            let total = cross_entropy.clone()
                + l2(oracle.conv2.weights.val().flatten(0, 3)) * (0.01 / 2.0)
                + l2(oracle.local3.weights.val().flatten(0, 1)) * (0.004 / 2.0)
                + l2(oracle.local4.weights.val().flatten(0, 1)) * (0.004 / 2.0);
            let number = |t: Tensor<1>| t.into_data().iter::<f64>().next().unwrap();
            assert!((losses.total - number(total.clone())).abs() < 1e-5);
            assert!((losses.cross_entropy - number(cross_entropy)).abs() < 1e-5);
            let slow_logits: Vec<f32> = slow.into_data().iter::<f32>().collect();
            close(&fast, &slow_logits, "logits");

            let tape = total.backward();
            let host = |t: TensorData| t.iter::<f32>().collect::<Vec<f32>>();
            let want = [
                host(oracle.conv1.weights.grad(&tape).unwrap().into_data()),
                host(oracle.conv1.biases.grad(&tape).unwrap().into_data()),
                host(oracle.conv2.weights.grad(&tape).unwrap().into_data()),
                host(oracle.conv2.biases.grad(&tape).unwrap().into_data()),
                host(oracle.local3.weights.grad(&tape).unwrap().into_data()),
                host(oracle.local3.biases.grad(&tape).unwrap().into_data()),
                host(oracle.local4.weights.grad(&tape).unwrap().into_data()),
                host(oracle.local4.biases.grad(&tape).unwrap().into_data()),
                host(
                    oracle
                        .softmax_linear
                        .weights
                        .grad(&tape)
                        .unwrap()
                        .into_data(),
                ),
                host(
                    oracle
                        .softmax_linear
                        .biases
                        .grad(&tape)
                        .unwrap()
                        .into_data(),
                ),
            ];
            for (got, want) in fast_gradients.named().iter().zip(&want) {
                close(&got.values, want, &got.name);
            }
        }
    }

    #[test]
    fn steps_and_averages_follow_their_formulas_and_copies_are_apart() {
        let (spec, crop) = small();
        let device = Device::libtorch();
        let network = Network::init(&spec, crop, spec::Seed(3), &device);
        let gradient = Network::init(&spec, crop, spec::Seed(4), &device);
        let before = copy(&network).unwrap();
        let mean = copy(&network).unwrap();
        descend(&network, &gradient, 0.5).unwrap();
        average(&mean, &network, 0.9).unwrap();
        let (before, gradient) = (before.named(), gradient.named());
        for (index, (after, mean)) in network.named().iter().zip(mean.named()).enumerate() {
            for i in [0, after.values.len() - 1] {
                let (old, g) = (before[index].values[i], gradient[index].values[i]);
                assert!((after.values[i] - (old - 0.5 * g)).abs() < 1e-6);
                let want = old - (1.0 - 0.9) * (old - after.values[i]);
                assert!((mean.values[i] - want).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_versions_told_are_those_built_with() {
        assert!(
            include_str!("../Cargo.toml").contains(&format!("burn = {{ version = \"={BURN}\""))
        );
        assert!(LIBTORCH.starts_with("2."), "{LIBTORCH}");
    }

    #[test]
    fn a_missing_gpu_is_a_clear_error() {
        if tch::Cuda::device_count() == 0 {
            let error = device("cuda:1").unwrap_err();
            assert!(crate::error::is_user_error(&error));
            assert_eq!(
                error.to_string(),
                "compute.device: got 'cuda:1', but libtorch sees 0 GPUs; want cpu"
            );
        }
        assert_eq!(device("cpu").unwrap().1, "cpu");
    }
}
