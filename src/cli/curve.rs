//! `runboard curve`: points out of event files, as a plot or for programs.

use super::form::{paint, print_json};
use super::{RunsArg, path};
use crate::catalog::Form;
use crate::catalog::{Entry, Head, Kind, Table, Value, curve_name};
use crate::events::{Curve, tags};
use crate::overview::{Series, plot};
use crate::run;
use crate::{console, spec, user_error};
use anyhow::Result;
use chrono::{DateTime, Local};
use clap::Args;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Short names of the curves that are asked for most, and the series that they are.
pub const SHORT: &[(&str, &tags::Series)] = &[
    ("accuracy", &tags::PRECISION_AT_1),
    ("validation_accuracy", &tags::VALIDATION_PRECISION_AT_1),
    ("tta_accuracy", &tags::TTA_PRECISION_AT_1),
    ("training_accuracy", &tags::TRAINING_PRECISION_AT_1),
    ("loss", &tags::TOTAL_LOSS),
    ("eval_loss", &tags::EVAL_CROSS_ENTROPY),
    ("learning_rate", &tags::LEARNING_RATE),
    ("speed", &tags::EXAMPLES_PER_SECOND),
];

/// Rows of a plot.
const HEIGHT: usize = 15;

/// Columns of a plot that is not for a terminal.
const WIDTH: usize = 80;

/// Which curves.
#[derive(Args, Debug)]
pub struct Arguments {
    /// NAME (its latest run), NAME/TIMESTAMP, or a sweep for all of its points
    #[arg(value_name = "RUN", required = true, value_parser = path())]
    what: Vec<PathBuf>,
    #[command(flatten)]
    runs: RunsArg,
    /// The curve: accuracy, loss, learning_rate or another of --list, such as 'train/norm/gradients'
    #[arg(long, value_name = "TAG", default_value = "accuracy")]
    tag: String,
    /// List the curves that there are, and how many points they have
    #[arg(long)]
    list: bool,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Write the points as CSV, with the same names
    #[arg(long, conflicts_with = "list")]
    csv: bool,
}

/// Shows a curve of runs.
pub fn curve(arguments: &Arguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    let mut entries = Vec::new();
    for what in &arguments.what {
        let entry = Entry::of(run::resolve_any(&runs, what)?);
        match entry.is_sweep() {
            true => entries.extend(entry.points()?.into_iter().filter(|it| it.run().is_some())),
            false => entries.push(entry),
        }
    }
    if arguments.list {
        return list(&entries, arguments.json);
    }
    let mut curves: Vec<(String, Curve)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &entries {
        let mut all = entry.curves()?;
        let wanted = wanted(&arguments.tag, &all);
        curves.push((
            entry.id().to_owned(),
            wanted
                .and_then(|name| all.remove(&name))
                .unwrap_or_default(),
        ));
        known.extend(all.into_iter().map(|(name, curve)| (name, curve.len())));
    }
    if curves.iter().all(|(_, curve)| curve.is_empty()) {
        return Err(none(&arguments.tag, &known));
    }
    if arguments.csv || arguments.json {
        let form = if arguments.csv { Form::Csv } else { Form::Json };
        console::output(table(&curves).write(form))?;
        return Ok(0);
    }
    for (id, _) in curves.iter().filter(|(_, curve)| curve.is_empty()) {
        console::stderr_line(format_args!("{id} has no points of {}", arguments.tag));
    }
    let series: Vec<Series> = curves
        .iter()
        .filter(|(_, curve)| !curve.is_empty())
        .map(|(id, curve)| series(id, curve))
        .collect();
    let lines = plot(
        &series,
        console::columns().unwrap_or(WIDTH),
        HEIGHT,
        paint(),
    );
    console::output(lines.join("\n"))?;
    Ok(0)
}

/// What a user calls so: a short name, `train/TAG`, or a tag, of the trainer first.
fn wanted(tag: &str, curves: &BTreeMap<String, Curve>) -> Option<String> {
    let short = SHORT.iter().find(|(name, _)| *name == tag);
    let short = short.map(|(_, series)| curve_name(series));
    let names = [
        tag.to_owned(),
        format!("train/{tag}"),
        format!("eval/{tag}"),
    ];
    short
        .into_iter()
        .chain(names)
        .find(|name| curves.contains_key(name))
}

/// That there is no such curve, and the nearest one.
fn none(tag: &str, known: &BTreeMap<String, usize>) -> anyhow::Error {
    let is_short = SHORT.iter().any(|(name, _)| *name == tag);
    if is_short || known.is_empty() {
        return user_error!("--tag: no run has points of {tag} yet");
    }
    let short = SHORT.iter().map(|(name, _)| *name);
    let tags = known.keys().map(String::as_str);
    let bare = known
        .keys()
        .filter_map(|name| Some(name.split_once('/')?.1));
    let near = spec::nearest(tag, short.chain(tags).chain(bare));
    let hint = near.map_or_else(String::new, |near| format!(" did you mean '{near}'?"));
    user_error!("--tag: unknown curve '{tag}';{hint} `runboard curve RUN --list` names all")
}

/// Prints the names of all curves.
fn list(entries: &[Entry], json: bool) -> Result<i32> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries {
        for (name, curve) in entry.curves()? {
            *counts.entry(name).or_default() += curve.len();
        }
    }
    let short = |name: &str| {
        let is_it = |(_, series): &&(&str, &tags::Series)| curve_name(series) == name;
        SHORT.iter().find(is_it).map(|(short, _)| *short)
    };
    if json {
        let all = counts
            .iter()
            .map(|(name, points)| json!({"tag": name, "short": short(name), "points": points}));
        let all: Vec<Json> = all.collect();
        print_json(&all)?;
        return Ok(0);
    }
    for (name, points) in &counts {
        let short = short(name).map(|short| format!("  ({short})"));
        console::output(format_args!(
            "{points:>8}  {name}{}",
            short.unwrap_or_default()
        ))?;
    }
    Ok(0)
}

/// A row for each point.
fn table(curves: &[(String, Curve)]) -> Table {
    let head = |name: &str, kind| Head::new(name, &name.to_uppercase(), kind);
    let rows = curves.iter().flat_map(|(id, curve)| {
        curve.iter().map(|point| {
            let milliseconds = (point.wall_time * 1e3) as i64;
            let time = DateTime::from_timestamp_millis(milliseconds);
            // As few digits as tell it from all others of its type.
            let value = point.value.to_string().parse().unwrap_or(f64::NAN);
            vec![
                Some(Value::Text(id.clone())),
                u64::try_from(point.step).ok().map(Value::Count),
                time.map(|time| Value::Time(time.with_timezone(&Local))),
                Some(Value::Number(value)),
            ]
        })
    });
    Table {
        heads: vec![
            head("run", Kind::Text),
            head("step", Kind::Number),
            head("time", Kind::Time),
            head("value", Kind::Number),
        ],
        rows: rows.collect(),
    }
}

fn series(id: &str, curve: &Curve) -> Series {
    let last = curve.last().map(|point| point.value);
    let points = curve
        .iter()
        .map(|point| (point.step as f64, f64::from(point.value)));
    let last = last.map_or_else(String::new, |last| {
        format!(
            ", at last {}",
            crate::overview::text::number(f64::from(last))
        )
    });
    Series {
        name: format!("{id}{last}"),
        points: points.collect(),
    }
}
