//! What the evaluator has found of the checkpoints, and what that comes to.

use std::time::Duration;

use chrono::{DateTime, Local};
use serde::{Deserialize, Serialize};

use super::Score;

/// What the evaluator found of one checkpoint: scores, or damage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The checkpoint's step.
    pub step: u64,
    /// SHA-256 of the checkpoint's manifest; none if that could not be read.
    pub manifest: Option<String>,
    /// When the checkpoint was written.
    pub written: Option<DateTime<Local>>,
    /// When it was evaluated.
    pub time: DateTime<Local>,
    /// How long that took.
    pub seconds: f64,
    /// Accuracy of the averaged weights over the test set, in 0..=1: the tutorial's precision @ 1.
    #[serde(default, alias = "precision", skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The same of the raw weights.
    #[serde(
        default,
        alias = "raw_precision",
        skip_serializing_if = "Option::is_none"
    )]
    pub raw_accuracy: Option<f64>,
    /// Mean cross-entropy of the averaged weights; none if it is not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Accuracy of the averaged weights over the validation images; none without such images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Their mean cross-entropy there, if that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Accuracy of the averaged weights over the test set by several views of each image; none without test-time
    /// augmentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tta_accuracy: Option<f64>,
    /// Their mean cross-entropy so, if that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tta_loss: Option<f64>,
    /// Why the checkpoint has no scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// What a checkpoint was found to be worth, over the test set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Accuracy of the averaged weights, in 0..=1.
    pub accuracy: f64,
    /// The same of the raw weights.
    pub raw_accuracy: f64,
    /// Mean cross-entropy of the averaged weights.
    pub loss: f64,
    /// The averaged weights over the validation images.
    pub validation: Option<Quality>,
    /// The averaged weights by several views of each image.
    pub tta: Option<Quality>,
}

/// How good weights are over a set of images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// In 0..=1.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Evaluation {
    /// What was found just now, within `took`, of the checkpoint of `step` that has this manifest and was
    /// written then: scores, or damage.
    pub fn new(
        step: u64,
        manifest: Option<String>,
        written: Option<DateTime<Local>>,
        found: Result<Scores, String>,
        took: Duration,
    ) -> Self {
        let (scores, damage) = match found {
            Ok(scores) => (Some(scores), None),
            Err(damage) => (None, Some(shortened(damage))),
        };
        let loss = scores.map(|scores| scores.loss);
        let validation = scores.and_then(|scores| scores.validation);
        let tta = scores.and_then(|scores| scores.tta);
        let finite = |quality: Quality| Some(quality.loss).filter(|loss| loss.is_finite());
        Evaluation {
            step,
            manifest,
            written,
            time: Local::now(),
            seconds: took.as_secs_f64(),
            accuracy: scores.map(|scores| scores.accuracy),
            raw_accuracy: scores.map(|scores| scores.raw_accuracy),
            loss: loss.filter(|loss| loss.is_finite()),
            validation_accuracy: validation.map(|quality| quality.accuracy),
            validation_loss: validation.and_then(finite),
            tta_accuracy: tta.map(|quality| quality.accuracy),
            tta_loss: tta.and_then(finite),
            damage,
        }
    }

    /// The accuracy with its step; none of a damaged checkpoint.
    pub fn score(&self) -> Option<Score> {
        self.accuracy.map(|accuracy| Score {
            step: self.step,
            accuracy,
            validation: self.validation_accuracy,
        })
    }

    /// Whether this is about the very checkpoint of `step` that has this manifest and was written then. The
    /// manifest tells, for one that could be read. A damaged one has the manifest of the whole one that was
    /// or will be in its place, so there the time counts as well.
    pub fn is_of(
        &self,
        step: u64,
        manifest: Option<&str>,
        written: Option<DateTime<Local>>,
    ) -> bool {
        self.step == step
            && self.manifest.as_deref() == manifest
            && (self.damage.is_none() || self.written == written)
    }
}

/// How much of what is wrong with a checkpoint is kept, in characters.
const DAMAGE: usize = 1000;

/// A message may quote what it found in a file, which may be long; a line of the journal must not be.
fn shortened(damage: String) -> String {
    match damage.char_indices().nth(DAMAGE) {
        Some((end, _)) => format!("{}...", &damage[..end]),
        None => damage,
    }
}

/// What evaluations, in force and in their order, come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EvaluationProgress {
    /// The checkpoint scored last.
    pub last: Option<Score>,
    /// Its loss, if that is finite.
    pub last_loss: Option<f64>,
    /// The best checkpoint by [`Score::criterion`]; of equals the first.
    pub best: Option<Score>,
    /// The lowest loss, whichever checkpoint had it.
    pub lowest_loss: Option<f64>,
    /// How long the checkpoint scored last took, in seconds.
    pub last_seconds: Option<f64>,
}

impl EvaluationProgress {
    /// What these evaluations come to.
    pub fn of(evaluations: &[Evaluation]) -> Self {
        let mut progress = Self::default();
        for evaluation in evaluations {
            progress.add(evaluation);
        }
        progress
    }

    /// Take another evaluation into account, which stands after those before it.
    pub fn add(&mut self, evaluation: &Evaluation) {
        let Some(score) = evaluation.score() else {
            return;
        };
        self.last = Some(score);
        self.last_loss = evaluation.loss;
        self.last_seconds = Some(evaluation.seconds);
        self.best = Some(self.best.map_or(score, |best| best.better(score)));
        let losses = self.lowest_loss.into_iter().chain(evaluation.loss);
        self.lowest_loss = losses.reduce(f64::min);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn found(step: u64, found: Result<Scores, String>) -> Evaluation {
        let manifest = Some(format!("{step:x}"));
        let took = Duration::from_millis(250);
        Evaluation::new(step, manifest, Some(Local::now()), found, took)
    }

    pub(in crate::run) fn scored(step: u64, accuracy: f64) -> Evaluation {
        let scores = Scores {
            accuracy,
            raw_accuracy: 0.1,
            loss: 1.0 - accuracy,
            ..Scores::default()
        };
        found(step, Ok(scores))
    }

    pub(in crate::run) fn damaged(step: u64) -> Evaluation {
        found(step, Err("a byte is missing".into()))
    }

    #[test]
    fn progress_is_that_of_scores_and_finite_losses() {
        assert_eq!(
            EvaluationProgress::of(&[damaged(0)]),
            EvaluationProgress::default()
        );
        let score = |step, accuracy| Some(Score::new(step, accuracy));
        let infinite = Scores {
            accuracy: 0.3,
            raw_accuracy: 0.1,
            loss: f64::INFINITY,
            ..Scores::default()
        };
        let all = [
            scored(0, 0.1),
            scored(10, 0.5),
            scored(20, 0.5),
            damaged(30),
            found(40, Ok(infinite)),
        ];
        let progress = EvaluationProgress::of(&all);
        assert_eq!(progress.last, score(40, 0.3));
        assert_eq!(progress.last_loss, None);
        assert_eq!(progress.best, score(10, 0.5));
        assert_eq!(progress.lowest_loss, Some(0.5));
    }

    #[test]
    fn best_is_the_best_by_the_validation_images_where_there_are_any() {
        let of = |step, accuracy, validation| {
            let validation = Some(Quality {
                accuracy: validation,
                loss: 1.0,
            });
            let scores = Scores {
                accuracy,
                validation,
                ..Scores::default()
            };
            found(step, Ok(scores))
        };
        let all = [of(0, 0.5, 0.4), of(10, 0.6, 0.7), of(20, 0.8, 0.6)];
        let best = EvaluationProgress::of(&all).best.unwrap();
        assert_eq!((best.step, best.criterion()), (10, 0.7));
        assert_eq!(best.to_string(), "0.600 (validation 0.700) at step 10");
        let plain = Score {
            validation: None,
            ..best
        };
        assert_eq!(plain.to_string(), "0.600 at step 10");
    }

    #[test]
    fn evaluation_is_of_a_checkpoint_by_its_manifest_and_of_a_damaged_one_by_its_time_too() {
        let whole = scored(10, 0.5);
        let later = Some(Local::now() + TimeDelta::days(1));
        assert!(whole.is_of(10, Some("a"), whole.written));
        assert!(whole.is_of(10, Some("a"), later), "the same bytes again");
        assert!(!whole.is_of(11, Some("a"), whole.written));
        assert!(!whole.is_of(10, Some("b"), whole.written));
        assert!(!whole.is_of(10, None, whole.written));
        let broken = damaged(10);
        assert!(broken.is_of(10, Some("a"), broken.written));
        assert!(!broken.is_of(10, Some("a"), later), "written anew");
    }

    #[test]
    fn damage_of_any_length_fits_into_a_line() {
        let damage = |length| found(0, Err("é".repeat(length))).damage.unwrap();
        assert_eq!(damage(1000), "é".repeat(1000));
        assert_eq!(damage(1001), format!("{}...", "é".repeat(1000)));
    }
}
