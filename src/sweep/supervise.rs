//! The process of a sweep: starts the supervisors of its points as [`schedule::next`] says, watches them, and ends with them.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::definition::Launcher;
use super::display::Display;
use super::executor::{self, Ended, Executor};
use super::images::SweepImages;
use super::progress::Progress;
use super::results::{self, Results};
use super::schedule::{self, Decision, End, Next, PointState, Reason, Start};
use super::{Point, Sweep, SweepDir, csv, table};
use crate::compute::Machine;
use crate::files::write_atomic;
use crate::overview::unscored;
use crate::run::{
    self, Lock, Process, ProcessState, Provenance, Role, RunDir, Status, StopRequests,
    SupervisorStatus, SweepStatus, TrainStatus, data,
};
use crate::shutdown::{Shutdown, can_go_on_after_a_pause, stop_like_a_terminal};
use crate::spec::Spec;
use crate::{bail_user, checkpoint, paths, supervisor};

/// How often the points are looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often the status is written, and the points that run are read.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often the tables are written at most: with thousands of points that takes its time.
const REWRITE: Duration = Duration::from_secs(3);

/// How often in a row, with nothing new trained or scored between, a point is started whose supervisor was killed or did
/// nothing.
const ATTEMPTS: u32 = 3;

/// How many lines of its trainer's log are shown at most of a point that fails, while its evaluator is at work.
const TRAINER_TAIL: usize = 10;

/// What a session of a sweep needs.
#[derive(Debug)]
pub struct Session<'a> {
    pub directory: &'a SweepDir,
    pub sweep: &'a Sweep,
    pub images: &'a SweepImages,
    /// What computes, and on what.
    pub machine: &'a Machine,
    /// Whether points that failed are tried again.
    pub retry_failed: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the schedule says.
    Over(Reason),
    /// By this signal.
    Stopped(i32),
    /// Nothing is left but points that somebody has stopped, or that could not be started.
    Waiting,
}

/// Runs what is missing of a sweep, whose lock this is, and returns when nothing is left to do, or a stop was asked for
/// and all points have ended. `executor` runs them. Some of an earlier session may be there already.
///
/// - The first request to stop is passed on to the points, and they take their time to end well. When it is forced they end
///   at once. So `shutdown` must count, see [`Shutdown::counting_signals`].
/// - A point that failed stays so, unless it is to be retried. One whose supervisor was killed is resumed.
///
/// # Errors
/// If a point cannot be started for a reason that all would meet, such as a full disk, or a decision cannot be written.
/// What goes wrong in a point is no error here.
pub fn supervise(
    session: &Session,
    executor: &mut dyn Executor,
    lock: &Lock,
    shutdown: &Shutdown,
    display: &mut Display,
) -> Result<(Outcome, Vec<Progress>, Vec<Decision>)> {
    let _requests = StopRequests::watch(lock, shutdown)?;
    let mut status = SweepStatus::new(Process::current());
    status.process.state = ProcessState::Running;
    status.save(session.directory)?;
    let mut supervisor = Supervisor::new(session, executor, status)?;
    let result = supervisor.supervise(shutdown, display);
    display.finish();
    // A session that was killed may not have come to it.
    supervisor.write_results(display);
    let (state, error) = match &result {
        Err(error) => (ProcessState::Failed, Some(format!("{error:#}"))),
        Ok(Outcome::Over(_)) => (ProcessState::Finished, None),
        Ok(Outcome::Stopped(_) | Outcome::Waiting) => (ProcessState::Stopped, None),
    };
    let process = &mut supervisor.status.process;
    (process.state, process.error) = (state, error);
    if let Err(error) = supervisor.status.save(session.directory) {
        display.note(&format!("warning: {error:#}")); // the sweep itself is as it is
    }
    result.map(|outcome| (outcome, supervisor.progress, supervisor.decisions))
}

struct Supervisor<'a> {
    session: &'a Session<'a>,
    executor: &'a mut dyn Executor,
    id: String,
    points: Vec<PointSession>,
    /// How far each point has come.
    progress: Vec<Progress>,
    decisions: Vec<Decision>,
    status: SweepStatus,
    /// Why no more points are started.
    over: Option<Reason>,
    /// Whether the points were ended at once.
    forced: bool,
    /// When the tables were written last, and whether they are older than the points.
    written: Option<Instant>,
    outdated: bool,
    looked: Option<Instant>,
}

/// What this session knows of a point.
#[derive(Default)]
struct PointSession {
    /// How many steps it trains in all.
    steps: u64,
    exception: Option<Exception>,
    /// How often it was started with nothing new trained or scored since.
    attempts: u32,
    /// Steps done and scores there when it was started last.
    before: (u64, usize),
    /// Whether it was told that its trainer has failed, whose last checkpoints are still scored.
    failure_told: bool,
}

/// Why a point is started, or not, otherwise than its run says.
enum Exception {
    /// It has ended in an earlier session and is started all the same: it failed and is to be tried again, or it has checkpoints
    /// that nobody has scored.
    Again,
    /// Somebody stopped it, who may resume it.
    LeftAlone,
    /// This keeps it from being started, of which its run says nothing.
    CannotStart(String),
}

impl<'a> Supervisor<'a> {
    fn new(
        session: &'a Session<'a>,
        executor: &'a mut dyn Executor,
        status: SweepStatus,
    ) -> Result<Self> {
        let mut points = Vec::new();
        let mut progress = Vec::new();
        let images = session.images.fingerprint().train_images();
        let steps = session.sweep.steps(images)?;
        for (point, steps) in session.sweep.points.iter().zip(steps) {
            let run = session.directory.run(point);
            let read = Progress::of(session.sweep, point, run.as_ref(), Some(steps));
            let again = match read.end {
                Some(end) if end.is_failure() => session.retry_failed,
                // One whose journal was removed, say.
                Some(_) => run.as_ref().map_or(0, unscored) > 0,
                None => false,
            };
            points.push(PointSession {
                steps,
                exception: again.then_some(Exception::Again),
                ..PointSession::default()
            });
            progress.push(read);
        }
        Ok(Supervisor {
            id: session.directory.id(),
            points,
            progress,
            decisions: session.directory.decisions(session.sweep)?,
            session,
            executor,
            status,
            over: None,
            forced: false,
            written: None,
            outdated: false,
            looked: None,
        })
    }

    fn supervise(&mut self, shutdown: &Shutdown, display: &mut Display) -> Result<Outcome> {
        loop {
            if shutdown.take_pause() {
                self.pause(display);
            }
            self.forward_stop(shutdown, display);
            let has_changed = self.reap(display)? | self.look(display);
            if has_changed && !self.status.stopping && self.over.is_none() {
                self.advance(display)?;
            }
            if has_changed {
                self.status.waiting = self.executor.waits();
                display.waits(self.status.waiting.clone());
            }
            let is_recent = |written: Instant| written.elapsed() < REWRITE;
            if self.outdated && !self.written.is_some_and(is_recent) {
                self.write_results(display);
            }
            display.update(&self.results(), self.status.stopping);
            if !(0..self.points.len()).any(|index| self.executor.is_running(index)) {
                if let Some(reason) = self.over {
                    return Ok(Outcome::Over(reason));
                }
                if let Some(signal) = shutdown.requested().filter(|_| self.status.stopping) {
                    return Ok(Outcome::Stopped(signal));
                }
                if self.only_withheld() {
                    return Ok(Outcome::Waiting);
                }
            }
            thread::sleep(POLL);
        }
    }

    fn results(&self) -> Results<'_> {
        Results {
            id: &self.id,
            sweep: self.session.sweep,
            progress: &self.progress,
            decisions: &self.decisions,
        }
    }

    /// Reads how far the points are that run, of this session and of others, and writes the status, if it is time for it.
    fn look(&mut self, display: &mut Display) -> bool {
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < HEARTBEAT)
        {
            return false;
        }
        self.looked = Some(Instant::now());
        for index in 0..self.points.len() {
            let is_under_way = self.progress[index].is_under_way();
            let is_damaged = self.progress[index].damage.is_some(); // which somebody may mend
            if self.executor.is_running(index) || is_under_way || is_damaged {
                self.read(index);
                self.tell_failure(index, display);
            }
        }
        // On a full disk it is tried again at the next look.
        let _ = self.status.save(self.session.directory);
        true
    }

    fn read(&mut self, index: usize) {
        let point = &self.session.sweep.points[index];
        let run = self.session.directory.run(point);
        let mut progress = Progress::of(
            self.session.sweep,
            point,
            run.as_ref(),
            Some(self.points[index].steps),
        );
        let is_running = self.executor.is_running(index);
        let exception = &mut self.points[index].exception;
        match exception {
            Some(Exception::CannotStart(error)) => {
                progress.end = Some(End::Failed);
                progress.error = Some(error.clone());
            }
            // Whoever stopped it has resumed it, and it has ended.
            Some(Exception::LeftAlone) if !is_running && progress.end.is_some() => {
                *exception = None;
            }
            _ => {}
        }
        if let Some(run) = run.as_ref().filter(|_| is_running) {
            // What it said before may be of an earlier session.
            (progress.end, progress.error) = match self.failed_trainer(index, run) {
                Some((end, error)) => (Some(end), error),
                None => (None, None),
            };
        }
        self.progress[index] = progress;
    }

    /// Says, once, that a point fails whose supervisor is still there: its evaluator may have many checkpoints to score.
    fn tell_failure(&mut self, index: usize, display: &mut Display) {
        let (state, progress) = (&mut self.points[index], &self.progress[index]);
        let is_failure = progress.has_failed();
        if !self.executor.is_running(index)
            || !is_failure
            || std::mem::replace(&mut state.failure_told, true)
        {
            return;
        }
        let point = &self.session.sweep.points[index];
        let run = self.session.directory.run(point);
        let log = run.map(|run| run.log(Role::TRAIN));
        let lines = log.map_or_else(Vec::new, |log| supervisor::end_of_log(log, TRAINER_TAIL));
        let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
        let error = progress.error.as_deref();
        display.note(&format!(
            "{}: {} after {} of {} steps: {}; what it has saved is still scored; the end of its train.log:{lines}",
            point.name,
            results::state(progress, None),
            progress.done,
            state.steps,
            error.unwrap_or("the trainer died and is not started again"),
        ));
    }

    /// How the trainer of a point that runs ended, and its error, if it has failed and the supervisor will not start it again.
    /// The supervisor's word comes first: after it, the trainer's does not change.
    fn failed_trainer(&self, index: usize, run: &RunDir) -> Option<(End, Option<String>)> {
        let supervisor = SupervisorStatus::load(run).ok().flatten()?;
        if !self.executor.has_written(index, &supervisor)
            || supervisor.training
            || supervisor.stopping
        {
            return None;
        }
        let train = TrainStatus::load(run).ok().flatten()?;
        let end = match train.observed(run) {
            ProcessState::Diverged => End::Diverged,
            state if state.is_failure() => End::Failed,
            _ => return None,
        };
        Some((end, train.process.error))
    }

    fn states(&self) -> Vec<PointState> {
        let metric = self.session.sweep.definition.metric;
        let all = self.points.iter().zip(&self.progress).enumerate();
        all.map(|(index, (point, progress))| {
            let mut state = progress.point_state(point.steps, metric);
            state.running |= self.executor.is_running(index);
            match point.exception {
                Some(Exception::Again) => state.end = None,
                Some(Exception::LeftAlone | Exception::CannotStart(_)) => state.withheld = true,
                None => {}
            }
            state
        })
        .collect()
    }

    /// Whether there is nothing that could go on without somebody who resumes what they stopped.
    fn only_withheld(&self) -> bool {
        let all = self.points.iter().zip(&self.progress);
        let mut running = all.filter(|(_, progress)| progress.is_under_way());
        self.states().iter().any(|state| state.withheld)
            && running.next().is_none()
            && self.next() == Next::Start(Vec::new())
    }

    /// What the schedule says.
    fn next(&self) -> Next {
        let Sweep {
            definition, points, ..
        } = self.session.sweep;
        schedule::next(definition, points, &self.states(), &self.decisions)
    }

    /// Does what the schedule says.
    fn advance(&mut self, display: &mut Display) -> Result<()> {
        loop {
            match self.next() {
                Next::Decide(decision) => {
                    self.session.directory.decide(&decision)?;
                    display.note(&self.told(&decision));
                    self.decisions.push(decision);
                    self.outdated = true;
                }
                Next::End(reason) => {
                    self.over = Some(reason);
                    self.executor.stop();
                    return Ok(());
                }
                Next::Start(starts) => {
                    if starts.is_empty() {
                        self.executor.leave();
                    }
                    for start in starts {
                        if !self.start(start, display)? {
                            break;
                        }
                    }
                    return Ok(());
                }
            }
        }
    }

    /// A decision, for people.
    fn told(&self, decision: &Decision) -> String {
        let point = |number: &usize| self.session.sweep.point(*number);
        let name = |number| point(number).map_or("", |point| point.name.as_str());
        match decision {
            Decision::Halving {
                steps, go_on, stop, ..
            } => format!(
                "at {steps} steps {} of {} points go on; the best is {}",
                go_on.len(),
                go_on.len() + stop.len(),
                go_on.first().map_or("", name)
            ),
            Decision::Target {
                point,
                step,
                score,
                target,
                ..
            } => format!(
                "{}: {score:.4} at step {step} reaches the target, {target}",
                name(point)
            ),
        }
    }

    /// Starts a point, or lets it go on. Returns whether there was a slot for it.
    fn start(&mut self, start: Start, display: &mut Display) -> Result<bool> {
        let session = self.session;
        let numbered = |point: &Point| point.number == start.point;
        let index = session.sweep.points.iter().position(numbered);
        let index = index.context("the schedule named a point that is not there")?;
        let (point, spec) = (&session.sweep.points[index], &session.sweep.specs[index]);
        let begun = session.directory.run(point);
        if begun.as_ref().is_some_and(supervisor::is_locked) {
            // By processes of a session that was killed, which are about to end, or of somebody who has resumed it.
            let was_under_way = self.progress[index].is_under_way();
            self.read(index);
            if self.progress[index].is_under_way() && !was_under_way {
                display.line(&format!(
                    "{}: processes of it are at work, which this session has not started; their end is waited for",
                    point.name
                ));
            }
            return Ok(true);
        }
        let Some(room) = self.executor.reserve(spec)? else {
            return Ok(false);
        };
        // Its processes have logs of their own.
        let mut arguments: Vec<OsString> = vec!["--quiet".into()];
        let (run, lock) = match begun {
            Some(run) => {
                // One that is none is for its own process to report.
                let before = run::read_spec(&run).map(|spec| spec.compute);
                let mut set = |field: &str, value: &dyn fmt::Display| {
                    arguments.extend(["--set".into(), format!("{field}={value}").into()]);
                };
                if let Ok(before) = before {
                    if before.device != room.device {
                        set("compute.device", &room.device);
                    }
                    if before.threads != room.threads {
                        set("compute.threads", &room.threads);
                    }
                }
                if let Some(given) = session.images.given() {
                    arguments.extend(["--data".into(), paths::unexpanded(given).into()]);
                }
                (run, None)
            }
            None => {
                let mut spec = spec.clone();
                spec.compute.device.clone_from(&room.device);
                spec.compute.threads = room.threads;
                let (run, lock) = self.create(point, &spec)?;
                (run, Some(lock))
            }
        };
        arguments.extend(start.until.map(|until| format!("--until={until}").into()));
        let started = self.executor.start(index, &run, lock, &arguments, room)?;
        let Some(place) = started else {
            return Ok(false);
        };
        let progress = &self.progress[index];
        let before = (progress.done, progress.evaluations.len());
        let verb = if progress.state.is_some() {
            "resumed"
        } else {
            "started"
        };
        let state = &mut self.points[index];
        (state.exception, state.failure_told) = (None, false);
        // Those of an earlier session, which is over.
        let progress = &mut self.progress[index];
        (progress.end, progress.error) = (None, None);
        state.attempts = if state.before == before {
            state.attempts + 1
        } else {
            1
        };
        state.before = before;
        let until = start.until.map_or(String::new(), |until| {
            format!(", until {until} steps are done")
        });
        display.line(&format!("{}: {verb} {place}{until}", point.name));
        Ok(true)
    }

    /// The run of a point that has none yet, and its supervisor's lock.
    fn create(&self, point: &Point, spec: &Spec) -> Result<(RunDir, Lock)> {
        let session = self.session;
        let path = session.directory.point(point);
        remove_half_made(&path)?;
        let device = match session.sweep.definition.launcher {
            Launcher::Local => session
                .machine
                .device("compute.device", &spec.compute.device)?,
            // Each session of a job records which one it has.
            Launcher::Slurm(_) => spec.compute.device.clone(),
        };
        let software = session.machine.software(device);
        let provenance = Provenance::collect(Path::new("."), software, Some(0));
        let mut provenance = provenance.with_spec(spec)?;
        if let Some(origin) = &session.sweep.weights_from {
            provenance = provenance.with_weights_from(origin.clone());
        }
        let fingerprint = session.images.fingerprint().clone();
        let folder = session.images.folder(&spec.data);
        RunDir::create_at(&path, &spec.to_frozen_yaml()?, &provenance, |run| {
            if session.sweep.weights_from.is_some() {
                let weights = checkpoint::load(&session.directory.initial_weights())?;
                checkpoint::write_weights(&run.initial_weights(), &weights)?;
            }
            data::record(run, folder, fingerprint)?;
            run::record_swept_fields(run, &session.sweep.definition.fields())?;
            supervisor::lock(run)
        })
    }

    /// Notes what has become of the points that have ended. Returns whether there are any.
    fn reap(&mut self, display: &mut Display) -> Result<bool> {
        let ends = self.executor.poll(&mut |notice| display.note(notice))?;
        for end in &ends {
            self.ended(end, display);
            self.outdated = true;
        }
        Ok(!ends.is_empty())
    }

    fn ended(&mut self, ended: &executor::End, display: &mut Display) {
        let index = ended.point;
        self.read(index);
        let point = &self.session.sweep.points[index];
        let name = &point.name;
        // The closing lines after it are of the run alone.
        let lines = ended.log.iter().take_while(|line| !line.is_empty());
        let log: String = lines.map(|line| format!("\n  {line}")).collect();
        let progress = &self.progress[index];
        let (done, steps) = (progress.done, self.points[index].steps);
        let end = results::state(progress, None);
        match (progress.end, ended.how) {
            (Some(failure), _) if failure.is_failure() && self.points[index].failure_told => {
                let path = self.session.directory.point(point);
                display.line(&format!(
                    "{name}: {end} after {done} of {steps} steps; more in {}",
                    path.join("supervisor.log").display()
                ));
            }
            _ if progress.damage.is_some() => {
                let damage = progress.damage.as_deref().unwrap_or_default();
                display.note(&format!("{name}: {end}: {damage}"));
            }
            (Some(End::Diverged), _) => {
                let error = progress.error.as_deref().unwrap_or_default();
                display.note(&format!("{name}: {end}: {error}"));
            }
            (Some(End::Failed), _) => {
                let path = self.session.directory.point(point);
                display.note(&format!(
                    "{name}: {end} after {done} of {steps} steps; its supervisor.log in {}:{log}",
                    path.display()
                ));
            }
            (Some(_), _) => {
                let judged = self.results().judged()(point, progress)
                    .map(|(evaluation, score)| format!(": {score:.4} at step {}", evaluation.step));
                let minutes = progress.seconds / 60.0;
                display.line(&format!(
                    "{name}: {end}{}, {minutes:.1} minutes",
                    judged.unwrap_or_default()
                ));
            }
            (None, _) if self.status.stopping || self.over.is_some() => {
                display.line(&format!("{name}: stopped after {done} of {steps} steps"));
            }
            // Somebody else is at it.
            (None, _) if progress.is_under_way() => {}
            (None, Ended::Well)
                if (done, progress.evaluations.len()) != self.points[index].before =>
            {
                display.line(&format!(
                    "{name}: {done} of {steps} steps are done and scored"
                ));
            }
            (None, Ended::Stopped) => {
                self.points[index].exception = Some(Exception::LeftAlone);
                display.note(&format!(
                    "{name}: stopped by somebody after {done} of {steps} steps; this session leaves it so"
                ));
            }
            // Its supervisor was killed, or it had nothing to do.
            (None, Ended::Killed | Ended::Well) if self.points[index].attempts < ATTEMPTS => {
                display.note(&format!("{name}: {}; it is resumed", ended.text));
            }
            (None, _) => {
                let error = ended.text.clone();
                display.note(&format!("{name}: failed: {error}{log}"));
                self.points[index].exception = Some(Exception::CannotStart(error));
                self.read(index);
            }
        }
    }

    /// Passes on to the points that a stop was requested, or forced.
    fn forward_stop(&mut self, shutdown: &Shutdown, display: &mut Display) {
        if shutdown.forced() && !self.forced {
            self.forced = true;
            self.executor.leave();
            self.executor.kill();
            display.note("ending at once");
        } else if shutdown.requested().is_some() && !self.status.stopping {
            self.executor.stop();
            display.note("stopping after a last checkpoint of each point; ask again to end at once, without it");
        } else {
            return;
        }
        self.status.stopping = true;
        self.looked = None;
    }

    /// Pauses all points until this process goes on.
    fn pause(&mut self, display: &mut Display) {
        if !can_go_on_after_a_pause() {
            display.note(
                "not paused: there is no shell here that would let it go on; Ctrl-C stops the sweep",
            );
            return;
        }
        display.pause(match self.executor.pause() {
            true => "paused; to go on: fg",
            false => "paused; jobs that were submitted go on; to go on: fg",
        });
        // All of this process's threads stop here.
        let _ = stop_like_a_terminal();
        self.executor.go_on();
        display.note("going on");
    }

    /// Writes the tables. They can be written again from the points at any time.
    fn write_results(&mut self, display: &mut Display) {
        (self.written, self.outdated) = (Some(Instant::now()), false);
        let (directory, results) = (self.session.directory.path(), self.results());
        for (name, text) in [
            ("results.csv", csv::csv(&results)),
            ("results.md", table::markdown(&results)),
        ] {
            if let Err(error) = write_atomic(&directory.join(name), text.as_bytes()) {
                display.note(&format!("warning: {error:#}"));
            }
        }
    }
}

/// Removes what a kill left of a run that was being made. It is no run before its spec is there, and nobody works in it.
fn remove_half_made(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let run = path.join("checkpoints");
    if checkpoint::latest(&run).is_ok_and(|found| found.is_some()) {
        bail_user!(
            "{} has checkpoints and no spec.yaml; want both, or nothing there",
            path.display()
        );
    }
    fs::remove_dir_all(path).with_context(|| format!("failed to remove {}", path.display()))
}
