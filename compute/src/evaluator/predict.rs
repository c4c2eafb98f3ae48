//! What a checkpoint makes of images that have no labels, as the evaluator would.

use super::images::EvaluationImages;
use super::metrics::probabilities;
use super::{threads, with_weights};
use crate::backend;
use crate::model::Network;
use anyhow::Result;
use runboard::checkpoint;
use runboard::compute::Predictions;
use runboard::data::{ChannelStatistics, Images, Preprocessor};
use runboard::spec::Spec;
use runboard::user_error;
use std::path::Path;

/// The classes' probabilities of each image, by the views that the evaluation of a run with this spec takes. `statistics` are
/// those of the run's training images, where its input wants them.
///
/// # Errors
/// A user error for a device that is not there and for a checkpoint that cannot be loaded; libtorch's.
pub fn predict(
    spec: &Spec,
    checkpoint: &Path,
    statistics: Option<ChannelStatistics>,
    images: Images,
) -> Result<Predictions> {
    let device = backend::machine().evaluation_device(spec)?;
    let (device, device_name) = backend::device("eval.device", &device)?;
    backend::prepare(&spec.compute, threads(spec))?;
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let load = || {
        let tensors = checkpoint::load(checkpoint)?.tensors;
        let weights = checkpoint::averaged(&tensors);
        Ok((
            with_weights(network, checkpoint, &tensors, weights)?,
            weights,
        ))
    };
    let (network, weights) = load().map_err(|error: anyhow::Error| user_error!("{error:#}"))?;
    let preprocessor = Preprocessor::with_statistics(&spec.input, statistics);
    let (count, gpu) = (images.len(), device_name != "cpu");
    let mut images = EvaluationImages::new(images, spec, &preprocessor, &device, gpu)?;
    let mut predictions = Vec::with_capacity(count);
    for first in (0..count).step_by(spec.eval.batch_size) {
        let batch = first..count.min(first + spec.eval.batch_size);
        let mut mean: Vec<f32> = Vec::new();
        for view in 0..images.views.len() {
            let inputs = images.inputs(view, batch.clone())?;
            let logits = backend::logits(&network, spec, inputs)?;
            images.views[view].add(&logits, &mut mean);
        }
        let classes = mean.len() / batch.len();
        predictions.extend(mean.chunks_exact(classes).map(probabilities));
    }
    Ok(Predictions {
        device: device_name,
        weights: weights.to_owned(),
        views: images.views.len(),
        images: predictions,
    })
}
