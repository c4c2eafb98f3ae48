//! The first convolution, of an image's three channels, with any odd kernel.

use super::LANES;
use super::buffer::Buffer;
use super::pool::Pool;
use super::product::{LeftMatrix, multiply};
use pulp::Simd;
use runboard::data::CHANNELS;

/// Sizes of a SAME convolution of images [side, side, 3].
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    pub side: usize,
    pub kernel: usize,
    /// Channels that it makes, a multiple of [`LANES`].
    pub width: usize,
}

impl Convolution {
    fn padded_side(&self) -> usize {
        self.side + self.kernel - 1
    }

    /// Values between two rows of a padded image.
    fn row(&self) -> usize {
        self.padded_side() * CHANNELS
    }

    /// A row of a kernel as the gradient has it: padded to whole vectors.
    fn segment(&self) -> usize {
        (self.kernel * CHANNELS).next_multiple_of(LANES)
    }

    /// Number of values of a gradient: [out, row, column and channel, padded].
    pub fn gradient_len(&self) -> usize {
        self.width * self.kernel * self.segment()
    }

    /// Index in the gradient of the kernel's value at (out, channel, row, column).
    pub fn gradient_index(&self, out: usize, channel: usize, row: usize, column: usize) -> usize {
        (out * self.kernel + row) * self.segment() + column * CHANNELS + channel
    }

    /// Buffer for an image with zeros around it, and behind it as far as the last vector reaches.
    pub fn canvas(&self) -> Buffer {
        Buffer::zeros(self.padded_side() * self.row() + LANES)
    }

    /// Put an image into a canvas.
    pub fn pad(&self, image: &[f32], canvas: &mut [f32]) {
        let border = self.kernel / 2;
        for (y, from) in image.chunks_exact(self.side * CHANNELS).enumerate() {
            let start = (y + border) * self.row() + border * CHANNELS;
            canvas[start..start + from.len()].copy_from_slice(from);
        }
    }

    /// out [y, x, out] of the kernels [row, column and channel, out].
    #[inline(always)]
    pub fn forward<S: Simd>(&self, simd: S, canvas: &[f32], kernels: &[f32], out: &mut [f32]) {
        for (y, out) in out.chunks_exact_mut(self.side * self.width).enumerate() {
            let window = LeftMatrix {
                values: &canvas[y * self.row()..],
                row: CHANNELS,
                segments: self.kernel,
                segment: self.row(),
                depth: self.kernel * CHANNELS,
                step: 1,
            };
            multiply(simd, window, self.side, kernels, self.width, out, false);
        }
    }

    /// Adds the gradient by the kernels to `sums`, given that by the pooled output and its argmax.
    /// Each of them is of one pixel, so that the sum is over windows of the pooling instead of over pixels.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        canvas: &[f32],
        pool: &Pool,
        gradient: &[f32],
        argmax: &[u8],
        sums: &mut [f32],
    ) {
        // Before the image there is the convolution's own border, or nothing of a window.
        let (corners, shifts, before) = pool.offsets(self.padded_side(), CHANNELS);
        let segment = self.segment() / S::F32_LANES;
        let vectors = self.kernel * segment;
        let sums = S::as_mut_simd_f32s(sums).0;
        let mut windows = vec![(0, 0.0); corners.len()];
        for (channel, sums) in sums.chunks_exact_mut(vectors).enumerate() {
            // Without those whose relu gave zero.
            let mut count = 0;
            for (window, corner) in corners.iter().enumerate() {
                let at = window * self.width + channel;
                let start = corner + shifts[usize::from(argmax[at])] - before;
                windows[count] = (start, gradient[at]);
                count += usize::from(gradient[at] != 0.0);
            }
            let windows = &windows[..count];
            let offset = |at: usize| at / segment * self.row() + at % segment * S::F32_LANES;
            // As many sums at once as hide the latency of an addition.
            let mut chunks = sums.chunks_exact_mut(5);
            let mut at = 0;
            for chunk in &mut chunks {
                let offsets: [usize; 5] = std::array::from_fn(|i| offset(at + i));
                add_windows(simd, canvas, windows, offsets, chunk);
                at += 5;
            }
            for sum in chunks.into_remainder().chunks_exact_mut(1) {
                add_windows(simd, canvas, windows, [offset(at)], sum);
                at += 1;
            }
        }
    }
}

/// sums[i] += gradient * the vector at `offsets[i]` behind the start, over all (start, gradient).
#[inline(always)]
fn add_windows<S: Simd, const N: usize>(
    simd: S,
    canvas: &[f32],
    windows: &[(usize, f32)],
    offsets: [usize; N],
    sums: &mut [S::f32s],
) {
    let mut totals = [simd.splat_f32s(0.0); N];
    for &(start, gradient) in windows {
        let gradient = simd.splat_f32s(gradient);
        for i in 0..N {
            let cells = &canvas[start + offsets[i]..][..S::F32_LANES];
            let cells = S::as_simd_f32s(cells).0[0];
            totals[i] = simd.mul_add_e_f32s(gradient, cells, totals[i]);
        }
    }
    for (sum, total) in sums.iter_mut().zip(totals) {
        *sum = simd.add_f32s(*sum, total);
    }
}
