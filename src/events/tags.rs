//! Every series of a run that TensorBoard shows: its tag, what it means, who writes it and for which plugin.
//!
//! Whoever writes or reads a series takes its name from here. docs/tags.md lists this table for people and for the
//! tests in Python. Tags that belong to a plugin's format, such as that of the Custom Scalars layout, are where the
//! format is.
//!
//! The names are the tutorial's where it has them, so that old and new curves lie over each other.

use super::tag::Tag;
use Plugin::{Histograms, Images, PrCurves, Scalars, Text};
use Writer::{Evaluator, Trainer};

/// A series, or one of each layer, parameter, class or image: its name has a placeholder then, as in
/// `{layer}/sparsity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The tag, with the placeholder.
    pub name: &'static str,
    /// What the values mean, in Markdown; TensorBoard shows it beside the series.
    pub description: &'static str,
    /// Whose event files it is in.
    pub writer: Writer,
    /// What shows it.
    pub plugin: Plugin,
    /// Whether the values depend on the machine and its load, so that they differ between runs of one spec.
    pub measured: bool,
}

/// Whose event files a series is in: each writer has a directory of its own in the run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// `train/`
    Trainer,
    /// `eval/`
    Evaluator,
}

/// What shows a series in TensorBoard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    Scalars,
    /// And the distributions.
    Histograms,
    Images,
    PrCurves,
    Text,
}

impl Series {
    /// The tag of a series whose name has no placeholder.
    pub fn tag(&self) -> Tag {
        debug_assert!(!self.name.contains('{'), "{} of what?", self.name);
        self.named(self.name)
    }

    /// The tag of one of several series: of this layer, parameter, class or image.
    pub fn of(&self, which: &str) -> Tag {
        match self.name.split_once('{').zip(self.name.split_once('}')) {
            Some(((before, _), (_, after))) => self.named(&format!("{before}{which}{after}")),
            None => self.tag(),
        }
    }

    /// What takes the placeholder in this tag, if it is one of several series.
    pub fn which<'a>(&self, tag: &'a str) -> Option<&'a str> {
        let (before, rest) = self.name.split_once('{')?;
        let (_, after) = rest.split_once('}')?;
        tag.strip_prefix(before)?.strip_suffix(after)
    }

    /// The directory of a run that has it.
    pub fn directory(&self) -> &'static str {
        match self.writer {
            Trainer => "train",
            Evaluator => "eval",
        }
    }

    fn named(&self, name: &str) -> Tag {
        Tag::new(name).description(self.description)
    }

    const fn measured(mut self) -> Self {
        self.measured = true;
        self
    }
}

const fn series(
    writer: Writer,
    plugin: Plugin,
    name: &'static str,
    description: &'static str,
) -> Series {
    Series {
        name,
        description,
        writer,
        plugin,
        measured: false,
    }
}

macro_rules! table {
    ($($name:ident = $writer:ident, $plugin:ident, $tag:literal, $description:literal $(, $measured:ident)?;)*) => {
        $(
            #[doc = concat!("`", $tag, "`: ", $description)]
            pub const $name: Series = series($writer, $plugin, $tag, $description)$(.$measured())?;
        )*

        /// All of them, in the order of the table.
        pub const ALL: &[Series] = &[$($name),*];
    };
}

table! {
    TOTAL_LOSS = Trainer, Scalars, "total_loss",
        "Mean cross-entropy of the step's batch, whose images are augmented, plus weight decay; moving average over the steps, decay 0.9.";
    TOTAL_LOSS_RAW = Trainer, Scalars, "total_loss (raw)",
        "Mean cross-entropy of the step's batch, whose images are augmented, plus weight decay.";
    CROSS_ENTROPY = Trainer, Scalars, "cross_entropy",
        "Mean cross-entropy of the step's batch, whose images are augmented; moving average over the steps, decay 0.9.";
    CROSS_ENTROPY_RAW = Trainer, Scalars, "cross_entropy (raw)",
        "Mean cross-entropy of the step's batch, whose images are augmented.";
    TRAINING_PRECISION_AT_1 = Trainer, Scalars, "Precision @ 1",
        "Share of the step's batch, whose images are augmented, whose likeliest class is their own, by the weights before the step; moving average over the steps, decay 0.9.";
    WEIGHT_LOSS = Trainer, Scalars, "{layer}/weight_loss",
        "Weight decay of the layer: its share of the total loss; moving average over the steps, decay 0.9.";
    WEIGHT_LOSS_RAW = Trainer, Scalars, "{layer}/weight_loss (raw)",
        "Weight decay of the layer: its share of the total loss.";
    LEARNING_RATE = Trainer, Scalars, "learning_rate",
        "The learning rate of the step.";
    MOMENTUM = Trainer, Scalars, "momentum",
        "The momentum of the step, for a run that has one.";
    GRADIENT_NORM = Trainer, Scalars, "norm/gradients",
        "Euclidean norm of all gradients together.";
    WEIGHT_NORM = Trainer, Scalars, "norm/weights",
        "Euclidean norm of all parameters together.";
    UPDATE_TO_WEIGHT = Trainer, Scalars, "norm/update_to_weight",
        "Norm of the step's update over the norm of the parameters; with accumulated gradients of the first update at or after the cadence.";
    LAYER_GRADIENT_NORM = Trainer, Scalars, "{layer}/gradient_norm",
        "Euclidean norm of the layer's gradients, at the cadence of histograms.";
    LAYER_WEIGHT_NORM = Trainer, Scalars, "{layer}/weight_norm",
        "Euclidean norm of the layer's parameters, at the cadence of histograms.";
    LAYER_UPDATE_TO_WEIGHT = Trainer, Scalars, "{layer}/update_to_weight",
        "Norm of the step's update of the layer over the norm of its parameters; with accumulated gradients of the first update at or after the cadence.";
    SPARSITY = Trainer, Scalars, "{layer}/sparsity",
        "Share of zeros in the layer's output.";
    STEPS_PER_SECOND = Trainer, Scalars, "global_step/sec",
        "Steps a second since the last point.", measured;
    EXAMPLES_PER_SECOND = Trainer, Scalars, "examples/sec",
        "Training images a second since the last point, of all processes that train together.", measured;
    INPUT_TIME = Trainer, Scalars, "time/input_ms",
        "Mean time that a step waited for its batch, in milliseconds.", measured;
    COMPUTE_TIME = Trainer, Scalars, "time/compute_ms",
        "Mean time of a step's forward and backward pass and update, in milliseconds.", measured;
    ALL_REDUCE_TIME = Trainer, Scalars, "time/allreduce_ms",
        "Where several processes train together: mean time that a step waited for the sum of the gradients over them and for the slowest of them, in milliseconds; where GPUs sum, also how long the GPU was at it.", measured;
    RANK_INPUT_TIME = Trainer, Scalars, "time/input_ms (rank {rank})",
        "As time/input_ms, which is of the first process, of another one that trains with it.", measured;
    PREFETCH_FULL = Trainer, Scalars, "prefetch/fraction_full",
        "Share of the prefetched batches that are ready and waiting.", measured;
    PROCESS_CORES = Trainer, Scalars, "process/cores",
        "Cores that the trainer kept busy since the last point.", measured;
    PROCESS_MEMORY = Trainer, Scalars, "process/memory_mib",
        "Resident memory of the trainer, in MiB.", measured;
    GPU_UTILISATION = Trainer, Scalars, "gpu/utilisation",
        "Share of the time in which the GPU was computing.", measured;
    GPU_MEMORY = Trainer, Scalars, "gpu/memory_mib",
        "Memory in use on the GPU, in MiB.", measured;
    PARAMETER = Trainer, Histograms, "{parameter}",
        "Values after the step.";
    GRADIENT = Trainer, Histograms, "{parameter}/gradients",
        "Gradient of the total loss, weight decay included.";
    ACTIVATIONS = Trainer, Histograms, "{layer}/activations",
        "The layer's output for the step's batch, after the step.";
    NONFINITE = Trainer, Scalars, "{histogram}/nonfinite",
        "Values that are NaN or infinite and therefore not in the histogram. No point means none.";
    INPUT_IMAGE = Trainer, Images, "images/image/{index}",
        "A training image after distortion and standardisation, over its class.";
    FILTERS = Trainer, Images, "conv1/filters",
        "The first layer's filters on one scale: grey is 0, full colours are the largest weight.";
    DESCRIPTION = Trainer, Text, "description", "";
    SPEC = Trainer, Text, "spec", "";
    SESSION = Trainer, Text, "sessions",
        "What each session of training was started from; its step is the first one that it trained.";
    ROLLBACKS = Trainer, Text, "rollbacks",
        "Each lowered the learning rate.";

    PRECISION_AT_1 = Evaluator, Scalars, "Precision @ 1",
        "Share of the test images whose likeliest class is their own, by the moving average of the weights.";
    PRECISION_AT_1_RAW = Evaluator, Scalars, "Precision @ 1 (raw weights)",
        "The same by the weights themselves.";
    EVAL_CROSS_ENTROPY = Evaluator, Scalars, "cross_entropy",
        "Mean cross-entropy over the test images, by the moving average of the weights.";
    VALIDATION_PRECISION_AT_1 = Evaluator, Scalars, "validation/Precision @ 1",
        "Share of the validation images whose likeliest class is their own, by the moving average of the weights.";
    VALIDATION_CROSS_ENTROPY = Evaluator, Scalars, "validation/cross_entropy",
        "Mean cross-entropy over the validation images, by the moving average of the weights.";
    TTA_PRECISION_AT_1 = Evaluator, Scalars, "tta/Precision @ 1",
        "Share of the test images whose likeliest class is their own by the averaged logits of several views.";
    TTA_CROSS_ENTROPY = Evaluator, Scalars, "tta/cross_entropy",
        "Mean cross-entropy over the test images of the averaged logits of several views.";
    CLASS_RECALL = Evaluator, Scalars, "recall/{class}",
        "Share of the class's test images that are taken for it.";
    CLASS_PRECISION = Evaluator, Scalars, "precision/{class}",
        "Share of the test images taken for the class that are of it.";
    CLASS_PR_CURVE = Evaluator, PrCurves, "pr/{class}",
        "Precision and recall of the class against all others.";
    MEAN_PR_CURVE = Evaluator, PrCurves, "pr/macro average",
        "Precision and recall, each the mean over the classes at the same threshold.";
    CONFUSION_MATRIX = Evaluator, Images, "confusion_matrix",
        "Test images by their class (rows) and the likeliest class (columns), and their share of the row.";
    CONFIDENT_MISTAKES = Evaluator, Images, "confident_mistakes",
        "The test images that are most confidently taken for another class.";
    CLASS_NUMBERS = Evaluator, Text, "class_numbers",
        "The classes by their numbers in the pictures. It is there if no font has all letters of their names.";

    ROLLBACK_COUNT = Evaluator, Scalars, "training/rollbacks",
        "How often training had gone back to an earlier checkpoint after a divergence.";

    // For the HParams tab, which takes every curve of the directory for a metric and shows the first five by name.
    BEST_ACCURACY = Evaluator, Scalars, "Overview/best accuracy",
        "Precision @ 1 of the best checkpoint so far: by the validation images if there are any, else by the test images.";
    MINUTES = Evaluator, Scalars, "Overview/minutes",
        "How long the run's sessions took up to now, in minutes.", measured;
    TRAINING_LOSS = Evaluator, Scalars, "Overview/training loss",
        "Training's total_loss at the checkpoint: of augmented images, averaged over steps, weight decay included.";
    STATE = Evaluator, Scalars, "Overview/state",
        "How the run stands: 1 running, 2 finished, 0 stopped, -1 failed. The last point is the present one.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::Path;
    use std::{env, fs};

    #[test]
    fn series_is_named_by_what_takes_the_placeholder() {
        assert_eq!(
            WEIGHT_LOSS_RAW.of("conv1").name(),
            "conv1/weight_loss (raw)"
        );
        assert_eq!(CLASS_RECALL.of("cat").name(), "recall/cat");
        assert_eq!(CLASS_RECALL.which("recall/cat"), Some("cat"));
        assert_eq!(CLASS_RECALL.which("precision/cat"), None);
        assert_eq!(LEARNING_RATE.which(LEARNING_RATE.name), None);
        assert_eq!(LEARNING_RATE.of("cat"), LEARNING_RATE.tag());
    }

    #[test]
    fn table_has_every_series_once() {
        let names: BTreeSet<_> = ALL
            .iter()
            .map(|series| (series.writer as u8, series.name))
            .collect();
        assert_eq!(names.len(), ALL.len());
    }

    /// The table as docs/tags.md shows it.
    fn markdown() -> String {
        let mut text = String::from(
            "# Tags\n\n\
             What a run shows in TensorBoard. This is the table of src/events/tags.rs, which a test holds equal; \
             the tests in Python\nread it here. A name in braces stands for each layer, parameter, class or image. \
             Measured values depend on the machine\nand its load; all others follow from the spec.\n\n\
             | tag | directory | plugin | measured | |\n|---|---|---|---|---|\n",
        );
        for series in ALL {
            let directory = series.directory();
            let plugin = match series.plugin {
                Scalars => "scalars",
                Histograms => "histograms",
                Images => "images",
                PrCurves => "pr_curves",
                Text => "text",
            };
            let measured = if series.measured { "yes" } else { "no" };
            let (name, description) = (series.name, series.description);
            writeln!(
                text,
                "| `{name}` | {directory} | {plugin} | {measured} | {description} |"
            )
            .unwrap();
        }
        text
    }

    #[test]
    fn table_is_that_of_the_docs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tags.md");
        if env::var_os("WRITE_DOCS").is_some() {
            fs::write(&path, markdown()).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap() == markdown(),
            "docs/tags.md differs from src/events/tags.rs; `make docs` renews it"
        );
    }
}
