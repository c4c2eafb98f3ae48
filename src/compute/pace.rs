//! How fast training is on this machine.

use super::conversation::Conversation;
use super::machine::Machine;
use crate::spec::Spec;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// What a few steps showed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Pace {
    /// Steps that were timed.
    pub steps: u64,
    /// Seconds a step takes.
    pub step_seconds: f64,
    /// Threads of the arithmetic.
    pub threads: usize,
    /// Bytes of the tensors in a checkpoint.
    pub checkpoint_bytes: u64,
}

/// The program, asked how fast specs train.
#[derive(Debug)]
pub struct Trial(Conversation);

impl Trial {
    /// Starts it.
    ///
    /// # Errors
    /// As [`machine`](super::machine()).
    pub fn start() -> Result<Self> {
        Ok(Trial(Conversation::start(vec!["pace".into()])?))
    }

    /// What it says of the machine.
    pub fn machine(&self) -> &Machine {
        self.0.machine()
    }

    /// How fast each of these specs trains, by a few steps that leave nothing behind; all of them with the threads, and the
    /// environment, of the first one. None for a network so large that it would take long.
    ///
    /// # Errors
    /// A device that is not there; the program's.
    pub fn paces(self, specs: &[&Spec]) -> Result<Vec<Option<Pace>>> {
        let Some(first) = specs.first() else {
            return Ok(Vec::new());
        };
        let frozen: Result<Vec<_>> = specs.iter().map(|spec| spec.to_frozen_json()).collect();
        self.0.answer(first, &serde_json::to_vec(&frozen?)?)
    }
}
