//! `runboard fields`: what the fields of a spec mean.

use crate::{console, spec};
use anyhow::Result;
use clap::Args;

/// Which fields to show, and how.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Part of a field's path, such as decay, or all of it with * and ?, such as 'train.*_every'
    pattern: Option<String>,
    /// Write all fields as Markdown: docs/spec.md
    #[arg(long, conflicts_with = "pattern")]
    markdown: bool,
    /// Write all fields as a JSON Schema: experiments/schema.json
    #[arg(long, conflicts_with_all = ["pattern", "markdown"])]
    schema: bool,
}

pub fn fields(arguments: &Arguments) -> Result<i32> {
    let text = match arguments {
        Arguments { markdown: true, .. } => spec::reference::markdown()?,
        Arguments { schema: true, .. } => spec::schema()?,
        Arguments { pattern, .. } => spec::reference::list(pattern.as_deref())?,
    };
    console::output(text.trim_end())?;
    Ok(0)
}
