//! The evaluation process: waits for checkpoints, scores them on the test set, writes the curve.

use crate::backend;
use crate::checkpoint::{self, Checkpoint, Entry};
use crate::console;
use crate::data::{self, Images, Split, evaluation_batches};
use crate::events::{EventWriter, Summaries, Tag};
use crate::metrics::Metrics;
use crate::model::{Named, Network};
use crate::pictures;
use crate::run::{EvalStatus, Process, Role, RunDir, Score, State, Status, TrainStatus};
use crate::session::{self, Ended};
use crate::spec::{Fidelity, Spec};
use crate::stop::Stop;
use crate::user_error;
use anyhow::Result;
use burn::tensor::Device;
use std::time::{Duration, Instant};

/// How often a waiting evaluator looks whether training is still going on, and shows that it is itself.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Evaluate the newest checkpoint of `run` once, or (`once` false) every time there is a new one, until
/// training has ended and its last checkpoint is scored.
///
/// # Errors
/// Bad data, a damaged checkpoint, no checkpoint with `once`, and I/O errors.
pub fn evaluate(run: &RunDir, stop: &Stop, once: bool) -> Result<Ended> {
    // What an earlier session evaluated is not evaluated again.
    let (last, best) =
        EvalStatus::load(run)?.map_or((None, None), |status| (status.last, status.best));
    let mut status = EvalStatus {
        process: Process::current(),
        last,
        best,
    };
    let result = Evaluator::start(run, &mut status).and_then(|mut evaluator| {
        if once {
            evaluator.once(stop)
        } else {
            evaluator.follow(stop)
        }
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
    events: Option<EventWriter>,
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
            events: None,
            status,
        })
    }

    /// Score the newest checkpoint, whether or not that was done before.
    fn once(&mut self, stop: &Stop) -> Result<Ended> {
        let folder = self.run.checkpoints();
        loop {
            let newest = checkpoint::latest(&folder)?
                .ok_or_else(|| user_error!("no checkpoint in {}: train first", folder.display()))?;
            if let Some(checkpoint) = load(&newest)? {
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
                    Some(checkpoint) => self.score(checkpoint, stop)?,
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
        self.publish(state.step, &averaged, &raw)?;
        let score = Score {
            step: state.step,
            precision,
        };
        self.status.last = Some(score);
        self.status.best = match self.status.best {
            Some(best) if best.precision >= precision => Some(best),
            _ => Some(score),
        };
        self.status.save(self.run)?;
        Ok(Ended::Finished)
    }

    /// The metrics of a network with these values; `None` if a signal cut it short.
    fn measure(&self, values: Vec<Named>, stop: &Stop) -> Result<Option<Metrics>> {
        let network = self.network.clone().with_values(values, &self.device)?;
        let spec = &self.spec;
        let count = self.images.len();
        let whole = evaluation_batches(&self.images, &spec.input, spec.eval.batch_size);
        // The tutorial evaluates whole batches of the training's size and goes on at the first images
        // where they do not come out even: 79 * 128 = 10,112 of 10,000.
        let wrapped = match spec.fidelity {
            Fidelity::Exact => 0,
            Fidelity::Tutorial => count.next_multiple_of(spec.train.batch_size) - count,
        };
        let again = evaluation_batches(&self.images, &spec.input, wrapped.clamp(1, count));
        let again = again.take(usize::from(wrapped > 0));

        let mut metrics = Metrics::new(self.classes.len(), MISTAKES);
        for (batch, first) in whole
            .zip((0..).step_by(spec.eval.batch_size))
            .chain(again.zip([0]))
        {
            if stop.requested().is_some() {
                return Ok(None);
            }
            let labels = batch.labels.clone();
            let (images, _) =
                backend::upload(batch.images, batch.labels, spec.input.crop, &self.device);
            let logits = backend::logits(&network, &spec.network, images)?;
            metrics.add(&logits, &labels, first)?;
        }
        Ok(Some(metrics))
    }

    fn publish(&mut self, step: u64, averaged: &Metrics, raw: &Metrics) -> Result<()> {
        let mut summaries = Summaries::at(step);
        let mut add = |tag: &str, what: &str, value: f64| {
            summaries.scalar(&Tag::new(tag).description(what), value);
        };
        add("Precision @ 1", PRECISION, averaged.precision_at_1());
        add(
            "Precision @ 1 (raw weights)",
            RAW_PRECISION,
            raw.precision_at_1(),
        );
        add("cross_entropy", LOSS, averaged.loss());
        for (class, name) in self.classes.iter().enumerate() {
            if let Some(recall) = averaged.recall(class) {
                add(&format!("recall/{name}"), RECALL, recall);
            }
            if let Some(precision) = averaged.precision(class) {
                add(&format!("precision/{name}"), CLASS_PRECISION, precision);
            }
        }
        for (class, name) in self.classes.iter().enumerate() {
            let (scores, truth) = averaged.one_versus_rest(class);
            let tag = Tag::new(format!("pr/{name}")).description(PR_CURVE);
            summaries.pr_curve(&tag, &scores, &truth, PR_THRESHOLDS);
        }
        let names: Vec<&str> = self.classes.iter().map(String::as_str).collect();
        let matrix = pictures::confusion(averaged.confusion(), &names);
        summaries.image(
            &Tag::new("confusion_matrix").description(CONFUSION),
            &matrix,
        );
        let mistakes: Vec<_> = averaged
            .mistakes()
            .iter()
            .map(|mistake| pictures::MistakenImage {
                pixels: self.images.pixels(mistake.index),
                label: names[mistake.label],
                predicted: names[mistake.predicted],
                probability: mistake.probability,
            })
            .collect();
        let tag = Tag::new("confident_mistakes").description(WRONG);
        summaries.image(&tag, &pictures::mistakes(&mistakes));

        let events = match &mut self.events {
            Some(events) => events,
            // A step that is scored again, with `once`, leaves one point in the curve.
            none => none.insert(EventWriter::resume(&self.run.events(Role::Eval), step)?),
        };
        events.write(&summaries);
        events.flush()
    }
}

/// How many of the most confident mistakes are shown.
const MISTAKES: usize = 16;
/// Points of a precision-recall curve; TensorBoard's own default.
const PR_THRESHOLDS: usize = 127;

const PRECISION: &str = "Share of the test images whose likeliest class is their own, by the moving average of the weights.";
const RAW_PRECISION: &str = "The same by the weights themselves.";
const LOSS: &str = "Mean cross-entropy over the test images, by the moving average of the weights.";
const RECALL: &str = "Share of the class's test images that are taken for it.";
const CLASS_PRECISION: &str = "Share of the test images taken for the class that are of it.";
const PR_CURVE: &str = "Precision and recall of the class against all others.";
const CONFUSION: &str = "Test images by their class (rows) and the likeliest class (columns).";
const WRONG: &str = "The test images that are most confidently taken for another class.";

/// Read a checkpoint; `None` if retention removed it between the look and the read, as a newer one is
/// there then.
fn load(entry: &Entry) -> Result<Option<Checkpoint>> {
    match checkpoint::load(&entry.path) {
        Err(_) if !entry.path.exists() => Ok(None),
        loaded => loaded.map(Some),
    }
}
