//! How good a checkpoint's network is on images with labels.

use super::predict::{Viewer, ask};
use crate::data::{ChannelStatistics, Images};
use crate::spec::Spec;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The program's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scored {
    pub viewer: Viewer,
    /// How many images were looked at.
    pub images: usize,
    /// By the central crop of each.
    pub plain: Measurement,
    /// By the mean of the logits of all views; none without test-time augmentation.
    pub augmented: Option<Measurement>,
}

/// Metrics over all images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// In 0..=1.
    pub accuracy: f64,
    /// Mean cross-entropy; none where it is no finite number.
    pub loss: Option<f64>,
    /// In the order of the labels.
    pub classes: Vec<ClassScore>,
}

/// Metrics of a class.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassScore {
    /// How many images are of it.
    pub images: usize,
    /// Share of those that are predicted to be; none of a class without images.
    pub recall: Option<f64>,
    /// Share of the images predicted to be of it that are; none where none is.
    pub precision: Option<f64>,
    /// How many of its images are predicted to be of each class. An image without a prediction is in none.
    pub predicted_as: Vec<u64>,
}

/// What the averaged weights of a checkpoint score on images, by the views that the spec's evaluation takes of them, normalised by
/// these statistics where the spec wants it.
///
/// # Errors
/// As [`predict`](super::predict()).
pub fn score(
    spec: &Spec,
    statistics: Option<ChannelStatistics>,
    checkpoint: &Path,
    images: &Images,
) -> Result<Scored> {
    ask("score", spec, statistics, checkpoint, images)
}
