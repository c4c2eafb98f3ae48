//! Whole processes side by side: runboard's trainer as users run it, the same network in PyTorch and TensorFlow,
//! and the arithmetic alone, a few steps each in turn.

use crate::floor;
use crate::setting::Setting;
use anyhow::Result;
use runboard::compute::environment;
use runboard::measure::{self, Reference, Timed, TimedCommand, Turns};
use runboard::run::RunDir;
use runboard::spec::{OptimizerName, ReducePrecision, Spec};
use runboard_compute::backend;
use std::process::Command;

/// Steps whose times are summed before a ratio is formed: the summaries' default cadence, so that each sum holds
/// their cost once.
const STEPS_PER_RATIO: u64 = 100;

/// Training steps. The first one is runboard.
pub fn training(setting: &Setting) -> Result<Vec<Timed>> {
    let slice = setting.slice;
    let mut commands = vec![runboard(setting, &setting.spec, "runboard", slice)?];
    for reference in setting.references() {
        commands.push(python(setting, &reference, &[], slice)?);
    }
    let (device, _) = backend::device("compute.device", &setting.spec.compute.device)?;
    commands.push(TimedCommand {
        name: "arithmetic".into(),
        command: setting.itself("multiply")?,
        scale: floor::Product::new(&setting.spec, &device).scale,
        slice,
    });
    compare(setting, commands, STEPS_PER_RATIO.div_ceil(slice))
}

/// Passes over the test images: the arithmetic of runboard's evaluator beside PyTorch's.
pub fn evaluation(setting: &Setting) -> Result<Vec<Timed>> {
    let mut commands = vec![TimedCommand {
        name: "runboard".into(),
        command: supervised(setting.itself("evaluate")?),
        scale: 1.0,
        slice: 1,
    }];
    for reference in setting.references().iter().filter(|r| r.evaluates) {
        commands.push(python(setting, reference, &["--evaluate"], 1)?);
    }
    compare(setting, commands, 1)
}

/// runboard at several batch sizes, without summaries. A turn takes about as many images whatever their size.
pub fn sizes(setting: &Setting) -> Result<Vec<(usize, Timed)>> {
    const SIZES: [usize; 4] = [128, 32, 512, 2048];
    let command_of = |size: usize| {
        let slice = (2_560 / size).max(1) as u64;
        let mut spec = without_summaries(&setting.spec);
        spec.train.batch_size = size;
        spec.train.log_every = slice;
        runboard(setting, &spec, &format!("batch-{size}"), slice)
    };
    let commands = SIZES.into_iter().map(command_of).collect::<Result<_>>()?;
    Ok(SIZES
        .into_iter()
        .zip(compare(setting, commands, 1)?)
        .collect())
}

/// runboard with each update rule, without summaries. The first one is plain gradient descent.
pub fn rules(setting: &Setting) -> Result<Vec<Timed>> {
    let rules = [
        ("sgd", OptimizerName::Sgd, 0.0),
        ("nesterov", OptimizerName::Sgd, 0.9),
        ("adamw", OptimizerName::Adamw, 0.0),
        ("muon", OptimizerName::Muon, 0.95),
    ];
    let command_of = |(name, rule, momentum)| {
        let mut spec = without_summaries(&setting.spec);
        let optimizer = &mut spec.optimizer;
        (optimizer.name, optimizer.learning_rate) = (rule, 1e-3);
        (optimizer.momentum, optimizer.nesterov) = (momentum, momentum > 0.0);
        runboard(setting, &spec, name, setting.slice)
    };
    let commands = rules.into_iter().map(command_of).collect::<Result<_>>()?;
    compare(setting, commands, STEPS_PER_RATIO.div_ceil(setting.slice))
}

/// What is left of a step's time is the training itself.
fn without_summaries(spec: &Spec) -> Spec {
    const NEVER: u64 = 1_000_000_000;
    let mut spec = spec.clone();
    let train = &mut spec.train;
    (train.scalars_every, train.histograms_every) = (NEVER, NEVER);
    (train.images_every, train.checkpoint_every) = (NEVER, NEVER);
    spec
}

/// One process with all threads; one for each thread that train together; the same with gradients that travel in bf16; and as many that each train their part of the
/// batch for themselves, of which the first is timed: what is lost to them is not lost to the sum.
pub fn scaling(setting: &Setting) -> Result<Vec<Timed>> {
    let threads = setting.threads;
    let mut together = setting.spec.clone();
    together.compute.devices = vec!["cpu".to_owned(); threads];
    let mut rounded = together.clone();
    rounded.compute.reduce_precision = ReducePrecision::Bf16;
    let mut apart = setting.spec.clone();
    apart.train.batch_size /= threads;
    apart.compute.threads = 1;
    let slice = setting.slice;
    let runs = (0..threads).map(|number| setting.create_run(&format!("apart-{number}"), &apart));
    let mut side_by_side = Command::new("sh");
    side_by_side
        .args(["-c", SIDE_BY_SIDE])
        .arg(&setting.runboard);
    for run in runs.collect::<Result<Vec<_>>>()? {
        side_by_side.arg(run.path());
    }
    let commands = vec![
        runboard(setting, &setting.spec, "one-process", slice)?,
        runboard(setting, &together, "a-process-a-thread", slice)?,
        runboard(setting, &rounded, "a-process-a-thread-in-bf16", slice)?,
        TimedCommand {
            name: "a-process-a-thread-without-sums".into(),
            command: supervised(side_by_side),
            scale: 1.0,
            slice,
        },
    ];
    compare(setting, commands, STEPS_PER_RATIO.div_ceil(slice))
}

/// A shell's: train in all of these run directories, and show the first one's output.
const SIDE_BY_SIDE: &str = r#"first=$1; shift
for run in "$@"; do "$0" train --run "$run" >/dev/null & done
exec "$0" train --run "$first""#;

/// Sums of as many floats as a step's gradients over two processes of one thread. The first is runboard's.
pub fn all_reduce(setting: &Setting) -> Result<Vec<Timed>> {
    const SLICE: u64 = 100;
    let mut commands = vec![TimedCommand {
        name: "runboard".into(),
        command: setting.itself("all-reduce")?,
        scale: 1.0,
        slice: SLICE,
    }];
    if let Some(python) = &setting.torch {
        let floats = crate::all_reduce::floats(&setting.spec).to_string();
        let mut command = Command::new(python);
        let script = setting.scripts.join("torch_all_reduce.py");
        command.arg(script).args(["--floats", &floats]);
        commands.push(TimedCommand {
            name: "torch.distributed".into(),
            command,
            scale: 1.0,
            slice: SLICE,
        });
    }
    compare(setting, commands, 1)
}

/// `runboard train` in a fresh run directory.
fn runboard(setting: &Setting, spec: &Spec, name: &str, slice: u64) -> Result<TimedCommand> {
    let run = setting.create_run(name, spec)?;
    Ok(TimedCommand {
        name: name.into(),
        command: trainer(setting, &run),
        scale: 1.0,
        slice,
    })
}

/// `runboard train` in this run directory.
pub fn trainer(setting: &Setting, run: &RunDir) -> Command {
    let mut command = Command::new(&setting.runboard);
    command.arg("train").arg("--run").arg(run.path());
    supervised(command)
}

/// With the environment that runboard's supervisor gives its processes.
fn supervised(mut command: Command) -> Command {
    command.envs(environment::of_every_process());
    command
}

fn python(
    setting: &Setting,
    reference: &Reference,
    more: &[&str],
    slice: u64,
) -> Result<TimedCommand> {
    let mut command = reference.command(
        &setting.scripts,
        &setting.images()?,
        setting.spec.train.batch_size,
        setting.threads,
    );
    command.args(more);
    Ok(TimedCommand {
        name: reference.name.into(),
        command,
        scale: 1.0,
        slice,
    })
}

fn compare(
    setting: &Setting,
    commands: Vec<TimedCommand>,
    turns_per_ratio: u64,
) -> Result<Vec<Timed>> {
    let turns = Turns {
        warm_up: setting.warm_up,
        rounds: setting.rounds,
        per_ratio: turns_per_ratio,
        until: None,
        logs: setting.out.clone(),
    };
    measure::compare(&turns, commands, |line| eprintln!("{line}"))
}
