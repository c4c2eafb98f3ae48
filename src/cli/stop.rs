//! `runboard stop`: a run, or a sweep and its points, stopped after a last checkpoint.

use super::RunOrSweepArg;
use super::choose::others_of_name;
use super::form::print_json;
use crate::catalog::Entry;
use crate::console;
use crate::overview::{RunSnapshot, closing};
use crate::run::{Found, ProcessDir, RunDir, RunState, Statuses, commands, points};
use crate::supervisor::{self, StopOptions, Stopping};
use crate::sweep::executor::Slurm;
use crate::sweep::{Launcher, Standing, SweepDir};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::path::Path;

/// What to stop.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    run: RunOrSweepArg,
    /// End it at once, without a last checkpoint, even if a process of it is frozen
    #[arg(long)]
    now: bool,
    /// Say nothing
    #[arg(long, short)]
    quiet: bool,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// Stops a run or a sweep, waits for its end, and says how it stands.
pub fn stop(arguments: &Arguments) -> Result<i32> {
    let found = arguments.run.find()?;
    // What it waits for is no answer.
    let notify = |notice: &str| match (arguments.quiet, arguments.json) {
        (true, _) => {}
        (_, true) => console::stderr_line(notice),
        _ => console::line(notice),
    };
    let was_running = match &found {
        Found::Run(run) => {
            let how_to_insist = commands::stop_now(run);
            supervisor::stop(run, StopOptions::new(arguments.now, &how_to_insist), notify)?
        }
        Found::Sweep(sweep) => stop_sweep(sweep, arguments.now, notify)?,
    };
    // NAME is its latest run, which somebody may not have meant.
    let others = match was_running {
        true => Vec::new(),
        false => others_of_name(&arguments.run.runs.directory()?, &arguments.run.run, &found),
    };
    let older = others.into_iter().map(Entry::of);
    let older = older.filter(Entry::is_under_way);
    for directory in older.filter_map(|it| it.directory().cloned()) {
        let (id, how) = (directory.id(), commands::stop(&directory));
        notify(&format!(
            "{id}, which is older, is running; to stop it: {how}"
        ));
    }
    if arguments.json {
        let id = found.id();
        let state = Entry::of(found).state();
        let all = json!({"run": id, "was_running": was_running, "state": state});
        print_json(&all)?;
    } else if !arguments.quiet {
        if !was_running {
            console::line(format_args!("{} is not running", found.id()));
        }
        match found {
            Found::Run(run) => tell_run(&run),
            Found::Sweep(sweep) => tell_sweep(&SweepDir::new(sweep))?,
        }
    }
    Ok(0)
}

/// Stops a sweep and all of its points.
fn stop_sweep(sweep: &ProcessDir, now: bool, notify: impl Fn(&str)) -> Result<bool> {
    let how_to_insist = commands::stop_now(sweep);
    let options = StopOptions::new(now, &how_to_insist);
    let sweeps = supervisor::stop(sweep, options, &notify);
    let jobs = cancel_waiting_jobs(sweep);
    // Those that somebody resumed by themselves, or whose sweep was killed just now. One that is just starting has the state of before.
    let points = points(sweep).into_iter().filter(|point| {
        let state = Statuses::read(point).state(point);
        state.is_some_and(RunState::is_under_way) || supervisor::is_locked(point)
    });
    // All are asked before one is waited for, whatever comes of any; the first error is told.
    let asked = points.map(|point| {
        let asked = Stopping::ask(ProcessDir::clone(&point), options);
        (point.id(), asked)
    });
    let asked: Vec<(String, Result<Stopping>)> = asked.collect();
    let wait = |(id, asked): (String, Result<Stopping>)| {
        asked?.wait(|notice| notify(&format!("{id}: {notice}")))
    };
    let points = asked.into_iter().map(wait);
    let stopped: Vec<Result<bool>> = [sweeps, jobs].into_iter().chain(points).collect();
    let was_running: Vec<bool> = stopped.into_iter().collect::<Result<_>>()?;
    Ok(was_running.contains(&true))
}

fn tell_run(run: &RunDir) {
    console::line(closing(&RunSnapshot::read(run)).join("\n"));
}

fn tell_sweep(directory: &SweepDir) -> Result<()> {
    let standing = Standing::read(directory)?;
    let results = standing.results();
    console::line(results.counts());
    if let Some((what, command)) = results.next_command(directory) {
        console::line(format_args!("  {what}  {command}"));
    }
    Ok(())
}

/// Cancels what a sweep that was killed has left in Slurm's queue. Returns whether there was anything.
fn cancel_waiting_jobs(sweep: &ProcessDir) -> Result<bool> {
    let directory = SweepDir::new(sweep.clone());
    let sweep = directory.read()?;
    match &sweep.definition.launcher {
        Launcher::Local => Ok(false),
        Launcher::Slurm(options) => {
            let program = Path::new("runboard"); // starts nothing
            Slurm::new(&directory, &sweep, options, program)?.cancel_waiting()
        }
    }
}
