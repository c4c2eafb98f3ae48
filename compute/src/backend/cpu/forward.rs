//! The forward pass, and what it caches for the backward one.

use super::buffer::Buffer;
use super::convolution::ImageConvolution;
use super::norm::{self, ChannelWindows};
use super::product::{LeftMatrix, RightMatrix, Sum, multiply};
use super::tasks;
use super::weights::PackedWeights;
use super::winograd::{PLANES, WinogradTiles};
use super::{CpuNetwork, GROUP};
use pulp::{Arch, Simd, WithSimd};

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

    /// All of it, as the part of one group.
    pub(super) fn whole(&mut self) -> GroupCache<'_> {
        GroupCache {
            features: &mut self.features,
            pool1: &mut self.pool1,
            pool1_argmax: &mut self.pool1_argmax,
            conv2: &mut self.conv2,
            pool2_argmax: &mut self.pool2_argmax,
        }
    }

    /// The groups' parts.
    fn groups(&mut self, cpu: &CpuNetwork) -> impl Iterator<Item = GroupCache<'_>> {
        let cells = GROUP * cpu.side().pow(2);
        let ([w1, w2], pooled) = (cpu.widths(), GROUP * cpu.pooled());
        let mut pool1 = self.pool1.chunks_mut(cells * w1);
        let mut pool1_argmax = self.pool1_argmax.chunks_mut(cells * w1);
        let mut conv2 = self.conv2.chunks_mut(cells * w2);
        let mut pool2_argmax = self.pool2_argmax.chunks_mut(pooled * w2);
        let features = self.features.chunks_mut(GROUP * cpu.feature_count());
        features.map_while(move |features| {
            Some(GroupCache {
                features,
                pool1: pool1.next()?,
                pool1_argmax: pool1_argmax.next()?,
                conv2: conv2.next()?,
                pool2_argmax: pool2_argmax.next()?,
            })
        })
    }
}

/// The part of a [`ForwardCache`] that is of at most [`GROUP`] images.
pub(super) struct GroupCache<'a> {
    features: &'a mut [f32],
    pool1: &'a mut [f32],
    pool1_argmax: &'a mut [u8],
    conv2: &'a mut [f32],
    pool2_argmax: &'a mut [u8],
}

impl CpuNetwork {
    /// The forward pass of images [n, crop, crop, 3]. Nothing is summed over images, so that a thread may take any of them.
    pub fn forward(&self, weights: &PackedWeights, images: &[f32]) -> ForwardCache {
        let n = images.len() / self.image_len();
        let mut cache = ForwardCache::new(self, n);
        let arch = Arch::new();
        let images = images.chunks(GROUP * self.image_len());
        let groups = images.zip(cache.groups(self));
        let workspace = || Workspace::new(self);
        tasks::share(groups, workspace, |workspace, (images, cache)| {
            arch.dispatch(Forward {
                cpu: self,
                weights,
                images,
                workspace,
                cache,
            });
        });
        cache
    }

    /// The features of images, [n, features], where no backward pass follows: what it needs besides is overwritten by each
    /// group of images, and stays in the processor's cache.
    pub fn features(&self, weights: &PackedWeights, images: &[f32]) -> Buffer {
        let (n, count) = (images.len() / self.image_len(), self.feature_count());
        let mut features = Buffer::stale(n * count);
        let arch = Arch::new();
        let images = images.chunks(GROUP * self.image_len());
        let groups = images.zip(features.chunks_mut(GROUP * count));
        let state = || (Workspace::new(self), ForwardCache::new(self, GROUP));
        tasks::share(groups, state, |(workspace, cache), (images, features)| {
            arch.dispatch(Forward {
                cpu: self,
                weights,
                images,
                workspace,
                cache: GroupCache {
                    features,
                    ..cache.whole()
                },
            });
        });
        features
    }
}

/// What a thread needs for the pass of a group of images. Of what has zeros around it, the pass writes the inside alone.
pub(super) struct Workspace {
    convolution: ImageConvolution,
    conv1: Buffer,
    /// A canvas.
    norm1: Buffer,
    /// conv2's input and output in the transformed domain.
    points: Buffer,
    products: Buffer,
    conv2_tiles: Buffer,
    norm2: Buffer,
    pool2: Buffer,
    windows1: ChannelWindows,
    windows2: ChannelWindows,
}

impl Workspace {
    pub fn new(cpu: &CpuNetwork) -> Self {
        let ([w1, w2], side, tiles) = (cpu.widths(), cpu.side(), cpu.tiles());
        Workspace {
            convolution: ImageConvolution::new(cpu.convolution()),
            conv1: Buffer::stale(cpu.crop * cpu.crop * w1),
            norm1: Buffer::zeros(tiles.canvas().pow(2) * w1),
            points: Buffer::stale(tiles.points_len(w1)),
            products: Buffer::stale(PLANES * tiles.rows() * w2),
            conv2_tiles: Buffer::stale(tiles.outputs_side().pow(2) * w2),
            norm2: Buffer::stale(side.pow(2) * w2),
            pool2: Buffer::stale(cpu.pooled() * w2),
            windows1: ChannelWindows::new(&cpu.norm, w1, side),
            windows2: ChannelWindows::new(&cpu.norm, w2, side),
        }
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
    pub workspace: &'a mut Workspace,
    pub cache: GroupCache<'a>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward {
            cpu: f,
            weights,
            images,
            workspace,
            cache,
        } = self;
        let Workspace {
            convolution,
            conv1,
            norm1,
            points,
            products,
            conv2_tiles,
            norm2,
            pool2,
            windows1,
            windows2,
        } = workspace;
        let [w1, w2] = f.widths();
        let (v1, v2) = (w1 / S::F32_LANES, w2 / S::F32_LANES);
        let tiles = f.tiles();
        let (size1, size2) = (f.side().pow(2) * w1, f.side().pow(2) * w2);
        let (pooled, count) = (f.pooled() * w2, f.feature_count());

        let outputs = (cache.pool1)
            .chunks_exact_mut(size1)
            .zip(cache.pool1_argmax.chunks_exact_mut(size1));
        let each = images.chunks_exact(f.image_len()).zip(outputs);
        for (slot, (image, (pool1, argmax))) in each.enumerate() {
            convolution.forward(simd, image, &weights.conv1, conv1);
            let pool1 = S::as_mut_simd_f32s(pool1).0;
            f.pools[0].forward(simd, v1, S::as_simd_f32s(conv1).0, pool1, argmax);
            // Bias and relu after the pooling, where there is a quarter as much of it: all three only pass larger
            // values on, so their order changes neither values nor gradients.
            let bias = S::as_simd_f32s(&weights.bias1).0;
            let cells = S::as_mut_simd_f32s(norm1).0;
            for (y, row) in pool1.chunks_exact_mut(f.side() * v1).enumerate() {
                for pixel in row.chunks_exact_mut(v1) {
                    for (x, bias) in pixel.iter_mut().zip(bias) {
                        *x = relu(simd, simd.add_f32s(*x, *bias));
                    }
                }
                let out = &mut cells[f.canvas_row(y) * v1..][..f.side() * v1];
                norm::forward(simd, &f.norm, windows1, row, out);
            }
            tiles.inputs(simd, w1, norm1, slot, points);
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
        let outputs = (cache.features)
            .chunks_exact_mut(count)
            .zip(cache.pool2_argmax.chunks_exact_mut(pooled));
        let each = cache.conv2.chunks_exact_mut(size2).zip(outputs);
        for (slot, (conv2, (features, argmax))) in each.enumerate() {
            tiles.outputs(simd, w2, products, slot, conv2_tiles);
            let conv2 = S::as_mut_simd_f32s(conv2).0;
            let bias = S::as_simd_f32s(&weights.bias2).0;
            let cells = S::as_simd_f32s(conv2_tiles).0;
            let normed = S::as_mut_simd_f32s(norm2).0;
            let rows = conv2.chunks_exact_mut(f.side() * v2);
            for (y, (row, out)) in rows.zip(normed.chunks_exact_mut(f.side() * v2)).enumerate() {
                let from = &cells[y * tiles.outputs_side() * v2..];
                for (pixel, from) in row.chunks_exact_mut(v2).zip(from.chunks_exact(v2)) {
                    for ((x, from), bias) in pixel.iter_mut().zip(from).zip(bias) {
                        *x = relu(simd, simd.add_f32s(*from, *bias));
                    }
                }
                norm::forward(simd, &f.norm, windows2, row, out);
            }
            let maxima = S::as_mut_simd_f32s(pool2).0;
            f.pools[1].forward(simd, v2, normed, maxima, argmax);
            let to = features.chunks_exact_mut(f.channels[1]);
            for (to, from) in to.zip(pool2.chunks_exact(w2)) {
                to.copy_from_slice(&from[..f.channels[1]]);
            }
        }
    }
}
