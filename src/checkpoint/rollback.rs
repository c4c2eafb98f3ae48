//! The record that training went back to an earlier checkpoint.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A return to an earlier checkpoint. Those of a run are part of its checkpoints: the learning rate follows
/// from how many there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The step that diverged.
    pub diverged: u64,
    /// The step whose checkpoint training went back to; `None` for the beginning.
    pub to: Option<u64>,
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from step {} back to ", self.diverged)?;
        match self.to {
            Some(step) => write!(f, "the checkpoint of step {step}"),
            None => write!(f, "the beginning"),
        }
    }
}
