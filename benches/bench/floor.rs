//! The floor under a step: its arithmetic at the speed of one large matrix product.

use anyhow::Result;
use burn::tensor::{Device, Distribution, Tensor};
use runboard::spec::Spec;

/// Floating-point operations of a training step: the products of convolutions and dense layers, forward and
/// backward by weights and by input; the first layer's input needs no gradient.
pub fn operations(spec: &Spec) -> f64 {
    let network = &spec.network;
    let pooled = |side: usize| side.div_ceil(network.pool.stride); // SAME padding
    let side1 = spec.input.crop;
    let side2 = pooled(side1);
    let side3 = pooled(side2);
    let (channels1, channels2) = (network.conv1.channels, network.conv2.channels);
    let convolution = |side: usize, kernel: usize, from: usize, to: usize| {
        side * side * kernel * kernel * from * to
    };
    let first = convolution(
        side1,
        network.conv1.kernel,
        runboard::data::CHANNELS,
        channels1,
    );
    let (units3, units4) = (network.local3.units, network.local4.units);
    let products = first
        + convolution(side2, network.conv2.kernel, channels1, channels2)
        + side3 * side3 * channels2 * units3
        + units3 * units4
        + units4 * runboard::data::CLASS_COUNT;
    // A multiplication and an addition each.
    2.0 * (3 * products - first) as f64 * spec.train.batch_size as f64
}

/// One product of two square matrices with about as much arithmetic as a step.
pub struct Product {
    left: Tensor<2>,
    right: Tensor<2>,
    device: Device,
    /// Operations of a step in operations of the product.
    pub scale: f64,
}

impl Product {
    pub fn new(spec: &Spec, device: &Device) -> Self {
        let operations = operations(spec);
        // Sides that are no multiple of the kernels' blocks would waste a little.
        let side = ((operations / 2.0).cbrt() as usize).next_multiple_of(128);
        let random = || Tensor::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
        Product {
            left: random(),
            right: random(),
            device: device.clone(),
            scale: operations / (2.0 * (side as f64).powi(3)),
        }
    }

    pub fn multiply(&self) -> Result<()> {
        let _product = self.left.clone().matmul(self.right.clone());
        Ok(self.device.sync()?)
    }
}
