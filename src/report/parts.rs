//! Parts that the pages of runs and of sweeps have in common: how it stands, spec, origin, warnings, how to repeat it.

use std::fmt;

use chrono::{DateTime, Local, TimeZone};
use maud::{Markup, html};
use serde_yaml::{Mapping, Value as Yaml};

use super::axis::grouped;
use crate::catalog::{Difference, Entry, Head, Key, Kind, Table, Value, plain};
use crate::hint::shell;
use crate::overview::count;
use crate::run::Provenance;
use crate::spec::{Fidelity, Field};

/// Warnings of a log that are shown, the last ones.
const WARNINGS: usize = 20;

/// The longest text of others that is shown, in characters: a note may be a megabyte.
const MAX_TEXT: usize = 20_000;

/// A number worth a large letter: its name, itself, and what is to be known of it.
pub struct Tile {
    pub name: &'static str,
    /// A number, or words, which have smaller letters.
    pub value: String,
    pub text: String,
}

/// What a column says of a run, for people.
pub fn value(entry: &Entry, column: &str) -> Option<String> {
    let value = Key::find(column).ok()?.value(entry)?.text();
    (!value.is_empty()).then_some(value)
}

/// Tiles side by side.
pub fn tiles(tiles: &[Tile]) -> Markup {
    html! {
        div.tiles {
            @for tile in tiles {
                div { small { (tile.name) } b class=[(tile.value.chars().count() > 11).then_some("words")] { (words(&tile.value)) } @if !tile.text.is_empty() { small { (tile.text) } } }
            }
        }
    }
}

/// A text that may be broken behind each = and _, where there is no room for all of it.
fn words(text: &str) -> Markup {
    html! {
        @for part in text.split_inclusive(['=', '_']) { (part) @if part.ends_with(['=', '_']) { wbr; } }
    }
}

/// A text of ours with code between `.
pub fn marked(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A text of others, with its line breaks, and cut if it is endless.
pub fn text(text: &str) -> Markup {
    let end = text.char_indices().nth(MAX_TEXT).map(|(at, _)| at);
    html! {
        div.text {
            (visible(&text[..end.unwrap_or(text.len())]))
            @if end.is_some() { " … (" (grouped(text.chars().count() as f64)) " letters in all)" }
        }
    }
}

/// Without what only a terminal understands.
fn visible(text: &str) -> String {
    let is_visible = |c: &char| ['\n', '\t'].contains(c) || !c.is_control();
    text.chars().filter(is_visible).collect()
}

/// What keeps the page from being the whole truth: damage, an error, that it is at work.
pub fn alerts(entry: &Entry, damage: &[String], now: DateTime<Local>) -> Markup {
    html! {
        @if entry.is_under_way() {
            div.alert.work role="note" {
                b { "At work. " }
                "This page shows it as it was at " (time(&now)) "; it goes on, and " code { "runboard report" } " writes the page anew."
            }
        }
        @if let Some(error) = entry.error() {
            div.alert role="note" { b { "It ended with an error. " } (text(&error)) }
        }
        (damaged(damage))
    }
}

/// What cannot be read, if there is any.
pub fn damaged(damage: &[String]) -> Markup {
    html! {
        @if !damage.is_empty() {
            div.alert role="note" {
                b { "Damaged. " } "These files cannot be read; the page shows what the others say."
                ul { @for line in damage { li { (text(line)) } } }
            }
        }
    }
}

/// A moment, with its time zone.
pub fn time<Zone: TimeZone<Offset: fmt::Display>>(time: &DateTime<Zone>) -> String {
    time.format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// Tags and notes.
pub fn labels(entry: &Entry) -> Markup {
    let labels = entry.labels();
    html! {
        @if !labels.tags.is_empty() {
            p.tags { @for tag in &labels.tags { span { (tag) } " " } }
        }
        @if !labels.notes.is_empty() {
            div.notes {
                @for note in &labels.notes {
                    div { small { "note of " (note.time.format("%Y-%m-%d %H:%M")) } (text(&note.text)) }
                }
            }
        }
    }
}

/// The fields that differ from the defaults, then all of them.
pub fn spec(entry: &Entry) -> Markup {
    let Some(differences) = entry.differences() else {
        return html! { p.note { "The spec cannot be read." } };
    };
    html! {
        (self::differences(&differences))
        @if let Some(spec) = entry.spec() {
            details {
                summary { "The whole spec" }
                pre.whole { (whole(spec)) }
            }
        }
    }
}

/// The fields that differ from the defaults, each with its meaning.
fn differences(differences: &[Difference]) -> Markup {
    html! {
        @if differences.is_empty() {
            p { "All fields have their defaults." }
        } @else {
            h3 { "What differs from the defaults" }
            dl.fields {
                @for it in differences {
                    dt { code { (it.field.path) } ": " b { (plain(it.value)) } }
                    dd {
                        @match it.default {
                            Some(default) if default == it.value => "the default",
                            Some(default) => { "default " (plain(default)) },
                            None => "not set by default",
                        }
                        @if !it.origin.is_empty() { "; set by " (it.origin) }
                        @if !it.is_used { "; without effect here" }
                        ". " small { (it.field.meaning) }
                    }
                }
            }
        }
    }
}

/// A whole spec as YAML.
fn whole(spec: &serde_json::Value) -> String {
    serde_yaml::to_string(&nested(fields(spec))).unwrap_or_default()
}

/// The fields of a spec that have a value, by their paths.
fn fields(spec: &serde_json::Value) -> impl Iterator<Item = (&'static str, &serde_json::Value)> {
    Field::all().filter_map(|field| Some((field.path, field.value(spec)?)))
}

/// Fields as a tree of YAML, in their order.
fn nested<'a, 'b>(fields: impl Iterator<Item = (&'a str, &'b serde_json::Value)>) -> Mapping {
    let mut root = Mapping::new();
    for (path, value) in fields {
        let mut keys: Vec<&str> = path.split('.').collect();
        let last = keys.pop().unwrap_or_default();
        let mut section = &mut root;
        for key in keys {
            let inner = section
                .entry(key.into())
                .or_insert_with(|| Mapping::new().into());
            match inner {
                Yaml::Mapping(inner) => section = inner,
                // No field is also a section.
                _ => return root,
            }
        }
        section.insert(last.into(), serde_yaml::to_value(value).unwrap_or_default());
    }
    root
}

/// The lines that make an experiment, `NAME-SUFFIX`, of what `session` was started with, and run it; `sweep` is the section of
/// that name.
pub fn repeat(
    entry: &Entry,
    suffix: &str,
    session: Option<&Provenance>,
    sweep: Option<Yaml>,
) -> Option<String> {
    let spec = entry.spec()?;
    // The defaults of another fidelity are others.
    let usual = serde_json::to_value(Fidelity::default()).unwrap_or_default();
    let is_usual = spec.get("fidelity").is_none_or(|it| *it == usual);
    let mut fields: Vec<_> = match is_usual {
        true => {
            let differences = entry.differences()?.into_iter();
            differences.map(|it| (it.field.path, it.value)).collect()
        }
        false => fields(spec).collect(),
    };
    // Where the images lay on that machine.
    fields.retain(|(path, _)| *path != "data.folder");
    // What a file below was allowed to set, and one file would not be.
    let unused = entry.unused();
    fields.retain(|(path, _)| !unused.iter().any(|it| it == path));
    let mut file = nested(fields.into_iter());
    if let Some(sweep) = sweep {
        file.insert("sweep".into(), sweep);
    }
    let file = match file.is_empty() {
        true => "{}\n".to_owned(),
        false => serde_yaml::to_string(&file).ok()?,
    };
    let name = format!("{}-{suffix}", file_name(entry.name()));
    let (mut lines, mut options) = (Vec::new(), String::new());
    if let Some(session) = session {
        match &session.git {
            Some(git) => {
                lines.push("# in a clone of the repository that it was run from".to_owned());
                lines.push(format!("git checkout {}", shell(&[&git.commit])));
                if git.dirty {
                    lines.push("# that checkout had changes that are not in the commit".to_owned());
                }
            }
            None => lines.push(format!(
                "# by runboard {} with libtorch {}",
                one_line(&session.runboard),
                one_line(&session.software.libtorch)
            )),
        }
        if let Some(origin) = &session.weights_from {
            lines.push(format!("# it began with {}", one_line(&origin.to_string())));
            let from = format!("{}@{}", origin.run, origin.step);
            options += &format!(" --from {}", shell(&[&from]));
        }
    }
    let are_generated = spec
        .pointer("/data/source")
        .is_some_and(|it| it == "synthetic");
    if session.is_some_and(has_own_images) && !are_generated {
        // Without the variable bash ends the command with this text.
        options += " --data \"${DATA:?the directory of its images}\"";
    }
    lines.push(format!("cat >experiments/{name}.yaml <<'END'"));
    lines.push(format!("{file}END"));
    lines.push(format!("runboard run {name}{options}"));
    Some(lines.join("\n"))
}

/// Whether a session was told where the images are.
fn has_own_images(session: &Provenance) -> bool {
    let is_option = |word: &String| word == "--data" || word.starts_with("--data=");
    session.origins.contains_key("data.folder") || session.command.iter().any(is_option)
}

/// A text that stays within a comment.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An experiment's name without what is not wanted in a file's name or in a shell.
fn file_name(name: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || "-_".contains(c) {
        true => c,
        false => '-',
    };
    let name: String = name.chars().map(plain).collect();
    name.trim_start_matches('-').to_owned()
}

/// What each session was started from.
pub fn sessions(sessions: &[Provenance]) -> Markup {
    html! {
        @if sessions.is_empty() { p.note { "What it was started from was not recorded." } }
        @for (index, session) in sessions.iter().enumerate() {
            @if sessions.len() > 1 { h3 { "Session " (index + 1) } }
            (self::session(session))
        }
    }
}

/// What a session was started from.
pub fn session(session: &Provenance) -> Markup {
    let software = &session.software;
    let commit = session
        .git
        .as_ref()
        .map(|git| match (git.dirty, &session.diff) {
            (false, _) => git.commit.clone(),
            (true, None) => format!("{} and changes", git.commit),
            (true, Some(diff)) => format!(
                "{} and changes, which are in {diff} of the run's directory",
                git.commit
            ),
        });
    let rows = [
        ("started", Some(time(&session.started))),
        (
            "from step",
            session.first_step.map(|step| grouped(step as f64)),
        ),
        (
            "began with",
            session.weights_from.as_ref().map(ToString::to_string),
        ),
        ("commit", commit),
        (
            "versions",
            Some(format!(
                "runboard {}, burn {}, libtorch {}",
                session.runboard, software.burn, software.libtorch
            )),
        ),
        ("device", Some(software.device.clone())),
        (
            "machine",
            Some(format!(
                "{}: {}, {}",
                session.host.as_deref().unwrap_or("unknown"),
                session.cpu,
                count(session.cores, "core")
            )),
        ),
    ];
    html! {
        dl.facts {
            @for (name, value) in rows { @if let Some(value) = value { dt { (name) } dd { (value) } } }
            @for change in &session.changes {
                @let [from, to] = change.as_yaml();
                dt { "changed" } dd { code { (change.field) } ": " (from) " → " (to) }
            }
            dt { "command" } dd { code { (shell(&session.command)) } }
        }
    }
}

/// Restarts, rollbacks and the warnings of the logs; none without any.
pub fn troubles(entry: &Entry) -> Option<Markup> {
    let restarts = entry
        .statuses()
        .supervisor
        .as_ref()
        .map(|it| it.all_restarts());
    let restarts = restarts.filter(|it| it.train + it.eval > 0);
    let rollbacks = entry
        .statuses()
        .train
        .as_ref()
        .map_or(0, |train| train.rollbacks);
    let warnings = entry.warnings();
    if restarts.is_none() && rollbacks == 0 && warnings.is_empty() {
        return None;
    }
    Some(html! {
        @if let Some(restarts) = restarts {
            p { "Started again after it had died: the trainer " (restarts.train) " times, the evaluator " (restarts.eval) " times." }
        }
        @if rollbacks > 0 {
            p { "Training went back to an earlier checkpoint, and on at a lower learning rate: " (rollbacks) " times." }
        }
        @for (role, lines) in &warnings {
            h3 { "Warnings in the log of the " (role.process_name()) }
            @let first = lines.len().saturating_sub(WARNINGS);
            @if first > 0 { p.note { (first) " more came before these." } }
            ul { @for line in &lines[first..] { li { (text(line.trim_start_matches("warning: "))) } } }
        }
    })
}

/// Commands to be pasted.
pub fn commands(text: &str) -> Markup {
    html! { pre.commands { (text) } }
}

/// Rows of a table, the first of which is its head.
pub fn rows(rows: &[Vec<String>]) -> Markup {
    let columns = rows.first().map_or(0, Vec::len);
    let are_numbers = |column: usize| {
        let mut cells = rows
            .iter()
            .skip(1)
            .filter_map(|row| row.get(column))
            .filter(|cell| *cell != "-");
        cells.clone().next().is_some()
            && cells.all(|cell| {
                let first = cell.split(" ± ").next().unwrap_or_default();
                first.parse::<f64>().is_ok()
            })
    };
    let classes: Vec<Option<&str>> = (0..columns)
        .map(|column| are_numbers(column).then_some("number"))
        .collect();
    html! {
        div.scroll {
            table {
                @if let Some((head, rows)) = rows.split_first() {
                    thead { tr { @for (cell, class) in head.iter().zip(&classes) { th class=[class] { (cell) } } } }
                    tbody {
                        @for row in rows {
                            tr { @for (cell, class) in row.iter().zip(&classes) { td class=[class] { (cell) } } }
                        }
                    }
                }
            }
        }
    }
}

/// A table of runs.
pub fn table(table: &Table) -> Markup {
    let class = |head: &Head| {
        let numbers = [Kind::Number, Kind::Bytes, Kind::Duration];
        numbers.contains(&head.kind).then_some("number")
    };
    html! {
        div.scroll {
            table {
                thead { tr { @for head in &table.heads { th class=[class(head)] { (heading(head)) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (cell, head) in row.iter().zip(&table.heads) {
                                td class=[class(head)] { (cell.as_ref().map_or_else(|| "-".to_owned(), Value::text)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A column as somebody reads it who does not know its name.
fn heading(head: &Head) -> String {
    match Field::find(&head.name) {
        Ok(field) if field.path == head.name => head.heading.clone(),
        _ => head.name.replace('_', " "),
    }
}
