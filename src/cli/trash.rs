//! `runboard rm`, `restore` and `gc`: runs into the trash, back, and out of it for good.

use super::choose::FilterArgs;
use super::form::{confirm, print_json};
use super::{RunsArg, path};
use crate::catalog::{Entry, Key, Trash, Trashed, Value, age};
use crate::overview::{bytes, count};
use crate::run::{self, Found};
use crate::{bail_user, console, spec};
use anyhow::Result;
use chrono::{Local, TimeDelta};
use clap::Args;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The columns that programs get.
const FOR_PROGRAMS: [&str; 8] = [
    "run", "name", "kind", "state", "points", "accuracy", "tags", "size",
];

/// Runs to remove.
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// NAME/TIMESTAMP or a directory, of runs or sweeps; NAME if that has one run only
    #[arg(value_name = "RUN", value_parser = path())]
    what: Vec<PathBuf>,
    #[command(flatten)]
    runs: RunsArg,
    #[command(flatten)]
    filter: FilterArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Say nothing; without --yes it still asks
    #[arg(long, short)]
    quiet: bool,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long, requires = "yes", conflicts_with = "quiet")]
    json: bool,
}

/// Runs to put back.
#[derive(Args, Debug)]
pub struct RestoreArguments {
    /// NAME/TIMESTAMP, or NAME for the one that was removed last; without any, what is in the trash is listed
    #[arg(value_name = "RUN")]
    what: Vec<String>,
    #[command(flatten)]
    runs: RunsArg,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
}

/// What to delete for good.
#[derive(Args, Debug)]
pub struct CollectArguments {
    #[command(flatten)]
    runs: RunsArg,
    /// Only what was removed so long ago, such as 30d or 12h
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// Keep, of each experiment, the run with the best accuracy of those in the trash, or the newest where none has one
    #[arg(long)]
    keep_best: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Say nothing; without --yes it still asks
    #[arg(long, short)]
    quiet: bool,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long, requires = "yes", conflicts_with = "quiet")]
    json: bool,
}

/// Moves runs to the trash, after showing which.
pub fn remove(arguments: &RemoveArguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    let trash = Trash::of(&runs);
    let tell = teller(arguments.quiet);
    let entries = match (&arguments.what[..], arguments.filter.is_given()) {
        ([], false) => bail_user!(
            "which runs? want NAME/TIMESTAMP, or options that choose some, such as --state failed or --where 'accuracy<0.2'"
        ),
        ([], true) => arguments.filter.choose(Entry::all(&runs))?,
        (_, true) => {
            bail_user!("got runs by name and options that choose some; want one of the two")
        }
        (what, false) => named(&runs, what)?,
    };
    if entries.is_empty() && !arguments.json {
        tell(&"these options choose no run; nothing is removed");
        return Ok(0);
    }
    for entry in &entries {
        trash.check(entry)?;
    }
    if arguments.json {
        let removed: Vec<Json> = entries.iter().map(as_json).collect();
        for entry in &entries {
            trash.put(entry)?;
        }
        return print(removed);
    }
    entries.iter().for_each(|entry| tell(&described(entry)));
    let size = bytes(entries.iter().filter_map(Entry::size).sum());
    let many = count(entries.len(), "run");
    let question = format!("move {} ({size}) to the trash?", noun(&entries, &many));
    if !arguments.yes && !confirm(&question)? {
        tell(&"nothing is removed");
        return Ok(0);
    }
    for entry in &entries {
        trash.put(entry)?;
    }
    tell(&format_args!(
        "moved to the trash, {}; `runboard restore RUN` puts back, `runboard gc` deletes",
        runs.join(".trash").display()
    ));
    Ok(0)
}

/// Moves runs back from the trash.
pub fn restore(arguments: &RestoreArguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    run::check_directory(&runs)?;
    let trash = Trash::of(&runs);
    let there = trash.list()?;
    if arguments.what.is_empty() {
        if arguments.json {
            return print(there.iter().map(as_json_in_trash).collect());
        }
        if there.is_empty() {
            console::line("the trash is empty");
        }
        for trashed in &there {
            console::output(described_in_trash(trashed))?;
        }
        return Ok(0);
    }
    let mut found: Vec<&Trashed> = Vec::new();
    for what in &arguments.what {
        let what = what.trim_end_matches('/');
        let is_it = |trashed: &&Trashed| trashed.id() == what || trashed.entry.name() == what;
        match there.iter().find(is_it) {
            Some(trashed) if found.iter().any(|it| it.id() == trashed.id()) => {} // named twice
            Some(trashed) => found.push(trashed),
            None => {
                let near = spec::nearest(what, there.iter().map(Trashed::id));
                bail_user!(
                    "no run '{what}' in the trash{}; `runboard restore` lists what is there",
                    spec::did_you_mean(near)
                );
            }
        }
    }
    let mut back = Vec::new();
    for trashed in found {
        let mut it = as_json(&trashed.entry);
        let place = trash.restore(trashed)?;
        match arguments.json {
            true => {
                it["run"] = trashed.id().into();
                it["path"] = place.display().to_string().into();
                back.push(it);
            }
            false => console::line(format_args!("{} is back", place.display())),
        }
    }
    match arguments.json {
        true => print(back),
        false => Ok(0),
    }
}

/// Deletes what is in the trash, after showing it.
pub fn collect(arguments: &CollectArguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    run::check_directory(&runs)?;
    let trash = Trash::of(&runs);
    let tell = teller(arguments.quiet);
    let older_than = arguments.older_than.as_deref();
    let older_than = older_than
        .map(|text| age("--older-than", text))
        .transpose()?;
    let mut there = trash.list()?;
    if arguments.keep_best {
        let best = best_of_each(&there);
        let is_best = |trashed: &Trashed| best.iter().any(|id| id == trashed.entry.id());
        for kept in there.iter().filter(|trashed| is_best(trashed)) {
            if !arguments.json {
                tell(&format_args!(
                    "{} stays: the best of {} in the trash",
                    kept.id(),
                    kept.entry.name()
                ));
            }
        }
        there.retain(|trashed| !is_best(trashed));
    }
    if let Some(seconds) = older_than {
        let least = TimeDelta::milliseconds((seconds * 1e3) as i64);
        there.retain(|trashed| Local::now() - trashed.removed >= least);
    }
    if arguments.json {
        let deleted = there.iter().map(as_json_in_trash).collect();
        for trashed in &there {
            trash.delete(trashed)?;
        }
        return print(deleted);
    }
    if there.is_empty() {
        tell(&"nothing is to be deleted");
        return Ok(0);
    }
    there.iter().for_each(|it| tell(&described_in_trash(it)));
    let size = bytes(
        there
            .iter()
            .filter_map(|trashed| trashed.entry.size())
            .sum(),
    );
    let entries = there.iter().map(|trashed| &trashed.entry);
    let many = count(there.len(), "run");
    let question = format!("delete {} ({size}) for good?", noun(entries, &many));
    if !arguments.yes && !confirm(&question)? {
        tell(&"nothing is deleted");
        return Ok(0);
    }
    for trashed in &there {
        trash.delete(trashed)?;
    }
    tell(&format_args!(
        "{} deleted, {size} are free again",
        noun(there.iter().map(|it| &it.entry), &many)
    ));
    Ok(0)
}

/// Says what a person is told, if not `quiet`.
fn teller(quiet: bool) -> impl Fn(&dyn Display) {
    move |text| match quiet {
        true => {}
        false => console::line(text),
    }
}

/// The runs that these names mean, each by a name that means it alone.
fn named(runs: &Path, what: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for path in what {
        let found = run::resolve_any(runs, path)?;
        let name = found.name();
        // Also as a shell completes it, `runs/NAME/`.
        let is_name = Found::open(path).is_none() && path.file_name() == Some(name.as_ref());
        if is_name {
            let same = run::list_of_name(runs, &name).len();
            if same > 1 {
                bail_user!(
                    "{name} has {}; want one by its timestamp, such as {}, or --name {name} for all",
                    count(same, "run"),
                    found.id()
                );
            }
        }
        if !entries.iter().any(|entry| entry.id() == found.id()) {
            entries.push(Entry::of(found));
        }
    }
    Ok(entries)
}

/// `1 run`, or `2 runs and sweeps`.
fn noun<'a>(entries: impl IntoIterator<Item = &'a Entry>, many: &str) -> String {
    match entries.into_iter().any(Entry::is_sweep) {
        true => format!("{many} and sweeps").replace("1 run and sweeps", "1 sweep"),
        false => many.to_owned(),
    }
}

/// A run in a line: what would be missed.
fn described(entry: &Entry) -> String {
    let accuracy = entry.scores().best.map(|best| format!("accuracy {best}"));
    let points = entry
        .standing()
        .map(|standing| count(standing.sweep.points.len(), "point"));
    let tags = (!entry.labels().tags.is_empty())
        .then(|| format!("tagged {}", entry.labels().tags.join(", ")));
    let size = entry.size().map(bytes);
    let parts = [entry.state(), points, accuracy, size, tags];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("  {}   {}", entry.id(), parts.join("   "))
}

fn described_in_trash(trashed: &Trashed) -> String {
    let ago = Value::Age((Local::now() - trashed.removed).as_seconds_f64()).text();
    let text = described(&trashed.entry).replacen(trashed.entry.id(), trashed.id(), 1);
    format!("{text}   removed {ago} ago")
}

/// What programs get of a run, by the names of its columns.
fn as_json(entry: &Entry) -> Json {
    let value = |name: &str| {
        let value = Key::find(name).ok().and_then(|key| key.value(entry));
        value.as_ref().map_or(Json::Null, Value::json)
    };
    let columns = FOR_PROGRAMS.iter();
    Json::Object(
        columns
            .map(|name| ((*name).to_owned(), value(name)))
            .collect(),
    )
}

/// The same in the trash, with the name by which `restore` finds it.
fn as_json_in_trash(trashed: &Trashed) -> Json {
    let mut it = as_json(&trashed.entry);
    it["run"] = trashed.id().into();
    it["removed"] = Value::Time(trashed.removed).json();
    it
}

/// Prints what programs get.
fn print(list: Vec<Json>) -> Result<i32> {
    print_json(&list)?;
    Ok(0)
}

/// The ids of the entries with the best accuracy of each experiment, or of the newest one where none has an accuracy.
fn best_of_each(there: &[Trashed]) -> Vec<String> {
    let mut best: BTreeMap<&str, (Option<f64>, &str)> = BTreeMap::new();
    let accuracy = |entry: &Entry| {
        let value = Key::find("accuracy").ok()?.value(entry)?;
        value.number()
    };
    for trashed in there {
        let entry = &trashed.entry;
        // An id ends with the time, and none is less than any accuracy.
        let this = (accuracy(entry), entry.id());
        let kept = best.entry(entry.name()).or_insert(this);
        if this > *kept {
            *kept = this;
        }
    }
    best.into_values().map(|(_, id)| id.to_owned()).collect()
}
