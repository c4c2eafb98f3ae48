//! The network on the CPU: two convolutions, each with relu, pooling and normalisation, dense layers and the loss.
//!
//! Each image passes through both convolutions and what follows them while it is in the processor's cache, instead
//! of each layer going through all images in memory; the second convolution, 84 % of the network's multiplications,
//! needs a sixth of them (`winograd`). What `native` computes with libtorch's operations is the same, and what other
//! devices and kernel sizes use.

mod backward;
mod convolution;
mod dense;
mod forward;
mod norm;
mod pool;
mod product;
mod weights;
mod winograd;

use super::dropout::Dropout;
use super::native::Targets;
use super::to_host;
use crate::data::CHANNELS;
use crate::model::{PER_LAYER, same_padding, same_size};
use crate::spec::{NormName, Precision, Spec};
use anyhow::Result;
use convolution::Convolution;
#[cfg(test)]
pub(super) use dense::cross_entropy;
use dense::{Dense, HostLabels};
use norm::Norm;
use pool::Pool;
use pulp::Arch;
use tch::Tensor;
use weights::{ConvolutionParameters, PackedWeights};
use winograd::WinogradTiles;

/// Channels are padded with zeros to a multiple of this: the number of `f32` in the widest vector.
const LANES: usize = 16;

/// Layers before the dense ones.
const CONVOLUTIONS: usize = 2;

/// Images whose tiles go through a product together: enough for it to be worth while, and few enough for the
/// cache.
const GROUP: usize = 4;

/// Parts of a batch, each the work of one thread: enough for many threads, and few enough that to add up their sums
/// costs little.
const PARTS: usize = 8;

/// The layers' sizes.
#[derive(Clone, Copy, Debug)]
pub struct CpuNetwork {
    crop: usize,
    kernel: usize,
    channels: [usize; 2],
    pools: [Pool; 2],
    norm: Norm,
    label_smoothing: f32,
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
        let vectors = !matches!(Arch::new(), Arch::Scalar);
        let float = spec.compute.precision != Precision::Bf16;
        vectors && float && spec.network.conv2.kernel == winograd::KERNEL
    }

    /// The mean cross-entropy, the accuracy, and the former's gradient by every parameter.
    ///
    /// # Errors
    /// libtorch's.
    pub fn gradients(
        &self,
        parameters: &[Tensor],
        images: &Tensor,
        labels: &Targets,
        dropout: Option<&Dropout>,
    ) -> Result<(Tensor, Tensor, Vec<Tensor>)> {
        let (convolutions, dense_parameters) = parameters.split_at(CONVOLUTIONS * PER_LAYER);
        let images = to_host(images)?;
        let weights = self.weights(convolutions)?;
        let cache = self.forward(&weights, &images);
        let own = Vec::<i64>::try_from(&labels.own)?;
        let mixed = labels
            .mixed
            .as_ref()
            .map(Vec::<i64>::try_from)
            .transpose()?;
        let labels = HostLabels {
            own: &own,
            mixed: mixed.as_ref().map(|mixed| (&mixed[..], labels.own_share)),
        };
        let dense = Dense::of(dense_parameters)?;
        let smoothing = self.label_smoothing;
        let dense = dense.gradients(features(&cache), labels, smoothing, dropout)?;
        let sums = self.backward(&weights, &images, &cache, &dense.features);
        let ConvolutionParameters {
            conv1,
            bias1,
            conv2,
            bias2,
        } = sums.unpack(self);
        let gradients = [conv1, bias1, conv2, bias2].into_iter();
        let gradients = gradients.chain(dense.parameters).zip(parameters);
        let tensor = |(values, like): (Vec<f32>, &Tensor)| {
            let tensor = Tensor::f_from_slice(&values)?.f_view(&like.size()[..])?;
            Ok(tensor)
        };
        let gradients = gradients.map(tensor).collect::<Result<_>>()?;
        let [loss, accuracy] = [dense.loss, dense.accuracy].map(Tensor::from);
        Ok((loss, accuracy, gradients))
    }

    /// The logits, [n, classes].
    ///
    /// # Errors
    /// libtorch's.
    pub fn logits(&self, parameters: &[Tensor], images: &Tensor) -> Result<Tensor> {
        let (convolutions, dense_parameters) = parameters.split_at(CONVOLUTIONS * PER_LAYER);
        let weights = self.weights(convolutions)?;
        let cache = self.forward(&weights, &to_host(images)?);
        let logits = Dense::of(dense_parameters)?.logits(features(&cache));
        let n = images.size()[0];
        Ok(Tensor::f_from_slice(&logits)?.f_view([n, -1])?)
    }

    fn weights(&self, convolutions: &[Tensor]) -> Result<PackedWeights> {
        let values = |index: usize| to_host(&convolutions[index]);
        let parameters = ConvolutionParameters {
            conv1: values(0)?,
            bias1: values(1)?,
            conv2: values(2)?,
            bias2: values(3)?,
        };
        Ok(PackedWeights::pack(self, &parameters))
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

    /// The images in [`PARTS`] parts, or fewer if there are few images. The sums over images, and so the gradients'
    /// last bits, depend on the parts, and therefore the parts on nothing but the number of images.
    fn parts<'a>(&self, images: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let count = images.len() / self.image_len();
        let each = count.div_ceil(PARTS);
        images.chunks(each.next_multiple_of(GROUP) * self.image_len())
    }
}

#[cfg(test)]
mod tests;

/// pool2 of all images, [n, features].
fn features(cache: &[forward::ForwardCache]) -> Vec<f32> {
    let parts: Vec<&[f32]> = cache.iter().map(|part| &part.features[..]).collect();
    parts.concat()
}

/// Rows of `length` values, each padded with zeros to the next multiple of [`LANES`].
fn padded(values: Vec<f32>, length: usize) -> Vec<f32> {
    let width = length.next_multiple_of(LANES);
    if length == width {
        return values;
    }
    let mut out = vec![0.0; values.len() / length * width];
    for (out, row) in out.chunks_exact_mut(width).zip(values.chunks_exact(length)) {
        out[..length].copy_from_slice(row);
    }
    out
}
