//! What evaluation shows in TensorBoard: curves, pictures, and the run as one row of the HParams tab.

use crate::data::Images;
use crate::events::{EventWriter, SessionStatus, Summaries, Tag};
use crate::metrics::Metrics;
use crate::pictures;
use crate::run::{EvalStatus, Role, RunDir};
use crate::spec::Spec;
use anyhow::Result;

/// The evaluator's two event files.
pub struct Scoreboard {
    /// The curves and pictures of every scored checkpoint.
    events: EventWriter,
    /// The run as one row of the HParams tab.
    comparison: EventWriter,
}

impl Scoreboard {
    /// The scoreboard in `slot`, opened where it is not yet, to write from `step` on: a step that was scored
    /// before, with `once`, still has one point.
    ///
    /// # Errors
    /// The event files cannot be made.
    pub fn opened<'a>(
        slot: &'a mut Option<Self>,
        run: &RunDir,
        spec: &Spec,
        step: u64,
    ) -> Result<&'a Self> {
        Ok(match slot {
            Some(scoreboard) => scoreboard,
            none => none.insert(Self::open(run, spec, step)?),
        })
    }

    fn open(run: &RunDir, spec: &Spec, step: u64) -> Result<Self> {
        let folder = run.comparison();
        let known = folder.exists() && step > 0;
        let comparison = EventWriter::resume(&folder, step)?;
        if !known {
            comparison.session_start(&run.id(), &hyperparameters(spec)?);
        }
        Ok(Scoreboard {
            events: EventWriter::resume(&run.events(Role::Eval), step)?,
            comparison,
        })
    }

    /// Show the checkpoint of `step` by its averaged weights, and the precision of its raw ones.
    ///
    /// # Errors
    /// The event file does not take it.
    pub fn publish(
        &self,
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
        add("Precision @ 1", PRECISION, averaged.precision_at_1());
        add(
            "Precision @ 1 (raw weights)",
            RAW_PRECISION,
            raw.precision_at_1(),
        );
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
        self.events.write(&summaries);
        self.events.flush()
    }

    /// Bring the run's row in the HParams tab up to date.
    ///
    /// # Errors
    /// The event file does not take it.
    pub fn compare(&self, status: &EvalStatus, loss: f64) -> Result<()> {
        let (Some(last), Some(best)) = (status.last, status.best) else {
            return Ok(());
        };
        let mut summaries = Summaries::at(last.step);
        for (tag, value) in [
            ("final precision", last.precision),
            ("best precision", best.precision),
            ("final loss", loss),
            ("lowest loss", status.lowest_loss.unwrap_or(loss)),
        ] {
            summaries.scalar(&Tag::new(tag), value);
        }
        self.comparison.write(&summaries);
        self.comparison.flush()
    }

    /// Tell the HParams tab how training ended.
    ///
    /// # Errors
    /// The event file does not take it.
    pub fn conclude(&self, status: SessionStatus) -> Result<()> {
        self.comparison.session_end(status);
        self.comparison.flush()
    }
}

/// The spec without what is no hyperparameter: words and places.
fn hyperparameters(spec: &Spec) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(spec)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("description");
    }
    if let Some(data) = value["data"].as_object_mut() {
        data.remove("folder");
    }
    Ok(value)
}

/// Points of a precision-recall curve, as many as TensorBoard's own pr_curve summary has by default.
const PR_THRESHOLDS: usize = 201;

const PRECISION: &str = "Share of the test images whose likeliest class is their own, by the moving average of the weights.";
const RAW_PRECISION: &str = "The same by the weights themselves.";
const LOSS: &str = "Mean cross-entropy over the test images, by the moving average of the weights.";
const RECALL: &str = "Share of the class's test images that are taken for it.";
const CLASS_PRECISION: &str = "Share of the test images taken for the class that are of it.";
const PR_CURVE: &str = "Precision and recall of the class against all others.";
const CONFUSION: &str = "Test images by their class (rows) and the likeliest class (columns).";
const WRONG: &str = "The test images that are most confidently taken for another class.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyperparameters_are_the_spec_without_words_and_places() {
        let value = hyperparameters(&Spec::default()).unwrap();
        assert_eq!(value["optimizer"]["learning_rate"], 0.1);
        assert_eq!(value["data"]["source"], "cifar10");
        assert_eq!(value["data"].get("folder"), None);
        assert_eq!(value.get("description"), None);
    }
}
