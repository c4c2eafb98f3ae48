//! `runboard run` and `resume`: a run directory and its processes.

use super::labels::LabelArgs;
use super::rerun;
use super::sweep;
use super::warm_start::WarmStart;
use super::{ExperimentArgs, data_error, data_from_environment, fetch, given};
use crate::compute::{Machine, machine};
use crate::data::{Fetch, Fingerprint};
use crate::error::is_user_error;
use crate::home::Home;
use crate::hparams;
use crate::launch::{Flags, Launch, Origin};
use crate::overview::RunSnapshot;
use crate::run::{self, Found, Job, Lock, Provenance, Role, RunDir, SpecChange, SupervisorStatus};
use crate::run::{EarlyStop, Journal, ProcessDir, Status, TrainStatus};
use crate::run::{commands, data as run_data};
use crate::schedule::Schedule;
use crate::shutdown::{self, Shutdown};
use crate::spec::{Experiment, Override, Spec};
use crate::supervisor::display::{Display, Verbosity};
use crate::supervisor::{self, NodeOptions, Options, Outcome};
use crate::supervisor::{supervise, supervise_ranks};
use crate::sweep::Sweep;
use crate::{bail_user, checkpoint, compute, console, data, files, slurm};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::slice;
use std::time::Duration;

/// How long a detached supervisor may take for its next sign of life until it supervises the run.
const DETACH_LIMIT: Duration = Duration::from_secs(60);

/// What a session of a run is asked for besides its spec.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Train until so many steps are done; None: to the last one.
    pub until: Option<u64>,
    /// In the background.
    pub detach: bool,
    /// How much is shown.
    pub verbosity: Verbosity,
}

/// Starts a run of an experiment, with the weights that `from` means if it is given, and with these tags and note.
pub fn run(
    runs: &Path,
    args: &ExperimentArgs,
    from: Option<&Path>,
    labels: &LabelArgs,
    launch: &Flags,
    session: Session,
) -> Result<i32> {
    shutdown::write_in_the_background()?;
    let home = Home::find()?;
    let mut experiment = args.load(&home)?;
    let fetch = fetch(experiment.fix_paths(home.path())?);
    run::check_directory(&runs.join(&experiment.name))?; // before data are fetched, say
    let job = Job::current();
    if let Some(mut sweep) = Sweep::of(&experiment, Some(machine()?.gpus))? {
        if session.until.is_some() {
            bail_user!(
                "--until: {} is a sweep; want it for a single run",
                experiment.name
            );
        }
        sweep::refuse_launcher(launch, &sweep, &experiment.name)?;
        if let Some(Found::Sweep(directory)) = begun_before(runs, &experiment.name, job.as_ref()) {
            let data = args.data.as_deref();
            return sweep::resume(directory, &[], data, false, false, launch, session);
        }
        let record = |directory: &ProcessDir| -> Result<()> {
            job.iter().try_for_each(|job| job.record(directory))?;
            labels.write(directory)
        };
        let warm_start = from.map(|from| WarmStart::find(runs, from)).transpose()?;
        if let Some(warm_start) = &warm_start {
            sweep.specs.iter().try_for_each(|it| warm_start.check(it))?;
            sweep.weights_from = Some(warm_start.origin.clone());
        }
        let (experiment, from) = (&experiment, warm_start.as_ref());
        return sweep::run(runs, experiment, &sweep, fetch, from, record, session);
    }
    let spec = &experiment.spec;
    let found = launch.find(spec, &experiment.name)?;
    check_launch(&found, session)?;
    if !found.leads() {
        // Rank 0 goes on with the spec that is frozen there, whatever has become of the experiment since.
        let begun = job.and_then(|job| job.begun(runs, &experiment.name));
        if let Some(Found::Run(run)) = begun {
            let spec = run::read_spec(&run)?;
            let found = launch.find(&spec, &run.name())?;
            return join_again(&run, spec, args.data.as_deref(), &found);
        }
        return join(&experiment, &found, fetch);
    }
    if let Some(Found::Run(run)) = begun_before(runs, &experiment.name, job.as_ref()) {
        return resume(&run, &[], args.data.as_deref(), false, launch, session);
    }
    let (flags, launch) = (launch.to_arguments(), found);
    let warm_start = from.map(|from| WarmStart::find(runs, from)).transpose()?;
    if let Some(warm_start) = &warm_start {
        warm_start.check(spec)?;
    }
    let device = machine()?.training_devices(&spec.compute, &launch)?;
    machine()?.evaluation_device(spec)?;
    let images =
        data::prepare(&spec.data, fetch).map_err(|error| data_error(error, &experiment))?;
    let fingerprint = Fingerprint::of(&images)?;
    let train_images = spec.training_images(fingerprint.train_images())?;
    check_until(session.until, spec.train.total_steps(train_images))?;
    if let Some(warm_start) = &warm_start {
        warm_start.warn_of_images(runs, [spec], &fingerprint);
    }
    let provenance = provenance(machine()?, device, Some(0)).with_origins(experiment.origins());
    let mut provenance = provenance.with_spec(spec)?;
    if let Some(warm_start) = &warm_start {
        provenance = provenance.with_weights_from(warm_start.origin.clone());
    }
    let (name, yaml) = (&experiment.name, spec.to_frozen_yaml()?);
    // The lock is held before anybody can find the run and stop it.
    let prepare = |run: &RunDir| {
        if let Some(warm_start) = &warm_start {
            warm_start.copy_into(run)?;
        }
        run_data::record(run, &spec.data.folder, fingerprint)?;
        job.iter().try_for_each(|job| job.record(run))?;
        labels.write(run)?;
        supervisor::lock(run)
    };
    let (run, lock) = RunDir::create_with(runs, name, &yaml, &provenance, prepare)?;
    start(&run, lock, launch, &flags, session)
}

/// The run or sweep that this very command has begun before, if its job was started again.
pub(super) fn begun_before(runs: &Path, name: &str, job: Option<&Job>) -> Option<Found> {
    let found = job?.begun(runs, name)?;
    console::line(format_args!(
        "this job is started again, and goes on with {}",
        found.id()
    ));
    if let Found::Run(run) = &found {
        // torchrun kills supervisors that take too long, and starts them again before what they have started has ended.
        supervisor::wait_for_orphans(run);
    }
    Some(found)
}

/// Puts this process's job back into Slurm's queue, if SIGUSR1 has stopped what it was at: its time is almost up.
pub(super) fn requeue_if_asked(stopped_by: Option<i32>) {
    if stopped_by != Some(Signal::SIGUSR1 as i32) || !slurm::is_in_a_job() {
        return;
    }
    match slurm::requeue() {
        Ok(job) => console::line(format_args!(
            "job {job} is requeued: it goes on when Slurm starts it again"
        )),
        Err(error) => console::warning(format_args!("the job is not requeued: {error:#}")),
    }
}

/// Makes sure that a session can be as it is launched, before there is anything of it.
fn check_launch(launch: &Launch, session: Session) -> Result<()> {
    match launch.origin {
        Origin::Torchrun | Origin::Slurm if session.detach => bail_user!(
            "--detach: {} started this process, and would take its part for done; want that in the background",
            launch.origin.launcher()
        ),
        _ if session.detach && !launch.leads() => bail_user!(
            "--detach: want it on host 0, which has the run directory and its logs; here, say: nohup runboard run ... >log 2>&1 &"
        ),
        _ => {}
    }
    match &launch.rendezvous {
        Some(rendezvous) if launch.leads() => rendezvous.listen().map(drop),
        _ => Ok(()),
    }
}

/// Trains with this host's ranks, which are not the first: that one's host has the run directory.
fn join(experiment: &Experiment, launch: &Launch, fetch: Fetch) -> Result<i32> {
    let (spec, name) = (&experiment.spec, &experiment.name);
    let device = machine()?.training_devices(&spec.compute, launch)?;
    let images = data::prepare(&spec.data, fetch).map_err(|error| data_error(error, experiment))?;
    join_with(spec, name, device, &images, launch)
}

/// As [`join`], of a run whose directory is here, too.
fn join_again(run: &RunDir, mut spec: Spec, folder: Option<&Path>, launch: &Launch) -> Result<i32> {
    let (folder, hint) = (given(folder), commands::resume_with_data);
    let (folder, _) = run_data::find(run, &spec.data, folder, data_from_environment, hint)?;
    spec.data.folder = folder;
    let device = machine()?.training_devices(&spec.compute, launch)?;
    let images = data::prepare(&spec.data, Fetch::Refused)?;
    join_with(&spec, &run.name(), device, &images, launch)
}

fn join_with(
    spec: &Spec,
    name: &str,
    device: String,
    images: &Path,
    launch: &Launch,
) -> Result<i32> {
    let fingerprint = Fingerprint::of(images)?;
    let program = compute::path()?;
    let scratch = files::temporary_dir("for this host's ranks")?;
    let provenance = provenance(machine()?, device, None).with_spec(spec)?;
    let record = |run: &RunDir| run_data::record(run, &spec.data.folder, fingerprint);
    let yaml = spec.to_frozen_yaml()?;
    let (run, ()) = RunDir::create_with(scratch.path(), name, &yaml, &provenance, record)?;
    let options = NodeOptions::new(spec.train.restarts, spec.compute.timeout_secs);
    let shutdown = Shutdown::counting_signals()?;
    let code = supervise_ranks(&run, &program, launch, &shutdown, options)?;
    // Slurm may end all processes of a step when one fails, and rank 0's has yet to requeue the job.
    let is_requeued = code == 128 + Signal::SIGUSR1 as i32;
    Ok(if is_requeued { 0 } else { code })
}

/// Resumes `run` with these changes of its spec; `folder` is where its images are, if it was given. Its session is
/// `recorded` in its provenance, and its data are verified, if another process has detached this one and handed it the
/// supervisor's lock.
pub fn resume(
    run: &RunDir,
    overrides: &[Override],
    folder: Option<&Path>,
    recorded: bool,
    launch: &Flags,
    session: Session,
) -> Result<i32> {
    shutdown::write_in_the_background()?;
    if recorded {
        let lock = Lock::inherited(run, Role::Supervisor);
        let lock = lock.map_or_else(|| supervisor::lock(run), Ok)?;
        let launch = launch.find(&run::read_spec(run)?, &run.name())?;
        return start(run, lock, launch, &[], session);
    }
    // An edited spec is no error if the overrides say the same.
    let spec = SpecChange::new(run, overrides)?.to;
    let found = launch.find(&spec, &run.name())?;
    if !found.leads() {
        check_launch(&found, session)?;
        return join_again(run, spec, folder, &found);
    }
    let flags = launch.to_arguments();
    let lock = supervisor::lock(run)?; // whose holder alone may change spec and record
    let change = SpecChange::new(run, overrides)?;
    let launch = launch.find(&change.to, &run.name())?;
    check_launch(&launch, session)?;
    // What is wrong with these would end the evaluator or training, and be said only then.
    Journal::read(&run.evaluations())?;
    let newest = checkpoint::latest(&run.checkpoints())?;
    let (spec, changes) = (&change.to, change.changes()?);
    let folder = given(folder);
    run_data::verify(run, &lock, &spec.data, folder, data_from_environment)?;
    let device = machine()?.training_devices(&spec.compute, &launch)?;
    machine()?.evaluation_device(spec)?;
    let images = spec.training_images(run_data::train_images(run)?)?;
    let steps = spec.train.total_steps(images);
    check_until(session.until, steps)?;
    let before = change.from.train.total_steps(images);
    if let Some(newest) = newest.as_ref().filter(|it| it.step >= before.max(steps)) {
        bail_user!(
            "{}: got a checkpoint of step {} in a run of {before} steps, want none beyond its last; move it elsewhere, or \
             --set train.steps={} if it is of this run",
            newest.path.display(),
            newest.step,
            newest.step + 1
        );
    }
    let first = newest.map_or(0, |newest| newest.step + 1);
    if first > steps && !changes.is_empty() {
        bail_user!(
            "{}: got {steps} steps in all, but {first} are trained already; want at least {first}",
            match spec.train.steps {
                Some(_) => "train.steps",
                None => "train.epochs",
            }
        );
    }
    let [before, after] = [&change.from, spec].map(|spec| Schedule::new(spec, images));
    let rates = (0..first).map(|step| (step, before.rates(step), after.rates(step)));
    if let Some((step, ..)) = rates.into_iter().find(|(_, before, after)| before != after) {
        bail_user!(
            "the schedule of {} follows from how many steps there are: in a run of {steps} steps the rates of step {step}, \
             which is trained already, are others; start a new run, which may begin with these weights: run \
             NAME --from RUN",
            run.id()
        );
    }
    let target = session.until.unwrap_or(steps);
    if first >= target {
        let then = match RunSnapshot::read(run).unscored {
            0 => "nothing is left to score",
            1 => "1 checkpoint is scored now",
            many => &format!("{many} checkpoints are scored now"),
        };
        let id = run.id();
        console::line(match first < steps {
            true => format!("{first} of {steps} steps of {id} are trained; {then}"),
            false => format!("all {steps} steps of {id} are trained; {then}"),
        });
    }
    if (1..target).contains(&first) {
        note_early_stop(run, spec, first);
        note_other_hosts(run, &change, &launch);
    }
    let provenance = provenance(machine()?, device, Some(first)).with_spec(spec)?;
    match provenance.with_changes(changes.clone()).record(run) {
        Ok(()) => change.write(run)?,
        Err(error) if changes.is_empty() => console::warning(format_args!("{error:#}")),
        Err(error) => return Err(error), // a change that no record tells of
    }
    for change in &changes {
        console::line(change);
    }
    start(run, lock, launch, &flags, session)
}

/// Says that a run whose next step is `next` will not train on by this spec, and how it would.
fn note_early_stop(run: &RunDir, spec: &Spec, next: u64) {
    // What cannot be read is for the processes to report.
    let train = TrainStatus::load(run).ok().flatten();
    let evaluations = Journal::read(&run.evaluations()).unwrap_or_default();
    let by_time = train.and_then(|train| EarlyStop::by_time(spec, train.seconds));
    let early = by_time.or_else(|| EarlyStop::by_scores(spec, next - 1, &evaluations));
    if let Some(early) = early {
        console::line(format_args!(
            "{} has stopped early, and does not train on: {early}; to go on: {}",
            run.id(),
            commands::resume_with_sets(run, slice::from_ref(&early.higher_limit))
        ));
    }
}

/// Says that ranks which other commands started have trained the run, and that this command starts none of them.
fn note_other_hosts(run: &RunDir, change: &SpecChange, launch: &Launch) {
    let train = TrainStatus::load(run).ok().flatten();
    let before = train.and_then(|train| train.ranks);
    let [own, new] = [&change.from, &change.to].map(|spec| spec.compute.ranks());
    let is_plain = launch.origin == Origin::Spec && own == new;
    if let Some(before) = before.filter(|&before| is_plain && before > new) {
        console::line(format_args!(
            "{before} processes have trained {}, and {new} will now; to train it with several hosts again, begin this \
             command on host 0 with the options that it had, such as --nnodes (docs/distributed.md)",
            run.id()
        ));
    }
}

/// Makes sure that a run of `steps` steps can be trained until `until` are done.
pub(super) fn check_until(until: Option<u64>, steps: u64) -> Result<()> {
    match until.filter(|&until| until > steps) {
        Some(until) => {
            bail_user!("--until: got {until}, want at most the {steps} steps of the run")
        }
        None => Ok(()),
    }
}

/// Records the session of a trainer that was started by hand. What keeps the trainer from starting, it says itself.
pub fn record_training(run: &RunDir, machine: &Machine) {
    let record = || -> Result<()> {
        let _supervisor = Lock::take(run, Role::Supervisor)?; // whose holder alone may write the record
        drop(Lock::take(run, Role::TRAIN)?);
        let change = SpecChange::new(run, &[])?;
        let compute = &change.to.compute;
        let launch = Launch::on_one_host(compute.ranks());
        let device = machine.training_devices(compute, &launch)?;
        let provenance = provenance(machine, device, next_step(run));
        provenance.with_spec(&change.to)?.record(run)?;
        change.write(run)
    };
    if let Err(error) = record()
        && !is_user_error(&error)
    {
        console::warning(format_args!("{error:#}"));
    }
}

/// The step that a session of training begins at, if the checkpoints can be listed.
pub(super) fn next_step(run: &RunDir) -> Option<u64> {
    let newest = checkpoint::latest(&run.checkpoints()).ok()?;
    Some(newest.map_or(0, |entry| entry.step + 1))
}

pub(super) fn provenance(machine: &Machine, device: String, first_step: Option<u64>) -> Provenance {
    Provenance::collect(Path::new("."), machine.software(device), first_step)
}

/// Goes on with what is in `directory`, a run or a sweep, whose lock this is, in a process of its own, and says how to follow
/// and to stop it.
pub(super) fn detach<S: Status>(
    directory: &ProcessDir,
    lock: Lock,
    program: &Path,
    arguments: &[OsString],
) -> Result<i32> {
    let pid = supervisor::detach::<S>(directory, lock, program, arguments, DETACH_LIMIT)?;
    console::line(format_args!(
        "started {}, detached, with pid {pid}\n  \
         to follow it   {}\n  \
         to see curves  {}\n  \
         to stop it     {}",
        directory.path().display(),
        commands::follow(&directory.log(S::ROLE)),
        commands::curves(directory),
        commands::stop(directory),
    ));
    Ok(0)
}

/// Supervises `run`, whose lock this is, here or detached; then with these options, which say how it is launched.
pub(super) fn start(
    run: &RunDir,
    lock: Lock,
    launch: Launch,
    flags: &[OsString],
    session: Session,
) -> Result<i32> {
    let path = run.path().display();
    let Session {
        until, verbosity, ..
    } = session;
    if session.detach {
        let program = env::current_exe().context("failed to find runboard's own binary")?;
        let until = until.iter().map(|it| format!("--until={it}").into());
        let arguments: Vec<OsString> = until.chain(flags.iter().cloned()).collect();
        return detach::<SupervisorStatus>(run, lock, &program, &arguments);
    }
    let spec = run::read_spec(run)?;
    let meets_others = launch.rendezvous.is_some();
    let options = Options {
        until,
        silence: meets_others.then(|| supervisor::silence(spec.compute.timeout_secs)),
        launch: (launch.origin != Origin::Spec).then_some(launch),
        ..Options::new(spec.train.restarts)
    };
    let program = compute::path()?;
    let shutdown = Shutdown::counting_signals()?;
    let mut display = Display::detect(run, verbosity);
    if !display.is_live() && verbosity != Verbosity::Quiet {
        console::line(format_args!("starting {path}"));
    }
    let summary = supervise(run, &lock, &program, &shutdown, &mut display, options)?;
    // An evaluator that was killed could not say how the run ended.
    if let Err(error) = hparams::record_missing_completion(run) {
        console::warning(format_args!("{error:#}"));
    }
    console::line(summary.text(display.columns()));
    let repeated = rerun::Outcome::of(run);
    if let Some(outcome) = &repeated {
        console::line(format_args!("repeats {outcome}"));
    }
    drop(lock); // before the job may be started again
    requeue_if_asked(match summary.outcome {
        Outcome::Stopped(signal) => Some(signal),
        _ => None,
    });
    Ok(match (summary.exit_code(), repeated) {
        (0, Some(outcome)) => outcome.exit_code(),
        (code, _) => code,
    })
}
