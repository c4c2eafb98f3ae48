//! `runboard rerun`: a run once more, from the same spec, data and seed, and whether it becomes the same.

use super::run::{Session, begun_before, check_until, next_step, provenance, resume, start};
use super::{RunsArg, SessionArgs, data_from_environment, diff, given, path};
use crate::checkpoint::{self, Difference, write_weights};
use crate::compute::machine;
use crate::data::Fingerprint;
use crate::launch::{Flags, Launch, Origin};
use crate::overview::count;
use crate::run::{
    self, Found, Job, Provenance, Repetition, RunDir, RunState, Statuses, data as run_data,
    resolve_any,
};
use crate::spec::{Precision, Spec};
use crate::supervisor::display::Verbosity;
use crate::{bail_user, catalog, console, shutdown, supervisor};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value as Json, json};
use std::env;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// What to repeat.
#[derive(Args, Debug)]
#[command(after_help = "\
First lists what differs from the sessions of the other run, and whether checkpoints of the same bytes can be \
expected; at the end, whether they have them. The exit code is 1 where they were expected and differ.")]
pub struct Arguments {
    /// NAME (its latest run), NAME/TIMESTAMP, a point of a sweep as NAME/7 or NAME/TIMESTAMP/7, or a directory
    #[arg(value_parser = path())]
    run: PathBuf,
    #[command(flatten)]
    runs: RunsArg,
    /// Where the images of the run are, if they were moved; also looked for in RUNBOARD_DATA
    #[arg(long, value_name = "DIR", value_parser = path())]
    data: Option<PathBuf>,
    #[command(flatten)]
    session: SessionArgs,
}

/// Fields of which training so far depends where it diverges, or on where it computes, though a resume may change them.
const DECISIVE: [&str; 8] = [
    "compute.device",
    "compute.devices",
    "compute.process_group",
    "compute.reduce_precision",
    "compute.threads",
    "train.divergence_factor",
    "train.max_rollbacks",
    "train.on_divergence",
];

/// Starts a new run of what another one was.
pub fn rerun(arguments: &Arguments) -> Result<i32> {
    shutdown::write_in_the_background()?;
    let runs = arguments.runs.directory()?;
    let origin = match resolve_any(&runs, &arguments.run)? {
        Found::Run(run) => run,
        Found::Sweep(sweep) => {
            let id = sweep.id();
            bail_user!(
                "{id} is a sweep; want one of its points, such as {id}/1, or the experiment once more: runboard run {}",
                sweep.name()
            )
        }
    };
    let mut spec = run::read_spec(&origin)?;
    let launch = launch(&origin, &spec)?;
    let session = arguments.session.session();
    let job = Job::current();
    // Of the same name; where that is all the user says, it means the new run by then.
    if let Some(Found::Run(run)) = begun_before(&runs, &origin.name(), job.as_ref()) {
        return go_on(&run, arguments.data.as_deref(), session);
    }
    let device = machine()?.training_devices(&spec.compute, &launch)?;
    machine()?.evaluation_device(&spec)?;
    let (folder, fingerprint) = run_data::find(
        &origin,
        &spec.data,
        given(arguments.data.as_deref()),
        data_from_environment,
        run::commands::rerun_with_data,
    )?;
    spec.data.folder = std::path::absolute(&folder).context("failed to find the data")?;
    let images = spec.training_images(fingerprint.train_images())?;
    let steps = spec.train.total_steps(images);
    check_until(session.until, steps)?;
    let until = session.until.or_else(|| trained(&origin, steps));
    let weights = match origin.initial_weights() {
        path if path.exists() => Some(checkpoint::load(&path)?),
        _ => None,
    };

    let entry = catalog::Entry::of(Found::Run(origin.clone()));
    let now = provenance(machine()?, device, Some(0)).with_spec(&spec)?;
    let repetition = repetition(&origin, &spec, entry.sessions(), &now);
    if session.verbosity != Verbosity::Quiet {
        console::line(beginning(&spec, &repetition, &fingerprint)?);
        if let Some(until) = until.filter(|_| session.until.is_none()) {
            let id = origin.id();
            console::line(format_args!(
                "  until      {until} of {steps} steps, as {id} was stopped there; `runboard resume` goes on"
            ));
        }
    }
    let mut now = now
        .with_origins(entry.origins())
        .with_repetition(repetition);
    let first = entry.sessions().first();
    if let Some(origin) = first.and_then(|session| session.weights_from.clone()) {
        now = now.with_weights_from(origin);
    }
    run::check_directory(&runs.join(origin.name()))?;
    // The lock is held before anybody can find the run and stop it.
    let prepare = |run: &RunDir| {
        if let Some(weights) = &weights {
            write_weights(&run.initial_weights(), weights)?;
        }
        run_data::record(run, &spec.data.folder, fingerprint)?;
        job.iter().try_for_each(|job| job.record(run))?;
        supervisor::lock(run)
    };
    let yaml = spec.to_frozen_yaml()?;
    let (run, lock) = RunDir::create_with(&runs, &origin.name(), &yaml, &now, prepare)?;
    start(&run, lock, launch, &[], Session { until, ..session })
}

/// Goes on with a run that this very command has begun, as far as it would have gone.
fn go_on(run: &RunDir, folder: Option<&Path>, session: Session) -> Result<i32> {
    let spec = run::read_spec(run)?;
    let images = spec.training_images(run_data::train_images(run)?)?;
    let steps = spec.train.total_steps(images);
    let origin = Provenance::repetition(run).and_then(|it| origin_of(run, &it));
    let until = session.until.or_else(|| trained(&origin?, steps));
    let session = Session { until, ..session };
    resume(run, &[], folder, false, &Flags::default(), session)
}

/// How many of these steps a run has trained that was stopped, or failed, before the last one: to train on would remove the
/// checkpoints that both have. None of a run that did not end on the way, or ends there by itself.
fn trained(origin: &RunDir, steps: u64) -> Option<u64> {
    let ended = matches!(
        run::state(origin),
        Some(RunState::Stopped | RunState::Failed)
    );
    next_step(origin).filter(|trained| ended && (1..steps).contains(trained))
}

/// The ranks of the new run: as many as the other one had, in one process or in those that its spec lists.
fn launch(origin: &RunDir, spec: &Spec) -> Result<Launch> {
    let variable = |name: &str| env::var(name).ok();
    let launch = Launch::find(&Flags::default(), variable, spec, &origin.name())?;
    if launch.origin != Origin::Spec {
        bail_user!(
            "rerun starts the processes that its run's spec lists; want it alone, where no launcher starts several ({})",
            launch.origin
        );
    }
    let ranks = Statuses::read(origin).train.and_then(|train| train.ranks);
    if let Some(ranks) = ranks.filter(|ranks| *ranks != launch.world) {
        bail_user!(
            "{} was trained by {}, and its spec lists {}: a launcher started them (--nnodes, torchrun, srun), as rerun cannot; \
             want it launched so again: run {}",
            origin.id(),
            count(ranks, "rank"),
            launch.world,
            origin.name()
        );
    }
    Ok(launch)
}

/// What differs now from the sessions of the run `origin`, and whether its bytes can be expected.
fn repetition(
    origin: &RunDir,
    spec: &Spec,
    sessions: &[Provenance],
    now: &Provenance,
) -> Repetition {
    let today = diff::provenance(now);
    let before: Vec<_> = sessions.iter().map(diff::provenance).collect();
    let mut differences = Vec::new();
    let mut doubts = Vec::new();
    let mut differing = Vec::new();
    let shown = |(_, value): &(_, Option<String>)| value.clone().unwrap_or("unknown".to_owned());
    for (at, value) in today.iter().enumerate() {
        let (name, value) = (value.0, shown(value));
        let mut others: Vec<String> = Vec::new();
        for was in before.iter().map(|session| shown(&session[at])) {
            if was != value && !others.contains(&was) {
                others.push(was);
            }
        }
        if !others.is_empty() {
            differences.push(format!("{name}: {value}, was {}", others.join(" and ")));
            differing.push(name);
        }
    }
    let on_gpu = |session: &Provenance| session.software.device.contains("cuda");
    if !spec.compute.deterministic && (on_gpu(now) || sessions.iter().any(on_gpu)) {
        doubts.push("a GPU sums in no fixed order".to_owned());
    }
    if sessions.is_empty() {
        doubts.push(format!(
            "{} has no record of what it was trained by",
            origin.id()
        ));
    }
    if !origin.data().is_file() {
        doubts.push(format!("{} has no record of its images", origin.id()));
    }
    for (name, why) in [
        (
            "program",
            "what computes is of another build, or was not recorded",
        ),
        ("libtorch", "libtorch is another one"),
        ("device", "another device computes"),
        ("cpu", "another processor may round otherwise"),
    ] {
        if differing.contains(&name) {
            doubts.push(why.to_owned());
        }
    }
    // As docs/reliability.md says of runs that are resumed.
    let depends_on_threads =
        spec.compute.precision == Precision::Bf16 || spec.network.conv2.kernel != 5;
    if depends_on_threads && spec.compute.threads == 0 && differing.contains(&"cores") {
        doubts.push("in bf16 or with another second kernel than 5 x 5 the last bits depend on the number of threads".to_owned());
    }
    for change in sessions.iter().flat_map(|session| &session.changes) {
        let [from, to] = change.as_yaml();
        let field = &change.field;
        differences.push(format!(
            "{field}: {to} from the start, was {from} at first (resume --set)"
        ));
        if DECISIVE.contains(&&**field) {
            doubts.push(format!("{field} was changed on the way"));
        }
    }
    Repetition {
        run: origin.id(),
        directory: std::path::absolute(origin.path())
            .unwrap_or_else(|_| origin.path().to_owned())
            .to_string_lossy()
            .into_owned(),
        differences,
        doubts,
    }
}

/// What is said before the run starts.
fn beginning(spec: &Spec, repetition: &Repetition, data: &Fingerprint) -> Result<String> {
    let Repetition {
        run,
        differences,
        doubts,
        ..
    } = repetition;
    let mut text = format!(
        "repeats {run}: the same spec, seed {} and data {}",
        spec.seed.0,
        data.digits()?
    );
    for difference in differences {
        write!(text, "\n  differs    {difference}")?;
    }
    if differences.is_empty() {
        write!(
            text,
            "\n  differs    nothing that is recorded: commit, programs, machine"
        )?;
    }
    match doubts.is_empty() {
        true => write!(
            text,
            "\n  expected   the same bytes in checkpoints of the same steps"
        )?,
        false => write!(
            text,
            "\n  expected   the same bytes are not: {}",
            doubts.join("; ")
        )?,
    }
    Ok(text)
}

/// Whether a run that repeats another one has become the same, as far as both have checkpoints of the same steps.
pub struct Outcome {
    repetition: Repetition,
    compared: Compared,
}

enum Compared {
    /// The other run is not there any more.
    Gone,
    /// No step has a checkpoint of both that can be read.
    Nothing,
    /// All have the same bytes.
    Same(Vec<u64>),
    /// The first step of which they differ, in what, and those before it.
    Other {
        step: u64,
        difference: Difference,
        same: Vec<u64>,
    },
}

impl Outcome {
    /// That of `run`; none if it repeats nothing.
    pub fn of(run: &RunDir) -> Option<Self> {
        let repetition = Provenance::repetition(run)?;
        let compared = compared(run, &repetition);
        Some(Outcome {
            repetition,
            compared,
        })
    }

    /// For programs: which run is repeated, how far both are the same, and whether that was expected.
    pub fn json(&self) -> Json {
        let (state, same, other) = match &self.compared {
            Compared::Gone => ("gone", &[][..], None),
            Compared::Nothing => ("nothing", &[][..], None),
            Compared::Same(same) => ("same", &same[..], None),
            Compared::Other {
                step,
                difference,
                same,
            } => ("other", &same[..], Some((step, difference.to_string()))),
        };
        json!({
            "run": self.repetition.run,
            "outcome": state,
            "expected": self.repetition.doubts.is_empty(),
            "same_steps": same,
            "other_step": other.as_ref().map(|(step, _)| step),
            "difference": other.as_ref().map(|(_, difference)| difference),
        })
    }

    /// 1 where the same bytes were expected and others came.
    pub fn exit_code(&self) -> i32 {
        let is_other = matches!(self.compared, Compared::Other { .. });
        i32::from(is_other && self.repetition.doubts.is_empty())
    }
}

/// The run that `run` repeats, if it is still there.
fn origin_of(run: &RunDir, repetition: &Repetition) -> Option<RunDir> {
    let runs = run.path().ancestors().nth(2).unwrap_or(Path::new(""));
    let beside = resolve_any(runs, Path::new(&repetition.run));
    match (beside, RunDir::open(Path::new(&repetition.directory))) {
        (_, Ok(run)) | (Ok(Found::Run(run)), _) => Some(run),
        _ => None,
    }
}

fn compared(run: &RunDir, repetition: &Repetition) -> Compared {
    let Some(origin) = origin_of(run, repetition) else {
        return Compared::Gone;
    };
    let list = |run: &RunDir| checkpoint::list(&run.checkpoints()).unwrap_or_default();
    let theirs = list(&origin);
    let mut same = Vec::new();
    for ours in list(run) {
        let Some(theirs) = theirs.iter().find(|it| it.step == ours.step) else {
            continue;
        };
        // One that is damaged, or removed just now, is for others to report.
        match checkpoint::difference(&theirs.path, &ours.path) {
            Ok(None) => same.push(ours.step),
            Ok(Some(difference)) => {
                let step = ours.step;
                return Compared::Other {
                    step,
                    difference,
                    same,
                };
            }
            Err(_) => {}
        }
    }
    match same.is_empty() {
        true => Compared::Nothing,
        false => Compared::Same(same),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = &self.repetition.run;
        match &self.compared {
            Compared::Gone => write!(f, "{run}, which is not there any more to compare with"),
            Compared::Nothing => {
                write!(f, "{run}, with no checkpoint of the same step to compare")
            }
            Compared::Same(steps) => {
                write!(f, "{run}, with the same bytes at {}", listed(steps))
            }
            Compared::Other {
                step,
                difference,
                same,
            } => {
                write!(
                    f,
                    "{run}, with other bytes from step {step} on: {difference}"
                )?;
                match same.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; the same at {}", listed(same)),
                }
            }
        }
    }
}

/// Steps in words.
fn listed(steps: &[u64]) -> String {
    match steps {
        [step] => format!("step {step}"),
        [first, .., last] if steps.len() > 4 => {
            format!("{} steps from {first} to {last}", steps.len())
        }
        _ => {
            let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
            format!("steps {}", steps.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_listed_up_to_four() {
        assert_eq!(listed(&[7]), "step 7");
        assert_eq!(listed(&[0, 10]), "steps 0, 10");
        assert_eq!(listed(&[0, 10, 20, 30, 40]), "5 steps from 0 to 40");
    }
}
