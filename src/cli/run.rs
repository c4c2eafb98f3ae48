//! `runboard run`, `resume` and `stop`: a run directory and its processes.

use super::{ExperimentArgs, data_error, data_from_environment, fetch};
use crate::data::Fingerprint;
use crate::error::is_user_error;
use crate::evaluator::hparams;
use crate::home::Home;
use crate::overview::{RunSnapshot, closing};
use crate::run::{self, Lock, Provenance, Role, RunDir, Software};
use crate::run::{commands, data as run_data};
use crate::shutdown::Shutdown;
use crate::spec::Spec;
use crate::supervisor::display::{Display, Verbosity};
use crate::supervisor::{self, Options, StopOptions, supervise};
use crate::{backend, checkpoint, console, data};
use anyhow::{Context, Result};
use std::env;
use std::path::Path;
use std::time::Duration;

/// How long `stop` waits before it says what it waits for.
const NOTICE_AFTER: Duration = Duration::from_secs(5);

/// How long a detached supervisor may take for its next sign of life until it supervises the run.
const DETACH_LIMIT: Duration = Duration::from_secs(60);

pub fn run(runs: &Path, args: &ExperimentArgs, detach: bool, verbosity: Verbosity) -> Result<i32> {
    let home = Home::find()?;
    let mut experiment = args.load(&home)?;
    let fetch = fetch(experiment.fix_paths(home.path())?);
    run::check_directory(&runs.join(&experiment.name))?; // before data are fetched, say
    let spec = &experiment.spec;
    let (_, device) = backend::device(&spec.compute.device)?;
    let images =
        data::prepare(&spec.data, fetch).map_err(|error| data_error(error, &experiment))?;
    let fingerprint = Fingerprint::of(&images)?;
    spec.training_images(fingerprint.train_images())?;
    let provenance = provenance(device, Some(0));
    let run = RunDir::create(runs, &experiment.name, &spec.to_frozen_yaml()?, &provenance)?;
    run_data::record(&run, &spec.data.folder, fingerprint)?;
    start(&run, None, detach, verbosity)
}

/// Resumes `run`; `folder` is where its images are, if it was given. Its session is `recorded` in its provenance, and
/// its data are verified, if another process has detached this one.
pub fn resume(
    run: &RunDir,
    folder: Option<&Path>,
    detach: bool,
    recorded: bool,
    verbosity: Verbosity,
) -> Result<i32> {
    if recorded {
        return start(run, None, detach, verbosity);
    }
    let spec = Spec::read_frozen(&run.spec())?;
    let variable = data_from_environment()?;
    let given = |folder: &&Path| !folder.as_os_str().is_empty();
    run_data::verify(run, &spec.data, folder.filter(given), variable.as_deref())?;
    let (_, device) = backend::device(&spec.compute.device)?;
    let first = next_step(run);
    let images = spec.training_images(run_data::train_images(run)?)?;
    let steps = spec.train.total_steps(images);
    if first.is_some_and(|first| first >= steps) {
        let then = match RunSnapshot::read(run).unscored {
            0 => "all are scored: nothing is left to do but to check them",
            1 => "1 of them is not scored yet, and is now",
            many => &format!("{many} of them are not scored yet, and are now"),
        };
        console::line(format_args!(
            "{} has trained all its {steps} steps already; of its checkpoints, {then}",
            run.id()
        ));
    }
    start(run, Some(&provenance(device, first)), detach, verbosity)
}

/// Records the session of a trainer that was started by hand. What keeps the trainer from starting, it says itself.
pub fn record_training(run: &RunDir) {
    let record = || -> Result<()> {
        let _supervisor = Lock::take(run, Role::Supervisor)?; // whose holder alone may write the record
        drop(Lock::take(run, Role::TRAIN)?);
        let (_, device) = backend::device(&Spec::read_frozen(&run.spec())?.compute.device)?;
        provenance(device, next_step(run)).record(run)
    };
    if let Err(error) = record()
        && !is_user_error(&error)
    {
        console::warning(format_args!("{error:#}"));
    }
}

/// The step that a session of training begins at, if the checkpoints can be listed.
fn next_step(run: &RunDir) -> Option<u64> {
    let newest = checkpoint::latest(&run.checkpoints()).ok()?;
    Some(newest.map_or(0, |entry| entry.step + 1))
}

fn provenance(device: String, first_step: Option<u64>) -> Provenance {
    let software = Software {
        burn: backend::BURN.into(),
        libtorch: backend::LIBTORCH.into(),
        device,
    };
    Provenance::collect(Path::new("."), software, first_step)
}

pub fn stop(run: &RunDir, now: bool) -> Result<i32> {
    let options = StopOptions {
        now,
        notice_after: NOTICE_AFTER,
        how_to_insist: &commands::stop_now(run),
    };
    let was_running = supervisor::stop(run, options, |notice| console::line(notice))?;
    if !was_running {
        console::line(format_args!("{} is not running", run.id()));
    }
    console::line(closing(&RunSnapshot::read(run)).join("\n"));
    Ok(0)
}

/// Supervises `run`, here or detached; `session` is what is still to be recorded of it.
fn start(
    run: &RunDir,
    session: Option<&Provenance>,
    detach: bool,
    verbosity: Verbosity,
) -> Result<i32> {
    let program = env::current_exe().context("failed to find runboard's own binary")?;
    let lock = supervisor::lock(run)?;
    if let Some(Err(error)) = session.map(|session| session.record(run)) {
        console::warning(format_args!("{error:#}"));
    }
    let path = run.path().display();
    if detach {
        drop(lock); // for the supervisor
        let pid = supervisor::detach(run, &program, DETACH_LIMIT)?;
        console::line(format_args!(
            "started {path}, detached, with pid {pid}\n  \
             to follow it   {}\n  \
             to see curves  {}\n  \
             to stop it     {}",
            commands::follow(&run.log(Role::Supervisor)),
            commands::curves(run),
            commands::stop(run),
        ));
        return Ok(0);
    }
    let options = Options::new(Spec::read_frozen(&run.spec())?.train.restarts);
    let shutdown = Shutdown::counting_signals()?;
    let mut display = Display::detect(run, verbosity);
    if !display.is_live() && verbosity != Verbosity::Quiet {
        console::line(format_args!("starting {path}"));
    }
    let summary = supervise(run, &lock, &program, &shutdown, &mut display, options)?;
    // An evaluator that was killed could not say how the run ended.
    if let Err(error) = hparams::record_missing_completion(run) {
        console::warning(format_args!("{error:#}"));
    }
    console::line(&summary);
    Ok(summary.exit_code())
}
