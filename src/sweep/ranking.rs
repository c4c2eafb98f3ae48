//! Which settings of a sweep are best.
//!
//! A setting is what the points share that differ in their seed alone. It is judged by the mean of its points' scores. One
//! with a point that has no score where others have one (it failed, it diverged, its loss is not finite) comes after
//! those without: a mean that leaves out the seeds that failed says too much for it.

use std::cmp::Ordering;

use super::definition::Goal;

/// A setting and the scores of its points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// The numbers of its points, in their order.
    pub points: Vec<usize>,
    /// The score of each of them; none of one that has none, and is to be blamed for it.
    pub scores: Vec<Option<f64>>,
}

impl Candidate {
    /// The mean of the scores that there are.
    pub fn mean(&self) -> Option<f64> {
        mean(&self.known())
    }

    /// The standard deviation of the scores, of a sample: none of fewer than two.
    pub fn deviation(&self) -> Option<f64> {
        deviation(&self.known())
    }

    /// The scores that there are.
    pub fn known(&self) -> Vec<f64> {
        let finite = |score: &f64| score.is_finite();
        self.scores
            .iter()
            .copied()
            .flatten()
            .filter(finite)
            .collect()
    }

    /// Whether all of its points have a score.
    pub fn is_whole(&self) -> bool {
        self.known().len() == self.scores.len()
    }
}

/// The mean of some values; none of none.
pub fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// The standard deviation of some values, of a sample: none of fewer than two.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Puts the best first; of equals the one whose points come first.
pub fn rank(goal: Goal, candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| compare(goal, a, b));
}

/// The better one first.
pub fn compare(goal: Goal, a: &Candidate, b: &Candidate) -> Ordering {
    b.is_whole()
        .cmp(&a.is_whole())
        .then_with(|| order(goal, a.mean(), b.mean()))
        .then_with(|| a.points.cmp(&b.points))
}

/// Whether a score is as good as a target.
pub fn reaches(goal: Goal, score: f64, target: f64) -> bool {
    match goal {
        Goal::Maximize => score >= target,
        Goal::Minimize => score <= target,
    }
}

/// The better one first, and one without a score last.
pub(super) fn order(goal: Goal, a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => match goal {
            Goal::Maximize => b.total_cmp(&a),
            Goal::Minimize => a.total_cmp(&b),
        },
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(first: usize, scores: &[Option<f64>]) -> Candidate {
        Candidate {
            points: (first..first + scores.len()).collect(),
            scores: scores.to_vec(),
        }
    }

    fn ranked(goal: Goal, mut candidates: Vec<Candidate>) -> Vec<usize> {
        rank(goal, &mut candidates);
        candidates.iter().map(|it| it.points[0]).collect()
    }

    #[test]
    fn best_mean_comes_first_and_of_equals_the_first_point() {
        let all = vec![
            candidate(1, &[Some(0.5), Some(0.7)]),
            candidate(3, &[Some(0.8), Some(0.6)]),
            candidate(5, &[Some(0.6)]),
        ];
        assert_eq!(ranked(Goal::Maximize, all.clone()), [3, 1, 5]);
        assert_eq!(ranked(Goal::Minimize, all), [1, 5, 3]);
    }

    #[test]
    fn setting_with_a_failed_seed_comes_after_those_without() {
        let all = vec![
            candidate(1, &[Some(0.9), None]),
            candidate(3, &[Some(0.1), Some(0.1)]),
            candidate(5, &[None, None]),
            candidate(7, &[Some(0.95), Some(f64::INFINITY)]),
        ];
        for (goal, want) in [
            (Goal::Maximize, [3, 7, 1, 5]),
            (Goal::Minimize, [3, 1, 7, 5]),
        ] {
            assert_eq!(ranked(goal, all.clone()), want, "{goal:?}");
        }
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_scores_that_there_are() {
        let of = |scores: &[Option<f64>]| {
            let candidate = candidate(1, scores);
            (candidate.mean(), candidate.deviation())
        };
        assert_eq!(of(&[None]), (None, None));
        assert_eq!(of(&[Some(0.5), None]), (Some(0.5), None));
        let (mean, deviation) = of(&[Some(1.0), Some(2.0), Some(3.0), None]);
        assert_eq!((mean, deviation), (Some(2.0), Some(1.0)));
    }

    #[test]
    fn target_is_reached_from_its_own_side() {
        assert!(reaches(Goal::Maximize, 0.86, 0.86));
        assert!(!reaches(Goal::Maximize, 0.85, 0.86));
        assert!(reaches(Goal::Minimize, 0.85, 0.86));
        assert!(!reaches(Goal::Minimize, f64::NAN, 0.86));
    }
}
