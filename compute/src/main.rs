//! What runboard starts to train and to evaluate, and asks about the machine. People use `runboard`, and see its name.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use nix::sys::prctl;
use runboard::cli::{EvalArgs, RankArgs, TrainArgs, record_training};
use runboard::compute::{self, Question, environment};
use runboard::shutdown::Shutdown;
use runboard::spec::{Compute, Precision, Spec};
use runboard::{cli, console, files};
use runboard_compute::trainer::RankFiles;
use runboard_compute::{backend, evaluator, examination, trainer};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The program that runboard starts to train and to evaluate; for people there is `runboard`
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a run
    Train(TrainArgs),
    /// Train as another one of the processes that train a run together
    Rank(RankArgs),
    /// Evaluate the checkpoints of a run
    Eval(EvalArgs),
    /// Print versions and GPUs, as JSON
    Machine,
    /// Print what there is of libraries, driver and GPUs, and how a checkpoint of the device fares, as JSON
    Examine {
        /// As a spec's compute.device
        #[arg(long)]
        device: String,
        /// Where to write the checkpoint; without it, none is tried
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Print what `machine` does, then take a few steps of each of the frozen specs on standard input, a JSON array, and print how
    /// fast they are, as JSON
    Pace,
    /// Time steps of each of the frozen specs on standard input, a JSON array, and print them, as JSON
    Steps {
        /// For how long, each as a whole and again phase by phase
        #[arg(long)]
        seconds: f64,
    },
    /// Print how the device's arithmetic compares with TensorFlow's and PyTorch's, a line of JSON for each precision
    Golden {
        /// As a spec's `compute.device`
        #[arg(long)]
        device: String,
        /// As a spec's `compute.precision`; may be given several times
        #[arg(long, value_name = "PRECISION", value_parser = precision, required = true)]
        precision: Vec<Precision>,
    },
    /// Print what a checkpoint makes of the images on standard input, as JSON
    Predict {
        /// Its directory
        #[arg(long)]
        checkpoint: PathBuf,
    },
    /// Print how good a checkpoint is on the images on standard input, as JSON
    Score {
        /// Its directory
        #[arg(long)]
        checkpoint: PathBuf,
    },
}

fn main() -> ExitCode {
    files::ignore_sigxfsz();
    // What `ps`, `killall` and the like know a process by; without it they show another name, no more.
    let _ = prctl::set_name(c"runboard");
    let code = cli::exit_code(compute::check_build().and_then(|()| run(Arguments::parse())));
    backend::group::end_if_lost(code);
    code.into()
}

fn run(arguments: Arguments) -> Result<i32> {
    match arguments.command {
        Command::Train(arguments) => train(&arguments),
        Command::Rank(arguments) => rank(&arguments),
        Command::Eval(arguments) => {
            let run = arguments.run.find()?;
            prepare()?;
            let stop = Shutdown::on_signals()?;
            Ok(evaluator::evaluate(&run, &stop, arguments.once)?.exit_code())
        }
        Command::Machine => answer(&backend::machine()),
        Command::Examine { device, directory } => {
            answer(&examination::examine(&device, directory.as_deref()))
        }
        Command::Pace => {
            answer(&backend::machine())?;
            let paces = read_specs()?.into_iter();
            let paces: Result<Vec<_>> = paces.map(|spec| trainer::pace::measure(&spec)).collect();
            answer(&paces?)
        }
        Command::Steps { seconds } => {
            let limit = Duration::try_from_secs_f64(seconds).context("--seconds")?;
            let times = read_specs()?.into_iter();
            let times: Result<Vec<_>> = times
                .map(|spec| trainer::steps::measure(&spec, limit))
                .collect();
            answer(&times?)
        }
        Command::Golden { device, precision } => {
            let (device, _) = backend::device("--device", &device)?;
            for precision in precision {
                let compute = Compute {
                    precision,
                    ..Compute::default()
                };
                backend::prepare(&compute, 0)?;
                answer(&backend::golden::compare(&device, precision)?)?;
            }
            Ok(0)
        }
        Command::Predict { checkpoint } => {
            let (spec, statistics, images) = Question::read(&mut io::stdin().lock())?;
            answer(&evaluator::predict(&spec, &checkpoint, statistics, images)?)
        }
        Command::Score { checkpoint } => {
            let (spec, statistics, images) = Question::read(&mut io::stdin().lock())?;
            answer(&evaluator::score(&spec, &checkpoint, statistics, images)?)
        }
    }
}

/// The frozen specs on standard input.
fn read_specs() -> Result<Vec<Spec>> {
    let specs: Vec<serde_json::Value> =
        serde_json::from_reader(io::stdin()).context("failed to read the specs")?;
    let specs = specs.into_iter();
    specs
        .map(|spec| Spec::parse_frozen(Path::new("standard input"), spec.to_string()))
        .collect()
}

fn precision(text: &str) -> Result<Precision, serde_json::Error> {
    serde_json::from_value(text.into())
}

fn train(arguments: &TrainArgs) -> Result<i32> {
    let run = arguments.run.find()?;
    prepare()?;
    if !arguments.supervised {
        record_training(&run, &backend::machine());
    }
    let stop = Shutdown::on_signals()?;
    let (until, launch) = (arguments.until(), arguments.launch(&run));
    Ok(trainer::train(&run, until, &launch, &stop)?.exit_code())
}

fn rank(arguments: &RankArgs) -> Result<i32> {
    let run = arguments.run.find()?;
    prepare()?;
    let files = RankFiles {
        store: arguments.store.as_deref(),
        began: arguments.began.as_deref(),
    };
    // A rank of rank 0's host ends with that; who supervises another one asks it to stop.
    let stop = match files.began {
        None => Shutdown::new(),
        Some(_) => Shutdown::on_signals()?,
    };
    Ok(trainer::train_rank(&run, &arguments.launch, files, &stop)?.exit_code())
}

/// Prepares this process to train or evaluate a run.
fn prepare() -> Result<()> {
    environment::ensure()?;
    console::reserve_log_space();
    Ok(())
}

fn answer(answer: &impl serde::Serialize) -> Result<i32> {
    console::output(serde_json::to_string(answer)?)?;
    Ok(0)
}
