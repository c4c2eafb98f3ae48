//! `make bench-list`: how long the commands take that read many runs, which are made here first.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use runboard::events::{EventWriter, Summaries, tags};
use runboard::run::{
    EvalStatus, Evaluation, Process, ProcessState, Provenance, Role, RunDir, Score, Scores,
    Software, Status, SupervisorStatus, TrainStatus,
};
use runboard::spec::{Seed, Spec};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Checkpoints that a run has kept, and those that it has scored.
const KEPT: u64 = 6;
const SCORED: u64 = 20;

/// What is timed.
const COMMANDS: [&[&str]; 9] = [
    &["list"],
    &["list", "--limit", "20"],
    &["list", "--columns", "all", "--json"],
    &["list", "--sort", "accuracy", "--limit", "20"],
    &[
        "list",
        "--where",
        "optimizer.learning_rate<0.1 and accuracy>0.7",
        "--limit",
        "20",
    ],
    &["compare", "--limit", "20"],
    &["show", "speed-1"],
    &["curve", "speed-1", "--tag", "loss"],
    &["report", "speed-1", "-o", "-"],
];

/// Times commands over many runs.
#[derive(Debug, Parser)]
struct Options {
    /// So many runs
    #[arg(long, default_value_t = 3000)]
    runs: u64,
    /// How often each command is timed
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Directory of the runs; those that are there from an earlier time are taken
    #[arg(long, default_value = "target/bench-list")]
    out: PathBuf,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runs = options.out.join(options.runs.to_string());
    if !runs.exists() {
        let half = runs.with_extension("half");
        eprintln!("making {} runs in {}", options.runs, runs.display());
        fs::create_dir_all(&half)?;
        for number in 0..options.runs {
            make(&half, number)?;
        }
        fs::rename(&half, &runs)?;
    }
    println!(
        "| command, over {} runs | median | longest |\n|---|--:|--:|",
        options.runs
    );
    for command in COMMANDS {
        let mut times = Vec::new();
        for _ in 0..options.rounds.max(1) {
            times.push(time(&runs, command)?);
        }
        times.sort();
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        println!(
            "| `{}` | {} | {} |",
            command.join(" "),
            seconds(times[times.len() / 2]),
            seconds(times[times.len() - 1])
        );
    }
    Ok(())
}

fn time(runs: &Path, command: &[&str]) -> Result<Duration> {
    let begin = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_runboard"))
        .args(command)
        .arg("--runs")
        .arg(runs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("failed to start runboard")?;
    let took = begin.elapsed();
    ensure!(status.success(), "runboard {}: {status}", command.join(" "));
    Ok(took)
}

/// A finished run, one of ten experiments, with a learning rate, a seed and scores of its own.
fn make(runs: &Path, number: u64) -> Result<()> {
    let mut spec = Spec {
        seed: Seed(number % 3 + 1),
        ..Spec::default()
    };
    spec.optimizer.learning_rate = 0.001 * (number % 257 + 1) as f64;
    spec.train.steps = Some(1000 * SCORED);
    let software = Software {
        burn: "0".to_owned(),
        libtorch: "0".to_owned(),
        device: "cpu".to_owned(),
        program: None,
    };
    let session = Provenance::collect(Path::new("/"), software, Some(0)).with_spec(&spec)?;
    let name = format!("speed-{}", number % 10);
    let run = RunDir::create(runs, &name, &spec.to_frozen_yaml()?, &session)?;
    let mut journal = Vec::new();
    let mut best = Score::default();
    for index in 0..SCORED {
        let step = 1000 * (index + 1) - 1;
        let accuracy = 0.9 - 0.8 / (index + 1 + number % 7) as f64;
        let scores = Scores {
            accuracy,
            raw_accuracy: accuracy,
            loss: 1.0 - accuracy,
            ..Scores::default()
        };
        let took = Duration::from_millis(900);
        let found = Evaluation::new(step, Some("0".repeat(64)), None, Ok(scores), took);
        best = found.score().map_or(best, |score| best.better(score));
        journal.extend(serde_json::to_vec(&found)?);
        journal.push(b'\n');
    }
    fs::write(run.evaluations(), journal)?;
    for index in SCORED - KEPT..SCORED {
        let step = 1000 * (index + 1) - 1;
        let checkpoint = run.checkpoints().join(format!("step-{step:08}"));
        fs::create_dir(&checkpoint)?;
        for file in [
            "weights.safetensors",
            "ema.safetensors",
            "state.json",
            "manifest.json",
        ] {
            fs::write(checkpoint.join(file), [b' '; 512])?;
        }
    }
    let ended = || {
        let mut process = Process::current();
        process.state = ProcessState::Finished;
        process
    };
    let mut train = TrainStatus {
        step: 1000 * SCORED,
        steps: 1000 * SCORED,
        loss: Some(1.0),
        examples_per_sec: Some(3000.0),
        device: Some("cpu".to_owned()),
        ..TrainStatus::new(ended())
    };
    train.save(&run)?;
    let mut eval = EvalStatus {
        last: Some(best),
        best: Some(best),
        ..EvalStatus::new(ended())
    };
    eval.save(&run)?;
    SupervisorStatus::new(ended(), None).save(&run)?;
    let events = EventWriter::open(&run.events(Role::TRAIN))?;
    for index in 0..200 {
        events.write(
            Summaries::at(100 * index).scalar(&tags::TOTAL_LOSS.tag(), 1.0 / (index + 1) as f64),
        );
    }
    drop(events);
    for file in ["train.log", "eval.log"] {
        fs::write(run.path().join(file), "")?;
    }
    Ok(())
}
