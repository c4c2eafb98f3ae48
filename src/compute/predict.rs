//! What a checkpoint's network makes of images.

use super::program::Asked;
use crate::data::{ChannelStatistics, Images};
use crate::spec::Spec;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::BufRead;
use std::path::Path;

/// How images are looked at. It is the first line of what the program gets, the images' records follow.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// As it is frozen in a run; it says the network, the input, the views of an image and the device.
    spec: Value,
    /// What the images are normalised by, where the spec wants it.
    statistics: Option<ChannelStatistics>,
}

/// What looked at the images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Viewer {
    /// What computed.
    pub device: String,
    /// The group of tensors in the checkpoint that is the network's weights: `ema`, or `weights` without an average.
    pub weights: String,
    /// How many views of an image were averaged.
    pub views: usize,
}

/// What the program makes of the images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Predictions {
    pub viewer: Viewer,
    /// The probability of each class, of each image; none where the network's output is no finite number.
    pub images: Vec<Option<Vec<f64>>>,
}

impl Question {
    /// The question and the images that [`predict`] and [`score`](super::score()) send.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(input: &mut impl BufRead) -> Result<(Spec, Option<ChannelStatistics>, Images)> {
        let mut line = String::new();
        let mut records = Vec::new();
        input
            .read_line(&mut line)
            .and_then(|_| input.read_to_end(&mut records))
            .context("failed to read the question")?;
        let Question { spec, statistics } = serde_json::from_str(&line)?;
        let spec = Spec::parse_frozen(Path::new("standard input"), spec.to_string())?;
        Ok((spec, statistics, Images::from_records(records)))
    }
}

/// What the averaged weights of a checkpoint make of images, by the views that the spec's evaluation takes of them, normalised
/// by these statistics where the spec wants it. The images' labels have no say.
///
/// # Errors
/// A user error for a device that is not there and for a checkpoint that cannot be loaded; the program's.
pub fn predict(
    spec: &Spec,
    statistics: Option<ChannelStatistics>,
    checkpoint: &Path,
    images: &Images,
) -> Result<Predictions> {
    ask("predict", spec, statistics, checkpoint, images)
}

/// What the program's command answers about a checkpoint and images.
pub(super) fn ask<T: DeserializeOwned>(
    command: &str,
    spec: &Spec,
    statistics: Option<ChannelStatistics>,
    checkpoint: &Path,
    images: &Images,
) -> Result<T> {
    let question = Question {
        spec: spec.to_frozen_json()?,
        statistics,
    };
    let mut input = serde_json::to_vec(&question)?;
    input.push(b'\n');
    input.extend_from_slice(images.records());
    let words = [
        command.as_ref(),
        "--checkpoint".as_ref(),
        checkpoint.as_os_str(),
    ];
    Asked::start(&words)?.answer(&input)
}
