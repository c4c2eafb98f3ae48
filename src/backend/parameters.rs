//! A network's parameters in one block of memory, so that a step changes all of them at once.

use super::losses::DeviceLosses;
use super::{handles, rebuilt};
use crate::model::Network;
use anyhow::Result;
use tch::{Device, Kind, Tensor as Native};

/// Weights, or their moving average.
#[derive(Debug)]
pub struct Parameters {
    /// On the block's memory.
    network: Network,
    /// [values], in the order of the network's fields.
    block: Native,
    /// False from the first step on that had no finite loss; a scalar on the same device.
    sound: Native,
}

impl Parameters {
    /// A copy of the network's.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(network: &Network) -> Result<Self> {
        let handles = handles(network)?;
        let block = block(&handles)?;
        let mut parts = Vec::with_capacity(handles.len());
        let mut start = 0;
        for handle in &handles {
            let length = handle.numel() as i64;
            let part = block.f_narrow(0, start, length)?;
            parts.push(part.f_view(&handle.size()[..])?);
            start += length;
        }
        Ok(Parameters {
            network: rebuilt(network, parts),
            sound: Native::f_ones([], (Kind::Bool, block.device()))?,
            block,
        })
    }

    /// The network, on the same memory.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// One step of gradient descent: w -= learning_rate * gradient. From the first step on that had no finite total
    /// loss they stay what they were before it, however late somebody reads that loss.
    ///
    /// # Errors
    /// libtorch's.
    pub fn descend(
        &mut self,
        gradients: &Network,
        losses: &DeviceLosses,
        learning_rate: f64,
    ) -> Result<()> {
        self.sound = self.sound.f_logical_and(&losses.is_finite()?)?;
        let mut gradient = block(&handles(gradients)?)?;
        if self.block.device() != Device::Cpu {
            gradient = none_unless(&self.sound, &gradient)?;
        } else if self.sound.f_int64_value(&[])? == 0 {
            return Ok(()); // to ask costs nothing here
        }
        let _ = self.block.f_sub_(&gradient.f_mul_scalar_(learning_rate)?)?;
        Ok(())
    }

    /// Move towards the weights: average -= (1 - decay) * (average - w).
    ///
    /// # Errors
    /// libtorch's.
    pub fn follow(&mut self, weights: &Parameters, decay: f64) -> Result<()> {
        let _ = self.block.f_lerp_(&weights.block, 1.0 - decay)?;
        Ok(())
    }
}

/// All values one after the other, copied.
fn block(handles: &[Native]) -> Result<Native> {
    let flat = handles.iter().map(|handle| handle.f_flatten(0, -1));
    let flat = flat.collect::<Result<Vec<_>, _>>()?;
    Ok(Native::f_cat(&flat, 0)?)
}

/// `values`, or zeros if `condition`, a scalar on the same device, is false; zeros even in the place of NaN.
fn none_unless(condition: &Native, values: &Native) -> Result<Native> {
    Ok(values.f_where_self(condition, &values.f_zeros_like()?)?)
}

#[cfg(test)]
mod tests {
    use super::super::native::tests::small;
    use super::*;
    use crate::model::NamedTensor;
    use crate::spec;

    fn network(seed: u64) -> Network {
        let (spec, crop) = small();
        let device = burn::tensor::Device::libtorch();
        Network::init(&spec.network, crop, spec::Seed(seed), &device)
    }

    fn loss(value: f32) -> DeviceLosses {
        DeviceLosses::new(Native::from(value), vec![]).unwrap()
    }

    #[test]
    fn steps_and_averages_follow_their_formulas_and_copies_are_apart() {
        let (before, gradient) = (network(3), network(4));
        let mut weights = Parameters::of(&before).unwrap();
        let mut average = Parameters::of(&before).unwrap();
        weights.descend(&gradient, &loss(1.0), 0.5).unwrap();
        average.follow(&weights, 0.9).unwrap();
        let [before, gradient, after, average]: [Vec<NamedTensor>; 4] =
            [&before, &gradient, weights.network(), average.network()].map(Network::named);
        for (index, (after, average)) in after.iter().zip(average).enumerate() {
            assert_eq!(
                (&after.name, &after.shape),
                (&before[index].name, &before[index].shape)
            );
            for i in 0..after.values.len() {
                let (old, g) = (before[index].values[i], gradient[index].values[i]);
                assert!((after.values[i] - (old - 0.5 * g)).abs() < 1e-6);
                let want = old - (1.0 - 0.9) * (old - after.values[i]);
                assert!((average.values[i] - want).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn from_a_loss_that_is_not_finite_on_nothing_is_descended() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut weights = Parameters::of(&network(3)).unwrap();
            weights.descend(&network(4), &loss(1.0), 0.5).unwrap();
            let before = weights.network().named();
            weights.descend(&network(5), &loss(broken), 0.5).unwrap();
            weights.descend(&network(6), &loss(1.0), 0.5).unwrap();
            assert!(weights.network().named() == before);
        }
    }

    #[test]
    fn a_gpu_that_is_not_asked_descends_zeros() {
        let values = Native::from_slice(&[1.0f32, f32::NAN, f32::INFINITY]);
        let of = |sound: bool| {
            let chosen = none_unless(&Native::from(sound), &values).unwrap();
            Vec::<f32>::try_from(chosen).unwrap()
        };
        assert_eq!(of(false), [0.0, 0.0, 0.0]);
        assert!(of(true)[0] == 1.0 && of(true)[1].is_nan() && of(true)[2].is_infinite());
    }
}
