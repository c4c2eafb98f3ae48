//! `runboard list`: the runs, their states and scores.

use super::sweep;
use crate::home::Home;
use crate::run::{self, Activity, Found, RunEntry, RunState, commands};
use crate::spec;
use crate::{console, overview};
use anyhow::Result;
use comfy_table::{Table, presets};
use std::path::Path;

/// Lists the runs and sweeps in `runs`, or the points of the sweep that the user means by `what`.
pub fn list(runs: &Path, what: Option<&Path>) -> Result<i32> {
    run::check_directory(runs)?;
    let found = match what.map(|what| run::resolve_any(runs, what)).transpose()? {
        None => run::list(runs),
        Some(Found::Sweep(sweep)) => run::points(&sweep).into_iter().map(Found::Run).collect(),
        Some(run) => vec![run],
    };
    if let (Some(what), []) = (what, &found[..]) {
        console::line(format_args!("no point of {} has begun", what.display()));
        return Ok(0);
    }
    if found.is_empty() {
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
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "RUN",
        "STATE",
        "STEPS",
        "ACCURACY",
        "EVALUATION",
        "RESTARTS",
        "ROLLBACKS",
    ]);
    for found in found {
        match found {
            Found::Run(run) => table.add_row(row(&RunEntry::read(run))),
            Found::Sweep(sweep) => table.add_row(sweep::row(sweep)),
        };
    }
    console::output(table.trim_fmt())?;
    Ok(0)
}

/// What the evaluator does, or what it left: checkpoints without a score.
fn evaluation(entry: &RunEntry) -> Option<String> {
    if !entry.state.is_some_and(RunState::is_under_way) {
        let unscored = overview::unscored(&entry.run);
        return (unscored > 0).then(|| format!("{unscored} not scored"));
    }
    let eval = entry.eval.as_ref()?;
    let doing = match eval.activity? {
        Activity::Idle { .. } => "idle".to_owned(),
        Activity::Scoring {
            step, done, images, ..
        } => format!("scoring step {step}, {} %", 100 * done / images.max(1)),
    };
    Some(match eval.waiting {
        0 => doing,
        waiting => format!("{doing}, {waiting} more to score"),
    })
}

/// An experiment that can be run here: quickstart, or else the first.
fn experiment(experiments: &Path) -> Option<String> {
    let names = spec::available(experiments).ok()?;
    let quick = names.iter().find(|name| *name == "quickstart");
    quick.or(names.first()).cloned()
}

fn row(entry: &RunEntry) -> [String; 7] {
    let none = || "-".to_owned();
    let last = entry.eval.as_ref().and_then(|status| status.last);
    let count = |number: usize| match number {
        0 => none(),
        number => number.to_string(),
    };
    [
        entry.run.id(),
        entry.state.map_or_else(none, |state| state.to_string()),
        entry
            .progress
            .map_or_else(none, |(done, all)| format!("{done}/{all}")),
        last.map_or_else(none, |score| score.to_string()),
        evaluation(entry).unwrap_or_else(none),
        count(entry.restarts as usize),
        count(entry.rollbacks),
    ]
}
