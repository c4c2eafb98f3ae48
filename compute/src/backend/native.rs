//! The network in libtorch's own operations: losses, gradients and logits. Where `cpu` can, it takes their place.

use super::cpu::{self, CpuNetwork, DenseFirst};
use super::dropout::Dropout;
use super::losses::DeviceLosses;
use super::memory::{FlatTensors, flattened, send};
use super::normalisation::local_response_norm;
use super::recorder::Recorder;
use super::{Labels, handles, not_libtorch, tch_tensor, to_host, with_handles};
use crate::model::{self, LAYERS, NORMS, Network, PARAMETERS, PER_LAYER, POOLS};
use anyhow::{Context, Result, anyhow};
use burn::backend::LibTorch;
use burn::tensor::{Int, Tensor};
use runboard::checkpoint::NamedTensor;
use runboard::spec::{self, Precision, ReducePrecision, Spec};

/// The losses and accuracy on the batch of a step, and the gradient of the total loss by every parameter.
///
/// # Errors
/// As [`part_gradients`].
pub fn gradients(
    network: &Network,
    spec: &Spec,
    step: u64,
    images: Tensor<4>,
    labels: impl Into<Labels>,
    recorder: &mut Recorder,
) -> Result<(DeviceLosses, Network)> {
    part_gradients(network, spec, step, images, labels, recorder)?.add_decay(network, spec)
}

/// The cross-entropy and accuracy on a step's batch or a part of it, and the gradient of the former by every parameter. Which
/// outputs are left out follows from the spec's seed and the step. What a GPU makes holds until the next call with this recorder.
///
/// # Errors
/// libtorch's, such as memory that does not suffice.
pub fn part_gradients(
    network: &Network,
    spec: &Spec,
    step: u64,
    images: Tensor<4>,
    labels: impl Into<Labels>,
    recorder: &mut Recorder,
) -> Result<PartGradients> {
    part_gradients_in_turn(network, spec, step, images, labels.into(), recorder, None)
}

/// As [`part_gradients`]. Where the CPU's kernels compute, `first` takes those by the dense layers' parameters, nine tenths of
/// all, before the others are computed.
pub(super) fn part_gradients_in_turn(
    network: &Network,
    spec: &Spec,
    step: u64,
    images: Tensor<4>,
    labels: Labels,
    recorder: &mut Recorder,
    first: Option<DenseFirst>,
) -> Result<PartGradients> {
    let weights = handles(network)?;
    let images = tch_tensor(images)?;
    let place = labels.first;
    let labels = Targets::new(labels, spec)?;
    let dropout = Dropout::new(spec, step, place..place + labels.own.numel());
    match CpuNetwork::of(spec, &images) {
        Some(cpu) => cpu.gradients(&weights, &images, &labels, dropout.as_ref(), first),
        None => differentiate_recorded(&weights, spec, &images, &labels, dropout, recorder),
    }
}

/// [`differentiate`], issued by a recorder.
fn differentiate_recorded(
    weights: &[tch::Tensor],
    spec: &Spec,
    images: &tch::Tensor,
    labels: &Targets,
    dropout: Option<Dropout>,
    recorder: &mut Recorder,
) -> Result<PartGradients> {
    let factors = dropout_factors(dropout.as_ref(), images.device())?;
    let mut inputs = vec![images.shallow_clone(), labels.own.shallow_clone()];
    inputs.extend(labels.mixed.as_ref().map(tch::Tensor::shallow_clone));
    let labelled = inputs.len();
    inputs.extend(factors);
    let compute = |inputs: &[tch::Tensor]| {
        let labels = Targets {
            own: inputs[1].shallow_clone(),
            mixed: inputs[2..labelled].first().map(tch::Tensor::shallow_clone),
            ..*labels
        };
        let part = differentiate(weights, spec, &inputs[0], &labels, &inputs[labelled..])?;
        let mut outputs = vec![part.cross_entropy.f_detach()?, part.accuracy];
        outputs.extend(part.gradients.into_tensors());
        Ok(outputs)
    };
    let lasting: Vec<&tch::Tensor> = weights.iter().collect();
    let mut outputs = recorder.run(&lasting, &inputs, compute)?.into_iter();
    let mut next = || outputs.next().context("a loss is missing");
    Ok(PartGradients {
        cross_entropy: next()?,
        accuracy: next()?,
        gradients: Gradients::Device(outputs.collect()),
    })
}

/// [`gradients`] by libtorch's operations, where that computes them by the kernels; without dropout.
///
/// # Errors
/// libtorch's.
pub(super) fn gradients_beside_kernels(
    network: &Network,
    spec: &Spec,
    images: Tensor<4>,
    labels: impl Into<Labels>,
) -> Result<Option<(DeviceLosses, Network)>> {
    let images = tch_tensor(images)?;
    if CpuNetwork::of(spec, &images).is_none() {
        return Ok(None);
    }
    let labels = Targets::new(labels.into(), spec)?;
    let part = differentiate(&handles(network)?, spec, &images, &labels, &[])?;
    part.add_decay(network, spec).map(Some)
}

/// The cross-entropy of a batch or of a part of it, and its gradients. The layers' weight decay is still to come: it counts
/// once, however many parts there are.
pub struct PartGradients {
    /// The mean, a scalar.
    pub(super) cross_entropy: tch::Tensor,
    /// A scalar.
    pub(super) accuracy: tch::Tensor,
    /// By each parameter.
    pub(super) gradients: Gradients,
}

/// The gradients by the parameters, and where they are.
pub(super) enum Gradients {
    Host(FlatTensors),
    Device(Vec<tch::Tensor>),
}

impl Gradients {
    #[cfg(test)]
    pub fn tensors(&self) -> &[tch::Tensor] {
        match self {
            Gradients::Host(flat) => &flat.views,
            Gradients::Device(tensors) => tensors,
        }
    }

    pub fn into_tensors(self) -> Vec<tch::Tensor> {
        match self {
            Gradients::Host(flat) => flat.views,
            Gradients::Device(tensors) => tensors,
        }
    }

    /// All values, one after the other, where they are.
    pub fn flat(&self) -> Result<tch::Tensor> {
        match self {
            Gradients::Host(flat) => flat.flat(),
            Gradients::Device(tensors) => Ok(tch::Tensor::f_cat(&flattened(tensors)?, 0)?),
        }
    }
}

impl PartGradients {
    /// The losses and gradients of a whole batch: add each layer's weight decay, decay * sum(w^2) / 2 (tf.nn.l2_loss), of
    /// which the gradient is decay * w.
    ///
    /// # Errors
    /// libtorch's.
    pub fn add_decay(self, network: &Network, spec: &Spec) -> Result<(DeviceLosses, Network)> {
        let (weights, rates) = (handles(network)?, spec.network.weight_decays());
        let (decays, gradients) = match self.gradients {
            Gradients::Host(mut flat) => (
                cpu::add_decay(&weights, rates, &mut flat.values())?,
                flat.views,
            ),
            Gradients::Device(mut gradients) => {
                (add_decay(&weights, rates, &mut gradients)?, gradients)
            }
        };
        let losses = DeviceLosses::new(self.cross_entropy, self.accuracy, decays)?;
        Ok((losses, with_handles(network, gradients)))
    }
}

/// In libtorch's operations; the loss of each layer that has a weight decay, with the layer's number.
fn add_decay(
    weights: &[tch::Tensor],
    rates: [f64; LAYERS.len()],
    gradients: &mut [tch::Tensor],
) -> Result<Vec<(usize, tch::Tensor)>> {
    let mut decays = Vec::new();
    let layers = weights
        .chunks_exact(PER_LAYER)
        .zip(gradients.chunks_exact_mut(PER_LAYER));
    for (layer, ((weights, gradients), decay)) in layers.zip(rates).enumerate() {
        if decay != 0.0 {
            let loss = sum_of_squares(&weights[0])?;
            decays.push((layer, loss.f_mul_scalar(decay / 2.0)?));
            let _ = gradients[0].f_add_(&weights[0].f_mul_scalar(decay)?)?;
        }
    }
    Ok(decays)
}

/// The labels of a batch in libtorch's tensors, [n].
pub(super) struct Targets {
    pub own: tch::Tensor,
    /// With cutmix those of the images that the squares are from.
    pub mixed: Option<tch::Tensor>,
    /// How much the own ones then count; the others count the rest.
    pub own_share: f32,
    /// Images of the whole batch, of which these may be a part.
    pub batch: usize,
}

impl Targets {
    fn new(labels: Labels, spec: &Spec) -> Result<Self> {
        let native = |labels: Tensor<1, Int>| -> Result<tch::Tensor> {
            let primitive = labels.try_into_primitive::<LibTorch>();
            Ok(primitive.map_err(not_libtorch)?.tensor)
        };
        Ok(Targets {
            batch: labels.batch,
            own: native(labels.own)?,
            mixed: labels.mixed.map(native).transpose()?,
            own_share: spec.input.own_share() as f32,
        })
    }
}

/// The cross-entropy and its gradients in libtorch's operations.
fn differentiate(
    weights: &[tch::Tensor],
    spec: &Spec,
    images: &tch::Tensor,
    labels: &Targets,
    dropout: &[tch::Tensor],
) -> Result<PartGradients> {
    let leaves = tracked(weights)?;
    let logits = forward(&leaves, spec, images, dropout, None)?;
    let smoothing = spec.loss.label_smoothing;
    let mut loss = cross_entropy(&logits, &labels.own, smoothing)?;
    if let Some(mixed) = &labels.mixed {
        let other = cross_entropy(&logits, mixed, smoothing)?;
        loss = other.f_lerp(&loss, f64::from(labels.own_share))?;
    }
    let accuracy = accuracy(&logits.f_detach()?, &labels.own)?;
    let mut gradients = tch::Tensor::f_run_backward(&[&loss], &leaves, false, false)?;
    let layers = gradients.chunks_exact_mut(PER_LAYER);
    for (gradients, frozen) in layers.zip(spec.network.frozen()) {
        if frozen {
            let _ = gradients[0].f_zero_()?;
        }
    }
    Ok(PartGradients {
        cross_entropy: loss,
        accuracy,
        gradients: Gradients::Device(gradients),
    })
}

/// The logits of a batch: [n, classes] on the host, row by row.
///
/// # Errors
/// libtorch's.
pub fn logits(network: &Network, spec: &Spec, images: Tensor<4>) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let (weights, images) = (handles(network)?, tch_tensor(images)?);
    let logits = match CpuNetwork::of(spec, &images) {
        Some(cpu) => cpu.logits(&weights, &images)?,
        None => forward(&weights, spec, &images, &[], None)?,
    };
    to_host(&logits)
}

/// The sum of a layer's squared weights. First by output channel, each the work of one thread, so that it does not
/// depend on how many threads there are.
pub(super) fn sum_of_squares(weights: &tch::Tensor) -> Result<tch::Tensor> {
    let inputs: &[i64] = match weights.dim() {
        4 => &[1, 2, 3], // [out, in, height, width]
        _ => &[0],       // [in, out]
    };
    let squares = weights.f_square()?;
    let channels = squares.f_sum_dim_intlist(inputs, false, tch::Kind::Float)?;
    Ok(channels.f_sum(tch::Kind::Float)?)
}

/// Whether the last bits of a step on a CPU depend on the number of threads: so they do where libtorch's operations compute the
/// network.
pub fn depends_on_threads(spec: &Spec) -> bool {
    !CpuNetwork::supports(spec)
}

/// Whether the weights of a step on a CPU do not depend on how many processes share its batch either: they add up the sums
/// of the same parts, and each has a share of the threads.
pub fn is_same_in_ranks(spec: &Spec, ranks: usize) -> bool {
    let travels_exactly = spec.compute.reduce_precision == ReducePrecision::Float32;
    ranks == 1
        || travels_exactly
            && !depends_on_threads(spec)
            && cpu::is_same_in_ranks(spec.train.batch_size, ranks)
}

/// Leaves of a new autograd graph on the same memory.
fn tracked(weights: &[tch::Tensor]) -> Result<Vec<tch::Tensor>> {
    let leaf = |w: &tch::Tensor| Ok(w.f_detach()?.f_set_requires_grad(true)?);
    weights.iter().map(leaf).collect()
}

/// The mean cross-entropy of the batch; a share of each label is spread evenly over all classes.
pub(super) fn cross_entropy(
    logits: &tch::Tensor,
    labels: &tch::Tensor,
    label_smoothing: f32,
) -> Result<tch::Tensor> {
    let likelihoods = logits.f_log_softmax(-1, tch::Kind::Float)?;
    let loss = likelihoods.f_nll_loss::<&tch::Tensor>(labels, None, tch::Reduction::Mean, -100)?;
    if label_smoothing == 0.0 {
        return Ok(loss);
    }
    let even = likelihoods.f_mean(tch::Kind::Float)?.f_neg()?;
    Ok(loss.f_lerp(&even, f64::from(label_smoothing))?)
}

/// The share of the batch's images whose own class has the largest logit, of equal ones the first.
fn accuracy(logits: &tch::Tensor, labels: &tch::Tensor) -> Result<tch::Tensor> {
    let predicted = logits.f_argmax(1, false)?;
    Ok(predicted.f_eq_tensor(labels)?.f_mean(tch::Kind::Float)?)
}

/// Hand on what each layer makes of a batch, on the host: conv1, pool1, norm1, conv2, norm2, pool2, local3,
/// local4 and softmax_linear, after relu where the layer has one. Images are [n, height, width, channels],
/// row by row. One after the other, so that not all of them are in memory at once.
///
/// # Errors
/// Those of `take`, and libtorch's.
pub fn activations(
    network: &Network,
    spec: &Spec,
    images: Tensor<4>,
    mut take: impl FnMut(NamedTensor) -> Result<()>,
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let images = tch_tensor(images)?;
    let mut capture = |name: &str, x: &tch::Tensor| {
        let x = match x.dim() {
            4 => x.f_permute([0, 2, 3, 1])?,
            _ => x.shallow_clone(),
        };
        take(NamedTensor {
            name: name.to_owned(),
            shape: x.size().iter().map(|&size| size as usize).collect(),
            values: to_host(&x)?,
        })
    };
    let _logits = forward(&handles(network)?, spec, &images, &[], Some(&mut capture))?;
    Ok(())
}

/// What is done with each layer's output, if anything.
type Capture<'a> = Option<&'a mut dyn FnMut(&str, &tch::Tensor) -> Result<()>>;

/// The network in libtorch's operations; memory is channels-last throughout. `dropout` are the factors of the outputs of
/// local3 and local4, or none.
fn forward(
    weights: &[tch::Tensor],
    spec: &Spec,
    images: &tch::Tensor,
    dropout: &[tch::Tensor],
    mut capture: Capture,
) -> Result<tch::Tensor> {
    let kind = match spec.compute.precision {
        Precision::Float32 | Precision::Tf32 | Precision::Tf32Conv => tch::Kind::Float,
        Precision::Bf16 => tch::Kind::BFloat16,
    };
    // No copies where they have that kind already.
    let weights = weights.iter().map(|w| w.f_to_kind(kind));
    let weights = weights.collect::<Result<Vec<_>, _>>()?;
    let images = images.f_to_kind(kind)?;
    let spec = &spec.network;
    let captured = capture.is_some();
    let mut capture = |name, x: &tch::Tensor| match &mut capture {
        Some(capture) => capture(name, x),
        None => Ok(()),
    };
    let [c1w, c1b, c2w, c2b, l3w, l3b, l4w, l4b, sw, sb] = weights.as_slice() else {
        return Err(anyhow!(
            "got {} parameters, want {PARAMETERS}",
            weights.len()
        ));
    };
    let [conv1, conv2, local3, local4, softmax_linear] = LAYERS;
    let ([pool1, pool2], [norm1, norm2]) = (POOLS, NORMS);
    // Each output takes the place of the one before: without gradients, that is no longer needed.
    let mut x = images.f_permute([0, 3, 1, 2])?; // [n, 3, h, w]
    x = convolution(&x, c1w, c1b)?; // [n, 64, h, w]
    if captured {
        capture(conv1, &x.f_relu()?)?;
    }
    // relu after the pooling, where there is a quarter as much of it: both only pass larger values on,
    // so their order changes neither values nor gradients.
    x = pool(&x, &spec.pool)?.f_relu()?; // [n, 64, h/2, w/2]
    capture(pool1, &x)?;
    x = local_response_norm(&x, &spec.norm)?;
    capture(norm1, &x)?;
    x = convolution(&x, c2w, c2b)?.f_relu()?; // [n, 64, h/2, w/2]
    capture(conv2, &x)?;
    x = local_response_norm(&x, &spec.norm)?;
    capture(norm2, &x)?;
    x = pool(&x, &spec.pool)?; // [n, 64, h/4, w/4]
    capture(pool2, &x)?;
    x = x.f_permute([0, 2, 3, 1])?.f_flatten(1, 3)?; // [n, h/4 * w/4 * 64]
    x = l3b.f_addmm(&x, l3w)?.f_relu()?; // [n, 384]
    x = dropped(x, dropout.first())?;
    capture(local3, &x)?;
    x = l4b.f_addmm(&x, l4w)?.f_relu()?; // [n, 192]
    x = dropped(x, dropout.get(1))?;
    capture(local4, &x)?;
    x = sb.f_addmm(&x, sw)?; // [n, 10]
    capture(softmax_linear, &x)?;
    Ok(x.f_to_kind(tch::Kind::Float)?)
}

/// A dense layer's output without what a training step leaves out.
fn dropped(x: tch::Tensor, factors: Option<&tch::Tensor>) -> Result<tch::Tensor> {
    let Some(factors) = factors else {
        return Ok(x);
    };
    let factors = factors.f_view(&x.size()[..])?;
    Ok(x.f_mul(&factors.f_to_kind(x.kind())?)?)
}

/// The factors of each layer that has dropout, on the device.
fn dropout_factors(dropout: Option<&Dropout>, device: tch::Device) -> Result<Vec<tch::Tensor>> {
    let layers = dropout.into_iter().flat_map(Dropout::layers);
    let sent = layers.map(|factors| send(&tch::Tensor::f_from_slice(factors)?, device));
    sent.collect()
}

fn convolution(
    x: &tch::Tensor,
    weights: &tch::Tensor,
    biases: &tch::Tensor,
) -> Result<tch::Tensor> {
    let pad = weights.size()[2] / 2; // the kernel is odd, so SAME is symmetric
    Ok(x.f_conv2d(weights, Some(biases), [1, 1], [pad, pad], [1, 1], 1)?)
}

/// Max-pooling with SAME padding. libtorch pads both sides alike, or lets the last window hang over the
/// edge (ceil mode), which is what padding only after the image amounts to; not with a stride of 1, as no window may begin behind
/// the edge.
pub(super) fn pool(x: &tch::Tensor, spec: &spec::Pool) -> Result<tch::Tensor> {
    let size = x.size();
    let (window, stride) = (spec.size as i64, spec.stride as i64);
    let padding = |size: i64| model::same_padding(size as usize, spec.size, spec.stride);
    let ((top, bottom), (left, right)) = (padding(size[2]), padding(size[3]));
    let hangs_over = spec.size >= spec.stride && (spec.stride > 1 || spec.size == 1);
    if (top, left) == (0, 0) && hangs_over {
        return Ok(x.f_max_pool2d([window; 2], [stride; 2], [0, 0], [1, 1], true)?);
    }
    let padded = x.f_pad(
        [left as i64, right as i64, top as i64, bottom as i64],
        "constant",
        f64::NEG_INFINITY,
    )?;
    Ok(padded.f_max_pool2d([window; 2], [stride; 2], [0, 0], [1, 1], false)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tree_sum::tree_sum;
    use super::super::upload;
    use super::*;
    use burn::tensor::{Device, TensorData};
    use runboard::spec::NormName;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// A small network of uneven sizes, on which nothing agrees by accident.
    pub fn small() -> (Spec, usize) {
        let mut whole = Spec::default();
        let spec = &mut whole.network;
        (spec.conv1.channels, spec.conv2.channels) = (12, 16);
        (spec.conv1.stddev, spec.conv2.stddev) = (0.1, 0.1);
        (spec.local3.units, spec.local4.units) = (24, 16);
        spec.softmax_linear.stddev = 0.3;
        spec.norm.alpha = 0.1;
        spec.conv2.weight_decay = 0.01;
        (whole, 11)
    }

    /// [`small`], which `cpu` computes, and with another kernel, which libtorch's operations do.
    fn of_both_routes() -> [(Spec, usize); 2] {
        [5, 3].map(|kernel| {
            let (mut spec, crop) = small();
            spec.network.conv2.kernel = kernel;
            (spec, crop)
        })
    }

    fn assert_close(got: &[f32], want: &[f32], what: &str) {
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
    fn network_agrees_with_burns_forward_and_backward() {
        // A second kernel of 5 goes through `cpu`, another one through libtorch's operations.
        // The first one goes through `cpu::winograd` if it is of 5, too, and the images are of whole tiles of 4.
        for (pool, beta, kernels, crop) in [
            ((3, 2), 0.75, (5, 5), 11),
            ((3, 2), 0.75, (5, 5), 12),
            ((3, 2), 0.6, (5, 5), 16),
            ((2, 2), 0.5, (3, 5), 11),
            ((3, 1), 0.75, (7, 5), 12),
            ((2, 3), 1.0, (5, 5), 11),
            ((2, 1), 0.75, (3, 3), 11),
            ((3, 2), 0.75, (5, 3), 11),
            ((3, 1), 0.5, (3, 7), 11),
        ] {
            let (mut spec, _) = small();
            let layers = &mut spec.network;
            layers.conv1.channels += 2 * (crop - 11); // of one vector and of two
            (layers.pool.size, layers.pool.stride, layers.norm.beta) = (pool.0, pool.1, beta);
            (layers.conv1.kernel, layers.conv2.kernel) = kernels;
            let device = Device::libtorch();
            let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
            let pixels = random(5 * crop * crop * 3, 7);
            let labels = vec![0, 9, 4, 4, 2];
            let truth = labels.clone();
            let (images, targets) = upload(pixels.clone(), labels.clone(), crop, &device);
            let fast = logits(&network, &spec, images.clone()).unwrap();
            let (losses, fast_gradients) = gradients(
                &network,
                &spec,
                0,
                images,
                targets,
                &mut Recorder::default(),
            )
            .unwrap();
            let losses = DeviceLosses::read(&[&losses]).unwrap()[0];

            let tracked = Device::libtorch().autodiff();
            let oracle = Network::init(&spec.network, crop, spec::Seed(3), &tracked);
            let (images, targets) = upload(pixels, labels, crop, &tracked);
            let slow = oracle.forward(&spec.network, images);
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
            let likeliest = |row: &[f32]| {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter().position(|logit| *logit == largest).unwrap() as i64
            };
            let rows = fast.chunks_exact(10).zip(&truth);
            let hits = rows.filter(|(row, label)| likeliest(row) == **label);
            assert_eq!(losses.accuracy, hits.count() as f64 / 5.0);
            let slow_logits: Vec<f32> = slow.into_data().iter::<f32>().collect();
            assert_close(&fast, &slow_logits, "logits");

            let tape = total.backward();
            let floats = |t: TensorData| t.iter::<f32>().collect::<Vec<f32>>();
            let want = [
                floats(oracle.conv1.weights.grad(&tape).unwrap().into_data()),
                floats(oracle.conv1.biases.grad(&tape).unwrap().into_data()),
                floats(oracle.conv2.weights.grad(&tape).unwrap().into_data()),
                floats(oracle.conv2.biases.grad(&tape).unwrap().into_data()),
                floats(oracle.local3.weights.grad(&tape).unwrap().into_data()),
                floats(oracle.local3.biases.grad(&tape).unwrap().into_data()),
                floats(oracle.local4.weights.grad(&tape).unwrap().into_data()),
                floats(oracle.local4.biases.grad(&tape).unwrap().into_data()),
                floats(
                    oracle
                        .softmax_linear
                        .weights
                        .grad(&tape)
                        .unwrap()
                        .into_data(),
                ),
                floats(
                    oracle
                        .softmax_linear
                        .biases
                        .grad(&tape)
                        .unwrap()
                        .into_data(),
                ),
            ];
            for (got, want) in fast_gradients.named().iter().zip(&want) {
                assert_close(&got.values, want, &got.name);
            }
        }
    }

    #[test]
    fn kernels_agree_with_libtorch_on_smoothing_dropout_and_no_normalisation() {
        let (mut spec, crop) = small();
        spec.loss.label_smoothing = 0.2;
        spec.network.dropout = 0.4;
        let device = Device::libtorch();
        let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
        for name in [NormName::Lrn, NormName::None] {
            spec.network.norm.name = name;
            let pixels = random(5 * crop * crop * 3, 7);
            let (images, labels) = upload(pixels, vec![0, 9, 4, 4, 2], crop, &device);
            let labels = Targets::new(labels.into(), &spec).unwrap();
            let (weights, images) = (handles(&network).unwrap(), tch_tensor(images).unwrap());
            let dropout = Dropout::new(&spec, 7, 0..5);
            let factors = dropout_factors(dropout.as_ref(), images.device()).unwrap();
            let cpu = CpuNetwork::of(&spec, &images).unwrap();
            let got = cpu.gradients(&weights, &images, &labels, dropout.as_ref(), None);
            let want = differentiate(&weights, &spec, &images, &labels, &factors);
            let (got, want) = (got.unwrap(), want.unwrap());
            let scalar = |tensor: &tch::Tensor| tensor.double_value(&[]);
            assert!((scalar(&got.cross_entropy) - scalar(&want.cross_entropy)).abs() < 1e-5);
            assert_eq!(scalar(&got.accuracy), scalar(&want.accuracy));
            for (index, (got, want)) in got
                .gradients
                .tensors()
                .iter()
                .zip(want.gradients.tensors())
                .enumerate()
            {
                let (got, want) = (to_host(got).unwrap(), to_host(want).unwrap());
                assert_close(&got, &want, &format!("parameter {index}"));
            }
            // Another step leaves out other outputs.
            let other = Dropout::new(&spec, 8, 0..5);
            let other = cpu.gradients(&weights, &images, &labels, other.as_ref(), None);
            let other = other.unwrap().cross_entropy;
            assert_ne!(scalar(&other), scalar(&got.cross_entropy));
        }
    }

    #[test]
    fn mixed_labels_count_by_their_shares_on_both_routes() {
        let device = Device::libtorch();
        for (mut spec, crop) in of_both_routes() {
            spec.loss.label_smoothing = 0.1;
            spec.input.crop = crop;
            spec.input.cutmix = crop / 2;
            let share = spec.input.own_share();
            assert!(share > 0.7 && share < 0.8, "{share}");
            let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
            let pixels = random(5 * crop * crop * 3, 7);
            let of = |own: Vec<i64>, mixed: Option<Vec<i64>>| {
                let (images, own) = upload(pixels.clone(), own, crop, &device);
                let mixed = mixed.map(|mixed| upload(pixels.clone(), mixed, crop, &device).1);
                let labels = Labels {
                    mixed,
                    ..own.into()
                };
                let (losses, gradients) =
                    gradients(&network, &spec, 0, images, labels, &mut Recorder::default())
                        .unwrap();
                let losses = DeviceLosses::read(&[&losses]).unwrap()[0];
                (losses.cross_entropy, gradients.named())
            };
            let (own, other) = (vec![0, 9, 4, 4, 2], vec![9, 0, 4, 2, 4]);
            let got = of(own.clone(), Some(other.clone()));
            let (own, other) = (of(own, None), of(other, None));
            let mean = |own: f64, other: f64| share * own + (1.0 - share) * other;
            assert!((got.0 - mean(own.0, other.0)).abs() < 1e-5);
            assert!((got.0 - own.0).abs() > 1e-5, "the others count");
            for ((got, own), other) in got.1.iter().zip(&own.1).zip(&other.1) {
                let both = own.values.iter().zip(&other.values);
                let want: Vec<f32> = both
                    .map(|(&own, &other)| mean(own.into(), other.into()) as f32)
                    .collect();
                assert_close(&got.values, &want, &got.name);
            }
        }
    }

    #[test]
    fn parts_of_a_batch_have_the_sums_of_the_whole_in_two_four_and_eight_processes() {
        let device = Device::libtorch();
        let (mut spec, crop) = small();
        spec.network.dropout = 0.3;
        for batch in [32, 64, 160] {
            let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
            let pixels = random(batch * crop * crop * 3, 7);
            let labels = (0..batch as i64).map(|image| image * image % 10).collect();
            let (images, labels) = upload(pixels, labels, crop, &device);
            let labels = Labels::from(labels);
            let whole = part_gradients(
                &network,
                &spec,
                0,
                images.clone(),
                labels.clone(),
                &mut Recorder::default(),
            );
            let floats = |part: &PartGradients| {
                let tensors = part.gradients.tensors().iter();
                let tensors = tensors.chain([&part.cross_entropy, &part.accuracy]);
                let values: Vec<_> = tensors.map(|tensor| to_host(tensor).unwrap()).collect();
                values.concat()
            };
            let whole = floats(&whole.unwrap());
            for ranks in [2, 4, 8] {
                assert!(cpu::is_same_in_ranks(batch, ranks));
                let each = batch / ranks;
                let part = |rank: usize| {
                    let places = rank * each..(rank + 1) * each;
                    let images = images.clone().narrow(0, places.start, each);
                    let labels = labels.part(&places);
                    floats(
                        &part_gradients(
                            &network,
                            &spec,
                            0,
                            images,
                            labels,
                            &mut Recorder::default(),
                        )
                        .unwrap(),
                    )
                };
                let mut sums: Vec<f32> = (0..ranks).flat_map(part).collect();
                tree_sum(&mut sums, whole.len());
                let mean = sums[..whole.len()].iter().map(|sum| sum / ranks as f32);
                let mut values = mean.zip(&whole).enumerate();
                // Of 160 images the mean of the losses is rounded once more.
                let compared = whole.len() - usize::from(batch == 160) * 2;
                let differs = values.find(|(place, (got, want))| place < &compared && got != *want);
                assert_eq!(differs, None, "{batch} images in {ranks} parts");
            }
        }
    }

    #[test]
    fn gradients_lie_one_after_the_other_in_their_own_order_on_both_routes() {
        let device = Device::libtorch();
        for (spec, crop) in of_both_routes() {
            let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
            let pixels = random(5 * crop * crop * 3, 7);
            let (images, labels) = upload(pixels, vec![0, 9, 4, 4, 2], crop, &device);
            let part = part_gradients(&network, &spec, 0, images, labels, &mut Recorder::default())
                .unwrap();
            let of_each = part.gradients.tensors().iter();
            let of_each: Vec<_> = of_each.map(|tensor| to_host(tensor).unwrap()).collect();
            assert_eq!(
                to_host(&part.gradients.flat().unwrap()).unwrap(),
                of_each.concat()
            );
        }
    }

    #[test]
    fn gradients_of_the_dense_layers_come_first_and_are_those_of_all() {
        let device = Device::libtorch();
        let (spec, crop) = small();
        let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
        let pixels = random(5 * crop * crop * 3, 7);
        let (images, labels) = upload(pixels, vec![0, 9, 4, 4, 2], crop, &device);
        let of = |first: Option<DenseFirst>| {
            let (images, labels) = (images.clone(), labels.clone().into());
            let part = part_gradients_in_turn(
                &network,
                &spec,
                0,
                images,
                labels,
                &mut Recorder::default(),
                first,
            )?;
            to_host(&part.gradients.flat()?)
        };
        let all = of(None).unwrap();
        let [.., local3] = &network.named()[..=cpu::DENSE] else {
            panic!("no dense layer")
        };
        assert_eq!(local3.name, "local3/weights");
        for ranks in [2, 3, 7] {
            let mut dense = Vec::new();
            let mut take = |values: tch::Tensor| {
                dense = to_host(&values)?;
                Ok(())
            };
            let take = &mut take;
            assert!(of(Some(DenseFirst { ranks, take })).unwrap() == all);
            assert!(dense.len().is_multiple_of(ranks));
            let convolutions: usize = network.named()[..cpu::DENSE]
                .iter()
                .map(|it| it.values.len())
                .sum();
            let (own, padding) = dense.split_at(all.len() - convolutions);
            assert!(own == &all[convolutions..] && padding.iter().all(|&it| it == 0.0));
        }
        let refuse = &mut |_| Err(anyhow!("the cable is cut"));
        let refused = of(Some(DenseFirst {
            ranks: 2,
            take: refuse,
        }));
        assert_eq!(refused.unwrap_err().to_string(), "the cable is cut");
    }

    #[test]
    fn frozen_weights_have_no_gradient_and_all_others_keep_theirs() {
        let device = Device::libtorch();
        for (mut spec, crop) in of_both_routes() {
            let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
            let of = |spec: &Spec| {
                let pixels = random(5 * crop * crop * 3, 7);
                let (images, labels) = upload(pixels, vec![0, 9, 4, 4, 2], crop, &device);
                let (_, gradients) =
                    gradients(&network, spec, 0, images, labels, &mut Recorder::default()).unwrap();
                gradients.named()
            };
            let all = of(&spec);
            let layers = &mut spec.network;
            (layers.conv1.frozen, layers.conv2.frozen) = (true, true);
            layers.local4.frozen = true;
            for (got, want) in of(&spec).iter().zip(&all) {
                let frozen = ["conv1/weights", "conv2/weights", "local4/weights"];
                if frozen.contains(&&*want.name) {
                    assert!(got.values.iter().all(|it| *it == 0.0), "{}", want.name);
                    assert!(want.values.iter().any(|it| *it != 0.0), "{}", want.name);
                } else if CpuNetwork::supports(&spec) {
                    assert!(got == want, "{}", want.name);
                } else {
                    assert_close(&got.values, &want.values, &want.name);
                }
            }
        }
    }

    #[test]
    fn bfloat16_is_near_float32() {
        let (mut spec, crop) = small();
        let device = Device::libtorch();
        let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
        let labels: Vec<i64> = (0..32).map(|image| image % 10).collect();
        let pixels = random(labels.len() * crop * crop * 3, 7);
        let mut of = |precision| {
            spec.compute.precision = precision;
            let (images, targets) = upload(pixels.clone(), labels.clone(), crop, &device);
            let logits = logits(&network, &spec, images.clone()).unwrap();
            let (losses, gradients) = gradients(
                &network,
                &spec,
                0,
                images,
                targets,
                &mut Recorder::default(),
            )
            .unwrap();
            let losses = DeviceLosses::read(&[&losses]).unwrap()[0];
            (logits, losses, gradients.named())
        };
        let exact = of(Precision::Float32);
        assert_eq!(of(Precision::Tf32), exact); // on the CPU
        let rounded = of(Precision::Bf16);
        assert_ne!(rounded.0, exact.0);
        // A factor is off by 2^-9 at most; of the many in a sum the errors add up at random.
        let distance = |got: &[f32], want: &[f32]| {
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
            let between = square(&mut got.iter().zip(want).map(|(g, w)| g - w));
            (between / square(&mut want.iter().copied())).sqrt()
        };
        assert!(distance(&rounded.0, &exact.0) < 0.01);
        assert!((rounded.1.total - exact.1.total).abs() < 0.01 * exact.1.total);
        for (got, want) in rounded.2.iter().zip(&exact.2) {
            let distance = distance(&got.values, &want.values);
            // Where rounding makes two of a pool equal, the gradient goes to another pixel.
            let bound = if got.name.starts_with("conv1") {
                0.25
            } else {
                0.1
            };
            assert!(distance < bound, "{}: {distance}", got.name);
        }
    }
}
