//! Whole processes side by side: runboard's trainer as users run it, the same network in PyTorch and TensorFlow,
//! and the arithmetic alone, a few steps each in turn.

use crate::contestant::Contestant;
use crate::floor;
use crate::setting::{Reference, Setting};
use crate::statistics::Spread;
use anyhow::Result;
use runboard::backend::{self, environment};
use runboard::run::RunDir;
use runboard::spec::Spec;
use serde::Serialize;
use std::process::Command;

/// Steps over which times are summed before they are compared: the summaries' default cadence, so that each
/// sum holds their cost once.
const GROUP: u64 = 100;

/// What a contestant took.
#[derive(Debug, Serialize)]
pub struct Timed {
    pub name: String,
    pub command: String,
    /// Seconds a step (a pass, for evaluation), turn by turn.
    pub turns: Vec<f64>,
    /// Seconds a step over each group of turns.
    pub seconds: Spread,
    /// The first contestant's time in this one's, group by group.
    pub first_in_it: Spread,
    pub peak_memory_mib: f64,
}

/// Who is to be timed, and how.
struct Entry {
    name: String,
    command: Command,
    /// What its seconds are multiplied by.
    scale: f64,
    /// Steps a turn.
    slice: u64,
}

/// Training steps. The first one is runboard.
pub fn training(setting: &Setting) -> Result<Vec<Timed>> {
    let slice = setting.slice;
    let mut entries = vec![runboard(setting, &setting.spec, "runboard", slice)?];
    for reference in setting.references() {
        entries.push(python(setting, &reference, &[], slice)?);
    }
    let (device, _) = backend::device(&setting.spec.compute.device)?;
    entries.push(Entry {
        name: "arithmetic".into(),
        command: setting.itself("multiply")?,
        scale: floor::Product::new(&setting.spec, &device).scale,
        slice,
    });
    compare(setting, entries, GROUP.div_ceil(slice))
}

/// Passes over the test images: the arithmetic of runboard's evaluator beside PyTorch's.
pub fn evaluation(setting: &Setting) -> Result<Vec<Timed>> {
    let mut entries = vec![Entry {
        name: "runboard".into(),
        command: supervised(setting.itself("evaluate")?),
        scale: 1.0,
        slice: 1,
    }];
    for reference in setting.references().iter().filter(|r| r.evaluates) {
        entries.push(python(setting, reference, &["--evaluate"], 1)?);
    }
    compare(setting, entries, 1)
}

/// runboard at several batch sizes, without summaries. A turn takes about as many images whatever their size.
pub fn sizes(setting: &Setting) -> Result<Vec<(usize, Timed)>> {
    const SIZES: [usize; 4] = [128, 32, 512, 2048];
    let entry = |size: usize| {
        let slice = (2_560 / size).max(1) as u64;
        let mut spec = setting.spec.clone();
        let train = &mut spec.train;
        train.batch_size = size;
        train.log_every = slice;
        (train.scalars_every, train.histograms_every) = (train.steps, train.steps);
        (train.images_every, train.checkpoint_every) = (train.steps, train.steps);
        runboard(setting, &spec, &format!("batch-{size}"), slice)
    };
    let entries = SIZES.into_iter().map(entry).collect::<Result<_>>()?;
    Ok(SIZES
        .into_iter()
        .zip(compare(setting, entries, 1)?)
        .collect())
}

/// `runboard train` in a fresh run directory.
fn runboard(setting: &Setting, spec: &Spec, name: &str, slice: u64) -> Result<Entry> {
    let run = setting.create_run(name, spec)?;
    Ok(Entry {
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
    command.envs(environment::passive_wait());
    command
}

fn python(setting: &Setting, reference: &Reference, more: &[&str], slice: u64) -> Result<Entry> {
    let mut command = Command::new(&reference.python);
    command
        .arg(setting.scripts.join(reference.script))
        .arg("--data")
        .arg(setting.images()?)
        .args(["--batch-size", &setting.spec.train.batch_size.to_string()])
        .args(["--threads", &setting.threads.to_string()])
        .args(&reference.arguments)
        .args(more);
    Ok(Entry {
        name: reference.name.into(),
        command,
        scale: 1.0,
        slice,
    })
}

/// Start all, then let them take turns; sums of `group` turns are compared with those of the first.
fn compare(setting: &Setting, entries: Vec<Entry>, group: u64) -> Result<Vec<Timed>> {
    let mut contestants = Vec::new();
    for Entry {
        name,
        command,
        scale,
        slice,
    } in entries
    {
        eprintln!("warming up {name}");
        let timed = Timed {
            command: format!("{command:?}"),
            turns: Vec::new(),
            seconds: Spread::of([]),
            first_in_it: Spread::of([]),
            peak_memory_mib: 0.0,
            name,
        };
        let warm_up = setting.warm_up * slice;
        let contestant = Contestant::start(&timed.name, command, warm_up, &setting.out)?;
        contestants.push((contestant, timed, scale, slice));
    }
    let rounds = setting.rounds.next_multiple_of(group);
    for round in 1..=rounds {
        let mut line = format!("round {round} of {rounds}:");
        for (contestant, timed, scale, slice) in &mut contestants {
            let seconds = contestant.turn(*slice)? * *scale;
            timed.turns.push(seconds);
            line += &format!(" {} {:.1} ms", timed.name, 1e3 * seconds);
        }
        eprintln!("{line}");
    }
    let mut first = Vec::new();
    let mut all = Vec::new();
    for (contestant, mut timed, ..) in contestants {
        let groups = timed.turns.chunks(group as usize);
        let seconds: Vec<f64> = groups
            .map(|g| g.iter().sum::<f64>() / g.len() as f64)
            .collect();
        if first.is_empty() {
            first.clone_from(&seconds);
        }
        timed.first_in_it = Spread::of(first.iter().zip(&seconds).map(|(f, s)| f / s));
        timed.seconds = Spread::of(seconds);
        timed.peak_memory_mib = contestant.peak_memory()?;
        all.push(timed);
    }
    Ok(all)
}
