//! `runboard run`, `resume` and `stop`: a run directory and the processes at work in it.

use super::Chosen;
use crate::evaluator::hparams;
use crate::run::{ProcessState, Provenance, Role, RunDir, Software, Status, TrainStatus};
use crate::shutdown::Shutdown;
use crate::spec::Spec;
use crate::supervisor::display::Display;
use crate::supervisor::{self, Options, supervise};
use crate::{backend, console, data};
use anyhow::{Context, Result};
use std::env;
use std::path::{self, Path};

pub fn run(runs: &Path, chosen: &Chosen, detach: bool) -> Result<i32> {
    let mut experiment = chosen.load()?;
    let spec = &mut experiment.spec;
    let (_, device) = backend::device(&spec.compute.device)?;
    // The run must find its images again from any directory, and in a later session.
    spec.data.folder = path::absolute(&spec.data.folder)
        .with_context(|| format!("failed to make {} absolute", spec.data.folder.display()))?;
    data::prepare(&spec.data)?;
    let software = Software {
        burn: backend::BURN.into(),
        libtorch: backend::LIBTORCH.into(),
        device,
    };
    let provenance = Provenance::collect(Path::new("."), software, Some(0));
    let run = RunDir::create(runs, &experiment.name, &spec.to_yaml()?, &provenance)?;
    start(&run, detach)
}

pub fn resume(run: &RunDir, detach: bool) -> Result<i32> {
    let train = TrainStatus::load(run)?;
    if train.is_some_and(|status| status.process.state == ProcessState::Finished) {
        console::line(format_args!(
            "{} is trained to its last step already",
            run.id()
        ));
    }
    // Here, where a stop need not wait for a download.
    data::prepare(&Spec::read_frozen(&run.spec())?.data)?;
    start(run, detach)
}

pub fn stop(run: &RunDir) -> Result<i32> {
    let (id, name) = (run.id(), run.name());
    let state = if supervisor::stop(run)? {
        "stopped"
    } else {
        "not at work"
    };
    match TrainStatus::load(run)? {
        Some(train) if train.process.state == ProcessState::Finished => {
            console::line(format_args!(
                "{id} is {state}, and trained to its last step"
            ));
        }
        Some(train) => console::line(format_args!(
            "{id} is {state}, at step {} of {}\n  \
             to go on       make resume NAME={name}, or: runboard resume {id}",
            train.step, train.steps
        )),
        None => console::line(format_args!("{id} is {state}")),
    }
    Ok(0)
}

fn start(run: &RunDir, detach: bool) -> Result<i32> {
    let program = env::current_exe().context("failed to find runboard's own binary")?;
    let (id, name) = (run.id(), run.name());
    if detach {
        let pid = supervisor::detach(run, &program)?;
        console::line(format_args!(
            "running {id} in {}, detached, with pid {pid}\n  \
             to follow it   tail -f {}\n  \
             to see curves  make tensorboard, or: tensorboard --logdir {}\n  \
             to stop it     make stop NAME={name}, or: runboard stop {id}",
            run.path().display(),
            run.log(Role::Supervisor).display(),
            run.logdir().display(),
        ));
        return Ok(0);
    }
    console::line(format_args!("running {id} in {}", run.path().display()));
    let options = Options::new(Spec::read_frozen(&run.spec())?.train.restarts);
    let shutdown = Shutdown::counting_signals()?;
    let mut display = Display::detect();
    let summary = supervise(run, &program, &shutdown, &mut display, options)?;
    // An evaluator that was killed could not say how the run ended.
    if let Err(error) = hparams::update_unattended(run) {
        console::warning(format_args!("{error:#}"));
    }
    console::line(&summary);
    Ok(summary.exit_code())
}
