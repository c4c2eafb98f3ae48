//! What processes that train together do to each step's gradients: the mean over their parts of the batch.

use super::group::Group;
use super::memory::{FlatTensors, host};
use super::native::{Gradients, PartGradients};
use super::{handles, to_host};
use crate::model::Network;
use anyhow::Result;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Values of a step beside its gradients: cross-entropy and accuracy.
const LOSSES: usize = 2;

/// The gradients and losses of a whole batch, of those of each rank's equal part of it; the same bits on every rank.
/// `sums` becomes the sum over the ranks, on the same way. Also how long that took, with the wait for the slowest rank.
///
/// # Errors
/// A rank that does not take part in time, and libtorch's.
pub fn mean_over_ranks(
    group: &mut Group,
    part: &PartGradients,
    sums: &mut [f32],
) -> Result<(PartGradients, Duration)> {
    let tensors = part.gradients.tensors();
    let count: usize = tensors.iter().map(Tensor::numel).sum();
    let mut flat = Vec::with_capacity(count + LOSSES + sums.len());
    let losses = Tensor::f_stack(&[&part.cross_entropy, &part.accuracy], 0)?;
    for tensor in [part.gradients.flat()?, losses] {
        flat.extend_from_slice(&host(&tensor.f_to_device(Device::Cpu)?)?);
    }
    flat.extend_from_slice(sums);
    let begin = Instant::now();
    let flat = group.all_reduce(flat)?;
    let took = begin.elapsed();
    sums.copy_from_slice(&flat[count + LOSSES..]);
    let ranks = group.members().len() as f32;
    let mut gradients = FlatTensors::like(tensors)?;
    let mut rest = &flat[..];
    for values in gradients.values() {
        let (own, later) = rest.split_at(values.len());
        for (mean, sum) in values.iter_mut().zip(own) {
            *mean = sum / ranks;
        }
        rest = later;
    }
    let like = &part.cross_entropy;
    let mean = |sum: f32| Tensor::from(sum / ranks).f_to_device(like.device());
    let batch = PartGradients {
        cross_entropy: mean(rest[0])?,
        accuracy: mean(rest[1])?,
        gradients: match like.device() {
            Device::Cpu => Gradients::Host(gradients),
            device => Gradients::Device(gradients.to_device(device)?),
        },
    };
    Ok((batch, took))
}

/// Take part in [`mean_over_ranks`] without gradients and losses of one's own, with these numbers to sum.
///
/// # Errors
/// As [`mean_over_ranks`].
pub fn take_no_part(group: &mut Group, network: &Network, sums: &[f32]) -> Result<()> {
    let gradients: usize = handles(network)?.iter().map(Tensor::numel).sum();
    let mut flat = vec![0.0; gradients + LOSSES];
    flat.extend_from_slice(sums);
    group.all_reduce(flat)?;
    Ok(())
}

/// A number of 16 bits that almost surely differs where the weights do. Sums of it are exact in a float.
///
/// # Errors
/// libtorch's.
pub fn checksum(network: &Network) -> Result<u16> {
    let mut hash = 0_u64;
    for tensor in handles(network)? {
        for value in to_host(&tensor)? {
            hash = (hash ^ u64::from(value.to_bits())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 32;
        }
    }
    Ok((hash >> 48) as u16)
}

#[cfg(test)]
mod tests {
    use super::super::native::tests::small;
    use super::*;
    use burn::tensor::Device;
    use runboard::spec::Seed;

    #[test]
    fn checksum_differs_with_a_single_bit_of_the_weights() {
        let (spec, crop) = small();
        let network = || Network::init(&spec.network, crop, Seed(1), &Device::libtorch());
        let first = checksum(&network()).unwrap();
        assert_eq!(first, checksum(&network()).unwrap());
        for place in [0, 7, 100] {
            let mut tensors = network().named();
            let value = &mut tensors[0].values[place];
            *value = f32::from_bits(value.to_bits() ^ 1);
            let other = network().with_tensors(&tensors).unwrap();
            assert_ne!(first, checksum(&other).unwrap());
        }
    }
}
