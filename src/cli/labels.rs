//! `runboard tag` and `note`: what people say of a run.

use super::RunOrSweepArg;
use super::form::print_json;
use crate::run::{Found, Labels, ProcessDir, check_tag, resolve_any};
use crate::{bail_user, console, user_error};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::path::Path;

/// The longest note that a run can begin with, in bytes.
const MAX_NOTE: usize = 1 << 16;

/// What is said of a run when it begins.
#[derive(Args, Debug)]
pub struct LabelArgs {
    /// Tag the run or sweep, as `runboard tag` does; may be repeated
    #[arg(long = "tag", value_name = "TAG", value_parser = tag_of)]
    tags: Vec<String>,
    /// Note something of it, as `runboard note` does
    #[arg(long, value_name = "TEXT", value_parser = note_of)]
    note: Option<String>,
}

impl LabelArgs {
    /// Writes them into the directory of a run or sweep that was just made.
    ///
    /// # Errors
    /// The disk refuses it, or the note is too long.
    pub fn write(&self, directory: &ProcessDir) -> Result<()> {
        if self.tags.is_empty() && self.note.is_none() {
            return Ok(());
        }
        let written = Labels::change(directory, |labels| {
            self.tags.iter().for_each(|tag| labels.tag(tag));
            self.note.iter().for_each(|note| labels.note(note));
            Ok(())
        });
        written.map(drop)
    }
}

fn tag_of(text: &str) -> Result<String, String> {
    check_tag(text).map(|()| text.to_owned())
}

fn note_of(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("got an empty note, want a text".to_owned()),
        text if text.len() > MAX_NOTE => Err(format!(
            "got a note of {} bytes, want at most {MAX_NOTE}; a longer text belongs into a file of its own",
            text.len()
        )),
        text => Ok(text.to_owned()),
    }
}

/// Tags of a run.
#[derive(Args, Debug)]
pub struct TagArguments {
    #[command(flatten)]
    run: RunOrSweepArg,
    /// Tags to add: words, such as best-so-far
    #[arg(value_name = "TAG")]
    tags: Vec<String>,
    /// Take this tag away; may be repeated. Nothing is done if the run lacks one of them
    #[arg(long, short = 'd', value_name = "TAG")]
    remove: Vec<String>,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
}

/// A note of a run.
#[derive(Args, Debug)]
pub struct NoteArguments {
    #[command(flatten)]
    run: RunOrSweepArg,
    /// What to note; it is added to the notes that there are
    text: Option<String>,
    /// Take all notes away, before this one is added
    #[arg(long)]
    clear: bool,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
}

/// Adds tags to a run and takes others away, and shows those that it has then.
pub fn tag(arguments: &TagArguments) -> Result<i32> {
    for tag in &arguments.tags {
        check_tag(tag).map_err(|problem| user_error!("{problem}"))?;
        // A run's name alone may well be a tag.
        if tag.contains('/')
            && resolve_any(&arguments.run.runs.directory()?, Path::new(tag)).is_ok()
        {
            bail_user!("got '{tag}' for a tag, which is a run; want one run and then tags");
        }
    }
    let found = arguments.run.find()?;
    let labels = Labels::change(found.directory(), |labels| {
        if let Some(tag) = arguments.remove.iter().find(|it| !labels.tags.contains(it)) {
            let has = match labels.tags.is_empty() {
                true => "it has none".to_owned(),
                false => format!("it has {}", labels.tags.join(", ")),
            };
            bail_user!("{} has no tag '{tag}'; {has}", found.id());
        }
        labels.tags.retain(|it| !arguments.remove.contains(it));
        arguments.tags.iter().for_each(|tag| labels.tag(tag));
        Ok(())
    })?;
    if arguments.json {
        return print(&found, &labels);
    }
    for tag in &labels.tags {
        console::output(tag)?;
    }
    Ok(0)
}

/// Adds a note to a run, or shows those that it has.
pub fn note(arguments: &NoteArguments) -> Result<i32> {
    let text = arguments.text.as_deref().map(str::trim);
    if text.is_some_and(str::is_empty) {
        bail_user!("got an empty note, want a text");
    }
    let found = arguments.run.find()?;
    let labels = Labels::change(found.directory(), |labels| {
        if arguments.clear {
            labels.notes.clear();
        }
        if let Some(text) = text {
            labels.note(text);
        }
        Ok(())
    })?;
    if arguments.json {
        return print(&found, &labels);
    }
    if text.is_none() {
        for note in &labels.notes {
            let time = note.time.format("%Y-%m-%d %H:%M");
            console::output(format_args!("{time}  {}", indented(&note.text)))?;
        }
    }
    Ok(0)
}

/// Prints for programs what a run or a sweep has.
fn print(found: &Found, labels: &Labels) -> Result<i32> {
    let all = json!({"run": found.id(), "tags": labels.tags, "notes": labels.notes});
    print_json(&all)?;
    Ok(0)
}

/// A text whose lines stand below each other behind the time of a note.
pub(super) fn indented(text: &str) -> String {
    let safe = |c: char| c == '\n' || !c.is_control();
    let text: String = text.chars().filter(|c| safe(*c)).collect();
    text.replace('\n', &format!("\n{}", " ".repeat(18)))
}
