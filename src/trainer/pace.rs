//! How fast training is on this machine: a few steps that leave nothing behind.

use super::input::{BatchSource, StepInput};
use crate::backend::{self, DeviceLosses, Optimizer};
use crate::data::Images;
use crate::model::Network;
use crate::schedule::Schedule;
use crate::spec::Spec;
use anyhow::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps before the clock runs: threads start, memory is touched for the first time, a GPU chooses its kernels.
const WARM_UP: u64 = 2;
/// Steps that are timed at most, and how long it goes on for.
const MAX_STEPS: u64 = 20;
const ENOUGH: Duration = Duration::from_millis(800);
/// Images of a batch at most; the time of a larger one is in proportion.
const MAX_BATCH: usize = 256;
/// A network of more weights is not tried: its first step may take longer than anybody waits, or all memory.
const MAX_WEIGHTS: usize = 20_000_000;

/// What the steps showed.
#[derive(Clone, Copy, Debug)]
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

/// Takes a few steps from fresh weights, on noise in place of images. None for a network so large that it would take
/// long.
///
/// # Errors
/// As [`backend::device`]; libtorch's.
pub fn measure(spec: &Spec) -> Result<Option<Pace>> {
    let layers = spec.network.layers(spec.input.crop);
    let weights: usize = layers
        .iter()
        .map(|layer| layer.weights.iter().product::<usize>())
        .sum();
    if weights > MAX_WEIGHTS {
        return Ok(None);
    }
    let batch_size = spec.train.batch_size;
    let mut spec = spec.clone();
    spec.train.batch_size = batch_size.min(MAX_BATCH);

    let (device, name) = backend::device(&spec.compute.device)?;
    let threads = backend::prepare(spec.compute.threads);
    let images = Arc::new(Images::noise(spec.seed, 2 * MAX_BATCH));
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let mut optimizer = Optimizer::new(&spec, &network)?;
    let schedule = Schedule::new(&spec, images.len());
    let mut input = BatchSource::start(&images, &spec, 0, &device, name != "cpu")?;
    let mut begin = Instant::now();
    let mut timed = 0;
    for step in 0..WARM_UP + MAX_STEPS {
        let StepInput { images, labels, .. } = input.next()?;
        let (losses, gradients) =
            backend::gradients(optimizer.network(), &spec, step, images, labels)?;
        optimizer.step(step, &gradients, &losses, schedule.rates(step))?;
        DeviceLosses::read(&[&losses])?; // waits for the device
        if step + 1 == WARM_UP {
            begin = Instant::now();
        }
        timed = (step + 1).saturating_sub(WARM_UP);
        if timed > 0 && begin.elapsed() >= ENOUGH {
            break;
        }
    }
    let scale = batch_size as f64 / spec.train.batch_size as f64;
    let tensors = optimizer.state();
    let values = tensors.values().flatten().map(|tensor| tensor.values.len());
    Ok(Some(Pace {
        steps: timed,
        step_seconds: begin.elapsed().as_secs_f64() / timed.max(1) as f64 * scale,
        threads,
        checkpoint_bytes: (values.sum::<usize>() * size_of::<f32>()) as u64,
    }))
}
