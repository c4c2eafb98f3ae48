//! Images: a set's files, what augmentation makes of its images, and the batches that a step sees.
//!
//! ```text
//! sources (fetch, import, synthetic) -> files -> Images -> augmentation -> stream -> Batch
//! ```
//!
//! Upstairs, in this module: the layout of a set's files ([`Images`]), augmentation, and the streams of batches
//! ([`BatchStream`] for training, [`evaluation_batches`]). Downstairs, in [`sources`]: how the files come to be
//! there. Neither knows the network, nor what becomes of a batch.

pub mod augmentation;
mod cifar;
mod files;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
mod prefetch;
mod random;
mod sources;
mod stream;
mod summary;

pub use cifar::{CHANNELS, CLASS_COUNT, CLASSES, Images, SIDE, Split};
pub use files::class_names;
pub use sources::{draw, import, prepare};
pub use stream::{Batch, BatchPlan, BatchStream, Prepared, evaluation_batches};
pub use summary::{Summary, check};
