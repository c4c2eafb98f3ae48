//! `runboard run` and `runboard resume`: a run directory and the two processes in it.

use super::Chosen;
use crate::progress::Display;
use crate::run::{Provenance, RunDir, Software, State, Status, TrainStatus};
use crate::stop::Stop;
use crate::supervisor::{Options, supervise};
use crate::{backend, comparison, console, data};
use anyhow::{Context, Result};
use std::env;
use std::path::{self, Path};

pub fn run(runs: &Path, chosen: &Chosen) -> Result<i32> {
    let mut experiment = chosen.load()?;
    let spec = &mut experiment.spec;
    let (_, device) = backend::device(&spec.compute.device)?;
    // The run must find its images again from any folder, and in a later session.
    spec.data.folder = path::absolute(&spec.data.folder)
        .with_context(|| format!("failed to make {} absolute", spec.data.folder.display()))?;
    data::prepare(&spec.data)?;
    let software = Software {
        burn: backend::BURN.into(),
        libtorch: backend::LIBTORCH.into(),
        device,
    };
    let provenance = Provenance::collect(Path::new("."), software);
    let run = RunDir::create(runs, &experiment.name, &spec.to_yaml()?, &provenance)?;
    start(&run)
}

pub fn resume(run: &RunDir) -> Result<i32> {
    let train = TrainStatus::load(run)?;
    if train.is_some_and(|status| status.process.state == State::Finished) {
        console::line(format_args!(
            "{} is trained to its last step already",
            run.id()
        ));
    }
    start(run)
}

fn start(run: &RunDir) -> Result<i32> {
    let program = env::current_exe().context("failed to find runboard's own binary")?;
    console::line(format_args!(
        "running {} in {}",
        run.id(),
        run.path().display()
    ));
    let stop = Stop::counting_signals()?;
    let mut display = Display::detect();
    let outcome = supervise(run, &program, &stop, &mut display, Options::default())?;
    // An evaluator that was killed could not say how the run ended.
    if let Err(error) = comparison::settle(run) {
        console::line(format_args!("warning: {error:#}"));
    }
    console::line(&outcome);
    Ok(outcome.exit_code())
}
