//! How fast training is on this machine.

use super::environment;
use super::machine::machine;
use super::program::ask;
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

/// How fast each of these specs trains, by a few steps that leave nothing behind; all of them with the threads, and the
/// environment, of the first one. None for a network so large that it would take long.
///
/// # Errors
/// A device that is not there; the program's.
pub fn paces(specs: &[&Spec]) -> Result<Vec<Option<Pace>>> {
    let variables = match specs.first() {
        Some(spec) => environment::missing(spec, machine()?),
        None => return Ok(Vec::new()),
    };
    let frozen: Result<Vec<_>> = specs.iter().map(|spec| spec.to_frozen_json()).collect();
    let frozen = serde_json::to_vec(&frozen?)?;
    ask(&["pace".as_ref()], &frozen, &variables)
}
