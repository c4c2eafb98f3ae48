//! What the evaluator found of a run: every score, and of one checkpoint the confusion matrix, the mistakes and the
//! precision-recall curves.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::axis::grouped;
use super::chart::{drawn, frame, joined};
use crate::catalog::{Entry, curves_of};
use crate::events::{Curve, Shown, shown, tags};
use crate::overview::count;
use crate::run::{Evaluation, Role};

/// Larger pictures than any of ours are left out, in bytes.
const MAX_PICTURE: usize = 1 << 20;

/// Checkpoints whose scores are listed at most, the last ones.
const SCORED: usize = 1000;

/// Classes of which precision-recall curves are drawn at most.
const CLASSES: usize = 20;

/// What is shown of a run's evaluations, and what cannot be read. `None` where nothing was evaluated.
pub fn section(entry: &Entry) -> (Option<Markup>, Option<String>) {
    // What of them cannot be read is told where they are drawn.
    section_with(entry, &entry.curves_by(Role::Eval).unwrap_or_default())
}

/// The same where the run's curves have been read.
pub fn section_with(
    entry: &Entry,
    curves: &BTreeMap<String, Curve>,
) -> (Option<Markup>, Option<String>) {
    let evaluations = entry.evaluations();
    let Some(best) = entry.scores().best else {
        let table = (!evaluations.is_empty()).then(|| table(evaluations, None));
        return (table, None);
    };
    let read = entry
        .run()
        .map(|run| shown(&run.events(Role::Eval), best.step as i64));
    let (all, damage) = match read.transpose() {
        Ok(all) => (all.unwrap_or_default(), None),
        Err(error) => (BTreeMap::new(), Some(format!("{error:#}"))),
    };
    let markup = html! {
        @if all.is_empty() {
            p.note { "The pictures of the best checkpoint, that of step " (grouped(best.step as f64)) ", are not in the event files." }
        } @else {
            p { "Of the best checkpoint, that of step " (grouped(best.step as f64)) ":" }
        }
        div.pictures {
            (picture(&all, &tags::CONFUSION_MATRIX, "Confusion matrix",
                "Test images by their class (rows) and the class that they were taken for (columns): how many, and their share of the row. Off the diagonal are mistakes."))
            (picture(&all, &tags::CONFIDENT_MISTAKES, "Confident mistakes",
                "The test images that were most confidently taken for another class."))
        }
        (classes(curves, best.step))
        (pr_curves(&all))
        @if !evaluations.is_empty() { (table(evaluations, Some(best.step))) }
    };
    (Some(markup), damage)
}

fn picture(all: &BTreeMap<String, Shown>, tag: &tags::Series, title: &str, text: &str) -> Markup {
    let Some(Shown::Picture { width, height, png }) = all.get(tag.name) else {
        return html! {};
    };
    if png.len() > MAX_PICTURE {
        return html! {};
    }
    let data = format!("data:image/png;base64,{}", STANDARD.encode(png));
    html! {
        figure {
            figcaption { h3 { (title) } p { (text) } }
            div.scroll { img src=(data) width=(width) height=(height) alt=(format!("{title}: {text}")); }
        }
    }
}

/// Recall and precision of each class at a step.
fn classes(curves: &BTreeMap<String, Curve>, step: u64) -> Markup {
    let values = |series| -> BTreeMap<&str, f64> {
        let of_step = |curve: &Curve| {
            curve
                .iter()
                .rfind(|point| point.step == step as i64)
                .copied()
        };
        curves_of(curves, series)
            .filter_map(|(class, curve)| Some((class, f64::from(of_step(curve)?.value))))
            .collect()
    };
    let precision = values(&tags::CLASS_PRECISION);
    let mut rows: Vec<(&str, f64, Option<f64>)> = values(&tags::CLASS_RECALL)
        .into_iter()
        .map(|(class, recall)| (class, recall, precision.get(class).copied()))
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    if rows.is_empty() {
        return html! {};
    }
    html! {
        figure {
            figcaption { h3 { "Classes" } p { "Recall: the share of a class's images that were found. Precision: the share of the images taken for the class that are of it." } }
            div.scroll {
                table {
                    thead { tr { th { "class" } th.number { "recall" } th.number { "precision" } } }
                    tbody {
                        @for (name, recall, precision) in rows {
                            tr {
                                td { (name) }
                                @for value in [Some(recall), precision] {
                                    td.number.bar style=(format!("--v:{:.0}%", 100.0 * value.unwrap_or(0.0))) { (value.map_or_else(|| "-".to_owned(), |it| format!("{it:.3}"))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A small chart for each class.
fn pr_curves(all: &BTreeMap<String, Shown>) -> Markup {
    let mut curves: Vec<(&str, &Vec<f32>, &Vec<f32>)> = all
        .iter()
        .filter_map(|(tag, shown)| match shown {
            Shown::PrCurve { precision, recall } => Some((
                tags::CLASS_PR_CURVE.which(tag).unwrap_or(tag),
                precision,
                recall,
            )),
            Shown::Picture { .. } => None,
        })
        .collect();
    if curves.is_empty() {
        return html! {};
    }
    let mean = tags::CLASS_PR_CURVE.which(tags::MEAN_PR_CURVE.name);
    curves.sort_by_key(|(class, ..)| Some(*class) != mean);
    let more = curves.len().saturating_sub(CLASSES);
    curves.truncate(CLASSES);
    let ticks = [0.0, 0.5, 1.0].map(|place| (place, format!("{place}")));
    html! {
        figure {
            figcaption {
                h3 { "Precision-recall curves" }
                p {
                    "Each class against all others: precision (upwards) over recall (to the right) as less and less confidence is asked for. "
                    "AP is the area below the curve; 1 is perfect. All classes: the mean over them."
                    @if more > 0 { " Of " (more) " more classes there are curves in TensorBoard." }
                }
            }
            div.small {
                @for (class, precision, recall) in &curves {
                    div {
                        h4 { (if Some(*class) == mean { "all classes" } else { class }) " " small { "AP " (format!("{:.3}", area(precision, recall))) } }
                        (frame(&ticks, &ticks, &format!("precision over recall of {class}"), &html! {
                            path.line.c0 d=(pr_path(precision, recall)) {}
                        }))
                    }
                }
            }
        }
    }
}

/// The points of a curve that a threshold has: where nothing is taken for the class any more, precision says nothing.
fn points<'a>(
    precision: &'a [f32],
    recall: &'a [f32],
) -> impl DoubleEndedIterator<Item = (f64, f64)> + 'a {
    let pairs = precision.iter().zip(recall);
    let finite = pairs.filter(|(precision, recall)| precision.is_finite() && recall.is_finite());
    let pairs = finite.map(|(precision, recall)| (f64::from(*precision), f64::from(*recall)));
    pairs.filter(|(_, recall)| *recall > 0.0)
}

/// The area below a curve as a sum over its thresholds: average precision.
fn area(precision: &[f32], recall: &[f32]) -> f64 {
    let mut below = 0.0;
    let mut area = 0.0;
    // From the highest threshold on, where recall is least.
    for (precision, recall) in points(precision, recall).rev() {
        area += precision * (recall - below);
        below = recall;
    }
    area
}

fn pr_path(precision: &[f32], recall: &[f32]) -> String {
    let places = points(precision, recall).map(|(precision, recall)| drawn(recall, precision));
    let mut places: Vec<(i64, i64)> = places.collect();
    places.dedup();
    joined(&places)
}

/// The checkpoints with their scores, the last one first.
fn table(evaluations: &[Evaluation], best: Option<u64>) -> Markup {
    type Column = (&'static str, fn(&Evaluation) -> Option<f64>);
    let columns: [Column; 6] = [
        ("accuracy", |it| it.accuracy),
        ("validation accuracy", |it| it.validation_accuracy),
        ("accuracy, several views", |it| it.tta_accuracy),
        ("accuracy, raw weights", |it| it.raw_accuracy),
        ("cross-entropy", |it| it.loss),
        ("validation cross-entropy", |it| it.validation_loss),
    ];
    let has_values = |(_, of): &&Column| evaluations.iter().any(|it| of(it).is_some());
    let columns: Vec<&Column> = columns.iter().filter(has_values).collect();
    html! {
        details open[evaluations.len() <= 12] {
            summary { (count(evaluations.len(), "checkpoint")) @if evaluations.len() == 1 { " was scored" } @else { " were scored" } @if evaluations.len() > SCORED { ", of which the last " (SCORED) } }
            div.scroll {
                table {
                    thead { tr { th.number { "step" } @for (name, _) in &columns { th.number { (name) } } th {} } }
                    tbody {
                        @for evaluation in evaluations.iter().rev().take(SCORED) {
                            tr {
                                td.number { (grouped(evaluation.step as f64)) }
                                @for (_, of) in &columns { td.number { (of(evaluation).map_or_else(|| "-".to_owned(), |it| format!("{it:.4}"))) } }
                                td {
                                    @if best == Some(evaluation.step) { "best" }
                                    @if let Some(damage) = &evaluation.damage { span.bad { "damaged: " (damage) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_of_a_perfect_curve_is_1_and_of_chance_the_share_of_the_class() {
        // Thresholds from the lowest on.
        assert_eq!(area(&[0.1, 1.0, 1.0, 0.0], &[1.0, 1.0, 0.5, 0.0]), 1.0);
        let chance = area(&[0.1, 0.1, 0.1], &[1.0, 0.5, 0.0]);
        assert!((chance - 0.1).abs() < 1e-7, "{chance}");
        assert_eq!(area(&[0.0; 3], &[0.0; 3]), 0.0);
        assert_eq!(pr_path(&[0.0; 3], &[0.0; 3]), "");
    }
}
