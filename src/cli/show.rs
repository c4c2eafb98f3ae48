//! `runboard show`: all that is known of a run.

use super::RunOrSweepArg;
use super::form::print_json;
use super::labels::indented;
use super::rerun::Outcome;
use crate::catalog::{COLUMNS, Entry, Value, plain};
use crate::events::{Curve, scalars, tags};
use crate::overview::text::{clock, number, sparkline};
use crate::overview::{self, RunSnapshot, bytes, closing, count, wrap};
use crate::run::{Found, Labels, Provenance, Role, RunDir, commands};
use crate::sweep::{Standing, SweepDir, table};
use crate::{checkpoint, console};
use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value as Json, json};
use std::fs;
use std::time::Duration;

/// How many columns a curve takes at most.
const SPARKS: usize = 40;

/// How many settings of a sweep are shown.
const SETTINGS: usize = 20;

/// How many warnings of each log are shown, the last ones.
const WARNINGS: usize = 3;

/// What to show.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    run: RunOrSweepArg,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
}

/// Shows a run or a sweep.
pub fn show(arguments: &Arguments) -> Result<i32> {
    let found = arguments.run.find()?;
    match &found {
        _ if arguments.json => {
            let entry = Entry::of(found);
            print_json(&as_json(&entry)?)?;
        }
        Found::Run(run) => {
            let run = run.clone();
            console::output(text(&run, &Entry::of(found)))?;
        }
        Found::Sweep(sweep) => {
            let directory = SweepDir::new(sweep.clone());
            print_sweep(&directory, &Standing::read(&directory)?)?;
            let labels = labels(&Entry::of(found));
            if !labels.is_empty() {
                console::output(labels.join("\n"))?;
            }
        }
    }
    Ok(0)
}

/// How a sweep stands, in lines.
pub(super) fn print_sweep(directory: &SweepDir, standing: &Standing) -> Result<()> {
    let columns = console::columns();
    let wrapped = |text: String| columns.map_or(text.clone(), |columns| wrap(&text, columns));
    let results = standing.results();
    let mut lines = vec![match standing.state() {
        Some(state) => format!("{} is {state}", standing.id),
        None => format!("{} was not started yet", standing.id),
    }];
    let from = standing.sweep.weights_from.iter();
    lines.extend(from.map(|from| wrapped(format!("  its points begin with {from}"))));
    let waiting = standing.waiting.iter();
    lines.extend(waiting.map(|wait| wrapped(format!("  waiting {wait}"))));
    let error = standing.error.iter();
    lines.extend(error.map(|error| wrapped(format!("  error: {error}"))));
    lines.push(wrapped(results.counts()));
    let failures = results.failures().into_iter();
    lines.extend(failures.map(|failure| wrapped(format!("  {failure}"))));
    lines.push(wrapped(results.judge()));
    let room = columns.map(|columns| columns.saturating_sub(2));
    let table = table::table(&results, SETTINGS, room);
    lines.extend(table.iter().map(|line| format!("  {line}")));
    let all = directory.path().join("results.md");
    lines.push(format!("  all settings   {}", all.display()));
    lines.push(format!("  curves         {}", commands::curves(directory)));
    let next = match standing.is_at_work() {
        true => Some(("to stop it", commands::stop(directory))),
        false => results.next_command(directory),
    };
    lines.extend(next.map(|(what, command)| format!("  {what:13}  {command}")));
    Ok(console::output(lines.join("\n"))?)
}

/// All that is known of a run: how it stands, as at the end of `run`, and then what only this command tells.
fn text(run: &RunDir, entry: &Entry) -> String {
    let mut lines = closing(&RunSnapshot::read(run));
    let damage = entry.all_damage();
    lines.extend(damage.iter().map(|damage| row("damaged", damage)));
    if let Some(error) = entry.error() {
        lines.push(row("error", &error.replace('\n', &format!("\n{:17}", ""))));
    }
    if let Some(outcome) = Outcome::of(run) {
        lines.push(row("repeats", &outcome.to_string()));
    }
    lines.extend(curves(run));
    lines.extend(time(entry));
    lines.extend(labels(entry));
    lines.extend(differences(entry));
    lines.extend(checkpoints(run, entry));
    lines.extend(sessions(entry));
    lines.extend(warnings(run, entry));
    let safe = |c: char| c == '\n' || !c.is_control();
    lines.join("\n").chars().filter(|c| safe(*c)).collect()
}

/// A line of the block, as in [`closing`].
fn row(label: &str, text: &str) -> String {
    format!("  {label:<13}  {text}")
}

/// The loss of training and the accuracy of evaluation as small columns, from the first point to the last.
fn curves(run: &RunDir) -> Vec<String> {
    let of = |role, tag: &tags::Series| {
        let curves = scalars(&run.events(role)).ok()?;
        curves.get(tag.name).cloned()
    };
    let loss = of(Role::TRAIN, &tags::TOTAL_LOSS);
    let accuracy = of(Role::Eval, &tags::PRECISION_AT_1);
    let line = |label: &str, curve: Option<Curve>| {
        let curve = curve.filter(|curve| curve.len() > 1)?;
        let (first, last) = (curve.first()?, curve.last()?);
        Some(row(
            label,
            &format!(
                "{}  {} at step {} to {} at step {}",
                sparkline(&averaged(&curve, SPARKS), SPARKS),
                number(f64::from(first.value)),
                first.step,
                number(f64::from(last.value)),
                last.step
            ),
        ))
    };
    let lines = [line("loss", loss), line("accuracy", accuracy)];
    lines.into_iter().flatten().collect()
}

/// At most so many numbers that stand for a curve: means of equally many of its finite points.
fn averaged(curve: &Curve, most: usize) -> Vec<f64> {
    let values: Vec<f64> = curve.iter().map(|point| f64::from(point.value)).collect();
    let values: Vec<f64> = values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    let parts = most.min(values.len());
    let part = |index: usize| {
        let part = &values[index * values.len() / parts..(index + 1) * values.len() / parts];
        part.iter().sum::<f64>() / part.len() as f64
    };
    (0..parts).map(part).collect()
}

/// Where the time went.
fn time(entry: &Entry) -> Vec<String> {
    let statuses = entry.statuses();
    let shown = |seconds: f64| clock(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let mut parts = Vec::new();
    if let Some(train) = statuses.train.as_ref().filter(|train| train.seconds > 0.0) {
        let mut part = format!("training {}", shown(train.seconds));
        if let Some(wait) = train.input_wait {
            part += &format!(", {:.0} % of a step waiting for images", 100.0 * wait);
        }
        if let Some(rate) = train.examples_per_sec {
            part += &format!(", {rate:.0} images a second");
        }
        parts.push(part);
    }
    let scored = entry.evaluations();
    let scoring: f64 = scored.iter().map(|found| found.seconds).sum();
    if !scored.is_empty() {
        let checkpoints = count(scored.len(), "checkpoint");
        parts.push(format!(
            "scoring {checkpoints} beside it {}",
            shown(scoring)
        ));
    }
    match parts.is_empty() {
        true => Vec::new(),
        false => vec![row("time", &parts.join("; "))],
    }
}

/// Tags and notes.
fn labels(entry: &Entry) -> Vec<String> {
    let labels = entry.labels();
    let mut lines = Vec::new();
    if !labels.tags.is_empty() {
        lines.push(row("tags", &labels.tags.join(" ")));
    }
    if !labels.notes.is_empty() {
        lines.push("notes:".to_owned());
    }
    for note in &labels.notes {
        let time = note.time.format("%Y-%m-%d %H:%M");
        let text = indented(&note.text).replace('\n', "\n  ");
        lines.push(format!("  {time}  {text}"));
    }
    lines
}

/// The fields that differ from the defaults, each with its default and where it is set.
fn differences(entry: &Entry) -> Vec<String> {
    let Some(differences) = entry.differences() else {
        return Vec::new();
    };
    if differences.is_empty() {
        return vec!["all fields have their defaults".to_owned()];
    }
    let rows = differences.into_iter().map(|it| {
        let default = it.default.map_or("not set".to_owned(), plain);
        [
            format!("{}: {}", it.field.path, plain(it.value)),
            format!("default {default}"),
            match (it.is_used, &*it.origin) {
                (true, _) => it.origin,
                (false, "") => "without effect here".to_owned(),
                (false, origin) => format!("{origin}, without effect here"),
            },
        ]
    });
    let mut lines = vec!["differs from the defaults:".to_owned()];
    lines.extend(aligned(&rows.collect::<Vec<_>>()));
    lines
}

/// The checkpoints that are there, with their sizes and scores.
fn checkpoints(run: &RunDir, entry: &Entry) -> Vec<String> {
    let mut rows = Vec::new();
    let best = fs::read_link(run.checkpoints().join("best")).ok();
    for found in checkpoint::list(&run.checkpoints()).unwrap_or_default() {
        let name = found.path.file_name().unwrap_or_default().to_os_string();
        let scored = entry.evaluations().iter().find(|it| it.step == found.step);
        let score = match scored {
            None => "not scored".to_owned(),
            Some(evaluation) => match (evaluation.score(), &evaluation.damage) {
                (Some(score), _) => {
                    let validation = score.validation;
                    let validation = validation.map(|it| format!(" (validation {it:.3})"));
                    format!(
                        "accuracy {:.3}{}",
                        score.accuracy,
                        validation.unwrap_or_default()
                    )
                }
                (None, damage) => format!("damaged: {}", damage.clone().unwrap_or_default()),
            },
        };
        let is_best = best.as_ref().is_some_and(|best| best.as_os_str() == name);
        rows.push([
            name.to_string_lossy().into_owned(),
            bytes(overview::size(&found.path)),
            format!("{score}{}", if is_best { ", the best" } else { "" }),
        ]);
    }
    let mut lines: Vec<String> = Vec::new();
    if !rows.is_empty() {
        lines.push("checkpoints:".to_owned());
        lines.extend(aligned(&rows));
    }
    lines
}

/// What each session was started from.
fn sessions(entry: &Entry) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, session) in entry.sessions().iter().enumerate() {
        if index == 0 {
            lines.push("sessions:".to_owned());
        }
        let Provenance {
            started, command, ..
        } = session;
        let started = started.format("%Y-%m-%d %H:%M:%S");
        lines.push(format!("  {started}  {}", crate::hint::shell(command)));
        let git = session.git.as_ref().map(|git| {
            let differs = match &session.diff {
                Some(diff) => format!(", which differed ({diff})"),
                None if git.dirty => ", which differed".to_owned(),
                None => String::new(),
            };
            format!(
                "; commit {}{differs}",
                git.commit.get(..12).unwrap_or(&git.commit)
            )
        });
        let host = session.host.as_deref().unwrap_or("an unknown machine");
        let software = &session.software;
        lines.push(format!(
            "    from step {}, {} on {host} ({}, {}); runboard {}, burn {}, libtorch {}{}",
            session
                .first_step
                .map_or("?".to_owned(), |step| step.to_string()),
            software.device,
            session.cpu,
            count(session.cores, "core"),
            session.runboard,
            software.burn,
            software.libtorch,
            git.unwrap_or_default()
        ));
        if let Some(origin) = &session.weights_from {
            lines.push(format!("    begins with {origin}"));
        }
        if let Some(repetition) = &session.repeats {
            lines.push(format!("    repeats {}", repetition.run));
            let differences = repetition.differences.iter();
            lines.extend(differences.map(|difference| format!("    differs: {difference}")));
        }
        for change in &session.changes {
            let [from, to] = change.as_yaml();
            lines.push(format!("    {}: {from} -> {to}", change.field));
        }
    }
    lines
}

/// The last warnings in the logs.
fn warnings(run: &RunDir, entry: &Entry) -> Vec<String> {
    let mut lines = Vec::new();
    for (role, found) in entry.warnings() {
        let first = found.len().saturating_sub(WARNINGS);
        if first > 0 {
            let log = run.log(role);
            lines.push(format!(
                "  {role:<5} | {first} more before, see {}",
                log.display()
            ));
        }
        let last = found[first..].iter();
        lines.extend(last.map(|text| format!("  {role:<5} | {text}")));
    }
    if !lines.is_empty() {
        lines.insert(0, "warnings:".to_owned());
    }
    lines
}

/// Rows whose cells stand below each other.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let rows = rows.iter().map(|row| row.to_vec()).collect();
    let lines = overview::table(rows, &[], None).into_iter();
    lines.map(|line| format!("  {line}")).collect()
}

/// The same and more for programs.
pub(super) fn as_json(entry: &Entry) -> Result<Json> {
    let columns = COLUMNS.iter().map(|column| {
        let value = (column.value)(entry);
        let value = value.as_ref().map_or(Json::Null, Value::json);
        (column.name.to_owned(), value)
    });
    let mut fields = Map::from_iter(columns);
    fields.insert("spec".to_owned(), entry.spec().cloned().unwrap_or_default());
    let Labels { tags, notes, .. } = entry.labels();
    fields.insert("labels".to_owned(), json!({"tags": tags, "notes": notes}));
    fields.insert("damage".to_owned(), json!(entry.all_damage()));
    if let Some(run) = entry.run() {
        let checkpoints = checkpoint::list(&run.checkpoints()).unwrap_or_default();
        let checkpoints = checkpoints.iter().map(|found| {
            json!({
                "step": found.step,
                "bytes": overview::size(&found.path),
                "path": found.path.display().to_string(),
            })
        });
        fields.insert("checkpoints".to_owned(), checkpoints.collect());
        let repeats = Outcome::of(run).map(|outcome| outcome.json());
        fields.insert("repeats".to_owned(), repeats.unwrap_or_default());
        fields.insert("origins".to_owned(), json!(entry.origins()));
        fields.insert(
            "evaluations".to_owned(),
            serde_json::to_value(entry.evaluations())?,
        );
        let mut sessions = entry.sessions().to_vec();
        for session in &mut sessions {
            session.spec = None; // which stands above
        }
        fields.insert("provenance".to_owned(), serde_json::to_value(sessions)?);
    }
    if let Some(standing) = entry.standing() {
        fields.insert("results".to_owned(), results_as_json(standing)?);
    }
    Ok(Json::Object(fields))
}

/// What a sweep has found, the best setting first.
fn results_as_json(standing: &Standing) -> Result<Json> {
    let results = standing.results();
    let settings = results.settings();
    let settings = settings.iter().map(|setting| {
        let points = setting.points.iter().map(|(point, _)| point.number);
        json!({
            "rank": setting.rank,
            "values": setting.values,
            "mean": setting.judged.mean(),
            "deviation": setting.judged.deviation(),
            "so_far": setting.so_far.mean(),
            "test_accuracy": setting.tested.mean(),
            "points": points.collect::<Vec<_>>(),
        })
    });
    Ok(json!({
        "definition": standing.sweep.definition,
        "settings": settings.collect::<Vec<_>>(),
        "decisions": standing.decisions,
        "waiting": standing.waiting,
    }))
}
