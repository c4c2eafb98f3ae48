//! What an experiment is: every constant that a run depends on, with the tutorial's values as defaults.
//!
//! A file under `experiments/` states only what differs from these defaults. [`load`] reads it; the
//! trainer and the evaluator read the resolved copy frozen into the run directory.

mod average;
mod base;
mod change;
mod constraints;
mod device;
mod fields;
mod frozen;
mod layer;
mod load;
mod names;
mod network;
mod optimizer;
mod overrides;
mod read;
pub mod reference;
mod rule;
mod schedule;
mod schema;
mod section;
mod stop;
mod sweep_reference;
mod synonyms;
#[cfg(test)]
mod tests;
mod unused;

pub use average::{Average, AverageName};
pub use base::Base;
pub use change::Change;
pub use constraints::{MAX_WEIGHTS, SIDE, uneven};
pub use device::DeviceName;
pub(crate) use fields::{Field, text};
pub use load::{Experiment, load};
pub use names::available;
pub(crate) use names::{did_you_mean, nearest};
pub use network::{
    CHANNELS, CLASS_COUNT, Convolution, Dense, Init, LAYERS, LayerParameters, Linear, Network,
    Norm, NormName, Pool, weights_name,
};
pub use optimizer::{Optimizer, OptimizerName};
pub use overrides::Override;
pub(crate) use reference::glob;
pub(crate) use rule::{Numbers, describe, shortened};
pub use schedule::{Interpolation, Schedule, ScheduleName, Unit};
pub use schema::schema;
pub use section::{Node, Section};
pub use stop::Stop;
pub(crate) use sweep_reference::{DISTRIBUTIONS, sweep_keys, sweep_refusal};
pub(crate) use synonyms::meant_by;

use crate::bail_user;
use anyhow::Result;
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
    /// What training minimises.
    pub loss: Loss,
    /// What a step makes of the gradient, and the moving average of the weights.
    pub optimizer: Optimizer,
    /// What the learning rate is multiplied by at each step.
    pub schedule: Schedule,
    /// The average of the weights.
    pub average: Average,
    /// The training process: how long, how often it reports and saves.
    pub train: Train,
    /// What ends training before its last step.
    pub stop: Stop,
    /// The evaluator process.
    pub eval: Eval,
}

impl Spec {
    /// How many of the `images` of the training files are trained on.
    ///
    /// # Errors
    /// A user error if those that are held out leave none, or none for an epoch of whole batches.
    pub fn training_images(&self, images: usize) -> Result<usize> {
        let held_out = self.data.validation_images;
        if held_out >= images {
            bail_user!(
                "data.validation_images: got {held_out}, want less than {images}, the number of images in the training \
                 files"
            );
        }
        let left = images - held_out;
        if self.train.images_per_epoch(left) == 0 {
            bail_user!(
                "train.batch_size: got {} with train.drop_last, want at most {}",
                self.train.batch_size,
                self.data.left_to_train_on(images)
            );
        }
        Ok(left)
    }

    /// The fields that have no effect with the values of the others.
    pub fn unused(&self) -> impl Iterator<Item = String> {
        unused::fields(self).into_iter().map(|it| it.field)
    }

    /// The defaults of a spec with this fidelity. The tutorial's summaries are all of one cadence, with which its
    /// histograms and images take most of a run's disk.
    pub fn defaults(fidelity: Fidelity) -> Self {
        let mut defaults = Spec {
            fidelity,
            ..Spec::default()
        };
        if fidelity == Fidelity::Tutorial {
            defaults.train.histograms_every = 100;
            defaults.train.images_every = 100;
        }
        defaults
    }
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
    /// The devices that train together, each in a process of its own; none: `device` alone.
    pub devices: Vec<String>,
    /// How long these processes wait for one another, in seconds.
    pub timeout_secs: u64,
    /// By what they sum their gradients.
    pub process_group: ProcessGroup,
    /// What the gradients are rounded to before they travel between these processes.
    pub reduce_precision: ReducePrecision,
    /// Whether training goes on without those that do not come back after a loss.
    pub elastic: bool,
    /// Threads of the arithmetic; 0 means one for each core.
    pub threads: usize,
    /// Of the products in convolutions and dense layers.
    pub precision: Precision,
    /// Whether a GPU gives the same bits each time.
    pub deterministic: bool,
}

impl Default for Compute {
    fn default() -> Self {
        Compute {
            device: "auto".into(),
            devices: Vec::new(),
            timeout_secs: 60,
            process_group: ProcessGroup::default(),
            reduce_precision: ReducePrecision::default(),
            elastic: false,
            threads: 0,
            precision: Precision::default(),
            deterministic: false,
        }
    }
}

impl Compute {
    /// How many processes of one host train together, if nobody says otherwise.
    pub fn ranks(&self) -> usize {
        self.devices.len().max(1)
    }
}

/// By what the processes that train together sum their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessGroup {
    /// NCCL where each has a GPU of its own, else Gloo.
    #[default]
    Auto,
    /// Through the hosts' memory.
    Gloo,
    /// Between the GPUs.
    Nccl,
}

/// What the gradients of the dense layers, nine tenths of all, are rounded to before processes that train together sum them. The
/// additions are in float32, or NCCL's. All else that travels is float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReducePrecision {
    /// Not at all.
    #[default]
    Float32,
    /// bfloat16: by Gloo their mean as well, by NCCL their sums on the way.
    Bf16,
}

/// What the factors of products are rounded to. Sums, weights, losses and the update are float32 in any case, but for Muon's
/// products on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not at all.
    Float32,
    /// On a GPU TensorFloat-32: 10 bits of mantissa instead of 23. The same as `float32` elsewhere.
    #[default]
    Tf32,
    /// As `tf32`, in convolutions only: libtorch's own setting, which runs had before there was a choice.
    #[serde(rename = "tf32-conv")]
    Tf32Conv,
    /// bfloat16: 7 bits of mantissa, in half the memory; so are the activations between the products.
    Bf16,
}

impl Precision {
    /// As specs have it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Float32 => "float32",
            Precision::Tf32 => "tf32",
            Precision::Tf32Conv => "tf32-conv",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Which images the experiment trains and is evaluated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `cifar10` (the official archive, or any directory in its layout) or `synthetic` (generated by runboard).
    pub source: Source,
    /// Directory that holds the binary files, or `cifar-10-batches-bin/` with them. Relative to the directory that
    /// `experiments/` is in, if it is set in a file; on the command line to the current one.
    pub folder: PathBuf,
    /// Fetch the official archive when `folder` is the default one and lacks the files (`source: cifar10` only).
    pub download: bool,
    /// Batches kept ready ahead of training.
    pub prefetch: usize,
    /// Background threads that prepare batches.
    pub workers: usize,
    /// Images of the training files that are not trained on but scored beside the test images; the seed chooses them.
    pub validation_images: usize,
    /// Number of synthetic images (`source: synthetic` only).
    pub synthetic: Synthetic,
}

impl Data {
    /// How many of the `images` of the training files are trained on, in words.
    fn left_to_train_on(&self, images: usize) -> String {
        let left = images.saturating_sub(self.validation_images);
        match self.validation_images {
            0 => format!("{left}, the number of training images"),
            held_out => format!(
                "{left}: the {images} training images less the {held_out} of data.validation_images"
            ),
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Data {
            source: Source::Cifar10,
            folder: PathBuf::from("data/cifar10"),
            download: true,
            prefetch: 4,
            workers: 1,
            validation_images: 0,
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

/// The procedurally generated images.
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

/// From stored bytes to the network's input. Evaluation takes the central crop and normalises it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Side of the square crop, in pixels: random in training, central in evaluation.
    pub crop: usize,
    /// Pixels that are put around a training image before it is cropped.
    pub pad: usize,
    /// What is in them.
    pub pad_mode: PadMode,
    /// Which training images are mirrored left to right.
    pub flip: Flip,
    /// Added to all pixels: uniform in [-brightness, brightness), on the 0..255 scale.
    pub brightness: f32,
    /// Distance of each channel from its mean is multiplied by a factor uniform in [lower, upper).
    pub contrast: Contrast,
    /// Side of the square of a training input that is set to 0, in pixels; 0 for none.
    pub cutout: usize,
    /// Side of the square of a training input that is taken from another one of its batch, in pixels; 0 for none.
    pub cutmix: usize,
    /// Which mean is subtracted, and by which standard deviation is divided.
    pub normalize: Normalize,
}

impl Input {
    /// How much of a training input is of its own image, and so what its own label counts; the rest is of the image that
    /// the square of cutmix is from.
    pub fn own_share(&self) -> f64 {
        1.0 - (self.cutmix * self.cutmix) as f64 / (self.crop * self.crop) as f64
    }
}

/// What surrounds a padded image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// Black.
    #[default]
    Zero,
    /// The image, mirrored at its outermost pixels, which are not repeated.
    Reflect,
}

/// Which training images are mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Each with probability one half, each time.
    #[default]
    Random,
    /// A random half in the first epoch, the other half in the second, and so on in turns.
    Alternating,
    /// None.
    None,
}

/// What makes values of bytes whose mean is about 0 and whose standard deviation is about 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// The mean of the crop and max(its standard deviation, 1/sqrt(values)), of all channels together.
    #[default]
    Image,
    /// Mean and standard deviation of each channel over all training images.
    Dataset,
    /// Nothing: values are those of the bytes, 0 to 255.
    None,
}

impl Default for Input {
    fn default() -> Self {
        Input {
            crop: 24,
            pad: 0,
            pad_mode: PadMode::Zero,
            flip: Flip::Random,
            brightness: 63.0,
            contrast: Contrast {
                lower: 0.2,
                upper: 1.8,
            },
            cutout: 0,
            cutmix: 0,
            normalize: Normalize::Image,
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

/// What training minimises beside the layers' weight decay: the mean cross-entropy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Share of the label that is spread evenly over all classes.
    pub label_smoothing: f32,
}

/// The training process. Cadences count steps; step 0 counts for all of them, as in the tutorial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The run ends when this many steps have been taken; none where `epochs` says when. See [`Train::total_steps`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The run ends when the training images have been seen so often; none where `steps` says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Images a step.
    pub batch_size: usize,
    /// An epoch ends with its last whole batch; else the images that are left begin the next one.
    pub drop_last: bool,
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
    /// Training diverges whose loss is above this times its first one for some steps; 0: no such limit.
    pub divergence_factor: u64,
    /// What to do when training diverges, or the loss or the weights are no finite numbers any more.
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
            steps: Some(100_000),
            epochs: None,
            batch_size: 128,
            drop_last: false,
            log_every: 10,
            scalars_every: 100,
            histograms_every: 1_000,
            images_every: 1_000,
            checkpoint_every: 1_000,
            keep_checkpoints: 5,
            keep_every: 0,
            keep_best: true,
            divergence_factor: 1_000,
            on_divergence: OnDivergence::Stop,
            max_rollbacks: 3,
            rollback_factor: 0.5,
            restarts: 3,
        }
    }
}

impl Train {
    /// How many of `images` training images an epoch takes: all, or those of its whole batches.
    pub fn images_per_epoch(&self, images: usize) -> usize {
        match self.drop_last {
            true => images - images % self.batch_size,
            false => images,
        }
    }

    /// Steps of an epoch of `images` training images; not a whole number where a batch holds images of two epochs.
    pub fn steps_per_epoch(&self, images: usize) -> f64 {
        self.images_per_epoch(images) as f64 / self.batch_size as f64
    }

    /// Steps of a run on `images` training images. Epochs are rounded up to whole steps.
    pub fn total_steps(&self, images: usize) -> u64 {
        match (self.steps, self.epochs) {
            (Some(steps), _) => steps,
            (None, epochs) => {
                let steps = epochs.unwrap_or_default() * self.steps_per_epoch(images);
                // 1.1 * 500 is 550.0000000000001, which is not another step.
                (steps * (1.0 - 1e-12)).ceil().max(1.0) as u64
            }
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

/// Of which views of a test image the logits are averaged, beside those of the image itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tta {
    /// Of none.
    #[default]
    None,
    /// The central crop and its mirror image.
    Mirror,
    /// These, and both a pixel further up and left, and down and right.
    MirrorTranslate,
    /// The crops at the centre and in the four corners, and their mirror images.
    TenCrop,
}

/// The evaluator process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Test-time augmentation.
    pub tta: Tta,
    /// Which of the checkpoints are scored that wait for it.
    pub policy: Policy,
    /// Seconds between two looks for a new checkpoint.
    pub interval_secs: f64,
    /// Images a forward pass.
    pub batch_size: usize,
    /// As `compute.device`; `auto`: that one, or a GPU that trains not where several devices do.
    pub device: String,
    /// Threads of the evaluator's arithmetic; 0 means as many as training has.
    pub threads: usize,
}

impl Default for Eval {
    fn default() -> Self {
        Eval {
            tta: Tta::None,
            policy: Policy::Every,
            interval_secs: 300.0,
            batch_size: 500,
            device: "auto".into(),
            threads: 0,
        }
    }
}
