//! `runboard report`: a page of runs for whoever has none of this.

use super::{RunsArg, compare, path};
use crate::catalog::Entry;
use crate::{console, report};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

/// What the page is of, and where it goes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// NAME (its latest run or sweep), NAME/TIMESTAMP, a point of a sweep as NAME/7 or NAME/TIMESTAMP/7, or a directory; several are
    /// compared, a sweep among them by its points
    #[arg(value_name = "RUN", required = true, value_parser = path())]
    what: Vec<PathBuf>,
    #[command(flatten)]
    runs: RunsArg,
    /// Where to write the page, - for the standard output [default: report.html in the directory of the run or sweep; of
    /// several in that of all runs]
    #[arg(long, short, value_name = "FILE", value_parser = path())]
    output: Option<PathBuf>,
    /// Replace a file that is no page of this command
    #[arg(long, short)]
    force: bool,
}

/// Writes the page and prints where it is.
pub fn report(arguments: &Arguments) -> Result<i32> {
    let runs = arguments.runs.directory()?;
    let entries = compare::found(&runs, &arguments.what)?;
    let default = report::default_path(&runs, &entries);
    let several = |whole: Option<&Entry>, entries: &[Entry]| {
        let mut comparison = compare::comparison(entries);
        compare::remove_empty(&mut comparison);
        report::of_several(whole, entries, &comparison)
    };
    let page = match &entries[..] {
        // Of a sweep that cannot be read its points can be.
        [one] if one.is_sweep() && one.standing().is_none() => {
            several(Some(one), &one.begun_points())
        }
        [one] => report::of_one(one),
        _ => several(None, &compare::opened(entries)?),
    };
    let place = match &arguments.output {
        Some(file) if file == Path::new("-") => {
            console::output(page)?;
            return Ok(0);
        }
        Some(file) => file.clone(),
        None => default,
    };
    report::write(&place, &page, arguments.force)?;
    console::output(place.display())?;
    Ok(0)
}
