//! Points as jobs of Slurm, which go on when the sweep's process does not.
//!
//! No job is lost, and none runs a point beside another one, whenever the sweep's process is killed: before a job is submitted
//! its number is written down in the point's run, `submission.json`, and after that which one it is. A process that finds a
//! number without a job looks for it by name; and a job that finds another number than its own ends at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Local};

use super::submission::Submission;
use super::{End, Ended, Executor, Room, TAIL};
use crate::overview::count;
use crate::run::{Lock, Role, RunDir, SupervisorStatus};
use crate::slurm::{self, Listed};
use crate::spec::Spec;
use crate::supervisor;
use crate::sweep::definition::SlurmOptions;
use crate::sweep::{Sweep, SweepDir};

/// How often Slurm is asked how the jobs stand.
const LOOK: Duration = Duration::from_secs(5);

/// How long no other job is submitted after Slurm has refused one.
const REFUSED: Duration = Duration::from_secs(30);

/// How often in a row a job may be missing in what Slurm lists before it counts as ended.
const MISSING: u32 = 2;

/// A job that has not ended.
struct Job {
    run: RunDir,
    /// Slurm's number.
    id: String,
    before: Option<DateTime<Local>>,
    /// How often in a row Slurm has not listed it.
    missing: u32,
    /// Whether it waits to begin, and why.
    pending: Option<String>,
    /// Whether it was asked to stop.
    asked: bool,
}

/// See the module.
pub struct Slurm<'a> {
    sweep: &'a Sweep,
    id: String,
    options: &'a SlurmOptions,
    /// runboard itself.
    program: &'a Path,
    jobs: BTreeMap<usize, Job>,
    looked: Option<Instant>,
    /// Whether Slurm did not answer at the last look.
    silent: bool,
    stopping: bool,
    /// When Slurm refused another job, and why.
    refused: Option<(Instant, String)>,
}

impl<'a> Slurm<'a> {
    /// With the jobs that are there already, of earlier sessions.
    ///
    /// # Errors
    /// If Slurm does not answer.
    pub fn new(
        directory: &SweepDir,
        sweep: &'a Sweep,
        options: &'a SlurmOptions,
        program: &'a Path,
    ) -> Result<Self> {
        let mut slurm = Slurm {
            sweep,
            id: directory.id(),
            options,
            program,
            jobs: BTreeMap::new(),
            looked: None,
            silent: false,
            stopping: false,
            refused: None,
        };
        let runs = sweep.points.iter().map(|point| directory.run(point));
        let submitted = runs.enumerate().filter_map(|(point, run)| {
            let run = run?;
            Some((point, Submission::read(&run)?, run))
        });
        let submitted: Vec<(usize, Submission, RunDir)> = submitted.collect();
        if submitted.is_empty() {
            return Ok(slurm);
        }
        let listed = slurm::list()?;
        for (point, mut submission, run) in submitted {
            let is_it = |it: &&Listed| match &submission.job {
                Some(job) => it.id == *job,
                None => it.name == submission.name,
            };
            let Some(job) = listed.iter().find(is_it).filter(|job| !job.is_over()) else {
                continue;
            };
            if submission.job.is_none() {
                submission.job = Some(job.id.clone());
                submission.write(&run)?;
            }
            let mut found = Job::new(run, job.id.clone(), submission.before);
            found.note(Some(job));
            slurm.jobs.insert(point, found);
        }
        Ok(slurm)
    }

    /// Cancels the jobs that wait to begin. Returns whether there were any.
    ///
    /// # Errors
    /// If Slurm refuses.
    pub fn cancel_waiting(&mut self) -> Result<bool> {
        let waiting = self.jobs.values().filter(|job| job.pending.is_some());
        let waiting: Vec<&str> = waiting.map(|job| &*job.id).collect();
        if !waiting.is_empty() {
            slurm::run("scancel", &waiting)?;
        }
        Ok(!waiting.is_empty())
    }

    /// The cores of a point of this spec.
    fn cores(&self, spec: &Spec) -> usize {
        let wanted = spec.compute.threads.max(spec.compute.ranks()).max(1);
        self.options.cpus_per_task.unwrap_or(wanted)
    }

    /// What `sbatch` is told of a point.
    fn arguments(
        &self,
        submission: &Submission,
        run: &RunDir,
        script: &Path,
        cores: usize,
    ) -> Vec<OsString> {
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name={}", submission.name),
            "--open-mode=append".to_owned(),
            // Time for a last checkpoint before the limit; the job then puts itself back into the queue.
            "--signal=B:USR1@60".to_owned(),
            "--requeue".to_owned(),
            format!("--cpus-per-task={cores}"),
        ];
        arguments.extend(self.options.arguments());
        let output = output(&run.log(Role::Supervisor));
        let arguments = arguments.into_iter().map(OsString::from);
        let arguments = arguments.chain([output, script.as_os_str().to_owned()]);
        arguments.collect()
    }

    /// Asks those to stop that have not been asked, as they stand.
    fn ask_to_stop(&mut self) {
        for job in self.jobs.values_mut().filter(|job| !job.asked) {
            let asked = match job.pending {
                Some(_) => slurm::run("scancel", &[&job.id]),
                // The batch script is runboard, which saves a last checkpoint.
                None => slurm::run("scancel", &["--batch", "--signal=HUP", &job.id]),
            };
            job.asked = asked.is_ok(); // else it is asked again at the next look
        }
    }

    /// Takes note of how Slurm lists the jobs. Returns the ends of those that have ended.
    fn note(&mut self, listed: &[Listed]) -> Vec<End> {
        let find = |job: &Job| listed.iter().find(|it| it.id == job.id);
        let ended = self.jobs.extract_if(.., |_, job| job.note(find(job)));
        let ends = ended.map(|(point, job)| job.end(point, find(&job)));
        ends.collect()
    }
}

impl Job {
    fn new(run: RunDir, id: String, before: Option<DateTime<Local>>) -> Self {
        Job {
            run,
            id,
            before,
            missing: 0,
            pending: Some("it was just submitted".to_owned()),
            asked: false,
        }
    }

    /// Takes note of how Slurm lists it, if it does. Returns whether it has ended.
    fn note(&mut self, listed: Option<&Listed>) -> bool {
        let Some(listed) = listed else {
            self.missing += 1;
            return self.missing >= MISSING;
        };
        self.missing = 0;
        let pending = listed.is_pending().then(|| listed.reason.clone());
        // Requeued after it was asked to stop it waits to begin once more, and has yet to be cancelled.
        self.asked &= pending.is_none() || self.pending.is_some();
        self.pending = pending;
        listed.is_over()
    }

    /// Its end, as Slurm lists it, if it does.
    fn end(&self, point: usize, listed: Option<&Listed>) -> End {
        let state = listed.map(|it| &*it.state);
        let code = match state {
            Some("FAILED") => slurm::exit_code(&self.id),
            _ => None,
        };
        let how = match (state, code) {
            (Some("COMPLETED"), _) => Ended::Well,
            (Some("CANCELLED"), _) => Ended::Stopped,
            (Some("FAILED"), Some(code)) => Ended::of(Some(code)),
            (Some("OUT_OF_MEMORY" | "DEADLINE" | "LAUNCH_FAILED"), _) => Ended::Failed,
            // What the run has saved tells how far it has come.
            _ => Ended::Killed,
        };
        let state = state.unwrap_or("Slurm does not know it any more");
        let code = code.map_or(String::new(), |code| format!(", exit code {code}"));
        End {
            point,
            how,
            text: format!("its job {} ended ({state}{code})", self.id),
            log: supervisor::end_of_log(self.run.log(Role::Supervisor), TAIL),
        }
    }
}

impl Executor for Slurm<'_> {
    fn reserve(&mut self, spec: &Spec) -> Result<Option<Room>> {
        let refused = self.refused.as_ref();
        if refused.is_some_and(|(when, _)| when.elapsed() < REFUSED) {
            return Ok(None);
        }
        let threads = match spec.compute.threads {
            0 => self.cores(spec),
            threads => threads,
        };
        Ok(Some(Room {
            device: spec.compute.device.clone(),
            threads,
            slot: None,
        }))
    }

    fn start(
        &mut self,
        point: usize,
        run: &RunDir,
        lock: Option<Lock>,
        arguments: &[OsString],
        _room: Room,
    ) -> Result<Option<String>> {
        drop(lock); // the job's process takes it
        let number = self.sweep.points[point].number;
        let mut submission = Submission::next(run, &format!("{}/{number:03}", self.id));
        submission.write(run)?;
        let path = run.path().join("job.sh");
        fs::write(&path, submission.script(run, self.program, arguments))
            .with_context(|| format!("failed to write {}", path.display()))?;
        let cores = self.cores(&self.sweep.specs[point]);
        let submitted = slurm::run("sbatch", &self.arguments(&submission, run, &path, cores));
        let id = match submitted {
            Ok(id) => id,
            // As one user may have so many jobs and no more.
            Err(error) if !self.jobs.is_empty() => {
                self.refused = Some((Instant::now(), format!("{error:#}")));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.refused = None;
        // `JOB` or `JOB;CLUSTER`.
        let id = id.trim().split(';').next().unwrap_or_default().to_owned();
        if id.is_empty() {
            bail!("sbatch did not say which job it has submitted");
        }
        submission.job = Some(id.clone());
        submission.write(run)?;
        self.jobs
            .insert(point, Job::new(run.clone(), id.clone(), submission.before));
        Ok(Some(format!("as job {id}")))
    }

    fn poll(&mut self, notice: &mut dyn FnMut(&str)) -> Result<Vec<End>> {
        let is_recent = self.looked.is_some_and(|looked| looked.elapsed() < LOOK);
        if self.jobs.is_empty() || is_recent {
            return Ok(Vec::new());
        }
        self.looked = Some(Instant::now());
        let listed = match slurm::list() {
            Ok(listed) => listed,
            Err(error) => {
                if !std::mem::replace(&mut self.silent, true) {
                    notice(&format!(
                        "warning: {error:#}; Slurm is asked again, and its jobs go on"
                    ));
                }
                return Ok(Vec::new());
            }
        };
        self.silent = false;
        let ends = self.note(&listed);
        if self.stopping {
            self.ask_to_stop();
        }
        Ok(ends)
    }

    fn is_running(&self, point: usize) -> bool {
        self.jobs.contains_key(&point)
    }

    fn has_written(&self, point: usize, status: &SupervisorStatus) -> bool {
        let job = self.jobs.get(&point);
        job.is_some_and(|job| job.before != Some(status.process.started))
    }

    fn waits(&self) -> Option<String> {
        if let Some((_, why)) = &self.refused {
            return Some(format!("for Slurm to take another job ({why})"));
        }
        let pending = self.jobs.values().filter_map(|job| job.pending.as_deref());
        let pending: Vec<&str> = pending.collect();
        let jobs = count(pending.len(), "job");
        match &pending[..] {
            [] => None,
            [why, others @ ..] if others.iter().all(|it| it == why) => {
                Some(format!("for Slurm to begin {jobs} ({why})"))
            }
            _ => Some(format!("for Slurm to begin {jobs}")),
        }
    }

    fn leave(&mut self) {
        self.refused = None;
    }

    fn stop(&mut self) {
        self.leave();
        self.stopping = true;
        self.looked = None; // whether they have begun is not known yet
    }

    fn kill(&mut self) {
        self.stopping = true;
        for job in self.jobs.values_mut() {
            // Those that have begun do not save anything then.
            let _ = slurm::run("scancel", &["--full", "--signal=KILL", &job.id]);
            job.asked = slurm::run("scancel", &[&job.id]).is_ok();
        }
        self.looked = None;
    }

    fn pause(&mut self) -> bool {
        false
    }

    fn go_on(&mut self) {}
}

/// The option that names a job's log. Slurm replaces what follows a % in it.
fn output(log: &Path) -> OsString {
    let bytes = log.as_os_str().as_bytes();
    let escaped = bytes.iter().flat_map(|byte| match byte {
        b'%' => vec![b'%'; 2],
        byte => vec![*byte],
    });
    OsString::from_vec([&b"--output="[..], &escaped.collect::<Vec<u8>>()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::provenance;

    #[test]
    fn job_that_requeues_itself_after_it_was_asked_to_stop_is_asked_once_more() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let mut job = Job::new(run, "7".to_owned(), None);
        let mut asked_after = |state: &str| {
            let listed = Listed {
                id: "7".to_owned(),
                state: state.to_owned(),
                reason: String::new(),
                name: String::new(),
            };
            assert!(!job.note(Some(&listed)));
            std::mem::replace(&mut job.asked, true)
        };
        let states = ["PENDING", "PENDING", "RUNNING", "REQUEUED", "PENDING"];
        let asked = states.map(&mut asked_after);
        assert_eq!(asked, [false, true, true, false, true]);
    }
}
