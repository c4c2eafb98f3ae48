//! Which curves a page shows, and of which runs.

use std::collections::BTreeMap;

use maud::Markup;

use super::chart::{Chart, Colour, Extreme, Line};
use crate::catalog::{Entry, curve_name, map};
use crate::events::{Curve, tags};

/// A chart, and the series that it shows.
struct Topic {
    title: &'static str,
    extreme: Extreme,
    /// Of a run alone: each is a curve with a name of its own. Of several runs each series is a chart of its own.
    series: &'static [(&'static tags::Series, &'static str)],
}

const TOPICS: [Topic; 5] = [
    Topic {
        title: "Accuracy",
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
        extreme: Extreme::None,
        series: &[(&tags::LEARNING_RATE, "")],
    },
    Topic {
        title: "Norm of the gradients",
        extreme: Extreme::None,
        series: &[(&tags::GRADIENT_NORM, "")],
    },
    Topic {
        title: "Training images a second",
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

/// The curves of a run as charts, and what of the event files cannot be read.
pub fn of_run(entry: &Entry) -> (Vec<Markup>, Option<String>) {
    let (curves, damage) = read(entry);
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
        let text = match topic.title {
            "Accuracy" => accuracy(&curves),
            "Loss" => "Cross-entropy: how little probability the right class was given. The lower the better.".to_owned(),
            _ => topic.series[0].0.description.to_owned(),
        };
        Chart {
            title: topic.title,
            text,
            extreme: topic.extreme,
            lines,
            resumed: resumed.clone(),
        }
        .html()
    });
    (charts.collect(), damage)
}

/// What accuracy is, and what guessing would give.
fn accuracy(curves: &BTreeMap<String, Curve>) -> String {
    let recall = curve_name(&tags::CLASS_RECALL);
    let recall = recall.split('{').next().unwrap_or_default();
    let classes = curves
        .keys()
        .filter(|name| name.starts_with(recall))
        .count();
    let guessing = match classes {
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
        read.into_iter().filter_map(|(_, damage)| damage).collect(),
    )
}

fn read(entry: &Entry) -> (BTreeMap<String, Curve>, Option<String>) {
    match entry.curves() {
        Ok(curves) => (curves, None),
        Err(error) => (BTreeMap::new(), Some(format!("{}: {error:#}", entry.id()))),
    }
}

fn points(curve: &Curve) -> Vec<(f64, f64)> {
    let point = |point: &crate::events::Point| (point.step as f64, f64::from(point.value));
    curve.iter().map(point).collect()
}
