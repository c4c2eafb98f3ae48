//! The command line: what each command is called and takes; the work is done elsewhere.

mod check;
mod data;
mod fields;
mod list;
mod run;

use crate::backend::environment;
use crate::run::commands::RUNS;
use crate::run::{RunDir, resolve};
use crate::shutdown::Shutdown;
use crate::spec::{self, Experiment, Override, Spec};
use crate::{console, evaluator, paths, trainer};
use anyhow::Result;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directory of the experiments, unless `--experiments` names another.
const EXPERIMENTS: &str = "experiments";

/// Experiments in, TensorBoard out: trains CIFAR-10's tutorial network as a YAML spec says, with an
/// evaluator beside it.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Directory of the run directories
    #[arg(long, global = true, value_name = "DIR", default_value = RUNS, value_parser = path())]
    runs: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train an experiment and evaluate it alongside
    Run {
        #[command(flatten)]
        experiment: ExperimentArgs,
        /// Return at once, and go on when the terminal closes; `runboard stop` ends it
        #[arg(long)]
        detach: bool,
    },
    /// Continue a run from its last checkpoint
    Resume {
        /// NAME (its latest run), NAME/TIMESTAMP or a run directory
        #[arg(value_parser = path())]
        run: PathBuf,
        /// Where the run's images are, if they were moved; also looked for in RUNBOARD_DATA
        #[arg(long, value_name = "DIR", value_parser = path())]
        data: Option<PathBuf>,
        /// Return at once, and go on when the terminal closes; `runboard stop` ends it
        #[arg(long)]
        detach: bool,
        /// Started by --detach, which has recorded the session
        #[arg(long, hide = true, conflicts_with = "detach")]
        recorded: bool,
    },
    /// Stop a run after a last checkpoint, wherever it was started, and wait for its end
    Stop {
        /// NAME (its latest run), NAME/TIMESTAMP or a run directory
        #[arg(value_parser = path())]
        run: PathBuf,
        /// End it at once, without a last checkpoint, even if a process of it is frozen
        #[arg(long)]
        now: bool,
    },
    /// The training process by itself
    Train {
        /// NAME (its latest run), NAME/TIMESTAMP or a run directory
        #[arg(long, value_name = "RUN", value_parser = path())]
        run: PathBuf,
        /// Started by a supervisor, which has recorded the session
        #[arg(long, hide = true)]
        supervised: bool,
    },
    /// The evaluation process by itself
    Eval {
        /// NAME (its latest run), NAME/TIMESTAMP or a run directory
        #[arg(long, value_name = "RUN", value_parser = path())]
        run: PathBuf,
        /// Evaluate what is there, the newest checkpoint in any case, instead of waiting for more
        #[arg(long)]
        once: bool,
    },
    /// The runs, their states and scores
    List,
    /// Check a spec and show what it resolves to, without running it
    Check(ExperimentArgs),
    /// What the fields of a spec mean, their defaults and ranges
    Fields(fields::Arguments),
    /// Fetch, import, generate or check images
    #[command(subcommand)]
    Data(data::Command),
}

/// An experiment and what is changed of it.
#[derive(Args, Debug)]
struct ExperimentArgs {
    /// Name of a file in the experiments directory, or a path ending in .yaml
    #[arg(value_parser = path())]
    name: PathBuf,
    /// Set a field of the spec, such as train.steps=500; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    overrides: Vec<OsString>,
    /// Directory of the images, in place of the spec's data.folder
    #[arg(long, value_name = "DIR", env = "RUNBOARD_DATA", value_parser = path())]
    data: Option<PathBuf>,
    /// Directory of the experiments
    #[arg(long, value_name = "DIR", default_value = EXPERIMENTS, value_parser = path())]
    experiments: PathBuf,
}

/// Takes a path as [`paths::expand`] does.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(paths::expand)
}

impl ExperimentArgs {
    fn load(&self) -> Result<Experiment> {
        let mut overrides = Vec::new();
        for set in &self.overrides {
            overrides.push(Override::parse(set)?);
        }
        let given = |directory: &&PathBuf| !directory.as_os_str().is_empty();
        if let Some(directory) = self.data.as_ref().filter(given) {
            overrides.push(Override::directory("data.folder", directory)?);
        }
        spec::load(&self.name, &self.experiments, &overrides)
    }
}

impl Cli {
    /// Do what the command says and return the exit code.
    ///
    /// # Errors
    /// See the commands; bad input is a [`crate::error::UserError`].
    pub fn run(self) -> Result<i32> {
        let find = |what: &Path| -> Result<RunDir> { resolve(&self.runs, what) };
        match &self.command {
            Command::Run { experiment, detach } => run::run(&self.runs, experiment, *detach),
            Command::Resume {
                run,
                data,
                detach,
                recorded,
            } => run::resume(&find(run)?, data.as_deref(), *detach, *recorded),
            Command::Stop { run, now } => run::stop(&find(run)?, *now),
            Command::Train { run, supervised } => {
                let run = find(run)?;
                prepare_environment(&run)?;
                if !supervised {
                    run::record_training(&run);
                }
                Ok(trainer::train(&run, &Shutdown::on_signals()?)?.exit_code())
            }
            Command::Eval { run, once } => {
                let run = find(run)?;
                prepare_environment(&run)?;
                Ok(evaluator::evaluate(&run, &Shutdown::on_signals()?, *once)?.exit_code())
            }
            Command::List => list::list(&self.runs),
            Command::Check(experiment) => check::check(experiment),
            Command::Fields(arguments) => fields::fields(arguments),
            Command::Data(command) => data::run(command),
        }
    }
}

/// Prepares this process to train or evaluate `run`.
fn prepare_environment(run: &RunDir) -> Result<()> {
    // A spec that is bad is for the process itself to report, in its status.
    if let Ok(spec) = Spec::read_frozen(&run.spec()) {
        environment::ensure(&spec)?;
    }
    console::reserve_log_space();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
