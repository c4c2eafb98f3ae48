//! How fast training is on this machine: a few steps that leave nothing behind.

use super::steps::Steps;
use crate::backend::{self, DeviceLosses};
use anyhow::Result;
use runboard::compute::Pace;
use runboard::data::Images;
use runboard::spec::Spec;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps that are timed at most, and how long it goes on for.
const MAX_STEPS: u64 = 20;
const ENOUGH: Duration = Duration::from_millis(800);
/// Images of a batch at least and at most; the time of a larger one is in proportion.
const BATCH: RangeInclusive<usize> = 8..=256;
/// Multiplications of a forward pass of a batch at most: twice those of the tutorial's step, 0.25 s on two cores.
const MAX_PRODUCTS: u64 = 5_000_000_000;
/// A network of more weights is not tried: its first step may take longer than anybody waits, or all memory.
const MAX_WEIGHTS: u64 = 20_000_000;

/// Takes a few steps from fresh weights, on noise in place of images. None for a network so large that it would take
/// long.
///
/// # Errors
/// As [`backend::device`]; libtorch's.
pub fn measure(spec: &Spec) -> Result<Option<Pace>> {
    let batch_size = spec.train.batch_size;
    let Some(limit) = largest_batch(spec) else {
        return Ok(None);
    };
    let mut spec = spec.clone();
    spec.train.batch_size = batch_size.min(limit);

    let threads = backend::prepare(&spec.compute, spec.compute.threads)?;
    let images = Arc::new(Images::noise(spec.seed, 2 * BATCH.end()));
    let mut steps = Steps::start(&spec, &images)?;
    let mut begin = Instant::now();
    let mut timed = 0;
    let warm_up = steps.warm_up();
    for step in 0..warm_up + MAX_STEPS {
        DeviceLosses::read(&[&steps.take()?])?; // waits for the device
        if step + 1 == warm_up {
            begin = Instant::now();
        }
        timed = (step + 1).saturating_sub(warm_up);
        if timed > 0 && begin.elapsed() >= ENOUGH {
            break;
        }
    }
    let scale = batch_size as f64 / spec.train.batch_size as f64;
    let tensors = steps.optimizer().state();
    let values = tensors.values().flatten().map(|tensor| tensor.values.len());
    Ok(Some(Pace {
        steps: timed,
        step_seconds: begin.elapsed().as_secs_f64() / timed.max(1) as f64 * scale,
        threads,
        checkpoint_bytes: (values.sum::<usize>() * size_of::<f32>()) as u64,
    }))
}

/// Images of the largest batch whose step nobody waits for; none if even a small one would take too long.
fn largest_batch(spec: &Spec) -> Option<usize> {
    let crop = spec.input.crop;
    let layers = spec.network.layers(crop);
    let weights = layers.map(|layer| layer.weights.iter().product::<usize>() as u64);
    if weights.iter().sum::<u64>() > MAX_WEIGHTS {
        return None;
    }
    let largest = (MAX_PRODUCTS / spec.network.products(crop).max(1)) as usize;
    (largest >= *BATCH.start()).then_some(largest.min(*BATCH.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_that_is_timed_is_the_smaller_the_larger_the_network() {
        let mut spec = Spec::default();
        assert_eq!(largest_batch(&spec), Some(256));
        spec.network.conv2.channels = 256;
        let batch = largest_batch(&spec).unwrap();
        assert!((8..256).contains(&batch), "{batch}");
        spec.network.conv1.channels = 512;
        spec.network.conv2.channels = 512;
        assert_eq!(largest_batch(&spec), None);
    }

    #[test]
    fn pace_is_measured_and_leaves_a_checkpoint_as_large_as_its_tensors() {
        let mut spec = Spec::default();
        spec.compute.device = "cpu".into();
        spec.train.batch_size = 8;
        let pace = measure(&spec).unwrap().unwrap();
        assert!(pace.steps > 0 && pace.step_seconds > 0.0);
        assert_eq!(pace.checkpoint_bytes, 2 * 4 * 1_068_298); // weights and their average
    }
}
