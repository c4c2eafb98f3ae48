//! The schedule of an experiment: what the learning rate is multiplied by at each step.

use serde::{Deserialize, Serialize};

/// The shape of the schedule (docs/recipes.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// The tutorial's: optimizer.decay_factor every optimizer.epochs_per_decay epochs.
    #[default]
    Exponential,
    /// 1 at every step.
    Constant,
    /// `factor` once more from each knot on.
    Multistep,
    /// From 1 to `final_factor` along half a cosine.
    Cosine,
    /// From `initial_factor` to 1 at `peak`, and from there to `final_factor`.
    OneCycle,
    /// Through `factors` at the knots.
    Piecewise,
}

/// What knots and the warm-up are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Steps,
    #[default]
    Epochs,
    /// Of the run's steps.
    Percent,
}

/// How a factor becomes the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// At once.
    Step,
    #[default]
    Linear,
    /// Along half a cosine.
    Cosine,
}

/// The factor of the learning rate. A field that the name does not use has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub name: ScheduleName,
    pub unit: Unit,
    /// Where something happens, in units, ascending.
    pub knots: Vec<f64>,
    /// The factor at each knot.
    pub factors: Vec<f64>,
    pub interpolation: Interpolation,
    /// Of `multistep`, at each knot.
    pub factor: f64,
    /// Where `one_cycle` begins.
    pub initial_factor: f64,
    /// Where `cosine` and `one_cycle` end.
    pub final_factor: f64,
    /// Percent of the run's steps after which `one_cycle` is at 1.
    pub peak: f64,
    /// Units in which a factor of all this rises to 1; 0: none.
    pub warmup: f64,
    /// Where that factor begins.
    pub warmup_factor: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            name: ScheduleName::Exponential,
            unit: Unit::Epochs,
            knots: Vec::new(),
            factors: Vec::new(),
            interpolation: Interpolation::Linear,
            factor: 0.1,
            initial_factor: 0.04,
            final_factor: 0.0,
            peak: 30.0,
            warmup: 0.0,
            warmup_factor: 0.0,
        }
    }
}

impl Schedule {
    /// Whether the schedule of this name follows the knots.
    pub fn has_knots(&self) -> bool {
        matches!(self.name, ScheduleName::Multistep | ScheduleName::Piecewise)
    }
}
