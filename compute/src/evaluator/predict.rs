//! What a checkpoint makes of images that have no labels, as the evaluator would.

use super::metrics::probabilities;
use super::pass::Pass;
use anyhow::Result;
use runboard::compute::Predictions;
use runboard::data::{ChannelStatistics, Images};
use runboard::spec::Spec;
use std::path::Path;

/// The classes' probabilities of each image, by the views that the evaluation of a run with this spec takes. `statistics` are
/// those of the run's training images, where its input wants them.
///
/// # Errors
/// As [`Pass::new`] and [`Pass::run`].
pub fn predict(
    spec: &Spec,
    checkpoint: &Path,
    statistics: Option<ChannelStatistics>,
    images: Images,
) -> Result<Predictions> {
    let mut predictions = Vec::with_capacity(images.len());
    let mut pass = Pass::new(spec, checkpoint, statistics, images)?;
    pass.run(|batch, _, _, mean| {
        let classes = mean.len() / batch.len();
        predictions.extend(mean.chunks_exact(classes).map(probabilities));
        Ok(())
    })?;
    Ok(Predictions {
        viewer: pass.viewer(),
        images: predictions,
    })
}
