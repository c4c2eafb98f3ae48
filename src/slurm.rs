//! Slurm's commands, as far as a process of a job or of a sweep uses them.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::user_error;

/// Put the job that this process is of back into the queue. Slurm ends it, and starts it again later, with the same number.
///
/// # Errors
/// If this process is of no job, or Slurm refuses: the job is interactive, or was submitted with `--no-requeue`.
pub fn requeue() -> Result<String> {
    let Ok(job) = env::var("SLURM_JOB_ID") else {
        bail!("this process is of no job of Slurm (SLURM_JOB_ID is not set)");
    };
    run("scontrol", &["requeue", &job])?;
    Ok(job)
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

/// What a command of Slurm prints. Within a job it knows nothing of that: what a job has is not what another one asks for.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SLURM_") && !["SLURM_CONF", "SLURM_CLUSTERS"].contains(&&*text) {
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
