//! Products of small matrices that lie in the cache.

use super::LANES;
use super::buffer::Aligned;
use super::parts::PARTS;
use pulp::Simd;

/// Rows of the result that are summed up side by side, where there are so many.
pub const ROWS: usize = 6;

/// Levels of the tree of sums of [`PARTS`] parts, with the parts themselves.
const TREE_LEVELS: usize = PARTS.ilog2() as usize + 1;

/// The left factor, read in place: element (i, (s, k)) is `values[i * row + s * segment + k * step]`, for s below
/// `segments` and k below `depth`. Two indices make up the inner one, so that a window of an image, rows of
/// pixels that lie apart, is a row of the matrix without being copied.
#[derive(Clone, Copy)]
pub struct LeftMatrix<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub segments: usize,
    pub segment: usize,
    pub depth: usize,
    pub step: usize,
}

impl<'a> LeftMatrix<'a> {
    /// A plain matrix [rows, depth].
    pub fn matrix(values: &'a [f32], depth: usize) -> Self {
        LeftMatrix {
            values,
            row: depth,
            segments: 1,
            segment: 0,
            depth,
            step: 1,
        }
    }

    /// A matrix [depth, rows], transposed.
    pub fn transposed(values: &'a [f32], rows: usize, depth: usize) -> Self {
        LeftMatrix {
            values,
            row: 1,
            segments: 1,
            segment: 0,
            depth,
            step: rows,
        }
    }
}

/// The right factor: rows of as many values as the result has columns, which begin `row` apart.
#[derive(Clone, Copy)]
pub struct RightMatrix<'a> {
    pub values: &'a [f32],
    pub row: usize,
}

impl<'a> RightMatrix<'a> {
    /// A plain matrix [depth, cols].
    pub fn matrix(values: &'a [f32], cols: usize) -> Self {
        RightMatrix { values, row: cols }
    }
}

/// How the products of an element of the result are summed up.
#[derive(Clone, Copy)]
pub enum Sum {
    /// One after the other.
    New,
    /// One after the other, on top of what is there.
    Added,
    /// One after the other in parts of so many, [`PARTS`] at most, and the parts' sums as [`tree_sum`] adds them.
    ///
    /// [`tree_sum`]: crate::backend::tree_sum::tree_sum
    Tree(usize),
}

/// out[rows, cols] = left * right; right is [segments * depth, cols]. `cols` and `right.row` are multiples of [`LANES`].
#[inline(always)]
pub fn multiply<S: Simd>(
    simd: S,
    left: LeftMatrix,
    rows: usize,
    right: RightMatrix,
    cols: usize,
    out: &mut [f32],
    sum: Sum,
) {
    debug_assert!(cols.is_multiple_of(LANES) && right.row.is_multiple_of(LANES));
    let (values, _) = S::as_simd_f32s(right.values);
    let right = Vectors {
        values,
        width: right.row / S::F32_LANES,
    };
    let (out, _) = S::as_mut_simd_f32s(out);
    let width = cols / S::F32_LANES;
    // As many accumulators as registers allow beside a row of the right factor: 6 x 4 of 32, or 6 x 2 of 16.
    let mut at = 0;
    while at < width {
        if S::F32_LANES == 16 && width - at >= 4 {
            strip::<S, 4>(simd, left, rows, right, width, at, out, sum);
            at += 4;
        } else if width - at >= 2 {
            strip::<S, 2>(simd, left, rows, right, width, at, out, sum);
            at += 2;
        } else {
            strip::<S, 1>(simd, left, rows, right, width, at, out, sum);
            at += 1;
        }
    }
}

/// The right factor in vectors.
#[derive(Clone, Copy)]
struct Vectors<'a, V> {
    values: &'a [V],
    /// From one row to the next.
    width: usize,
}

/// Sums of a tree that wait for their others: [level, row, vector].
type TreeSums<V, const W: usize> = Aligned<[[[V; W]; ROWS]; TREE_LEVELS]>;

/// `W` vectors of columns from `at` on.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
fn strip<S: Simd, const W: usize>(
    simd: S,
    left: LeftMatrix,
    rows: usize,
    right: Vectors<S::f32s>,
    width: usize,
    at: usize,
    out: &mut [S::f32s],
    sum: Sum,
) {
    let mut waiting = None;
    if let Sum::Tree(_) = sum {
        waiting = Some(Aligned([[[simd.splat_f32s(0.0); W]; ROWS]; TREE_LEVELS]));
    }
    let mut i = 0;
    while i < rows {
        let left = LeftMatrix {
            values: &left.values[i * left.row..],
            ..left
        };
        let out = &mut out[i * width..];
        i += match rows - i {
            ROWS.. => tile::<S, ROWS, W>(simd, left, right, width, at, out, sum, &mut waiting),
            4.. => tile::<S, 4, W>(simd, left, right, width, at, out, sum, &mut waiting),
            _ => tile::<S, 1, W>(simd, left, right, width, at, out, sum, &mut waiting),
        };
    }
}

/// `R` rows of `W` vectors, accumulated in registers; the number of rows. A tree's sums are in `waiting`, of 2^level parts each,
/// where a bit of the number of parts so far is set.
#[inline(always)]
#[expect(clippy::too_many_arguments)]
fn tile<S: Simd, const R: usize, const W: usize>(
    simd: S,
    left: LeftMatrix,
    right: Vectors<S::f32s>,
    width: usize,
    at: usize,
    out: &mut [S::f32s],
    sum: Sum,
    waiting: &mut Option<TreeSums<S::f32s, W>>,
) -> usize {
    let zeros = [[simd.splat_f32s(0.0); W]; R];
    let mut sums = zeros;
    if let Sum::Added = sum {
        for r in 0..R {
            for w in 0..W {
                sums[r][w] = out[r * width + at + w];
            }
        }
    }
    if let (Sum::Tree(part), Some(waiting)) = (sum, waiting) {
        let (mut first, mut count) = (0, 0usize);
        while first < left.depth {
            let depth = part.min(left.depth - first);
            let of_part = LeftMatrix {
                values: &left.values[first * left.step..],
                depth,
                ..left
            };
            sums = zeros;
            let right = Vectors {
                values: &right.values[first * right.width..],
                ..right
            };
            accumulate(simd, of_part, right, at, &mut sums);
            let level = count.trailing_ones() as usize;
            for earlier in &waiting[..level] {
                add_to(simd, earlier, &mut sums);
            }
            // From the registers: to copy the whole array would put it into memory first.
            let to = &mut waiting[level];
            for r in 0..R {
                for w in 0..W {
                    to[r][w] = sums[r][w];
                }
            }
            (first, count) = (first + depth, count + 1);
        }
        // The latest part has gone into the lowest of them.
        let lowest = count.trailing_zeros() as usize;
        for (level, earlier) in waiting.iter().enumerate().skip(lowest + 1) {
            if count >> level & 1 == 1 {
                add_to(simd, earlier, &mut sums);
            }
        }
    } else {
        accumulate(simd, left, right, at, &mut sums);
    }
    for r in 0..R {
        for w in 0..W {
            out[r * width + at + w] = sums[r][w];
        }
    }
    R
}

/// sums = earlier + sums
#[inline(always)]
fn add_to<S: Simd, const R: usize, const W: usize>(
    simd: S,
    earlier: &[[S::f32s; W]; ROWS],
    sums: &mut [[S::f32s; W]; R],
) {
    for r in 0..R {
        for w in 0..W {
            sums[r][w] = simd.add_f32s(earlier[r][w], sums[r][w]);
        }
    }
}

/// Add the products of `R` rows with `W` vectors of columns from `at` on.
#[inline(always)]
fn accumulate<S: Simd, const R: usize, const W: usize>(
    simd: S,
    left: LeftMatrix,
    right: Vectors<S::f32s>,
    at: usize,
    sums: &mut [[S::f32s; W]; R],
) {
    let mut inner = at;
    for s in 0..left.segments {
        let mut from = s * left.segment;
        for _ in 0..left.depth {
            let factors = &right.values[inner..inner + W];
            let values = &left.values[from..from + (R - 1) * left.row + 1];
            for r in 0..R {
                let value = simd.splat_f32s(values[r * left.row]);
                for w in 0..W {
                    sums[r][w] = simd.mul_add_e_f32s(value, factors[w], sums[r][w]);
                }
            }
            inner += right.width;
            from += left.step;
        }
    }
}
