//! `runboard list`: the runs, their states and scores.

use super::choose::{FilterArgs, hint_at_others};
use super::form::{self, FormArgs};
use super::{RunsArg, path};
use crate::catalog::{COLUMNS, Entry, First, Form, Key, Row, Table, map};
use crate::console;
use crate::home::Home;
use crate::overview::count;
use crate::run::{self, Found, commands};
use crate::spec;
use anyhow::Result;
use clap::Args;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// What is listed where nothing else is asked for. A narrow terminal leaves those with the highest numbers out first.
const DEFAULT: [(&str, u8); 14] = [
    ("run", 0),
    ("state", 0),
    ("steps", 7),
    ("accuracy", 0),
    ("last_accuracy", 5),
    ("validation_accuracy", 3),
    ("age", 1),
    ("duration", 4),
    ("size", 6),
    ("evaluation", 10),
    ("restarts", 9),
    ("rollbacks", 8),
    ("tags", 2),
    ("changes", 0),
];

/// What programs get as well.
const FOR_PROGRAMS: [&str; 8] = [
    "name",
    "kind",
    "steps_total",
    "points",
    "points_done",
    "created",
    "best_step",
    "loss",
];

/// Those that are left out where no run has a value.
const OPTIONAL: [&str; 9] = [
    "validation_accuracy",
    "last_accuracy",
    "accuracy",
    "evaluation",
    "restarts",
    "rollbacks",
    "tags",
    "changes",
    "steps",
];

/// Which runs to list, and how.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A sweep, whose points are listed, or a run alone
    #[arg(value_parser = path())]
    what: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArg,
    #[command(flatten)]
    filter: FilterArgs,
    /// Sort by these columns, the best or largest first; without it the newest run is first
    #[arg(long, value_name = "COLUMN,...")]
    sort: Option<String>,
    /// Sort the other way round
    #[arg(long)]
    reverse: bool,
    /// Show these columns (docs/columns.md) or fields of the spec; with a + before the first beside the usual ones, or all
    #[arg(long, value_name = "COLUMN,...")]
    columns: Option<String>,
    /// Show so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Show the points of each sweep, too
    #[arg(long)]
    points: bool,
    #[command(flatten)]
    form: FormArgs,
}

/// Lists runs and sweeps.
pub fn list(arguments: &Arguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    run::check_directory(&runs)?;
    let (keys, is_default) = arguments.keys()?;
    let sort = form::keys("--sort", arguments.sort.as_deref().unwrap_or_default())?;
    let what = arguments.what.as_deref();
    let found = what.map(|what| run::resolve_any(&runs, what)).transpose()?;
    let (mut entries, of_sweep) = match found.clone() {
        None => (Entry::all(&runs), false),
        Some(found) => meant(found)?,
    };
    if entries.is_empty() && !arguments.form.is_for_programs() {
        return say_none(&runs);
    }
    if arguments.points && !of_sweep {
        entries = opened(entries);
    }
    let all = entries.len();
    entries = arguments.filter.choose(entries)?;
    let chosen = entries.len();
    if !sort.is_empty() {
        entries = sorted(entries, &sort, arguments.reverse);
    } else if arguments.reverse {
        entries.reverse();
    }
    entries.truncate(arguments.limit.unwrap_or(usize::MAX));
    let mut table = Table::of(&entries, &keys);
    if is_default {
        arrange(&mut table, &entries, of_sweep, arguments.form.form());
    }
    arguments.form.print(&table)?;
    warn_of_labels(&label_problems(&entries));
    if entries.is_empty() && !arguments.form.is_for_programs() {
        let none = match all {
            0 => "there are no runs yet".to_owned(),
            all => format!("these options choose none of {}", count(all, "run")),
        };
        console::stderr_line(none);
    } else if entries.len() < chosen && !arguments.form.is_for_programs() {
        console::stderr_line(format_args!("{} of {chosen}", entries.len()));
    }
    if let (Some(what), Some(found), false) = (what, &found, arguments.form.is_for_programs()) {
        hint_at_others(&["list"], &runs, what, found);
    }
    Ok(0)
}

impl Arguments {
    /// The columns, and whether they are the usual ones, among which a table may leave some out.
    fn keys(&self) -> Result<(Vec<Key>, bool)> {
        let programs = FOR_PROGRAMS.iter().filter(|_| self.form.is_for_programs());
        let usual = DEFAULT.iter().map(|(name, _)| name).chain(programs);
        let usual: Vec<&str> = usual.copied().collect();
        let usual = || form::keys("", &usual.join(","));
        match self.columns.as_deref() {
            None => Ok((usual()?, true)),
            Some("all") => Ok((COLUMNS.iter().map(Key::Column).collect(), false)),
            Some(list) => match list.strip_prefix('+') {
                None => Ok((form::keys("--columns", list)?, false)),
                Some(more) => {
                    let mut keys = usual()?;
                    let more = form::keys("--columns", more)?;
                    keys.extend(
                        more.into_iter()
                            .filter(|key| !keys.contains(key))
                            .collect::<Vec<_>>(),
                    );
                    Ok((keys, true))
                }
            },
        }
    }
}

/// The points of a sweep; a point as its sweep sees it, or a run. And whether they are points.
fn meant(found: Found) -> Result<(Vec<Entry>, bool)> {
    let around = match &found {
        Found::Run(run) => run.sweep(),
        Found::Sweep(sweep) => Some(sweep.clone()),
    };
    let id = found.id();
    let Some(sweep) = around else {
        return Ok((vec![Entry::of(found)], false));
    };
    let is_point = matches!(found, Found::Run(_));
    let mut points = Entry::of(Found::Sweep(sweep)).points()?;
    points.retain(|point| !is_point || point.id() == id);
    Ok((points, true))
}

/// Each sweep followed by its points. One that cannot be read has none.
fn opened(entries: Vec<Entry>) -> Vec<Entry> {
    let mut all = Vec::new();
    for entry in entries {
        let points = entry.points().unwrap_or_default();
        all.push(entry);
        all.extend(points);
    }
    all
}

/// The rows sorted by these columns, or the other way round; those without a value last in both.
pub fn sorted<R: Row>(rows: Vec<R>, keys: &[Key], is_reverse: bool) -> Vec<R> {
    let values = map(&rows, |row| {
        keys.iter().map(|key| row.value(*key)).collect::<Vec<_>>()
    });
    let mut rows: Vec<_> = rows.into_iter().zip(values).collect();
    rows.sort_by(|(_, a), (_, b)| {
        let orders = keys
            .iter()
            .zip(a.iter().zip(b))
            .map(|(key, pair)| match pair {
                (Some(a), Some(b)) => match (key.first(), is_reverse) {
                    (First::Smallest, false) | (First::Largest, true) => a.compare(b),
                    (First::Largest, false) | (First::Smallest, true) => b.compare(a),
                },
                (a, b) => b.is_some().cmp(&a.is_some()),
            });
        orders.fold(Ordering::Equal, Ordering::then)
    });
    rows.into_iter().map(|(row, _)| row).collect()
}

/// Which of the usual columns stay.
fn arrange(table: &mut Table, entries: &[Entry], of_sweep: bool, form: Form) {
    if matches!(form, Form::Json | Form::Csv) {
        return;
    }
    for head in &mut table.heads {
        let spare = DEFAULT.iter().find(|(name, _)| *name == head.name);
        head.spare = spare.map_or(0, |(_, spare)| *spare);
        // Of one under way it is what people look for.
        if head.name == "steps" && entries.iter().any(Entry::is_under_way) {
            head.spare = 1;
        }
    }
    if of_sweep {
        // The same sweep in each line, and what a point sets, are in its name.
        if let Some(column) = table.heads.iter().position(|head| head.name == "run") {
            table.heads[column].heading = "POINT".to_owned();
            let names = entries
                .iter()
                .map(|entry| Key::find("point").ok()?.value(entry));
            for (row, name) in table.rows.iter_mut().zip(names) {
                row[column] = name;
            }
        }
        table.remove(&["changes"]);
    }
    table.remove_empty(&OPTIONAL);
}

/// Says that there are no runs, and how to start one.
fn say_none(runs: &Path) -> Result<i32> {
    let shown = runs.display();
    let experiments = Home::find()?.experiments();
    console::line(match experiment(&experiments) {
        Some(name) => format!(
            "no runs in {shown}; to start one: {}",
            commands::start(&name, runs)
        ),
        None => format!(
            "no runs in {shown}, and no experiments in {} to run",
            experiments.join("").display()
        ),
    });
    Ok(0)
}

/// An experiment that can be run here: quickstart, or else the first.
fn experiment(experiments: &Path) -> Option<String> {
    let names = spec::available(experiments).ok()?;
    let quick = names.iter().find(|name| *name == "quickstart");
    quick.or(names.first()).cloned()
}

/// Which tags and notes cannot be read.
pub(super) fn label_problems<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
    let problems = entries.into_iter().flat_map(Entry::label_problems);
    problems.cloned().collect()
}

/// Tells people of them, beside the answer.
pub(super) fn warn_of_labels(problems: &[String]) {
    for problem in problems {
        console::warning_beside_answer(format_args!("{problem}; its tags and notes are not shown"));
    }
}
