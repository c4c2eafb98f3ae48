//! How long training steps take, alone.

use super::program::Asked;
use crate::measure::Spread;
use crate::spec::{Precision, Spec};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What steps of one batch size and precision showed. Times are in seconds a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepTimes {
    /// Images of a batch.
    pub batch_size: usize,
    /// What factors were rounded to.
    pub precision: Precision,
    /// Until the device had done it.
    pub seconds: Spread,
    /// Until the host had given it to the device.
    pub issued: Spread,
    /// Steps that were given to the device before it was waited for.
    pub ahead: u64,
    /// Its parts, after each of which the device was waited for.
    pub phases: Vec<Phase>,
    /// The peak of the process's resident memory so far, in MiB, where the system tells.
    pub process_mib: Option<f64>,
    /// Memory of the GPU that is taken, in MiB; libtorch gives none back.
    pub gpu_mib: Option<f64>,
}

/// A part of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// What is done.
    pub name: String,
    /// How long it takes.
    pub seconds: Spread,
}

/// How long the steps of these specs take, in one process, each for about as long as `limit` twice.
///
/// # Errors
/// A user error for a device that is not there; the program's.
pub fn steps(specs: &[Spec], limit: Duration) -> Result<Vec<StepTimes>> {
    let frozen: Result<Vec<_>> = specs.iter().map(Spec::to_frozen_json).collect();
    let limit = limit.as_secs_f64().to_string();
    let words = ["steps", "--seconds", &limit];
    Asked::start(&words)?.answer(&serde_json::to_vec(&frozen?)?)
}
