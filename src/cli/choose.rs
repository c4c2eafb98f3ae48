//! Which runs a command is about: options that several have.

use crate::catalog::{Entry, Filter, map};
use crate::hint::shell;
use crate::overview::count;
use crate::run::{self, Found, commands};
use crate::spec;
use crate::{bail_user, console};
use anyhow::Result;
use clap::Args;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// Which runs; all of it must hold.
#[derive(Args, Debug, Default)]
pub struct FilterArgs {
    /// Only those in this state, such as failed or stopped-early; of several, in one of them
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<String>,
    /// Only those of experiments with this name, such as 'lr-*'; of several, with one of them
    #[arg(long = "name", value_name = "PATTERN")]
    names: Vec<String>,
    /// Only those for which this holds, such as 'accuracy>0.7 and optimizer.learning_rate<0.1'; of several, all of them
    #[arg(long = "where", value_name = "EXPRESSION")]
    wheres: Vec<String>,
    /// Only those with this tag; of several, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only those made since then: so long ago, such as 2h or 7d, or a date
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

impl FilterArgs {
    /// Whether any option is given.
    pub fn is_given(&self) -> bool {
        let lists = [&self.states, &self.names, &self.wheres, &self.tags];
        self.since.is_some() || lists.iter().any(|list| !list.is_empty())
    }

    /// Those of these runs that are meant, in their order.
    ///
    /// # Errors
    /// A user error for an option with a mistake, and for a tag that no run has.
    pub fn choose(&self, entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let filter = self.filter()?;
        self.check_tags(&entries)?;
        let chosen = map(&entries, |entry| filter.matches(entry));
        let chosen = entries
            .into_iter()
            .zip(chosen)
            .filter(|(_, is_chosen)| *is_chosen);
        Ok(chosen.map(|(entry, _)| entry).collect())
    }

    fn filter(&self) -> Result<Filter> {
        let mut filters = vec![
            Filter::states("--state", &self.states)?,
            Filter::names(&self.names)?,
            Filter::tags(&self.tags)?,
        ];
        for text in &self.wheres {
            filters.push(Filter::parse("--where", text)?);
        }
        if let Some(since) = &self.since {
            filters.push(Filter::since("--since", since)?);
        }
        Ok(Filter::all(filters))
    }

    /// A tag that no run has is a slip.
    fn check_tags(&self, entries: &[Entry]) -> Result<()> {
        if self.tags.is_empty() {
            return Ok(());
        }
        let tags = map(entries, |entry| entry.labels().tags.clone());
        let known: BTreeSet<String> = tags.into_iter().flatten().collect();
        if let Some(tag) = self.tags.iter().find(|tag| !known.contains(*tag)) {
            let near = spec::nearest(tag, known.iter().map(String::as_str));
            let hint = match (near, known.is_empty()) {
                _ if let Some(point) = tagged_point(entries, tag) => {
                    format!(
                        "the point {point} has it; `runboard list --points` lists points as well"
                    )
                }
                (Some(near), _) => format!("did you mean '{near}'?"),
                (None, true) => "no run has a tag".to_owned(),
                (None, false) => {
                    format!("there are {}", Vec::from_iter(known).join(", "))
                }
            };
            bail_user!("--tag: no run has the tag '{tag}'; {hint}");
        }
        Ok(())
    }
}

/// The other runs and sweeps of a name, the newest first, where a user meant by it the latest one, which was found.
pub fn others_of_name(runs: &Path, what: &Path, found: &Found) -> Vec<Found> {
    if what != Path::new(&found.name()) || what == found.path() {
        return Vec::new();
    }
    let all = run::list_of_name(runs, &found.name()).into_iter().rev();
    all.filter(|it| it.id() != found.id()).collect()
}

/// Says for people that a name means the latest run alone, and how `command` shows the others as well.
pub fn hint_at_others(command: &[&str], runs: &Path, what: &Path, found: &Found) {
    let others = others_of_name(runs, what, found).len();
    if others > 0 {
        let (name, others) = (found.name(), count(others, "older run"));
        let mut words: Vec<OsString> = command.iter().map(OsString::from).collect();
        words.extend(["--name".into(), name.clone().into()]);
        words.extend(commands::option_of_runs(runs));
        console::stderr_line(format_args!(
            "{others} of {name}: `{}` shows all",
            shell(&words)
        ));
    }
}

/// A point of one of these sweeps that has the tag.
fn tagged_point(entries: &[Entry], tag: &str) -> Option<String> {
    let points = entries
        .iter()
        .filter(|it| it.is_sweep())
        .flat_map(Entry::begun_points);
    let tagged = |point: &Entry| point.labels().tags.iter().any(|it| it == tag);
    points
        .into_iter()
        .find(tagged)
        .map(|point| point.id().to_owned())
}
