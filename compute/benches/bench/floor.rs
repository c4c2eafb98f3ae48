//! The floor under a step: its arithmetic at the speed of one large matrix product.

use anyhow::Result;
use burn::tensor::{Device, Distribution, Tensor};
use runboard::spec::Spec;

/// Floating-point operations of a training step: the products of convolutions and dense layers, forward and
/// backward by weights and by input; the first layer's input needs no gradient.
pub fn operations(spec: &Spec) -> f64 {
    let (network, crop) = (&spec.network, spec.input.crop);
    let [pooled, _] = network.pooled_sides(crop);
    // How often a layer's weights go over an image.
    let uses = [crop * crop, pooled * pooled, 1, 1, 1];
    let layers = network.layers(crop).into_iter().zip(uses);
    let layers = layers.map(|(layer, uses)| layer.weights.iter().product::<usize>() * uses);
    let products: usize = layers.clone().sum();
    let first = layers.take(1).sum::<usize>();
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
