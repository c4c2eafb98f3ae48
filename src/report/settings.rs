//! What a sweep's settings come to, drawn: over one field its scores, over two a heat map, over more parallel coordinates.

use maud::{Markup, html};

use super::axis::{Axis, FieldAxis, shown};
use super::chart::{WIDTH, dot, drawn, frame, joined};
use crate::sweep::results::{Results, Setting, spread, values};
use crate::sweep::{Goal, labels};

/// Values of a field in a heat map at most.
const CELLS: usize = 12;

/// A field that differs between settings.
struct Parameter {
    label: String,
    /// Of each setting.
    values: Vec<Option<String>>,
}

/// The settings of a sweep as a figure; none where they differ in no field, or none has a score.
pub fn figure(results: &Results) -> Option<Markup> {
    let settings = results.settings();
    let scored: Vec<&Setting> = settings.iter().filter(|it| score(it).is_some()).collect();
    if scored.is_empty() {
        return None;
    }
    let fields = results.sweep.definition.fields();
    let labels = labels(&fields);
    let rows: Vec<Vec<Option<String>>> = scored
        .iter()
        .map(|setting| values(&fields, setting.values, setting.spec))
        .collect();
    let parameters = labels
        .into_iter()
        .enumerate()
        .map(|(column, (_, label))| Parameter {
            label,
            values: rows.iter().map(|row| row[column].clone()).collect(),
        });
    let differs = |it: &Parameter| it.values.iter().any(|value| *value != it.values[0]);
    let parameters: Vec<Parameter> = parameters.filter(differs).collect();
    let images = if results.has_validation() {
        "validation"
    } else {
        "test"
    };
    let metric = format!("{} on the {images} images", results.metric());
    match &parameters[..] {
        [] => None,
        [one] => dots(results, one, &scored, &metric),
        [a, b] => heat_map(results, a, b, &scored, &metric)
            .or_else(|| coordinates(results, &parameters, &scored, &metric)),
        _ => coordinates(results, &parameters, &scored, &metric),
    }
}

/// The mean score of a setting, also one that does not count yet.
fn score(setting: &Setting) -> Option<f64> {
    setting.judged.mean().or_else(|| setting.so_far.mean())
}

/// From 0 for the worst to 1 for the best.
fn quality(results: &Results, settings: &[&Setting]) -> Vec<f64> {
    let scores: Vec<f64> = settings.iter().map(|it| score(it).unwrap_or(0.0)).collect();
    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let share = |score: &f64| match most > least {
        true => (score - least) / (most - least),
        false => 1.0,
    };
    let maximize = results.sweep.definition.metric.goal == Goal::Maximize;
    let quality = |score| {
        if maximize {
            share(score)
        } else {
            1.0 - share(score)
        }
    };
    scores.iter().map(quality).collect()
}

/// The score of every point over the values of one field.
fn dots(
    results: &Results,
    field: &Parameter,
    settings: &[&Setting],
    metric: &str,
) -> Option<Markup> {
    let x = FieldAxis::of(&field.values);
    let all = |setting: &Setting| [setting.judged.known(), setting.so_far.known()].concat();
    let scores: Vec<Vec<f64>> = settings.iter().map(|setting| all(setting)).collect();
    let y = Axis::of(scores.iter().flatten().copied(), true)?.with_room(0.08);
    // Dots at an edge would be cut.
    let x_of = |place: f64| 0.04 + 0.92 * place;
    let at = |x: f64, score: f64| drawn(x_of(x), y.place(score));
    let mut points = String::new();
    let mut means: Vec<(f64, f64)> = Vec::new();
    for ((setting, place), scores) in settings.iter().zip(&x.places).zip(&scores) {
        let Some(place) = *place else { continue };
        points.extend(scores.iter().map(|score| dot(&at(place, *score))));
        means.extend(score(setting).map(|mean| (place, mean)));
    }
    means.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line: Vec<(i64, i64)> = means.iter().map(|(x, mean)| at(*x, *mean)).collect();
    let inner = html! {
        path.line.c0 d=(joined(&line)) {}
        path.dot.c1 d=(points) {}
    };
    let ticks: Vec<(f64, String)> = x
        .ticks
        .into_iter()
        .map(|(place, text)| (x_of(place), text))
        .collect();
    Some(html! {
        figure.chart {
            figcaption {
                h3 { "Score over " (field.label) }
                p { "Each dot is a run; the line joins the means. Upwards: " (results.of()) " " (metric) ". To the right: " (field.label) "." }
            }
            div.plot { (frame(&ticks, &y.ticks(), &format!("{metric} over {}", field.label), &inner)) }
        }
    })
}

/// A table of two fields, each cell with the score of its setting; none where that would have many cells, or many without one.
fn heat_map(
    results: &Results,
    a: &Parameter,
    b: &Parameter,
    settings: &[&Setting],
    metric: &str,
) -> Option<Markup> {
    let ordered = |field: &Parameter| {
        let axis = FieldAxis::of(&field.values);
        let mut values: Vec<(f64, &String)> = axis
            .places
            .iter()
            .zip(&field.values)
            .filter_map(|(place, value)| Some(((*place)?, value.as_ref()?)))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values.dedup_by(|a, b| a.1 == b.1);
        values
            .into_iter()
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
    };
    let (of_a, of_b) = (ordered(a), ordered(b));
    let is_small = of_a.len() <= CELLS && of_b.len() <= CELLS;
    if !is_small || 2 * settings.len() < of_a.len() * of_b.len() {
        return None;
    }
    // The one with fewer values goes across: on a phone there is more room downwards.
    let ((across, columns), (down, rows)) = match of_a.len() <= of_b.len() {
        true => ((a, of_a), (b, of_b)),
        false => ((b, of_b), (a, of_a)),
    };
    let quality = quality(results, settings);
    let cell = |row: &String, column: &String| {
        settings.iter().enumerate().find(|(index, _)| {
            across.values[*index].as_ref() == Some(column)
                && down.values[*index].as_ref() == Some(row)
        })
    };
    Some(html! {
        figure.chart {
            figcaption {
                h3 { "Score by " (down.label) " and " (across.label) }
                p { "The " (results.of()) " " (metric) " of each setting" @if results.sweep.definition.seeds.len() > 1 { ", the mean over its seeds" } ". The stronger a colour, the better." }
            }
            div.scroll {
                table.heat {
                    thead {
                        tr { th {} th colspan=(columns.len()) { (across.label) } }
                        tr { th { (down.label) } @for column in &columns { th { (column) } } }
                    }
                    tbody {
                        @for row in &rows {
                            tr {
                                th { (row) }
                                @for column in &columns {
                                    @match cell(row, column) {
                                        Some((index, setting)) => {
                                            td style=(format!("--v:{:.0}%", 100.0 * quality[index])) title=(spread(&setting.judged)) {
                                                (score(setting).map_or_else(String::new, shown))
                                                @if setting.rank == Some(1) { " " b { "best" } }
                                            }
                                        },
                                        None => td.none { "-" },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// Each setting as a line through its values, an axis below the other, and its score at last.
fn coordinates(
    results: &Results,
    parameters: &[Parameter],
    settings: &[&Setting],
    metric: &str,
) -> Option<Markup> {
    let scores = settings.iter().filter_map(|it| score(it));
    let axis = Axis::of(scores, true)?;
    let last = FieldAxis {
        places: settings
            .iter()
            .map(|it| Some(axis.place(score(it)?)))
            .collect(),
        ticks: axis.ticks(),
    };
    let fields = parameters.iter();
    let mut axes: Vec<(&str, FieldAxis)> = fields
        .map(|field| (&*field.label, FieldAxis::of(&field.values)))
        .collect();
    axes.push((metric, last));
    let height = 100 * (axes.len() - 1);
    let quality = quality(results, settings);
    // Dots and letters at an edge would be cut.
    let x_of = |place: f64| 0.03 + 0.94 * place;
    let line = |setting: usize| {
        let places = axes.iter().enumerate();
        let points: Vec<(i64, i64)> = places
            .filter_map(|(row, (_, axis))| {
                let (x, _) = drawn(x_of(axis.places[setting]?), 0.0);
                Some((x, 100 * row as i64))
            })
            .collect();
        joined(&points)
    };
    let mut order: Vec<usize> = (0..settings.len()).collect();
    order.sort_by(|a, b| quality[*a].total_cmp(&quality[*b]));
    let best = settings.iter().position(|it| it.rank == Some(1));
    Some(html! {
        figure.chart {
            figcaption {
                h3 { "Which values score well" }
                p {
                    "Each line is a setting: from the top down it goes through its value of each field, and ends at its score, the "
                    (results.of()) " " (metric) ". The stronger its colour, the better it is; the best one is thick."
                }
            }
            div.coordinates style=(format!("--rows:{}", axes.len() - 1)) {
                svg viewBox=(format!("0 0 {WIDTH} {height}")) preserveAspectRatio="none" role="img" aria-label=(format!("settings and their {metric}")) {
                    @for row in 0..axes.len() { path.axis d=(format!("M0 {}H{WIDTH}", 100 * row)) {} }
                    @for setting in order {
                        path class=(if best == Some(setting) { "line rated best" } else { "line rated" })
                            style=(format!("--v:{:.0}%", 100.0 * quality[setting])) d=(line(setting)) {}
                    }
                }
                @for (row, (label, axis)) in axes.iter().enumerate() {
                    div.row style=(format!("--row:{row}")) {
                        b { (label) }
                        @for (place, text) in &axis.ticks {
                            span style=(format!("left:{:.1}%", 100.0 * x_of(*place))) { (text) }
                        }
                    }
                }
            }
        }
    })
}
