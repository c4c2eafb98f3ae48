//! What evaluation shows of a checkpoint in TensorBoard: curves and pictures.

use super::metrics::Metrics;
use crate::data::Images;
use crate::events::{EventWriter, Summaries, Tag};
use crate::pictures;
use crate::run::{Role, RunDir};
use anyhow::Result;

/// The evaluator's event files: curves and pictures of every scored checkpoint.
pub struct EvaluationReporter {
    events: EventWriter,
    /// The first step that is not shown yet.
    next: u64,
}

impl EvaluationReporter {
    /// The scoreboard in `slot`, opened where it is not yet, with nothing on it of `step` and later ones.
    ///
    /// # Errors
    /// The event files cannot be made, or an older one cannot be shortened.
    pub fn cut<'a>(slot: &'a mut Option<Self>, run: &RunDir, step: u64) -> Result<&'a mut Self> {
        if slot.as_ref().is_some_and(|shown| shown.next > step) {
            *slot = None;
        }
        Ok(match slot {
            Some(scoreboard) => scoreboard,
            none => none.insert(EvaluationReporter {
                events: EventWriter::resume(&run.events(Role::Eval), step)?,
                next: step,
            }),
        })
    }

    /// Show the checkpoint of `step` by its averaged weights, and the accuracy of its raw ones. After an `Ok`
    /// that survives a power cut.
    ///
    /// # Errors
    /// The event file does not take it.
    pub fn publish(
        &mut self,
        step: u64,
        averaged: &Metrics,
        raw: &Metrics,
        images: &Images,
        classes: &[String],
    ) -> Result<()> {
        let mut summaries = Summaries::at(step);
        let mut add = |tag: &str, what: &str, value: f64| {
            summaries.scalar(&Tag::new(tag).description(what), value);
        };
        add("Precision @ 1", ACCURACY, averaged.accuracy());
        add("Precision @ 1 (raw weights)", RAW_ACCURACY, raw.accuracy());
        add("cross_entropy", LOSS, averaged.loss());
        for (class, name) in classes.iter().enumerate() {
            if let Some(recall) = averaged.recall(class) {
                add(&format!("recall/{name}"), RECALL, recall);
            }
            if let Some(precision) = averaged.precision(class) {
                add(&format!("precision/{name}"), CLASS_PRECISION, precision);
            }
        }
        for (class, name) in classes.iter().enumerate() {
            let (scores, truth) = averaged.one_versus_rest(class);
            let tag = Tag::new(format!("pr/{name}")).description(PR_CURVE);
            summaries.pr_curve(&tag, &scores, &truth, PR_THRESHOLDS);
        }
        let names: Vec<&str> = classes.iter().map(String::as_str).collect();
        let matrix = pictures::confusion(averaged.confusion(), &names);
        summaries.image(
            &Tag::new("confusion_matrix").description(CONFUSION),
            &matrix,
        );
        let mistakes: Vec<_> = averaged
            .mistakes()
            .iter()
            .map(|mistake| pictures::MistakenImage {
                pixels: images.pixels(mistake.index),
                label: names[mistake.label],
                predicted: names[mistake.predicted],
                probability: mistake.probability,
            })
            .collect();
        let tag = Tag::new("confident_mistakes").description(WRONG);
        summaries.image(&tag, &pictures::mistakes(&mistakes));
        self.next = step + 1;
        self.events.write(&summaries);
        self.events.sync()
    }
}

/// Points of a precision-recall curve, as many as TensorBoard's own pr_curve summary has by default.
const PR_THRESHOLDS: usize = 201;

const ACCURACY: &str = "Share of the test images whose likeliest class is their own, by the moving average of the weights.";
const RAW_ACCURACY: &str = "The same by the weights themselves.";
const LOSS: &str = "Mean cross-entropy over the test images, by the moving average of the weights.";
const RECALL: &str = "Share of the class's test images that are taken for it.";
const CLASS_PRECISION: &str = "Share of the test images taken for the class that are of it.";
const PR_CURVE: &str = "Precision and recall of the class against all others.";
const CONFUSION: &str = "Test images by their class (rows) and the likeliest class (columns).";
const WRONG: &str = "The test images that are most confidently taken for another class.";
