//! Training steps without what comes with them, for whoever times them.

use super::input::{BatchSource, StepInput};
use super::system_metrics::SystemMetrics;
use crate::backend::{self, CALLS_TO_RECORD, DeviceLosses, Optimizer, Recorder};
use crate::model::Network;
use anyhow::Result;
use burn::tensor::Device;
use runboard::compute::{Phase, StepTimes};
use runboard::data::{Images, Share};
use runboard::measure::{Spread, peak_memory_mib};
use runboard::schedule::Schedule;
use runboard::spec::{DeviceName, Spec};
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The phases of a step, in their order.
pub const PHASES: [&str; 4] = [
    "waiting for the batch",
    "batch on the device",
    "forward and backward",
    "update and moving average",
];

/// Steps before the clock runs: threads start, memory is touched for the first time.
const WARM_UP: u64 = 3;

/// Steps that a GPU is given before it is waited for.
const AHEAD: u64 = 10;

/// Images to take batches of at least.
const IMAGES: usize = 512;

/// Steps of a network that begins anew.
pub struct Steps<'a> {
    spec: &'a Spec,
    device: Device,
    on_gpu: bool,
    input: BatchSource,
    optimizer: Optimizer,
    recorder: Recorder,
    schedule: Schedule,
    /// The next one.
    step: u64,
}

impl<'a> Steps<'a> {
    /// Of fresh weights, on these images.
    ///
    /// # Errors
    /// As [`backend::device`]; libtorch's.
    pub fn start(spec: &'a Spec, images: &Arc<Images>) -> Result<Self> {
        let (device, name) = backend::device("compute.device", &spec.compute.device)?;
        // Kernels of zeros, which whitening has until then, would have no gradients to compute.
        let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
        let network = network.whitened(spec, images);
        let on_gpu = DeviceName::is_gpu(&name);
        Ok(Steps {
            optimizer: Optimizer::new(spec, &network)?,
            recorder: Recorder::default(),
            input: BatchSource::start(images, spec, Share::WHOLE, 0, &device, on_gpu)?,
            schedule: Schedule::new(spec, images.len()),
            spec,
            device,
            on_gpu,
            step: 0,
        })
    }

    /// Steps before the clock may run: what a GPU is given is recorded, that of an update last.
    pub fn warm_up(&self) -> u64 {
        let updates = self.spec.optimizer.gradient_accumulation;
        match self.on_gpu {
            true => CALLS_TO_RECORD * updates + 1,
            false => WARM_UP,
        }
    }

    /// Take a step. A GPU may not have done it when this returns: to read the losses is to wait for it.
    ///
    /// # Errors
    /// libtorch's.
    pub fn take(&mut self) -> Result<DeviceLosses> {
        let (losses, _) = self.take_through(|_| Ok(()))?;
        Ok(losses)
    }

    /// Take a step, and wait for the device after each of its [`PHASES`]: the seconds of each.
    ///
    /// # Errors
    /// libtorch's.
    pub fn take_in_phases(&mut self) -> Result<[f64; PHASES.len()]> {
        let begin = Instant::now();
        let mut ends = Vec::with_capacity(PHASES.len());
        let (_, waited) = self.take_through(|device| {
            device.sync()?;
            ends.push(begin.elapsed());
            Ok(())
        })?;
        let mut phases = [waited.as_secs_f64(); PHASES.len()];
        let mut before = waited;
        for (phase, end) in phases[1..].iter_mut().zip(ends) {
            *phase = (end - before).as_secs_f64();
            before = end;
        }
        Ok(phases)
    }

    /// Take a step; `passed` is called after each of its [`PHASES`] but the first, which is returned beside the losses.
    fn take_through(
        &mut self,
        mut passed: impl FnMut(&Device) -> Result<()>,
    ) -> Result<(DeviceLosses, Duration)> {
        let StepInput {
            images,
            labels,
            waited,
        } = self.input.next()?;
        passed(&self.device)?;
        let weights = self.optimizer.network();
        let (losses, gradients) = backend::gradients(
            weights,
            self.spec,
            self.step,
            images,
            labels,
            &mut self.recorder,
        )?;
        passed(&self.device)?;
        let rates = self.schedule.rates(self.step);
        self.optimizer.step(self.step, &gradients, &losses, rates)?;
        passed(&self.device)?;
        self.step += 1;
        Ok((losses, waited))
    }

    /// The optimizer with what it has come to.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }
}

/// How long the steps of a spec take, on noise in place of images, in about as long as `limit` twice: as training has them,
/// then phase by phase.
///
/// # Errors
/// As [`Steps::start`].
pub fn measure(spec: &Spec, limit: Duration) -> Result<StepTimes> {
    backend::prepare(&spec.compute, spec.compute.threads)?;
    let batch_size = spec.train.batch_size;
    let images = Arc::new(Images::noise(spec.seed, IMAGES.max(2 * batch_size)));
    let mut steps = Steps::start(spec, &images)?;
    let mut single = 0.0;
    for _ in 0..steps.warm_up() {
        let begin = Instant::now();
        DeviceLosses::read(&[&steps.take()?])?;
        single = begin.elapsed().as_secs_f64();
    }
    // At least twice, however long it takes.
    let ahead = ((limit.as_secs_f64() / 2.0 / single) as u64).clamp(1, AHEAD);
    let (mut seconds, mut issued) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while seconds.len() < 2 || begin.elapsed() < limit {
        let begin = Instant::now();
        let losses: Result<Vec<_>> = (0..ahead).map(|_| steps.take()).collect();
        let losses = losses?;
        issued.push(begin.elapsed().as_secs_f64() / ahead as f64);
        DeviceLosses::read(&losses.iter().collect::<Vec<_>>())?;
        seconds.push(begin.elapsed().as_secs_f64() / ahead as f64);
    }
    let mut phases: [Vec<f64>; PHASES.len()] = Default::default();
    let begin = Instant::now();
    while phases[0].len() < 2 || begin.elapsed() < limit {
        for (all, seconds) in phases.iter_mut().zip(steps.take_in_phases()?) {
            all.push(seconds);
        }
    }
    let phases = PHASES.into_iter().zip(phases);
    let gpu = SystemMetrics::new(steps.on_gpu).read_gpu();
    Ok(StepTimes {
        batch_size,
        precision: spec.compute.precision,
        seconds: Spread::of(seconds),
        issued: Spread::of(issued),
        ahead,
        phases: phases
            .map(|(name, seconds)| Phase {
                name: name.to_owned(),
                seconds: Spread::of(seconds),
            })
            .collect(),
        process_mib: peak_memory_mib(process::id()).ok(),
        gpu_mib: gpu.memory_mib,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_timed_as_a_whole_and_phase_by_phase() {
        let mut spec = Spec::default();
        spec.compute.device = "cpu".into();
        spec.train.batch_size = 8;
        let times = measure(&spec, Duration::from_millis(20)).unwrap();
        assert_eq!(times.batch_size, 8);
        assert!(times.seconds.samples >= 2 && times.issued.median <= times.seconds.median);
        let names: Vec<&str> = times.phases.iter().map(|it| &*it.name).collect();
        assert_eq!(names, PHASES);
        assert!(times.phases[2].seconds.median > 0.0);
        assert!(times.process_mib.is_some_and(|mib| mib > 64.0));
        assert_eq!(times.gpu_mib, None);
    }
}
