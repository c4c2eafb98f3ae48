//! What evaluation shows of a checkpoint in TensorBoard: curves and pictures.

use super::metrics::Metrics;
use anyhow::Result;
use runboard::data::Images;
use runboard::events::{EventWriter, Summaries, tags};
use runboard::hparams;
use runboard::pictures::{self, ClassLabels};
use runboard::run::{Role, RunDir, Scores};
use runboard::spec::Spec;

/// The evaluator's event files: curves and pictures of every scored checkpoint.
pub struct EvaluationReporter {
    events: EventWriter,
    /// The step after the last one shown.
    next: u64,
    /// The classes' names, in tags, and what stands for them in pictures.
    classes: Vec<String>,
    labels: ClassLabels,
}

/// A checkpoint that was evaluated.
pub struct Evaluated<'a> {
    pub step: u64,
    pub scores: Scores,
    /// Of its averaged weights over the test images.
    pub averaged: &'a Metrics,
    /// The accuracy of the best checkpoint of all evaluations up to this one.
    pub best: f64,
    /// Training's moving average of the total loss; none if the checkpoint does not have it.
    pub training_loss: Option<f64>,
    /// How often training had gone back; none if the spec does not let it.
    pub rollbacks: Option<usize>,
}

impl EvaluationReporter {
    /// The reporter in `slot`, started where there is none yet or where it has shown `step` or a later one: the run is
    /// listed in the HParams tab, and events of these steps are removed. The classes have these names.
    ///
    /// # Errors
    /// The event files cannot be made, or an older one cannot be shortened.
    pub fn starting_at<'a>(
        slot: &'a mut Option<Self>,
        run: &RunDir,
        spec: &Spec,
        step: u64,
        classes: &[String],
    ) -> Result<&'a mut Self> {
        if slot.as_ref().is_some_and(|reporter| reporter.next > step) {
            *slot = None;
        }
        if slot.is_none() {
            hparams::list(run, spec)?;
            hparams::show_running(run)?;
        }
        Ok(match slot {
            Some(reporter) => reporter,
            none => none.insert(EvaluationReporter {
                events: EventWriter::resume(&run.events(Role::Eval), step)?,
                next: step,
                classes: classes.to_vec(),
                labels: ClassLabels::new(classes),
            }),
        })
    }

    /// Show a checkpoint, `images` being those it was evaluated on. After an `Ok` that survives a power cut.
    ///
    /// # Errors
    /// The event file does not take it.
    pub fn publish(&mut self, run: &RunDir, evaluated: &Evaluated, images: &Images) -> Result<()> {
        let Evaluated {
            step,
            scores,
            averaged,
            best,
            training_loss,
            rollbacks,
        } = *evaluated;
        let mut summaries = Summaries::at(step);
        summaries
            .scalar(&tags::PRECISION_AT_1.tag(), scores.accuracy)
            .scalar(&tags::PRECISION_AT_1_RAW.tag(), scores.raw_accuracy)
            .scalar(&tags::EVAL_CROSS_ENTROPY.tag(), scores.loss)
            .scalar(&tags::BEST_ACCURACY.tag(), best);
        if let Some(loss) = training_loss {
            summaries.scalar(&tags::TRAINING_LOSS.tag(), loss);
        }
        if let Some(rollbacks) = rollbacks {
            summaries.scalar(&tags::ROLLBACK_COUNT.tag(), rollbacks as f64);
        }
        if let Some(validation) = scores.validation {
            summaries
                .scalar(&tags::VALIDATION_PRECISION_AT_1.tag(), validation.accuracy)
                .scalar(&tags::VALIDATION_CROSS_ENTROPY.tag(), validation.loss);
        }
        if let Some(tta) = scores.tta {
            summaries
                .scalar(&tags::TTA_PRECISION_AT_1.tag(), tta.accuracy)
                .scalar(&tags::TTA_CROSS_ENTROPY.tag(), tta.loss);
        }
        hparams::add_running(&mut summaries, run);
        for (class, name) in self.classes.iter().enumerate() {
            if let Some(recall) = averaged.recall(class) {
                summaries.scalar(&tags::CLASS_RECALL.of(name), recall);
            }
            if let Some(precision) = averaged.precision(class) {
                summaries.scalar(&tags::CLASS_PRECISION.of(name), precision);
            }
        }
        let decisions = (0..self.classes.len()).map(|class| averaged.one_versus_rest(class));
        let decisions: Vec<_> = decisions.collect();
        for ((scores, truth), name) in decisions.iter().zip(&self.classes) {
            let tag = tags::CLASS_PR_CURVE.of(name);
            summaries.pr_curve(&tag, scores, truth, PR_THRESHOLDS);
        }
        let tag = tags::MEAN_PR_CURVE.tag();
        summaries.mean_pr_curve(&tag, &decisions, PR_THRESHOLDS);
        if let Some(legend) = self.labels.legend() {
            summaries.text(&tags::CLASS_NUMBERS.tag(), legend);
        }
        let matrix = pictures::confusion(averaged.confusion(), &self.labels);
        summaries.image(&tags::CONFUSION_MATRIX.tag(), &matrix);
        let mistakes: Vec<_> = averaged
            .mistakes()
            .iter()
            .map(|mistake| pictures::MistakenImage {
                pixels: images.pixels(mistake.index),
                label: mistake.label,
                predicted: mistake.predicted,
                probability: mistake.probability,
            })
            .collect();
        summaries.image(
            &tags::CONFIDENT_MISTAKES.tag(),
            &pictures::mistakes(&mistakes, &self.labels),
        );
        self.next = step + 1;
        self.events.write(&summaries);
        self.sync()
    }

    /// Wait until all that was shown would survive a power cut.
    ///
    /// # Errors
    /// The event file does not take it; it is kept and tried again.
    pub fn sync(&self) -> Result<()> {
        self.events.sync()
    }
}

/// Points of a precision-recall curve: one for each percent of the score. TensorBoard's own summary has 201, which look no
/// different.
const PR_THRESHOLDS: usize = 101;
