//! How tables and JSON are shown, and what a terminal is asked: options and questions that several commands have.

use crate::catalog::{Form, Key, Table};
use crate::overview::{Paint, count};
use crate::{bail_user, console, user_error};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::env;
use std::io::{self, BufRead, IsTerminal};

/// What a table is written as.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormArgs {
    /// Write JSON, whose names docs/json.md explains
    #[arg(long, conflicts_with_all = ["csv", "md"])]
    json: bool,
    /// Write CSV, with the same names
    #[arg(long, conflicts_with = "md")]
    csv: bool,
    /// Write a table of Markdown
    #[arg(long)]
    md: bool,
}

impl FormArgs {
    /// For this output: on a terminal in its width.
    pub fn form(self) -> Form {
        match self {
            FormArgs { json: true, .. } => Form::Json,
            FormArgs { csv: true, .. } => Form::Csv,
            FormArgs { md: true, .. } => Form::Markdown,
            _ => Form::Text(console::columns(), paint()),
        }
    }

    /// Whether it is for a program.
    pub fn is_for_programs(self) -> bool {
        self.json || self.csv
    }

    /// Prints a table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(self, table: &Table) -> Result<()> {
        Ok(console::output(table.write(self.form()))?)
    }

    /// Prints a table whose columns are what a user wants to see, and says so where a terminal has no room for all of them.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print_whole(self, table: &Table) -> Result<()> {
        self.print(table)?;
        let left_out = table.left_out(self.form());
        if left_out > 0 {
            console::stderr_line(format_args!(
                "{} left out for the width of the terminal; a wider one, --columns NAME,..., --csv or --json shows more",
                count(left_out, "column")
            ));
        }
        Ok(())
    }
}

/// Prints for programs what they asked for with `--json`.
///
/// # Errors
/// If it cannot be written.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    Ok(console::output(serde_json::to_string_pretty(value)?)?)
}

/// The colours of the output.
pub fn paint() -> Paint {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Paint {
        colour: io::stdout().is_terminal() && !is_dumb && !no_colour,
    }
}

/// The columns that a user lists with commas, the argument of `option`.
///
/// # Errors
/// A user error for a name that is none.
pub fn keys(option: &str, list: &str) -> Result<Vec<Key>> {
    let names = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| Key::find(name).map_err(|problem| user_error!("{option}: {name}: {problem}")))
        .collect()
}

/// Asks on the terminal whether to do it. Where there is no terminal nobody can answer.
///
/// # Errors
/// A user error without a terminal, that wants `--yes`.
pub fn confirm(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail_user!(
            "nothing is done: this asks before it does, and there is no terminal; want --yes"
        );
    }
    console::stderr_line(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
