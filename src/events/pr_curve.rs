//! Precision and recall of a yes-or-no decision at evenly spaced thresholds of its score.

/// TensorBoard's plugin for these curves.
pub(super) const PLUGIN: &str = "pr_curves";

/// Rows of its tensor.
pub(super) const ROWS: usize = 6;

/// What dividing counts uses in place of 0, as TensorBoard does: precision and recall of nothing are 0.
const MINIMUM_COUNT: f64 = 1e-7;

/// The rows of TensorBoard's tensor: true positives, false positives, true negatives, false negatives,
/// precision and recall, one after the other, each with a value for every threshold
/// `0, 1 / (thresholds - 1), ..., 1`. `thresholds` is at least 2.
///
/// A score counts as yes from its threshold on. Scores are clamped to [0, 1], NaN is left out. Takes time
/// proportional to the scores plus the thresholds.
/// <https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/pr_curve/summary.py>
pub(super) fn pr_curve(scores: &[f32], is_positive: &[bool], thresholds: usize) -> Vec<f32> {
    let mut positives = vec![0u64; thresholds];
    let mut negatives = vec![0u64; thresholds];
    let last = (thresholds - 1) as f32;
    for (score, &is_positive) in scores.iter().zip(is_positive) {
        if score.is_nan() {
            continue;
        }
        // In 32 bits, as TensorBoard multiplies: a score near a threshold falls to the same side.
        let bucket = (score.clamp(0.0, 1.0) * last) as usize;
        if is_positive {
            positives[bucket] += 1;
        } else {
            negatives[bucket] += 1;
        }
    }
    let true_positives = at_least(&positives);
    let false_positives = at_least(&negatives);
    let (all_positives, all_negatives) = (true_positives[0], false_positives[0]);
    let pairs = || true_positives.iter().zip(&false_positives);

    let mut rows = Vec::with_capacity(ROWS * thresholds);
    rows.extend(true_positives.iter().map(|&count| count as f32));
    rows.extend(false_positives.iter().map(|&count| count as f32));
    rows.extend(
        false_positives
            .iter()
            .map(|&count| (all_negatives - count) as f32),
    );
    rows.extend(
        true_positives
            .iter()
            .map(|&count| (all_positives - count) as f32),
    );
    rows.extend(pairs().map(|(&tp, &fp)| ratio(tp, tp + fp)));
    rows.extend(pairs().map(|(&tp, _)| ratio(tp, all_positives)));
    rows
}

/// The mean of several curves of `length` values, value by value; zeros without any.
pub(super) fn mean(curves: &[Vec<f32>], length: usize) -> Vec<f32> {
    let count = curves.len().max(1) as f64;
    let mean = |at: usize| {
        let sum: f64 = curves.iter().map(|curve| f64::from(curve[at])).sum();
        (sum / count) as f32
    };
    (0..length).map(mean).collect()
}

/// For each bucket the count in it and all later ones.
fn at_least(buckets: &[u64]) -> Vec<u64> {
    let mut sums = buckets.to_vec();
    for i in (1..sums.len()).rev() {
        sums[i - 1] += sums[i];
    }
    sums
}

fn ratio(part: u64, whole: u64) -> f32 {
    (part as f64 / (whole as f64).max(MINIMUM_COUNT)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pr_curve_has_the_rows_of_tensorboard() {
        let scores = [0.0, 0.1, 0.25, 0.3, 0.5, 0.55, 0.6, 0.75, 0.9, 1.0];
        let labels = [0, 0, 1, 0, 0, 1, 0, 1, 1, 1].map(|label| label == 1);
        // From summary.pb of TensorBoard 2.21.
        #[rustfmt::skip]
        let want = [
            5.0, 5.0, 4.0, 3.0, 1.0,
            5.0, 3.0, 2.0, 0.0, 0.0,
            0.0, 2.0, 3.0, 5.0, 5.0,
            0.0, 0.0, 1.0, 2.0, 4.0,
            0.5, 0.625, 0.666_666_7, 1.0, 1.0,
            1.0, 1.0, 0.8, 0.6, 0.2,
        ];
        assert_eq!(pr_curve(&scores, &labels, 5), want);
    }

    #[test]
    fn score_at_a_threshold_falls_where_tensorboard_rounds_it() {
        // In exact arithmetic all would be yes at their own threshold; summary.pb puts these one lower.
        for below in [53, 59, 105, 106, 117, 118] {
            let score = below as f32 / 200.0;
            let tp = &pr_curve(&[score], &[true], 201)[..201];
            assert_eq!(tp.iter().sum::<f32>(), below as f32, "{score}");
        }
        let tp = &pr_curve(&[54.0 / 200.0], &[true], 201)[..201];
        assert_eq!(tp.iter().sum::<f32>(), 55.0);
    }

    #[test]
    fn scores_out_of_range_count_at_the_ends_and_nan_nowhere() {
        let scores = [-1.0, 2.0, f32::INFINITY, f32::NAN];
        let rows = pr_curve(&scores, &[true, true, false, true], 2);
        let want = [
            2.0,
            1.0,
            1.0,
            1.0,
            0.0,
            0.0,
            0.0,
            1.0,
            2.0 / 3.0,
            0.5,
            1.0,
            0.5,
        ];
        assert_eq!(rows, want);
    }

    #[test]
    fn mean_is_of_each_value_and_of_no_curves_0() {
        let curves = [vec![1.0, 0.0], vec![0.5, 0.25]];
        assert_eq!(mean(&curves, 2), [0.75, 0.125]);
        assert_eq!(mean(&[], 2), [0.0; 2]);
    }

    #[test]
    fn pr_curve_of_no_cases_has_precision_and_recall_0() {
        assert_eq!(pr_curve(&[], &[], 2), [0.0; 12]);
    }
}
