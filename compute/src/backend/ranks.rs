//! What processes that train together do to each step's gradients: the mean over their parts of the batch.

use super::group::Group;
use super::losses::DeviceLosses;
use super::{handles, to_host, with_handles};
use crate::model::{LAYERS, Network};
use anyhow::Result;
use std::time::{Duration, Instant};
use tch::Tensor;

/// The most losses that a step has: a total, a cross-entropy, an accuracy, the layers' decays.
const LOSSES: usize = 3 + LAYERS.len();

/// The gradients and losses of a whole batch, of those of each rank's equal part of it; the same bits on every rank.
/// `sums` becomes the sum over the ranks, on the same way. Also how long that took, with the wait for the slowest rank.
///
/// # Errors
/// A rank that does not take part in time, and libtorch's.
pub fn mean_over_ranks(
    group: &mut Group,
    gradients: &Network,
    losses: &DeviceLosses,
    sums: &mut [f32],
) -> Result<(Network, DeviceLosses, Duration)> {
    let mut tensors = handles(gradients)?;
    tensors.push(losses.values().shallow_clone());
    let mut flat = Vec::new();
    for tensor in &tensors {
        flat.extend(to_host(tensor)?);
    }
    // As many values in every spec: those of a rank that takes no part are no fewer.
    flat.resize(flat.len() + LOSSES - losses.values().numel(), 0.0);
    let means = flat.len();
    flat.extend_from_slice(sums);
    let begin = Instant::now();
    group.all_reduce(&mut flat)?;
    let took = begin.elapsed();
    sums.copy_from_slice(&flat[means..]);
    let ranks = group.members().len() as f32;
    flat[..means].iter_mut().for_each(|sum| *sum /= ranks);
    let mut rest = &flat[..means];
    for tensor in &mut tensors {
        let (values, later) = rest.split_at(tensor.numel());
        rest = later;
        let mean = Tensor::f_from_slice(values)?.f_view(&tensor.size()[..])?;
        *tensor = mean.f_to_device(tensor.device())?;
    }
    let losses = match tensors.pop() {
        Some(values) => losses.with_values(values),
        None => losses.with_values(losses.values().shallow_clone()),
    };
    Ok((with_handles(gradients, tensors), losses, took))
}

/// Take part in [`mean_over_ranks`] without gradients and losses of one's own, with these numbers to sum.
///
/// # Errors
/// As [`mean_over_ranks`].
pub fn take_no_part(group: &mut Group, network: &Network, sums: &[f32]) -> Result<()> {
    let gradients: usize = handles(network)?.iter().map(Tensor::numel).sum();
    let mut flat = vec![0.0; gradients + LOSSES];
    flat.extend_from_slice(sums);
    group.all_reduce(&mut flat)
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
