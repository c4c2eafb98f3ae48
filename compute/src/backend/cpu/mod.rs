//! The network on the CPU: two convolutions, each with relu, pooling and normalisation, dense layers and the loss.
//!
//! Each image passes through both convolutions and what follows them while it is in the processor's cache, instead
//! of each layer going through all images in memory; the second convolution, 84 % of the network's multiplications,
//! needs a sixth of them (`winograd`). What `native` computes with libtorch's operations is the same, and what other
//! devices and kernel sizes use.

mod backward;
mod buffer;
mod convolution;
mod decay;
mod dense;
mod descent;
mod forward;
mod norm;
mod orthogonal;
mod parts;
mod pool;
mod product;
mod tasks;
mod weights;
mod winograd;

use super::dropout::Dropout;
use super::memory::{FlatTensors, host};
use super::native::{Gradients, PartGradients, Targets};
use crate::model::{LAYERS, PER_LAYER, same_padding, same_size};
use anyhow::{Result, anyhow};
use convolution::Convolution;
pub(super) use decay::add_decay;
pub(super) use dense::cross_entropy;
use dense::{Dense, HostLabels};
pub(super) use descent::{Descended, Descent};
use norm::Norm;
pub(super) use orthogonal::{Update, orthogonalize};
pub(super) use parts::is_same_in_ranks;
use parts::part_size;
use pool::Pool;
use pulp::Arch;
use runboard::data::CHANNELS;
use runboard::spec::{NormName, Precision, Spec};
use std::borrow::Cow;
use std::mem;
use tasks::Task;
use tch::Tensor;
use weights::{ConvolutionParameters, GradientSums, PackedWeights};
use winograd::WinogradTiles;

/// Channels are padded with zeros to a multiple of this: the number of `f32` in the widest vector.
const LANES: usize = 16;

/// Layers before the dense ones.
const CONVOLUTIONS: usize = 2;
const CONV1: usize = 0;
const CONV2: usize = 1;

/// The first of the dense layers' parameters.
pub(super) const DENSE: usize = CONVOLUTIONS * PER_LAYER;

/// Images whose tiles go through a product together: enough for it to be worth while, and few enough for the
/// cache.
const GROUP: usize = 2;

/// What to do with the gradients by the dense layers' parameters while the convolutions' are computed.
pub(in crate::backend) struct DenseFirst<'a> {
    /// How many shares of equal length they are to have.
    pub ranks: usize,
    /// Takes them where they are, in a row, with zeros behind them. Nobody here reads or writes them any more.
    pub take: &'a mut (dyn FnMut(Tensor) -> Result<()> + Send),
}

/// The layers' sizes.
#[derive(Clone, Copy, Debug)]
pub struct CpuNetwork {
    crop: usize,
    kernel: usize,
    channels: [usize; 2],
    pools: [Pool; 2],
    norm: Norm,
    label_smoothing: f32,
    /// Whether each layer's weights stay as they began, and need no gradient.
    frozen: [bool; LAYERS.len()],
}

impl CpuNetwork {
    /// Of this network on these images, [n, crop, crop, 3]; `None` where libtorch's operations serve better: on a
    /// GPU, for another kernel than `winograd`'s or another precision, and without vector instructions.
    pub fn of(spec: &Spec, images: &Tensor) -> Option<Self> {
        if images.device() != tch::Device::Cpu || !Self::supports(spec) {
            return None;
        }
        let whole = spec;
        let spec = &spec.network;
        let crop = usize::try_from(images.size()[1]).ok()?;
        let pool = |input| Pool {
            size: spec.pool.size,
            stride: spec.pool.stride,
            before: same_padding(input, spec.pool.size, spec.pool.stride).0,
            input,
            output: same_size(input, spec.pool.stride),
        };
        let first = pool(crop);
        Some(CpuNetwork {
            crop,
            kernel: spec.conv1.kernel,
            channels: [spec.conv1.channels, spec.conv2.channels],
            pools: [first, pool(first.output)],
            label_smoothing: whole.loss.label_smoothing,
            frozen: spec.frozen(),
            norm: Norm {
                identity: spec.norm.name == NormName::None,
                radius: spec.norm.radius,
                bias: spec.norm.bias as f32,
                alpha: spec.norm.alpha as f32,
                beta: spec.norm.beta as f32,
            },
        })
    }

    /// Whether it computes this network on a CPU.
    pub fn supports(spec: &Spec) -> bool {
        let float = spec.compute.precision != Precision::Bf16;
        has_vectors() && float && spec.network.conv2.kernel == winograd::KERNEL
    }

    /// The cross-entropy, the accuracy, and the former's gradient by every parameter, zeros by the weights that are frozen.
    ///
    /// # Errors
    /// libtorch's, and those of what takes gradients first.
    pub fn gradients(
        &self,
        parameters: &[Tensor],
        images: &Tensor,
        labels: &Targets,
        dropout: Option<&Dropout>,
        first: Option<DenseFirst>,
    ) -> Result<PartGradients> {
        let images = host(images)?;
        let values = parameters.iter().map(host).collect::<Result<Vec<_>>>()?;
        let values: Vec<&[f32]> = values.iter().map(|values| &values[..]).collect();
        let mut gradients = FlatTensors::like(parameters)?;
        let own = Vec::<i64>::try_from(&labels.own)?;
        let mixed = labels
            .mixed
            .as_ref()
            .map(Vec::<i64>::try_from)
            .transpose()?;
        let labels = HostLabels {
            own: &own,
            mixed: mixed.as_ref().map(|mixed| (&mixed[..], labels.own_share)),
            batch: labels.batch,
        };
        let first = first.map(|first| -> Result<_> {
            let dense = gradients.tail(DENSE, first.ranks)?;
            Ok(move || (first.take)(dense))
        });
        let first = first.transpose()?;
        // On a thread of the pool: from outside, each phase would begin and end by waking somebody.
        let (cross_entropy, accuracy) = rayon::scope(|_| {
            self.host_gradients(&values, &images, labels, dropout, gradients.values(), first)
        })?;
        Ok(PartGradients {
            cross_entropy: Tensor::from(cross_entropy),
            accuracy: Tensor::from(accuracy),
            gradients: Gradients::Host(gradients),
        })
    }

    /// Writes the gradients by the parameters; the cross-entropy and the accuracy. `dense_first` is to be called once those by
    /// the dense layers' parameters are there, before the convolutions' are computed.
    fn host_gradients(
        &self,
        parameters: &[&[f32]],
        images: &[f32],
        labels: HostLabels,
        dropout: Option<&Dropout>,
        mut gradients: Vec<&mut [f32]>,
        dense_first: Option<impl FnOnce() -> Result<()>>,
    ) -> Result<(f32, f32)> {
        let (convolutions, dense) = layers(parameters)?;
        let weights = PackedWeights::pack(self, &convolutions);
        let cache = self.forward(&weights, images);
        let features = &cache.features;
        let backward = dense.backward(features, labels, self.label_smoothing, dropout)?;

        for (gradients, frozen) in gradients.chunks_exact_mut(PER_LAYER).zip(self.frozen) {
            if frozen {
                gradients[0].fill(0.0);
            }
        }
        let of_dense = gradients.split_off(DENSE);
        let frozen = &self.frozen[CONVOLUTIONS..];
        let mut of_dense = dense.parameter_gradients(features, &backward, frozen, of_dense);
        if let Some(dense_first) = dense_first {
            tasks::run(mem::take(&mut of_dense));
            dense_first()?;
        }
        let parts: Vec<_> = self
            .backward(&weights, images, &cache, &backward.features, labels.batch)
            .collect();
        let mut sums: Vec<Option<GradientSums>> = parts.iter().map(|_| None).collect();
        let convolutions = parts.into_iter().zip(&mut sums);
        let mut tasks: Vec<Task> = convolutions
            .map(|(part, sums)| -> Task {
                Box::new(move || *sums = Some(Arch::new().dispatch(part)))
            })
            .collect();
        tasks.extend(of_dense);
        tasks::run(tasks);
        let sums: Vec<GradientSums> = sums.into_iter().flatten().collect();
        if let [conv1, bias1, conv2, bias2] = &mut gradients[..] {
            let to = ConvolutionParameters {
                conv1: &mut **conv1,
                bias1: &mut **bias1,
                conv2: &mut **conv2,
                bias2: &mut **bias2,
            };
            GradientSums::unpack(&sums, self, to);
        }
        Ok((backward.loss, backward.accuracy))
    }

    /// The logits, [n, classes].
    ///
    /// # Errors
    /// libtorch's.
    pub fn logits(&self, parameters: &[Tensor], images: &Tensor) -> Result<Tensor> {
        let n = images.size()[0];
        let images = host(images)?;
        let parameters = parameters.iter().map(host).collect::<Result<Vec<_>>>()?;
        let parameters: Vec<&[f32]> = parameters.iter().map(|values| &values[..]).collect();
        let logits = rayon::scope(|_| -> Result<Vec<f32>> {
            let (convolutions, dense) = layers(&parameters)?;
            let weights = PackedWeights::pack_forward(self, &convolutions);
            Ok(dense.logits(&self.features(&weights, &images)))
        });
        Ok(Tensor::f_from_slice(&logits?)?.f_view([n, -1])?)
    }

    fn convolution(&self) -> Convolution {
        Convolution {
            side: self.crop,
            kernel: self.kernel,
            width: self.widths()[0],
        }
    }

    fn tiles(&self) -> WinogradTiles {
        WinogradTiles {
            side: self.side().div_ceil(winograd::TILE),
            images: GROUP,
        }
    }

    /// The channels of both convolutions, padded.
    fn widths(&self) -> [usize; 2] {
        self.channels
            .map(|channels| channels.next_multiple_of(LANES))
    }

    /// Side of the images between the two poolings.
    fn side(&self) -> usize {
        self.pools[0].output
    }

    /// Values of an image.
    fn image_len(&self) -> usize {
        self.crop * self.crop * CHANNELS
    }

    /// Values of an image's pool2, without padding.
    fn feature_count(&self) -> usize {
        self.pools[1].output.pow(2) * self.channels[1]
    }

    /// Cells of an image's pool2.
    fn pooled(&self) -> usize {
        self.pools[1].output.pow(2)
    }

    /// Cell of a canvas of [`WinogradTiles::canvas`] a side where row `y` of an image begins.
    fn canvas_row(&self, y: usize) -> usize {
        (y + winograd::BORDER) * self.tiles().canvas() + winograd::BORDER
    }

    /// The images in parts.
    fn parts<'a>(&self, images: &'a [f32], batch: usize) -> impl Iterator<Item = &'a [f32]> {
        images.chunks(part_size(batch) * self.image_len())
    }
}

/// Whether this processor has vector instructions that are used here.
pub(super) fn has_vectors() -> bool {
    !matches!(Arch::new(), Arch::Scalar)
}

/// The convolutions' parameters, and the dense layers of the others.
fn layers<'a>(parameters: &[&'a [f32]]) -> Result<(ConvolutionParameters<&'a [f32]>, Dense<'a>)> {
    let [conv1, bias1, conv2, bias2, dense @ ..] = parameters else {
        return Err(anyhow!("got {} parameters, want more", parameters.len()));
    };
    let convolutions = ConvolutionParameters {
        conv1: *conv1,
        bias1: *bias1,
        conv2: *conv2,
        bias2: *bias2,
    };
    Ok((convolutions, Dense::of(dense)))
}

/// Rows of `length` values, each padded with zeros to the next multiple of [`LANES`].
fn padded(values: &[f32], length: usize) -> Cow<'_, [f32]> {
    let width = length.next_multiple_of(LANES);
    if length == width {
        return Cow::Borrowed(values);
    }
    let mut out = vec![0.0; values.len() / length * width];
    for (out, row) in out.chunks_exact_mut(width).zip(values.chunks_exact(length)) {
        out[..length].copy_from_slice(row);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
