//! Slurm's commands, as far as a process of a job or of a sweep uses them.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::user_error;

/// The states of a job in which it does not run any more, and never will.
const OVER: [&str; 11] = [
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "PREEMPTED",
    "NODE_FAIL",
    "BOOT_FAIL",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "REVOKED",
    "LAUNCH_FAILED",
];

/// A job as Slurm lists it.
#[derive(Debug, PartialEq)]
pub struct Listed {
    /// Its number.
    pub id: String,
    /// Such as `RUNNING`.
    pub state: String,
    /// Why it waits, if it does.
    pub reason: String,
    pub name: String,
}

impl Listed {
    /// Those in the lines that [`list`] asks for.
    fn parse(text: &str) -> Vec<Self> {
        let lines = text.lines().filter_map(|line| {
            let mut parts = line.splitn(4, '|').map(|part| part.trim().to_owned());
            Some(Listed {
                id: parts.next()?,
                state: parts.next()?,
                reason: parts.next()?,
                name: parts.next()?,
            })
        });
        lines.collect()
    }

    /// Whether it does not run any more, and never will.
    pub fn is_over(&self) -> bool {
        OVER.contains(&&*self.state)
    }

    /// Whether it waits to begin, for the first time or again.
    pub fn is_pending(&self) -> bool {
        self.state == "PENDING" || self.state.starts_with("REQUEUE")
    }
}

/// Put the job that this process is of back into the queue. Slurm ends it, and starts it again later, with the same number.
///
/// # Errors
/// If this process is of no job, or Slurm refuses: the job is interactive, or was submitted with `--no-requeue`.
pub fn requeue() -> Result<String> {
    let Some(job) = own_job(|name| env::var(name).ok()) else {
        bail!("this process is of no job of Slurm (SLURM_JOB_ID is not set)");
    };
    run("scontrol", &["requeue", &job])?;
    Ok(job)
}

/// What `scontrol` knows the job by that this process is of. One element of an array has the number of the whole array as its
/// own, by which all of them would be requeued.
fn own_job(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let job = variable("SLURM_JOB_ID")?;
    let array = ["SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"].map(variable);
    Some(match array {
        [Some(array), Some(task)] => format!("{array}_{task}"),
        _ => job,
    })
}

/// Whether this process is of a job of Slurm.
pub fn is_in_a_job() -> bool {
    env::var_os("SLURM_JOB_ID").is_some()
}

/// Make sure that jobs can be submitted from this machine.
///
/// # Errors
/// A user error if not.
pub fn check() -> Result<()> {
    let version = run("sbatch", &["--version"]);
    version.map(drop).map_err(|error| {
        user_error!(
            "sweep.launcher: got slurm, but no jobs can be submitted here: {error:#}; want a host of the cluster from \
             which they can, or launcher: local"
        )
    })
}

/// The jobs of this user.
///
/// # Errors
/// If Slurm does not answer.
pub fn list() -> Result<Vec<Listed>> {
    let format = "--format=%i|%T|%r|%j";
    let text = run("squeue", &["--me", "--noheader", "--states=all", format])?;
    Ok(Listed::parse(&text))
}

/// The exit code of a job that has failed; none if a signal has killed it, or nobody knows.
pub fn exit_code(job: &str) -> Option<i32> {
    let text = run("scontrol", &["show", "job", "--oneliner", job]).ok()?;
    let code = text
        .split_whitespace()
        .find_map(|it| it.strip_prefix("ExitCode="))?;
    match code.split_once(':')? {
        (code, "0") => code.parse().ok(),
        _ => None,
    }
}

/// What a command of Slurm prints. Within a job it knows nothing of that: what a job has is not what another one asks for.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SLURM_")
            && !["SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT"].contains(&&*text)
        {
            command.env_remove(&name);
        }
    }
    let output = command
        .output()
        .with_context(|| format!("failed to start {program}, a command of Slurm"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let said: Vec<&str> = lines.collect();
        bail!("{program} failed ({}): {}", output.status, said.join("; "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_of_an_array_is_requeued_alone() {
        let job = |variables: &[(&str, &str)]| {
            own_job(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let array = [("SLURM_JOB_ID", "12"), ("SLURM_ARRAY_JOB_ID", "12")];
        let element = [&array[..], &[("SLURM_ARRAY_TASK_ID", "3")]].concat();
        assert_eq!(job(&[]), None);
        assert_eq!(job(&array[..1]), Some("12".to_owned()));
        assert_eq!(job(&element), Some("12_3".to_owned()));
    }
}
