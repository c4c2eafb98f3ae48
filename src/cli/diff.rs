//! `runboard diff`: in what two runs, experiments or files differ.

use super::compare::SCORES;
use super::form::FormArgs;
use super::{RunsArg, path};
use crate::catalog::{Entry, Head, Key, Kind, Table, Value};
use crate::home::Home;
use crate::run::{self, Provenance};
use crate::spec::{self, Experiment, Field, Spec};
use crate::sweep::Sweep;
use crate::{bail_user, console};
use anyhow::Result;
use clap::Args;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is told of runs beside their specs and scores.
const BESIDE_SCORES: [&str; 4] = ["steps", "duration", "size", "state"];

/// What is told of a session.
const PROVENANCE: &[&str] = &[
    "commit", "runboard", "program", "burn", "libtorch", "device", "host", "cpu", "cores",
];

/// Two things to compare.
#[derive(Args, Debug)]
pub struct Arguments {
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

/// One of two things that are compared.
struct Side {
    name: String,
    spec: Json,
    /// The section of its sweep, if it is one.
    section: Option<Json>,
    /// None of an experiment.
    entry: Option<Entry>,
}

impl Side {
    /// Of an experiment, as it is written.
    fn of(name: String, experiment: &Experiment) -> Result<Self> {
        let definition = Sweep::definition_of(experiment)?;
        let mut section = definition.map(serde_json::to_value).transpose()?;
        let says = |key| experiment.sweep.as_ref()?.root().get(key);
        if says("parallel").is_none()
            && let Some(Json::Object(keys)) = &mut section
        {
            keys.remove("parallel");
        }
        Ok(Side {
            name,
            spec: experiment.spec.to_json()?,
            section,
            entry: None,
        })
    }

    fn is_sweep(&self) -> bool {
        self.section.is_some()
    }

    /// The keys of the section of its sweep, each field's values at a path of their own; none of what is no sweep.
    fn sweep(&self) -> BTreeMap<String, Json> {
        let mut paths = BTreeMap::new();
        for (key, value) in self
            .section
            .as_ref()
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
        {
            match value.as_object().filter(|_| key == "parameters") {
                Some(fields) => paths.extend(fields.iter().map(|(field, choice)| {
                    let values = choice.get("values").unwrap_or(choice);
                    (format!("{key}.{field}"), values.clone())
                })),
                None => {
                    paths.insert(key.clone(), value.clone());
                }
            }
        }
        paths
    }
}

/// Compares two runs, experiments or files, a row for each thing that differs.
pub fn diff(arguments: &Arguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    let [a, b] = [side(&runs, &arguments.a)?, side(&runs, &arguments.b)?];
    let [of_a, of_b] = [a.sweep(), b.sweep()];
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
    let keys: BTreeSet<&String> = of_a.keys().chain(of_b.keys()).collect();
    let is_there = |key: &String| of_a.contains_key(key) && of_b.contains_key(key);
    let both_sweep = a.is_sweep() && b.is_sweep();
    // How many points run at once follows from the machine where a file does not say it.
    for key in keys
        .into_iter()
        .filter(|key| !both_sweep || *key != "parallel" || is_there(key))
    {
        let value = |of: &BTreeMap<String, Json>| of.get(key).and_then(Value::of_field);
        add("sweep", key, value(&of_a), value(&of_b));
    }
    if let (Some(a), Some(b)) = (&a.entry, &b.entry) {
        let names = SCORES
            .iter()
            .chain(&BESIDE_SCORES)
            .map(|name| ("scores", *name));
        for (section, name) in names.chain([("data", "data"), ("weights", "weights_from")]) {
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
    let mut table = Table {
        heads: vec![
            Head::new("section", "", Kind::Text),
            Head::new("name", "", Kind::Text),
            Head::new("a", &a.name, Kind::Text),
            Head::new("b", &b.name, Kind::Text),
            Head::new("change", "CHANGE", Kind::Number),
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
        let name = what.display().to_string();
        return match is_frozen {
            true => Ok(Side {
                name,
                spec: Spec::read_frozen(what)?.to_json()?,
                section: None,
                entry: None,
            }),
            false => Side::of(name, &spec::load(what, &Home::find()?.experiments(), &[])?),
        };
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
            return Side::of(name.into_owned(), &spec::load(what, &experiments, &[])?);
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
        section: entry
            .standing()
            .map(|it| serde_json::to_value(&it.sweep.definition))
            .transpose()?,
        entry: Some(entry),
    })
}
