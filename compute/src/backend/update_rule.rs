//! The update rules: what a step makes of the gradient. docs/recipes.md has the formulas and their sources.
//!
//! Everything happens in place, in the gradient's memory and the rule's own: a step allocates nothing of the
//! parameters' size, which a GPU's memory and the speed of a CPU's step are planned by. The rules are tested in `optimizer.rs`, which
//! applies them, and against torch.optim in `golden/rules.rs`.

use super::cpu::Descent;
use super::muon::{MUON_LAYERS, Orthogonalizers};
use super::native::sum_of_squares;
use super::parameters::FlatParameters;
use crate::model::{LAYERS, Network};
use anyhow::{Context, Result};
use runboard::checkpoint::{self, TensorGroups};
use runboard::spec::{self, OptimizerName};
use tch::{Device, Kind, Tensor};

/// What a rule remembers from step to step: names of groups in a checkpoint.
const MOMENTUM: &str = "momentum";
const FIRST_MOMENT: &str = "first_moment";
const SECOND_MOMENT: &str = "second_moment";

/// torch.nn.utils.clip_grad_norm_ adds this to the norm that it divides by.
const CLIP_EPSILON: f64 = 1e-6;

/// A rule, its constants, and what it remembers.
#[derive(Debug)]
pub(super) struct UpdateRule {
    spec: spec::Optimizer,
    /// As many as [`groups`] names.
    memory: Vec<FlatParameters>,
    /// A scalar on the device.
    momentum: Tensor,
    /// Of the layers that Muon takes, none with another rule.
    orthogonalizers: Option<Orthogonalizers>,
}

/// The groups of tensors that the rule remembers.
fn groups(spec: &spec::Optimizer) -> &'static [&'static str] {
    match spec.name {
        OptimizerName::Adamw => &[FIRST_MOMENT, SECOND_MOMENT],
        OptimizerName::Sgd | OptimizerName::Muon if spec.momentum > 0.0 => &[MOMENTUM],
        OptimizerName::Sgd | OptimizerName::Muon => &[],
    }
}

impl UpdateRule {
    /// At the beginning.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(spec: &spec::Optimizer, network: &Network) -> Result<Self> {
        let zeros = |_: &&str| FlatParameters::zeros(network);
        let memory = groups(spec).iter().map(zeros);
        Self::with_memory(spec, memory.collect::<Result<_>>()?, network)
    }

    /// With the memory that [`UpdateRule::state`] gave; `like` is any network of the same shapes.
    ///
    /// # Errors
    /// A group that is missing, or is of another network, and libtorch's.
    pub fn restore(spec: &spec::Optimizer, like: &Network, state: &TensorGroups) -> Result<Self> {
        let memory = groups(spec).iter().map(|group| {
            let tensors = checkpoint::group(state, group)?;
            FlatParameters::of(&like.clone().with_tensors(tensors)?)
        });
        Self::with_memory(spec, memory.collect::<Result<_>>()?, like)
    }

    fn with_memory(
        spec: &spec::Optimizer,
        memory: Vec<FlatParameters>,
        like: &Network,
    ) -> Result<Self> {
        let mut like = FlatParameters::of(like)?;
        let device = like.values().device();
        let orthogonalizers = match spec.name {
            OptimizerName::Muon => Some(Orthogonalizers::of(&mut like)?),
            OptimizerName::Sgd | OptimizerName::Adamw => None,
        };
        Ok(UpdateRule {
            memory,
            momentum: scalar(spec.momentum, device)?,
            orthogonalizers,
            spec: spec.clone(),
        })
    }

    /// What it remembers, copied to the host.
    pub fn state(&self) -> TensorGroups {
        let named = |memory: &FlatParameters| memory.network().named();
        let groups = groups(&self.spec).iter().map(|group| (*group).to_owned());
        groups.zip(self.memory.iter().map(named)).collect()
    }

    /// The momentum's sum that [`UpdateRule::descent`] gives to be changed.
    pub fn descent_sum(&self) -> Option<&FlatParameters> {
        self.memory.first()
    }

    /// Whether the rule is gradient descent in which each value's update depends on its own gradients alone.
    pub fn is_descent(spec: &spec::Optimizer) -> bool {
        // Every field by name, so that a new one is decided upon.
        let spec::Optimizer {
            name,
            weight_decay,
            bias_rate_factor,
            clip_norm,
            gradient_accumulation,
            // As [`Descent`] has them
            momentum: _,
            nesterov: _,
            dampening: _,
            // AdamW's and Muon's
            betas: _,
            epsilon: _,
            sgd_learning_rate: _,
            // The schedule's, of which `learning_rate` comes
            learning_rate: _,
            decay_factor: _,
            epochs_per_decay: _,
            staircase: _,
            ema_decay: _,
        } = *spec;
        name == OptimizerName::Sgd
            && clip_norm == 0.0
            && bias_rate_factor == 1.0
            && weight_decay == 0.0
            && gradient_accumulation == 1
    }

    /// The constants of the update that `count` came before, and the momentum's sum, of a rule that [is descent](Self::is_descent).
    pub fn descent(
        &mut self,
        count: u64,
        learning_rate: f64,
    ) -> (Descent, Option<&mut FlatParameters>) {
        debug_assert!(Self::is_descent(&self.spec));
        let dampening = if count > 0 { self.spec.dampening } else { 0.0 };
        let descent = Descent {
            rate: learning_rate as f32,
            momentum: self.spec.momentum as f32,
            share: (1.0 - dampening) as f32,
            nesterov: self.spec.nesterov,
        };
        (descent, self.memory.first_mut())
    }

    /// Put in the place of the gradient what is to be taken off the weights; `count` updates came before.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(
        &mut self,
        gradient: &mut FlatParameters,
        weights: &mut FlatParameters,
        count: u64,
        learning_rate: f64,
    ) -> Result<()> {
        if self.spec.clip_norm > 0.0 {
            clip(gradient, self.spec.clip_norm)?;
        }
        // Of the layers whose weights the rule of the name takes; Muon leaves the last one and the biases to SGD.
        let mut rates = [learning_rate; LAYERS.len()];
        match self.spec.name {
            OptimizerName::Sgd => self.sgd(gradient, count, learning_rate)?,
            OptimizerName::Adamw => self.adamw(gradient, count, learning_rate)?,
            OptimizerName::Muon => {
                let schedule = learning_rate / self.spec.learning_rate;
                let sgd_rate = self.spec.sgd_learning_rate * schedule;
                self.muon(gradient, learning_rate, sgd_rate)?;
                rates[MUON_LAYERS] = sgd_rate;
            }
        }
        if self.spec.bias_rate_factor != 1.0 {
            for biases in gradient.biases() {
                let _ = biases.f_mul_scalar_(self.spec.bias_rate_factor)?;
            }
        }
        if self.spec.weight_decay != 0.0 {
            let layers = gradient.weights().zip(weights.weights()).zip(rates);
            for ((update, weights), rate) in layers {
                let factor = scalar(rate * self.spec.weight_decay, weights.device())?;
                let _ = update.f_addcmul_(weights, &factor)?;
            }
        }
        Ok(())
    }

    /// sum = momentum * sum + (1 - dampening) * gradient, from the gradient itself at first; update = rate * sum, with
    /// Nesterov rate * (gradient + momentum * sum). As torch.optim.SGD.
    fn sgd(&mut self, gradient: &mut FlatParameters, count: u64, rate: f64) -> Result<()> {
        let gradient = gradient.values();
        if let [sum] = &mut self.memory[..] {
            if self.spec.dampening != 0.0 && count > 0 {
                let _ = gradient.f_mul_scalar_(1.0 - self.spec.dampening)?;
            }
            momentum(gradient, sum.values(), &self.momentum, self.spec.nesterov)?;
        }
        let _ = gradient.f_mul_scalar_(rate)?;
        Ok(())
    }

    /// update = rate * m / (sqrt(v) + epsilon), m and v the debiased averages of gradient and square. As
    /// torch.optim.AdamW.
    fn adamw(&mut self, gradient: &mut FlatParameters, count: u64, rate: f64) -> Result<()> {
        let [first, second] = &mut self.memory[..] else {
            return Ok(()); // there are two, see `groups`
        };
        let ([beta1, beta2], gradient) = (self.spec.betas, gradient.values());
        let (first, second) = (first.values(), second.values());
        let bias = |beta: f64| 1.0 - beta.powf((count + 1) as f64);
        let _ = first.f_lerp_(gradient, 1.0 - beta1)?;
        let _ = gradient.f_mul_scalar_((1.0 - beta2).sqrt())?;
        let _ = second.f_mul_scalar_(beta2)?;
        let _ = second.f_addcmul_(gradient, gradient)?;
        let _ = second.f_mul_scalar_out(gradient, 1.0 / bias(beta2))?;
        let _ = gradient.f_sqrt_()?;
        let _ = gradient.f_add_scalar_(self.spec.epsilon)?;
        let _ = first.f_div_out(gradient, gradient)?;
        let _ = gradient.f_mul_scalar_(rate / bias(beta1))?;
        Ok(())
    }

    /// The weights of all layers but the last: average = momentum * average + (1 - momentum) * gradient; update = rate
    /// * orthogonalised average, with Nesterov of momentum * average + (1 - momentum) * gradient. SGD on the rest.
    fn muon(&mut self, gradient: &mut FlatParameters, rate: f64, sgd_rate: f64) -> Result<()> {
        let (beta, nesterov) = (self.spec.momentum, self.spec.nesterov);
        if let [memory] = &mut self.memory[..] {
            let mut layers = gradient.weights().zip(memory.weights());
            for (gradient, average) in layers.by_ref().take(MUON_LAYERS) {
                let _ = average.f_lerp_(gradient, 1.0 - beta)?;
                match nesterov {
                    true => drop(gradient.f_lerp_(average, beta)?),
                    false => gradient.f_copy_(average)?,
                }
            }
            for (gradient, sum) in layers {
                momentum(gradient, sum, &self.momentum, nesterov)?;
            }
            for (gradient, sum) in gradient.biases().zip(memory.biases()) {
                momentum(gradient, sum, &self.momentum, nesterov)?;
            }
        }
        let orthogonalizers = self.orthogonalizers.as_mut();
        orthogonalizers
            .context("no orthogonaliser")?
            .apply(gradient, rate)?;
        for update in gradient.weights().skip(MUON_LAYERS) {
            let _ = update.f_mul_scalar_(sgd_rate)?;
        }
        for update in gradient.biases() {
            let _ = update.f_mul_scalar_(sgd_rate)?;
        }
        Ok(())
    }
}

/// sum = momentum * sum + gradient; the gradient becomes the sum, with Nesterov gradient + momentum * sum.
fn momentum(
    gradient: &mut Tensor,
    sum: &mut Tensor,
    momentum: &Tensor,
    nesterov: bool,
) -> Result<()> {
    let _ = gradient.f_addcmul_out(sum, sum, momentum)?;
    match nesterov {
        true => drop(gradient.f_addcmul_(sum, momentum)?),
        false => gradient.f_copy_(sum)?,
    }
    Ok(())
}

/// Scale the gradient by min(1, limit / norm), as torch.nn.utils.clip_grad_norm_. The norm is summed up layer by layer,
/// so that it does not depend on the number of threads.
fn clip(gradient: &mut FlatParameters, limit: f64) -> Result<()> {
    let mut squares = Vec::new();
    for weights in gradient.weights() {
        squares.push(sum_of_squares(weights)?);
    }
    for biases in gradient.biases() {
        squares.push(biases.f_square()?.f_sum(Kind::Float)?);
    }
    let mut factor = Tensor::f_stack(&squares, 0)?.f_sum(Kind::Float)?.f_sqrt()?;
    let _ = factor.f_add_scalar_(CLIP_EPSILON)?;
    let _ = factor.f_reciprocal_()?.f_mul_scalar_(limit)?;
    let _ = factor.f_clamp_max_(1.0)?;
    let _ = gradient.values().f_mul_(&factor)?;
    Ok(())
}

fn scalar(value: f64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_full([], value, (Kind::Float, device))?)
}
