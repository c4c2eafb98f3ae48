//! `runboard watch` and `logs`: what another process runs.

use super::{OutputArgs, RunOrSweepArg};
use crate::overview::{RunSnapshot, closing};
use crate::run::{Found, ProcessDir, Role, RunDir, RunState, commands, state};
use crate::shutdown::Shutdown;
use crate::supervisor::display::{Display, Verbosity};
use crate::sweep::{Standing, SweepDir, display};
use crate::{bail_user, console, supervisor};
use anyhow::{Context, Result};
use clap::Args;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

/// How often a log or a sweep is looked at.
const POLL: Duration = Duration::from_millis(300);

/// What to watch.
#[derive(Args, Debug)]
pub struct WatchArguments {
    #[command(flatten)]
    run: RunOrSweepArg,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which log to show.
#[derive(Args, Debug)]
pub struct LogArguments {
    #[command(flatten)]
    run: RunOrSweepArg,
    /// Show the evaluator's log, not the trainer's
    #[arg(long)]
    eval: bool,
    /// Show the log of a supervisor that runs detached
    #[arg(long, conflicts_with = "eval")]
    supervisor: bool,
    /// Go on with what is written, until the run ends
    #[arg(long, short)]
    follow: bool,
}

/// Shows a run or a sweep as the process does that has started it, until it ends.
pub fn watch(arguments: &WatchArguments) -> Result<i32> {
    let verbosity = arguments.output.verbosity();
    match arguments.run.find()? {
        Found::Run(run) => watch_run(&run, verbosity),
        Found::Sweep(sweep) => watch_sweep(&SweepDir::new(sweep), verbosity),
    }
}

fn watch_run(run: &RunDir, verbosity: Verbosity) -> Result<i32> {
    // Ctrl-C ends the watching, not the run.
    let shutdown = Shutdown::on_signals()?;
    let mut display = Display::detect(run, verbosity);
    if state(run).is_some_and(RunState::is_under_way) {
        supervisor::watch(run, &shutdown, &mut display);
    }
    console::line(closing(&RunSnapshot::read(run)).join("\n"));
    Ok(0)
}

fn watch_sweep(directory: &SweepDir, verbosity: Verbosity) -> Result<i32> {
    let shutdown = Shutdown::on_signals()?;
    let mut display = display::Display::detect(verbosity, commands::curves(directory));
    let mut standing = Standing::read(directory)?;
    while standing.is_at_work() {
        let stopping = standing.state().is_some_and(|state| state == "stopping");
        display.update(&standing.results(), stopping);
        if shutdown.sleep(POLL) {
            break;
        }
        standing = Standing::read(directory)?;
    }
    display.finish();
    super::show::print_sweep(directory, &standing)?;
    Ok(0)
}

/// Prints a log of a run, and what comes.
pub fn logs(arguments: &LogArguments) -> Result<i32> {
    let found = arguments.run.find()?;
    let directory = found.directory();
    let role = match (&found, arguments) {
        (Found::Sweep(_), LogArguments { eval: true, .. }) => bail_user!(
            "{} is a sweep; want one of its points for the evaluator's log",
            found.id()
        ),
        (Found::Sweep(_), _) => Role::Sweep, // its one process supervises
        (
            _,
            LogArguments {
                supervisor: true, ..
            },
        ) => Role::Supervisor,
        (_, LogArguments { eval: true, .. }) => Role::Eval,
        _ => Role::TRAIN,
    };
    let log = directory.log(role);
    let is_under_way = || match &found {
        Found::Run(run) => state(run).is_some_and(RunState::is_under_way),
        Found::Sweep(sweep) => is_at_work(sweep),
    };
    let may_come = arguments.follow && is_under_way();
    if !may_come && !log.exists() {
        bail_user!(
            "{} has no {}: the {} has printed nothing{}",
            found.id(),
            log.display(),
            role.process_name(),
            match role {
                Role::Supervisor | Role::Sweep => ", or not into a log, as it is not detached",
                _ => "",
            }
        );
    }
    let shutdown = Shutdown::on_signals()?;
    let mut file: Option<File> = None;
    loop {
        let was_under_way = arguments.follow && is_under_way();
        if file.is_none() {
            file = open(&log)?;
        }
        if let Some(file) = &mut file {
            match io::copy(file, &mut io::stdout()).and_then(|_| io::stdout().flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0), // `| head`
                copied => copied.with_context(|| format!("failed to show {}", log.display()))?,
            }
        }
        if !was_under_way || shutdown.sleep(POLL) {
            return Ok(0);
        }
    }
}

/// The file, once it is there.
fn open(path: &Path) -> Result<Option<File>> {
    match crate::files::open_regular(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => {
            Ok(Some(file.with_context(|| {
                format!("failed to open {}", path.display())
            })?))
        }
    }
}

fn is_at_work(sweep: &ProcessDir) -> bool {
    let standing = Standing::read(&SweepDir::new(sweep.clone()));
    standing.is_ok_and(|standing| standing.is_at_work())
}
