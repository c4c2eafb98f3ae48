//! What processes that train together do to each step's gradients: the mean over their parts of the batch.

use super::cpu::{DENSE, DenseFirst};
use super::group::{Group, PendingMean};
use super::memory::{FlatTensors, flattened, views};
use super::native::{Gradients, PartGradients, part_gradients_in_turn};
use super::recorder::Recorder;
use super::{Labels, handles, to_host};
use crate::model::Network;
use anyhow::{Context, Result};
use burn::tensor::Tensor as BurnTensor;
use runboard::spec::{ReducePrecision, Spec};
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// The gradients and losses of the whole batch of a step, of which this rank computes those of its equal part, `images` and
/// `labels`; the same bits on every rank. Also how long it waited for the others and for the sums; where GPUs sum, for those of the
/// step before. `None` if there is no such step.
///
/// Where the CPU's kernels compute, the dense layers' gradients travel while the convolutions' are computed. Where GPUs sum,
/// what is returned is of use once [`Group::settle`] has succeeded.
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
    recorder: &mut Recorder,
    begins: impl FnOnce(&mut Group) -> Result<bool> + Send,
) -> Result<Option<(PartGradients, Duration)>> {
    let ranks = group.members().len();
    let mut sums = Sums {
        group,
        precision: match ranks {
            1 => ReducePrecision::Float32, // nothing travels
            _ => spec.compute.reduce_precision,
        },
        begins: Some(begins),
        is_step: true,
        waited: Duration::ZERO,
        dense: None,
    };
    let take = &mut |dense| sums.start_dense(dense);
    let first = Some(DenseFirst { ranks, take });
    let part = part_gradients_in_turn(network, spec, step, images, labels, recorder, first)?;
    sums.begin()?;
    if !sums.is_step {
        return Ok(None);
    }
    let batch = match sums.group.is_on_gpus() {
        true => sums.finish_on_gpus(part)?,
        false => sums.finish(part)?,
    };
    Ok(Some((batch, sums.waited)))
}

/// How many losses travel with the gradients: cross-entropy and accuracy.
const LOSSES: usize = 2;

/// A step's sums over the ranks.
struct Sums<'a, F> {
    group: &'a mut Group,
    /// In which the dense layers' gradients travel; the rest is float32.
    precision: ReducePrecision,
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
        // The sums of the step before, which are not this one's wait.
        self.group.settle()?;
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
            self.dense = Some(self.group.start_mean(dense, self.precision)?);
        }
        Ok(())
    }

    /// The mean of the parts. Ranks on different devices make the same sums: of the dense layers' gradients, and of the
    /// convolutions' and the losses.
    fn finish(&mut self, part: PartGradients) -> Result<PartGradients> {
        let device = part.cross_entropy.device();
        let losses = to_host(&Tensor::f_stack(&[&part.cross_entropy, &part.accuracy], 0)?)?;
        let on_host = matches!(part.gradients, Gradients::Host(_));
        let mut gradients = match part.gradients {
            Gradients::Host(flat) => flat,
            Gradients::Device(ref tensors) => {
                let host = FlatTensors::like(tensors)?;
                host.flat()?.f_copy_(&part.gradients.flat()?)?;
                host
            }
        };
        let mut values = to_host(&gradients.head(DENSE)?)?;
        values.extend_from_slice(&losses);
        let begin = Instant::now();
        let dense = match self.dense.take() {
            Some(dense) => dense,
            None => {
                let ranks = self.group.members().len();
                let dense = gradients.tail(DENSE, ranks)?;
                self.group.start_mean(dense, self.precision)?
            }
        };
        let sum = self.group.start_sum(values);
        self.group.finish_mean(dense)?;
        let sums = self.group.finish_sum(sum)?;
        self.waited += begin.elapsed();
        let ranks = self.group.members().len() as f32;
        let mut means = sums.iter().map(|sum| sum / ranks);
        for values in gradients.values().into_iter().take(DENSE) {
            let pairs = values.iter_mut().zip(&mut means);
            pairs.for_each(|(to, mean)| *to = mean);
        }
        let mut loss = || Tensor::from(means.next().unwrap_or(f32::NAN)).f_to_device(device);
        Ok(PartGradients {
            cross_entropy: loss()?,
            accuracy: loss()?,
            gradients: match on_host {
                true => Gradients::Host(gradients),
                false => {
                    let flat = gradients.flat()?.f_to_device(device)?;
                    Gradients::Device(views(&flat, &gradients.views)?)
                }
            },
        })
    }
}

impl<F: FnOnce(&mut Group) -> Result<bool>> Sums<'_, F> {
    /// The mean of the parts, on the GPU, which is not waited for.
    fn finish_on_gpus(&mut self, part: PartGradients) -> Result<PartGradients> {
        let losses = [part.cross_entropy.f_detach()?, part.accuracy];
        let mut tensors = Vec::from(losses);
        tensors.extend(part.gradients.into_tensors());
        let (exact, rounded) = tensors.split_at(match self.precision {
            ReducePrecision::Float32 => tensors.len(),
            ReducePrecision::Bf16 => LOSSES + DENSE,
        });
        let mut sums = vec![Tensor::f_cat(&flattened(exact)?, 0)?];
        if !rounded.is_empty() {
            let flat = Tensor::f_cat(&flattened(rounded)?, 0)?;
            sums.push(flat.f_to_kind(Kind::BFloat16)?);
        }
        self.group.sum_on_gpus(&sums)?;
        let ranks = self.group.members().len() as f64;
        self.waited += self.group.take_time_on_gpus();
        let mut means = Vec::with_capacity(tensors.len());
        for (sums, like) in sums.into_iter().zip([exact, rounded]) {
            let mut floats = sums.f_to_kind(Kind::Float)?;
            let _ = floats.f_div_scalar_(ranks)?;
            means.extend(views(&floats, like)?);
        }
        let gradients = means.split_off(LOSSES);
        let mut loss = || means.pop().context("a loss is missing");
        Ok(PartGradients {
            accuracy: loss()?,
            cross_entropy: loss()?,
            gradients: Gradients::Device(gradients),
        })
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
