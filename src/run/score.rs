//! What a checkpoint scores, and which of two is better.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A checkpoint's accuracy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The checkpoint's step.
    pub step: u64,
    /// Share of the test images whose likeliest class is their own, in 0..=1: the tutorial's precision @ 1.
    #[serde(alias = "precision")] // as earlier versions wrote it
    pub accuracy: f64,
    /// The same of the validation images, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
}

impl Score {
    /// One of the test images alone.
    #[cfg(test)]
    pub(crate) fn new(step: u64, accuracy: f64) -> Self {
        Score {
            step,
            accuracy,
            validation: None,
        }
    }

    /// By what the best checkpoint is found: the accuracy on the validation images where there are any, so that the
    /// test images have no say in it.
    pub fn criterion(&self) -> f64 {
        self.validation.unwrap_or(self.accuracy)
    }

    /// The better one of this and a later one; of equals this.
    pub fn better(self, later: Score) -> Score {
        match self.criterion() >= later.criterion() {
            true => self,
            false => later,
        }
    }
}

/// As in "0.712 at step 500" and "0.712 (validation 0.705) at step 500".
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.accuracy)?;
        if let Some(validation) = self.validation {
            write!(f, " (validation {validation:.3})")?;
        }
        write!(f, " at step {}", self.step)
    }
}
