//! How fast training is on this machine.

use super::machine::Machine;
use super::program::Asked;
use crate::spec::Spec;
use anyhow::{Context, Result, bail};
use serde::de::IgnoredAny;
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

/// The program, asked in one process what the machine has and then how fast specs train: it takes its time to start.
#[derive(Debug)]
pub struct Trial {
    program: Asked,
    machine: Machine,
}

impl Trial {
    /// Starts it.
    ///
    /// # Errors
    /// As [`machine`](super::machine()).
    pub fn start() -> Result<Self> {
        let mut program = Asked::start(&["pace"])?;
        let machine = program.line()?;
        if machine.is_empty() {
            program.answer::<IgnoredAny>(&[])?; // it has ended, and says why
            bail!("runboard-compute pace ended without an answer");
        }
        let machine = serde_json::from_slice(&machine);
        let machine =
            machine.context("failed to read what runboard-compute says of the machine")?;
        Ok(Trial { program, machine })
    }

    /// What it says of the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// How fast each of these specs trains, by a few steps that leave nothing behind; all of them with the threads
    /// of the first one. None for a network so large that it would take long.
    ///
    /// # Errors
    /// A device that is not there; the program's.
    pub fn paces(self, specs: &[&Spec]) -> Result<Vec<Option<Pace>>> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let frozen: Result<Vec<_>> = specs.iter().map(|spec| spec.to_frozen_json()).collect();
        let frozen = serde_json::to_vec(&frozen?)?;
        self.program.answer(&frozen)
    }
}
