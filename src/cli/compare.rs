//! `runboard compare`: runs side by side, their scores and the fields in which they differ.

use super::choose::{FilterArgs, hint_at_others};
use super::form::{self, FormArgs};
use super::list::{label_problems, sorted, warn_of_labels};
use super::{RunsArg, path};
use crate::catalog::{
    Entry, Group, Head, Key, Kind, Row, Table, Value, differing, differing_settings, short,
};
use crate::run;
use crate::spec::Field;
use crate::{bail_user, console};
use anyhow::Result;
use clap::Args;
use std::collections::HashSet;
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
    /// Make one row of the runs of a name that differ in these fields alone, such as seed: the means of their scores
    #[arg(long, value_name = "FIELD,...")]
    mean_over: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    form: FormArgs,
}

/// Compares runs in a table, a row for each, or for those that differ in some fields alone.
pub fn compare(arguments: &Arguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    run::check_directory(&runs)?;
    let sort = form::keys("--sort", arguments.sort.as_deref().unwrap_or_default())?;
    let more = form::keys(
        "--columns",
        arguments.columns.as_deref().unwrap_or_default(),
    )?;
    let over = arguments.mean_over.as_deref();
    let over = over.map(|it| fields_of("--mean-over", it)).transpose()?;
    let entries = match &arguments.what[..] {
        [] => Entry::all(&runs)
            .into_iter()
            .flat_map(opened_or_left_out)
            .collect(),
        what => opened(found(&runs, what)?)?,
    };
    let mut entries = arguments.filter.choose(entries)?;
    let mut known = HashSet::new();
    entries.retain(|entry| known.insert(entry.id().to_owned()));
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
    let (mut table, label_problems) = match over {
        None => {
            let entries = arguments.arranged(entries, &sort);
            let fields = differing(&entries.iter().collect::<Vec<_>>());
            let more = with_differing(&more, &entries, &["weights_from"]);
            let table = table_of("run", &entries, fields, &more);
            (table, label_problems(&entries))
        }
        Some(over) => {
            let mut fields = differing_settings(&entries.iter().collect::<Vec<_>>());
            fields.retain(|field| !over.iter().any(|it| it.path == field.path));
            // A point that waits has none yet.
            let unreadable = |entry: &&Entry| entry.run().is_some() && entry.spec().is_none();
            for entry in entries.iter().filter(unreadable) {
                console::warning_beside_answer(format_args!(
                    "{} is left out: its spec cannot be read",
                    entry.id()
                ));
            }
            let groups = arguments.arranged(Group::of(entries, &fields, &over), &sort);
            let more = with_differing(&more, &groups, &Group::BESIDE);
            let mut table = table_of("name", &groups, fields, &more);
            add_counts(&mut table, &groups, arguments.form.is_for_programs());
            (table, label_problems(groups.iter().flat_map(Group::runs)))
        }
    };
    if arguments.baseline.is_some() {
        add_changes(&mut table);
    }
    if !arguments.form.is_for_programs() {
        remove_empty(&mut table);
    }
    arguments.form.print_whole(&table)?;
    warn_of_labels(&label_problems);
    if let ([what], false) = (&arguments.what[..], arguments.form.is_for_programs()) {
        let over = arguments.mean_over.iter().map(String::as_str);
        let command: Vec<&str> = ["compare"]
            .into_iter()
            .chain(over.flat_map(|over| ["--mean-over", over]))
            .collect();
        hint_at_others(&command, &runs, what, &run::resolve_any(&runs, what)?);
    }
    Ok(0)
}

impl Arguments {
    /// So many rows as there shall be, in their order. The first one is that of the baseline, if there is one, and stays.
    fn arranged<R: Row>(&self, mut rows: Vec<R>, sort: &[Key]) -> Vec<R> {
        let baseline: Vec<R> = rows.drain(..usize::from(self.baseline.is_some())).collect();
        if !sort.is_empty() {
            rows = sorted(rows, sort, false);
        }
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        baseline.into_iter().chain(rows).collect()
    }
}

/// The fields that a user lists with commas, the argument of `option`.
///
/// # Errors
/// A user error for a name that is none.
fn fields_of(option: &str, list: &str) -> Result<Vec<&'static Field>> {
    let field = |key| match key {
        Key::Field(field) => Ok(field),
        Key::Column(column) => bail_user!(
            "{option}: {}: got a column, want fields of a spec, such as seed",
            column.name
        ),
    };
    let fields: Vec<&Field> = form::keys(option, list)?
        .into_iter()
        .map(field)
        .collect::<Result<_>>()?;
    match fields.is_empty() {
        true => bail_user!("{option}: got nothing, want fields of a spec, such as seed"),
        false => Ok(fields),
    }
}

/// Of how many runs each row is, and how many of those have not trained to their end. Programs get the ids and the deviations of the
/// scores as well, which people read beside the means.
fn add_counts(table: &mut Table, groups: &[Group], is_for_programs: bool) {
    let count = |count: usize| Some(Value::Count(count as u64));
    let runs = groups.iter().map(|group| count(group.runs().len()));
    table.insert(1, Head::new("runs", "RUNS", Kind::Number), runs);
    let unfinished = groups.iter().map(|group| count(group.unfinished()));
    let heading = "NOT FINISHED";
    table.insert(
        2,
        Head::new("unfinished", heading, Kind::Number),
        unfinished,
    );
    let repetitions = groups.iter().map(|group| count(group.repetitions()));
    let head = Head::new("repetitions", "REPETITIONS LEFT OUT", Kind::Number);
    table.insert(3, head, repetitions);
    if !is_for_programs {
        return table.remove_empty(&["unfinished", "repetitions"]);
    }
    let ids = groups.iter().map(|group| {
        let ids = group.runs().iter().map(|run| run.id().to_owned());
        Some(Value::List(ids.collect()))
    });
    table.insert(4, Head::new("run_ids", "", Kind::List), ids);
    for (name, key) in SCORES
        .iter()
        .filter_map(|name| Some((name, Key::find(name).ok()?)))
    {
        let Some(place) = table.heads.iter().position(|head| head.name == *name) else {
            continue;
        };
        let deviations = groups
            .iter()
            .map(|group| group.deviation(key).map(Value::Number));
        let head = Head::new(&format!("{name}_deviation"), "", Kind::Number);
        table.insert(place + 1, head, deviations);
    }
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

/// These columns, and those of the others in which not all rows have the same.
fn with_differing(more: &[Key], rows: &[impl Row], others: &[&str]) -> Vec<Key> {
    let others = others.iter().filter_map(|name| Key::find(name).ok());
    let differs = |key: &Key| {
        rows.windows(2)
            .any(|it| it[0].value(*key) != it[1].value(*key))
    };
    let others = others.filter(|key| differs(key) && !more.contains(key));
    more.iter().copied().chain(others).collect()
}

/// A row for each run: its scores, and the fields in which not all are the same.
pub fn comparison(entries: &[Entry]) -> Table {
    let fields = differing(&entries.iter().collect::<Vec<_>>());
    table_of("run", entries, fields, &[])
}

/// A row for each: what it is, its scores, these fields, and what else is asked for.
fn table_of(
    name: &'static str,
    rows: &[impl Row],
    fields: Vec<&'static Field>,
    more: &[Key],
) -> Table {
    let names = [name].into_iter().chain(METRICS.map(|(name, _)| name));
    let mut keys: Vec<Key> = names.filter_map(|name| Key::find(name).ok()).collect();
    let fields = fields
        .into_iter()
        .map(Key::Field)
        .chain(more.iter().copied());
    let fields: Vec<Key> = fields.filter(|key| !keys.contains(key)).collect();
    keys.extend(fields);
    let mut table = Table::of(rows, &keys);
    for (head, key) in table.heads.iter_mut().zip(&keys) {
        let metric = METRICS.iter().find(|(name, _)| *name == head.name);
        head.spare = match key {
            // What is asked for stays.
            _ if head.name == name || more.contains(key) => 0,
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
        table.insert(column + 1, head, changes);
    }
}
