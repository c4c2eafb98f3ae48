//! What is measured, on which images and device, against what.

use anyhow::{Context, Result};
use clap::Parser;
use runboard::data::{self, Fetch};
use runboard::measure::{self, Reference};
use runboard::paths;
use runboard::run::{Provenance, RunDir};
use runboard::spec::{self, Override, Spec};
use runboard_compute::backend;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

/// Times a training step of runboard and all that belongs to it; where Python environments are given, side
/// by side with PyTorch and TensorFlow.
#[derive(Debug, Parser)]
pub struct Options {
    #[command(subcommand)]
    pub work: Option<Work>,
    /// Only these sections of the report
    #[arg(long, value_enum, value_delimiter = ',', global = true)]
    pub only: Vec<Section>,
    /// Experiment whose steps are timed
    #[arg(long, default_value = "baseline", global = true)]
    experiment: String,
    /// Set a field of its spec, such as train.batch_size=512; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE", global = true)]
    overrides: Vec<String>,
    /// Directory of CIFAR-10's binary files; without it, synthetic images
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu", global = true)]
    device: String,
    /// Threads of everybody's arithmetic; 0: one for each core
    #[arg(long, default_value_t = 0, global = true)]
    threads: usize,
    /// Steps a turn, a multiple of 10
    #[arg(long, default_value_t = 10, global = true)]
    slice: u64,
    /// Turns that each gets
    #[arg(long, default_value_t = 50, global = true)]
    rounds: u64,
    /// Turns that are not measured, at first
    #[arg(long, default_value_t = 2, global = true)]
    warm_up: u64,
    /// Only these references
    #[arg(long, value_delimiter = ',', global = true)]
    against: Vec<String>,
    /// A python with torch and numpy, to compare with PyTorch
    #[arg(long, value_name = "PYTHON", global = true)]
    torch: Option<PathBuf>,
    /// A python with tensorflow, to compare with TensorFlow
    #[arg(long, value_name = "PYTHON", global = true)]
    tensorflow: Option<PathBuf>,
    /// Directory of the references' scripts
    #[arg(
        long,
        value_name = "DIR",
        default_value = "benches/reference",
        global = true
    )]
    scripts: PathBuf,
    /// runboard's binary
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_runboard-compute"), global = true)]
    runboard: PathBuf,
    /// Directory of the results
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/bench",
        global = true
    )]
    out: PathBuf,
    /// Given by `cargo bench`
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// A loop that takes turns with others, a line a step.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Work {
    /// The arithmetic of a step as a matrix product
    #[command(hide = true)]
    Multiply,
    /// Evaluate fresh weights on the test images
    #[command(hide = true)]
    Evaluate,
    /// Sum a step's gradients over two processes
    #[command(hide = true)]
    AllReduce {
        /// For the second one: where it meets the first
        #[arg(long)]
        store: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// The parts of a step, and what comes with them
    Parts,
    /// Training steps beside the references'
    Training,
    /// Evaluation beside PyTorch's forward pass
    Evaluation,
    /// Training at several batch sizes
    Sizes,
    /// Training steps with each update rule
    Rules,
    /// One process with all threads beside one for each thread that train together
    Scaling,
    /// The sum of a step's gradients over two processes, beside PyTorch's
    AllReduce,
    /// From a resumed trainer's start to its first step
    Resume,
}

/// The options, resolved.
pub struct Setting {
    pub spec: Spec,
    pub device: String,
    pub threads: usize,
    pub slice: u64,
    pub rounds: u64,
    pub warm_up: u64,
    pub scripts: PathBuf,
    /// A python with torch, if there is one.
    pub torch: Option<PathBuf>,
    pub runboard: PathBuf,
    pub out: PathBuf,
    references: Vec<Reference>,
    /// This process's own arguments, for those it starts of itself.
    arguments: Vec<String>,
}

impl Options {
    pub fn resolve(self) -> Result<Setting> {
        fs::create_dir_all(&self.out)
            .with_context(|| format!("failed to create {}", self.out.display()))?;
        let mut overrides = vec![
            Override::text("compute.device", &self.device),
            Override::parse(format!("compute.threads={}", self.threads))?,
            Override::parse("train.steps=1000000000")?, // until it is stopped
        ];
        match &self.data {
            Some(directory) => overrides.push(Override::directory(
                "data.folder",
                &paths::expand(directory)?,
            )?),
            None => {
                overrides.push(Override::parse("data.source=synthetic")?);
                let directory = self.out.join("data");
                overrides.push(Override::directory("data.folder", &directory)?);
            }
        }
        for set in &self.overrides {
            overrides.push(Override::parse(set)?);
        }
        let spec = spec::load(&self.experiment, Path::new("experiments"), &overrides)?.spec;
        let references = self.references();
        let threads = match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        Ok(Setting {
            spec,
            device: self.device,
            threads,
            slice: self.slice,
            rounds: self.rounds,
            warm_up: self.warm_up,
            scripts: self.scripts,
            torch: self.torch,
            runboard: self.runboard,
            out: self.out,
            references,
            arguments: env::args().skip(1).collect(),
        })
    }

    /// Those whose environment is given and that are asked for.
    fn references(&self) -> Vec<Reference> {
        let torch = self.torch.as_deref();
        let of_torch = |python| match &*self.experiment {
            "fast" => vec![measure::pytorch_fast(python, &self.device)],
            _ => measure::pytorch(python, &self.device),
        };
        let mut all = torch.map_or(Vec::new(), of_torch);
        if self.device == "cpu" {
            all.extend(self.tensorflow.clone().map(|python| Reference {
                name: "tensorflow",
                python,
                script: "tf_cifar10.py",
                arguments: Vec::new(),
                evaluates: false,
            }));
        }
        let asked = |name: &str| self.against.is_empty() || self.against.iter().any(|a| a == name);
        all.into_iter().filter(|r| asked(r.name)).collect()
    }
}

impl Setting {
    pub fn references(&self) -> Vec<Reference> {
        self.references.clone()
    }

    /// The directory that holds the images' files; they are generated or fetched if need be.
    pub fn images(&self) -> Result<PathBuf> {
        data::prepare(&self.spec.data, Fetch::Allowed)
    }

    /// A fresh run directory.
    pub fn create_run(&self, name: &str, spec: &Spec) -> Result<RunDir> {
        RunDir::create(
            &self.runs(),
            name,
            &spec.to_frozen_yaml()?,
            &self.provenance(),
        )
    }

    /// Where the run directories are made, for this measurement only.
    pub fn runs(&self) -> PathBuf {
        self.out.join("runs")
    }

    /// Versions, machine, command line.
    pub fn provenance(&self) -> Provenance {
        let software = backend::machine().software(self.device.clone());
        Provenance::collect(Path::new("."), software, None)
    }

    /// This program, with the same options, at another work.
    pub fn itself(&self, work: &str) -> Result<Command> {
        let mut command = Command::new(env::current_exe().context("failed to find the benchmark")?);
        command.arg(work).args(&self.arguments);
        Ok(command)
    }
}
