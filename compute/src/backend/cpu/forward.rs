//! The forward pass, and what it caches for the backward one.

use super::buffer::Buffer;
use super::convolution::ImageConvolution;
use super::norm::{self, ChannelWindows};
use super::product::{LeftMatrix, RightMatrix, Sum, multiply};
use super::weights::PackedWeights;
use super::winograd::{PLANES, WinogradTiles};
use super::{CpuNetwork, GROUP};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// What the backward pass needs of the forward one.
pub struct ForwardCache {
    /// pool2: [n, y, x, channel], without padding.
    pub features: Buffer,
    /// pool1 after relu, [n, y, x, channel].
    pub pool1: Buffer,
    /// The cell of its window that each of pool1's maxima was at.
    pub pool1_argmax: Buffer<u8>,
    /// conv2 after relu, [n, y, x, channel].
    pub conv2: Buffer,
    /// The cell of its window that each of pool2's maxima was at.
    pub pool2_argmax: Buffer<u8>,
}

impl ForwardCache {
    /// Room for `n` images.
    pub fn new(cpu: &CpuNetwork, n: usize) -> Self {
        let cells = n * cpu.side().pow(2);
        let ([w1, w2], pooled) = (cpu.widths(), n * cpu.pooled());
        ForwardCache {
            features: Buffer::stale(n * cpu.feature_count()),
            pool1: Buffer::stale(cells * w1),
            pool1_argmax: Buffer::stale_bytes(cells * w1),
            conv2: Buffer::stale(cells * w2),
            pool2_argmax: Buffer::stale_bytes(pooled * w2),
        }
    }
}

impl CpuNetwork {
    /// The forward pass of images [n, crop, crop, 3]. Nothing is summed over images, so that a thread may take any of them.
    pub fn forward(&self, weights: &PackedWeights, images: &[f32]) -> ForwardCache {
        let n = images.len() / self.image_len();
        let mut cache = ForwardCache::new(self, n);
        let cells = GROUP * self.side().pow(2);
        let ([w1, w2], pooled) = (self.widths(), GROUP * self.pooled());
        let arch = Arch::new();
        let images = images.par_chunks(GROUP * self.image_len());
        let features = GROUP * self.feature_count();
        let features = cache.features.par_chunks_mut(features);
        let pool1 = cache.pool1.par_chunks_mut(cells * w1);
        let pool1_argmax = cache.pool1_argmax.par_chunks_mut(cells * w1);
        let conv2 = cache.conv2.par_chunks_mut(cells * w2);
        let pool2_argmax = cache.pool2_argmax.par_chunks_mut(pooled * w2);
        let groups = (images, features, pool1, pool1_argmax, conv2, pool2_argmax);
        // One by one, or the threads would not be done at about the same time.
        groups.into_par_iter().with_max_len(1).for_each(
            |(images, features, pool1, pool1_argmax, conv2, pool2_argmax)| {
                arch.dispatch(Forward {
                    cpu: self,
                    weights,
                    images,
                    features,
                    pool1,
                    pool1_argmax,
                    conv2,
                    pool2_argmax,
                });
            },
        );
        cache
    }
}

/// max(x, 0), and NaN where x is.
#[inline(always)]
fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}

/// The pass of at most [`GROUP`] images, and their part of the cache.
pub(super) struct Forward<'a> {
    pub cpu: &'a CpuNetwork,
    pub weights: &'a PackedWeights<'a>,
    pub images: &'a [f32],
    pub features: &'a mut [f32],
    pub pool1: &'a mut [f32],
    pub pool1_argmax: &'a mut [u8],
    pub conv2: &'a mut [f32],
    pub pool2_argmax: &'a mut [u8],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward {
            cpu: f,
            weights,
            images,
            features,
            pool1,
            pool1_argmax,
            conv2,
            pool2_argmax,
        } = self;
        let [w1, w2] = f.widths();
        let (v1, v2) = (w1 / S::F32_LANES, w2 / S::F32_LANES);
        let tiles = f.tiles();
        let (size1, size2) = (f.side().pow(2) * w1, f.side().pow(2) * w2);
        let (pooled, count) = (f.pooled() * w2, f.feature_count());
        let mut convolution = ImageConvolution::new(f.convolution());
        let mut conv1 = Buffer::stale(f.crop * f.crop * w1);
        let mut norm1 = Buffer::zeros(tiles.canvas().pow(2) * w1);
        let mut points = Buffer::stale(tiles.points_len(w1));
        let mut products = Buffer::stale(PLANES * tiles.rows() * w2);
        let mut conv2_tiles = Buffer::stale(tiles.outputs_side().pow(2) * w2);
        let mut norm2 = Buffer::stale(size2);
        let mut pool2 = Buffer::stale(pooled);
        let mut windows1 = ChannelWindows::new(&f.norm, w1, f.side());
        let mut windows2 = ChannelWindows::new(&f.norm, w2, f.side());

        let outputs = pool1
            .chunks_exact_mut(size1)
            .zip(pool1_argmax.chunks_exact_mut(size1));
        let each = images.chunks_exact(f.image_len()).zip(outputs);
        for (slot, (image, (pool1, argmax))) in each.enumerate() {
            convolution.forward(simd, image, &weights.conv1, &mut conv1);
            let pool1 = S::as_mut_simd_f32s(pool1).0;
            f.pools[0].forward(simd, v1, S::as_simd_f32s(&conv1).0, pool1, argmax);
            // Bias and relu after the pooling, where there is a quarter as much of it: all three only pass larger
            // values on, so their order changes neither values nor gradients.
            let bias = S::as_simd_f32s(&weights.bias1).0;
            let cells = S::as_mut_simd_f32s(&mut norm1).0;
            for (y, row) in pool1.chunks_exact_mut(f.side() * v1).enumerate() {
                for pixel in row.chunks_exact_mut(v1) {
                    for (x, bias) in pixel.iter_mut().zip(bias) {
                        *x = relu(simd, simd.add_f32s(*x, *bias));
                    }
                }
                let out = &mut cells[f.canvas_row(y) * v1..][..f.side() * v1];
                norm::forward(simd, &f.norm, &mut windows1, row, out);
            }
            tiles.inputs(simd, w1, &norm1, slot, &mut points);
        }
        let rows = images.len() / f.image_len() * tiles.each();
        let planes = products.chunks_exact_mut(tiles.rows() * w2);
        for (plane, product) in planes.enumerate() {
            let left = LeftMatrix {
                row: WinogradTiles::tile_len(w1),
                ..LeftMatrix::matrix(&points[plane * w1..], w1)
            };
            let right = &weights.conv2[plane * w1 * w2..][..w1 * w2];
            let right = RightMatrix::matrix(right, w2);
            multiply(simd, left, rows, right, w2, product, Sum::New);
        }
        let outputs = features
            .chunks_exact_mut(count)
            .zip(pool2_argmax.chunks_exact_mut(pooled));
        let each = conv2.chunks_exact_mut(size2).zip(outputs);
        for (slot, (conv2, (features, argmax))) in each.enumerate() {
            tiles.outputs(simd, w2, &products, slot, &mut conv2_tiles);
            let conv2 = S::as_mut_simd_f32s(conv2).0;
            let bias = S::as_simd_f32s(&weights.bias2).0;
            let cells = S::as_simd_f32s(&conv2_tiles).0;
            let normed = S::as_mut_simd_f32s(&mut norm2).0;
            let rows = conv2.chunks_exact_mut(f.side() * v2);
            for (y, (row, out)) in rows.zip(normed.chunks_exact_mut(f.side() * v2)).enumerate() {
                let from = &cells[y * tiles.outputs_side() * v2..];
                for (pixel, from) in row.chunks_exact_mut(v2).zip(from.chunks_exact(v2)) {
                    for ((x, from), bias) in pixel.iter_mut().zip(from).zip(bias) {
                        *x = relu(simd, simd.add_f32s(*from, *bias));
                    }
                }
                norm::forward(simd, &f.norm, &mut windows2, row, out);
            }
            let maxima = S::as_mut_simd_f32s(&mut pool2).0;
            f.pools[1].forward(simd, v2, normed, maxima, argmax);
            let to = features.chunks_exact_mut(f.channels[1]);
            for (to, from) in to.zip(pool2.chunks_exact(w2)) {
                to.copy_from_slice(&from[..f.channels[1]]);
            }
        }
    }
}
