//! Max-pooling, with the position of each maximum (argmax).

use bytemuck::Zeroable;
use pulp::Simd;

/// Windows over a square image with SAME padding.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub size: usize,
    pub stride: usize,
    /// Cells before the image, of either dimension.
    pub before: usize,
    /// Side of the image.
    pub input: usize,
    /// Side of what is made of it.
    pub output: usize,
}

impl Pool {
    /// The part of a window, along one dimension, that lies in the image.
    #[inline(always)]
    fn inside(&self, at: usize) -> std::ops::Range<usize> {
        let begin = at * self.stride;
        self.before.saturating_sub(begin)..self.size.min(self.input + self.before - begin)
    }

    /// The image's cell that is the first one inside of a row of the window at [y, x].
    #[inline(always)]
    fn first_cell(&self, [y, x]: [usize; 2], row: usize) -> usize {
        let column = self.inside(x).start;
        (y * self.stride + row - self.before) * self.input + x * self.stride + column - self.before
    }

    /// How far from the start of an image of `row` cells a row the corner of each window is, and from there
    /// each cell of it, in steps of `step`; both begin with the cells before the image, so that `before` of
    /// them, the third value, is to be taken off their sum.
    pub fn offsets(&self, row: usize, step: usize) -> (Vec<usize>, Vec<usize>, usize) {
        let offsets = |side: usize, stride: usize| -> Vec<usize> {
            (0..side * side)
                .map(|at| (at / side * row + at % side) * stride * step)
                .collect()
        };
        (
            offsets(self.output, self.stride),
            offsets(self.size, 1),
            self.before * (row + 1) * step,
        )
    }

    /// The maxima of one image, and `argmax`, the cell of its window that each was at: the first of equal ones. `width`
    /// is the number of vectors a pixel. A NaN at the window's first cell stays.
    #[inline(always)]
    pub fn forward<S: Simd>(
        &self,
        simd: S,
        width: usize,
        image: &[S::f32s],
        out: &mut [S::f32s],
        argmax: &mut [u8],
    ) {
        let pixels = out
            .chunks_exact_mut(width)
            .zip(argmax.chunks_exact_mut(width * S::F32_LANES));
        let (mut y, mut x) = (0, 0);
        for (out, argmax) in pixels {
            let (rows, columns) = (self.inside(y), self.inside(x));
            let first = rows.start * self.size + columns.start;
            let start = |row| self.first_cell([y, x], row) * width;
            let argmax = argmax.chunks_exact_mut(S::F32_LANES);
            for (vector, (out, argmax)) in out.iter_mut().zip(argmax).enumerate() {
                let mut best = image[start(rows.start) + vector];
                let mut cell = simd.splat_u32s(first as u32);
                for row in rows.clone() {
                    let mut at = start(row) + vector;
                    for column in columns.clone() {
                        let value = image[at];
                        let here = simd.splat_u32s((row * self.size + column) as u32);
                        let more = simd.greater_than_f32s(value, best);
                        best = simd.select_f32s(more, value, best);
                        cell = simd.select_u32s(more, here, cell);
                        at += width;
                    }
                }
                *out = best;
                put_bytes::<S>(cell, argmax);
            }
            x += 1;
            if x == self.output {
                (y, x) = (y + 1, 0);
            }
        }
    }

    /// The gradient by the image, of that by the maxima: each goes to where its maximum was. `width` is the number of
    /// vectors a pixel; `image` is overwritten.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        width: usize,
        gradient: &[S::f32s],
        argmax: &[u8],
        image: &mut [S::f32s],
    ) {
        let zero = simd.splat_f32s(0.0);
        image.fill(zero);
        let pixels = gradient
            .chunks_exact(width)
            .zip(argmax.chunks_exact(width * S::F32_LANES));
        let (mut y, mut x) = (0, 0);
        for (gradient, argmax) in pixels {
            let (rows, columns) = (self.inside(y), self.inside(x));
            let argmax = argmax.chunks_exact(S::F32_LANES);
            for (vector, (gradient, argmax)) in gradient.iter().zip(argmax).enumerate() {
                let cell = from_bytes::<S>(argmax);
                for row in rows.clone() {
                    let mut at = self.first_cell([y, x], row) * width + vector;
                    for column in columns.clone() {
                        let here = simd.splat_u32s((row * self.size + column) as u32);
                        let own = simd.equal_u32s(cell, here);
                        let part = simd.select_f32s(own, *gradient, zero);
                        image[at] = simd.add_f32s(image[at], part);
                        at += width;
                    }
                }
            }
            x += 1;
            if x == self.output {
                (y, x) = (y + 1, 0);
            }
        }
    }
}

/// Each of so many bytes as a value.
#[inline(always)]
fn from_bytes<S: Simd>(bytes: &[u8]) -> S::u32s {
    let mut values = S::u32s::zeroed();
    let of = bytemuck::cast_slice_mut::<S::u32s, u32>(std::slice::from_mut(&mut values));
    for (value, byte) in of.iter_mut().zip(bytes) {
        *value = u32::from(*byte);
    }
    values
}

/// The lowest byte of each value.
#[inline(always)]
fn put_bytes<S: Simd>(values: S::u32s, to: &mut [u8]) {
    // An array, of which the compiler knows that it is one vector.
    if S::F32_LANES == 16 {
        let values: [u32; 16] = bytemuck::cast(values);
        let mut bytes = [0; 16];
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = value as u8;
        }
        to.copy_from_slice(&bytes);
    } else {
        let values = [values];
        let values: &[u32] = bytemuck::cast_slice(&values);
        to.iter_mut()
            .zip(values)
            .for_each(|(to, value)| *to = *value as u8);
    }
}
