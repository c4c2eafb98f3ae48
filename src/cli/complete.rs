//! What a shell offers for the next word: experiments, runs, fields of a spec, columns, states and tags, as they are now.
//!
//! A shell asks this program, with `COMPLETE` set (clap_complete's engine); the scripts that `runboard generate` writes tell it
//! to. Nothing is printed here, whatever is wrong: the command itself will say.

use crate::catalog::{self, COLUMNS, Entry, Trash, map};
use crate::home::Home;
use crate::run;
use crate::spec::{self, Field};
use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;
use std::collections::BTreeSet;
use std::ffi::OsStr;

/// The variable by which a shell asks.
pub const VARIABLE: &str = "COMPLETE";

/// Answers a shell that asks, and ends the process then.
pub fn answer() {
    CompleteEnv::with_factory(|| with_completers(super::Cli::command()))
        .var(VARIABLE)
        .complete();
}

type Completer = fn(&str) -> Vec<CompletionCandidate>;

/// What is offered for the arguments of these names, in whichever command they are.
const COMPLETERS: [(&str, Completer); 17] = [
    ("run", runs),
    ("what", runs),
    ("a", runs),
    ("b", runs),
    ("from", runs),
    ("baseline", runs),
    ("checkpoint", checkpoints),
    ("name", experiments),
    ("overrides", settings),
    ("sweeps", settings),
    ("columns", columns),
    ("sort", columns),
    ("wheres", names),
    ("states", states),
    ("remove", tags),
    ("pattern", fields),
    ("mean_over", fields),
];

/// The command line with what is offered for its arguments.
fn with_completers(command: Command) -> Command {
    let commands: Vec<String> = command
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .collect();
    commands.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            let of_trash = name == "restore";
            subcommand.mut_args(|argument| with_completer(argument, name, of_trash))
        })
    })
}

fn with_completer(argument: Arg, command: &str, of_trash: bool) -> Arg {
    let id = argument.get_id().as_str().to_owned();
    let known = COMPLETERS.iter().find(|(name, _)| *name == id);
    let completer: Completer = match (known, &*id) {
        (Some(_), "what") if of_trash => trashed,
        // Of `list --tag` and `tag`, not of `curve --tag`.
        (_, "tags") => tags,
        (_, "tag") if command == "curve" => curves,
        (_, "overrides") if command == "resume" => changes,
        (Some((_, completer)), _) => *completer,
        (None, _) => return argument,
    };
    argument.add(ArgValueCompleter::new(move |current: &OsStr| {
        let current = current.to_str().unwrap_or_default();
        let matching = completer(current).into_iter();
        let begins =
            |it: &CompletionCandidate| it.get_value().to_string_lossy().starts_with(current);
        matching.filter(begins).collect::<Vec<_>>()
    }))
}

fn candidates(values: impl IntoIterator<Item = impl Into<String>>) -> Vec<CompletionCandidate> {
    let values = values.into_iter().map(Into::into);
    values.map(CompletionCandidate::new).collect()
}

/// Names of experiments that have runs; the runs of one, the newest first, once its name is written; the points of a sweep.
fn runs(current: &str) -> Vec<CompletionCandidate> {
    let Ok(home) = Home::find() else {
        return Vec::new();
    };
    let entries = Entry::all(&home.runs());
    let sweep = entries
        .iter()
        .find(|entry| entry.is_sweep() && current.starts_with(&format!("{}/", entry.id())));
    if let Some(sweep) = sweep {
        let points = sweep.points().unwrap_or_default();
        return candidates(points.iter().map(Entry::id));
    }
    let names: BTreeSet<&str> = entries
        .iter()
        .map(Entry::name)
        .filter(|name| name.starts_with(current))
        .collect();
    match (current.contains('/'), names.len()) {
        (false, 2..) => candidates(names),
        (false, _) => {
            let ids = entries.iter().map(Entry::id);
            candidates(names.into_iter().chain(ids))
        }
        (true, _) => candidates(entries.iter().map(Entry::id)),
    }
}

fn trashed(_: &str) -> Vec<CompletionCandidate> {
    let there = || Trash::of(&Home::find().ok()?.runs()).look().ok();
    candidates(there().unwrap_or_default().iter().map(|it| it.id()))
}

fn experiments(_: &str) -> Vec<CompletionCandidate> {
    let names = || spec::available(&Home::find().ok()?.experiments()).ok();
    candidates(names().unwrap_or_default())
}

/// What stands for a step.
fn checkpoints(_: &str) -> Vec<CompletionCandidate> {
    candidates(["best", "last"])
}

/// A field of a spec, followed by this.
fn field(field: &Field, end: &str) -> CompletionCandidate {
    let meaning = field.meaning.split(". ").next().unwrap_or_default();
    CompletionCandidate::new(format!("{}{end}", field.path)).help(Some(meaning.to_owned().into()))
}

fn fields(_: &str) -> Vec<CompletionCandidate> {
    Field::all().map(|it| field(it, "")).collect()
}

/// `FIELD=`, and what a field can be that is one of a few words.
fn settings(current: &str) -> Vec<CompletionCandidate> {
    settings_of(current, |_| true)
}

/// The same of those that a resume may change.
fn changes(current: &str) -> Vec<CompletionCandidate> {
    settings_of(current, |field| field.changeable)
}

fn settings_of(current: &str, is_meant: fn(&Field) -> bool) -> Vec<CompletionCandidate> {
    match current.split_once('=') {
        None => {
            let fields = Field::all().filter(|it| is_meant(it));
            fields.map(|it| field(it, "=")).collect()
        }
        Some((name, _)) => {
            let field = Field::find(name).ok();
            let choices = field.map(Field::choices).unwrap_or_default();
            candidates(choices.iter().map(|choice| format!("{name}={choice}")))
        }
    }
}

/// A column or a field, behind the last comma.
fn columns(current: &str) -> Vec<CompletionCandidate> {
    let begin = current.rfind([',', '+']).map_or("", |end| &current[..=end]);
    let columns = COLUMNS.iter().map(|column| (column.name, column.meaning));
    let fields = Field::all().map(|field| (field.path, field.meaning));
    let all = columns.chain(fields).map(|(name, meaning)| {
        CompletionCandidate::new(format!("{begin}{name}")).help(Some(
            meaning
                .split(". ")
                .next()
                .unwrap_or_default()
                .to_owned()
                .into(),
        ))
    });
    all.collect()
}

/// What an expression can begin with.
fn names(_: &str) -> Vec<CompletionCandidate> {
    columns("")
}

fn states(current: &str) -> Vec<CompletionCandidate> {
    let begin = current.rfind(',').map_or("", |end| &current[..=end]);
    candidates(catalog::states().map(|state| format!("{begin}{}", state.replace(' ', "-"))))
}

/// The tags that runs have.
fn tags(_: &str) -> Vec<CompletionCandidate> {
    let Ok(home) = Home::find() else {
        return Vec::new();
    };
    let entries: Vec<Entry> = run::list(&home.runs()).into_iter().map(Entry::of).collect();
    let tags = map(&entries, |entry| entry.labels().tags.clone());
    candidates(tags.into_iter().flatten().collect::<BTreeSet<String>>())
}

fn curves(_: &str) -> Vec<CompletionCandidate> {
    candidates(super::curve::SHORT.iter().map(|(name, _)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_completer_is_of_an_argument_that_there_is() {
        let command = super::super::Cli::command();
        let arguments: Vec<String> = command
            .get_subcommands()
            .flat_map(Command::get_arguments)
            .map(|argument| argument.get_id().to_string())
            .collect();
        for (name, _) in COMPLETERS {
            assert!(arguments.iter().any(|it| it == name), "no argument {name}");
        }
        with_completers(command).debug_assert();
    }

    #[test]
    fn settings_and_columns_are_fields_with_what_they_may_be() {
        let values = |candidates: Vec<CompletionCandidate>| -> Vec<String> {
            let values = candidates.iter();
            values
                .map(|it| it.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert!(values(settings("tr")).contains(&"train.steps=".to_owned()));
        assert_eq!(
            values(settings("optimizer.nesterov=")),
            ["optimizer.nesterov=true", "optimizer.nesterov=false"]
        );
        assert!(values(settings("optimizer.name=")).contains(&"optimizer.name=muon".to_owned()));
        assert_eq!(values(settings("nothing=")), [""; 0]);
        let of_resume = values(changes(""));
        assert!(of_resume.contains(&"train.steps=".to_owned()));
        assert!(!of_resume.contains(&"optimizer.learning_rate=".to_owned()));
        assert!(values(fields("")).contains(&"optimizer.learning_rate".to_owned()));
        assert!(values(columns("run,acc")).contains(&"run,accuracy".to_owned()));
        assert!(values(columns("+acc")).contains(&"+accuracy".to_owned()));
        assert!(values(states("failed,")).contains(&"failed,stopped-early".to_owned()));
    }
}
