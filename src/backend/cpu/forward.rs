//! The forward pass, and what it caches for the backward one.

use super::norm::{self, ChannelWindows};
use super::product::{LeftMatrix, multiply};
use super::weights::PackedWeights;
use super::winograd::PLANES;
use super::{CpuNetwork, GROUP};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// What the backward pass needs of the forward one, for some images.
pub struct ForwardCache {
    /// pool2: [n, y, x, channel], without padding.
    pub features: Vec<f32>,
    /// pool1 after relu, [n, y, x, channel].
    pub pool1: Vec<f32>,
    /// The cell of its window that each of pool1's maxima was at.
    pub pool1_argmax: Vec<u8>,
    /// conv2 after relu, [n, y, x, channel].
    pub conv2: Vec<f32>,
    /// The cell of its window that each of pool2's maxima was at.
    pub pool2_argmax: Vec<u8>,
}

impl CpuNetwork {
    /// The forward pass of images [n, crop, crop, 3], in parts of which each is a thread's work.
    pub fn forward(&self, weights: &PackedWeights, images: &[f32]) -> Vec<ForwardCache> {
        let arch = Arch::new();
        let parts: Vec<_> = self.parts(images).collect();
        let forward = |images: &&[f32]| {
            arch.dispatch(Forward {
                cpu: self,
                weights,
                images,
            })
        };
        parts.par_iter().map(forward).collect()
    }
}

/// max(x, 0), and NaN where x is.
#[inline(always)]
fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}

/// A thread's part of the pass.
pub(super) struct Forward<'a> {
    pub cpu: &'a CpuNetwork,
    pub weights: &'a PackedWeights,
    pub images: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ForwardCache;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> ForwardCache {
        let Forward {
            cpu: f,
            weights,
            images,
        } = self;
        let [w1, w2] = f.widths();
        let (v1, v2) = (w1 / S::F32_LANES, w2 / S::F32_LANES);
        let (convolution, tiles) = (f.convolution(), f.tiles());
        let (size1, size2) = (f.side().pow(2) * w1, f.side().pow(2) * w2);
        let (pooled, count) = (f.pooled() * w2, f.feature_count());
        let n = images.len() / f.image_len();
        let mut cache = ForwardCache {
            features: vec![0.0; n * count],
            pool1: vec![0.0; n * size1],
            pool1_argmax: vec![0; n * size1],
            conv2: vec![0.0; n * size2],
            pool2_argmax: vec![0; n * pooled],
        };
        let mut canvas = convolution.canvas();
        let mut conv1 = vec![0.0; f.crop * f.crop * w1];
        let mut norm1 = vec![0.0; tiles.canvas().pow(2) * w1];
        let mut points = vec![0.0; PLANES * tiles.rows() * w1];
        let mut products = vec![0.0; PLANES * tiles.rows() * w2];
        let mut conv2_tiles = vec![0.0; tiles.outputs_side().pow(2) * w2];
        let mut norm2 = vec![0.0; size2];
        let mut pool2 = vec![0.0; pooled];
        let mut windows1 = ChannelWindows::new(&f.norm, w1, f.side());
        let mut windows2 = ChannelWindows::new(&f.norm, w2, f.side());

        for (group, images) in images.chunks(GROUP * f.image_len()).enumerate() {
            for (slot, image) in images.chunks_exact(f.image_len()).enumerate() {
                let index = group * GROUP + slot;
                convolution.pad(image, &mut canvas);
                convolution.forward(simd, &canvas, &weights.conv1, &mut conv1);
                let pool1 = S::as_mut_simd_f32s(&mut cache.pool1[index * size1..][..size1]).0;
                let argmax = &mut cache.pool1_argmax[index * size1..][..size1];
                f.pools[0].forward(simd, v1, S::as_simd_f32s(&conv1).0, pool1, argmax);
                // Bias and relu after the pooling, where there is a quarter as much of it: all three only pass
                // larger values on, so their order changes neither values nor gradients.
                let bias = S::as_simd_f32s(&weights.bias1).0;
                let cells = S::as_mut_simd_f32s(&mut norm1).0;
                for (y, row) in pool1.chunks_exact_mut(f.side() * v1).enumerate() {
                    for pixel in row.chunks_exact_mut(v1) {
                        for (x, bias) in pixel.iter_mut().zip(bias) {
                            *x = relu(simd, simd.add_f32s(*x, *bias));
                        }
                    }
                    let out = &mut cells[f.canvas_row(y) * v1..][..f.side() * v1];
                    norm::forward(simd, &f.norm, &mut windows1, row, out, None);
                }
                tiles.inputs(simd, w1, &norm1, slot, &mut points);
            }
            let rows = images.len() / f.image_len() * tiles.each();
            let planes = products.chunks_exact_mut(tiles.rows() * w2);
            for (plane, product) in planes.enumerate() {
                let left = LeftMatrix::matrix(&points[plane * tiles.rows() * w1..], w1);
                let right = &weights.conv2[plane * w1 * w2..][..w1 * w2];
                multiply(simd, left, rows, right, w2, product, false);
            }
            for slot in 0..images.len() / f.image_len() {
                let index = group * GROUP + slot;
                tiles.outputs(simd, w2, &products, slot, &mut conv2_tiles);
                let conv2 = S::as_mut_simd_f32s(&mut cache.conv2[index * size2..][..size2]).0;
                let bias = S::as_simd_f32s(&weights.bias2).0;
                let cells = S::as_simd_f32s(&conv2_tiles).0;
                let normed = S::as_mut_simd_f32s(&mut norm2).0;
                let rows = conv2.chunks_exact_mut(f.side() * v2);
                for (y, (row, out)) in rows.zip(normed.chunks_exact_mut(f.side() * v2)).enumerate()
                {
                    let from = &cells[y * tiles.outputs_side() * v2..];
                    for (pixel, from) in row.chunks_exact_mut(v2).zip(from.chunks_exact(v2)) {
                        for ((x, from), bias) in pixel.iter_mut().zip(from).zip(bias) {
                            *x = relu(simd, simd.add_f32s(*from, *bias));
                        }
                    }
                    norm::forward(simd, &f.norm, &mut windows2, row, out, None);
                }
                let argmax = &mut cache.pool2_argmax[index * pooled..][..pooled];
                let maxima = S::as_mut_simd_f32s(&mut pool2).0;
                f.pools[1].forward(simd, v2, normed, maxima, argmax);
                let to = cache.features[index * count..][..count].chunks_exact_mut(f.channels[1]);
                for (to, from) in to.zip(pool2.chunks_exact(w2)) {
                    to.copy_from_slice(&from[..f.channels[1]]);
                }
            }
        }
        cache
    }
}
