//! What an experiment is: every constant that a run depends on, with the tutorial's values as defaults.
//!
//! A file under `experiments/` states only what differs from these defaults. [`load`] reads it; the
//! trainer and the evaluator read the resolved copy frozen into the run directory.

mod constraints;
mod fields;
mod layer;
mod load;
mod names;
mod network;
mod overrides;
mod read;
mod rule;
#[cfg(test)]
mod tests;

pub use constraints::MAX_WEIGHTS;
pub use load::{Experiment, load};
pub use names::available;
pub use network::{Convolution, Dense, Linear, Network, Norm, Pool};
pub use overrides::Override;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A resolved experiment. Field by field the same tree as the YAML file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// One line for people: what this experiment is for.
    pub description: String,
    /// Every random choice of the run follows from it.
    pub seed: Seed,
    /// Whether the tutorial's quirks are kept.
    pub fidelity: Fidelity,
    /// Where and with how many threads the arithmetic runs.
    pub compute: Compute,
    /// Which images.
    pub data: Data,
    /// What happens to an image on its way into the network.
    pub input: Input,
    /// The network and its initialisation.
    pub network: Network,
    /// Plain stochastic gradient descent, its schedule and the moving average of the weights.
    pub optimizer: Optimizer,
    /// The training process: how long, how often it reports and saves.
    pub train: Train,
    /// The evaluator process.
    pub eval: Eval,
}

/// The seed of all random streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Default for Seed {
    fn default() -> Self {
        Seed(1)
    }
}

/// What to do where the tutorial's numbers are not what they should be (docs/fidelity.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fidelity {
    /// Do it right: every test image counts once, averages of losses are debiased.
    #[default]
    Exact,
    /// As the tutorial does it: evaluation wraps around to whole batches, averages start at 0.
    Tutorial,
}

/// Where the arithmetic runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// `auto` (the first GPU if there is one), `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Threads of the arithmetic; 0 means one for each core.
    pub threads: usize,
    /// Of the products in convolutions and dense layers.
    pub precision: Precision,
}

impl Default for Compute {
    fn default() -> Self {
        Compute {
            device: "auto".into(),
            threads: 0,
            precision: Precision::default(),
        }
    }
}

/// What the factors of the network's products are rounded to. Sums, weights, losses and the update are float32
/// in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not at all.
    Float32,
    /// On a GPU TensorFloat-32: 10 bits of mantissa instead of 23. The same as `float32` elsewhere.
    #[default]
    Tf32,
    /// bfloat16: 7 bits of mantissa, in half the memory; so are the activations between the products.
    Bf16,
}

/// Which images the experiment trains and is evaluated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `cifar10` (the official archive, or any directory in its layout) or `synthetic` (drawn by runboard).
    pub source: Source,
    /// Directory that holds the binary files, or `cifar-10-batches-bin/` with them. Relative to the
    /// current directory.
    pub folder: PathBuf,
    /// Fetch the official archive when `folder` lacks the files (`source: cifar10` only).
    pub download: bool,
    /// Batches kept ready ahead of training.
    pub prefetch: usize,
    /// Background threads that prepare batches.
    pub workers: usize,
    /// Size of the drawn set (`source: synthetic` only).
    pub synthetic: Synthetic,
}

impl Default for Data {
    fn default() -> Self {
        Data {
            source: Source::Cifar10,
            folder: PathBuf::from("data/cifar10"),
            download: true,
            prefetch: 4,
            workers: 1,
            synthetic: Synthetic::default(),
        }
    }
}

/// Where a data directory's files come from when they are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Cifar10,
    Synthetic,
}

/// The procedurally drawn set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// Images in the training files, spread evenly over the five of them.
    pub train_images: usize,
    /// Images in the test file.
    pub test_images: usize,
    /// Seed of the drawing; separate from the run's, so that runs compare on the same images.
    pub seed: Seed,
}

impl Default for Synthetic {
    fn default() -> Self {
        Synthetic {
            train_images: 50_000,
            test_images: 10_000,
            seed: Seed(1),
        }
    }
}

/// From stored bytes to the network's input. Evaluation takes the central crop and standardises it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Side of the square crop, in pixels: random in training, central in evaluation.
    pub crop: usize,
    /// Mirror left to right with probability one half.
    pub flip: bool,
    /// Added to all pixels: uniform in [-brightness, brightness), on the 0..255 scale.
    pub brightness: f32,
    /// Distance of each channel from its mean is multiplied by a factor uniform in [lower, upper).
    pub contrast: Contrast,
    /// Subtract the image's mean, divide by max(standard deviation, 1/sqrt(values)).
    pub standardize: bool,
}

impl Default for Input {
    fn default() -> Self {
        Input {
            crop: 24,
            flip: true,
            brightness: 63.0,
            contrast: Contrast {
                lower: 0.2,
                upper: 1.8,
            },
            standardize: true,
        }
    }
}

/// Bounds of the contrast factor; equal bounds of 1 switch it off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    pub lower: f32,
    pub upper: f32,
}

/// Gradient descent: w -= learning rate * gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Learning rate of the first step.
    pub learning_rate: f64,
    /// The rate is multiplied by this at every drop.
    pub decay_factor: f64,
    /// Epochs between drops.
    pub epochs_per_decay: f64,
    /// Drop at once (true) or glide between drops (false).
    pub staircase: bool,
    /// Upper bound of the moving average's decay; early on it is (1 + step) / (10 + step).
    pub ema_decay: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            learning_rate: 0.1,
            decay_factor: 0.1,
            epochs_per_decay: 350.0,
            staircase: true,
            ema_decay: 0.9999,
        }
    }
}

/// The training process. Cadences count steps; step 0 counts for all of them, as in the tutorial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The run ends when this many steps have been taken.
    pub steps: u64,
    /// Images a step.
    pub batch_size: usize,
    /// A console line every so many steps.
    pub log_every: u64,
    /// Curves of losses, rates and times every so many steps.
    pub scalars_every: u64,
    /// Histograms of weights, gradients and activations, and the first layer's filters, every so many steps.
    pub histograms_every: u64,
    /// Input images every so many steps.
    pub images_every: u64,
    /// A checkpoint every so many steps, and one at the end.
    pub checkpoint_every: u64,
    /// How many of the latest checkpoints stay.
    pub keep_checkpoints: usize,
    /// Checkpoints of steps that are multiples of this stay as well; 0: none.
    pub keep_every: u64,
    /// The checkpoint with the best accuracy by evaluation stays as well.
    pub keep_best: bool,
    /// What to do when the loss or the weights are no finite numbers any more.
    pub on_divergence: OnDivergence,
    /// How often `rollback` goes back before it stops after all.
    pub max_rollbacks: usize,
    /// The learning rate is multiplied by this at every rollback.
    pub rollback_factor: f64,
    /// How often in a row, with no new checkpoint between, a trainer that died is started again.
    pub restarts: u32,
}

/// What to do when training diverges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDivergence {
    /// Stop with an error; the checkpoints stay.
    #[default]
    Stop,
    /// Go back to the last good checkpoint and on from there with a lower learning rate.
    Rollback,
}

impl Default for Train {
    fn default() -> Self {
        Train {
            steps: 100_000,
            batch_size: 128,
            log_every: 10,
            scalars_every: 100,
            histograms_every: 100,
            images_every: 100,
            checkpoint_every: 1_000,
            keep_checkpoints: 5,
            keep_every: 0,
            keep_best: true,
            on_divergence: OnDivergence::Stop,
            max_rollbacks: 3,
            rollback_factor: 0.5,
            restarts: 3,
        }
    }
}

/// Which of several checkpoints the evaluator scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// All of them, the oldest first.
    Every,
    /// The newest; the older ones never.
    Latest,
}

/// The evaluator process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Which of the checkpoints are scored that wait for it.
    pub policy: Policy,
    /// Seconds between two looks for a new checkpoint.
    pub interval_secs: f64,
    /// Images a forward pass.
    pub batch_size: usize,
    /// Threads of the evaluator's arithmetic; 0 means as many as training has.
    pub threads: usize,
}

impl Default for Eval {
    fn default() -> Self {
        Eval {
            policy: Policy::Every,
            interval_secs: 300.0,
            batch_size: 500,
            threads: 0,
        }
    }
}
