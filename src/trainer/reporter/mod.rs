//! What training shows in TensorBoard: tags, cadences, descriptions.
//!
//! Tags are the tutorial's where it has them, so that old and new curves lie over each other.

mod layout;

use crate::backend::{self, Losses};
use crate::checkpoint::Rollback;
use crate::events::{EventWriter, Summaries, Tag};
use crate::model::{LAYERS, NamedTensor, Network};
use crate::pictures;
use crate::schedule::Average;
use crate::spec::Spec;
use crate::trainer::graph::graph;
use crate::trainer::system_metrics::SystemMetrics;
use anyhow::Result;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// A step that was taken, as far as it is reported.
pub struct StepOutput {
    /// Counted from 0.
    pub step: u64,
    /// Of the total loss, before the step.
    pub gradients: Network,
    pub learning_rate: f64,
    /// The batch, [n, side, side, 3] as the network saw it.
    pub images: Tensor<4>,
    /// How long the step waited for its batch.
    pub waited: Duration,
    /// How long the rest of it took.
    pub computed: Duration,
}

/// Writes the trainer's summaries at the spec's cadences.
pub struct Reporter {
    events: EventWriter,
    spec: Spec,
    /// Moving averages of the losses, by tag; they take in every step.
    averages: BTreeMap<String, Average>,
    /// Those taken in last, by tag.
    losses: Vec<(String, f64)>,
    meter: SystemMetrics,
    /// Since the last scalars: time, steps, and how long they waited and computed.
    since: Instant,
    steps: u32,
    waited: Duration,
    computed: Duration,
}

impl Reporter {
    /// Start at the step `first`, with the averages of the checkpoint before it; `gpu` says whether an NVIDIA
    /// GPU computes.
    ///
    /// # Errors
    /// The event file cannot be made.
    pub fn start(
        dir: &Path,
        spec: &Spec,
        first: u64,
        averages: BTreeMap<String, Average>,
        gpu: bool,
    ) -> Result<Self> {
        Ok(Reporter {
            events: EventWriter::resume(dir, first)?,
            spec: spec.clone(),
            averages,
            losses: Vec::new(),
            meter: SystemMetrics::new(gpu),
            since: Instant::now(),
            steps: 0,
            waited: Duration::ZERO,
            computed: Duration::ZERO,
        })
    }

    /// What a run shows once, at its first step: what it is, its network, and which curves belong together.
    ///
    /// # Errors
    /// libtorch's.
    pub fn introduce(&self, provenance: &str, network: &Network, device: &Device) -> Result<()> {
        let spec = self.spec.to_yaml()?;
        let description = match self.spec.description.as_str() {
            "" => "(none)",
            text => text,
        };
        let fenced =
            |language: &str, text: &str| format!("```{language}\n{}\n```", text.trim_end());
        let mut summaries = Summaries::at(0);
        summaries
            .text(&Tag::new("description"), description)
            .text(&Tag::new("spec"), &fenced("yaml", &spec))
            .text(&Tag::new("provenance"), &fenced("json", provenance))
            .layout(layout::LAYOUT);
        self.events.write(&summaries);
        self.events.graph(&graph(&self.spec, network, device)?);
        Ok(())
    }

    /// The moving averages of the losses, by tag.
    pub fn averages(&self) -> &BTreeMap<String, Average> {
        &self.averages
    }

    /// Say what training has come back from; the session begins at `step`.
    pub fn show_rollbacks(&self, step: u64, rollbacks: &[Rollback]) {
        let lines: Vec<String> = rollbacks.iter().map(|it| format!("- {it}")).collect();
        let tag = Tag::new("rollbacks").description("Each lowered the learning rate.");
        self.events
            .write(Summaries::at(step).text(&tag, &lines.join("\n")));
    }

    /// Show the losses of a step that cannot be taken, whatever the cadence: NaN is then a mark in the curves.
    pub fn show_divergence(&mut self, step: u64, losses: Losses) {
        self.take_in(losses);
        let mut summaries = Summaries::at(step);
        self.add_losses(&mut summaries);
        self.events.write(&summaries);
        self.flush();
    }

    /// Whether something is written of this step.
    pub fn shows(&self, step: u64) -> bool {
        let train = &self.spec.train;
        let cadences = [
            train.scalars_every,
            train.histograms_every,
            train.images_every,
        ];
        cadences.into_iter().any(|every| step.is_multiple_of(every))
    }

    /// Take in a step, and write what its cadences ask for. `network` has taken the step; `ready` batches
    /// are waiting. Where something is shown of it, its losses have been taken in.
    ///
    /// # Errors
    /// libtorch's.
    pub fn report(&mut self, taken: &StepOutput, network: &Network, ready: usize) -> Result<()> {
        self.steps += 1;
        self.waited += taken.waited;
        self.computed += taken.computed;

        let step = taken.step;
        let train = &self.spec.train;
        let scalars = step.is_multiple_of(train.scalars_every);
        let histograms = step.is_multiple_of(train.histograms_every);
        let images = step.is_multiple_of(train.images_every);
        if !self.shows(step) {
            return Ok(());
        }
        let mut summaries = Summaries::at(step);
        if scalars || histograms {
            let weights = network.named();
            let gradients = taken.gradients.named();
            if scalars {
                self.add_losses(&mut summaries);
                self.add_norms(&mut summaries, taken.learning_rate, &weights, &gradients);
                self.add_pace(&mut summaries, ready);
            }
            if histograms {
                add_parameters(&mut summaries, &weights, &gradients);
                self.add_activations(&mut summaries, network, &taken.images)?;
                add_filters(&mut summaries, &weights);
            }
        }
        if images {
            add_inputs(&mut summaries, &taken.images);
        }
        self.events.write(&summaries);
        Ok(())
    }

    /// Wait until the curves are in the file, or the disk refuses them.
    pub fn flush(&self) {
        self.events.flush();
    }

    /// Take a step's losses into their averages; those of every step, in order.
    pub fn take_in(&mut self, losses: Losses) {
        self.losses = named(losses);
        for (tag, loss) in &self.losses {
            self.averages.entry(tag.clone()).or_default().update(*loss);
        }
    }

    fn add_losses(&self, summaries: &mut Summaries) {
        for (tag, loss) in &self.losses {
            let what = match tag.as_str() {
                "total_loss" => "Mean cross-entropy of the step's batch plus weight decay",
                "cross_entropy" => "Mean cross-entropy of the step's batch",
                _ => "Weight decay of the layer: its share of the total loss",
            };
            let raw = Tag::new(format!("{tag} (raw)")).description(format!("{what}."));
            summaries.scalar(&raw, *loss);
            let average = self.averages[tag].value(self.spec.fidelity);
            let what = format!("{what}; moving average over the steps, decay 0.9.");
            summaries.scalar(&Tag::new(tag).description(what), average);
        }
    }

    fn add_norms(
        &self,
        summaries: &mut Summaries,
        learning_rate: f64,
        weights: &[NamedTensor],
        gradients: &[NamedTensor],
    ) {
        let (weight, gradient) = (norm(weights), norm(gradients));
        let mut add = |tag: &str, what: &str, value: f64| {
            summaries.scalar(&Tag::new(tag).description(what), value);
        };
        add(
            "learning_rate",
            "Factor of the gradient in the step.",
            learning_rate,
        );
        add(
            "norm/gradients",
            "Euclidean norm of all gradients together.",
            gradient,
        );
        add(
            "norm/weights",
            "Euclidean norm of all parameters together.",
            weight,
        );
        add(
            "norm/update_to_weight",
            "Norm of the step's update over the norm of the parameters.",
            learning_rate * gradient / weight,
        );
    }

    /// Speed and where the time went since the last scalars, what the process takes of the machine.
    fn add_pace(&mut self, summaries: &mut Summaries, ready: usize) {
        let seconds = self.since.elapsed().as_secs_f64();
        let steps = f64::from(self.steps);
        let rate = steps / seconds;
        let mut add = |tag: &str, what: &str, value: f64| {
            summaries.scalar(&Tag::new(tag).description(what), value);
        };
        add(
            "global_step/sec",
            "Steps a second since the last point.",
            rate,
        );
        let images = rate * self.spec.train.batch_size as f64;
        add(
            "examples/sec",
            "Training images a second since the last point.",
            images,
        );
        let waited = 1e3 * self.waited.as_secs_f64() / steps;
        add(
            "time/input_ms",
            "Mean time that a step waited for its batch, in milliseconds.",
            waited,
        );
        let computed = 1e3 * self.computed.as_secs_f64() / steps;
        add(
            "time/compute_ms",
            "Mean time of a step's forward and backward pass and update, in milliseconds.",
            computed,
        );
        let full = ready as f64 / self.spec.data.prefetch as f64;
        add(
            "prefetch/fraction_full",
            "Share of the prefetched batches that are ready and waiting.",
            full,
        );
        if let Some(usage) = self.meter.read() {
            add(
                "process/cores",
                "Cores that the trainer kept busy since the last point.",
                usage.cores,
            );
            add(
                "process/memory_mib",
                "DeviceImages memory of the trainer, in MiB.",
                usage.memory_mib,
            );
        }
        let gpu = self.meter.read_gpu();
        if let Some(utilisation) = gpu.utilisation {
            add(
                "gpu/utilisation",
                "Share of the time in which the GPU was computing.",
                utilisation,
            );
        }
        if let Some(memory_mib) = gpu.memory_mib {
            add(
                "gpu/memory_mib",
                "Memory in use on the GPU, in MiB.",
                memory_mib,
            );
        }
        self.since = Instant::now();
        self.steps = 0;
        (self.waited, self.computed) = (Duration::ZERO, Duration::ZERO);
    }

    /// The tutorial's two of each layer: distribution of its output, and the share of zeros in it.
    fn add_activations(
        &self,
        summaries: &mut Summaries,
        network: &Network,
        images: &Tensor<4>,
    ) -> Result<()> {
        let layers = backend::activations(network, &self.spec, images.clone())?;
        for layer in layers
            .iter()
            .filter(|layer| LAYERS.contains(&layer.name.as_str()))
        {
            let tag = |kind: &str| Tag::new(format!("{}/{kind}", layer.name));
            let activations = tag("activations")
                .description("The layer's output for the step's batch, after the step.");
            summaries.histogram(&activations, &layer.values);
            let zeros = layer.values.iter().filter(|value| **value == 0.0).count();
            let share = zeros as f64 / layer.values.len() as f64;
            let sparsity = tag("sparsity").description("Share of zeros in the layer's output.");
            summaries.scalar(&sparsity, share);
        }
        Ok(())
    }
}

/// The losses that the tutorial collects, by tag: each layer's decay, cross-entropy, and the sum.
fn named(losses: Losses) -> Vec<(String, f64)> {
    let decays = LAYERS.iter().zip(losses.weight);
    decays
        .filter(|(_, loss)| *loss != 0.0)
        .map(|(layer, loss)| (format!("{layer}/weight_loss"), loss))
        .chain([
            ("cross_entropy".to_owned(), losses.cross_entropy),
            ("total_loss".to_owned(), losses.total),
        ])
        .collect()
}

/// The distributions of all parameters and of their gradients.
fn add_parameters(summaries: &mut Summaries, weights: &[NamedTensor], gradients: &[NamedTensor]) {
    for parameter in weights {
        let tag = Tag::new(&parameter.name).description("Values after the step.");
        summaries.histogram(&tag, &parameter.values);
    }
    for gradient in gradients {
        let tag = Tag::new(format!("{}/gradients", gradient.name))
            .description("Gradient of the total loss, weight decay included.");
        summaries.histogram(&tag, &gradient.values);
    }
}

/// Three images as the network sees them.
fn add_inputs(summaries: &mut Summaries, images: &Tensor<4>) {
    let [n, height, width, _] = images.dims();
    let shown = images.clone().narrow(0, 0, n.min(3));
    let values: Vec<f32> = shown.into_data().iter::<f32>().collect();
    let size = height * width * crate::data::CHANNELS;
    for (index, image) in values.chunks_exact(size).enumerate() {
        let tag = Tag::new(format!("images/image/{index}"))
            .description("A training image after distortion and standardisation.");
        summaries.image(&tag, &pictures::input(image, width));
    }
}

/// The first layer's filters.
fn add_filters(summaries: &mut Summaries, weights: &[NamedTensor]) {
    if let Some(conv1) = weights.iter().find(|named| named.name == "conv1/weights")
        && let Ok(shape) = <[usize; 4]>::try_from(conv1.shape.as_slice())
    {
        let tag = Tag::new("conv1/filters").description(
            "The first layer's filters on one scale: grey is 0, full colours are the largest weight.",
        );
        summaries.image(&tag, &pictures::filters(&conv1.values, shape));
    }
}

/// Euclidean norm of all values together.
fn norm(parameters: &[NamedTensor]) -> f64 {
    let values = parameters.iter().flat_map(|named| &named.values);
    values
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_of_all_parameters_together() {
        let named = |values: &[f32]| NamedTensor {
            name: String::new(),
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        assert_eq!(norm(&[named(&[3.0, 0.0]), named(&[-4.0])]), 5.0);
    }
}
