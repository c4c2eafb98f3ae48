//! What training shows in TensorBoard, and at which steps.

mod layout;
mod texts;

use crate::backend::{self, Losses, Optimizer};
use crate::model::{LAYERS, Network, PER_LAYER};
use crate::trainer::graph::graph;
use crate::trainer::system_metrics::SystemMetrics;
use anyhow::Result;
use burn::tensor::{Device, Int, Tensor};
use runboard::checkpoint::NamedTensor;
use runboard::checkpoint::Rollback;
use runboard::events::tags::{self, Series};
use runboard::events::{EventWriter, Summaries, Tag};
use runboard::pictures::{self, ClassLabels};
use runboard::schedule::Average;
use runboard::spec::{self, Spec, weights_name};
use std::collections::BTreeMap;
use std::mem;
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
    /// The classes of the batch, [n].
    pub labels: Tensor<1, Int>,
    /// How long the step waited for its batch.
    pub waited: Duration,
    /// How long the rest of it took, without the sum over the ranks.
    pub computed: Duration,
    pub ranks: RankTimes,
}

/// The times of a step that several processes make together; of one process alone there is none.
#[derive(Clone, Debug, Default)]
pub struct RankTimes {
    /// How long the sum over the ranks took, with the wait for the slowest.
    pub all_reduce: Duration,
    /// How long each rank, by its number, waited for its part of the batch.
    pub waited: Vec<(usize, Duration)>,
}

impl RankTimes {
    /// Add those of another step.
    fn add(&mut self, step: &Self) {
        self.all_reduce += step.all_reduce;
        if self.waited.is_empty() {
            self.waited.clone_from(&step.waited);
            return;
        }
        for ((_, sum), (_, waited)) in self.waited.iter_mut().zip(&step.waited) {
            *sum += *waited;
        }
    }
}

/// Writes the trainer's summaries at the spec's cadences.
pub struct Reporter {
    events: EventWriter,
    spec: Spec,
    /// What stands for the classes in pictures.
    labels: ClassLabels,
    /// Moving averages of the losses and the accuracy over every step, by tag.
    averages: BTreeMap<String, Average>,
    /// Of the step recorded last.
    losses: Vec<Loss>,
    system_metrics: SystemMetrics,
    /// Since the last scalars: time, steps, and how long they waited and computed.
    since: Instant,
    steps: u32,
    waited: Duration,
    computed: Duration,
    ranks: RankTimes,
}

impl Reporter {
    /// Start at the step `first`, with the averages of the checkpoint before it; the classes have the names `classes`, and
    /// `gpu` says whether an NVIDIA GPU computes.
    ///
    /// # Errors
    /// The event file cannot be made.
    pub fn start(
        dir: &Path,
        spec: &Spec,
        first: u64,
        averages: BTreeMap<String, Average>,
        classes: &[String],
        gpu: bool,
    ) -> Result<Self> {
        Ok(Reporter {
            events: EventWriter::resume(dir, first)?,
            spec: spec.clone(),
            labels: ClassLabels::new(classes),
            averages,
            losses: Vec::new(),
            system_metrics: SystemMetrics::new(gpu),
            since: Instant::now(),
            steps: 0,
            waited: Duration::ZERO,
            computed: Duration::ZERO,
            ranks: RankTimes::default(),
        })
    }

    /// Write what a run shows once, at its first step: its description and spec, the network's graph, and which curves
    /// share a chart.
    ///
    /// # Errors
    /// libtorch's.
    pub fn write_run(&self, network: &Network, device: &Device) -> Result<()> {
        self.write_spec(0)?;
        let mut summaries = Summaries::at(0);
        summaries.layout(layout::LAYOUT);
        self.events.write(&summaries);
        self.events.graph(&graph(&self.spec, network, device)?);
        Ok(())
    }

    /// Write the run's description and spec, at its first step and where a resume has changed the spec.
    ///
    /// # Errors
    /// If the data directory's path is not Unicode.
    pub fn write_spec(&self, step: u64) -> Result<()> {
        let description = match self.spec.description.as_str() {
            "" => "(none)",
            text => text,
        };
        let mut summaries = Summaries::at(step);
        summaries
            .text(&tags::DESCRIPTION.tag(), description)
            .text(&tags::SPEC.tag(), &texts::spec(&self.spec)?);
        self.events.write(&summaries);
        Ok(())
    }

    /// Write what the session that begins at `step` was started from, by the record of the run's sessions, and so those
    /// before it that began here or later: what they have shown is removed.
    pub fn write_session(&self, step: u64, provenance: &str) {
        // A run directory that was made by hand may lack the record.
        if let Some(session) = texts::sessions_from(step, provenance) {
            let mut summaries = Summaries::at(step);
            summaries.text(&tags::SESSION.tag(), &session);
            self.events.write(&summaries);
        }
    }

    /// The moving averages of the losses, by tag.
    pub fn averages(&self) -> &BTreeMap<String, Average> {
        &self.averages
    }

    /// Say what training has come back from; the session begins at `step`.
    pub fn show_rollbacks(&self, step: u64, rollbacks: &[Rollback]) {
        let mut lines: Vec<String> = rollbacks.iter().map(|it| format!("- {it}")).collect();
        let factor = self.spec.train.rollback_factor.powi(rollbacks.len() as i32) as f32;
        lines.push(format!("\nThe rate is now {factor} of the spec's."));
        let mut summaries = Summaries::at(step);
        summaries.text(&tags::ROLLBACKS.tag(), &lines.join("\n"));
        self.events.write(&summaries);
    }

    /// Show the losses of a step that cannot be taken, whatever the cadence: NaN is then a mark in the curves.
    pub fn show_divergence(&mut self, step: u64, losses: Losses) {
        self.record_losses(losses);
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
        let mut cadences = cadences.into_iter();
        cadences.any(|every| step.is_multiple_of(every)) || self.shows_update(step)
    }

    /// Whether the update of a step is shown: one of the cadence of scalars, or the first one after, as a step that adds up
    /// gradients makes none.
    fn shows_update(&self, step: u64) -> bool {
        let every = self.spec.train.scalars_every;
        is_update_shown(step, every, self.spec.optimizer.gradient_accumulation)
    }

    /// Write what the cadences ask for of a step, which the optimizer has taken; `ready` batches are waiting. Where
    /// the step is shown ([`Reporter::shows`]), its losses have been recorded before.
    ///
    /// # Errors
    /// libtorch's.
    pub fn report(
        &mut self,
        taken: &StepOutput,
        optimizer: &Optimizer,
        ready: usize,
    ) -> Result<()> {
        self.steps += 1;
        self.waited += taken.waited;
        self.computed += taken.computed;
        self.ranks.add(&taken.ranks);

        let step = taken.step;
        let train = &self.spec.train;
        let scalars = step.is_multiple_of(train.scalars_every);
        let histograms = step.is_multiple_of(train.histograms_every);
        let images = step.is_multiple_of(train.images_every);
        let update = self.shows_update(step);
        if !self.shows(step) {
            return Ok(());
        }
        let network = optimizer.network();
        let mut summaries = Summaries::at(step);
        if scalars || histograms || update {
            let weights = network.named();
            let gradients = taken.gradients.named();
            if scalars {
                self.add_losses(&mut summaries);
                summaries
                    .scalar(&tags::GRADIENT_NORM.tag(), norm(&gradients))
                    .scalar(&tags::WEIGHT_NORM.tag(), norm(&weights));
                add_rates(&mut summaries, &self.spec.optimizer, taken.learning_rate);
                self.add_throughput(&mut summaries, ready);
                self.add_system_metrics(&mut summaries);
            }
            if update && let Some(update) = optimizer.update(&gradients) {
                add_update(&mut summaries, &weights, &update);
            }
            if histograms {
                add_layer_norms(&mut summaries, &weights, &gradients);
                add_parameters(&mut summaries, &weights, &gradients);
                self.add_activations(&mut summaries, network, &taken.images)?;
                add_filters(&mut summaries, &weights);
            }
        }
        if images {
            add_inputs(&mut summaries, taken, &self.labels);
        }
        self.events.write(&summaries);
        Ok(())
    }

    /// Wait until the curves are in the file, or the disk refuses them.
    pub fn flush(&self) {
        self.events.flush();
    }

    /// Update the moving averages with the losses of a step. Every step is recorded, in order.
    pub fn record_losses(&mut self, losses: Losses) {
        self.losses = with_tags(losses);
        for Loss { average, value, .. } in &self.losses {
            let tag = average.name().to_owned();
            self.averages.entry(tag).or_default().update(*value);
        }
        let accuracy = self.averages.entry(ACCURACY.name.to_owned());
        accuracy.or_default().update(losses.accuracy);
    }

    fn add_losses(&self, summaries: &mut Summaries) {
        for loss in &self.losses {
            let average = self.averages[loss.average.name()].value(self.spec.fidelity);
            summaries
                .scalar(&loss.raw, loss.value)
                .scalar(&loss.average, average);
        }
        if let Some(accuracy) = self.averages.get(ACCURACY.name) {
            summaries.scalar(&ACCURACY.tag(), accuracy.value(self.spec.fidelity));
        }
    }

    /// Speed, and where the time went since the last scalars.
    fn add_throughput(&mut self, summaries: &mut Summaries, ready: usize) {
        let seconds = self.since.elapsed().as_secs_f64();
        let steps = f64::from(self.steps);
        let rate = steps / seconds;
        let milliseconds = |time: Duration| 1e3 * time.as_secs_f64() / steps;
        summaries
            .scalar(&tags::STEPS_PER_SECOND.tag(), rate)
            .scalar(
                &tags::EXAMPLES_PER_SECOND.tag(),
                rate * self.spec.train.batch_size as f64,
            )
            .scalar(&tags::INPUT_TIME.tag(), milliseconds(self.waited))
            .scalar(&tags::COMPUTE_TIME.tag(), milliseconds(self.computed))
            .scalar(
                &tags::PREFETCH_FULL.tag(),
                // For a GPU more are prepared than that.
                (ready as f64 / self.spec.data.prefetch as f64).min(1.0),
            );
        let ranks = mem::take(&mut self.ranks);
        if !ranks.waited.is_empty() {
            let all_reduce = milliseconds(ranks.all_reduce);
            summaries.scalar(&tags::ALL_REDUCE_TIME.tag(), all_reduce);
        }
        for (rank, waited) in ranks.waited.into_iter().skip(1) {
            let tag = tags::RANK_INPUT_TIME.of(&rank.to_string());
            summaries.scalar(&tag, milliseconds(waited));
        }
        self.since = Instant::now();
        self.steps = 0;
        (self.waited, self.computed) = (Duration::ZERO, Duration::ZERO);
    }

    /// What the trainer uses of the machine.
    fn add_system_metrics(&mut self, summaries: &mut Summaries) {
        let process = self.system_metrics.read_process();
        let gpu = self.system_metrics.read_gpu();
        for (series, value) in [
            (tags::PROCESS_CORES, process.map(|usage| usage.cores)),
            (tags::PROCESS_MEMORY, process.map(|usage| usage.memory_mib)),
            (tags::GPU_UTILISATION, gpu.utilisation),
            (tags::GPU_MEMORY, gpu.memory_mib),
        ] {
            if let Some(value) = value {
                summaries.scalar(&series.tag(), value);
            }
        }
    }

    /// The tutorial's two of each layer: distribution of its output, and the share of zeros in it.
    fn add_activations(
        &self,
        summaries: &mut Summaries,
        network: &Network,
        images: &Tensor<4>,
    ) -> Result<()> {
        backend::activations(network, &self.spec, images.clone(), |layer| {
            if LAYERS.contains(&layer.name.as_str()) {
                summaries.histogram(&tags::ACTIVATIONS.of(&layer.name), &layer.values);
                let zeros = layer.values.iter().filter(|value| **value == 0.0).count();
                let share = zeros as f64 / layer.values.len() as f64;
                summaries.scalar(&tags::SPARSITY.of(&layer.name), share);
            }
            Ok(())
        })
    }
}

/// Whether a step ends `accumulation` steps that make an update, the first one that ends at or after a multiple of `every`.
fn is_update_shown(step: u64, every: u64, accumulation: u64) -> bool {
    (step + 1).is_multiple_of(accumulation) && step % every < accumulation
}

/// The constants that the step was taken with, as far as the optimizer has them.
fn add_rates(summaries: &mut Summaries, optimizer: &spec::Optimizer, learning_rate: f64) {
    summaries.scalar(&tags::LEARNING_RATE.tag(), learning_rate);
    if optimizer.momentum > 0.0 {
        summaries.scalar(&tags::MOMENTUM.tag(), optimizer.momentum);
    }
}

/// A checkpoint keeps the average under its name.
const ACCURACY: Series = tags::TRAINING_PRECISION_AT_1;

/// One of a step's losses, and the tags of its two curves.
struct Loss {
    raw: Tag,
    /// Of its moving average; a checkpoint keeps the average under this name.
    average: Tag,
    value: f64,
}

/// The losses that the tutorial collects: each layer's weight decay, cross-entropy, and the sum.
fn with_tags(losses: Losses) -> Vec<Loss> {
    let loss = |raw, average, value| Loss {
        raw,
        average,
        value,
    };
    let decays = LAYERS.iter().zip(losses.weight_decay);
    decays
        .filter(|(_, decay)| *decay != 0.0)
        .map(|(layer, decay)| {
            let (raw, average) = (tags::WEIGHT_LOSS_RAW, tags::WEIGHT_LOSS);
            loss(raw.of(layer), average.of(layer), decay)
        })
        .chain([
            loss(
                tags::CROSS_ENTROPY_RAW.tag(),
                tags::CROSS_ENTROPY.tag(),
                losses.cross_entropy,
            ),
            loss(
                tags::TOTAL_LOSS_RAW.tag(),
                tags::TOTAL_LOSS.tag(),
                losses.total,
            ),
        ])
        .collect()
}

/// The norms of each layer's weights and gradients.
fn add_layer_norms(summaries: &mut Summaries, weights: &[NamedTensor], gradients: &[NamedTensor]) {
    for (series, parameters) in [
        (tags::LAYER_WEIGHT_NORM, weights),
        (tags::LAYER_GRADIENT_NORM, gradients),
    ] {
        for (layer, parameters) in LAYERS.iter().zip(parameters.chunks_exact(PER_LAYER)) {
            summaries.scalar(&series.of(layer), norm(parameters));
        }
    }
}

/// The norm of the update over the weights', of all together and of each layer.
fn add_update(summaries: &mut Summaries, weights: &[NamedTensor], update: &[NamedTensor]) {
    summaries.scalar(&tags::UPDATE_TO_WEIGHT.tag(), norm(update) / norm(weights));
    let layers = weights
        .chunks_exact(PER_LAYER)
        .zip(update.chunks_exact(PER_LAYER));
    for (layer, (weights, update)) in LAYERS.iter().zip(layers) {
        let weight = norm(weights);
        if weight > 0.0 {
            let tag = tags::LAYER_UPDATE_TO_WEIGHT.of(layer);
            summaries.scalar(&tag, norm(update) / weight);
        }
    }
}

/// The distributions of all parameters and of their gradients.
fn add_parameters(summaries: &mut Summaries, weights: &[NamedTensor], gradients: &[NamedTensor]) {
    for (series, parameters) in [(tags::PARAMETER, weights), (tags::GRADIENT, gradients)] {
        for parameter in parameters {
            summaries.histogram(&series.of(&parameter.name), &parameter.values);
        }
    }
}

/// Three images as the network sees them.
fn add_inputs(summaries: &mut Summaries, taken: &StepOutput, labels: &ClassLabels) {
    let [n, height, width, _] = taken.images.dims();
    let shown = taken.images.clone().narrow(0, 0, n.min(3));
    let classes = taken.labels.clone().narrow(0, 0, n.min(3)).into_data();
    let values: Vec<f32> = shown.into_data().iter::<f32>().collect();
    let size = height * width * runboard::data::CHANNELS;
    let images = values.chunks_exact(size).zip(classes.iter::<u8>());
    for (index, (image, class)) in images.enumerate() {
        let tag = tags::INPUT_IMAGE.of(&index.to_string());
        let picture = pictures::input(image, width, class.into(), labels);
        summaries.image(&tag, &picture);
    }
}

/// The first layer's filters.
fn add_filters(summaries: &mut Summaries, weights: &[NamedTensor]) {
    if let Some(conv1) = weights
        .iter()
        .find(|named| named.name == weights_name(LAYERS[0]))
        && let Ok(shape) = <[usize; 4]>::try_from(conv1.shape.as_slice())
    {
        let picture = pictures::filters(&conv1.values, shape);
        summaries.image(&tags::FILTERS.tag(), &picture);
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
    fn update_is_shown_at_the_cadence_or_at_the_first_one_after() {
        let shown = |every, accumulation| {
            let steps = (0..24).filter(|step| is_update_shown(*step, every, accumulation));
            steps.collect::<Vec<u64>>()
        };
        assert_eq!(shown(10, 1), [0, 10, 20]);
        assert_eq!(shown(10, 2), [1, 11, 21]);
        assert_eq!(shown(10, 3), [2, 11, 20]);
        assert_eq!(shown(10, 5), [4, 14]);
        // All of them where they are rarer than scalars.
        assert_eq!(shown(2, 8), [7, 15, 23]);
        assert_eq!(shown(3, 4), [3, 7, 11, 15, 19, 23]);
    }

    #[test]
    fn norm_is_of_all_parameters_together() {
        let named = |values: &[f32]| NamedTensor {
            name: String::new(),
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        assert_eq!(norm(&[named(&[3.0, 0.0]), named(&[-4.0])]), 5.0);
    }
}
