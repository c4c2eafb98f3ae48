//! The training process: batches in; weights, curves and checkpoints out.

use crate::backend;
use crate::checkpoint::{self, Checkpoint, Restored, Retention};
use crate::console;
use crate::data::{self, BatchStream, Images, Split};
use crate::files;
use crate::model::Network;
use crate::reporter::{Reporter, Taken};
use crate::run::{
    Journal, Lock, Process, Role, RunDir, Standing, State, Status, TrainStatus, Writer,
};
use crate::schedule::{self, Average};
use crate::session::{self, Ended};
use crate::spec::{Policy, Spec};
use crate::stop::Stop;
use crate::user_error;
use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the status file tells the supervisor and the evaluator that training is alive.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Train `run` from its newest checkpoint, or from fresh weights, to the spec's last step.
///
/// A disk that refuses does not end it, as long as the last checkpoint can be written.
///
/// # Errors
/// Another trainer at work, bad data, a loss that is not finite, a last checkpoint that cannot be written, a run
/// directory that vanished; the status file then holds the message.
pub fn train(run: &RunDir, stop: &Stop) -> Result<Ended> {
    let _lock = Lock::take(run, Writer::Process(Role::Train))?;
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
    reporter: Reporter,
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
        let Origin {
            network,
            ema,
            averages,
            first,
        } = Origin::of(run, &spec, network, &device)?;
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
        let reporter = Reporter::start(
            &run.events(Role::Train),
            &spec,
            first,
            averages,
            device_name != "cpu",
        )?;
        if first == 0 {
            // Told to people, not needed: a run directory made by hand may lack it.
            let provenance = fs::read_to_string(run.provenance()).unwrap_or_default();
            reporter.introduce(&provenance, &network, &device)?;
        }
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
            reporter,
            status,
            interval: Interval::start(first),
            beaten: Instant::now(),
        })
    }

    fn run(mut self, stop: &Stop) -> Result<Ended> {
        let train = self.spec.train.clone();
        for step in self.first..train.steps {
            let taken = self.step(step)?;
            if step.is_multiple_of(train.log_every) {
                self.print(&taken);
            }
            let ready = self.batches.ready();
            self.reporter.report(&taken, &self.network, ready)?;
            let last = step + 1 == train.steps;
            let stopped = stop.requested().filter(|_| !last);
            if last || stopped.is_some() {
                self.save_last(&self.checkpoint(step))?;
            } else if step.is_multiple_of(train.checkpoint_every) {
                self.save(&self.checkpoint(step))?;
            }
            self.beat(&taken)?;
            if let Some(signal) = stopped {
                console::timed(format_args!("stopped after step {step}, which is saved"));
                return Ok(Ended::Interrupted(signal));
            }
        }
        Ok(Ended::Finished)
    }

    /// One step of gradient descent.
    fn step(&mut self, step: u64) -> Result<Taken> {
        let begin = Instant::now();
        let batch = self.batches.next()?;
        let waited = begin.elapsed();
        let side = self.spec.input.crop;
        let (images, labels) = backend::upload(batch.images, batch.labels, side, &self.device);
        let (losses, gradients) =
            backend::gradients(&self.network, &self.spec.network, images.clone(), labels)?;
        ensure!(
            losses.total.is_finite(),
            "the loss at step {step} is {}: training diverged; try a lower optimizer.learning_rate",
            losses.total
        );
        let optimizer = &self.spec.optimizer;
        let batch_size = self.spec.train.batch_size;
        let learning_rate = schedule::learning_rate(optimizer, step, self.images, batch_size);
        backend::descend(&self.network, &gradients, learning_rate)?;
        let decay = schedule::ema_decay(optimizer.ema_decay, step + 1);
        backend::average(&self.ema, &self.network, decay)?;
        Ok(Taken {
            step,
            losses,
            gradients,
            learning_rate,
            images,
            waited,
            computed: begin.elapsed() - waited,
        })
    }

    /// The tutorial's console line, timed over the steps since the last one.
    fn print(&mut self, taken: &Taken) {
        let step = taken.step;
        let sec_per_batch = self.interval.close(step);
        let examples_per_sec = self.spec.train.batch_size as f64 / sec_per_batch;
        console::timed(format_args!(
            "step {step}, loss = {:.2} ({examples_per_sec:.1} examples/sec; {sec_per_batch:.3} sec/batch)",
            taken.losses.total
        ));
        self.status.examples_per_sec = Some(examples_per_sec);
    }

    /// The state after a step.
    fn checkpoint(&self, step: u64) -> Checkpoint {
        Checkpoint {
            state: self.reporter.state(step),
            weights: self.network.named(),
            ema: self.ema.named(),
        }
    }

    /// Save a checkpoint on the way. If the disk refuses, the older ones stay, and the next one is another
    /// try.
    fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.run.check_present()?; // or saving would make its folder again
        // Curves first: a resumed run cuts what is newer than its checkpoint and misses nothing older.
        self.reporter.flush();
        match checkpoint::save(&self.run.checkpoints(), checkpoint) {
            Ok(_) => self.retain(),
            Err(error) => console::warning(format_args!(
                "{error:#}; training goes on, the next checkpoint is due in {} steps",
                self.spec.train.checkpoint_every
            )),
        }
        Ok(())
    }

    /// Save the checkpoint that ends a session: without it, what was trained since the one before is lost.
    fn save_last(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.run.check_present()?;
        self.reporter.flush();
        let folder = self.run.checkpoints();
        files::insist(|| checkpoint::save(&folder, checkpoint)).with_context(|| {
            let newest = match checkpoint::latest(&folder) {
                Ok(Some(entry)) => format!("the newest one is of step {}", entry.step),
                _ => "there is no other one".to_owned(),
            };
            let step = checkpoint.state.step;
            format!("the last checkpoint, of step {step}, is not saved, {newest}; free the disk and resume")
        })?;
        self.retain();
        Ok(())
    }

    /// Remove old checkpoints. That they cannot be removed now is no reason to end: the next time may do.
    fn retain(&self) {
        if let Err(error) = retain(self.run, &self.spec) {
            console::warning(format_args!("{error:#}"));
        }
    }

    fn beat(&mut self, taken: &Taken) -> Result<()> {
        self.status.step = taken.step + 1;
        self.status.loss = Some(taken.losses.total);
        if self.beaten.elapsed() >= HEARTBEAT {
            self.beaten = Instant::now();
            self.run.check_present()?;
            self.status.beat(self.run);
        }
        Ok(())
    }
}

/// What a session goes on from.
struct Origin {
    network: Network,
    ema: Network,
    /// Of the losses, by tag.
    averages: BTreeMap<String, Average>,
    /// The first step to take.
    first: u64,
}

impl Origin {
    /// The newest whole checkpoint, or `fresh` weights where there is none yet.
    fn of(run: &RunDir, spec: &Spec, fresh: Network, device: &Device) -> Result<Self> {
        let Some(Restored { path, checkpoint }) = checkpoint::restore(&run.checkpoints())? else {
            return Ok(Origin {
                ema: backend::copy(&fresh)?,
                network: fresh,
                averages: BTreeMap::new(),
                first: 0,
            });
        };
        let values = |named| {
            fresh.clone().with_values(named, device).map_err(|error| {
                user_error!(
                    "{} does not fit the network of {}: {error:#}",
                    path.display(),
                    run.spec().display()
                )
            })
        };
        let origin = Origin {
            network: values(checkpoint.weights)?,
            ema: values(checkpoint.ema)?,
            averages: checkpoint.state.averages,
            first: checkpoint.state.step + 1,
        };
        retain(run, spec)?; // which an earlier session may not have come to
        Ok(origin)
    }
}

/// Remove the checkpoints that the spec does not keep.
fn retain(run: &RunDir, spec: &Spec) -> Result<()> {
    checkpoint::retain(&run.checkpoints(), || {
        // While the journal cannot be read, which is for the evaluator to report, all stay.
        let judged = Journal::read(&run.evaluations()).ok()?;
        let best = Standing::of(&judged).best.map(|best| best.step);
        let waits = spec.eval.policy == Policy::Every;
        let evaluated = waits.then(|| judged.iter().map(|evaluation| evaluation.step).collect());
        Some(Retention::new(&spec.train, best, evaluated))
    })
}

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
