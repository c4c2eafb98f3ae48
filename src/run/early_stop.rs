//! Why training ends before its last step, by the spec's section `stop`.
//!
//! Accuracy and patience follow from the evaluator's journal and the spec alone, so that a resume decides as the session
//! before did. The checkpoints of `train.checkpoint_every` decide, not those that a stop saved on the way: how often a run
//! is stopped and resumed changes nothing.

use super::{Evaluation, Score};
use crate::spec::Spec;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What ended training, or would end it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStop {
    /// What was reached, and the field that limits it, in words.
    pub reason: String,
    /// With what a resume goes on, as `--set` takes it.
    pub higher_limit: String,
}

impl EarlyStop {
    /// What the scores of the checkpoints up to that of `step` decide.
    pub fn by_scores(spec: &Spec, step: u64, evaluations: &[Evaluation]) -> Option<Self> {
        let limits = &spec.stop;
        let counts = |score: &Score| {
            score.step <= step && score.step.is_multiple_of(spec.train.checkpoint_every)
        };
        let scores = evaluations.iter().filter_map(Evaluation::score);
        let scores: Vec<Score> = scores.filter(counts).collect();
        let best = scores.iter().copied().reduce(Score::better)?;
        let images = match best.validation {
            Some(_) => "validation",
            None => "test",
        };
        let (value, at) = (best.criterion(), best.step);
        if limits.accuracy > 0.0 && value >= limits.accuracy {
            return Some(EarlyStop {
                reason: format!(
                    "{images} accuracy {value:.3} at step {at} (stop.accuracy {})",
                    limits.accuracy
                ),
                higher_limit: format!("stop.accuracy={}", higher_accuracy(value)),
            });
        }
        let since = scores.iter().filter(|score| score.step > at).count();
        (limits.patience > 0 && since >= limits.patience).then(|| EarlyStop {
            reason: format!(
                "no {images} accuracy above {value:.3}, that of step {at}, in {since} evaluations (stop.patience {})",
                limits.patience
            ),
            higher_limit: format!("stop.patience={}", 2 * since),
        })
    }

    /// What training that took so many seconds, in all sessions, decides.
    pub fn by_time(spec: &Spec, seconds: f64) -> Option<Self> {
        let (limit, minutes) = (spec.stop.minutes, seconds / 60.0);
        (limit > 0.0 && minutes >= limit).then(|| EarlyStop {
            reason: format!("{minutes:.1} minutes of training (stop.minutes {limit})"),
            higher_limit: format!("stop.minutes={}", (2.0 * minutes).ceil()),
        })
    }
}

impl fmt::Display for EarlyStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Halfway from an accuracy that is reached to 1, in hundredths; 0, which is no limit, where there is hardly a higher one.
fn higher_accuracy(reached: f64) -> f64 {
    match (50.0 * (1.0 + reached)).round() / 100.0 {
        higher if reached < higher && higher < 1.0 => higher,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::evaluation::tests::{damaged, scored};

    fn spec(accuracy: f64, patience: usize) -> Spec {
        let mut spec = Spec::default();
        (spec.stop.accuracy, spec.stop.patience) = (accuracy, patience);
        spec.train.checkpoint_every = 10;
        spec
    }

    fn reason(spec: &Spec, step: u64, evaluations: &[Evaluation]) -> Option<String> {
        EarlyStop::by_scores(spec, step, evaluations).map(|early| early.reason)
    }

    #[test]
    fn accuracy_that_is_reached_stops_and_a_higher_one_goes_on() {
        let found = [scored(0, 0.1), scored(10, 0.86), scored(20, 0.5)];
        let want = "test accuracy 0.860 at step 10 (stop.accuracy 0.86)";
        assert_eq!(reason(&spec(0.86, 0), 20, &found).unwrap(), want);
        assert_eq!(reason(&spec(0.86, 0), 9, &found), None, "not there yet");
        assert_eq!(reason(&spec(0.87, 0), 20, &found), None);
        assert_eq!(reason(&spec(0.0, 0), 20, &found), None);
        assert_eq!(reason(&spec(0.1, 1), 20, &[]), None);
        let higher = |reached| higher_accuracy(reached);
        assert_eq!(
            [0.861, 0.985, 0.996, 1.0].map(higher),
            [0.93, 0.99, 0.0, 0.0]
        );
    }

    #[test]
    fn patience_counts_scores_since_the_first_best_one() {
        let mut found = vec![
            scored(0, 0.1),
            scored(10, 0.5),
            scored(20, 0.5),
            damaged(30),
        ];
        let spec = spec(0.0, 2);
        assert_eq!(reason(&spec, 30, &found), None);
        found.push(scored(40, 0.4));
        let early = EarlyStop::by_scores(&spec, 40, &found).unwrap();
        let want =
            "no test accuracy above 0.500, that of step 10, in 2 evaluations (stop.patience 2)";
        assert_eq!(early.to_string(), want);
        assert_eq!(early.higher_limit, "stop.patience=4");
        found.push(scored(50, 0.6));
        assert_eq!(reason(&spec, 50, &found), None);
    }

    #[test]
    fn scores_of_checkpoints_that_a_stop_saved_do_not_count() {
        let found = [
            scored(0, 0.1),
            scored(7, 0.9),
            scored(10, 0.2),
            scored(19, 0.1),
        ];
        assert_eq!(reason(&spec(0.9, 1), 19, &found), None);
    }

    #[test]
    fn validation_images_decide_where_there_are_any() {
        let of = |step, accuracy, validation| Evaluation {
            validation_accuracy: Some(validation),
            ..scored(step, accuracy)
        };
        let found = [of(0, 0.9, 0.1), of(10, 0.5, 0.8)];
        let want = "validation accuracy 0.800 at step 10 (stop.accuracy 0.75)";
        assert_eq!(reason(&spec(0.75, 0), 10, &found).unwrap(), want);
    }

    #[test]
    fn minutes_are_those_of_training() {
        let mut spec = Spec::default();
        assert_eq!(EarlyStop::by_time(&spec, 1e9), None);
        spec.stop.minutes = 1.5;
        assert_eq!(EarlyStop::by_time(&spec, 89.0), None);
        let early = EarlyStop::by_time(&spec, 90.5).unwrap();
        assert_eq!(early.reason, "1.5 minutes of training (stop.minutes 1.5)");
        assert_eq!(early.higher_limit, "stop.minutes=4");
    }
}
