//! The parts of training in this process, one after the other, by runboard's public interface: where a step's time
//! goes, and what else there is.

use crate::setting::Setting;
use anyhow::Result;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use runboard::checkpoint::{self, Checkpoint};
use runboard::data::{Batch, BatchStream, Batching, Images, Split, StreamItem};
use runboard::measure::Spread;
use runboard::spec::Spec;
use runboard_compute::backend::{self, DeviceLosses, Optimizer, Recorder};
use runboard_compute::model::Network;
use runboard_compute::trainer::HostBatch;
use runboard_compute::trainer::reporter::{RankTimes, Reporter, StepOutput};
use runboard_compute::trainer::steps::{PHASES, Steps};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a part takes.
#[derive(Debug, Serialize)]
pub struct Part {
    pub name: &'static str,
    pub seconds: Spread,
    /// How often it comes.
    pub cadence: Cadence,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cadence {
    /// In every step.
    Step,
    /// Once in so many steps.
    Every(u64),
    /// For a batch of images, but on another thread or in another process.
    Batch,
    /// When a process starts.
    Start,
}

impl Cadence {
    /// Its seconds a step, if it takes `seconds` each time; `None` for what is no part of a step.
    pub fn amortised(self, seconds: f64) -> Option<f64> {
        match self {
            Cadence::Step => Some(seconds),
            Cadence::Every(steps) => Some(seconds / steps as f64),
            Cadence::Batch | Cadence::Start => None,
        }
    }
}

/// All parts, in the order of a step.
pub fn measure(setting: &Setting) -> Result<Vec<Part>> {
    let spec = &setting.spec;
    let (device, _) = backend::device("compute.device", &spec.compute.device)?;
    backend::prepare(&spec.compute, spec.compute.threads)?;
    let images = Arc::new(Images::read(&setting.images()?, Split::Train)?);
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let directory = tempfile::tempdir_in(&setting.out)?;

    let batch: Batch = stream(spec, &images)?.next()?;
    let mut parts = step(spec, &images)?;

    let train = &spec.train;
    // Scalars alone, which come more often, take next to nothing.
    let shown = train.histograms_every.min(train.images_every);
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let averages = Default::default();
    let mut reporter = Reporter::start(directory.path(), spec, 0, averages, &classes, false)?;
    let (pixels, labels) = upload(spec, &batch, &device);
    let (losses, gradients) = backend::gradients(
        &network,
        spec,
        0,
        pixels.clone(),
        labels.clone(),
        &mut Recorder::default(),
    )?;
    reporter.record_losses(DeviceLosses::read(&[&losses])?[0]);
    let optimizer = Optimizer::new(spec, &network)?;
    let output = StepOutput {
        step: 0, // for which all cadences are due
        gradients,
        learning_rate: 0.1,
        images: pixels,
        labels,
        waited: Duration::ZERO,
        computed: Duration::ZERO,
        ranks: RankTimes::default(),
    };
    parts.push(timed(
        "all summaries, written",
        Cadence::Every(shown),
        20,
        || {
            reporter.report(&output, &optimizer, 4)?;
            reporter.flush();
            Ok(())
        },
    )?);

    let checkpoint = Checkpoint {
        state: checkpoint::CheckpointState::default(),
        tensors: optimizer.state(),
    };
    let every = Cadence::Every(train.checkpoint_every);
    parts.push(timed("checkpoint save, synced", every, 20, || {
        checkpoint::save(directory.path(), &checkpoint).map(drop)
    })?);
    let path = checkpoint::save(directory.path(), &checkpoint)?;
    parts.push(timed(
        "checkpoint load, verified",
        Cadence::Start,
        20,
        || checkpoint::load(&path).map(drop),
    )?);

    let mut batches = stream::<HostBatch>(spec, &images)?;
    parts.push(timed(
        "input of a batch, one core",
        Cadence::Batch,
        200,
        || batches.next().map(drop),
    )?);
    drop(batches);
    let forward = || {
        let (pixels, _) = upload(spec, &batch, &device);
        backend::logits(&network, spec, pixels).map(drop)
    };
    parts.push(timed(
        "forward of a batch alone",
        Cadence::Batch,
        50,
        forward,
    )?);
    parts.push(generic(spec, &device, &batch)?);
    Ok(parts)
}

/// The phases of a step as the trainer has them; after each phase the device is waited for.
fn step(spec: &Spec, images: &Arc<Images>) -> Result<Vec<Part>> {
    let mut steps = Steps::start(spec, images)?;
    let mut seconds: [Vec<f64>; PHASES.len()] = Default::default();
    for round in 0..55 {
        let phases = steps.take_in_phases()?;
        if round >= 5 {
            for (all, phase) in seconds.iter_mut().zip(phases) {
                all.push(phase);
            }
        }
    }
    let parts = PHASES.into_iter().zip(seconds);
    Ok(parts
        .map(|(name, seconds)| Part {
            name,
            seconds: Spread::of(seconds),
            cadence: Cadence::Step,
        })
        .collect())
}

/// Forward and backward pass by the network's definition, in burn's own operations under its autodiff.
fn generic(spec: &Spec, device: &Device, batch: &Batch) -> Result<Part> {
    let tracked = device.clone().autodiff();
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &tracked);
    timed(
        "forward and backward in burn's operations",
        Cadence::Batch,
        10,
        || {
            let (pixels, labels) = upload(spec, batch, &tracked);
            let logits = network.forward(&spec.network, pixels);
            let likelihood = log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1));
            let _gradients = (-likelihood.mean()).backward();
            Ok(device.sync()?)
        },
    )
}

/// Batches of a thread of their own.
fn stream<T: StreamItem>(spec: &Spec, images: &Arc<Images>) -> Result<BatchStream<T>> {
    let size = Batching::from(&spec.train);
    BatchStream::start(Arc::clone(images), &spec.input, size, spec.seed, 0, 1, 1)
}

fn upload(
    spec: &Spec,
    batch: &Batch,
    device: &Device,
) -> (Tensor<4>, Tensor<1, burn::tensor::Int>) {
    let (pixels, labels) = (batch.images.clone(), batch.labels.clone());
    backend::upload(pixels, labels, spec.input.crop, device)
}

/// Do the work a few times, then `samples` times more with a clock.
fn timed(
    name: &'static str,
    cadence: Cadence,
    samples: usize,
    mut work: impl FnMut() -> Result<()>,
) -> Result<Part> {
    eprintln!("timing {name}");
    let mut seconds = Vec::new();
    for round in 0..samples + 3 {
        let begin = Instant::now();
        work()?;
        if round >= 3 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(Part {
        name,
        seconds: Spread::of(seconds),
        cadence,
    })
}
