//! TensorFlow's histogram: counts in buckets that grow by a tenth, fine near zero, coarse far away.

use std::sync::LazyLock;

/// The distribution of the finite ones among some values.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    /// Smallest value; infinite when `num` is 0, like `max`.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Number of finite values.
    pub num: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// Right edge of each bucket, excluded. A bucket begins where the one before it ends; readers let
    /// the first begin at `min` and the last end at `max`.
    pub limits: Vec<f64>,
    /// Values in each bucket: the first and the last hold some, and of empty buckets in a row one stays.
    pub counts: Vec<f64>,
    /// Values left out: NaN and infinities.
    pub nonfinite: u64,
}

/// Right edges of the buckets of positive values, 1e-12 * 1.1^k up to 1e20, then the largest number.
/// Negative values mirror them.
/// <https://github.com/tensorflow/tensorflow/blob/v2.16.1/third_party/xla/third_party/tsl/tsl/lib/histogram/histogram.cc>
static LIMITS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut limits = Vec::new();
    let mut limit = 1e-12;
    while limit < 1e20 {
        limits.push(limit);
        limit *= 1.1;
    }
    limits.push(f64::MAX);
    limits
});

/// Low bits of an `f32` that its cell ignores: what remains is the exponent and four bits of the mantissa.
const CELL_SHIFT: u32 = 19;
const CELLS: usize = 1 << (31 - CELL_SHIFT);

/// For each cell of magnitudes the number of limits below its first value. The upper bits of a float
/// are its logarithm's, so this replaces the search: a cell is at most a sixteenth wide and buckets are a
/// tenth wide, hence at most one limit falls into a cell and one comparison makes the index exact.
static BELOW: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let below = |cell| {
        let first = f64::from(f32::from_bits((cell as u32) << CELL_SHIFT));
        LIMITS.partition_point(|&limit| limit < first) as u16
    };
    // The cells from infinity on are never asked for; a limit is above every finite cell.
    (0..CELLS).map(below).collect()
});

impl Histogram {
    /// Count `values`, about 2 nanoseconds each.
    pub fn of(values: &[f32]) -> Self {
        let (limits, below) = (LIMITS.as_slice(), BELOW.as_slice());
        let half = limits.len();
        // Ascending: negative buckets mirrored, then positive ones. A value on an edge belongs to the
        // bucket right of it, so for negative ones the edge itself is still inside.
        let mut counts = vec![0u64; 2 * half];
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut sum_squares) = (0.0, 0.0);
        let mut nonfinite = 0;
        for &value in values {
            if !value.is_finite() {
                nonfinite += 1;
                continue;
            }
            let magnitude = value.abs();
            let index = usize::from(below[(magnitude.to_bits() >> CELL_SHIFT) as usize]);
            let (value, magnitude) = (f64::from(value), f64::from(magnitude));
            let bucket = if value < 0.0 {
                half - 1 - index - usize::from(magnitude > limits[index])
            } else {
                half + index + usize::from(magnitude >= limits[index])
            };
            counts[bucket] += 1;
            min = min.min(value);
            max = max.max(value);
            sum += value;
            sum_squares += value * value;
        }
        let (limits, counts) = shorten(&counts);
        Histogram {
            min,
            max,
            num: values.len() as u64 - nonfinite,
            sum,
            sum_squares,
            limits,
            counts,
            nonfinite,
        }
    }
}

/// Drop the empty buckets at both ends (with them the fast reader shows edges of 1e20), and merge those in
/// a row between, as TensorFlow does.
fn shorten(counts: &[u64]) -> (Vec<f64>, Vec<f64>) {
    let Some(first) = counts.iter().position(|&count| count > 0) else {
        return (Vec::new(), Vec::new());
    };
    let (mut limits, mut kept) = (Vec::new(), Vec::new());
    let mut gap = None;
    for (bucket, &count) in counts.iter().enumerate().skip(first) {
        if count == 0 {
            gap = Some(right_edge(bucket));
            continue;
        }
        if let Some(end) = gap.take() {
            limits.push(end);
            kept.push(0.0);
        }
        limits.push(right_edge(bucket));
        kept.push(count as f64);
    }
    (limits, kept)
}

fn right_edge(bucket: usize) -> f64 {
    let half = LIMITS.len();
    if bucket >= half {
        LIMITS[bucket - half]
    } else if bucket == half - 1 {
        0.0
    } else {
        -LIMITS[half - 2 - bucket]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TensorFlow's own way: a binary search among all edges, no shortcut.
    fn by_search(values: &[f32]) -> Vec<u64> {
        let mirrored = LIMITS.iter().rev().map(|limit| -limit);
        let edges: Vec<f64> = mirrored
            .chain([0.0])
            .chain(LIMITS.iter().copied())
            .collect();
        let mut counts = vec![0; edges.len()];
        for &value in values.iter().filter(|value| value.is_finite()) {
            counts[edges.partition_point(|&edge| edge <= f64::from(value))] += 1;
        }
        // Nothing is below the first edge, the most negative number.
        counts.split_off(1)
    }

    fn check(values: &[f32]) {
        let got = Histogram::of(values);
        let (limits, counts) = shorten(&by_search(values));
        assert_eq!(got.limits, limits);
        assert_eq!(got.counts, counts);
    }

    #[test]
    fn histogram_edges_are_those_of_tensorflow() {
        // 1,550 edges without the lower end, as in TensorFlow's histograms.
        assert_eq!(LIMITS.len(), 775);
        assert_eq!(LIMITS[..2], [1e-12, 1e-12 * 1.1]);
        assert!(LIMITS[773] < 1e20 && LIMITS[773] * 1.1 >= 1e20);
        assert_eq!(right_edge(0), -LIMITS[773]);
        assert_eq!(right_edge(774), 0.0);
        assert_eq!(right_edge(1549), f64::MAX);
    }

    #[test]
    fn bucket_of_every_edge_and_its_neighbours_is_that_of_a_binary_search() {
        let mut values = vec![0.0, -0.0, f32::MIN, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        for &limit in LIMITS.iter() {
            let near = (limit as f32).to_bits();
            for bits in near - 2..=near + 2 {
                values.extend([f32::from_bits(bits), -f32::from_bits(bits)]);
            }
        }
        // One by one, so that an error on one side cannot hide one on the other.
        for &value in &values {
            check(&[value]);
        }
        check(&values);
    }

    #[test]
    fn bucket_of_all_magnitudes_is_that_of_a_binary_search() {
        // A prime stride through all bit patterns: every exponent, both signs, NaN too.
        let values: Vec<f32> = (0..=u32::MAX).step_by(40_009).map(f32::from_bits).collect();
        check(&values);
    }

    #[test]
    fn cell_holds_one_limit_at_most() {
        let finite = (f32::MAX.to_bits() >> CELL_SHIFT) as usize;
        assert!(BELOW[..=finite].windows(2).all(|w| w[1] - w[0] <= 1));
    }

    #[test]
    fn statistics_are_of_the_finite_values() {
        let got = Histogram::of(&[3.0, f32::NAN, -1.0, f32::NEG_INFINITY]);
        assert_eq!((got.num, got.nonfinite), (2, 2));
        assert_eq!((got.min, got.max), (-1.0, 3.0));
        assert_eq!((got.sum, got.sum_squares), (2.0, 10.0));
        assert_eq!(got.counts, [1.0, 0.0, 1.0]);
    }

    #[test]
    fn constant_tensor_is_one_bucket_between_equal_ends() {
        for value in [0.0f32, 0.1, -2.5] {
            let got = Histogram::of(&[value; 64]);
            assert_eq!(got.counts, [64.0]);
            assert_eq!((got.min, got.max), (value.into(), value.into()));
            assert!(got.limits[0] > value.into());
        }
    }

    #[test]
    fn histogram_without_finite_values_is_empty() {
        assert!(Histogram::of(&[]).limits.is_empty());
        assert_eq!(Histogram::of(&[f32::NAN]).num, 0);
    }
}
