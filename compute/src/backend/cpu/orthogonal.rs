//! Newton and Schulz's iteration (`backend/newton_schulz.rs`) by the product that the network's layers have.
//!
//! All matrices between the first product and the last are polynomials of one symmetric matrix, so they are symmetric too, and
//! so are their products: of each, only the blocks on the diagonal and above are computed. An element's sum has one order,
//! whatever the number of threads.

use super::buffer::Buffer;
use super::product::{LeftMatrix, ROWS, RightMatrix, Sum, multiply};
use crate::backend::newton_schulz::{COEFFICIENTS, EPSILON, STEPS};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows and columns of a block, which is a thread's work at a time.
const BLOCK: usize = 64;

/// Values of a block.
const BLOCK_LEN: usize = BLOCK * BLOCK;

/// Rows of the right factor that a product goes through at a time: 32 KiB of each block of columns.
const DEPTH: usize = 128;

/// Rows of X^T that are a thread's work at a time at the end.
const LAST_ROWS: usize = 8 * ROWS;

/// The update of a layer, as a matrix.
pub(in crate::backend) struct Update<'a> {
    /// Row by row.
    pub values: &'a mut [f32],
    pub rows: usize,
    /// What it is multiplied by in the end.
    pub factor: f32,
}

/// Replace each matrix U S V^T by about U V^T times its factor.
pub(in crate::backend) fn orthogonalize(mut updates: Vec<Update>) {
    updates.par_iter_mut().for_each(Update::orthogonalize);
}

impl Update<'_> {
    fn orthogonalize(&mut self) {
        let columns = self.values.len() / self.rows;
        let (short, long) = (columns.min(self.rows), columns.max(self.rows));
        let width = short.next_multiple_of(BLOCK);
        if columns == width && columns <= self.rows {
            return iterate(self.values, width, self.factor);
        }
        // From one row of X^T, [long, short], to the next, and from one value to the next.
        let (row, step) = match columns <= self.rows {
            true => (columns, 1),
            false => (1, columns),
        };
        let mut high = Buffer::zeros(long * width);
        for (number, to) in high.chunks_exact_mut(width).enumerate() {
            let values = self.values[number * row..].iter().step_by(step);
            to[..short]
                .iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = *value);
        }
        iterate(&mut high, width, self.factor);
        for (number, from) in high.chunks_exact(width).enumerate() {
            let values = self.values[number * row..].iter_mut().step_by(step);
            values
                .zip(&from[..short])
                .for_each(|(value, from)| *value = *from);
        }
    }
}

/// Of X^T, [long, width]; its last columns may be zeros.
fn iterate(high: &mut [f32], width: usize, factor: f32) {
    let (a, b, c) = COEFFICIENTS;
    let (a, b, c) = (a as f32, b as f32, c as f32);
    let mut gram = product(
        width,
        Columns::of(high, width),
        Columns::of(high, width),
        |_, _| (),
    );
    // The sum of X's squares.
    let trace: f64 = gram.diagonal().map(|value| f64::from(*value)).sum();
    let norm = trace.sqrt() + EPSILON;
    let scale = norm.powi(-2) as f32;
    gram.values.iter_mut().for_each(|value| *value *= scale);
    let mut steps: Option<Symmetric> = None;
    for number in 0..STEPS {
        let mut step = product(width, gram.columns(), gram.columns(), |start, square| {
            for (square, value) in square.iter_mut().zip(&gram.values[start..]) {
                *square = c * *square + b * value;
            }
        });
        step.diagonal().for_each(|value| *value += a);
        if number + 1 < STEPS {
            let half = product(width, step.columns(), gram.columns(), |_, _| ());
            gram = product(width, half.columns(), step.columns(), |_, _| ());
        }
        steps = Some(match steps {
            None => step,
            Some(earlier) => product(width, step.columns(), earlier.columns(), |_, _| ()),
        });
    }
    let Some(mut steps) = steps else {
        return; // there are some
    };
    let scale = (f64::from(factor) / norm) as f32;
    steps.values.iter_mut().for_each(|value| *value *= scale);
    high.par_chunks_mut(LAST_ROWS * width).for_each(|rows| {
        let mut out = Buffer::stale(rows.len());
        let count = rows.len() / width;
        for (number, out) in out.chunks_exact_mut(count * BLOCK).enumerate() {
            let left = LeftMatrix::matrix(rows, width);
            multiply_block(left, steps.columns().block(number), out);
        }
        for (number, from) in out.chunks_exact(count * BLOCK).enumerate() {
            let rows = rows.chunks_exact_mut(width).zip(from.chunks_exact(BLOCK));
            rows.for_each(|(row, from)| row[number * BLOCK..][..BLOCK].copy_from_slice(from));
        }
    });
}

/// A symmetric matrix.
struct Symmetric {
    /// Block by block of columns, each [width, BLOCK].
    values: Buffer,
    width: usize,
}

impl Symmetric {
    fn columns(&self) -> Columns<'_> {
        Columns {
            values: &self.values,
            block: self.width * BLOCK,
            row: BLOCK,
            depth: self.width,
        }
    }

    fn diagonal(&mut self) -> impl Iterator<Item = &mut f32> {
        let blocks = self.values.chunks_exact_mut(BLOCK * self.width);
        let own = blocks
            .enumerate()
            .map(|(number, block)| &mut block[number * BLOCK_LEN..]);
        own.flat_map(|block| block[..BLOCK_LEN].iter_mut().step_by(BLOCK + 1))
    }
}

/// The columns of a matrix, in blocks.
#[derive(Clone, Copy)]
struct Columns<'a> {
    values: &'a [f32],
    /// From one block to the next.
    block: usize,
    /// From one row of a block to the next.
    row: usize,
    /// Rows.
    depth: usize,
}

impl<'a> Columns<'a> {
    /// Of a matrix row by row.
    fn of(values: &'a [f32], width: usize) -> Self {
        Columns {
            values,
            block: BLOCK,
            row: width,
            depth: values.len() / width,
        }
    }

    fn block(&self, number: usize) -> RightMatrix<'a> {
        RightMatrix {
            values: &self.values[number * self.block..],
            row: self.row,
        }
    }
}

/// left^T * right, of which is taken that it is symmetric, [width, width]: below the diagonal is what is above it, to the bit, or
/// the iteration would make more of the difference. Each block of the result, and where it begins, goes through `finish`.
fn product(
    width: usize,
    left: Columns,
    right: Columns,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) -> Symmetric {
    let count = width / BLOCK;
    let upper: Vec<(usize, usize)> = (0..count)
        .flat_map(|j| (0..=j).map(move |i| (i, j)))
        .collect();
    let mut blocks = Buffer::stale(upper.len() * BLOCK_LEN);
    let products = blocks.par_chunks_mut(BLOCK_LEN).zip(&upper);
    products.for_each(|(out, &(i, j))| {
        let left = LeftMatrix {
            step: left.row,
            ..LeftMatrix::transposed(left.block(i).values, BLOCK, left.depth)
        };
        multiply_block(left, right.block(j), out);
    });
    let mut values = Buffer::stale(width * width);
    let all = values.par_chunks_mut(BLOCK_LEN).enumerate();
    all.for_each(|(number, out)| {
        let (j, i) = (number / count, number % count);
        let (low, high) = (i.min(j), i.max(j));
        let block = &blocks[(high * (high + 1) / 2 + low) * BLOCK_LEN..][..BLOCK_LEN];
        if i <= j {
            out.copy_from_slice(block);
        }
        if i >= j {
            for (row, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                let below = if i == j { row } else { BLOCK };
                let values = block[row..].iter().step_by(BLOCK);
                let below = out[..below].iter_mut().zip(values);
                below.for_each(|(out, value)| *out = *value);
            }
        }
        finish(number * BLOCK_LEN, out);
    });
    Symmetric { values, width }
}

/// out = left * a block of columns, row by row.
fn multiply_block(left: LeftMatrix, right: RightMatrix, out: &mut [f32]) {
    Arch::new().dispatch(BlockProduct { left, right, out });
}

struct BlockProduct<'a> {
    left: LeftMatrix<'a>,
    right: RightMatrix<'a>,
    out: &'a mut [f32],
}

impl WithSimd for BlockProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let BlockProduct { left, right, out } = self;
        for first in (0..left.depth).step_by(DEPTH) {
            let left = LeftMatrix {
                values: &left.values[first * left.step..],
                depth: DEPTH.min(left.depth - first),
                ..left
            };
            let right = RightMatrix {
                values: &right.values[first * right.row..],
                ..right
            };
            let sum = if first > 0 { Sum::Added } else { Sum::New };
            multiply(simd, left, out.len() / BLOCK, right, BLOCK, out, sum);
        }
    }
}
