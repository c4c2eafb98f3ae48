//! The arguments of the two processes of a run, which are processes of `runboard-compute`.

use super::{RunsArg, UntilArg, path};
use crate::run::RunDir;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Those of `runboard train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    until: UntilArg,
    /// Started by a supervisor, which has recorded the session
    #[arg(long, hide = true)]
    pub supervised: bool,
    /// Started by a trainer as another one of the processes that train together
    #[arg(long, hide = true, requires = "store")]
    pub rank: Option<usize>,
    /// Where these meet
    #[arg(long, hide = true, requires = "rank")]
    pub store: Option<PathBuf>,
}

/// Those of `runboard eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Evaluate what is there, the newest checkpoint in any case, instead of waiting for more
    #[arg(long)]
    pub once: bool,
}

#[derive(Args, Debug)]
struct RunArgs {
    /// NAME (its latest run), NAME/TIMESTAMP or a run directory
    #[arg(long, value_name = "RUN", value_parser = path())]
    run: PathBuf,
    #[command(flatten)]
    runs: RunsArg,
}

impl TrainArgs {
    /// The run that the user means.
    ///
    /// # Errors
    /// A user error if there is none.
    pub fn run(&self) -> Result<RunDir> {
        self.run.runs.find(&self.run.run)
    }

    /// Train until so many steps are done; None: to the last one.
    pub fn until(&self) -> Option<u64> {
        self.until.steps
    }
}

impl EvalArgs {
    /// The run that the user means.
    ///
    /// # Errors
    /// A user error if there is none.
    pub fn run(&self) -> Result<RunDir> {
        self.run.runs.find(&self.run.run)
    }
}
