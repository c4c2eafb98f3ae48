//! Which curves a page shows, and of which runs.

use std::collections::BTreeMap;

use maud::Markup;

use super::chart::{Chart, Colour, Extreme, Line};
use crate::catalog::{Entry, WRITERS, curve_name, curves_of, map};
use crate::events::{Curve, tags};

/// A chart, and the series that it shows.
struct Topic {
    title: &'static str,
    /// What it shows, which the curves of the run may tell more exactly.
    text: fn(&BTreeMap<String, Curve>) -> String,
    extreme: Extreme,
    /// Of a run alone: each is a curve with a name of its own. Of several runs each series is a chart of its own.
    series: &'static [(&'static tags::Series, &'static str)],
}

const TOPICS: [Topic; 5] = [
    Topic {
        title: "Accuracy",
        text: accuracy,
        extreme: Extreme::Highest,
        series: &[
            (&tags::PRECISION_AT_1, "test images"),
            (&tags::VALIDATION_PRECISION_AT_1, "validation images"),
            (
                &tags::TTA_PRECISION_AT_1,
                "test images, several views of each",
            ),
            (&tags::TRAINING_PRECISION_AT_1, "training batches"),
        ],
    },
    Topic {
        title: "Loss",
        text: |_| {
            "Cross-entropy: how little probability the right class was given. The lower the better."
                .to_owned()
        },
        extreme: Extreme::Lowest,
        series: &[
            (&tags::TOTAL_LOSS, "training, with weight decay"),
            (&tags::CROSS_ENTROPY, "training batches"),
            (&tags::EVAL_CROSS_ENTROPY, "test images"),
            (&tags::VALIDATION_CROSS_ENTROPY, "validation images"),
        ],
    },
    Topic {
        title: "Learning rate",
        text: |_| tags::LEARNING_RATE.description.to_owned(),
        extreme: Extreme::None,
        series: &[(&tags::LEARNING_RATE, "")],
    },
    Topic {
        title: "Norm of the gradients",
        text: |_| tags::GRADIENT_NORM.description.to_owned(),
        extreme: Extreme::None,
        series: &[(&tags::GRADIENT_NORM, "")],
    },
    Topic {
        title: "Training images a second",
        text: |_| tags::EXAMPLES_PER_SECOND.description.to_owned(),
        extreme: Extreme::None,
        series: &[(&tags::EXAMPLES_PER_SECOND, "")],
    },
];

/// Of several runs: what is shown of all in a chart each.
const OF_SEVERAL: [(&tags::Series, &str, Extreme); 7] = [
    (
        &tags::PRECISION_AT_1,
        "Accuracy on the test images",
        Extreme::Highest,
    ),
    (
        &tags::VALIDATION_PRECISION_AT_1,
        "Accuracy on the validation images",
        Extreme::Highest,
    ),
    (&tags::TOTAL_LOSS, "Training loss", Extreme::Lowest),
    (
        &tags::EVAL_CROSS_ENTROPY,
        "Cross-entropy on the test images",
        Extreme::Lowest,
    ),
    (&tags::LEARNING_RATE, "Learning rate", Extreme::None),
    (&tags::GRADIENT_NORM, "Norm of the gradients", Extreme::None),
    (
        &tags::EXAMPLES_PER_SECOND,
        "Training images a second",
        Extreme::None,
    ),
];

/// The curves of a run as charts.
pub fn of_run(entry: &Entry, curves: &BTreeMap<String, Curve>) -> Vec<Markup> {
    let resumed: Vec<f64> = entry
        .sessions()
        .iter()
        .skip(1)
        .filter_map(|session| Some(session.first_step? as f64))
        .collect();
    let charts = TOPICS.iter().filter_map(|topic| {
        let series = topic.series.iter().enumerate();
        let lines: Vec<Line> = series
            .filter_map(|(index, (series, name))| {
                Some(Line {
                    name: (*name).to_owned(),
                    colour: Colour::of(index),
                    points: points(curves.get(&curve_name(series))?),
                })
            })
            .collect();
        Chart {
            title: topic.title,
            text: (topic.text)(curves),
            extreme: topic.extreme,
            lines,
            resumed: resumed.clone(),
        }
        .html()
    });
    charts.collect()
}

/// What accuracy is, and what guessing would give.
fn accuracy(curves: &BTreeMap<String, Curve>) -> String {
    let guessing = match curves_of(curves, &tags::CLASS_RECALL).count() {
        0 | 1 => String::new(),
        classes => format!(
            " Guessing one of {classes} classes would give {:.3}.",
            1.0 / classes as f64
        ),
    };
    format!("Share of images whose likeliest class is their own. The higher the better.{guessing}")
}

/// A run of several, as the charts have it.
pub struct Shown<'a> {
    pub entry: &'a Entry,
    /// What the legend calls it; several may have the same.
    pub name: String,
    pub colour: Colour,
}

/// The curves of several runs, those that matter most first, as charts, and what of the event files cannot be read.
pub fn of_several(runs: &[Shown]) -> (Vec<Markup>, Vec<String>) {
    let read = map(runs, |run| {
        let (mut curves, damage) = read(run.entry);
        let chosen: BTreeMap<String, Vec<(f64, f64)>> = OF_SEVERAL
            .iter()
            .filter_map(|(series, ..)| {
                let (name, curve) = curves.remove_entry(&curve_name(series))?;
                Some((name, points(&curve)))
            })
            .collect();
        (chosen, damage)
    });
    let charts = OF_SEVERAL.iter().filter_map(|(series, title, extreme)| {
        let name = curve_name(series);
        let lines = runs.iter().zip(&read).map(|(run, (curves, _))| Line {
            name: run.name.clone(),
            colour: run.colour,
            points: curves.get(&name).cloned().unwrap_or_default(),
        });
        Chart {
            title,
            text: series.description.to_owned(),
            extreme: *extreme,
            lines: lines.collect(),
            resumed: Vec::new(),
        }
        .html()
    });
    let charts = charts.collect();
    (
        charts,
        read.into_iter().flat_map(|(_, damage)| damage).collect(),
    )
}

/// The curves of a run that can be read, and what of the event files cannot.
pub fn read(entry: &Entry) -> (BTreeMap<String, Curve>, Vec<String>) {
    let (mut curves, mut damage) = (BTreeMap::new(), Vec::new());
    for role in WRITERS {
        match entry.curves_by(role) {
            Ok(read) => curves.extend(read),
            Err(error) => damage.push(format!("{}: {error:#}", entry.id())),
        }
    }
    (curves, damage)
}

fn points(curve: &Curve) -> Vec<(f64, f64)> {
    let point = |point: &crate::events::Point| (point.step as f64, f64::from(point.value));
    curve.iter().map(point).collect()
}
