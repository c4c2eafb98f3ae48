//! How long a run takes to go on where it has a long past: a million steps of events and checkpoints, made here.

use crate::paired::trainer;
use crate::setting::Setting;
use anyhow::{Context, Result};
use runboard::checkpoint::queue::EvaluationQueue;
use runboard::checkpoint::{self, Checkpoint, CheckpointState};
use runboard::checkpoint::{EMA, WEIGHTS};
use runboard::events::{EventWriter, Summaries, Tag};
use runboard::measure::{Spread, SteppedProcess};
use runboard::run::{Journal, Role, RunDir, Scores};
use runboard_compute::backend;
use runboard_compute::model::Network;
use serde::Serialize;
use std::fs;
use std::time::{Duration, Instant};

/// Each run is resumed so often at most.
const MOST_ROUNDS: u64 = 10;

/// A run that was resumed several times.
#[derive(Debug, Serialize)]
pub struct Resumed {
    /// Steps that it has taken before.
    pub steps: u64,
    pub checkpoints: usize,
    pub event_mib: f64,
    /// From the start of the trainer to the line of its first step.
    pub seconds: Spread,
}

/// Resume a run with one checkpoint and one with a thousand, a million steps, in turns.
pub fn measure(setting: &Setting) -> Result<Vec<Resumed>> {
    let mut runs = Vec::new();
    for checkpoints in [1, 1000] {
        let mut spec = setting.spec.clone();
        spec.train.log_every = 1;
        spec.train.keep_checkpoints = 1000;
        let run = setting.create_run(&format!("resume-{checkpoints}"), &spec)?;
        let every = spec.train.checkpoint_every;
        let steps: Vec<u64> = (0..checkpoints).map(|number| number * every).collect();
        eprintln!("making a run with {checkpoints} checkpoints");
        make_checkpoints(setting, &run, &steps)?;
        make_events(&run, spec.train.scalars_every, checkpoints * every)?;
        runs.push((run, steps, Vec::new()));
    }
    let rounds = setting.rounds.min(MOST_ROUNDS);
    for round in 0..setting.warm_up + rounds {
        for (run, _, seconds) in &mut runs {
            let begin = Instant::now();
            let trainer =
                SteppedProcess::start("resume", trainer(setting, run), 0, None, &setting.out)?;
            let took = begin.elapsed().as_secs_f64();
            drop(trainer);
            eprintln!("round {round}: {} {took:.2} s", run.name());
            seconds.extend((round >= setting.warm_up).then_some(took));
        }
    }
    let resumed = |(run, steps, seconds): (RunDir, Vec<u64>, Vec<f64>)| {
        Ok(Resumed {
            checkpoints: steps.len(),
            steps: steps.last().map_or(0, |step| step + 1),
            event_mib: event_bytes(&run)? as f64 / f64::from(1 << 20),
            seconds: Spread::of(seconds),
        })
    };
    runs.into_iter().map(resumed).collect()
}

/// Checkpoints of these steps, each with its line in the journal. Only the last one has tensors of its own: nobody reads
/// the others'.
fn make_checkpoints(setting: &Setting, run: &RunDir, steps: &[u64]) -> Result<()> {
    let spec = &setting.spec;
    let (device, _) = backend::device("compute.device", &spec.compute.device)?;
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let state = |step| CheckpointState {
        step,
        ..CheckpointState::default()
    };
    let last = *steps.last().context("a step")?;
    let checkpoint = Checkpoint {
        state: state(last),
        tensors: [WEIGHTS, EMA]
            .map(|group| (group.to_owned(), network.named()))
            .into(),
    };
    let original = checkpoint::save(&run.checkpoints(), &checkpoint)?;
    for step in &steps[..steps.len() - 1] {
        let copy = run.checkpoints().join(format!("step-{step:08}"));
        fs::create_dir(&copy)?;
        for file in fs::read_dir(&original)? {
            let file = file?;
            let to = copy.join(file.file_name());
            match file.path().extension().is_some_and(|it| it == "json") {
                true => fs::write(&to, fs::read(file.path())?)?, // it can be leased by itself
                false => fs::hard_link(file.path(), &to)?,
            }
        }
    }
    let (mut journal, _) = Journal::open(&run.evaluations())?;
    let mut queue = EvaluationQueue::new(run, spec);
    while let Some(version) = queue.next(journal.evaluations())? {
        let (scores, took) = (Scores::default(), Duration::from_secs(1));
        journal.add(version.evaluation(Ok(scores), took))?;
    }
    Ok(())
}

/// Events of a session with as many histograms as the tutorial's network and about as large ones: 80 kB each.
fn make_events(run: &RunDir, every: u64, steps: u64) -> Result<()> {
    let names: Vec<Tag> = (0..25).map(|n| Tag::new(format!("layer{n}"))).collect();
    let values: Vec<f32> = (0..200).map(|n| 1e-10 * 1.11f32.powi(n)).collect();
    let events = EventWriter::open(&run.events(Role::TRAIN))?;
    for step in (0..steps).step_by(every as usize) {
        let mut summaries = Summaries::at(step);
        for name in &names {
            summaries.histogram(name, &values);
        }
        events.write(&summaries);
        if step.is_multiple_of(100 * every) {
            events.flush(); // before the memory for waiting events is full
        }
    }
    events.sync()
}

fn event_bytes(run: &RunDir) -> Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(run.events(Role::TRAIN))? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
