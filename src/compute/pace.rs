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

/// How fast the spec trains, by a few steps that leave nothing behind. None for a network so large that it would take
/// long.
///
/// # Errors
/// A device that is not there; the program's.
pub fn pace(spec: &Spec) -> Result<Option<Pace>> {
    let variables = environment::missing(spec, machine()?);
    let spec = spec.to_frozen_json()?.to_string();
    ask(&["pace".as_ref()], spec.as_bytes(), &variables)
}
