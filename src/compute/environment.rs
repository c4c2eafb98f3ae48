//! What the libraries of a process that computes read from its environment when they are loaded, before any code
//! of ours runs.

use anyhow::{Error, Result};
use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A variable and its value; one that the user has set stays as it is.
pub type Variable = (&'static str, &'static str);

/// OpenMP's threads wait for work without spinning. With two processes on the same cores, or two pools of threads in
/// one, the threads that spin take the time of those that work (docs/performance.md).
const PASSIVE_WAIT: Variable = ("OMP_WAIT_POLICY", "PASSIVE");

/// glibc asks for large pages of memory where the kernel has them on request: a step's tables of points and products have
/// more small ones than the processor keeps addresses of (docs/performance.md).
const LARGE_PAGES: Variable = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// The variables that every process which computes needs, without those which this process has to pass on.
pub fn of_every_process() -> impl Iterator<Item = Variable> {
    let wanted = [PASSIVE_WAIT, LARGE_PAGES].into_iter();
    wanted.filter(|(name, _)| env::var_os(name).is_none())
}

/// Make sure that the environment has what a process needs that computes: start this program anew, as the same process, if
/// something is missing.
///
/// # Errors
/// The program cannot be started again.
pub fn ensure() -> Result<()> {
    let missing: Vec<Variable> = of_every_process().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut words = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let error = command.args(words).envs(missing).exec();
    Err(Error::new(error).context("failed to start runboard again with its environment completed"))
}
