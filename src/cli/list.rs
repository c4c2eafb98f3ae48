//! `runboard list`: the runs, their states and scores.

use crate::console;
use crate::home::Home;
use crate::run::{self, RunEntry, Score, commands};
use crate::spec;
use anyhow::Result;
use comfy_table::{Table, presets};
use std::path::Path;

pub fn list(runs: &Path) -> Result<i32> {
    run::check_directory(runs)?;
    let entries = run::list(runs);
    if entries.is_empty() {
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
    table.set_header(["RUN", "STATE", "STEP", "ACCURACY", "RESTARTS"]);
    for entry in entries {
        table.add_row(row(&entry));
    }
    console::output(table.trim_fmt())?;
    Ok(0)
}

/// An experiment that can be run here: quickstart, or else the first.
fn experiment(experiments: &Path) -> Option<String> {
    let names = spec::available(experiments).ok()?;
    let quick = names.iter().find(|name| *name == "quickstart");
    quick.or(names.first()).cloned()
}

fn row(entry: &RunEntry) -> [String; 5] {
    let none = || "-".to_owned();
    let accuracy = |score: Score| format!("{:.3} at step {}", score.accuracy, score.step);
    let last = entry.eval.as_ref().and_then(|status| status.last);
    [
        entry.run.id(),
        entry.state.map_or_else(none, |state| state.to_string()),
        entry
            .progress
            .map_or_else(none, |(done, all)| format!("{done}/{all}")),
        last.map_or_else(none, accuracy),
        match entry.restarts {
            0 => none(),
            restarts => restarts.to_string(),
        },
    ]
}
