//! How good a checkpoint is on images with labels, as the evaluator would say.

use super::metrics::Metrics;
use super::pass::Pass;
use anyhow::Result;
use runboard::compute::{ClassScore, Measurement, Scored};
use runboard::data::{CLASS_COUNT, ChannelStatistics, Images};
use runboard::spec::Spec;
use std::path::Path;

/// The scores of the central crop and, with test-time augmentation, of all views. `statistics` are those of the run's training
/// images, where its input wants them.
///
/// # Errors
/// As [`Pass::new`] and [`Pass::run`].
pub fn score(
    spec: &Spec,
    checkpoint: &Path,
    statistics: Option<ChannelStatistics>,
    images: Images,
) -> Result<Scored> {
    let count = images.len();
    let mut pass = Pass::new(spec, checkpoint, statistics, images)?;
    let viewer = pass.viewer();
    let metrics = || Metrics::new(CLASS_COUNT, 0, spec.fidelity);
    let mut plain = metrics();
    let mut augmented = (viewer.views > 1).then(metrics);
    pass.run(|batch, labels, central, mean| {
        plain.add(central, labels, batch.start)?;
        let augmented = augmented.as_mut();
        augmented.map_or(Ok(()), |it| it.add(mean, labels, batch.start))
    })?;
    Ok(Scored {
        viewer,
        images: count,
        plain: measured(&plain),
        augmented: augmented.as_ref().map(measured),
    })
}

fn measured(metrics: &Metrics) -> Measurement {
    let confusion = metrics.confusion().chunks_exact(CLASS_COUNT);
    Measurement {
        accuracy: metrics.accuracy(),
        loss: Some(metrics.loss()).filter(|loss| loss.is_finite()),
        classes: (0..CLASS_COUNT)
            .zip(confusion)
            .map(|(class, row)| ClassScore {
                images: metrics.images(class),
                recall: metrics.recall(class),
                precision: metrics.precision(class),
                predicted_as: row.to_vec(),
            })
            .collect(),
    }
}
