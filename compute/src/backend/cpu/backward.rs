//! The backward pass.

use super::buffer::Buffer;
use super::convolution::KernelGradient;
use super::forward::ForwardCache;
use super::norm::{self, ChannelWindows, NormCache};
use super::product::{LeftMatrix, RightMatrix, Sum, multiply};
use super::weights::{GradientSums, PackedWeights};
use super::winograd::{PLANES, WinogradTiles};
use super::{CONV1, CONV2, CpuNetwork, GROUP};
use pulp::{Simd, WithSimd};

impl CpuNetwork {
    /// The parts of the pass, each for one thread and its own sums, given the gradient by pool2, [n, features], and the
    /// images of the whole batch.
    pub fn backward<'a>(
        &'a self,
        weights: &'a PackedWeights<'a>,
        images: &'a [f32],
        cache: &'a ForwardCache,
        gradient: &'a [f32],
        batch: usize,
    ) -> impl Iterator<Item = Backward<'a>> {
        let mut first = 0;
        self.parts(images, batch).map(move |images| {
            let part = Backward {
                cpu: self,
                weights,
                images,
                first,
                cache,
                gradient,
            };
            first += images.len() / self.image_len();
            part
        })
    }
}

/// The gradient by what went into relu, of that by what came out, for a row of pixels; added up to that by the
/// biases.
#[inline(always)]
fn relu_backward<S: Simd>(
    simd: S,
    out: &[S::f32s],
    gradient: &mut [S::f32s],
    biases: &mut [S::f32s],
) {
    let zero = simd.splat_f32s(0.0);
    let width = biases.len();
    let pixels = out
        .chunks_exact(width)
        .zip(gradient.chunks_exact_mut(width));
    for (out, gradient) in pixels {
        for ((out, gradient), bias) in out.iter().zip(gradient).zip(&mut *biases) {
            let open = simd.greater_than_f32s(*out, zero);
            *gradient = simd.select_f32s(open, *gradient, zero);
            *bias = simd.add_f32s(*bias, *gradient);
        }
    }
}

/// A part of the pass.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    pub(super) cpu: &'a CpuNetwork,
    pub(super) weights: &'a PackedWeights<'a>,
    /// Its images.
    pub(super) images: &'a [f32],
    /// The number of the first of them.
    pub(super) first: usize,
    /// Of all images.
    pub(super) cache: &'a ForwardCache,
    /// Of all images.
    pub(super) gradient: &'a [f32],
}

impl WithSimd for Backward<'_> {
    type Output = GradientSums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> GradientSums {
        let Backward {
            cpu: f,
            weights,
            images,
            first,
            cache,
            gradient,
        } = self;
        let [w1, w2] = f.widths();
        let (v1, v2) = (w1 / S::F32_LANES, w2 / S::F32_LANES);
        let (row1, row2) = (f.side() * v1, f.side() * v2);
        let (tile1, tile2) = (WinogradTiles::tile_len(w1), WinogradTiles::tile_len(w2));
        let tiles = f.tiles();
        let (size1, size2) = (f.side().pow(2) * w1, f.side().pow(2) * w2);
        let (pooled, count) = (f.pooled() * w2, f.feature_count());
        let mut sums = GradientSums::of(f);
        let mut conv2_sums = match f.frozen[CONV2] {
            true => Buffer::stale(0),
            false => Buffer::stale(PLANES * w1 * w2),
        };
        let mut by_conv1 = KernelGradient::new(f.convolution(), &f.pools[0]);
        let mut norm1 = Buffer::zeros(tiles.canvas().pow(2) * w1);
        let mut pool1_gradient = Buffer::stale(size1);
        let mut norm1_gradient = Buffer::stale(tiles.outputs_side().pow(2) * w1);
        let mut norm2_gradient = Buffer::stale(size2);
        let mut conv2_gradient = Buffer::zeros(tiles.canvas().pow(2) * w2);
        let mut pool2_gradient = Buffer::zeros(pooled);
        // In the transformed domain: conv2's input, the gradient by its output in two roles, and by its input
        let mut inputs = Buffer::stale(tiles.points_len(w1));
        let mut outputs = Buffer::stale(tiles.points_len(w2));
        let mut backward_points = Buffer::stale(tiles.points_len(w2));
        let mut products = Buffer::stale(PLANES * tiles.rows() * w1);
        let mut windows1 = ChannelWindows::new(&f.norm, w1, f.side());
        let mut windows2 = ChannelWindows::new(&f.norm, w2, f.side());
        let mut norm1_cache = Buffer::stale(GROUP * size1 * 2);
        let norm1_cache: &mut [NormCache<S::f32s>] = bytemuck::cast_slice_mut(&mut norm1_cache);
        let mut norm2_cache = Buffer::stale(f.side() * w2 * 2);
        let norm2_cache: &mut [NormCache<S::f32s>] = bytemuck::cast_slice_mut(&mut norm2_cache);

        for (group, images) in images.chunks(GROUP * f.image_len()).enumerate() {
            let slots = images.len() / f.image_len();
            for (slot, norm1_cache) in norm1_cache
                .chunks_exact_mut(size1 / S::F32_LANES)
                .take(slots)
                .enumerate()
            {
                let index = first + group * GROUP + slot;
                // norm1 once more, which is less work than to store it
                let pool1 = S::as_simd_f32s(&cache.pool1[index * size1..][..size1]).0;
                let cells = S::as_mut_simd_f32s(&mut norm1).0;
                let rows = pool1
                    .chunks_exact(row1)
                    .zip(norm1_cache.chunks_exact_mut(row1));
                for (y, (row, cache)) in rows.enumerate() {
                    let out = &mut cells[f.canvas_row(y) * v1..][..row1];
                    norm::forward_cached(simd, &f.norm, &mut windows1, row, out, cache);
                }
                tiles.inputs(simd, w1, &norm1, slot, &mut inputs);

                let from = gradient[index * count..][..count].chunks_exact(f.channels[1]);
                for (to, from) in pool2_gradient.chunks_exact_mut(w2).zip(from) {
                    to[..f.channels[1]].copy_from_slice(from);
                }
                let argmax = &cache.pool2_argmax[index * pooled..][..pooled];
                let by_output = S::as_simd_f32s(&pool2_gradient).0;
                let by_input = S::as_mut_simd_f32s(&mut norm2_gradient).0;
                f.pools[1].backward(simd, v2, by_output, argmax, by_input);
                let conv2 = S::as_simd_f32s(&cache.conv2[index * size2..][..size2]).0;
                let gradients = S::as_simd_f32s(&norm2_gradient).0;
                let cells = S::as_mut_simd_f32s(&mut conv2_gradient).0;
                let bias = S::as_mut_simd_f32s(&mut sums.bias2).0;
                let rows = conv2.chunks_exact(row2).zip(gradients.chunks_exact(row2));
                for (y, (row, gradient)) in rows.enumerate() {
                    norm::cache(simd, &f.norm, &mut windows2, row, norm2_cache);
                    let out = &mut cells[f.canvas_row(y) * v2..][..row2];
                    let row = (row, &*norm2_cache);
                    norm::backward(simd, &f.norm, &mut windows2, row, gradient, out);
                    relu_backward(simd, row.0, out, bias);
                }
                tiles.inputs(simd, w2, &conv2_gradient, slot, &mut backward_points);
                tiles.gradients(simd, w2, &conv2_gradient, slot, &mut outputs);
            }
            let rows = slots * tiles.each();
            for plane in 0..PLANES {
                let left = LeftMatrix {
                    row: tile2,
                    ..LeftMatrix::matrix(&backward_points[plane * w2..], w2)
                };
                let right = &weights.conv2_rotated[plane * w1 * w2..][..w1 * w2];
                let out = &mut products[plane * tiles.rows() * w1..];
                let right = RightMatrix::matrix(right, w1);
                multiply(simd, left, rows, right, w1, out, Sum::New);
                let left = LeftMatrix {
                    step: tile1,
                    ..LeftMatrix::transposed(&inputs[plane * w1..], w1, rows)
                };
                let right = RightMatrix {
                    values: &outputs[plane * w2..],
                    row: tile2,
                };
                if !f.frozen[CONV2] {
                    let out = &mut conv2_sums[plane * w1 * w2..][..w1 * w2];
                    let sum = if group > 0 { Sum::Added } else { Sum::New };
                    multiply(simd, left, w1, right, w2, out, sum);
                }
            }
            let norm1_cache = norm1_cache.chunks_exact(size1 / S::F32_LANES);
            for (slot, (image, norm1_cache)) in images
                .chunks_exact(f.image_len())
                .zip(norm1_cache)
                .enumerate()
            {
                let index = first + group * GROUP + slot;
                tiles.outputs(simd, w1, &products, slot, &mut norm1_gradient);
                let pool1 = S::as_simd_f32s(&cache.pool1[index * size1..][..size1]).0;
                let cells = S::as_simd_f32s(&norm1_gradient).0;
                let gradients = S::as_mut_simd_f32s(&mut pool1_gradient).0;
                let bias = S::as_mut_simd_f32s(&mut sums.bias1).0;
                let rows = pool1
                    .chunks_exact(row1)
                    .zip(gradients.chunks_exact_mut(row1));
                for (y, ((row, gradient), cache)) in
                    rows.zip(norm1_cache.chunks_exact(row1)).enumerate()
                {
                    let from = &cells[y * tiles.outputs_side() * v1..][..row1];
                    norm::backward(simd, &f.norm, &mut windows1, (row, cache), from, gradient);
                    relu_backward(simd, row, gradient, bias);
                }
                if f.frozen[CONV1] {
                    continue;
                }
                let argmax = &cache.pool1_argmax[index * size1..][..size1];
                by_conv1.add(simd, image, &pool1_gradient, argmax, &mut sums.conv1);
            }
        }
        if !f.frozen[CONV2] {
            sums.set_conv2(simd, f, &conv2_sums);
        }
        sums
    }
}
