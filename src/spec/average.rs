//! The average of the weights of an experiment.

use serde::{Deserialize, Serialize};

/// Which average is kept (docs/recipes.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AverageName {
    /// A moving average beside the weights, which is what is evaluated.
    #[default]
    Ema,
    /// One that takes the weights' place each time that it is updated.
    Lookahead,
    /// None: the weights themselves are evaluated.
    None,
}

/// How the average follows the weights; its decay is the optimizer's `ema_decay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Average {
    pub name: AverageName,
    /// Whether the decay of `ema` rises to its value, as the tutorial's does.
    pub warmup: bool,
    /// Until then the average is the weights.
    pub start_epoch: f64,
    /// Updates of the weights between two of the average.
    pub every: u64,
    /// The decay of `lookahead` is multiplied by the share of the run that is over, to this power.
    pub power: f64,
}

impl Default for Average {
    fn default() -> Self {
        Average {
            name: AverageName::Ema,
            warmup: true,
            start_epoch: 0.0,
            every: 1,
            power: 0.0,
        }
    }
}
