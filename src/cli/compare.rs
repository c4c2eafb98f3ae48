//! `runboard compare`: runs side by side, their scores and the fields in which they differ.

use super::choose::{FilterArgs, hint_at_others};
use super::form::{self, FormArgs};
use super::list::{sorted, warn_of_labels};
use super::{RunsArg, path};
use crate::catalog::{Entry, Head, Key, Kind, Table, Value, differing, short};
use crate::run;
use crate::spec::Field;
use crate::{bail_user, console};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

/// What runs are compared by, beside the fields in which they differ. A narrow terminal leaves those with the highest numbers
/// out first.
const METRICS: [(&str, u8); 9] = [
    ("accuracy", 0),
    ("last_accuracy", 9),
    ("validation_accuracy", 3),
    ("validation_loss", 6),
    ("tta_accuracy", 5),
    ("loss", 7),
    ("training_loss", 10),
    ("steps", 8),
    ("duration", 4),
];

/// The number of the fields, which go last, and of those among them that say little of what was tried.
const SPARE_FIELDS: u8 = 1;
const SPARE_ASIDE: u8 = 2;

/// Those of which a baseline has a difference to.
pub(super) const SCORES: [&str; 7] = [
    "accuracy",
    "last_accuracy",
    "validation_accuracy",
    "validation_loss",
    "tta_accuracy",
    "loss",
    "training_loss",
];

/// Runs to compare.
#[derive(Args, Debug)]
pub struct Arguments {
    /// NAME (its latest run), NAME/TIMESTAMP, or a sweep for all of its points; else all runs that the options choose
    #[arg(value_name = "RUN", value_parser = path())]
    what: Vec<PathBuf>,
    #[command(flatten)]
    runs: RunsArg,
    #[command(flatten)]
    filter: FilterArgs,
    /// A run that comes first, with the others' differences to its scores
    #[arg(long, value_name = "RUN", value_parser = path())]
    baseline: Option<PathBuf>,
    /// Sort by these columns, the best or largest first
    #[arg(long, value_name = "COLUMN,...")]
    sort: Option<String>,
    /// Show these columns (docs/columns.md) or fields of the spec as well
    #[arg(long, value_name = "COLUMN,...")]
    columns: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    form: FormArgs,
}

/// Compares runs in a table, a row for each.
pub fn compare(arguments: &Arguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    run::check_directory(&runs)?;
    let sort = form::keys("--sort", arguments.sort.as_deref().unwrap_or_default())?;
    let more = form::keys(
        "--columns",
        arguments.columns.as_deref().unwrap_or_default(),
    )?;
    let entries = match &arguments.what[..] {
        [] => Entry::all(&runs)
            .into_iter()
            .flat_map(opened_or_left_out)
            .collect(),
        what => opened(found(&runs, what)?)?,
    };
    let mut entries = arguments.filter.choose(entries)?;
    if !sort.is_empty() {
        entries = sorted(entries, &sort, false);
    }
    entries.truncate(arguments.limit.unwrap_or(usize::MAX));
    if let Some(baseline) = &arguments.baseline {
        let baseline = Entry::of(run::resolve_any(&runs, baseline)?);
        if baseline.is_sweep() {
            bail_user!(
                "--baseline: {} is a sweep; want a run, such as one of its points",
                baseline.id()
            );
        }
        entries.retain(|entry| entry.id() != baseline.id());
        entries.insert(0, baseline);
    }
    if entries.is_empty() && !arguments.form.is_for_programs() {
        console::stderr_line("no runs to compare");
    }
    let mut table = comparison(&entries, &more);
    if arguments.baseline.is_some() {
        add_changes(&mut table);
    }
    if !arguments.form.is_for_programs() {
        remove_empty(&mut table);
    }
    arguments.form.print_whole(&table)?;
    warn_of_labels(&entries);
    if let ([what], false) = (&arguments.what[..], arguments.form.is_for_programs()) {
        hint_at_others("compare", &runs, what, &run::resolve_any(&runs, what)?);
    }
    Ok(0)
}

/// What runs are compared by that none of them has, people need not see.
pub(super) fn remove_empty(table: &mut Table) {
    table.remove_empty(&METRICS.map(|(name, _)| name));
}

/// The runs that are meant, in this order.
pub(super) fn found(runs: &Path, what: &[PathBuf]) -> Result<Vec<Entry>> {
    what.iter()
        .map(|what| Ok(Entry::of(run::resolve_any(runs, what)?)))
        .collect()
}

/// A run, or the points of a sweep; none of one that cannot be read, which is told.
fn opened_or_left_out(entry: Entry) -> Vec<Entry> {
    let id = entry.id().to_owned();
    opened(vec![entry]).unwrap_or_else(|error| {
        console::warning_beside_answer(format_args!("{id} is left out: {error:#}"));
        Vec::new()
    })
}

/// Each sweep's points in its place.
///
/// # Errors
/// A user error for a sweep that cannot be read.
pub(super) fn opened(entries: Vec<Entry>) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in entries {
        match entry.is_sweep() {
            true => all.extend(entry.points()?),
            false => all.push(entry),
        }
    }
    Ok(all)
}

/// A row for each run: its scores, and the fields in which not all are the same.
pub fn comparison(entries: &[Entry], more: &[Key]) -> Table {
    let names = ["run"].into_iter().chain(METRICS.map(|(name, _)| name));
    let mut keys: Vec<Key> = names.filter_map(|name| Key::find(name).ok()).collect();
    let fields = differing(&entries.iter().collect::<Vec<_>>());
    let fields = fields
        .into_iter()
        .map(Key::Field)
        .chain(more.iter().copied());
    let fields: Vec<Key> = fields.filter(|key| !keys.contains(key)).collect();
    keys.extend(fields);
    let mut table = Table::of(entries, &keys);
    for (head, key) in table.heads.iter_mut().zip(&keys) {
        let metric = METRICS.iter().find(|(name, _)| *name == head.name);
        head.spare = match key {
            // What is asked for stays.
            _ if head.name == "run" || more.contains(key) => 0,
            Key::Field(field) if is_aside(field) => SPARE_ASIDE,
            _ => metric.map_or(SPARE_FIELDS, |(_, spare)| *spare),
        };
        if let Key::Field(field) = key {
            head.heading = short(field.path).to_owned();
        }
    }
    table
}

/// Whether a field says how a run was computed or reported rather than what was tried.
fn is_aside(field: &Field) -> bool {
    let is_length =
        |path: &str| path.starts_with("stop.") || ["train.steps", "train.epochs"].contains(&path);
    field.path.starts_with("compute.") || field.changeable && !is_length(field.path)
}

/// Beside each score the difference to that of the first row.
fn add_changes(table: &mut Table) {
    for name in SCORES {
        let Some(column) = table.heads.iter().position(|head| head.name == name) else {
            continue;
        };
        let number = |row: &Vec<Option<Value>>| row[column].as_ref().and_then(Value::number);
        let base = table.rows.first().and_then(number);
        let changes: Vec<Option<Value>> = table
            .rows
            .iter()
            .enumerate()
            .map(|(row, cells)| {
                let change = number(cells)? - base?;
                (row > 0).then_some(Value::Change(change))
            })
            .collect();
        if changes.iter().all(Option::is_none) {
            continue;
        }
        let head = Head {
            name: format!("{name}_change"),
            heading: "+/-".to_owned(),
            kind: Kind::Number,
            spare: table.heads[column].spare,
        };
        table.heads.insert(column + 1, head);
        for (row, change) in table.rows.iter_mut().zip(changes) {
            row.insert(column + 1, change);
        }
    }
}
