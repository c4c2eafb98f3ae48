//! The training process: batches in; weights, curves and checkpoints out.

use crate::backend::{self, Losses};
use crate::checkpoint::{self, Checkpoint};
use crate::console;
use crate::data::{self, BatchStream, Images, Split};
use crate::events::{EventWriter, Summaries, Tag};
use crate::model::Network;
use crate::run::{Process, Role, RunDir, State, Status, TrainStatus};
use crate::schedule::{self, Average};
use crate::session::{self, Ended};
use crate::spec::Spec;
use crate::stop::Stop;
use anyhow::{Result, ensure};
use burn::tensor::Device;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the status file tells the supervisor and the evaluator that training is alive.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Train `run` from its newest checkpoint, or from fresh weights, to the spec's last step.
///
/// # Errors
/// Bad data, a loss that is not finite, and I/O errors; the status file then holds the message.
pub fn train(run: &RunDir, stop: &Stop) -> Result<Ended> {
    let mut status = TrainStatus {
        process: Process::current(),
        step: 0,
        steps: 0,
        loss: None,
        examples_per_sec: None,
    };
    let result = Trainer::start(run, &mut status).and_then(|trainer| trainer.run(stop));
    session::conclude(&mut status, run, result)
}

struct Trainer<'a> {
    run: &'a RunDir,
    spec: Spec,
    device: Device,
    images: usize,
    batches: BatchStream,
    /// The first step of this session.
    first: u64,
    network: Network,
    ema: Network,
    total_loss: Average,
    events: EventWriter,
    status: &'a mut TrainStatus,
    interval: Interval,
    /// When the status was last saved.
    beaten: Instant,
}

impl<'a> Trainer<'a> {
    fn start(run: &'a RunDir, status: &'a mut TrainStatus) -> Result<Self> {
        let spec = Spec::read_frozen(&run.spec())?;
        status.steps = spec.train.steps;
        status.save(run)?;
        let (device, device_name) = backend::device(&spec.compute.device)?;
        backend::prepare(spec.compute.threads);
        let images = Images::read(&data::prepare(&spec.data)?, Split::Train)?;
        let count = images.len();

        let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
        let (network, ema, total_loss, first) = match checkpoint::latest(&run.checkpoints())? {
            None => {
                let ema = backend::copy(&network)?;
                (network, ema, Average::default(), 0)
            }
            Some(entry) => {
                let saved = checkpoint::load(&entry.path)?;
                let ema = network.clone().with_values(saved.ema, &device)?;
                let network = network.with_values(saved.weights, &device)?;
                (network, ema, saved.state.total_loss, saved.state.step + 1)
            }
        };
        console::timed(format_args!(
            "training {} on {device_name}: {count} images, steps {first} to {}",
            run.id(),
            spec.train.steps - 1
        ));
        let batches = BatchStream::start(
            Arc::new(images),
            &spec.input,
            spec.train.batch_size,
            spec.seed,
            first,
            spec.data.prefetch,
            spec.data.workers,
        )?;
        let events = EventWriter::resume(&run.events(Role::Train), first)?;
        status.process.state = State::Running;
        status.step = first;
        status.save(run)?;
        Ok(Trainer {
            run,
            spec,
            device,
            images: count,
            batches,
            first,
            network,
            ema,
            total_loss,
            events,
            status,
            interval: Interval::start(first),
            beaten: Instant::now(),
        })
    }

    fn run(mut self, stop: &Stop) -> Result<Ended> {
        let train = self.spec.train.clone();
        for step in self.first..train.steps {
            let (losses, gradients, rate) = self.step(step)?;
            let average = self.total_loss.update(losses.total);

            if step % train.log_every == 0 {
                self.report(step, losses);
            }
            if step % train.summary_every == 0 {
                self.summarize(step, losses, average, rate, &gradients);
            }
            let last = step + 1 == train.steps;
            let stopped = stop.requested().filter(|_| !last);
            if step % train.checkpoint_every == 0 || last || stopped.is_some() {
                self.save(step)?;
            }
            self.beat(step, losses)?;
            if let Some(signal) = stopped {
                console::timed(format_args!("stopped after step {step}, which is saved"));
                return Ok(Ended::Interrupted(signal));
            }
        }
        self.flush();
        Ok(Ended::Finished)
    }

    /// One step of gradient descent. Returns the losses before it, their gradients, and the rate.
    fn step(&mut self, step: u64) -> Result<(Losses, Network, f64)> {
        let batch = self.batches.next()?;
        let side = self.spec.input.crop;
        let (images, labels) = backend::upload(batch.images, batch.labels, side, &self.device);
        let (losses, gradients) =
            backend::gradients(&self.network, &self.spec.network, images, labels)?;
        ensure!(
            losses.total.is_finite(),
            "the loss at step {step} is {}: training diverged; try a lower optimizer.learning_rate",
            losses.total
        );
        let optimizer = &self.spec.optimizer;
        let batch_size = self.spec.train.batch_size;
        let rate = schedule::learning_rate(optimizer, step, self.images, batch_size);
        backend::descend(&self.network, &gradients, rate)?;
        let decay = schedule::ema_decay(optimizer.ema_decay, step + 1);
        backend::average(&self.ema, &self.network, decay)?;
        Ok((losses, gradients, rate))
    }

    /// The tutorial's console line, timed over the steps since the last one.
    fn report(&mut self, step: u64, losses: Losses) {
        let sec_per_batch = self.interval.close(step);
        let examples_per_sec = self.spec.train.batch_size as f64 / sec_per_batch;
        console::timed(format_args!(
            "step {step}, loss = {:.2} ({examples_per_sec:.1} examples/sec; {sec_per_batch:.3} sec/batch)",
            losses.total
        ));
        self.status.examples_per_sec = Some(examples_per_sec);
    }

    fn summarize(&self, step: u64, losses: Losses, average: f64, rate: f64, gradients: &Network) {
        let mut summaries = Summaries::at(step);
        summaries
            .scalar(
                &Tag::new("total_loss (raw)").description(TOTAL_LOSS),
                losses.total,
            )
            .scalar(
                &Tag::new("total_loss").description(TOTAL_LOSS_AVERAGE),
                average,
            )
            .scalar(&Tag::new("learning_rate").description(LEARNING_RATE), rate);
        for weight in self.network.named() {
            summaries.histogram(&Tag::new(weight.name), &weight.values);
        }
        for gradient in gradients.named() {
            let tag = Tag::new(format!("{}/gradients", gradient.name));
            summaries.histogram(&tag, &gradient.values);
        }
        self.events.write(&summaries);
    }

    fn save(&self, step: u64) -> Result<()> {
        let folder = self.run.checkpoints();
        let state = checkpoint::State {
            step,
            total_loss: self.total_loss,
        };
        let checkpoint = Checkpoint {
            state,
            weights: self.network.named(),
            ema: self.ema.named(),
        };
        // Curves first: a resumed run cuts what is newer than its checkpoint and misses nothing older.
        self.flush();
        checkpoint::save(&folder, &checkpoint)?;
        checkpoint::retain(&folder, self.spec.train.keep_checkpoints)
    }

    /// Curves that cannot be written now are worth a warning, not the run: the writer keeps and retries
    /// them.
    fn flush(&self) {
        if let Err(error) = self.events.flush() {
            let lost = self.events.dropped();
            console::timed(format_args!(
                "warning: {error:#}; {lost} events given up so far"
            ));
        }
    }

    fn beat(&mut self, step: u64, losses: Losses) -> Result<()> {
        self.status.step = step + 1;
        self.status.loss = Some(losses.total);
        if self.beaten.elapsed() >= HEARTBEAT {
            self.beaten = Instant::now();
            self.status.save(self.run)?;
        }
        Ok(())
    }
}

const TOTAL_LOSS: &str = "Mean cross-entropy of the step's batch plus weight decay.";
const TOTAL_LOSS_AVERAGE: &str =
    "Moving average of the total loss over the steps, decay 0.9, debiased.";
const LEARNING_RATE: &str = "Factor of the gradient in the step.";

/// Times the steps between console lines.
struct Interval {
    since: Instant,
    /// The first step that is not in an earlier interval.
    next: u64,
}

impl Interval {
    fn start(first: u64) -> Self {
        Interval {
            since: Instant::now(),
            next: first,
        }
    }

    /// Close the interval after `step`; seconds a step.
    fn close(&mut self, step: u64) -> f64 {
        let steps = (step + 1 - self.next) as f64;
        let seconds = self.since.elapsed().as_secs_f64();
        *self = Self::start(step + 1);
        seconds / steps
    }
}
