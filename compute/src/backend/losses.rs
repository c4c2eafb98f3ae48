//! A step's losses and its accuracy, on the device and off it.

use crate::model::LAYERS;
use anyhow::Result;
use tch::{Kind, Tensor};

/// A step's losses and accuracy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// Mean cross-entropy plus weight decay: what training minimises.
    pub total: f64,
    /// Mean cross-entropy of the batch.
    pub cross_entropy: f64,
    /// Share of the batch's images whose likeliest class is their own, in 0..=1.
    pub accuracy: f64,
    /// Each layer's weight decay, in the order of [`LAYERS`]; 0 where it has none.
    pub weight_decay: [f64; LAYERS.len()],
}

/// A step's losses where they are computed. A GPU computes while the host goes on; only [`DeviceLosses::read`] waits
/// for it.
#[derive(Debug)]
pub struct DeviceLosses {
    /// [3 + decayed layers]: the total, the cross-entropy, the accuracy, the decays.
    values: Tensor,
    /// The layers that have a weight decay.
    decayed: Vec<usize>,
}

impl DeviceLosses {
    /// Of the mean cross-entropy, the accuracy and the decays of some layers, each with its number in [`LAYERS`]; scalars
    /// all.
    pub(super) fn new(
        cross_entropy: Tensor,
        accuracy: Tensor,
        decays: Vec<(usize, Tensor)>,
    ) -> Result<Self> {
        let (decayed, decays): (Vec<usize>, Vec<Tensor>) = decays.into_iter().unzip();
        let mut total = cross_entropy.shallow_clone();
        for decay in &decays {
            total = total.f_add(decay)?;
        }
        let values = [&total, &cross_entropy, &accuracy];
        let values = values.into_iter().chain(&decays);
        let values = Tensor::f_stack(&values.collect::<Vec<_>>(), 0)?;
        Ok(DeviceLosses { values, decayed })
    }

    /// Whether the total is finite: a scalar of its kind `Bool`, on the device.
    pub(super) fn is_finite(&self) -> Result<Tensor> {
        Ok(self.values.f_select(0, 0)?.f_isfinite()?)
    }

    /// Fetch those of several steps, all at once: the device is waited for once.
    ///
    /// # Errors
    /// libtorch's.
    pub fn read(steps: &[&Self]) -> Result<Vec<Losses>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<&Tensor> = steps.iter().map(|step| &step.values).collect();
        let values = Tensor::f_cat(&values, 0)?.f_to_device(tch::Device::Cpu)?;
        let values = Vec::<f64>::try_from(values.f_to_kind(Kind::Double)?)?;
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or(f64::NAN);
        let read = |step: &&Self| {
            let (total, cross_entropy, accuracy) = (next(), next(), next());
            let mut weight_decay = [0.0; LAYERS.len()];
            for &layer in &step.decayed {
                weight_decay[layer] = next();
            }
            Losses {
                total,
                cross_entropy,
                accuracy,
                weight_decay,
            }
        };
        Ok(steps.iter().map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_several_steps_are_read_at_once_each_in_its_place() {
        let scalar = |value: f64| Tensor::from(value as f32);
        let steps = [
            DeviceLosses::new(
                scalar(2.0),
                scalar(0.75),
                vec![(2, scalar(0.5)), (3, scalar(0.25))],
            )
            .unwrap(),
            DeviceLosses::new(scalar(1.0), scalar(0.5), vec![]).unwrap(),
        ];
        let read = DeviceLosses::read(&steps.each_ref()).unwrap();
        let want = |total, cross_entropy, accuracy, weight_decay| Losses {
            total,
            cross_entropy,
            accuracy,
            weight_decay,
        };
        assert_eq!(read[0], want(2.75, 2.0, 0.75, [0.0, 0.0, 0.5, 0.25, 0.0]));
        assert_eq!(read[1], want(1.0, 1.0, 0.5, [0.0; LAYERS.len()]));
        assert_eq!(DeviceLosses::read(&[]).unwrap(), []);
    }
}
