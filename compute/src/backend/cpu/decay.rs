//! The weight decay of the layers, added to their gradients in one pass over memory.

use super::LANES;
use crate::backend::memory::host;
use crate::model::{LAYERS, PER_LAYER};
use anyhow::Result;
use pulp::Arch;
use rayon::prelude::*;
use std::borrow::Cow;
use tch::Tensor;

/// Weights that are a thread's work at a time.
const DECAYED: usize = 1 << 14;

/// Add to the gradients that of each layer's weight decay, decay * w; its loss, decay * sum(w^2) / 2, with the layer's number
/// where there is one.
///
/// # Errors
/// libtorch's.
pub(in crate::backend) fn add_decay(
    parameters: &[Tensor],
    rates: [f64; LAYERS.len()],
    gradients: &mut [&mut [f32]],
) -> Result<Vec<(usize, Tensor)>> {
    let weights = parameters.chunks_exact(PER_LAYER).map(|it| host(&it[0]));
    let weights: Vec<Cow<[f32]>> = weights.collect::<Result<_>>()?;
    // On a thread of the pool, as the passes are.
    let decays = rayon::scope(|_| host_decay(&weights, rates, gradients));
    let tensor = |(layer, loss)| (layer, Tensor::from(loss));
    Ok(decays.into_iter().map(tensor).collect())
}

/// As [`add_decay`], of each layer's weights.
fn host_decay(
    weights: &[Cow<[f32]>],
    rates: [f64; LAYERS.len()],
    gradients: &mut [&mut [f32]],
) -> Vec<(usize, f32)> {
    let mut decays = Vec::new();
    let layers = weights.iter().zip(gradients.chunks_exact_mut(PER_LAYER));
    for (layer, ((weights, gradients), decay)) in layers.zip(rates).enumerate() {
        if decay == 0.0 {
            continue;
        }
        let factor = decay as f32;
        let arch = Arch::new();
        let add = |(gradients, weights): (&mut [f32], &[f32])| {
            arch.dispatch(|| add_weights(gradients, weights, factor))
        };
        let weights = weights.par_chunks(DECAYED);
        let parts = gradients[0].par_chunks_mut(DECAYED).zip(weights);
        // Added up here, so that the threads do not matter.
        let squares: Vec<f64> = parts.map(add).collect();
        let loss = squares.iter().sum::<f64>() * decay / 2.0;
        decays.push((layer, loss as f32));
    }
    decays
}

/// Add the weights times a factor to the gradients; the sum of the weights' squares. One sum for all would wait for each addition.
#[inline(always)]
fn add_weights(gradients: &mut [f32], weights: &[f32], factor: f32) -> f64 {
    let mut squares = [0.0; LANES];
    let rows = gradients.chunks_mut(LANES).zip(weights.chunks(LANES));
    for (gradients, weights) in rows {
        let pairs = gradients.iter_mut().zip(weights).zip(&mut squares);
        for ((gradient, weight), square) in pairs {
            *gradient += weight * factor;
            *square += f64::from(*weight) * f64::from(*weight);
        }
    }
    squares.iter().sum()
}
