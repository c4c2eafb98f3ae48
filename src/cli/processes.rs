//! The arguments of the two processes of a run, which are processes of `runboard-compute`.

use super::{RunsArg, UntilArg, path};
use crate::launch::Launch;
use crate::run::{RunDir, read_spec, resolve};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Those of `runboard train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    until: UntilArg,
    /// Started by a supervisor, which has recorded the session
    #[arg(long, hide = true)]
    pub supervised: bool,
    /// The processes that train together, as JSON
    #[arg(long, hide = true, value_parser = launch_from_json)]
    launch: Option<Launch>,
}

/// Those of another one of the processes that train together, which a trainer or the supervisor of a host starts.
#[derive(Args, Debug)]
pub struct RankArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Which one, as JSON
    #[arg(long, value_parser = launch_from_json)]
    pub launch: Launch,
    /// Where those of one host meet
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// Where to write the first step once all have met
    #[arg(long)]
    pub began: Option<PathBuf>,
}

/// Those of `runboard eval`.
#[derive(Args, Debug)]
pub struct EvalArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Evaluate what is there, the newest checkpoint in any case, instead of waiting for more
    #[arg(long)]
    pub once: bool,
}

/// The run that a process belongs to.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// NAME (its latest run), NAME/TIMESTAMP or a run directory
    #[arg(long, value_name = "RUN", value_parser = path())]
    run: PathBuf,
    #[command(flatten)]
    runs: RunsArg,
}

impl RunArgs {
    /// The run that the user means.
    ///
    /// # Errors
    /// A user error if there is none.
    pub fn find(&self) -> Result<RunDir> {
        resolve(&self.runs.directory()?, &self.run)
    }
}

impl TrainArgs {
    /// The processes that train together: as the supervisor says, or else those of the spec of `run`.
    pub fn launch(&self, run: &RunDir) -> Launch {
        let of_spec = || {
            // A spec that is bad is for the trainer to report, in its status.
            let ranks = read_spec(run).map_or(1, |spec| spec.compute.ranks());
            Launch::on_one_host(ranks)
        };
        self.launch.clone().unwrap_or_else(of_spec)
    }

    /// Train until so many steps are done; None: to the last one.
    pub fn until(&self) -> Option<u64> {
        self.until.steps
    }
}

fn launch_from_json(text: &str) -> Result<Launch, serde_json::Error> {
    serde_json::from_str(text)
}
