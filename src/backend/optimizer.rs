//! The optimizer: the weights, and what a step makes of them.

use super::handles;
use super::losses::DeviceLosses;
use super::parameters::{FlatParameters, flat};
use crate::model::{self, EMA, Network, TensorGroups, WEIGHTS};
use crate::schedule;
use crate::spec;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Stochastic gradient descent, with a moving average of the weights (EMA) beside it.
///
/// The one place that computes the update; `norm/update_to_weight` (trainer/reporter) and the drawn graph
/// (trainer/graph.rs) show this rule, and change with it. One with a memory, such as momentum, keeps that as further
/// [`FlatParameters`]: its update stands in place of [`sgd_update`], its memory is one more group of
/// [`Optimizer::state`] and [`Optimizer::restore`]. Trainer and checkpoint carry the groups without knowing them.
#[derive(Debug)]
pub struct Optimizer {
    weights: FlatParameters,
    ema: FlatParameters,
    /// The largest decay of the moving average.
    ema_decay: f64,
    /// False from the first step on that had no finite loss; a scalar on the weights' device.
    all_finite: Tensor,
}

impl Optimizer {
    /// At the beginning: the moving average starts at the weights.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(spec: &spec::Optimizer, network: &Network) -> Result<Self> {
        Self::of(spec, network, network)
    }

    /// Where [`Optimizer::state`] was; `like` is any network of the same shapes, on the device to train on.
    ///
    /// # Errors
    /// A group that is missing, or is of another network, and libtorch's.
    pub fn restore(spec: &spec::Optimizer, like: &Network, state: &TensorGroups) -> Result<Self> {
        let network = |group| like.clone().with_tensors(model::group(state, group)?);
        Self::of(spec, &network(WEIGHTS)?, &network(EMA)?)
    }

    fn of(spec: &spec::Optimizer, weights: &Network, ema: &Network) -> Result<Self> {
        let mut weights = FlatParameters::of(weights)?;
        let device = weights.values().device();
        Ok(Optimizer {
            weights,
            ema: FlatParameters::of(ema)?,
            ema_decay: spec.ema_decay,
            all_finite: Tensor::f_ones([], (Kind::Bool, device))?,
        })
    }

    /// All that the next step depends on, copied to the host.
    pub fn state(&self) -> TensorGroups {
        [(WEIGHTS, &self.weights), (EMA, &self.ema)]
            .map(|(group, parameters)| (group.to_owned(), parameters.network().named()))
            .into()
    }

    /// The network with the weights after the last step.
    pub fn network(&self) -> &Network {
        self.weights.network()
    }

    /// Take step `step`, counted from 0. From the first one on that had no finite total loss, the weights stay what
    /// they were before it, however late somebody reads that loss.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(
        &mut self,
        step: u64,
        gradients: &Network,
        losses: &DeviceLosses,
        learning_rate: f64,
    ) -> Result<()> {
        self.all_finite = self.all_finite.f_logical_and(&losses.is_finite()?)?;
        let on_cpu = self.all_finite.device() == Device::Cpu;
        if on_cpu && self.all_finite.f_int64_value(&[])? == 0 {
            return Ok(()); // to ask costs nothing here
        }
        let mut update = sgd_update(flat(&handles(gradients)?)?, learning_rate)?;
        if !on_cpu {
            update = zeros_unless(&self.all_finite, &update)?;
        }
        let _ = self.weights.values().f_sub_(&update)?;
        self.update_ema(schedule::ema_decay(self.ema_decay, step + 1))
    }

    /// average -= (1 - decay) * (average - weights)
    fn update_ema(&mut self, decay: f64) -> Result<()> {
        let weights = self.weights.values();
        let _ = self.ema.values().f_lerp_(weights, 1.0 - decay)?;
        Ok(())
    }
}

/// What gradient descent takes off the weights, in the gradient's memory.
fn sgd_update(mut gradient: Tensor, learning_rate: f64) -> Result<Tensor> {
    Ok(gradient.f_mul_scalar_(learning_rate)?)
}

/// `values`, or zeros if `condition`, a scalar on the same device, is false; zeros even in the place of NaN.
fn zeros_unless(condition: &Tensor, values: &Tensor) -> Result<Tensor> {
    Ok(values.f_where_self(condition, &values.f_zeros_like()?)?)
}

#[cfg(test)]
mod tests {
    use super::super::native::tests::small;
    use super::*;
    use crate::checkpoint::{self, Checkpoint, CheckpointState};
    use crate::model::NamedTensor;

    fn network(seed: u64) -> Network {
        let (spec, crop) = small();
        let device = burn::tensor::Device::libtorch();
        Network::init(&spec.network, crop, spec::Seed(seed), &device)
    }

    fn optimizer(seed: u64) -> Optimizer {
        Optimizer::new(&spec::Optimizer::default(), &network(seed)).unwrap()
    }

    fn loss(value: f32) -> DeviceLosses {
        DeviceLosses::new(Tensor::from(value), vec![]).unwrap()
    }

    #[test]
    fn step_follows_its_formula_and_leaves_the_network_that_it_began_with() {
        let (first, gradient) = (network(3), network(4));
        let before = first.named();
        let mut optimizer = optimizer(3);
        optimizer.step(8, &gradient, &loss(1.0), 0.5).unwrap();
        assert!(first.named() == before);
        let state = optimizer.state();
        assert!(state[WEIGHTS] == optimizer.network().named());
        let gradient = gradient.named();
        for (index, (after, average)) in state[WEIGHTS].iter().zip(&state[EMA]).enumerate() {
            let NamedTensor { name, shape, .. } = &before[index];
            assert_eq!((&after.name, &after.shape), (name, shape));
            for i in 0..after.values.len() {
                let (old, g) = (before[index].values[i], gradient[index].values[i]);
                assert!((after.values[i] - (old - 0.5 * g)).abs() < 1e-6);
                let decay = (1.0 + 9.0) / (10.0 + 9.0);
                let want = old - (1.0 - decay) * (old - after.values[i]);
                assert!((average.values[i] - want).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn step_after_a_loss_that_is_not_finite_changes_no_weight() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut optimizer = optimizer(3);
            optimizer.step(0, &network(4), &loss(1.0), 0.5).unwrap();
            let before = optimizer.network().named();
            optimizer.step(1, &network(5), &loss(broken), 0.5).unwrap();
            optimizer.step(2, &network(6), &loss(1.0), 0.5).unwrap();
            assert!(optimizer.network().named() == before);
        }
    }

    #[test]
    fn update_is_zeros_on_a_gpu_that_is_not_asked() {
        let values = Tensor::from_slice(&[1.0f32, f32::NAN, f32::INFINITY]);
        let of = |all_finite: bool| {
            let chosen = zeros_unless(&Tensor::from(all_finite), &values).unwrap();
            Vec::<f32>::try_from(chosen).unwrap()
        };
        assert_eq!(of(false), [0.0, 0.0, 0.0]);
        assert!(of(true)[0] == 1.0 && of(true)[1].is_nan() && of(true)[2].is_infinite());
    }

    #[test]
    fn state_through_a_checkpoint_goes_on_bit_for_bit() {
        let step = |optimizer: &mut Optimizer, step: u64| {
            let gradient = network(10 + step);
            optimizer.step(step, &gradient, &loss(1.0), 0.1).unwrap();
        };
        let mut whole = optimizer(3);
        (0..3).for_each(|n| step(&mut whole, n));

        let directory = tempfile::tempdir().unwrap();
        let saved = Checkpoint {
            state: CheckpointState {
                step: 2,
                ..CheckpointState::default()
            },
            tensors: whole.state(),
        };
        let path = checkpoint::save(directory.path(), &saved).unwrap();
        let mut tensors = checkpoint::load(&path).unwrap().tensors;
        let spec = spec::Optimizer::default();
        let mut parted = Optimizer::restore(&spec, &network(4), &tensors).unwrap();
        assert!(parted.state() == whole.state());
        for n in 3..5 {
            step(&mut whole, n);
            step(&mut parted, n);
        }
        assert!(parted.state() == whole.state());
        assert!(parted.state()[WEIGHTS] != parted.state()[EMA]);

        tensors.remove(EMA);
        let error = Optimizer::restore(&spec, &network(4), &tensors).unwrap_err();
        assert_eq!(
            error.to_string(),
            "got the tensors of weights, want those of ema"
        );
    }
}
