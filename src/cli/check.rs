//! `runboard check`: what a spec resolves to, and what a run of it will be.

use super::estimate::{self, Disk, Paces};
use super::form::print_json;
use super::{ExperimentArgs, data_error, fetch, notes};
use crate::compute::{Machine, Pace, Trial};
use crate::data::{Fetch, Plan};
use crate::home::Home;
use crate::launch::Launch;
use crate::overview::{self, bytes, count};
use crate::spec::{Data, DeviceName, Experiment, Source, Spec, shortened};
use crate::sweep::{self, MetricName, OnFailure, Sweep};
use crate::{console, data};
use anyhow::{Error, Result};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::iter;
use std::num::NonZero;
use std::thread;

/// Training images of CIFAR-10, until the archive is there.
const CIFAR10_IMAGES: usize = 50_000;

/// How many points of a sweep are shown, unless all are asked for.
const SHOWN: usize = 20;

pub fn check(args: &ExperimentArgs, verbose: bool, json: bool) -> Result<i32> {
    let home = Home::find()?;
    let experiment = args.load(&home)?;
    let spec = &experiment.spec;
    let trial = Trial::start()?;
    let sweep = Sweep::of(&experiment, Some(trial.machine().gpus))?;
    let device = device(spec, trial.machine())?;
    let evaluation_device = trial.machine().evaluation_device(spec)?;
    let is_other = DeviceName::is_gpu(&device) != DeviceName::is_gpu(&evaluation_device);
    let scored = is_other.then_some(&*evaluation_device);
    let mut fixed = experiment.clone();
    let fetch = fetch(fixed.fix_paths(home.path())?);
    let plan = data::plan(&fixed.spec.data, fetch);

    if !json {
        let result = match plan {
            Ok(_) => "ok",
            Err(_) => "data missing",
        };
        console::output(format_args!(
            "# {}: {result}, device {device}",
            experiment.name
        ))?;
        // The points are what is asked for of a sweep; the other fields are what it differs in from the defaults.
        if sweep.is_none() || verbose {
            let shown = Spec {
                description: shortened(&spec.description),
                ..spec.clone()
            };
            console::output(shown.to_yaml()?)?;
        }
    }
    let (place, in_files) = match &plan {
        Ok(plan) => describe(plan, &fixed.spec)?,
        Err(_) if spec.data.download && fetch == Fetch::Refused => (
            "missing; data.download is for the default folder alone".to_owned(),
            CIFAR10_IMAGES,
        ),
        Err(_) => ("missing".to_owned(), CIFAR10_IMAGES),
    };
    let images = spec.training_images(in_files)?;
    let work = match sweep {
        Some(sweep) => {
            let steps = sweep.steps(in_files)?;
            let paces = Paces::measure(&sweep, trial, scored)?;
            Work::Sweep(Box::new(sweep), steps, paces)
        }
        None => {
            let elsewhere = scored.map(|device| estimate::trained_on(spec, device));
            let specs: Vec<&Spec> = iter::once(spec).chain(&elsewhere).collect();
            let paces = trial.paces(&specs)?;
            let [pace, scoring] = [paces.first(), paces.last()].map(|it| it.copied().flatten());
            Work::Run(spec.train.total_steps(images), pace, scoring)
        }
    };
    let checked = Checked {
        experiment: &experiment,
        device,
        evaluation_device,
        data: &fixed.spec.data,
        plan: plan.as_ref(),
        place,
        in_files,
        images,
        notes: notes::notes(spec, images),
        work,
    };
    match json {
        true => print_json(&checked.json()?)?,
        false => {
            for line in checked.comments(verbose)?.lines() {
                console::output(format_args!("# {line}"))?;
            }
        }
    }
    // Last, after all that there is to say of the spec itself.
    plan.map_err(|error| data_error(error, &experiment))?;
    Ok(0)
}

/// All that is found out of an experiment.
struct Checked<'a> {
    experiment: &'a Experiment,
    device: String,
    evaluation_device: String,
    /// Where the images are, the path as a run has it.
    data: &'a Data,
    plan: Result<&'a Plan, &'a Error>,
    /// The same in words.
    place: String,
    /// Images in the training files, and those of them that are trained on.
    in_files: usize,
    images: usize,
    notes: Vec<String>,
    work: Work,
}

/// What there is to train.
enum Work {
    /// So many steps, at the first pace; the second is that of the device that scores.
    Run(u64, Option<Pace>, Option<Pace>),
    /// So many steps of each point, at these paces.
    Sweep(Box<Sweep>, Vec<u64>, Option<Paces>),
}

impl Checked<'_> {
    /// In lines, below the spec.
    fn comments(&self, verbose: bool) -> Result<String> {
        let mut text = differences(self.experiment)?;
        for note in &self.notes {
            writeln!(text, "note: {note}")?;
        }
        writeln!(text, "data: {}", self.place)?;
        Ok(match &self.work {
            Work::Run(steps, Some(pace), Some(scoring)) => {
                text + &self.estimates(*steps, pace, scoring)
            }
            Work::Run(..) => {
                text + "disk and time: not estimated for a network of so many weights\n"
            }
            Work::Sweep(sweep, steps, paces) => {
                let shown = if verbose { usize::MAX } else { SHOWN };
                points(sweep, shown, steps, &self.device, paces.as_ref())? + &text
            }
        })
    }

    /// What a run will leave on disk, and how long it will take.
    fn estimates(&self, steps: u64, pace: &Pace, scoring: &Pace) -> String {
        let (spec, device) = (&self.experiment.spec, &self.device);
        let disk = Disk::of(spec, steps, pace.checkpoint_bytes);
        let step = match pace.step_seconds {
            seconds if seconds < 0.1 => format!("{:.1} ms", 1000.0 * seconds),
            seconds => format!("{seconds:.2} s"),
        };
        let [trains_on_gpu, scores_on_gpu] =
            [device, &self.evaluation_device].map(|it| DeviceName::is_gpu(it));
        let threads = match trains_on_gpu {
            true => String::new(),
            false => format!(" with {} threads", pace.threads),
        };
        let place = match (trains_on_gpu, scores_on_gpu) {
            (false, false) => ", on the same cores".to_owned(),
            (true, true) => String::new(),
            _ => format!(", on {}", self.evaluation_device),
        };
        format!(
            "disk: about {disk}\ntime: about {} for {steps} steps at {step} on {device}{threads}, as {} steps just now; \
             besides about {} for the scores of its checkpoints{place}\n",
            estimate::duration(steps as f64 * pace.step_seconds),
            pace.steps,
            estimate::duration(estimate::evaluation_seconds(
                spec,
                steps,
                scoring.step_seconds
            )),
        )
    }

    /// For programs; docs/json.md explains the names.
    fn json(&self) -> Result<Json> {
        let spec = &self.experiment.spec;
        let mut fields = json!({
            "name": self.experiment.name,
            "spec": spec.to_json()?,
            "differences": self.differences()?,
            "notes": self.notes,
            "device": self.device,
            "evaluation_device": self.evaluation_device,
            "data": {
                "state": match self.plan {
                    Ok(Plan::Take(_)) => "there",
                    Ok(Plan::Download) => "download",
                    Ok(Plan::Generate) => "generate",
                    Err(_) => "missing",
                },
                "folder": match self.plan {
                    Ok(Plan::Take(folder)) => folder.display().to_string(),
                    _ => self.data.folder.display().to_string(),
                },
                "images": self.in_files,
                "training_images": self.images,
                "error": self.plan.err().map(|error| format!("{error:#}")),
            },
        });
        // A point may hold out other images.
        let epochs = |spec: &Spec, steps: u64| -> Result<f64> {
            let images = spec.training_images(self.in_files)?;
            Ok(steps as f64 / spec.train.steps_per_epoch(images))
        };
        let of_work = match &self.work {
            Work::Run(steps, pace, _) => {
                let on_cpu = pace.filter(|_| !DeviceName::is_gpu(&self.device));
                json!({
                    "steps": steps,
                    "epochs": epochs(spec, *steps)?,
                    "threads": on_cpu.map(|pace| pace.threads),
                    "disk": pace.map(|pace| {
                        let disk = Disk::of(spec, *steps, pace.checkpoint_bytes);
                        json!({
                            "bytes": disk.bytes(),
                            "checkpoints": disk.checkpoints,
                            "checkpoint_bytes": disk.checkpoint_bytes,
                            "waiting_bytes": disk.waiting * disk.checkpoint_bytes,
                        })
                    }),
                    "time": pace.map(|pace| json!({
                        "seconds": *steps as f64 * pace.step_seconds,
                        "step_seconds": pace.step_seconds,
                    })),
                    "sweep": null,
                })
            }
            Work::Sweep(sweep, steps, paces) => {
                let (definition, on_cpu) = (&sweep.definition, !DeviceName::is_gpu(&self.device));
                let points = sweep.points.iter().zip(&sweep.specs).zip(steps);
                let points = points.map(|((point, spec), steps)| {
                    Ok(json!({
                        "point": point.name,
                        "number": point.number,
                        "seed": point.seed,
                        "set": point.set,
                        "steps": steps,
                        "epochs": epochs(spec, *steps)?,
                        "threads": on_cpu.then(|| sweep.threads(spec, cores())),
                    }))
                });
                let points: Result<Vec<Json>> = points.collect();
                json!({
                    "steps": definition.steps(steps),
                    "epochs": null,
                    "threads": null,
                    "disk": paces.as_ref().map(|paces| json!({"bytes": paces.disk(sweep, steps)})),
                    "time": paces.as_ref().map(|paces| {
                        let [training, evaluation, start] =
                            seconds(paces, sweep, steps, &self.device);
                        json!({
                            "seconds": training + evaluation + start,
                            "evaluation_seconds": evaluation,
                            "start_seconds": start,
                        })
                    }),
                    "sweep": {
                        "method": definition.method.name(),
                        "settings": sweep.points.len() / definition.seeds.len(),
                        "seeds": definition.seeds,
                        "parallel": sweep.at_once(),
                        "points": points?,
                    },
                })
            }
        };
        if let (Json::Object(fields), Json::Object(of_work)) = (&mut fields, of_work) {
            fields.extend(of_work);
        }
        Ok(fields)
    }

    /// The fields that differ from the defaults.
    fn differences(&self) -> Result<Vec<Json>> {
        let differences = self.experiment.spec.differences()?.into_iter();
        let differences = differences.map(|it| {
            json!({
                "field": it.field,
                "value": it.to,
                "default": it.from,
                "origin": self.experiment.origin(&it.field),
            })
        });
        Ok(differences.collect())
    }
}

/// The fields that differ from the defaults, and where that is said.
fn differences(experiment: &Experiment) -> Result<String> {
    let differences = experiment.spec.differences()?;
    // Another point of a sweep may use it.
    let single = Some(&experiment.spec).filter(|_| experiment.sweep.is_none());
    let unused: Vec<String> = single.into_iter().flat_map(Spec::unused).collect();
    let shown: Vec<_> = differences
        .iter()
        .filter(|it| it.field != "description")
        .map(|it| {
            let origin = experiment.origin(&it.field).into_iter();
            let unused = unused.contains(&it.field).then_some("without effect here");
            let origin = origin.chain(unused).collect::<Vec<_>>().join(", ");
            let [default, value] = it.as_yaml();
            let value = format!("{}: {value}", it.field);
            (value, format!("default {default}"), origin)
        })
        .collect();
    if shown.is_empty() {
        return Ok("all fields have their defaults\n".to_owned());
    }
    let width =
        |of: fn(&(String, String, String)) -> usize| shown.iter().map(of).max().unwrap_or(0);
    let (value_width, default_width) = (
        width(|(value, ..)| value.chars().count()),
        width(|(_, default, _)| default.chars().count()),
    );
    let mut text = "differs from the defaults:\n".to_owned();
    for (value, default, origin) in &shown {
        writeln!(
            text,
            "  {value:value_width$}  {default:default_width$}  {origin}"
        )?;
    }
    Ok(text)
}

/// Where the images come from, and the number of those in the training files.
fn describe(plan: &Plan, spec: &Spec) -> Result<(String, usize)> {
    let folder = spec.data.folder.display();
    let images = match spec.data.source {
        Source::Synthetic => spec.data.synthetic.train_images,
        Source::Cifar10 => CIFAR10_IMAGES,
    };
    Ok(match plan {
        Plan::Take(dataset) => {
            let images = data::count_training_images(dataset)?;
            (
                format!("{}, {images} training images", dataset.display()),
                images,
            )
        }
        Plan::Download => (format!("to be downloaded into {folder} (170 MB)"), images),
        Plan::Generate => (format!("to be generated in {folder}"), images),
    })
}

/// The device of a run of this spec, whose devices are all there.
fn device(spec: &Spec, machine: &Machine) -> Result<String> {
    machine.evaluation_device(spec)?;
    let all = Launch::on_one_host(spec.compute.ranks());
    machine.training_devices(&spec.compute, &all)?;
    machine.device("compute.device", &spec.compute.device)
}

/// The points of a sweep, and how long all will take.
fn points(
    sweep: &Sweep,
    shown: usize,
    steps: &[u64],
    device: &str,
    paces: Option<&Paces>,
) -> Result<String> {
    let definition = &sweep.definition;
    let fields = definition.fields();
    let labels = sweep::labels(&fields);
    let mut head = vec!["point".to_owned()];
    head.extend(labels.iter().map(|(_, label)| label.clone()));
    head.extend(["seed".to_owned(), "steps".to_owned()]);
    let mut rows = vec![head];
    for (point, steps) in sweep.points.iter().zip(steps).take(shown) {
        let value = |field: &&str| point.set.get(*field).map_or("-".to_owned(), sweep::plain);
        let mut row = vec![format!("{:03}", point.number)];
        row.extend(fields.iter().map(value));
        row.extend([point.seed.to_string(), steps.to_string()]);
        rows.push(row);
    }
    let (points, seeds) = (sweep.points.len(), definition.seeds.len());
    let total = definition.steps(steps);
    let mut text = format!(
        "sweep: {} of {} with {} each: {}, {} at once\n",
        definition.method.name(),
        count(points / seeds, "setting"),
        count(seeds, "seed"),
        count(points, "point"),
        sweep.at_once()
    );
    let room = console::columns().map(|columns| columns.saturating_sub(4)); // beside `#   `
    for line in overview::table(rows, &[], room) {
        writeln!(text, "  {line}")?;
    }
    if points > shown {
        writeln!(text, "  and {} more; with -v all are shown", points - shown)?;
    }
    if let Some(halving) = definition.early_terminate {
        let mut rungs = definition.stages(steps);
        rungs.pop(); // to the end
        let rungs: Vec<String> = rungs.iter().map(|stage| stage.until.to_string()).collect();
        match rungs.is_empty() {
            true => writeln!(text, "halving: nothing is compared before the end")?,
            false => writeln!(
                text,
                "halving: the best 1/{} go on at {} steps",
                halving.eta,
                rungs.join(", ")
            )?,
        }
    }
    let images = match sweep.base.data.validation_images {
        0 => "test images, as there are no data.validation_images",
        _ => "validation images",
    };
    writeln!(text, "ranked by the {images}")?;
    let metric = definition.metric;
    let (name, goal) = match metric.name {
        MetricName::Accuracy => ("accuracy", "highest"),
        MetricName::Loss => ("loss", "lowest"),
    };
    let of = metric.of.name();
    writeln!(text, "metric: the {of} {name} of a point, the {goal} first")?;
    if let Some(target) = definition.target {
        writeln!(text, "target: {target}, at which all points stop")?;
    }
    let on_failure = match definition.on_failure {
        OnFailure::Continue => "the others go on",
        OnFailure::Stop => "all points stop",
    };
    writeln!(text, "when a point fails: {on_failure}")?;
    let on_gpu = DeviceName::is_gpu(device);
    if !on_gpu {
        writeln!(text, "{}", threads(sweep))?;
    }
    let Some(paces) = paces else {
        text += "disk and time: not estimated for a network of so many weights\n";
        return Ok(text);
    };
    writeln!(
        text,
        "disk: about {} kept in all",
        bytes(paces.disk(sweep, steps))
    )?;
    let told = match on_gpu {
        true => format!(" {} at once,", sweep.at_once()),
        false => String::new(),
    };
    let [training, evaluation, starts] = seconds(paces, sweep, steps, device);
    writeln!(
        text,
        "time: about {} for {total} steps in all,{told} as {paces} just now on {device}; {} of it for evaluations \
         and {} for the start of processes",
        estimate::duration(training + evaluation + starts),
        estimate::duration(evaluation),
        estimate::duration(starts)
    )?;
    Ok(text)
}

/// About how long the points of a sweep take: their steps, their evaluations, and the start of their processes.
fn seconds(paces: &Paces, sweep: &Sweep, steps: &[u64], device: &str) -> [f64; 3] {
    // The cores are shared, GPUs are not.
    let at_once = match DeviceName::is_gpu(device) {
        true => sweep.at_once() as f64,
        false => 1.0,
    };
    paces.seconds(sweep, steps).map(|seconds| seconds / at_once)
}

/// Cores of this machine.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// How many threads the points of a sweep have on the CPU.
fn threads(sweep: &Sweep) -> String {
    let cores = cores();
    let numbers: BTreeSet<usize> = sweep
        .specs
        .iter()
        .map(|spec| sweep.threads(spec, cores))
        .collect();
    let told: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let most = numbers.last().copied().unwrap_or(1);
    let room = (cores / most).max(1);
    let wait = match room < sweep.at_once() {
        true => format!(
            "; as {} have room for {room} at once, others wait",
            count(cores, "core")
        ),
        false => String::new(),
    };
    format!("threads: {} for each point{wait}", told.join(" or "))
}
