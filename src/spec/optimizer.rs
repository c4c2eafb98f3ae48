//! The optimizer of an experiment: what a step makes of the gradient.

use serde::{Deserialize, Serialize};

/// Which rule turns a gradient into an update (docs/recipes.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Stochastic gradient descent, with momentum or without, as torch.optim.SGD.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay, as torch.optim.AdamW.
    Adamw,
    /// Keller Jordan's Muon on the weights of all layers but the last, SGD on the rest.
    Muon,
}

impl OptimizerName {
    /// All of them.
    pub const ALL: [OptimizerName; 3] = [
        OptimizerName::Sgd,
        OptimizerName::Adamw,
        OptimizerName::Muon,
    ];

    /// Whether its update has the field `momentum`.
    pub fn has_momentum(self) -> bool {
        match self {
            OptimizerName::Sgd | OptimizerName::Muon => true,
            OptimizerName::Adamw => false,
        }
    }
}

/// What a step takes off the weights. Which fields a rule uses, `spec/unused.rs` says: one that it does not use may have any value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    pub name: OptimizerName,
    /// Learning rate of the first step, or of a schedule's factor 1.
    pub learning_rate: f64,
    /// The same of what Muon leaves to SGD.
    pub sgd_learning_rate: f64,
    /// What stays of the sum of earlier gradients at every step; 0 means plain gradient descent.
    pub momentum: f64,
    /// Whether the gradient is taken where the momentum leads.
    pub nesterov: bool,
    /// What is left out of a gradient before it is added to the momentum.
    pub dampening: f64,
    /// Decays of AdamW's averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to AdamW's divisor.
    pub epsilon: f64,
    /// Decoupled: a step takes learning rate * weight_decay * w off the weights, not the biases.
    pub weight_decay: f64,
    /// Factor of the biases' learning rate.
    pub bias_rate_factor: f64,
    /// Largest norm of the gradient; 0: none.
    pub clip_norm: f64,
    /// Steps whose mean gradient makes one update.
    pub gradient_accumulation: u64,
    /// The rate is multiplied by this at every drop.
    pub decay_factor: f64,
    /// Epochs between drops.
    pub epochs_per_decay: f64,
    /// Drop at once (true) or glide between drops (false).
    pub staircase: bool,
    /// Decay of the average of the weights; with its warm-up an upper bound.
    pub ema_decay: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            name: OptimizerName::Sgd,
            learning_rate: 0.1,
            sgd_learning_rate: 0.1,
            momentum: 0.0,
            nesterov: false,
            dampening: 0.0,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            bias_rate_factor: 1.0,
            clip_norm: 0.0,
            gradient_accumulation: 1,
            decay_factor: 0.1,
            epochs_per_decay: 350.0,
            staircase: true,
            ema_decay: 0.9999,
        }
    }
}
