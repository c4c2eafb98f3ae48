//! The job that began a run or a sweep, of torchrun or Slurm, `job.json`. Both start the commands of a job again, torchrun
//! after a failure and Slurm where the job was requeued: the run goes on then, where any other command begins a new one.
//!
//! ```text
//! {"version": 1, "names": ["torchrun, pid 77 since ...", "Slurm job 12 of cluster, step 0"], "arguments": ["run", "baseline"]}
//! ```

use std::env;
use std::path::Path;

use anyhow::Result;
use nix::unistd::getsid;
use serde::{Deserialize, Serialize};

use super::{Found, Process, ProcessDir, list};
use crate::files::{read_small, write_atomic};
use crate::proc_stat::ProcStat;

/// Version of the file.
const VERSION: u32 = 1;

/// The largest file, in bytes: it has a command line.
const MAX_BYTES: u64 = 4 << 20;

/// The file in a run's or a sweep's directory.
const FILE: &str = "job.json";

/// A command of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// One of torchrun's may be in one of Slurm's.
    names: Vec<Name>,
    /// Those of the command, of which a job may have several.
    arguments: Vec<String>,
}

/// What no other job is called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    text: String,
    /// Whether the job may have been started before.
    again: bool,
}

/// Contents of the file.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    names: Vec<String>,
    arguments: Vec<String>,
}

impl Job {
    /// That of the calling process; none if it is of no job.
    pub fn current() -> Option<Self> {
        let variable = |name: &str| env::var(name).ok();
        // torchrun starts each process in a session of its own, which a script between them shares.
        let agent = || {
            let parent = ProcStat::of(getsid(None).ok()?.as_raw())?.parent;
            Some(Process::of(parent.try_into().ok()?))
        };
        let arguments = env::args_os().skip(1);
        let arguments = arguments.map(|it| it.to_string_lossy().into_owned());
        Self::of(variable, agent, arguments.collect())
    }

    fn of(
        variable: impl Fn(&str) -> Option<String>,
        agent: impl FnOnce() -> Option<Process>,
        arguments: Vec<String>,
    ) -> Option<Self> {
        let mut names = Vec::new();
        if variable("TORCHELASTIC_RUN_ID").is_some()
            && let Some(agent) = agent()
        {
            names.push(Name {
                text: format!("torchrun, {}", agent.identity()),
                again: true, // it has one command
            });
        }
        if let Some(job) = variable("SLURM_JOB_ID") {
            let cluster = variable("SLURM_CLUSTER_NAME").unwrap_or_default();
            let step = variable("SLURM_STEP_ID");
            let step = step.map_or(String::new(), |step| format!(", step {step}"));
            let restarts = variable("SLURM_RESTART_COUNT").and_then(|it| it.parse().ok());
            names.push(Name {
                text: format!("Slurm job {job} of {cluster}{step}"),
                again: restarts.is_some_and(|restarts: u32| restarts > 0),
            });
        }
        (!names.is_empty()).then_some(Job { names, arguments })
    }

    /// Records that this job begins the run or the sweep in a directory.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record(&self, directory: &ProcessDir) -> Result<()> {
        let record = Record {
            version: VERSION,
            names: self.names.iter().map(|name| name.text.clone()).collect(),
            arguments: self.arguments.clone(),
        };
        let path = directory.path().join(FILE);
        write_atomic(&path, &serde_json::to_vec(&record)?)
    }

    /// The run or sweep of this name that the same command of this job has begun before, the newest if there are several.
    pub fn begun(&self, runs: &Path, name: &str) -> Option<Found> {
        let again: Vec<&str> = self
            .names
            .iter()
            .filter(|it| it.again)
            .map(|it| &*it.text)
            .collect();
        if again.is_empty() {
            return None;
        }
        let is_of_job = |found: &Found| {
            // What cannot be read is of no job.
            let bytes = read_small(&found.path().join(FILE), MAX_BYTES).unwrap_or_default();
            let record: Option<Record> = serde_json::from_slice(&bytes).ok();
            record.is_some_and(|it| {
                it.version == VERSION
                    && it.arguments == self.arguments
                    && it.names.iter().any(|name| again.contains(&&**name))
            })
        };
        let named = |found: &Found| found.name() == name && is_of_job(found);
        list(runs).into_iter().rfind(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunDir, provenance};
    use std::collections::HashMap;
    use std::process;

    fn job(variables: &[(&str, &str)], arguments: &[&str]) -> Option<Job> {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let arguments = arguments.iter().map(|it| (*it).to_owned()).collect();
        let agent = || Some(Process::of(process::id()));
        Job::of(
            |name| Some((*variables.get(name)?).to_owned()),
            agent,
            arguments,
        )
    }

    #[test]
    fn job_that_is_started_again_finds_the_run_that_the_same_command_has_begun() {
        let runs = tempfile::tempdir().unwrap();
        let begin = |name, job: Option<&Job>| {
            let run = RunDir::create(runs.path(), name, "", &provenance()).unwrap();
            if let Some(job) = job {
                job.record(&run).unwrap();
            }
            run.id()
        };
        let slurm = [("SLURM_JOB_ID", "7"), ("SLURM_STEP_ID", "0")];
        let requeued = [&slurm[..], &[("SLURM_RESTART_COUNT", "1")]].concat();
        let torchrun = [("TORCHELASTIC_RUN_ID", "none")];
        let command = ["run", "a"];
        assert_eq!(job(&[], &command), None);
        let first = job(&slurm, &command).unwrap();
        let found = |job: Option<Job>| job.unwrap().begun(runs.path(), "a").map(|it| it.id());
        assert_eq!(found(job(&requeued, &command)), None);
        let id = begin("a", Some(&first));
        begin("a", None);
        begin("b", Some(&first));
        assert_eq!(found(job(&slurm, &command)), None);
        assert_eq!(found(job(&requeued, &command)), Some(id.clone()));
        assert_eq!(found(job(&requeued, &["run", "a", "--quiet"])), None);
        let other = [("SLURM_JOB_ID", "8"), ("SLURM_RESTART_COUNT", "1")];
        assert_eq!(found(job(&other, &command)), None);
        // torchrun in the job that was requeued is another one.
        let both = [&requeued[..], &torchrun].concat();
        assert_eq!(found(job(&both, &command)), Some(id));
        assert_eq!(found(job(&torchrun, &command)), None);
        let id = begin("a", job(&torchrun, &command).as_ref());
        assert_eq!(found(job(&torchrun, &command)), Some(id));
    }
}
