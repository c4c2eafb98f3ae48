//! The evaluation process: waits for checkpoints, scores them on the test set, writes the curve.
//!
//! However often this process is started, stopped or killed, each checkpoint is evaluated once: the journal says
//! which were. A checkpoint's point is in the curve before its line is in the journal, and a point without a
//! line is removed before the next is written.

pub mod images;
pub mod metrics;
mod partial;
mod pass;
mod predict;
mod reporter;
mod score;
mod under_way;

use crate::backend;
use crate::model::Network;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};
use images::EvaluationImages;
use metrics::Metrics;
use partial::{PartialEvaluation, Subject};
pub use predict::predict;
use reporter::{Evaluated, EvaluationReporter};
use runboard::checkpoint::queue::EvaluationQueue;
use runboard::checkpoint::{self, Checkpoint, CheckpointVersion, Lease, TensorGroups, WEIGHTS};
use runboard::compute::BUILD;
use runboard::console;
use runboard::data::{Preprocessor, Split};
use runboard::error::ExitError;
use runboard::events::tags;
use runboard::files;
use runboard::hparams;
use runboard::run::data::RunData;
use runboard::run::{
    self, Activity, Completion, EvalStatus, Evaluation, FormerStatus, Journal, Lock, Process,
    ProcessState, Quality, Role, RunDir, Score, Scores, Status, StopRequests, SupervisorStatus,
    TrainStatus, TrainerDied,
};
use runboard::shutdown::Shutdown;
use runboard::spec::{DeviceName, Fidelity, Normalize, OnDivergence, Spec};
use runboard::user_error;
pub use score::score;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};
use under_way::EvaluationUnderWay;

/// How many of the most confident mistakes are shown.
const MISTAKES: usize = 16;

/// How often a waiting evaluator looks whether training is still going on, and shows that it is itself.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The same where training waits for each score.
const LOOK_FOR_TRAINING: Duration = Duration::from_millis(100);

/// An evaluation under way when the run is asked to stop is finished if it ends within this time of the request.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Between two tries to write to a disk that refuses, and how long they go on when training is over.
const RETRY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Evaluate the checkpoints of `run` that its spec wants, until training has ended and its last one is done.
/// With `once`, only those that are there; the newest even if that was done before.
///
/// # Errors
/// Another evaluator at work; [`TrainerDied`], when nothing is left to evaluate of a trainer that died; a newest
/// checkpoint that is damaged; with `once` no checkpoint; a journal or data that are bad; and I/O errors.
pub fn evaluate(run: &RunDir, stop: &Shutdown, once: bool) -> Result<Completion> {
    let lock = Lock::take(run, Role::Eval)?;
    let _requests = StopRequests::watch(&lock, stop)?;
    let (mut journal, unfinished) = Journal::open(&run.evaluations())?;
    if unfinished > 0 {
        console::warning(format_args!(
            "the last line of {} was not finished: its {unfinished} bytes are removed",
            run.evaluations().display()
        ));
    }
    let former = FormerStatus::read::<EvalStatus>(run);
    let mut status = EvalStatus::new(Process::current());
    status.update(journal.progress());
    let result = Evaluator::start(run, &mut journal, &mut status).and_then(|mut evaluator| {
        if once {
            evaluator.evaluate_present(stop)
        } else {
            evaluator.evaluate_until_training_ends(stop)
        }
    });
    if former.restore_if_refused(run, &result) {
        return result;
    }
    status.activity = None;
    let result = run::record_completion(&mut status, run, result);
    let written = hparams::record_completion(run);
    result.and_then(|completion| written.map(|()| completion))
}

struct Evaluator<'a> {
    run: &'a RunDir,
    spec: Spec,
    device_name: String,
    /// How many threads compute.
    threads: usize,
    /// By their number as an [`ImageSet`].
    sets: Vec<EvaluationImages>,
    /// The classes' names.
    classes: Vec<String>,
    /// The network whose values each checkpoint replaces.
    network: Network,
    queue: EvaluationQueue,
    journal: &'a mut Journal,
    /// None before the first look at what is to be evaluated.
    reporter: Option<EvaluationReporter>,
    status: &'a mut EvalStatus,
    /// The trainer's heartbeat after which it was said to be silent.
    silent_since: Option<DateTime<Local>>,
    /// `None` while the disk takes what is written of a checkpoint.
    refusal: Option<Refusal>,
}

/// A disk that cannot be written.
struct Refusal {
    since: Instant,
    /// What was said of it last.
    said: String,
}

/// What is evaluated of a checkpoint.
struct Loaded {
    averaged: Network,
    /// None where nothing is averaged.
    raw: Option<Network>,
    /// Training's moving average of the total loss.
    training_loss: Option<f64>,
    /// How often training had gone back; none if the spec does not let it.
    rollbacks: Option<usize>,
}

/// Whether more checkpoints may come.
enum Training {
    /// They may; so they may before a first trainer has started.
    Open,
    /// The trainer has finished or was stopped.
    Ended,
    /// It has failed, or its process is gone.
    Died(TrainerDied),
}

impl<'a> Evaluator<'a> {
    fn start(
        run: &'a RunDir,
        journal: &'a mut Journal,
        status: &'a mut EvalStatus,
    ) -> Result<Self> {
        status.save(run)?;
        let spec = run::read_spec(run)?;
        let device = backend::machine().evaluation_device(&spec)?;
        let (device, device_name) = backend::device("eval.device", &device)?;
        let threads = backend::prepare(&spec.compute, threads(&spec))?;
        let RunData { images, classes } = run::with_heartbeat(status, run, || {
            run::data::read(
                run,
                &spec.data,
                Split::Test,
                run::commands::resume_with_data,
            )
        })?;
        let training =
            if spec.data.validation_images > 0 || spec.input.normalize == Normalize::Dataset {
                let read = || run::data::read_training(run, &spec, run::commands::resume_with_data);
                Some(run::with_heartbeat(status, run, read)?)
            } else {
                None
            };
        let (training, validation) =
            training.map_or((None, None), |data| (Some(data.images), data.validation));
        let preprocessor = Preprocessor::new(&spec.input, training.as_ref());
        drop(training); // only their mean and deviation are needed
        let (count, gpu) = (images.len(), DeviceName::is_gpu(&device_name));
        let sets = [Some(images), validation].into_iter().flatten();
        let sets = sets.map(|it| EvaluationImages::new(it, &spec, &preprocessor, &device, gpu));
        let sets = sets.collect::<Result<_>>()?;
        let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
        status.process.state = ProcessState::Running;
        status.save(run)?;
        console::timed(format_args!(
            "evaluating {} on {device_name}: {count} images",
            run.id(),
        ));
        Ok(Evaluator {
            run,
            queue: EvaluationQueue::new(run, &spec),
            device_name,
            threads,
            sets,
            spec,
            classes,
            network,
            journal,
            reporter: None,
            status,
            silent_since: None,
            refusal: None,
        })
    }

    /// Evaluate what waits, and the newest checkpoint whether or not that was done before.
    fn evaluate_present(&mut self, stop: &Shutdown) -> Result<Completion> {
        let newest = |queue: &EvaluationQueue| {
            let directory = queue.directory().display();
            let newest = queue.newest()?;
            newest.ok_or_else(|| user_error!("no checkpoint in {directory}: train first"))
        };
        let last = newest(&self.queue)?.step();
        loop {
            let waiting = self.queue.next(self.journal.evaluations())?;
            let before = waiting.filter(|checkpoint| checkpoint.step() < last);
            let is_last = before.is_none();
            let checkpoint = before.map_or_else(|| newest(&self.queue), Ok)?;
            let evaluated = self.evaluate(&checkpoint, stop)?;
            if is_last && evaluated {
                return self.finish();
            }
            if let Some(signal) = stop.requested() {
                return Ok(Completion::Stopped(signal));
            }
        }
    }

    /// Evaluate what comes until training is over and its last checkpoint is done.
    fn evaluate_until_training_ends(&mut self, stop: &Shutdown) -> Result<Completion> {
        let (first, slot) = (self.next_step(), &mut self.reporter);
        EvaluationReporter::starting_at(slot, self.run, &self.spec, first, &self.classes)?;
        loop {
            // Asked before the look at the directory: a checkpoint written just before the end counts.
            let training = self.training()?;
            let next = self.queue.next(self.journal.evaluations())?;
            let finished = next.is_none() && matches!(training, Training::Ended);
            if let Some(signal) = stop.requested().filter(|_| !finished) {
                return Ok(Completion::Stopped(signal));
            }
            match (next, training) {
                (Some(checkpoint), training) => match self.try_to_evaluate(&checkpoint, stop) {
                    Err(error) if files::is_retryable(&error) => {
                        self.wait_for_disk(error, &checkpoint, &training, stop)?;
                    }
                    evaluated => {
                        evaluated?;
                        self.refusal = None;
                    }
                },
                (None, Training::Open) => self.wait(stop)?,
                (None, Training::Ended) => return self.finish(),
                (None, Training::Died(death)) => {
                    return Err(ExitError::new(TrainerDied::EXIT_CODE, death).into());
                }
            }
        }
    }

    /// Wait for a disk that cannot be written: as long as training goes on, and a while longer. The journal does not have
    /// the checkpoint, so it will be evaluated again.
    fn wait_for_disk(
        &mut self,
        error: anyhow::Error,
        checkpoint: &CheckpointVersion,
        training: &Training,
        stop: &Shutdown,
    ) -> Result<()> {
        self.run.check_present()?;
        let reason = format!("{error:#}");
        let said = self.refusal.as_ref().map(|refusal| &refusal.said);
        if said != Some(&reason) {
            console::warning(format_args!(
                "{reason}; step {} is evaluated again as soon as the disk can be written",
                checkpoint.step()
            ));
        }
        let earlier = self.refusal.take().map(|refusal| refusal.since);
        let since = earlier.unwrap_or_else(Instant::now);
        self.refusal = Some(Refusal {
            since,
            said: reason,
        });
        if !matches!(training, Training::Open) && since.elapsed() > PATIENCE {
            return Err(error);
        }
        self.status.save_heartbeat(self.run);
        stop.sleep(RETRY);
        Ok(())
    }

    /// All that was there to do is done, which is no good end if the newest checkpoint has no score. What stayed for its
    /// evaluation alone goes, if no trainer is there to remove it.
    fn finish(&mut self) -> Result<Completion> {
        let retained = checkpoint::retain_after_training(self.run, &self.spec, &mut self.queue);
        if let Err(error) = retained {
            console::warning(format_args!("{error:#}"));
        }
        if let Some(newest) = self.queue.newest()?
            && let Some(last) = self.journal.evaluations().last()
            && let Some(damage) = &last.damage
            && last.step == newest.step()
        {
            bail!("the last checkpoint has no score: {damage}");
        }
        Ok(Completion::Finished)
    }

    /// Whether more checkpoints may come, by the statuses of supervisor and trainer.
    fn training(&mut self) -> Result<Training> {
        let supervisor = SupervisorStatus::load(self.run)?;
        let supervisor = supervisor.filter(|status| status.alive(self.run));
        let train = TrainStatus::load(self.run)?;
        if let Some(status) = train.as_ref().filter(|status| status.alive(self.run)) {
            let process = &status.process;
            if process.silent() && self.silent_since != Some(process.heartbeat) {
                self.silent_since = Some(process.heartbeat);
                console::warning(format_args!(
                    "no heartbeat from the trainer (pid {}) since {}; still waiting for it",
                    process.pid,
                    process.heartbeat.format("%Y-%m-%d %H:%M:%S")
                ));
            }
            return Ok(Training::Open);
        }
        Ok(match train {
            // The supervisor is just starting it, for the first time or again.
            _ if supervisor
                .as_ref()
                .is_some_and(SupervisorStatus::is_training) =>
            {
                Training::Open
            }
            Some(status) if !status.observed(self.run).is_failure() => Training::Ended,
            Some(status) => Training::Died(TrainerDied {
                diverged: status.process.state == ProcessState::Diverged,
                error: status.process.error,
            }),
            // It did not get as far as a status.
            None if supervisor.is_some() => Training::Died(TrainerDied {
                error: None,
                diverged: false,
            }),
            None => Training::Open,
        })
    }

    /// Wait for the spec's interval, or until training is over, too many checkpoints wait, or a signal comes.
    fn wait(&mut self, stop: &Shutdown) -> Result<()> {
        let interval = Duration::from_secs_f64(self.spec.eval.interval_secs);
        let until = Instant::now() + interval;
        self.status.activity = Some(Activity::Idle {
            until: Local::now() + interval,
        });
        let look = match self.spec.stop.needs_scores() {
            true => LOOK_FOR_TRAINING,
            false => HEARTBEAT,
        };
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let over = stop.sleep(left.min(look))
                || !matches!(self.training()?, Training::Open)
                || self.queue.is_full(self.journal.evaluations())?;
            if over {
                break;
            }
            self.run.check_present()?;
            self.status.waiting = self.queue.waiting(self.journal.evaluations())?.count();
            self.status.save_heartbeat(self.run);
        }
        Ok(())
    }

    /// [`Evaluator::evaluate`], but not while a disk still refuses the events of an earlier try: it would refuse these as well,
    /// and each writer that is given up says so.
    fn try_to_evaluate(&mut self, checkpoint: &CheckpointVersion, stop: &Shutdown) -> Result<bool> {
        if let (Some(_), Some(reporter)) = (&self.refusal, &self.reporter) {
            reporter.sync()?;
        }
        self.evaluate(checkpoint, stop)
    }

    /// Score a checkpoint, its averaged weights in full and the accuracy of its raw ones, or find it damaged.
    /// Returns false if neither was done: it was removed or replaced meanwhile, or a signal interrupted it.
    fn evaluate(&mut self, checkpoint: &CheckpointVersion, stop: &Shutdown) -> Result<bool> {
        let begin = Instant::now();
        // The lease keeps it until it is known whether it is the best one.
        let (loaded, _lease) = match Lease::take(checkpoint.path()) {
            Ok(lease) => (self.load(checkpoint), Some(lease)),
            Err(error) => (Err(error), None),
        };
        let measured = match loaded {
            _ if !checkpoint.is_current() => {
                self.queue.refresh();
                return Ok(false);
            }
            Ok(loaded) => match self.score(checkpoint, &loaded, stop)? {
                Some((scores, averaged)) => Ok((scores, averaged, loaded)),
                None => return Ok(false),
            },
            Err(error) if is_damage(&error) => Err(format!("{error:#}")),
            Err(error) => return Err(error),
        };
        let step = checkpoint.step();
        let earlier = self.journal.evaluations().iter();
        let earlier = earlier.take_while(|evaluation| evaluation.step < step);
        let best = earlier.filter_map(Evaluation::score).reduce(Score::better);
        // Nothing stays that the journal does not know, or will take back.
        let first = step.min(self.next_step());
        let slot = &mut self.reporter;
        let reporter =
            EvaluationReporter::starting_at(slot, self.run, &self.spec, first, &self.classes)?;
        let found = match measured {
            Ok((scores, averaged, loaded)) => {
                let score = Score {
                    step,
                    accuracy: scores.accuracy,
                    validation: scores.validation.map(|quality| quality.accuracy),
                };
                let evaluated = Evaluated {
                    step,
                    scores,
                    averaged: &averaged,
                    best: best.map_or(score, |best| best.better(score)).accuracy,
                    training_loss: loaded.training_loss,
                    rollbacks: loaded.rollbacks,
                };
                let images = &self.sets[ImageSet::Test as usize].images;
                reporter.publish(self.run, &evaluated, images)?;
                // The tutorial's line does not say of which one.
                console::timed(format_args!("scored step {step}"));
                if let Some(Quality { accuracy, loss }) = scores.validation {
                    console::timed(format_args!(
                        "validation images: accuracy = {accuracy:.3}, loss = {loss:.3}"
                    ));
                }
                console::timed(format_args!("precision @ 1 = {:.3}", scores.accuracy));
                Ok(scores)
            }
            Err(damage) => {
                console::warning(format_args!("{damage}; it is skipped"));
                Err(damage)
            }
        };
        let evaluation = checkpoint.evaluation(found, begin.elapsed());
        self.journal.add(evaluation)?;
        if let Err(error) = partial::remove(self.run) {
            let path = self.run.partial_evaluation();
            console::warning(format_args!("failed to remove {}: {error}", path.display()));
        }
        self.status.update(self.journal.progress());
        self.status.waiting = self.queue.waiting(self.journal.evaluations())?.count();
        if self.status.waiting == 0 {
            self.status.activity = None; // until it waits, or looks again
        }
        self.status.save_heartbeat(self.run);
        if self.spec.train.keep_best {
            let best = self.status.best.map(|best| best.step);
            checkpoint::link_best(&self.run.checkpoints(), best);
        }
        Ok(true)
    }

    /// The step behind those of the journal.
    fn next_step(&self) -> u64 {
        let last = self.journal.evaluations().last();
        last.map_or(0, |last| last.step + 1)
    }

    fn load(&self, checkpoint: &CheckpointVersion) -> Result<Loaded> {
        let path = checkpoint.path();
        let Checkpoint { tensors, state } = checkpoint::load(path)?;
        let network = |group| with_weights(self.network.clone(), path, &tensors, group);
        let loss = state.averages.get(tags::TOTAL_LOSS.name);
        let averaged = checkpoint::averaged(&tensors);
        Ok(Loaded {
            averaged: network(averaged)?,
            raw: (averaged != WEIGHTS)
                .then(|| network(WEIGHTS))
                .transpose()?,
            training_loss: loss.map(|average| average.value(self.spec.fidelity)),
            rollbacks: (self.spec.train.on_divergence == OnDivergence::Rollback)
                .then_some(state.rollbacks.len()),
        })
    }

    /// The scores of a checkpoint, and the metrics of its averaged weights over the test images; `None` if the run is to
    /// stop before they would be there. Then what was counted is kept, and the next evaluation of it goes on with that.
    fn score(
        &mut self,
        checkpoint: &CheckpointVersion,
        loaded: &Loaded,
        stop: &Shutdown,
    ) -> Result<Option<(Scores, Metrics)>> {
        let views = self.sets[ImageSet::Test as usize].views.len();
        let mut passes = vec![(&loaded.averaged, ImageSet::Test, views)];
        passes.extend(loaded.raw.as_ref().map(|raw| (raw, ImageSet::Test, 1)));
        if self.sets.len() > ImageSet::Validation as usize {
            passes.push((&loaded.averaged, ImageSet::Validation, 1));
        }
        let images = |&(_, set, views): &(_, _, usize)| views * self.images_counted(set);
        let images: usize = passes.iter().map(images).sum();
        let (step, classes) = (checkpoint.step(), self.classes.len());
        let subject = checkpoint.manifest().map(|manifest| Subject {
            manifest: manifest.to_owned(),
            build: BUILD.to_owned(),
            device: self.device_name.clone(),
            threads: self.threads,
            deterministic: self.spec.compute.deterministic,
            batch_size: self.spec.eval.batch_size,
            views,
            passes: passes.len(),
        });
        let earlier = subject
            .as_ref()
            .map(|subject| PartialEvaluation::load(self.run, subject, images * classes));
        let earlier = earlier.unwrap_or_default();
        if !earlier.logits.is_empty() {
            let counted = earlier.logits.len() / classes;
            console::timed(format_args!(
                "scoring step {step} goes on after {counted} of {images} images"
            ));
        }
        let mut progress = EvaluationUnderWay::new(step, images, earlier);
        let mut measured = Vec::with_capacity(passes.len());
        for (network, set, views) in passes {
            match self.measure(network, set, views, &mut progress, stop)? {
                Some(metrics) => measured.push(metrics),
                None => {
                    if let Some(subject) = subject {
                        self.keep(progress, &subject);
                    }
                    return Ok(None);
                }
            }
        }
        let mut measured = measured.into_iter().peekable();
        let Some(test) = measured.next() else {
            bail!("got no metrics of step {step}");
        };
        let raw = measured.next_if(|_| loaded.raw.is_some());
        let scores = Scores {
            accuracy: test.plain.accuracy(),
            raw_accuracy: raw.as_ref().unwrap_or(&test).plain.accuracy(),
            loss: test.plain.loss(),
            validation: measured.next().map(|metrics| quality(&metrics.plain)),
            tta: test.augmented.as_ref().map(quality),
        };
        Ok(Some((scores, test.plain)))
    }

    /// Keep what was computed of an evaluation that gives way to a stop. Where it cannot be kept, the next one computes it again.
    fn keep(&self, progress: EvaluationUnderWay, subject: &Subject) {
        let step = progress.step;
        if let Err(error) = progress.into_partial().save(self.run, subject) {
            console::warning(format_args!(
                "{error:#}; scoring step {step} will begin anew"
            ));
        }
    }

    /// How many images of a set a network is measured with, by one view of each.
    fn images_counted(&self, set: ImageSet) -> usize {
        let count = self.sets[set as usize].images.len();
        // The tutorial evaluates whole batches of the training's size and goes round to the first images
        // where they do not come out even: 79 * 128 = 10,112 of 10,000. Validation images it has none.
        match (self.spec.fidelity, set) {
            (Fidelity::Tutorial, ImageSet::Test) => {
                count.next_multiple_of(self.spec.train.batch_size)
            }
            _ => count,
        }
    }

    /// The metrics of a network over a set of images, by the central crop and, where there are more of the first `views`
    /// views, by the averaged logits of all; `None` if the run is to stop before they would be there.
    fn measure(
        &mut self,
        network: &Network,
        set: ImageSet,
        views: usize,
        progress: &mut EvaluationUnderWay,
        stop: &Shutdown,
    ) -> Result<Option<Measured>> {
        let total = self.images_counted(set);
        let (classes, batch_size) = (self.classes.len(), self.spec.eval.batch_size);
        let mut measured = Measured {
            plain: Metrics::new(classes, MISTAKES, self.spec.fidelity),
            augmented: (views > 1).then(|| Metrics::new(classes, 0, self.spec.fidelity)),
        };
        let (mut seen, mut first) = (0, 0);
        while seen < total {
            if first == self.sets[set as usize].images.len() {
                first = 0;
            }
            let (mut labels, mut mean) = (Vec::new(), Vec::new());
            for view in 0..views {
                if progress.gives_way(stop) {
                    return Ok(None);
                }
                if progress.is_due() {
                    self.show_progress(progress)?;
                }
                let set = &mut self.sets[set as usize];
                let end = set.images.len();
                let batch = first..end.min(first + batch_size).min(first + total - seen);
                let label = |at| set.images.label(at).into();
                labels = batch.clone().map(label).collect();
                let logits = progress.logits(classes * batch.len(), || {
                    backend::logits(network, &self.spec, set.inputs(view, batch)?)
                })?;
                if view == 0 {
                    measured.plain.add(logits, &labels, first)?;
                }
                set.views[view].add(logits, &mut mean);
                progress.done += labels.len();
            }
            if let Some(augmented) = &mut measured.augmented {
                augmented.add(&mean, &labels, first)?;
            }
            seen += labels.len();
            first += labels.len();
        }
        Ok(Some(measured))
    }

    /// Show how far an evaluation is.
    fn show_progress(&mut self, progress: &EvaluationUnderWay) -> Result<()> {
        let waiting = self.queue.waiting(self.journal.evaluations())?;
        let others = waiting.filter(|other| other.step() != progress.step);
        self.status.waiting = others.count();
        self.status.activity = Some(progress.activity());
        self.status.save_heartbeat(self.run);
        Ok(())
    }
}

/// Threads of the evaluator's arithmetic; 0 means one for each core.
fn threads(spec: &Spec) -> usize {
    match spec.eval.threads {
        0 => spec.compute.threads,
        threads => threads,
    }
}

/// `network` with the values of a group of tensors of the checkpoint at `path`.
fn with_weights(
    network: Network,
    path: &Path,
    tensors: &TensorGroups,
    group: &str,
) -> Result<Network> {
    let values = checkpoint::group(tensors, group);
    let network = values.and_then(|values| network.with_tensors(values));
    network.with_context(|| format!("failed to load checkpoint {}", path.display()))
}

/// A set of images that networks are measured on.
#[derive(Clone, Copy)]
enum ImageSet {
    Test,
    /// Images of the training files that are held out; none if the spec wants none.
    Validation,
}

/// The metrics of a network over images.
struct Measured {
    /// By the central crop of each.
    plain: Metrics,
    /// By the averaged logits of several views of each.
    augmented: Option<Metrics>,
}

fn quality(metrics: &Metrics) -> Quality {
    Quality {
        accuracy: metrics.accuracy(),
        loss: metrics.loss(),
    }
}

/// Whether a checkpoint that could not be loaded is to blame itself, and not the machine: no memory, no
/// permission, a disk that does not answer.
fn is_damage(error: &anyhow::Error) -> bool {
    let refusal = error.chain().find_map(|cause| cause.downcast_ref());
    refusal.is_none_or(|refusal: &io::Error| {
        matches!(
            refusal.kind(),
            ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
        )
    })
}
