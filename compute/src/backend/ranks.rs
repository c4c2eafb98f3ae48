//! What processes that train together do to each step's gradients: the mean over their parts of the batch.

use super::cpu::{DENSE, DenseFirst};
use super::group::{Group, PendingMean};
use super::memory::{FlatTensors, views};
use super::native::{Gradients, PartGradients, part_gradients_in_turn};
use super::{Labels, handles, to_host};
use crate::model::Network;
use anyhow::Result;
use burn::tensor::Tensor as BurnTensor;
use runboard::spec::Spec;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// The gradients and losses of the whole batch of a step, of which this rank computes those of its equal part, `images` and
/// `labels`; the same bits on every rank. Also how long it waited for the others and for the sums. `None` if there is no such
/// step.
///
/// Where the CPU's kernels compute, the dense layers' gradients travel while the convolutions' are computed.
///
/// `begins` is called before anything is summed: it waits until all ranks make the step, and answers with `false` if they
/// do not.
///
/// # Errors
/// A rank that does not take part in time, those of `begins`, and libtorch's.
pub fn batch_gradients(
    group: &mut Group,
    network: &Network,
    spec: &Spec,
    step: u64,
    (images, labels): (BurnTensor<4>, Labels),
    begins: impl FnOnce(&mut Group) -> Result<bool> + Send,
) -> Result<Option<(PartGradients, Duration)>> {
    let ranks = group.members().len();
    let mut sums = Sums {
        group,
        begins: Some(begins),
        is_step: true,
        waited: Duration::ZERO,
        dense: None,
    };
    let take = &mut |dense| sums.start_dense(dense);
    let first = Some(DenseFirst { ranks, take });
    let part = part_gradients_in_turn(network, spec, step, images, labels, first)?;
    sums.begin()?;
    if !sums.is_step {
        return Ok(None);
    }
    let batch = sums.finish(part)?;
    Ok(Some((batch, sums.waited)))
}

/// A step's sums over the ranks.
struct Sums<'a, F> {
    group: &'a mut Group,
    /// That of [`batch_gradients`], until it was called.
    begins: Option<F>,
    /// What it answered.
    is_step: bool,
    /// How long this rank waited.
    waited: Duration,
    /// The dense layers' gradients, while they travel.
    dense: Option<PendingMean>,
}

impl<F: FnOnce(&mut Group) -> Result<bool>> Sums<'_, F> {
    /// Wait until all ranks make this step, if that has not been done.
    fn begin(&mut self) -> Result<()> {
        let begin = Instant::now();
        if let Some(begins) = self.begins.take() {
            self.is_step = begins(self.group)?;
        }
        self.waited += begin.elapsed();
        Ok(())
    }

    /// Start the sum of the dense layers' gradients.
    fn start_dense(&mut self, dense: Tensor) -> Result<()> {
        self.begin()?;
        if self.is_step {
            self.dense = Some(self.group.start_mean(dense)?);
        }
        Ok(())
    }

    /// The mean of the parts.
    fn finish(&mut self, part: PartGradients) -> Result<PartGradients> {
        let device = part.cross_entropy.device();
        let losses = to_host(&Tensor::f_stack(&[&part.cross_entropy, &part.accuracy], 0)?)?;
        let ([cross_entropy, accuracy], gradients) = match (part.gradients, self.dense.take()) {
            (Gradients::Host(flat), Some(dense)) => self.finish_dense(flat, dense, &losses)?,
            (gradients, _) => self.mean_of_all(&gradients, losses, device)?,
        };
        let scalar = |value| Tensor::from(value).f_to_device(device);
        Ok(PartGradients {
            cross_entropy: scalar(cross_entropy)?,
            accuracy: scalar(accuracy)?,
            gradients,
        })
    }

    /// While the dense layers' gradients travel: those of the convolutions, and the losses.
    fn finish_dense(
        &mut self,
        mut gradients: FlatTensors,
        dense: PendingMean,
        losses: &[f32],
    ) -> Result<([f32; 2], Gradients)> {
        let mut values = to_host(&gradients.head(DENSE)?)?;
        values.extend_from_slice(losses);
        let begin = Instant::now();
        let sum = self.group.start_sum(values);
        self.group.finish_mean(dense)?;
        let sums = self.group.finish_sum(sum)?;
        self.waited += begin.elapsed();
        let mut means = self.means(&sums);
        for values in gradients.values().into_iter().take(DENSE) {
            values
                .iter_mut()
                .zip(&mut means)
                .for_each(|(to, mean)| *to = mean);
        }
        let losses = [(); 2].map(|()| means.next().unwrap_or(f32::NAN));
        Ok((losses, Gradients::Host(gradients)))
    }

    /// All at once, by way of the host.
    fn mean_of_all(
        &mut self,
        gradients: &Gradients,
        losses: Vec<f32>,
        device: Device,
    ) -> Result<([f32; 2], Gradients)> {
        let flat = gradients.flat()?;
        let len = flat.size()[0];
        let padding = (len as usize).next_multiple_of(self.group.members().len()) as i64 - len;
        // A copy, also on the host: who has the gradients of the part has them alone.
        let flat = flat
            .f_constant_pad_nd([0, padding])?
            .f_to_device(Device::Cpu)?;
        let begin = Instant::now();
        let mean = self.group.start_mean(flat.shallow_clone())?;
        let sum = self.group.start_sum(losses);
        self.group.finish_mean(mean)?;
        let sums = self.group.finish_sum(sum)?;
        self.waited += begin.elapsed();
        let mut means = self.means(&sums);
        let losses = [(); 2].map(|()| means.next().unwrap_or(f32::NAN));
        let flat = flat.f_narrow(0, 0, len)?.f_to_device(device)?;
        let gradients = views(&flat, gradients.tensors())?;
        Ok((losses, Gradients::Device(gradients)))
    }

    /// Of sums over the ranks.
    fn means<'s>(&self, sums: &'s [f32]) -> impl Iterator<Item = f32> + use<'s, F> {
        let ranks = self.group.members().len() as f32;
        sums.iter().map(move |sum| sum / ranks)
    }
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
