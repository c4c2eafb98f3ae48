//! The evaluation process: waits for checkpoints, scores them on the test set, writes the curve.

use crate::backend;
use crate::checkpoint::{self, Checkpoint, Entry, Lease};
use crate::console;
use crate::data::{self, Images, Split, evaluation_batches};
use crate::events::SessionStatus;
use crate::metrics::Metrics;
use crate::model::{Named, Network};
use crate::run::{
    EvalStatus, Lock, Process, Role, RunDir, Score, State, Status, TrainStatus, Writer,
};
use crate::scoreboard::Scoreboard;
use crate::session::{self, Ended};
use crate::spec::{Fidelity, Spec};
use crate::stop::Stop;
use crate::user_error;
use anyhow::Result;
use burn::tensor::Device;
use std::time::{Duration, Instant};

/// How many of the most confident mistakes are shown.
const MISTAKES: usize = 16;

/// How often a waiting evaluator looks whether training is still going on, and shows that it is itself.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Evaluate the newest checkpoint of `run` once, or (`once` false) every time there is a new one, until
/// training has ended and its last checkpoint is scored.
///
/// # Errors
/// Another evaluator at work, bad data, a damaged checkpoint, no checkpoint with `once`, and I/O errors.
pub fn evaluate(run: &RunDir, stop: &Stop, once: bool) -> Result<Ended> {
    let _lock = Lock::take(run, Writer::Process(Role::Eval))?;
    // What an earlier session evaluated is not evaluated again.
    let earlier = EvalStatus::load(run)?;
    let mut status = EvalStatus {
        process: Process::current(),
        last: earlier.as_ref().and_then(|status| status.last),
        best: earlier.as_ref().and_then(|status| status.best),
        lowest_loss: earlier.and_then(|status| status.lowest_loss),
    };
    let result = Evaluator::start(run, &mut status).and_then(|mut evaluator| {
        if once {
            return evaluator.once(stop);
        }
        let ended = evaluator.follow(stop)?;
        evaluator.conclude()?;
        Ok(ended)
    });
    session::conclude(&mut status, run, result)
}

struct Evaluator<'a> {
    run: &'a RunDir,
    spec: Spec,
    device: Device,
    images: Images,
    /// The classes' names.
    classes: Vec<String>,
    /// The network whose values each checkpoint replaces.
    network: Network,
    /// Opened at the first score.
    scoreboard: Option<Scoreboard>,
    status: &'a mut EvalStatus,
}

impl<'a> Evaluator<'a> {
    fn start(run: &'a RunDir, status: &'a mut EvalStatus) -> Result<Self> {
        status.save(run)?;
        let spec = Spec::read_frozen(&run.spec())?;
        let (device, device_name) = backend::device(&spec.compute.device)?;
        backend::prepare(match spec.eval.threads {
            0 => spec.compute.threads,
            threads => threads,
        });
        let folder = data::prepare(&spec.data)?;
        let images = Images::read(&folder, Split::Test)?;
        let classes = data::class_names(&folder)?;
        let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
        status.process.state = State::Running;
        status.save(run)?;
        console::timed(format_args!(
            "evaluating {} on {device_name}: {} images",
            run.id(),
            images.len()
        ));
        Ok(Evaluator {
            run,
            spec,
            device,
            images,
            classes,
            network,
            scoreboard: None,
            status,
        })
    }

    /// Score the newest checkpoint, whether or not that was done before.
    fn once(&mut self, stop: &Stop) -> Result<Ended> {
        let folder = self.run.checkpoints();
        loop {
            let newest = checkpoint::latest(&folder)?
                .ok_or_else(|| user_error!("no checkpoint in {}: train first", folder.display()))?;
            if let Some((checkpoint, _lease)) = load(&newest)? {
                return self.score(checkpoint, stop);
            }
        }
    }

    /// Score each newest checkpoint until training is over and its last one is done.
    fn follow(&mut self, stop: &Stop) -> Result<Ended> {
        loop {
            // Asked before the look at the folder: a checkpoint written just before the end counts.
            let over = self.training_is_over()?;
            let seen = self.status.last.map(|score| score.step);
            let newest = checkpoint::latest(&self.run.checkpoints())?;
            let ended = match newest.filter(|newest| Some(newest.step) != seen) {
                Some(newest) => match load(&newest)? {
                    Some((checkpoint, _lease)) => self.score(checkpoint, stop)?,
                    None => continue,
                },
                None if over => return Ok(Ended::Finished),
                None => self.wait(stop)?,
            };
            if let Ended::Interrupted(_) = ended {
                return Ok(ended);
            }
        }
    }

    /// Whether no trainer will write another checkpoint. Before the first one has started, it may come.
    fn training_is_over(&self) -> Result<bool> {
        let train = TrainStatus::load(self.run)?;
        Ok(train.is_some_and(|train| !train.process.alive()))
    }

    /// Wait for the spec's interval, the end of training or a signal.
    fn wait(&mut self, stop: &Stop) -> Result<Ended> {
        let until = Instant::now() + Duration::from_secs_f64(self.spec.eval.interval_secs);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if stop.sleep(left.min(HEARTBEAT)) || self.training_is_over()? {
                break;
            }
            self.status.save(self.run)?;
        }
        Ok(stop.requested().map_or(Ended::Finished, Ended::Interrupted))
    }

    /// Score one checkpoint on the whole test set: its averaged weights in full, and the precision of its
    /// raw weights.
    fn score(&mut self, checkpoint: Checkpoint, stop: &Stop) -> Result<Ended> {
        let Checkpoint {
            state,
            ema,
            weights,
        } = checkpoint;
        let measured = self.measure(ema, stop)?.zip(self.measure(weights, stop)?);
        let Some((averaged, raw)) = measured else {
            return Ok(stop.requested().map_or(Ended::Finished, Ended::Interrupted));
        };
        let precision = averaged.precision_at_1();
        console::timed(format_args!("precision @ 1 = {precision:.3}"));
        let scoreboard =
            Scoreboard::opened(&mut self.scoreboard, self.run, &self.spec, state.step)?;
        scoreboard.publish(state.step, &averaged, &raw, &self.images, &self.classes)?;
        let score = Score {
            step: state.step,
            precision,
        };
        self.status.last = Some(score);
        self.status.best = match self.status.best {
            Some(best) if best.precision >= precision => Some(best),
            _ => Some(score),
        };
        let loss = averaged.loss();
        let lowest = self
            .status
            .lowest_loss
            .map_or(loss, |lowest| lowest.min(loss));
        self.status.lowest_loss = Some(lowest);
        self.status.save(self.run)?;
        if self.spec.train.keep_best {
            let best = self.status.best.map(|best| best.step);
            checkpoint::link_best(&self.run.checkpoints(), best);
        }
        scoreboard.compare(self.status, loss)?;
        Ok(Ended::Finished)
    }

    /// Close the run's row in the HParams tab, which a run that failed before its first score has yet to
    /// get. An interrupted run may go on: its row stays open.
    fn conclude(&mut self) -> Result<()> {
        let train = TrainStatus::load(self.run)?;
        let status = match train.map(|train| train.process.observed()) {
            Some(State::Finished) => SessionStatus::Success,
            Some(State::Failed) => SessionStatus::Failure,
            _ => return Ok(()),
        };
        let next = self.status.last.map_or(0, |last| last.step + 1);
        Scoreboard::opened(&mut self.scoreboard, self.run, &self.spec, next)?.conclude(status)
    }

    /// The metrics of a network with these values; `None` if a signal cut it short.
    fn measure(&self, values: Vec<Named>, stop: &Stop) -> Result<Option<Metrics>> {
        let network = self.network.clone().with_values(values, &self.device)?;
        let spec = &self.spec;
        let count = self.images.len();
        // The tutorial evaluates whole batches of the training's size and goes round to the first images
        // where they do not come out even: 79 * 128 = 10,112 of 10,000.
        let total = match spec.fidelity {
            Fidelity::Exact => count,
            Fidelity::Tutorial => count.next_multiple_of(spec.train.batch_size),
        };
        let mut metrics = Metrics::new(self.classes.len(), MISTAKES);
        let mut seen = 0;
        while seen < total {
            for mut batch in evaluation_batches(&self.images, &spec.input, spec.eval.batch_size) {
                if stop.requested().is_some() {
                    return Ok(None);
                }
                batch.truncate(total - seen);
                let labels = batch.labels.clone();
                let (images, _) =
                    backend::upload(batch.images, batch.labels, spec.input.crop, &self.device);
                let logits = backend::logits(&network, &spec.network, images)?;
                metrics.add(&logits, &labels, seen % count)?;
                seen += labels.len();
                if seen == total {
                    break;
                }
            }
        }
        Ok(Some(metrics))
    }
}

/// Read a checkpoint; `None` if retention removed it between the look and the read, as a newer one is
/// there then. The lease keeps it until it is known whether it is the best one.
fn load(entry: &Entry) -> Result<Option<(Checkpoint, Lease)>> {
    let leased = Lease::take(&entry.path);
    match leased.and_then(|lease| Ok((checkpoint::load(&entry.path)?, lease))) {
        Err(_) if !entry.path.exists() => Ok(None),
        loaded => loaded.map(Some),
    }
}
