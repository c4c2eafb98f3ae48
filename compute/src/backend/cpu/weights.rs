//! The convolutions' parameters, in the order in which the passes read them, and their gradients back.

use super::buffer::Buffer;
use super::winograd::{KERNEL, PLANES, kernels_to_points, points_to_kernels};
use super::{CONV2, CpuNetwork, LANES, padded};
use crate::backend::tree_sum::tree_sum;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use runboard::data::CHANNELS;
use std::borrow::Cow;

/// Cells of the second convolution's kernel.
const CELLS: usize = KERNEL * KERNEL;

/// The parameters, channels padded with zeros to a multiple of [`super::LANES`].
pub struct PackedWeights<'a> {
    /// As [`super::convolution::Convolution::pack`] has it
    pub conv1: Buffer,
    /// [out]
    pub bias1: Cow<'a, [f32]>,
    /// [point, in, out]
    pub conv2: Buffer,
    /// [out]
    pub bias2: Cow<'a, [f32]>,
    /// [point, out, in] of the kernel rotated by 180 degrees, which the backward pass uses; nothing where there is none
    pub conv2_rotated: Buffer,
}

/// Values for the parameters in their own order: kernels are [out, in, row, column].
pub struct ConvolutionParameters<T> {
    pub conv1: T,
    pub bias1: T,
    pub conv2: T,
    pub bias2: T,
}

/// Sums over images that become gradients by the parameters.
pub struct GradientSums {
    /// As [`super::convolution::Convolution::gradient_index`] says
    pub conv1: Buffer,
    /// [out]
    pub bias1: Buffer,
    /// [in, cell, out]
    pub conv2: Buffer,
    /// [out]
    pub bias2: Buffer,
}

impl<'a> PackedWeights<'a> {
    /// For both passes.
    pub fn pack(cpu: &CpuNetwork, from: &ConvolutionParameters<&'a [f32]>) -> Self {
        let (rotated, weights) = rayon::join(
            || Self::rotated(cpu, from.conv2),
            || Self::pack_forward(cpu, from),
        );
        PackedWeights {
            conv2_rotated: rotated,
            ..weights
        }
    }

    /// For a forward pass that no backward one follows.
    pub fn pack_forward(cpu: &CpuNetwork, from: &ConvolutionParameters<&'a [f32]>) -> Self {
        let [w1, w2] = cpu.widths();
        let (c1, filters) = (cpu.channels[0], from.conv2);
        let kernels = |channel: usize, kernels: &mut [f32]| {
            for (out, filters) in filters.chunks_exact(c1 * CELLS).enumerate() {
                let filter = &filters[channel * CELLS..][..CELLS];
                for (cell, value) in filter.iter().enumerate() {
                    kernels[cell * w2 + out] = *value;
                }
            }
        };
        PackedWeights {
            conv1: cpu.convolution().pack(from.conv1),
            bias1: padded(from.bias1, from.bias1.len()),
            conv2: Arch::new().dispatch(KernelsToPoints(c1, [w1, w2], kernels)),
            bias2: padded(from.bias2, from.bias2.len()),
            conv2_rotated: Buffer::stale(0),
        }
    }

    fn rotated(cpu: &CpuNetwork, filters: &[f32]) -> Buffer {
        let [w1, w2] = cpu.widths();
        let [c1, c2] = cpu.channels;
        let kernels = |out: usize, kernels: &mut [f32]| {
            let filters = &filters[out * c1 * CELLS..][..c1 * CELLS];
            for (channel, filter) in filters.chunks_exact(CELLS).enumerate() {
                for (cell, value) in filter.iter().rev().enumerate() {
                    kernels[cell * w1 + channel] = *value;
                }
            }
        };
        Arch::new().dispatch(KernelsToPoints(c2, [w2, w1], kernels))
    }
}

/// The points [point, row, value] of so many rows, padded to so many; the function puts the kernels of a row, [cell,
/// value], in the place of those of another.
struct KernelsToPoints<F>(usize, [usize; 2], F);

impl<F: Fn(usize, &mut [f32])> WithSimd for KernelsToPoints<F> {
    type Output = Buffer;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Buffer {
        let KernelsToPoints(count, [rows, width], row_kernels) = self;
        let len = PLANES * rows * width;
        let mut points = match count == rows {
            true => Buffer::stale(len),
            false => Buffer::zeros(len),
        };
        let mut kernels = Buffer::zeros(CELLS * width);
        for row in 0..count {
            row_kernels(row, &mut kernels);
            kernels_to_points(simd, &kernels, &mut points[row * width..], rows * width);
        }
        points
    }
}

impl GradientSums {
    /// Zeros, but for what [`GradientSums::set_conv2`] sets.
    pub fn of(cpu: &CpuNetwork) -> Self {
        let [w1, w2] = cpu.widths();
        let conv2 = match cpu.frozen[CONV2] {
            true => Buffer::zeros,
            false => Buffer::stale,
        };
        GradientSums {
            conv1: Buffer::zeros(cpu.convolution().gradient_len()),
            bias1: Buffer::zeros(w1),
            conv2: conv2(cpu.channels[0] * CELLS * w2),
            bias2: Buffer::zeros(w2),
        }
    }

    /// Put the second convolution's sums in their place: points [point, in, out].
    #[inline(always)]
    pub fn set_conv2<S: Simd>(&mut self, simd: S, cpu: &CpuNetwork, points: &[f32]) {
        let [w1, w2] = cpu.widths();
        let channels = self.conv2.chunks_exact_mut(CELLS * w2).enumerate();
        for (channel, kernels) in channels {
            points_to_kernels(simd, &points[channel * w2..], w1 * w2, kernels);
        }
    }

    /// The gradients, of the sums of all parts.
    pub fn unpack(parts: &[GradientSums], cpu: &CpuNetwork, to: ConvolutionParameters<&mut [f32]>) {
        let (first, [_, w2], [c1, c2]) = (cpu.convolution(), cpu.widths(), cpu.channels);
        let total = |values: fn(&GradientSums) -> &Buffer| {
            let length = parts.first().map_or(0, |part| values(part).len());
            let mut sums = Vec::with_capacity(parts.len() * length);
            for part in parts {
                sums.extend_from_slice(values(part));
            }
            tree_sum(&mut sums, length);
            sums.truncate(length);
            sums
        };
        let conv1 = total(|part| &part.conv1);
        let mut to_conv1 = to.conv1.iter_mut();
        for out in 0..c1 {
            for channel in 0..CHANNELS {
                for row in 0..first.kernel {
                    for (column, to) in (0..first.kernel).zip(&mut to_conv1) {
                        *to = conv1[first.gradient_index(out, channel, row, column)];
                    }
                }
            }
        }
        to.bias1.copy_from_slice(&total(|part| &part.bias1)[..c1]);
        to.bias2.copy_from_slice(&total(|part| &part.bias2)[..c2]);

        let len = CELLS * w2;
        let mut kernels = Buffer::stale(c1 * len); // [in, cell, out]
        let arch = Arch::new();
        let channels = kernels.par_chunks_mut(len).enumerate();
        channels.with_min_len(4).for_each(|(channel, kernels)| {
            let mut sums = Buffer::stale(parts.len() * len);
            for (to, part) in sums.chunks_exact_mut(len).zip(parts) {
                to.copy_from_slice(&part.conv2[channel * len..][..len]);
            }
            arch.dispatch(|| tree_sum(&mut sums, len));
            kernels.copy_from_slice(&sums[..len]);
        });
        // A row of vectors at a time, of which each goes to as many places.
        let blocks = to.conv2.par_chunks_mut(LANES * c1 * CELLS).enumerate();
        blocks.for_each(|(block, to)| {
            for (at, row) in kernels.chunks_exact(w2).enumerate() {
                let filters = to.chunks_exact_mut(c1 * CELLS);
                for (filter, value) in filters.zip(&row[block * LANES..]) {
                    filter[at] = *value;
                }
            }
        });
    }
}
