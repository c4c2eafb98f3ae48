//! When training ends before its last step.

use serde::{Deserialize, Serialize};

/// What ends training before its last step; 0 of each: nothing does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// An accuracy in evaluation, in 0..=1.
    pub accuracy: f64,
    /// So many evaluations in a row without a better one.
    pub patience: usize,
    /// So many minutes of training, in all sessions.
    pub minutes: f64,
}

impl Stop {
    /// Whether the scores of checkpoints decide.
    pub fn needs_scores(&self) -> bool {
        self.accuracy > 0.0 || self.patience > 0
    }
}
