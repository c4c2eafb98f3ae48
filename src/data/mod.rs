//! Images: a data set's files, the augmentation of its images, and the batches that a step sees.
//!
//! ```text
//! sources (fetch, import, synthetic) -> files -> Images -> augmentation -> stream -> Batch
//! ```
//!
//! This module holds the layout of the files ([`Images`]), augmentation, and the streams of batches
//! ([`BatchStream`] for training, [`evaluation_batch`]); [`sources`] holds where the files come from: download,
//! import, generation. Neither knows the network, nor what becomes of a batch.

mod augmentation;
mod files;
mod fingerprint;
mod format;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
mod images;
mod prefetch;
mod preprocessor;
pub mod random;
mod sources;
mod stream;
mod summary;
mod views;

pub use augmentation::Augmentation;
pub use files::{class_names, count_training_images};
pub use fingerprint::Fingerprint;
pub use format::{CHANNELS, CLASS_COUNT, CLASSES, RECORD_BYTES, SIDE, Split};
pub use images::Images;
pub use preprocessor::{ChannelStatistics, Preprocessor};
pub use sources::{
    ChangeCounts, Changes, Fetch, Picture, Plan, find, find_pictures, import, plan, prepare,
    synthesize,
};
pub use stream::{
    Batch, BatchBuilder, BatchPlan, BatchStream, Batching, Share, StreamItem, evaluation_batch,
    evaluation_plan,
};
pub use summary::{Summary, check};
pub use views::{View, views};
