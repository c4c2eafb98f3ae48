//! The convolutions' parameters, in the order in which the passes read them, and back.

use super::convolution::Convolution;
use super::winograd::{KERNEL, kernel_to_points, points_to_kernel};
use super::{CpuNetwork, padded};
use crate::data::CHANNELS;

/// Cells of the second convolution's kernel.
const CELLS: usize = KERNEL * KERNEL;

/// The parameters, channels padded with zeros to a multiple of [`super::LANES`].
pub struct PackedWeights {
    /// [row, column and input channel, out]
    pub conv1: Vec<f32>,
    /// [out]
    pub bias1: Vec<f32>,
    /// [point, in, out]
    pub conv2: Vec<f32>,
    /// [out]
    pub bias2: Vec<f32>,
    /// [point, out, in] of the kernel rotated by 180 degrees, which the backward pass uses
    pub conv2_rotated: Vec<f32>,
}

/// Values for the parameters in their own order: kernels are [out, in, row, column].
pub struct ConvolutionParameters {
    pub conv1: Vec<f32>,
    pub bias1: Vec<f32>,
    pub conv2: Vec<f32>,
    pub bias2: Vec<f32>,
}

/// GradientSums over images that become gradients by the parameters.
pub struct GradientSums {
    /// As [`Convolution::gradient_index`] says
    pub conv1: Vec<f32>,
    /// [out]
    pub bias1: Vec<f32>,
    /// [point, in, out]
    pub conv2: Vec<f32>,
    /// [out]
    pub bias2: Vec<f32>,
}

impl PackedWeights {
    pub fn pack(cpu: &CpuNetwork, from: &ConvolutionParameters) -> Self {
        let (first, [w1, w2]) = (cpu.convolution(), cpu.widths());
        let k = first.kernel;
        let mut conv1 = vec![0.0; k * k * CHANNELS * w1];
        for (out, filter) in from.conv1.chunks_exact(CHANNELS * k * k).enumerate() {
            for (channel, plane) in filter.chunks_exact(k * k).enumerate() {
                for (cell, value) in plane.iter().enumerate() {
                    conv1[(cell * CHANNELS + channel) * w1 + out] = *value;
                }
            }
        }
        let filter = |out: usize, channel: usize| {
            &from.conv2[(out * cpu.channels[0] + channel) * CELLS..][..CELLS]
        };
        let [c1, c2] = cpu.channels;
        // Each in the order in which it is written.
        let forward_kernel = || {
            let mut kernel = vec![0.0; CELLS * w1 * w2];
            for channel in 0..c1 {
                for out in 0..c2 {
                    for (cell, value) in filter(out, channel).iter().enumerate() {
                        kernel[(cell * w1 + channel) * w2 + out] = *value;
                    }
                }
            }
            kernel_to_points(&kernel)
        };
        let backward_kernel = || {
            let mut kernel = vec![0.0; CELLS * w1 * w2];
            for out in 0..c2 {
                for channel in 0..c1 {
                    for (cell, value) in filter(out, channel).iter().rev().enumerate() {
                        kernel[(cell * w2 + out) * w1 + channel] = *value;
                    }
                }
            }
            kernel_to_points(&kernel)
        };
        let (conv2, conv2_rotated) = rayon::join(forward_kernel, backward_kernel);
        PackedWeights {
            conv1,
            bias1: padded(from.bias1.clone(), from.bias1.len()),
            conv2,
            bias2: padded(from.bias2.clone(), from.bias2.len()),
            conv2_rotated,
        }
    }
}

impl GradientSums {
    pub fn zeros(first: &Convolution, [w1, w2]: [usize; 2]) -> Self {
        GradientSums {
            conv1: vec![0.0; first.gradient_len()],
            bias1: vec![0.0; w1],
            conv2: vec![0.0; super::winograd::PLANES * w1 * w2],
            bias2: vec![0.0; w2],
        }
    }

    pub fn add(&mut self, other: &GradientSums) {
        for (to, from) in [
            (&mut self.conv1, &other.conv1),
            (&mut self.bias1, &other.bias1),
            (&mut self.conv2, &other.conv2),
            (&mut self.bias2, &other.bias2),
        ] {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    pub fn unpack(self, cpu: &CpuNetwork) -> ConvolutionParameters {
        let (first, [w1, w2]) = (cpu.convolution(), cpu.widths());
        let [c1, c2] = cpu.channels;
        let mut conv1 = Vec::with_capacity(c1 * CHANNELS * first.kernel * first.kernel);
        for out in 0..c1 {
            for channel in 0..CHANNELS {
                for row in 0..first.kernel {
                    let column =
                        |column| self.conv1[first.gradient_index(out, channel, row, column)];
                    conv1.extend((0..first.kernel).map(column));
                }
            }
        }
        let kernel = points_to_kernel(&self.conv2);
        let mut conv2 = Vec::with_capacity(c2 * c1 * CELLS);
        for out in 0..c2 {
            for channel in 0..c1 {
                let cell = |cell| kernel[(cell * w1 + channel) * w2 + out];
                conv2.extend((0..CELLS).map(cell));
            }
        }
        let truncated = |mut values: Vec<f32>, count| {
            values.truncate(count);
            values
        };
        ConvolutionParameters {
            conv1,
            bias1: truncated(self.bias1, c1),
            conv2,
            bias2: truncated(self.bias2, c2),
        }
    }
}
