//! `runboard experiments`: what there is to run, and what came of it so far.

use super::form::FormArgs;
use super::{RunsArg, path};
use crate::catalog::{Entry, Head, Key, Kind, Table, Value, map};
use crate::console;
use crate::home::Home;
use crate::run;
use crate::spec;
use crate::sweep::Sweep;
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

/// Where to look, and how to show it.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Directory of the experiments [default: see `runboard --help`]
    #[arg(long, value_name = "DIR", value_parser = path())]
    experiments: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsArg,
    #[command(flatten)]
    form: FormArgs,
}

/// A column: its name in JSON and CSV, what is over it for people, and what its values are.
const HEADS: [(&str, &str, Kind); 7] = [
    ("name", "NAME", Kind::Text),
    ("kind", "KIND", Kind::Text),
    ("steps", "STEPS", Kind::Number),
    ("epochs", "EPOCHS", Kind::Number),
    ("runs", "RUNS", Kind::Number),
    ("accuracy", "BEST", Kind::Number),
    ("description", "DESCRIPTION", Kind::Text),
];

/// Lists the experiments by name, each with the number of its runs and the best accuracy of one.
pub fn experiments(arguments: &Arguments) -> Result<i32> {
    let experiments = match &arguments.experiments {
        Some(directory) => directory.clone(),
        None => Home::find()?.experiments(),
    };
    let runs = arguments.runs.directory()?;
    run::check_directory(&runs)?;
    let names = spec::available(&experiments)?;
    let entries: Vec<Entry> = run::list(&runs).into_iter().map(Entry::of).collect();
    let rows = names.iter().map(|name| row(&experiments, name, &entries));
    let head = |(name, heading, kind)| Head::new(name, heading, kind);
    let mut table = Table {
        heads: HEADS.map(head).into(),
        rows: rows.collect(),
    };
    let is_for_people = !arguments.form.is_for_programs();
    if is_for_people {
        table.remove_empty(&["epochs", "runs", "accuracy"]);
        for cell in table.rows.iter_mut().flat_map(|row| row.last_mut()) {
            if let Some(Value::Text(description)) = cell {
                *description = spec::shortened(description);
            }
        }
    }
    if is_for_people && names.is_empty() {
        console::stderr_line(format_args!("no experiments in {}", experiments.display()));
        return Ok(0);
    }
    arguments.form.print(&table)?;
    Ok(0)
}

/// What is known of the experiment `name`; of one with a mistake, which is told, its name and its runs.
fn row(experiments: &Path, name: &str, entries: &[Entry]) -> Vec<Option<Value>> {
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let loaded = spec::load(name, experiments, &[]);
    let loaded = loaded.and_then(|it| Sweep::of(&it, None).map(|_| it)); // each of its points is valid
    if let Err(error) = &loaded {
        console::warning_beside_answer(format_args!("{error:#}"));
    }
    let loaded = loaded.ok();
    let spec = loaded.as_ref().and_then(|it| it.spec.to_json().ok());
    let field = |path: &str| Value::of_field(spec::Field::find(path).ok()?.value(spec.as_ref()?)?);
    let of_name: Vec<&Entry> = entries.iter().filter(|it| it.name() == name).collect();
    let accuracy = |entry: &&Entry| Key::find("accuracy").ok()?.value(entry)?.number();
    let best = map(&of_name, accuracy)
        .into_iter()
        .flatten()
        .reduce(f64::max);
    let kind = loaded.as_ref().map(|it| match it.sweep {
        Some(_) => "sweep",
        None => "run",
    });
    vec![
        text(name),
        kind.and_then(text),
        field("train.steps"),
        field("train.epochs"),
        Some(Value::Count(of_name.len() as u64)),
        best.map(Value::Accuracy),
        field("description"),
    ]
}
