//! A step of training whose checkpoint is written and read back, to see that device and disk do so.

use super::steps::Steps;
use crate::backend::{self, DeviceLosses, Optimizer};
use crate::model::Network;
use anyhow::Result;
use runboard::checkpoint::{self, Checkpoint};
use runboard::compute::RoundTrip;
use runboard::data::Images;
use runboard::overview;
use runboard::spec::Spec;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Images of the step's batch.
const BATCH: usize = 32;

/// Takes a step of the tutorial's network on this device, saves its checkpoint in `directory` and loads it again.
///
/// # Errors
/// As [`backend::device`]; libtorch's; I/O errors.
pub fn round_trip(device: &str, directory: &Path) -> Result<RoundTrip> {
    let mut spec = Spec::default();
    spec.train.batch_size = BATCH;
    spec.compute.device = device.to_owned();
    let (device, _) = backend::device("--device", device)?;
    backend::prepare(&spec.compute, spec.compute.threads)?;
    let mut steps = Steps::start(&spec, &Arc::new(Images::noise(spec.seed, BATCH)))?;
    DeviceLosses::read(&[&steps.take()?])?; // waits for the device

    let saved = Checkpoint {
        state: Default::default(),
        tensors: steps.optimizer().state(),
    };
    let begin = Instant::now();
    let path = checkpoint::save(directory, &saved)?;
    let write_seconds = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let loaded = checkpoint::load(&path)?;
    let read_seconds = begin.elapsed().as_secs_f64();
    let fresh = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let restored = Optimizer::restore(&spec, &fresh, &loaded.tensors)?;
    Ok(RoundTrip {
        bytes: overview::size(&path),
        write_seconds,
        read_seconds,
        same: restored.state() == saved.tensors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn checkpoint_of_a_step_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let tried = round_trip("cpu", directory.path()).unwrap();
        assert!(tried.same);
        assert!(tried.bytes > 2 * 4 * 1_068_298, "{tried:?}"); // weights and their average
        let unwritable = directory.path().join("file");
        fs::write(&unwritable, "").unwrap();
        assert!(round_trip("cpu", &unwritable.join("below")).is_err());
    }
}
