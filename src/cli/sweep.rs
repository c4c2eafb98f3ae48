//! `runboard run` and `resume` of a sweep.

use super::run::{Session, detach, requeue_if_asked};
use super::warm_start::WarmStart;
use super::{data_from_environment, given};
use crate::compute::{Machine, machine};
use crate::data::{self, Fetch};
use crate::launch::{Flags, Origin};
use crate::overview::{count, wrap};
use crate::run::{Lock, ProcessDir, Role, SweepStatus, commands, data as run_data};
use crate::shutdown::{self, Shutdown};
use crate::spec::{Data, DeviceName, Experiment, Override, Source};
use crate::supervisor::display::Verbosity;
use crate::sweep::display::Display;
use crate::sweep::executor::{Executor, Local, Slurm};
use crate::sweep::images::SweepImages;
use crate::sweep::progress::Progress;
use crate::sweep::results::Results;
use crate::sweep::schedule::Reason;
use crate::sweep::supervise::{self, Outcome, supervise};
use crate::sweep::{Launcher, Sweep, SweepDir, table};
use crate::{bail_user, console, paths, slurm};
use anyhow::{Context, Result};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Exit code of a sweep with points that failed.
const FAILED: i32 = 1;

/// 128 + SIGTERM: of a sweep whose points somebody stopped.
const STOPPED: i32 = 143;

/// How many settings the table at the end has.
const SHOWN: usize = 20;

/// Starts the sweep of an experiment, all of whose points are valid and have the network of the weights that they begin with, if that is
/// given; `record` writes what else is in its directory.
pub fn run(
    runs: &Path,
    experiment: &Experiment,
    sweep: &Sweep,
    fetch: Fetch,
    from: Option<&WarmStart>,
    record: impl FnOnce(&ProcessDir) -> Result<()>,
    session: Session,
) -> Result<i32> {
    check_devices(sweep)?;
    let images = SweepImages::prepare(sweep, fetch, None)
        .map_err(|error| super::data_error(error, experiment))?;
    if let Some(from) = from {
        from.warn_of_images(runs, &sweep.specs, images.fingerprint());
    }
    let prepare = |directory: &ProcessDir| {
        from.map_or(Ok(()), |from| from.copy_into(directory))?;
        record(directory)
    };
    let (directory, lock) = SweepDir::create(runs, &experiment.name, sweep, prepare)?;
    start(&directory, lock, sweep, &images, false, session)
}

/// Resumes the sweep in `directory`, with these changes of its definition, which only add. Its lock is inherited if it is
/// `recorded` that another process has detached this one.
pub fn resume(
    directory: ProcessDir,
    overrides: &[Override],
    folder: Option<&Path>,
    recorded: bool,
    retry_failed: bool,
    launch: &Flags,
    session: Session,
) -> Result<i32> {
    shutdown::write_in_the_background()?;
    let directory = SweepDir::new(directory);
    if session.until.is_some() {
        bail_user!(
            "--until: {} is a sweep; want it for a single run, such as one of its points",
            directory.id()
        );
    }
    let inherited = recorded
        .then(|| Lock::inherited(&directory, Role::Sweep))
        .flatten();
    let lock = inherited.map_or_else(|| Lock::take(&directory, Role::Sweep), Ok)?;
    let mut sweep = directory.read()?;
    refuse_launcher(launch, &sweep, &directory.id())?;
    if let Some(other) = overrides.iter().find(|it| !it.is_of_sweep()) {
        bail_user!(
            "{other}: {} is a sweep, and its points keep what they train with; want what adds points, such as \
             sweep.seeds=5 or sweep.runs=50",
            directory.id()
        );
    }
    let before = sweep.points.len();
    if !overrides.is_empty() {
        sweep = sweep.extended(overrides, machine()?.gpus)?;
    }
    check_devices(&sweep)?;
    let folder = given(folder).map(Path::to_owned);
    let folder = folder.map_or_else(|| moved(&directory, &sweep.base.data), |it| Ok(Some(it)))?;
    let images = SweepImages::prepare(&sweep, Fetch::Refused, folder.as_deref())?;
    images.check_begun(&directory, &sweep)?;
    directory.check_initial_weights(&sweep)?;
    if !overrides.is_empty() {
        directory.write(&sweep)?;
        let added = match sweep.points.len() - before {
            0 => None, // another change, such as of on_failure
            1 => Some("1 point is".to_owned()),
            many => Some(format!("{many} points are")),
        };
        if let Some(added) = added {
            console::line(format_args!(
                "{added} added to the {before} that there were"
            ));
        }
    }
    start(&directory, lock, &sweep, &images, retry_failed, session)
}

/// Makes sure that no launcher has started this process as one of several that train together: the processes of the points would take
/// themselves for such ones.
///
/// # Errors
/// A user error if one has.
pub fn refuse_launcher(launch: &Flags, sweep: &Sweep, name: &str) -> Result<()> {
    let found = launch.find(&sweep.base, name)?;
    let is_alone = match found.origin {
        Origin::Spec => true,
        Origin::Torchrun | Origin::Slurm => found.world == 1,
        Origin::Flags => false,
    };
    if !is_alone {
        bail_user!(
            "{name} is a sweep, whose points start their processes themselves; want a single run where several commands \
             train together"
        );
    }
    Ok(())
}

/// Where the images of a sweep are, if its spec says another place: in a clone that was moved, or where the environment says if they are
/// not there.
///
/// # Errors
/// A user error if they are nowhere, and no synthetic ones.
fn moved(directory: &SweepDir, data: &Data) -> Result<Option<PathBuf>> {
    let now = directory.data_folder(&data.folder);
    let is_in = |folder: &Path| !matches!(data::find(data, folder), Ok(None));
    let is_there = is_in(&now);
    let elsewhere = match is_there {
        true => None,
        false => data_from_environment()?.filter(|folder| is_in(folder)),
    };
    if !is_there && elsewhere.is_none() && data.source != Source::Synthetic {
        let hint = commands::resume_with_data;
        return Err(run_data::not_found(directory, data, &now, hint));
    }
    Ok(elsewhere.or((now != data.folder).then_some(now)))
}

fn start(
    directory: &SweepDir,
    lock: Lock,
    sweep: &Sweep,
    images: &SweepImages,
    retry_failed: bool,
    session: Session,
) -> Result<i32> {
    let program = env::current_exe().context("failed to find runboard's own binary")?;
    let path = directory.path().display();
    if session.detach {
        let mut arguments: Vec<OsString> = Vec::new();
        arguments.extend(retry_failed.then(|| "--retry-failed".into()));
        if let Some(given) = images.given() {
            arguments.extend(["--data".into(), paths::unexpanded(given).into()]);
        }
        return detach::<SweepStatus>(directory, lock, &program, &arguments);
    }
    let shutdown = Shutdown::counting_signals()?;
    let mut display = Display::detect(session.verbosity, commands::curves(directory));
    if !display.is_live() && session.verbosity != Verbosity::Quiet {
        console::line(format_args!(
            "{path}: {}, {} at once",
            count(sweep.points.len(), "point"),
            sweep.at_once()
        ));
    }
    let session = supervise::Session {
        directory,
        sweep,
        images,
        machine: machine()?,
        retry_failed,
    };
    let gpus = gpus(sweep, machine()?);
    let mut executor: Box<dyn Executor> = match &sweep.definition.launcher {
        Launcher::Local => Box::new(Local::new(directory, sweep, &gpus, &program)?),
        Launcher::Slurm(options) => Box::new(Slurm::new(directory, sweep, options, &program)?),
    };
    let (outcome, progress, decisions) =
        supervise(&session, &mut *executor, &lock, &shutdown, &mut display)?;
    drop(lock); // before anybody is told to resume it
    let results = Results {
        id: &directory.id(),
        sweep,
        progress: &progress,
        decisions: &decisions,
    };
    let has_failures = progress.iter().any(Progress::has_failed);
    console::line(text(&results, directory, outcome, display.columns()));
    requeue_if_asked(match outcome {
        Outcome::Stopped(signal) => Some(signal),
        _ => None,
    });
    Ok(match outcome {
        Outcome::Over(Reason::Target(_)) => 0,
        Outcome::Over(_) => i32::from(has_failures) * FAILED,
        Outcome::Stopped(signal) => 128 + signal,
        Outcome::Waiting if has_failures => FAILED,
        Outcome::Waiting => STOPPED,
    })
}

/// The GPUs that the points of a sweep may have; none for the CPU.
fn gpus(sweep: &Sweep, machine: &Machine) -> Vec<String> {
    if sweep.base.compute.ranks() > 1 {
        return Vec::new(); // the CPU alone, see Sweep::of
    }
    let all = || (0..machine.gpus).map(|index| format!("cuda:{index}"));
    match (&sweep.definition.devices, &*sweep.base.compute.device) {
        (Some(devices), _) => {
            let gpus = devices.iter().filter(|it| DeviceName::is_gpu(it));
            gpus.cloned().collect()
        }
        (None, "cpu") => Vec::new(),
        (None, "auto") => all().collect(),
        (None, "cuda") => vec!["cuda:0".to_owned()],
        (None, device) => vec![device.to_owned()],
    }
}

/// Makes sure that the devices are there.
fn check_devices(sweep: &Sweep) -> Result<()> {
    if sweep.definition.launcher != Launcher::Local {
        return slurm::check(); // each job finds its own
    }
    Local::check()?;
    let machine = machine()?;
    machine.device("compute.device", &sweep.base.compute.device)?;
    for device in gpus(sweep, machine) {
        machine.device("sweep.devices", &device)?;
    }
    Ok(())
}

/// The end of a session, for people, its sentences in lines of at most `columns`.
fn text(
    results: &Results,
    directory: &SweepDir,
    outcome: Outcome,
    columns: Option<usize>,
) -> String {
    let wrapped = |text: &str| columns.map_or(text.to_owned(), |columns| wrap(text, columns));
    let name = |number| results.sweep.point(number).map_or("", |point| &point.name);
    let failures = results.failures();
    let how = match outcome {
        Outcome::Over(Reason::Complete) if failures.is_empty() => "finished".to_owned(),
        Outcome::Over(Reason::Complete) => "finished, with points that failed".to_owned(),
        Outcome::Over(Reason::Target(point)) => {
            format!("over: {} has reached the target", name(point))
        }
        Outcome::Over(Reason::Failure(point)) => format!(
            "over: {} has failed, and sweep.on_failure is stop",
            name(point)
        ),
        Outcome::Stopped(_) => "stopped".to_owned(),
        Outcome::Waiting => {
            "is not finished: points of it were stopped, could not be started, or are damaged"
                .to_owned()
        }
    };
    let mut lines = vec![format!("{} {how}", results.id), wrapped(&results.counts())];
    lines.extend(
        failures
            .iter()
            .map(|failure| wrapped(&format!("  {failure}"))),
    );
    lines.push(wrapped(&results.judge()));
    let room = columns.map(|columns| columns.saturating_sub(2));
    let table = table::table(results, SHOWN, room);
    lines.extend(table.iter().map(|line| format!("  {line}")));
    let all = directory.path().join("results.md");
    lines.push(format!("  all settings   {}", all.display()));
    lines.push(format!("  curves         {}", commands::curves(directory)));
    let next = results.next_command(directory);
    lines.extend(next.map(|(what, command)| format!("  {what:13}  {command}")));
    lines.join("\n")
}
