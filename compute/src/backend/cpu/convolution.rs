//! The first convolution, of an image's three channels, with any odd kernel: forward by Winograd's filtering where kernel
//! and image allow it, which needs a sixth of the multiplications, else as it is defined.

use super::LANES;
use super::buffer::Buffer;
use super::pool::Pool;
use super::product::{LeftMatrix, RightMatrix, Sum, multiply};
use super::winograd::{ImageTiles, KERNEL, PLANES, TILE, kernels_to_points};
use pulp::{Arch, Simd, WithSimd};
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

    /// Tiles along a side of the image, where it is made of whole ones for kernels of Winograd's size.
    fn tiles(&self) -> Option<usize> {
        (self.kernel == KERNEL && self.side.is_multiple_of(TILE)).then_some(self.side / TILE)
    }

    /// The kernels, [out, channel, row, column], as [`ImageConvolution`] reads them.
    pub fn pack(&self, kernels: &[f32]) -> Buffer {
        match self.tiles() {
            None => self.interleaved(kernels, self.width),
            Some(_) => {
                let mut points = Buffer::stale(PLANES * CHANNELS * self.width);
                let kernels = self.interleaved(kernels, LANES);
                Arch::new().dispatch(KernelPoints(&kernels, &mut points));
                points
            }
        }
    }

    /// Blocks of `block` outs: [block, row and column and channel, out].
    fn interleaved(&self, kernels: &[f32], block: usize) -> Buffer {
        let cells = self.kernel * self.kernel;
        let mut to = Buffer::zeros(cells * CHANNELS * self.width);
        for (out, filter) in kernels.chunks_exact(CHANNELS * cells).enumerate() {
            let to = &mut to[out / block * cells * CHANNELS * block + out % block..];
            for (channel, plane) in filter.chunks_exact(cells).enumerate() {
                for (cell, value) in plane.iter().enumerate() {
                    to[(cell * CHANNELS + channel) * block] = *value;
                }
            }
        }
        to
    }

    /// Adds the gradient by the kernels of one output channel, given the (start, gradient) of its windows.
    #[inline(always)]
    fn add_channel<S: Simd>(
        &self,
        simd: S,
        canvas: &[f32],
        windows: &[(u32, f32)],
        sums: &mut [S::f32s],
    ) {
        let segment = self.segment() / S::F32_LANES;
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

/// The first convolution of one image after another.
pub struct ImageConvolution {
    convolution: Convolution,
    canvas: Buffer,
    tiles: Option<ImageTiles>,
}

impl ImageConvolution {
    pub fn new(convolution: Convolution) -> Self {
        ImageConvolution {
            canvas: convolution.canvas(),
            tiles: convolution.tiles().map(ImageTiles::new),
            convolution,
        }
    }

    /// out [y, x, out] of an image [y, x, channel] and the kernels of [`Convolution::pack`].
    #[inline(always)]
    pub fn forward<S: Simd>(&mut self, simd: S, image: &[f32], kernels: &[f32], out: &mut [f32]) {
        let (convolution, row) = (self.convolution, self.convolution.row());
        convolution.pad(image, &mut self.canvas);
        if let Some(tiles) = &mut self.tiles {
            tiles.load(simd, &self.canvas, row);
            return tiles.convolve(simd, kernels, out);
        }
        let rows = out.chunks_exact_mut(convolution.side * convolution.width);
        for (y, out) in rows.enumerate() {
            let window = LeftMatrix {
                values: &self.canvas[y * row..],
                row: CHANNELS,
                segments: convolution.kernel,
                segment: row,
                depth: convolution.kernel * CHANNELS,
                step: 1,
            };
            multiply(
                simd,
                window,
                convolution.side,
                RightMatrix::matrix(kernels, convolution.width),
                convolution.width,
                out,
                Sum::New,
            );
        }
    }
}

/// The gradient by the first convolution's kernels, of one image after another, and what is the same for each of them.
pub struct KernelGradient {
    convolution: Convolution,
    canvas: Buffer,
    /// Where the pooling's windows begin in the canvas, in few bytes, so that they stay in the first cache.
    corners: Vec<u32>,
    /// How far from there each cell is, of any cell that a byte may name, so that none is checked.
    shifts: [u32; 1 << u8::BITS],
    /// The windows' gradients and cells, of some channels.
    lines: Vec<([f32; LANES], [u8; LANES])>,
    /// The start and gradient of a channel's windows.
    windows: Vec<(u32, f32)>,
}

impl KernelGradient {
    /// Of a convolution that is followed by this pooling.
    pub fn new(convolution: Convolution, pool: &Pool) -> Self {
        // Before the image there is the convolution's own border, or nothing of a window.
        let (corners, cells, before) = pool.offsets(convolution.padded_side(), CHANNELS);
        let mut shifts = [0; 1 << u8::BITS];
        for (shift, cell) in shifts.iter_mut().zip(cells) {
            *shift = (cell as u32).wrapping_sub(before as u32);
        }
        KernelGradient {
            convolution,
            canvas: convolution.canvas(),
            shifts,
            lines: vec![([0.0; LANES], [0; LANES]); corners.len()],
            windows: vec![(0, 0.0); corners.len()],
            corners: corners.iter().map(|&corner| corner as u32).collect(),
        }
    }

    /// Adds that of an image to `sums`, given the gradient by the pooled output and its argmax.
    /// Each of them is of one pixel, so that the sum is over windows of the pooling instead of over pixels.
    #[inline(always)]
    pub fn add<S: Simd>(
        &mut self,
        simd: S,
        image: &[f32],
        gradient: &[f32],
        argmax: &[u8],
        sums: &mut [f32],
    ) {
        let KernelGradient {
            convolution,
            canvas,
            corners,
            shifts,
            lines,
            windows,
        } = self;
        convolution.pad(image, canvas);
        let vectors = convolution.kernel * convolution.segment() / S::F32_LANES;
        let sums = S::as_mut_simd_f32s(sums).0;
        for (block, sums) in sums.chunks_exact_mut(LANES * vectors).enumerate() {
            // So many channels' together first: the lines that they lie in are too far apart for the first cache to keep them all.
            let pixels = gradient.chunks_exact(convolution.width);
            let pixels = pixels.zip(argmax.chunks_exact(convolution.width));
            for (line, (gradient, argmax)) in lines.iter_mut().zip(pixels) {
                line.0.copy_from_slice(&gradient[block * LANES..][..LANES]);
                line.1.copy_from_slice(&argmax[block * LANES..][..LANES]);
            }
            for (channel, sums) in sums.chunks_exact_mut(vectors).enumerate() {
                // The windows of the channel, without those whose relu gave zero.
                let mut count = 0;
                for ((gradient, cells), corner) in lines.iter().zip(&*corners) {
                    let start = corner.wrapping_add(shifts[usize::from(cells[channel])]);
                    windows[count] = (start, gradient[channel]);
                    count += usize::from(gradient[channel] != 0.0);
                }
                convolution.add_channel(simd, canvas, &windows[..count], sums);
            }
        }
    }
}

/// Blocks of kernels to those of their points.
struct KernelPoints<'a>(&'a [f32], &'a mut [f32]);

impl WithSimd for KernelPoints<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let KernelPoints(kernels, points) = self;
        let values = CHANNELS * LANES;
        let blocks = kernels.chunks_exact(KERNEL * KERNEL * values);
        for (kernels, points) in blocks.zip(points.chunks_exact_mut(PLANES * values)) {
            kernels_to_points(simd, kernels, points, values);
        }
    }
}

/// sums[i] += gradient * the vector at `offsets[i]` behind the start, over all (start, gradient).
#[inline(always)]
fn add_windows<S: Simd, const N: usize>(
    simd: S,
    canvas: &[f32],
    windows: &[(u32, f32)],
    offsets: [usize; N],
    sums: &mut [S::f32s],
) {
    let mut totals = [simd.splat_f32s(0.0); N];
    for &(start, gradient) in windows {
        let gradient = simd.splat_f32s(gradient);
        for i in 0..N {
            let cells = &canvas[start as usize + offsets[i]..][..S::F32_LANES];
            let cells = S::as_simd_f32s(cells).0[0];
            totals[i] = simd.mul_add_e_f32s(gradient, cells, totals[i]);
        }
    }
    for (sum, total) in sums.iter_mut().zip(&totals) {
        *sum = simd.add_f32s(*sum, *total);
    }
}
