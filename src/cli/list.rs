//! `runboard list`: the runs, their states and scores.

use crate::console;
use crate::hint::hint;
use crate::run::{self, RunEntry, Score};
use anyhow::Result;
use comfy_table::{Table, presets};
use std::path::Path;

pub fn list(runs: &Path) -> Result<i32> {
    let entries = run::list(runs);
    if entries.is_empty() {
        let start = hint("experiment NAME=quickstart", "runboard run quickstart");
        console::line(format_args!(
            "no runs in {}; to start one: {start}",
            runs.display()
        ));
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["RUN", "STATE", "STEP", "ACCURACY", "RESTARTS"]);
    for entry in entries {
        table.add_row(row(&entry));
    }
    console::line(table.trim_fmt());
    Ok(0)
}

fn row(entry: &RunEntry) -> [String; 5] {
    let none = || "-".to_owned();
    let accuracy = |score: Score| format!("{:.3} at step {}", score.accuracy, score.step);
    [
        entry.run.id(),
        entry.state.map_or_else(none, |state| state.to_string()),
        entry
            .progress
            .map_or_else(none, |(done, all)| format!("{done}/{all}")),
        entry.last.map_or_else(none, accuracy),
        match entry.restarts {
            0 => none(),
            restarts => restarts.to_string(),
        },
    ]
}
