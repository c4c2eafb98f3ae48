//! Divergence: how it is found, the evidence saved of it, and where training goes on.
//!
//! A loss that is NaN or infinite is one, and so is an explosion, see [`LossLimit`].
//!
//! A rollback is a resume with a lower learning rate, in the same process. Nothing on disk says that one was
//! decided until the next checkpoint does: a run that is killed in between goes on from the same checkpoint,
//! diverges at the same step and decides the same.

use crate::backend::Losses;
use crate::model::LAYERS;
use anyhow::Result;
use runboard::checkpoint::{self, Checkpoint, CheckpointState, Rollback};
use runboard::checkpoint::{EMA, NamedTensor, WEIGHTS};
use runboard::console;
use runboard::data::{Batch, CHANNELS};
use runboard::error::{DIVERGED, ExitError};
use runboard::files;
use runboard::run::RunDir;
use runboard::spec::{CLASS_COUNT, OnDivergence, Train};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::PathBuf;

/// So many steps in a row with a loss above the limit are an explosion. One is none: a batch may be an outlier, and
/// training at a high rate may leap and come back.
const EXPLOSION: u64 = 10;

/// How high the loss may be: `train.divergence_factor` times that of the run's first step, or times the cross-entropy
/// of a guess if that is higher, as where a run begins with trained weights.
///
/// Weights that have exploded need not become infinite: weight decay may shrink them again while every unit is dead, and
/// the run would end as if it had trained. Measured on `fast-start`: with rates that train, the loss stays below twice its
/// first one; with those that explode (2 and more) it is 40,000 times that within 3 steps, and stays there for 100.
pub struct LossLimit {
    /// None: no limit.
    factor: Option<f64>,
    first: Option<f64>,
    /// Steps in a row above it.
    above: u64,
}

impl LossLimit {
    /// Going on from a checkpoint.
    pub fn new(spec: &Train, state: &CheckpointState) -> Self {
        LossLimit {
            factor: (spec.divergence_factor > 0).then_some(spec.divergence_factor as f64),
            first: state.first_loss,
            above: state.steps_above_limit,
        }
    }

    /// The run's first loss, and how many steps in a row were above the limit: what a checkpoint holds.
    pub fn state(&self) -> (Option<f64>, u64) {
        (self.first, self.above)
    }

    /// Take in the losses of a step, each once and in order. What is wrong with them, in words, and the step that it
    /// began at, if training diverges.
    pub fn check(&mut self, step: u64, losses: &Losses) -> Option<(String, u64)> {
        let loss = losses.total;
        if !loss.is_finite() {
            return Some((format!("the loss at step {step} is {loss}"), step));
        }
        let first = *self.first.get_or_insert(loss);
        let factor = self.factor?;
        let limit = factor * first.max((CLASS_COUNT as f64).ln());
        self.above = if loss > limit { self.above + 1 } else { 0 };
        (self.above >= EXPLOSION).then(|| {
            let cause = format!(
                "the loss at step {step} is {}, and for {EXPLOSION} steps above {}, {factor} times the first one \
                 (train.divergence_factor)",
                console::loss(loss),
                console::loss(limit)
            );
            (cause, (step + 1).saturating_sub(EXPLOSION))
        })
    }
}

/// The error that ends training which diverges, unless a rollback follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The step at which it was found, of which there is no checkpoint. One whose loss is not finite is not done.
    pub step: u64,
    /// The step whose loss was the first that is wrong; after a step that makes weights which are not finite, the next one.
    pub began: u64,
    /// What is wrong, in words.
    pub cause: String,
    /// The last losses.
    pub losses: Losses,
    /// The last learning rate.
    pub learning_rate: f64,
    /// The rollbacks before it.
    pub rollbacks: Vec<Rollback>,
    /// The directory of the weights and the batch, once they are saved.
    pub evidence: Option<PathBuf>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: training diverged", self.cause)?;
        match self.rollbacks.len() {
            0 => {}
            1 => write!(f, ", after a rollback")?,
            n => write!(f, ", after {n} rollbacks")?,
        }
        if self.began == 0 {
            let cause = "no step had been made yet, so look at the images and at what the network begins with (network.*, --from)";
            write!(f, "; {cause}")?;
        } else {
            write!(f, "; try a lower optimizer.learning_rate")?;
            if self.rollbacks.is_empty() {
                write!(f, " or train.on_divergence=rollback")?;
            }
        }
        match &self.evidence {
            Some(directory) => write!(f, "; weights and batch are in {}", directory.display()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Divergence {}

/// What is not finite in a checkpoint, in words; `None` if all is. Another one must never be saved.
pub fn check_checkpoint(checkpoint: &Checkpoint) -> Option<String> {
    let broken = |tensor: &&NamedTensor| tensor.values.iter().any(|value| !value.is_finite());
    let in_group = |(group, tensors): (&String, &Vec<NamedTensor>)| {
        let (found, step) = (tensors.iter().find(broken)?, checkpoint.state.step);
        let what = match group.as_str() {
            WEIGHTS => "weights",
            EMA => "averaged weights",
            other => &format!("tensors of {other}"),
        };
        Some(format!(
            "the {what} after step {step} are not finite: {}",
            found.name
        ))
    };
    // The weights first: what else there is follows from them.
    let groups = &checkpoint.tensors;
    let weights = groups.get_key_value(WEIGHTS);
    weights.into_iter().chain(groups).find_map(in_group)
}

impl Divergence {
    /// Exit code of training that diverged, which it would again: the supervisor does not start it again.
    pub const EXIT_CODE: i32 = DIVERGED;

    /// Save the evidence: the weights and the batch of its step, as safetensors, and the
    /// numbers. The message then says where they are.
    ///
    /// # Errors
    /// If it cannot be written; there is then no half of it.
    pub fn save_evidence(
        &mut self,
        run: &RunDir,
        weights: &[NamedTensor],
        batch: &Batch,
    ) -> Result<()> {
        run.check_present()?; // or this would make its directory again
        let directory = run.divergence(self.step);
        let mut numbers = serde_json::to_vec_pretty(&self.numbers())?;
        numbers.push(b'\n');
        let files: [(&str, &[u8]); 3] = [
            ("divergence.json", &numbers),
            ("weights.safetensors", &checkpoint::safetensors(weights)?),
            ("batch.safetensors", &safetensors(batch)?),
        ];
        files::replace_dir(&directory, &files)?;
        self.evidence = Some(directory);
        Ok(())
    }

    fn numbers(&self) -> Value {
        // JSON has no NaN and no infinity.
        let number = |value: f64| match value.is_finite() {
            true => json!(value),
            false => json!(value.to_string()),
        };
        let decays = LAYERS.iter().zip(self.losses.weight_decay);
        let decays: Map<String, Value> = decays
            .map(|(layer, loss)| ((*layer).to_owned(), number(loss)))
            .collect();
        json!({
            "step": self.step,
            "began": self.began,
            "what": self.cause,
            "total_loss": number(self.losses.total),
            "cross_entropy": number(self.losses.cross_entropy),
            "weight_loss": decays,
            "learning_rate": self.learning_rate,
            "rollbacks": self.rollbacks,
        })
    }

    /// Go back to an earlier checkpoint, if the spec allows one more rollback and a lower rate may help, as it does not where
    /// the very first loss is wrong: later checkpoints are removed. Returns all rollbacks, this one included.
    ///
    /// # Errors
    /// The divergence itself, if it ends training, and I/O errors.
    pub fn roll_back(self, run: &RunDir, spec: &Train) -> Result<Vec<Rollback>> {
        let count = self.rollbacks.len();
        let may_help = spec.on_divergence == OnDivergence::Rollback && self.began > 0;
        if !may_help || count >= spec.max_rollbacks {
            return Err(ExitError::new(Divergence::EXIT_CODE, self).into());
        }
        let directory = run.checkpoints();
        let there = checkpoint::list(&directory)?;
        let candidates = checkpoint::rollback_candidates(&there, spec, &self.rollbacks);
        let to = self.rollback_target(&candidates);
        checkpoint::remove_from(&directory, to.map_or(0, |step| step + 1))?;
        let rollback = Rollback {
            diverged: self.step,
            to,
        };
        console::warning(format_args!(
            "{}; rollback {} of at most {}: {rollback}, with the learning rate times {}",
            self.cause,
            count + 1,
            spec.max_rollbacks,
            spec.rollback_factor
        ));
        Ok(self.rollbacks.into_iter().chain([rollback]).collect())
    }

    /// The newest of these checkpoints, oldest first, from which a lower rate can help: not one whose very weights, before any
    /// step, give no finite loss, and not the one that the last rollback went to in vain.
    fn rollback_target(&self, candidates: &[u64]) -> Option<u64> {
        let tried = self.rollbacks.last().and_then(|rollback| rollback.to);
        let steps = candidates.iter().rev().copied();
        steps
            .filter(|&step| step + 1 < self.began)
            .find(|&step| Some(step) != tried)
    }
}

/// Images [n, side, side, 3] and labels [n] of a batch; with cutmix also the labels of the squares [n].
fn safetensors(batch: &Batch) -> Result<Vec<u8>> {
    let n = batch.labels.len();
    let pixels = batch.images.len() / (n * CHANNELS).max(1);
    let side = pixels.isqrt();
    let images: Vec<u8> = batch.images.iter().flat_map(|v| v.to_le_bytes()).collect();
    let labels: Vec<u8> = batch.labels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mixed: Vec<u8> = (batch.mixed_labels.iter().flat_map(|v| v.to_le_bytes())).collect();
    let mut views = vec![
        (
            "images",
            TensorView::new(Dtype::F32, vec![n, side, side, CHANNELS], &images)?,
        ),
        ("labels", TensorView::new(Dtype::I64, vec![n], &labels)?),
    ];
    if !mixed.is_empty() {
        views.push((
            "mixed_labels",
            TensorView::new(Dtype::I64, vec![n], &mixed)?,
        ));
    }
    Ok(safetensors::serialize(views, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::provenance;
    use runboard::checkpoint::CheckpointState;
    use runboard::checkpoint::TensorGroups;
    use runboard::error::exit_code;
    use std::fs;

    fn losses(total: f64) -> Losses {
        Losses {
            accuracy: 0.1,
            total,
            cross_entropy: 1.5,
            weight_decay: [0.0; LAYERS.len()],
        }
    }

    fn divergence(step: u64, rollbacks: &[Rollback]) -> Divergence {
        Divergence {
            step,
            began: step,
            cause: format!("the loss at step {step} is NaN"),
            losses: losses(f64::NAN),
            learning_rate: 0.1,
            rollbacks: rollbacks.to_vec(),
            evidence: None,
        }
    }

    fn weights(value: f32) -> Vec<NamedTensor> {
        vec![NamedTensor {
            name: "conv1/biases".into(),
            shape: vec![2],
            values: vec![0.5, value],
        }]
    }

    fn checkpoint(step: u64, value: f32, average: f32) -> Checkpoint {
        Checkpoint {
            state: CheckpointState {
                step,
                ..CheckpointState::default()
            },
            tensors: TensorGroups::from([
                (WEIGHTS.into(), weights(value)),
                (EMA.into(), weights(average)),
            ]),
        }
    }

    fn run() -> (tempfile::TempDir, RunDir) {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        (directory, run)
    }

    #[test]
    fn cause_names_what_is_not_finite() {
        let cause = |total| limit(1_000).check(7, &losses(total));
        assert_eq!(cause(1e30), None);
        let nan = ("the loss at step 7 is NaN".to_owned(), 7);
        assert_eq!(cause(f64::NAN), Some(nan));
        let infinite = ("the loss at step 7 is inf".to_owned(), 7);
        assert_eq!(cause(f64::INFINITY), Some(infinite));

        assert_eq!(check_checkpoint(&checkpoint(7, f32::MAX, 1.0)), None);
        assert_eq!(
            check_checkpoint(&checkpoint(7, f32::NEG_INFINITY, f32::NAN)).unwrap(),
            "the weights after step 7 are not finite: conv1/biases"
        );
        assert_eq!(
            check_checkpoint(&checkpoint(7, 1.0, f32::NAN)).unwrap(),
            "the averaged weights after step 7 are not finite: conv1/biases"
        );
    }

    fn limit(factor: u64) -> LossLimit {
        let spec = Train {
            divergence_factor: factor,
            ..Train::default()
        };
        LossLimit::new(&spec, &CheckpointState::default())
    }

    /// The step at which these losses are found to explode, and the one that it began at.
    fn explosion(
        limit: &mut LossLimit,
        totals: impl IntoIterator<Item = f64>,
    ) -> Option<(u64, u64)> {
        let mut steps = (0..).zip(totals);
        steps.find_map(|(step, total)| Some((step, limit.check(step, &losses(total))?.1)))
    }

    #[test]
    fn explosion_is_ten_losses_in_a_row_above_the_limit() {
        let mut ten = limit(1_000);
        let high = [&[4.67][..], &[4670.1; 10]].concat();
        assert_eq!(explosion(&mut ten, high.clone()), Some((10, 1)));
        let (cause, _) = ten.check(11, &losses(3.093e24)).unwrap();
        assert_eq!(
            cause,
            "the loss at step 11 is 3.09e24, and for 10 steps above 4670.00, 1000 times the first one \
             (train.divergence_factor)"
        );
        // One that comes back begins anew.
        let back = [&high[..10], &[4669.9], &high[1..10]].concat();
        assert_eq!(explosion(&mut limit(1_000), back.clone()), None);
        assert_eq!(
            explosion(&mut limit(1_000), back.iter().chain([&5e3]).copied()),
            Some((20, 11))
        );
        assert_eq!(
            explosion(&mut limit(0), [1.0].into_iter().chain([1e38; 100])),
            None
        );
    }

    #[test]
    fn limit_is_that_of_a_guess_where_the_first_loss_is_lower() {
        let begun = |loss| [&[0.01][..], &[loss; 20]].concat();
        assert_eq!(explosion(&mut limit(10), begun(23.0)), None);
        assert_eq!(explosion(&mut limit(10), begun(23.1)), Some((10, 1)));
    }

    #[test]
    fn limit_goes_on_from_a_checkpoint_as_if_nothing_had_come_between() {
        let totals = [&[2.5][..], &[1e9; 3], &[2.0], &[1e9; 10]].concat();
        for saved in 0..totals.len() - 1 {
            let mut before = limit(1_000);
            assert_eq!(explosion(&mut before, totals[..=saved].to_vec()), None);
            let (first_loss, steps_above_limit) = before.state();
            let state = CheckpointState {
                first_loss,
                steps_above_limit,
                ..CheckpointState::default()
            };
            let mut after = LossLimit::new(&Train::default(), &state);
            let rest = totals[saved + 1..].to_vec();
            let last = rest.len() as u64 - 1;
            assert_eq!(
                explosion(&mut after, rest).map(|(step, _)| step),
                Some(last),
                "{saved}"
            );
        }
    }

    #[test]
    fn rollback_goes_to_no_checkpoint_that_only_waits_for_its_evaluation() {
        // Where 30 is still to be evaluated, and where it has been.
        for steps in [&[0, 20, 40, 50][..], &[0, 10, 20, 30, 40, 50]] {
            let (_directory, run) = run();
            for &step in steps {
                checkpoint::save(&run.checkpoints(), &checkpoint(step, 1.0, 1.0)).unwrap();
            }
            let spec = Train {
                on_divergence: OnDivergence::Rollback,
                checkpoint_every: 10,
                keep_checkpoints: 2,
                keep_every: 20,
                ..Train::default()
            };
            let exploded = Divergence {
                began: 38,
                ..divergence(55, &[])
            };
            let rollbacks = exploded.roll_back(&run, &spec).unwrap();
            assert_eq!(rollbacks[0].to, Some(20), "{steps:?}");
        }
    }

    #[test]
    fn rollback_goes_to_before_the_first_loss_that_was_too_high() {
        let (_directory, run) = run();
        for step in [0, 10, 20, 30] {
            checkpoint::save(&run.checkpoints(), &checkpoint(step, 1.0, 1.0)).unwrap();
        }
        let spec = Train {
            on_divergence: OnDivergence::Rollback,
            checkpoint_every: 10,
            ..Train::default()
        };
        let exploded = Divergence {
            began: 21, // with the weights of checkpoint 20
            ..divergence(30, &[])
        };
        let rollbacks = exploded.roll_back(&run, &spec).unwrap();
        let to = Some(10);
        assert_eq!(rollbacks, [Rollback { diverged: 30, to }]);
    }

    #[test]
    fn rollback_goes_to_the_newest_checkpoint_not_tried_in_vain() {
        let (_directory, run) = run();
        for step in [0, 10, 20, 30] {
            checkpoint::save(&run.checkpoints(), &checkpoint(step, 1.0, 1.0)).unwrap();
        }
        let spec = Train {
            on_divergence: OnDivergence::Rollback,
            checkpoint_every: 10,
            max_rollbacks: 5,
            ..Train::default()
        };
        let mut rollbacks = Vec::new();
        // Step 31 had the weights of checkpoint 30, which no lower rate makes better. From 20 it was tried
        // once, from 10 not at all: the weights were bad. From the beginning there is always another try.
        for (diverged, to) in [
            (31, Some(20)),
            (25, Some(10)),
            (11, Some(0)),
            (5, None),
            (3, None),
        ] {
            rollbacks = divergence(diverged, &rollbacks)
                .roll_back(&run, &spec)
                .unwrap();
            assert_eq!(rollbacks.last(), Some(&Rollback { diverged, to }));
            let left = checkpoint::latest(&run.checkpoints()).unwrap();
            assert_eq!(left.map(|entry| entry.step), to);
        }
        let error = divergence(2, &rollbacks)
            .roll_back(&run, &spec)
            .unwrap_err();
        assert_eq!(exit_code(&error), Divergence::EXIT_CODE);
        assert_eq!(
            error.to_string(),
            "the loss at step 2 is NaN: training diverged, after 5 rollbacks; try a lower \
             optimizer.learning_rate"
        );
    }

    #[test]
    fn first_loss_that_is_wrong_is_not_tried_again() {
        let (_directory, run) = run();
        let spec = Train {
            on_divergence: OnDivergence::Rollback,
            ..Train::default()
        };
        let error = divergence(0, &[]).roll_back(&run, &spec).unwrap_err();
        assert_eq!(exit_code(&error), Divergence::EXIT_CODE);
        assert_eq!(
            error.to_string(),
            "the loss at step 0 is NaN: training diverged; no step had been made yet, so look at the images and at \
             what the network begins with (network.*, --from)"
        );
    }

    #[test]
    fn rollback_to_the_beginning_removes_quarantined_checkpoints() {
        let (_directory, run) = run();
        let directory = run.checkpoints();
        let saved = checkpoint::save(&directory, &checkpoint(10, 1.0, 1.0)).unwrap();
        checkpoint::save(&directory, &checkpoint(20, 1.0, 1.0)).unwrap();
        let damaged = directory.join("step-00000020/state.json");
        fs::write(damaged, "").unwrap();
        let restored = checkpoint::restore(&directory).unwrap().unwrap();
        assert_eq!(restored.path, saved);
        assert!(directory.join("step-00000020.damaged").exists());
        let spec = Train {
            on_divergence: OnDivergence::Rollback,
            ..Train::default()
        };
        let rollbacks = divergence(11, &[]).roll_back(&run, &spec).unwrap();
        assert_eq!(rollbacks[0].to, None);
        assert!(checkpoint::restore(&directory).unwrap().is_none());
    }

    #[test]
    fn stop_leaves_every_checkpoint() {
        let (_directory, run) = run();
        checkpoint::save(&run.checkpoints(), &checkpoint(10, 1.0, 1.0)).unwrap();
        let error = divergence(11, &[])
            .roll_back(&run, &Train::default())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the loss at step 11 is NaN: training diverged; try a lower optimizer.learning_rate or \
             train.on_divergence=rollback"
        );
        assert_eq!(checkpoint::list(&run.checkpoints()).unwrap().len(), 1);
    }

    #[test]
    fn evidence_is_weights_batch_and_numbers() {
        let (_directory, run) = run();
        let batch = Batch {
            step: 7,
            images: (0..24).map(|value| value as f32).collect(),
            labels: vec![3, 9],
            mixed_labels: Vec::new(),
        };
        let mut divergence = divergence(7, &[]);
        divergence
            .save_evidence(&run, &weights(f32::NAN), &batch)
            .unwrap();
        let directory = run.divergence(7);
        let message = divergence.to_string();
        let place = format!("; weights and batch are in {}", directory.display());
        assert!(message.ends_with(&place), "{message}");

        let file = fs::read(directory.join("batch.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(tensors.tensor("images").unwrap().shape(), [2, 2, 2, 3]);
        let labels = tensors.tensor("labels").unwrap();
        assert_eq!((labels.dtype(), labels.data()[8]), (Dtype::I64, 9));
        let file = fs::read(directory.join("weights.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(tensors.names(), ["conv1/biases"]);
        let numbers = fs::read(directory.join("divergence.json")).unwrap();
        let numbers: Value = serde_json::from_slice(&numbers).unwrap();
        assert_eq!(numbers["total_loss"], "NaN");
        assert_eq!(numbers["cross_entropy"], 1.5);
    }
}
