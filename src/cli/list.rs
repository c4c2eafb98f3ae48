//! `runboard list`: the runs, their states and scores.

use super::sweep::Summary;
use crate::home::Home;
use crate::run::{
    self, Activity, Found, ProcessDir, RunDir, RunEntry, RunState, Status, SweepStatus, commands,
};
use crate::spec;
use crate::sweep::SweepDir;
use crate::{console, overview};
use anyhow::Result;
use std::path::Path;

/// The columns that go first where a terminal has no room for all of them.
const EXPENDABLE: [&str; 3] = ["ROLLBACKS", "RESTARTS", "EVALUATION"];

/// Lists the runs and sweeps in `runs`, or the points of the sweep that the user means by `what`.
pub fn list(runs: &Path, what: Option<&Path>) -> Result<i32> {
    run::check_directory(runs)?;
    let found = match what.map(|what| run::resolve_any(runs, what)).transpose()? {
        None => run::list(runs),
        Some(Found::Sweep(sweep)) => return points(sweep, None),
        Some(Found::Run(run)) => match run.sweep() {
            Some(sweep) => return points(sweep, Some(&run)),
            None => vec![Found::Run(run)],
        },
    };
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
    let rows = found.into_iter().map(|found| match found {
        Found::Run(run) => row(&RunEntry::read(run)),
        Found::Sweep(sweep) => sweep_row(sweep),
    });
    show("RUN", "ACCURACY", rows.collect())
}

/// Lists the points of a sweep, those that have not begun too, or this one of them alone, each with the score that the sweep
/// judges it by.
fn points(directory: ProcessDir, only: Option<&RunDir>) -> Result<i32> {
    let directory = SweepDir::new(directory);
    let sweep = directory.read()?;
    let summary = Summary::read(&directory, &sweep)?;
    let results = summary.results();
    let states = results.states().into_iter();
    let all = sweep.points.iter().zip(&summary.progress).zip(states);
    let is_wanted =
        |name: &str| only.is_none_or(|run| run.path().file_name() == Some(name.as_ref()));
    let wanted = all.filter(|((point, _), _)| is_wanted(&point.name));
    let rows = wanted.map(|((point, progress), state)| {
        let entry = directory.run(point).map(RunEntry::read);
        let mut row = entry.as_ref().map_or_else(|| [(); 7].map(|()| none()), row);
        (row[0], row[1]) = (point.name.clone(), state);
        row[3] = results.judged(progress).map_or_else(none, |(it, score)| {
            format!("{}{score:.3} at step {}", results.prefix(), it.step)
        });
        row
    });
    show("POINT", "SCORE", rows.collect())
}

/// Prints a table, without the columns at its end that are empty.
fn show(what: &str, score: &str, rows: Vec<[String; 7]>) -> Result<i32> {
    let head = [
        what,
        "STATE",
        "STEPS",
        score,
        "EVALUATION",
        "RESTARTS",
        "ROLLBACKS",
    ];
    let shown: Vec<bool> = (0..head.len())
        .map(|column| column < 4 || rows.iter().any(|row| row[column] != "-"))
        .collect();
    let cut = |row: &[String; 7]| -> Vec<String> {
        let cells = row.iter().zip(&shown).filter(|(_, shown)| **shown);
        cells.map(|(cell, _)| cell.clone()).collect()
    };
    let head = head.map(str::to_owned);
    let rows = std::iter::once(&head).chain(&rows).map(cut);
    let lines = overview::table(rows.collect(), &EXPENDABLE, console::columns());
    console::output(lines.join("\n"))?;
    Ok(0)
}

fn none() -> String {
    "-".to_owned()
}

/// A sweep in the table: how it stands, how many of its points are done, the best setting's score, and how many points
/// failed.
fn sweep_row(directory: ProcessDir) -> [String; 7] {
    let status = SweepStatus::load(&directory).ok().flatten();
    let directory = SweepDir::new(directory);
    let mut row = [(); 7].map(|()| none());
    row[0] = directory.id();
    // One bad file must not hide the others.
    let Ok(sweep) = directory.read() else {
        row[1] = "unreadable".to_owned();
        return row;
    };
    let Ok(summary) = Summary::read(&directory, &sweep) else {
        return row;
    };
    let results = summary.results();
    row[1] = match status {
        None => none(),
        Some(status) if status.alive(&directory) && status.stopping => "stopping".to_owned(),
        Some(status) if status.alive(&directory) => "running".to_owned(),
        Some(_) if results.winner().is_some() => "target reached".to_owned(),
        Some(status) if status.vanished(&directory) => "interrupted".to_owned(),
        Some(status) => status.process.state.to_string(),
    };
    row[2] = format!("{}/{} points", results.done(), sweep.points.len());
    if let Some(best) = results.best() {
        row[3] = best;
    }
    let failed = results.failures().len();
    if failed > 0 {
        row[4] = format!("{failed} failed");
    }
    row
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
