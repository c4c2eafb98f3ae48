//! `runboard compare` and `diff`: what differs between runs.

use super::choose::{FilterArgs, hint_at_others};
use super::form::{self, FormArgs};
use super::list::{sorted, warn_of_labels};
use super::{RunsArg, path};
use crate::catalog::{Entry, Head, Key, Kind, Table, Value, differing, short};
use crate::home::Home;
use crate::run::{self, Provenance};
use crate::spec::{self, Field, Spec};
use crate::{bail_user, console};
use anyhow::Result;
use clap::Args;
use serde_json::Value as Json;
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
const SCORES: [&str; 7] = [
    "accuracy",
    "last_accuracy",
    "validation_accuracy",
    "validation_loss",
    "tta_accuracy",
    "loss",
    "training_loss",
];

/// What `diff` tells of runs beside their specs and scores.
const BESIDE_SCORES: [&str; 4] = ["steps", "duration", "size", "state"];

/// Runs to compare.
#[derive(Args, Debug)]
pub struct CompareArguments {
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

/// Two things to compare.
#[derive(Args, Debug)]
pub struct DiffArguments {
    /// NAME/TIMESTAMP of a run, NAME for its latest one, an experiment without a run, or a file ending in .yaml
    #[arg(value_parser = path())]
    a: PathBuf,
    /// The same
    #[arg(value_parser = path())]
    b: PathBuf,
    #[command(flatten)]
    runs: RunsArg,
    /// Show what is the same, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    form: FormArgs,
}

/// Compares runs in a table, a row for each.
pub fn compare(arguments: &CompareArguments) -> Result<i32> {
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

/// One of two things that are compared.
struct Side {
    name: String,
    spec: Json,
    /// None of an experiment.
    entry: Option<Entry>,
}

/// Compares two runs, experiments or files, a row for each thing that differs.
pub fn diff(arguments: &DiffArguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    let [a, b] = [side(&runs, &arguments.a)?, side(&runs, &arguments.b)?];
    let mut rows = Vec::new();
    let mut add = |section: &str, name: &str, a: Option<Value>, b: Option<Value>| {
        if arguments.all || a != b {
            let number = |value: &Option<Value>| value.as_ref().and_then(Value::number);
            let change = number(&b).zip(number(&a)).map(|(b, a)| b - a);
            let change = change.filter(|_| SCORES.contains(&name)).map(Value::Change);
            let text = |text: &str| Some(Value::Text(text.to_owned()));
            rows.push(vec![text(section), text(name), a, b, change]);
        }
    };
    for field in Field::all() {
        let value = |spec: &Json| field.value(spec).and_then(Value::of_field);
        add("spec", field.path, value(&a.spec), value(&b.spec));
    }
    if let (Some(a), Some(b)) = (&a.entry, &b.entry) {
        let names = SCORES
            .iter()
            .chain(&BESIDE_SCORES)
            .map(|name| ("scores", *name));
        for (section, name) in names.chain([("data", "data")]) {
            if let Ok(key) = Key::find(name) {
                add(section, name, key.value(a), key.value(b));
            }
        }
        let last = |entry: &Entry| entry.sessions().last().map(provenance).unwrap_or_default();
        let (of_a, of_b) = (last(a), last(b));
        for name in PROVENANCE {
            let value = |of: &[(&str, Option<String>)]| {
                let found = of.iter().find(|(it, _)| it == name);
                found.and_then(|(_, value)| value.clone()).map(Value::Text)
            };
            add("provenance", name, value(&of_a), value(&of_b));
        }
    }
    let head = |name: &str, heading: &str, kind| Head {
        name: name.to_owned(),
        heading: heading.to_owned(),
        kind,
        spare: 0,
    };
    let mut table = Table {
        heads: vec![
            head("section", "", Kind::Text),
            head("name", "", Kind::Text),
            head("a", &a.name, Kind::Text),
            head("b", &b.name, Kind::Text),
            head("change", "CHANGE", Kind::Number),
        ],
        rows,
    };
    if !arguments.form.is_for_programs() {
        table.remove_empty(&["change"]);
        if table.rows.is_empty() {
            console::line("nothing differs");
            return Ok(0);
        }
    }
    arguments.form.print(&table)?;
    Ok(0)
}

/// What is told of a session.
const PROVENANCE: &[&str] = &[
    "commit", "runboard", "program", "burn", "libtorch", "device", "host", "cpu", "cores",
];

/// These of a session, in this order.
pub(super) fn provenance(session: &Provenance) -> Vec<(&'static str, Option<String>)> {
    let commit = session.git.as_ref().map(|git| match git.dirty {
        true => format!("{} and changes", git.commit),
        false => git.commit.clone(),
    });
    let software = &session.software;
    vec![
        ("commit", commit),
        ("runboard", Some(session.runboard.clone())),
        ("program", software.program.clone()),
        ("burn", Some(software.burn.clone())),
        ("libtorch", Some(software.libtorch.clone())),
        ("device", Some(software.device.clone())),
        ("host", session.host.clone()),
        ("cpu", Some(session.cpu.clone())),
        ("cores", Some(session.cores.to_string())),
    ]
}

/// What a user means: a file, a run, or an experiment.
fn side(runs: &Path, what: &Path) -> Result<Side> {
    let is_yaml = what
        .extension()
        .is_some_and(|kind| kind == "yaml" || kind == "yml");
    if is_yaml {
        let is_frozen = what.file_name().is_some_and(|name| name == "spec.yaml");
        let spec = match is_frozen {
            true => Spec::read_frozen(what)?,
            false => spec::load(what, &Home::find()?.experiments(), &[])?.spec,
        };
        return Ok(Side {
            name: what.display().to_string(),
            spec: spec.to_json()?,
            entry: None,
        });
    }
    let experiments = Home::find()?.experiments();
    let found = match run::resolve_any(runs, what) {
        Ok(found) => found,
        Err(no_run) => {
            let names = spec::available(&experiments).unwrap_or_default();
            let name = what.to_string_lossy();
            if !names.iter().any(|it| *it == name) {
                return Err(no_run);
            }
            return Ok(Side {
                name: name.into_owned(),
                spec: spec::load(what, &experiments, &[])?.spec.to_json()?,
                entry: None,
            });
        }
    };
    let entry = Entry::of(found);
    let Some(spec) = entry.spec().cloned() else {
        bail_user!(
            "the spec of {} cannot be read: {}",
            entry.id(),
            entry.all_damage().join("; ")
        );
    };
    Ok(Side {
        name: entry.id().to_owned(),
        spec,
        entry: Some(entry),
    })
}
