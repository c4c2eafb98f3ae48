//! The questions, in the order of what their answers are worth.

use super::Bench;
use super::answer::{Answer, Outcome};
use super::programs::{torch, write_experiment};
use crate::checkpoint::{self, difference};
use crate::compute::{self, StepTimes, goldens, worst};
use crate::data::{self, Fetch, Images, Split};
use crate::events::{Curve, Point, scalars, tags};
use crate::measure::{self, TimedCommand, Turns};
use crate::overview::count;
use crate::paths::unexpanded;
use crate::reference::largest;
use crate::run::{Journal, Role, RunDir, resolve};
use crate::spec::{self, DeviceName, Override, Precision, Spec};
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What later questions take from earlier ones.
#[derive(Default)]
pub(super) struct State {
    /// The loss of each step on the device, in float32.
    losses: Option<Curve>,
    /// The run of all steps by `compute.deterministic`.
    whole: Option<RunDir>,
    times: Vec<StepTimes>,
}

impl State {
    /// The run of all steps, trained with these fields set if no question has had it trained.
    fn whole(&mut self, bench: &Bench, sets: &[String]) -> Result<RunDir> {
        if let Some(whole) = &self.whole {
            return Ok(whole.clone());
        }
        let whole = bench.train("whole", &bench.device, sets)?;
        Ok(self.whole.insert(whole).clone())
    }
}

/// How a question is answered.
pub(super) type Question = fn(&Bench, &mut State) -> Result<Answer>;

/// The answer to a question, if there is time left for it.
pub(super) fn answer(question: Question, bench: &Bench, state: &mut State) -> Result<Answer> {
    match bench.programs.time_left() {
        None => Ok(Answer::left_out("no time")),
        Some(_) => question(bench, state),
    }
}

/// Name, title and how it is answered.
pub(super) const ALL: &[(&str, &str, Question)] = &[
    ("goldens-float32", "golden values in float32", |bench, _| {
        golden_values(bench, Precision::Float32)
    }),
    ("goldens-tf32", "golden values in tf32", |bench, _| {
        golden_values(bench, Precision::Tf32)
    }),
    ("goldens-bf16", "golden values in bf16", |bench, _| {
        golden_values(bench, Precision::Bf16)
    }),
    ("losses", "losses beside the CPU's", losses),
    ("resume", "stop and resume", resume),
    ("deterministic", "the same bytes twice", deterministic),
    ("ahead", "steps issued ahead of the device", ahead),
    ("steps-float32", "step time in float32", |bench, state| {
        step_times(bench, state, Precision::Float32)
    }),
    ("steps-tf32", "step time in tf32", |bench, state| {
        step_times(bench, state, Precision::Tf32)
    }),
    ("steps-bf16", "step time in bf16", |bench, state| {
        step_times(bench, state, Precision::Bf16)
    }),
    ("evaluation", "evaluation", evaluation),
    ("pytorch", "training beside PyTorch", pytorch),
    (
        "fast-start",
        "fast-start beside the known curve",
        fast_start,
    ),
    ("memory", "peak memory", memory),
    ("gloo", "two ranks on the device over Gloo", gloo),
    ("nccl", "GPUs over NCCL", nccl),
];

/// The scripts that are timed beside runboard, in the program.
const TORCH_SCRIPT: &str = include_str!("../../benches/reference/torch_cifar10.py");

/// The accuracy of `fast-start` at some steps, as docs/performance.md has it, and how far one may be from it: another seed is.
const KNOWN: [(u64, f64); 4] = [(500, 0.512), (1_000, 0.600), (1_500, 0.653), (2_000, 0.689)];
const KNOWN_WITHIN: f64 = 0.02;

/// The steps in which the losses of two devices differ by roundings alone, and how far they may, relatively. Later ones are
/// those of weights that went other ways: their mean over the last quarter is compared.
const FIRST: usize = 10;
const FIRST_WITHIN: f64 = 1e-3;
const LAST_WITHIN: f64 = 0.05;

fn golden_values(bench: &Bench, precision: Precision) -> Result<Answer> {
    let mut answers = goldens(&bench.device, &[precision]);
    let comparisons = answers.next().context("nothing was compared")??;
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for comparison in &comparisons {
        groups
            .entry(comparison.group())
            .or_default()
            .push(comparison);
    }
    let shown = |deviation: Option<f64>| deviation.map_or("no number".to_owned(), digits);
    let rows = groups.iter().map(|(group, comparisons)| {
        let worst = worst(comparisons.iter().copied()).map_or(
            [String::new(), String::new(), String::new()],
            |it| {
                [
                    shown(it.deviation),
                    it.tolerance.to_string(),
                    it.name.clone(),
                ]
            },
        );
        let mut row = vec![(*group).to_owned(), comparisons.len().to_string()];
        row.extend(worst);
        row
    });
    let rows: Vec<_> = rows.collect();
    let failed: Vec<_> = comparisons.iter().filter(|it| !it.passed).collect();
    let count = comparisons.len();
    let answer = match failed.first() {
        None => Answer::judged(true, format!("{count} values within their tolerances")),
        Some(first) => Answer::failed(format!(
            "{} of {count} beyond their tolerances, such as {}: {}, want at most {}",
            failed.len(),
            first.name,
            shown(first.deviation),
            first.tolerance
        )),
    };
    let head = ["what", "values", "largest deviation", "tolerance", "where"];
    let values = json!({"precision": precision, "comparisons": comparisons});
    Ok(answer.with_table(&head, rows).with_values(values))
}

/// The loss of each step, beside that of the same steps on the CPU.
fn losses(bench: &Bench, state: &mut State) -> Result<Answer> {
    let float = ["compute.precision=float32".to_owned()];
    let on_device = bench.train("device", &bench.device, &float)?;
    let own = loss_curve(&on_device)?;
    state.losses = Some(own.clone());
    let on_cpu = loss_curve(&bench.train("cpu", "cpu", &float)?)?;
    compare_losses(&own, &on_cpu)
}

fn compare_losses(own: &[Point], other: &[Point]) -> Result<Answer> {
    let steps = own.len();
    anyhow::ensure!(
        steps > FIRST && other.len() == steps,
        "got {steps} losses and {} of the CPU, want as many, and more than {FIRST}",
        other.len()
    );
    let pairs = || {
        own.iter()
            .zip(other)
            .map(|(own, other)| (f64::from(own.value), f64::from(other.value)))
    };
    let relative = |(own, other): (f64, f64)| (own / other - 1.0).abs();
    let first = largest(pairs().take(FIRST).map(relative));
    let quarter = steps - (steps / 4).max(1);
    let mean = |which: fn((f64, f64)) -> f64| {
        pairs().skip(quarter).map(which).sum::<f64>() / (steps - quarter) as f64
    };
    let last = relative((mean(|pair| pair.0), mean(|pair| pair.1)));
    let shown = (0..steps).step_by((steps / 5).max(1)).chain([steps - 1]);
    let rows = shown.map(|at| {
        let (own, other) = (own[at].value, other[at].value);
        vec![at.to_string(), format!("{own:.5}"), format!("{other:.5}")]
    });
    let summary = format!(
        "{steps} steps; the first {FIRST} differ by {} at most (want {FIRST_WITHIN}), the mean of the last \
         quarter by {} (want {LAST_WITHIN})",
        digits(first),
        digits(last)
    );
    let values = json!({"steps": steps, "first": first, "last": last,
        "losses": pairs().map(|(own, cpu)| json!([own, cpu])).collect::<Vec<_>>()});
    Ok(
        Answer::judged(first <= FIRST_WITHIN && last <= LAST_WITHIN, summary)
            .with_table(&["step", "loss", "the CPU's"], rows)
            .with_values(values),
    )
}

/// A difference, for people.
fn digits(difference: f64) -> String {
    match difference {
        0.0 => "0".to_owned(),
        _ => format!("{difference:.1e}"),
    }
}

/// A run that is stopped half-way and resumed, and one that is not: with `compute.deterministic` they have the same bytes.
fn resume(bench: &Bench, state: &mut State) -> Result<Answer> {
    let deterministic = ["compute.deterministic=true".to_owned()];
    let whole = state.whole(bench, &deterministic)?;
    let half = (bench.scale.steps / 2).to_string();
    bench.start(
        "stopped",
        &bench.device,
        &deterministic,
        &["--until", &half],
    )?;
    bench.programs.runboard(&["resume", "stopped", "--quiet"])?;
    let stopped = resolve(&bench.programs.runs(), Path::new("stopped"))?;
    same_bytes(
        &whole,
        &stopped,
        &format!("stopped after {half} steps and resumed"),
    )
}

/// The same run once more.
fn deterministic(bench: &Bench, state: &mut State) -> Result<Answer> {
    let deterministic = ["compute.deterministic=true".to_owned()];
    let whole = state.whole(bench, &deterministic)?;
    let again = bench.train("again", &bench.device, &deterministic)?;
    same_bytes(&whole, &again, "trained twice")
}

fn same_bytes(one: &RunDir, other: &RunDir, how: &str) -> Result<Answer> {
    let last = |run: &RunDir| {
        let last = checkpoint::latest(&run.checkpoints())?;
        last.with_context(|| format!("{} has no checkpoint", run.id()))
    };
    let (one, other) = (last(one)?, last(other)?);
    anyhow::ensure!(
        one.step == other.step,
        "got checkpoints of steps {} and {}",
        one.step,
        other.step
    );
    let difference = difference(&one.path, &other.path)?;
    let difference = difference.map(|it| it.to_string());
    let step = one.step;
    let values = json!({"step": step, "difference": difference});
    let answer = match difference {
        None => Answer::judged(true, format!("{how}: the same bytes at step {step}")),
        Some(difference) => Answer::failed(format!("{how}: at step {step} {difference}")),
    };
    Ok(answer.with_values(values))
}

/// Whether the host has to wait for the device before the losses are read: a GPU has the longest steps with the largest
/// batches.
fn ahead(bench: &Bench, _: &mut State) -> Result<Answer> {
    const MOST: f64 = 0.7;
    let size = bench.scale.sizes.last().copied().unwrap_or_default();
    let spec = bench.timed_spec(size, Precision::Float32)?;
    let times = compute::steps(&[spec], bench.scale.timed)?;
    let times = times.first().context("no steps were timed")?;
    let share = times.issued.median / times.seconds.median;
    let summary = format!(
        "{} of {size} images: issued in {:.0} % of the time taken",
        count(times.ahead as usize, "step"),
        100.0 * share
    );
    let values = json!({"batch_size": size, "ahead": times.ahead, "share": share, "times": times});
    let answer = match DeviceName::is_gpu(&bench.device) {
        false => Answer::measured(format!("{summary}: a CPU does each when it is issued")),
        true => Answer::judged(
            share <= MOST,
            format!("{summary} (want at most {:.0} %)", 100.0 * MOST),
        ),
    };
    Ok(answer.with_values(values))
}

fn step_times(bench: &Bench, state: &mut State, precision: Precision) -> Result<Answer> {
    let sizes = bench.scale.sizes.iter();
    let specs: Result<Vec<Spec>> = sizes
        .map(|&size| bench.timed_spec(size, precision))
        .collect();
    let times = compute::steps(&specs?, bench.scale.timed)?;
    let milliseconds = |spread: measure::Spread| format!("{:.2}", spread.times(1e3));
    let mut head = vec!["batch size", "images/s", "ms a step", "issued in, ms"];
    let phases = times.first().map_or(&[][..], |times| &times.phases);
    head.extend(phases.iter().map(|phase| &*phase.name));
    let rows = times.iter().map(|times| {
        let rate = times.batch_size as f64 / times.seconds.median;
        let mut row = vec![times.batch_size.to_string(), format!("{rate:.0}")];
        row.extend([times.seconds, times.issued].map(milliseconds));
        row.extend(
            times
                .phases
                .iter()
                .map(|phase| format!("{:.2}", 1e3 * phase.seconds.median)),
        );
        row
    });
    let shown = times.iter().map(|times| {
        format!(
            "{} of {} images",
            milliseconds(times.seconds),
            times.batch_size
        )
    });
    let summary = format!("ms: {}", shown.collect::<Vec<_>>().join(", "));
    let answer = Answer::measured(summary).with_table(&head, rows);
    let answer = answer.with_values(json!({"precision": precision, "times": times}));
    state.times.extend(times);
    Ok(answer)
}

/// The evaluator over the test images, once more when all is in the caches.
fn evaluation(bench: &Bench, state: &mut State) -> Result<Answer> {
    let run = state.whole(bench, &[])?;
    let path = unexpanded(run.path());
    let words: [&OsStr; 4] = [
        "eval".as_ref(),
        "--once".as_ref(),
        "--run".as_ref(),
        path.as_os_str(),
    ];
    for _ in 0..2 {
        bench.programs.runboard(&words)?;
    }
    let journal = Journal::read(&run.evaluations())?;
    let last = journal.last().context("the evaluator has scored nothing")?;
    let spec = bench.spec(&bench.device, &[])?;
    let directory = data::prepare(&spec.data, Fetch::Refused)?;
    let images = Images::read(&directory, Split::Test)?.len();
    let (seconds, accuracy) = (last.seconds, last.accuracy);
    let rate = images as f64 / seconds;
    let values = json!({"images": images, "seconds": seconds, "accuracy": accuracy});
    Ok(Answer::measured(format!(
        "{images} images in {seconds:.2} s, {rate:.0} images/s, metrics and pictures included"
    ))
    .with_values(values))
}

/// Training steps of whole programs in turns.
fn pytorch(bench: &Bench, _: &mut State) -> Result<Answer> {
    let Some((python, version)) = torch(bench.options.python.as_deref()) else {
        return Ok(Answer::left_out(
            "no python with torch and numpy (--python names one)",
        ));
    };
    let work = bench.programs.directory();
    let scripts = work.join("scripts");
    crate::files::make_dir(&scripts)?;
    fs::write(scripts.join("torch_cifar10.py"), TORCH_SCRIPT)
        .context("failed to write the script")?;
    const SLICE: u64 = 10;
    let never = 1_000_000_000u64;
    let sets = [
        "steps",
        "scalars_every",
        "histograms_every",
        "images_every",
        "checkpoint_every",
    ];
    let mut sets: Vec<String> = sets
        .iter()
        .map(|field| format!("train.{field}={never}"))
        .collect();
    sets.push(format!("train.log_every={SLICE}"));
    let spec = bench.spec(&bench.device, &sets)?;
    let images = data::prepare(&spec.data, Fetch::Refused)?;
    let software = bench.machine.software(bench.device.clone());
    let provenance = crate::run::Provenance::collect(Path::new("/"), software, None);
    let run = RunDir::create(
        &bench.programs.runs(),
        "beside",
        &spec.to_frozen_yaml()?,
        &provenance,
    )?;
    let mut command = compute::supervised(&compute::path()?)?;
    command.args(["train", "--run"]).arg(unexpanded(run.path()));
    let mut commands = vec![TimedCommand {
        name: "runboard".into(),
        command,
        scale: 1.0,
        slice: SLICE,
    }];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let device = &bench.device;
    // To compile for a CPU takes a compiler, and a minute.
    let references = measure::pytorch(&python, device).into_iter();
    for reference in
        references.filter(|it| DeviceName::is_gpu(device) || !it.name.contains("compile"))
    {
        commands.push(TimedCommand {
            name: reference.name.into(),
            command: reference.command(&scripts, &images, spec.train.batch_size, threads),
            scale: 1.0,
            slice: SLICE,
        });
    }
    let turns = Turns {
        warm_up: 2,
        rounds: if bench.options.quick { 2 } else { 20 },
        per_ratio: 1,
        until: Some(bench.programs.until()),
        logs: work.to_owned(),
    };
    let names: Vec<String> = commands.iter().map(|it| it.name.clone()).collect();
    let timed = measure::compare(&turns, commands, |line| drop(bench.programs.say(line)))?;
    if timed.is_empty() {
        return Ok(Answer::left_out("no time"));
    }
    let is_timed = |name: &String| timed.iter().any(|timed| timed.name == *name);
    let late: Vec<String> = names.into_iter().filter(|name| !is_timed(name)).collect();
    let rows = timed.iter().map(|timed| {
        let rate = spec.train.batch_size as f64 / timed.seconds.median;
        vec![
            timed.name.clone(),
            format!("{:.2}", timed.seconds.times(1e3)),
            format!("{rate:.0}"),
            format!("{:.3}", timed.ratio),
            format!("{:.0}", timed.peak_memory_mib),
        ]
    });
    let fastest = timed
        .iter()
        .skip(1)
        .max_by(|a, b| a.ratio.median.total_cmp(&b.ratio.median));
    let ratio = fastest.map(|it| {
        format!(
            "runboard's step takes {:.3} of the time of {}, torch {version}",
            it.ratio.median, it.name
        )
    });
    let left_out =
        (!late.is_empty()).then(|| format!("no time for {} to warm up", late.join(", ")));
    let summary: Vec<String> = ratio.into_iter().chain(left_out).collect();
    let head = [
        "training step",
        "ms",
        "images/s",
        "runboard's time in it",
        "peak memory, MiB",
    ];
    Ok(Answer::measured(summary.join("; "))
        .with_table(&head, rows)
        .with_values(json!({"torch": version, "timed": timed, "left_out": late})))
}

fn fast_start(bench: &Bench, _: &mut State) -> Result<Answer> {
    if bench.options.data.is_none() {
        return Ok(Answer::left_out(
            "no images of CIFAR-10 (--data names their directory)",
        ));
    }
    let sets = [
        "steps=2001",
        "checkpoint_every=500",
        "batch_size=128",
        "keep_checkpoints=10",
        "scalars_every=100",
    ];
    let mut sets: Vec<String> = sets.iter().map(|set| format!("train.{set}")).collect();
    sets.push("compute.precision=tf32".to_owned());
    let begin = std::time::Instant::now();
    let run = bench.train("fast-start", &bench.device, &sets)?;
    let seconds = begin.elapsed().as_secs_f64();
    let journal = Journal::read(&run.evaluations())?;
    let mut rows = Vec::new();
    let mut most: f64 = 0.0;
    for (step, want) in KNOWN {
        let scored = journal.iter().rfind(|it| it.step == step);
        let got = scored.and_then(|it| it.accuracy);
        let got = got.with_context(|| format!("step {step} has no score"))?;
        most = most.max((got - want).abs());
        rows.push(vec![
            step.to_string(),
            format!("{got:.3}"),
            format!("{want:.3}"),
        ]);
    }
    let summary = format!(
        "precision @ 1 within {most:.3} of the known curve (want {KNOWN_WITHIN}), {seconds:.0} s with evaluations"
    );
    let values = json!({"seconds": seconds, "largest_difference": most, "scores": rows});
    Ok(Answer::judged(most <= KNOWN_WITHIN, summary)
        .with_table(&["step", "precision @ 1", "known"], rows)
        .with_values(values))
}

fn memory(_: &Bench, state: &mut State) -> Result<Answer> {
    if state.times.is_empty() {
        return Ok(Answer::left_out("no steps were timed"));
    }
    let mib = |value: Option<f64>| value.map_or("unknown".to_owned(), |mib| format!("{mib:.0}"));
    let rows = state.times.iter().map(|times| {
        let size = times.batch_size.to_string();
        vec![
            times.precision.name().to_owned(),
            size,
            mib(times.process_mib),
            mib(times.gpu_mib),
        ]
    });
    let most =
        |of: fn(&StepTimes) -> Option<f64>| state.times.iter().filter_map(of).reduce(f64::max);
    let (process, gpu) = (most(|it| it.process_mib), most(|it| it.gpu_mib));
    let summary = match gpu {
        Some(gpu) => format!(
            "{gpu:.0} MiB of the GPU and {} of the host at most",
            mib(process)
        ),
        None => format!("{} MiB at most", mib(process)),
    };
    let values = json!({"process_mib": process, "gpu_mib": gpu});
    let head = ["precision", "batch size", "process so far, MiB", "GPU, MiB"];
    Ok(Answer::measured(summary)
        .with_table(&head, rows)
        .with_values(values))
}

/// Two processes on the device, each with half of every batch.
fn gloo(bench: &Bench, state: &mut State) -> Result<Answer> {
    let own = float32_losses(bench, state)?;
    let device = &bench.device;
    let sets = [
        format!("compute.devices=[{device}, {device}]"),
        "compute.process_group=gloo".to_owned(),
        "compute.precision=float32".to_owned(),
    ];
    ranks(bench, &own, "ranks", &sets)
}

/// A rank on each GPU, up to eight and as many as share a batch evenly. On one GPU, whether NCCL begins.
fn nccl(bench: &Bench, state: &mut State) -> Result<Answer> {
    if !DeviceName::is_gpu(&bench.device) {
        return Ok(Answer::left_out("for GPUs"));
    }
    let share = |gpus: &usize| bench.scale.batch_size.is_multiple_of(*gpus);
    let gpus = (1..=bench.machine.gpus.min(8)).rev().find(share);
    let gpus = gpus.unwrap_or(1);
    if gpus > 1 {
        let own = float32_losses(bench, state)?;
        let devices: Vec<String> = (0..gpus).map(|index| format!("cuda:{index}")).collect();
        let sets = [
            format!("compute.devices=[{}]", devices.join(", ")),
            "compute.process_group=nccl".to_owned(),
            "compute.precision=float32".to_owned(),
        ];
        return ranks(bench, &own, "gpus", &sets);
    }
    let work = bench.programs.directory();
    let examined = compute::examine(&bench.device, Some(work))?;
    Ok(match examined.nccl {
        Some(Ok(())) => Answer::new(
            Outcome::Measured,
            "begins on the one GPU that there is, where it has nothing to sum",
        ),
        Some(Err(error)) => Answer::judged(false, error),
        None => Answer::left_out("for GPUs"),
    })
}

/// The loss of each step on the device in float32, of one process.
fn float32_losses(bench: &Bench, state: &State) -> Result<Curve> {
    match &state.losses {
        Some(own) => Ok(own.clone()),
        None => loss_curve(&bench.train(
            "device",
            &bench.device,
            &["compute.precision=float32".to_owned()],
        )?),
    }
}

/// Train in several processes, and compare with the losses of one.
fn ranks(bench: &Bench, own: &Curve, name: &str, sets: &[String]) -> Result<Answer> {
    let run = bench.train(name, &bench.device, sets)?;
    let both = loss_curve(&run)?;
    let pairs = own.iter().zip(&both).take(FIRST);
    let first = largest(pairs.map(|(one, two)| f64::from((two.value / one.value - 1.0).abs())));
    let curves = scalars(&run.events(Role::TRAIN))?;
    let sum = curves
        .get(tags::ALL_REDUCE_TIME.name)
        .and_then(|curve| Some(curve.last()?.value));
    let sum_of = sum.map_or(String::new(), |ms| {
        format!(", {ms:.1} ms for the sum of a step")
    });
    let summary = format!(
        "{} steps; the first {FIRST} differ from one process's by {} at most (want {FIRST_WITHIN}){sum_of}",
        both.len(),
        digits(first)
    );
    let values = json!({"steps": both.len(), "first": first, "all_reduce_ms": sum});
    Ok(
        Answer::judged(both.len() == own.len() && first <= FIRST_WITHIN, summary)
            .with_values(values),
    )
}

fn loss_curve(run: &RunDir) -> Result<Curve> {
    let mut curves = scalars(&run.events(Role::TRAIN))?;
    let curve = curves.remove(tags::TOTAL_LOSS_RAW.name);
    curve.with_context(|| format!("{} has no curve of its losses", run.id()))
}

impl Bench<'_> {
    /// What is trained: `fast-start`, with everything that is compared written often and everything else never.
    fn experiment(&self) -> String {
        let scale = &self.scale;
        let (steps, size) = (scale.steps, scale.batch_size);
        let images = match &self.options.data {
            Some(_) => "{source: cifar10}".to_owned(),
            None => format!(
                "{{source: synthetic, folder: images, synthetic: {{train_images: {}, test_images: {}}}}}",
                scale.train_images, scale.test_images
            ),
        };
        format!(
            "description: what verify trains\n\
             data: {images}\n\
             network: {{conv1: {{stddev: 0.05}}, conv2: {{stddev: 0.05}}}}\n\
             train: {{steps: {steps}, batch_size: {size}, log_every: 10, scalars_every: 1, histograms_every: 1000000, \
             images_every: 1000000, checkpoint_every: {}}}\n\
             eval: {{interval_secs: 0.5}}\n",
            steps / 2
        )
    }

    /// The words of `run` that make the experiment another one.
    fn sets(&self, device: &str, sets: &[String]) -> Vec<String> {
        let device = format!("compute.device={device}");
        [device].into_iter().chain(sets.iter().cloned()).collect()
    }

    /// The spec of a run with these fields set.
    fn spec(&self, device: &str, sets: &[String]) -> Result<Spec> {
        let work = self.programs.directory();
        write_experiment(work, "verify", &self.experiment())?;
        let mut overrides = Vec::new();
        for set in self.sets(device, sets) {
            overrides.push(Override::parse(set)?);
        }
        let images = work.join("images");
        let images = self.options.data.as_ref().unwrap_or(&images);
        overrides.push(Override::directory("data.folder", images)?);
        Ok(spec::load("verify", &work.join("experiments"), &overrides)?.spec)
    }

    /// One whose steps are timed alone.
    fn timed_spec(&self, batch_size: usize, precision: Precision) -> Result<Spec> {
        let precision = precision.name();
        let sets = [
            format!("train.batch_size={batch_size}"),
            format!("compute.precision={precision}"),
        ];
        self.spec(&self.device, &sets)
    }

    /// Trains a run of this name to its end, and evaluates it.
    fn train(&self, name: &str, device: &str, sets: &[String]) -> Result<RunDir> {
        self.start(name, device, sets, &[])?;
        resolve(&self.programs.runs(), Path::new(name))
    }

    fn start(&self, name: &str, device: &str, sets: &[String], more: &[&str]) -> Result<()> {
        write_experiment(self.programs.directory(), name, &self.experiment())?;
        let mut words: Vec<PathBuf> = vec!["run".into(), name.into(), "--quiet".into()];
        for set in self.sets(device, sets) {
            words.extend(["--set".into(), set.into()]);
        }
        if let Some(data) = &self.options.data {
            words.extend(["--data".into(), unexpanded(data)]);
        }
        words.extend(more.iter().map(PathBuf::from));
        self.programs.runboard(&words)
    }
}

#[cfg(test)]
mod tests {
    use super::super::programs::Programs;
    use super::super::{Options, Scale};
    use super::*;
    use crate::compute::Machine;
    use std::time::{Duration, Instant};

    #[test]
    fn every_question_is_left_out_when_the_time_is_up() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            device: "cpu".to_owned(),
            time: Duration::ZERO,
            out: directory.path().to_owned(),
            data: None,
            python: None,
            quick: true,
        };
        let machine = Machine {
            burn: String::new(),
            libtorch: String::new(),
            target_features: Vec::new(),
            gpus: 0,
            cuda_failure: None,
        };
        let bench = Bench {
            options: &options,
            device: "cpu".to_owned(),
            machine: &machine,
            programs: Programs::new(directory.path(), Instant::now()).unwrap(),
            scale: Scale::of(true),
        };
        for (name, _, question) in ALL {
            let answer = answer(*question, &bench, &mut State::default()).unwrap();
            assert_eq!(answer.summary, "no time", "{name}");
        }
    }
}
