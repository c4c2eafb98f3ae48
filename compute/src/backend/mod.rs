//! The only libtorch code: devices, threads, the network's arithmetic and the optimizer.
//!
//! burn holds the parameters and says which device they are on; the work is done on the same memory by libtorch's
//! operations (`native`), and on the CPU by kernels of our own (`cpu`): burn's own backward pass takes several times
//! as long (docs/performance.md). `model::Network::forward` is the definition; tests hold all of them together.

// burn deprecates its libtorch backend in favour of its own kernels; this module is the only user.
#![allow(deprecated)]

mod context;
mod cpu;
mod device_images;
mod dropout;
pub mod golden;
mod gpu;
pub mod group;
mod guarded;
pub mod libraries;
mod losses;
mod memory;
mod muon;
mod native;
mod newton_schulz;
mod normalisation;
mod optimizer;
mod parameters;
mod ranks;
mod recorder;
mod tree_sum;
mod update_rule;

pub use device_images::{DeviceImages, DevicePlan};
pub use losses::{DeviceLosses, Losses};
pub use native::{
    PartGradients, activations, depends_on_threads, gradients, is_same_in_ranks, logits,
    part_gradients,
};
pub use optimizer::Optimizer;
pub use ranks::{batch_gradients, checksum};
pub use recorder::{CALLS_TO_RECORD, Recorder};

use crate::model::{Network, PARAMETERS};
use anyhow::{Context, Result, anyhow};
use burn::backend::LibTorch;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_tch::TchTensor;
use runboard::compute::Machine;
use runboard::data::{Batch, CHANNELS};
use runboard::launch::Launch;
use runboard::spec::Compute;
use std::ops::Range;

/// burn's version; Cargo.toml pins it.
const BURN: &str = "0.22.1";

/// Version of the libtorch that this program is built against.
const LIBTORCH: &str = env!("RUNBOARD_LIBTORCH");

/// What every processor that runs this program must have, less what it chooses at run time.
const TARGET_FEATURES: &str = env!("RUNBOARD_TARGET_FEATURES");

/// What this program says of itself and of this machine.
pub fn machine() -> Machine {
    let cuda = libraries::load_cuda(); // before libtorch is asked
    Machine {
        burn: BURN.to_owned(),
        libtorch: LIBTORCH.to_owned(),
        target_features: TARGET_FEATURES.split(',').map(str::to_owned).collect(),
        gpus: usize::try_from(tch::Cuda::device_count()).unwrap_or(0),
        cuda_failure: cuda.err(),
    }
}

/// The device that the spec asks for, and its name for people; `field` is where it does.
///
/// # Errors
/// A GPU that is not there is the user's error.
pub fn device(field: &str, spec: &str) -> Result<(Device, String)> {
    let machine = machine();
    let device = match machine.gpu(field, spec)? {
        None => Device::libtorch(),
        Some(index) => Device::libtorch_cuda(index),
    };
    Ok((device, machine.device(field, spec)?))
}

/// The device that this process's first rank trains on, and its name.
///
/// # Errors
/// As [`device`].
pub fn training_device(compute: &Compute, launch: &Launch) -> Result<(Device, String)> {
    device(
        &launch.device_field(compute),
        &launch.device(compute, machine().gpus),
    )
}

/// Prepare this process for the arithmetic that `compute` says, with `threads` threads; 0 leaves libtorch's choice, one for
/// each core. Returns their number.
///
/// # Errors
/// libtorch's.
pub fn prepare(compute: &Compute, threads: usize) -> Result<usize> {
    context::set(compute)?;
    if threads > 0 {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    // It can be built once; a later call, as in tests, leaves it as it is.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    // A step allocates the same large tensors as the one before. By default glibc returns each to the
    // system and faults it in again page by page, which costs up to a tenth of a step.
    // SAFETY: mallopt takes plain numbers, and a value that it refuses leaves things as they were.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    Ok(threads)
}

/// Labels of a batch, on the device.
#[derive(Clone, Debug)]
pub struct Labels {
    /// Of each image, [n].
    pub own: Tensor<1, Int>,
    /// With cutmix that of the image which a square of it is from, [n].
    pub mixed: Option<Tensor<1, Int>>,
    /// The place of the first one in the step's batch, of which this may be a part.
    pub first: usize,
    /// Images of that batch.
    pub batch: usize,
}

impl Labels {
    /// Those at these places.
    pub fn part(&self, places: &Range<usize>) -> Self {
        let part = |labels: &Tensor<1, Int>| labels.clone().narrow(0, places.start, places.len());
        Labels {
            own: part(&self.own),
            mixed: self.mixed.as_ref().map(part),
            first: self.first + places.start,
            batch: self.batch,
        }
    }
}

impl From<Tensor<1, Int>> for Labels {
    fn from(own: Tensor<1, Int>) -> Self {
        let batch = own.dims()[0];
        Labels {
            own,
            mixed: None,
            first: 0,
            batch,
        }
    }
}

/// A batch's images and labels in tensors on the host, as if it were a whole batch.
///
/// # Errors
/// Another number of values than such images have, and libtorch's.
pub fn host_batch(batch: &Batch, side: usize) -> Result<(Tensor<4>, Labels)> {
    let device = Device::libtorch();
    let labels = |labels: &[i64]| Tensor::from_data(TensorData::from(labels), &device);
    let images = memory::tensor_of(&batch.images, &[batch.labels.len(), side, side, CHANNELS])?;
    let mixed = &batch.mixed_labels[..];
    let labels = Labels {
        mixed: (!mixed.is_empty()).then(|| labels(mixed)),
        ..labels(&batch.labels).into()
    };
    Ok((from_tch(images), labels))
}

/// Images as [n, side, side, 3] and labels as [n], on the device.
pub fn upload(
    images: Vec<f32>,
    labels: Vec<i64>,
    side: usize,
    device: &Device,
) -> (Tensor<4>, Tensor<1, Int>) {
    let n = labels.len();
    let images = TensorData::new(images, [n, side, side, CHANNELS]);
    let labels = TensorData::new(labels, [n]);
    (
        Tensor::from_data(images, device),
        Tensor::from_data(labels, device),
    )
}

fn not_libtorch<E: std::fmt::Debug>(error: E) -> anyhow::Error {
    anyhow!("a tensor is not libtorch's: {error:?}")
}

fn tch_tensor<const D: usize>(tensor: Tensor<D>) -> Result<tch::Tensor> {
    let primitive = tensor
        .try_into_primitive::<LibTorch>()
        .map_err(not_libtorch)?;
    Ok(primitive.tensor)
}

fn from_tch<const D: usize>(tensor: tch::Tensor) -> Tensor<D> {
    Tensor::from_primitive::<LibTorch>(TchTensor::new(tensor))
}

/// The values on the host, row by row.
fn to_host(tensor: &tch::Tensor) -> Result<Vec<f32>> {
    Ok(memory::host(&tensor.f_to_device(tch::Device::Cpu)?)?.into_owned())
}

/// The parameters' libtorch handles, on the same memory as the network's.
fn handles(network: &Network) -> Result<Vec<tch::Tensor>> {
    let mut collect = CollectHandles(Vec::with_capacity(PARAMETERS));
    network.visit(&mut collect);
    collect
        .0
        .into_iter()
        .collect::<Result<_>>()
        .context("failed to reach the parameters")
}

/// The device that a network is on.
///
/// # Errors
/// That its parameters are not libtorch's.
pub fn device_of(network: &Network) -> Result<tch::Device> {
    let handles = handles(network)?;
    let first = handles.first().context("a network without parameters")?;
    Ok(first.device())
}

struct CollectHandles(Vec<Result<tch::Tensor>>);

impl ModuleVisitor for CollectHandles {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(tch_tensor(param.val()));
    }
}

/// A network like `like` on other memory.
fn with_handles(like: &Network, handles: Vec<tch::Tensor>) -> Network {
    like.clone().map(&mut ReplaceHandles(handles.into_iter()))
}

struct ReplaceHandles(std::vec::IntoIter<tch::Tensor>);

impl ModuleMapper for ReplaceHandles {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.next() {
            Some(native) => param.map(|_| from_tch(native)),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_built_with() {
        assert!(
            include_str!("../../Cargo.toml").contains(&format!("burn = {{ version = \"={BURN}\""))
        );
        assert!(LIBTORCH.starts_with("2."), "{LIBTORCH}");
    }
}
