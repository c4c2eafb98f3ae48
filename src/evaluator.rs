//! The evaluation process: waits for checkpoints, scores them on the test set, writes the curve.

use crate::backend;
use crate::checkpoint::{self, Checkpoint, Entry};
use crate::console;
use crate::data::{self, Images, Split, evaluation_batches};
use crate::events::{EventWriter, Summaries, Tag};
use crate::model::Network;
use crate::run::{EvalStatus, Process, Role, RunDir, Score, State, Status, TrainStatus};
use crate::session::{self, Ended};
use crate::spec::Spec;
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
        let images = Images::read(&data::prepare(&spec.data)?, Split::Test)?;
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

    /// Score one checkpoint: precision of the averaged weights over the whole test set.
    fn score(&mut self, checkpoint: Checkpoint, stop: &Stop) -> Result<Ended> {
        let Checkpoint { state, ema, .. } = checkpoint;
        let network = self.network.clone().with_values(ema, &self.device)?;
        let mut hits = 0;
        for batch in evaluation_batches(&self.images, &self.spec.input, self.spec.eval.batch_size) {
            if let Some(signal) = stop.requested() {
                return Ok(Ended::Interrupted(signal));
            }
            let side = self.spec.input.crop;
            let labels = batch.labels.clone();
            let (images, _) = backend::upload(batch.images, batch.labels, side, &self.device);
            let logits = backend::logits(&network, &self.spec.network, images)?;
            hits += count_hits(&logits, &labels);
        }
        let precision = hits as f64 / self.images.len() as f64;
        console::timed(format_args!("precision @ 1 = {precision:.3}"));
        let events = match &mut self.events {
            Some(events) => events,
            // A step that is scored again, with `once`, leaves one point in the curve.
            none => none.insert(EventWriter::resume(
                &self.run.events(Role::Eval),
                state.step,
            )?),
        };
        let tag = Tag::new("Precision @ 1").description(PRECISION);
        events.write(Summaries::at(state.step).scalar(&tag, precision));
        events.flush()?;
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
}

const PRECISION: &str = "Share of the test images whose likeliest class is their own, by the moving average of the weights.";

/// Read a checkpoint; `None` if retention removed it between the look and the read, as a newer one is
/// there then.
fn load(entry: &Entry) -> Result<Option<Checkpoint>> {
    match checkpoint::load(&entry.path) {
        Err(_) if !entry.path.exists() => Ok(None),
        loaded => loaded.map(Some),
    }
}

/// How many rows of `logits`, one a label, are largest at their label. Of equal ones the first counts.
fn count_hits(logits: &[f32], labels: &[i64]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    let rows = logits.chunks_exact(classes.max(1));
    let predicted = rows.map(|row| {
        let largest = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
        (0..row.len()).fold(0, largest)
    });
    predicted
        .zip(labels)
        .filter(|(class, label)| *class as i64 == **label)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_a_row_whose_largest_logit_is_at_the_label() {
        let logits = [0.1, 0.9, 0.0, 5.0, -1.0, 2.0, 1.0, 1.0, 0.0];
        assert_eq!(count_hits(&logits, &[1, 0, 0]), 3);
        assert_eq!(count_hits(&logits, &[1, 2, 1]), 1);
        assert_eq!(count_hits(&logits, &[0, 1, 2]), 0);
        assert_eq!(count_hits(&[], &[]), 0);
    }
}
