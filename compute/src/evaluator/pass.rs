//! A checkpoint's network over images, once: what `predict` and `score` have in common.

use super::images::EvaluationImages;
use super::{threads, with_weights};
use crate::backend;
use crate::model::Network;
use anyhow::Result;
use runboard::checkpoint;
use runboard::compute::Viewer;
use runboard::data::{ChannelStatistics, Images, Preprocessor};
use runboard::spec::{DeviceName, Spec};
use runboard::user_error;
use std::ops::Range;
use std::path::Path;

/// The averaged weights of a checkpoint, and images as the evaluation of a run sees them.
pub struct Pass<'a> {
    spec: &'a Spec,
    network: Network,
    images: EvaluationImages,
    viewer: Viewer,
}

impl<'a> Pass<'a> {
    /// Loads the checkpoint. `statistics` are those of the run's training images, where its input wants them.
    ///
    /// # Errors
    /// A user error for a device that is not there and for a checkpoint that cannot be loaded; libtorch's.
    pub fn new(
        spec: &'a Spec,
        checkpoint: &Path,
        statistics: Option<ChannelStatistics>,
        images: Images,
    ) -> Result<Self> {
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
        let gpu = DeviceName::is_gpu(&device_name);
        let images = EvaluationImages::new(images, spec, &preprocessor, &device, gpu)?;
        Ok(Pass {
            spec,
            network,
            viewer: Viewer {
                device: device_name,
                weights: weights.to_owned(),
                views: images.views.len(),
            },
            images,
        })
    }

    /// What looks at the images.
    pub fn viewer(&self) -> Viewer {
        self.viewer.clone()
    }

    /// Gives `count` each batch: which images it has, their labels, the logits of the central crop, and the mean of those of all
    /// views, both [n, classes].
    ///
    /// # Errors
    /// libtorch's, and those of `count`.
    pub fn run(
        &mut self,
        mut count: impl FnMut(Range<usize>, &[i64], &[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (total, size) = (self.images.images.len(), self.spec.eval.batch_size);
        for first in (0..total).step_by(size) {
            let batch = first..total.min(first + size);
            let images = &self.images.images;
            let labels = batch.clone().map(|index| images.label(index).into());
            let labels: Vec<i64> = labels.collect();
            let (mut plain, mut mean) = (Vec::new(), Vec::new());
            for view in 0..self.images.views.len() {
                let inputs = self.images.inputs(view, batch.clone())?;
                let logits = backend::logits(&self.network, self.spec, inputs)?;
                self.images.views[view].add(&logits, &mut mean);
                if view == 0 {
                    plain = logits;
                }
            }
            count(batch, &labels, &plain, &mean)?;
        }
        Ok(())
    }
}
