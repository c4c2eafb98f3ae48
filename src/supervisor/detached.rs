//! A supervisor that has no terminal: started in a session of its own, found again, and stopped.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use super::child::describe;
use super::ensure_idle;
use super::log::Log;
use crate::error::BAD_INPUT;
use crate::run::{EvalStatus, Process, Role, RunDir, Status, SupervisorStatus, TrainStatus};
use crate::{bail_user, user_error};

/// How often something awaited is looked for.
const POLL: Duration = Duration::from_millis(50);

/// How many lines of a supervisor's log are shown that could not begin.
const TAIL: usize = 5;

/// Starts `program resume DIR` (runboard itself) in a session of its own, which no closing terminal ends,
/// and waits until it supervises the run. It reads nothing and writes into the supervisor's log. Returns
/// its pid.
///
/// # Errors
/// A user error if the run is at work already; otherwise if the supervisor cannot be started, or says
/// that it cannot begin.
pub fn detach(run: &RunDir, program: &Path) -> Result<u32> {
    ensure_idle(run, &[Role::Supervisor, Role::TRAIN, Role::Eval])?;
    let mut log = Log::follow(run.log(Role::Supervisor));
    let mut command = Command::new(program);
    command
        .arg("resume")
        .arg(run.path())
        .stdin(Stdio::null())
        .stdout(log.open_for_writing()?)
        .stderr(log.open_for_writing()?);
    let leave = || setsid().map(drop).map_err(io::Error::from);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; this is a system call, and
    // its error is a bare number.
    unsafe { command.pre_exec(leave) };
    let mut supervisor = command
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    loop {
        let ended = supervisor
            .try_wait()
            .context("failed to wait for the supervisor")?;
        // Asked second: one that has ended by now has said all that it had to say.
        if SupervisorStatus::load(run)?.is_some_and(|status| status.process.pid == supervisor.id())
        {
            return Ok(supervisor.id());
        }
        if let Some(status) = ended {
            let end = log.tail(TAIL).join("\n  ");
            let path = log.path().display();
            let what = describe(status);
            let message = format!("the supervisor ended ({what}); the end of {path}:\n  {end}");
            return Err(match status.code() {
                Some(BAD_INPUT) => user_error!("{message}"),
                _ => anyhow!(message),
            });
        }
        thread::sleep(POLL);
    }
}

/// Asks whatever is at work on the run to stop in good order, its supervisor or else the processes that
/// were started by themselves, and waits until they are gone. Returns whether there were any.
///
/// # Errors
/// A user error if they are on another machine; otherwise if a status cannot be read, or a process not be
/// signalled, as that of another user.
pub fn stop(run: &RunDir) -> Result<bool> {
    let mut working = Vec::new();
    let supervisor = SupervisorStatus::load(run)?;
    match supervisor.filter(|status| status.process.alive() || status.process.exists()) {
        Some(supervisor) => {
            // Asked twice it would end at once, without a checkpoint.
            if supervisor.process.alive() && !supervisor.stopping {
                ask(&supervisor.process, Role::Supervisor)?;
            }
            working.push(supervisor.process);
        }
        None => {
            let train = TrainStatus::load(run)?.map(|status| (status.process, Role::TRAIN));
            let eval = EvalStatus::load(run)?.map(|status| (status.process, Role::Eval));
            for (process, role) in train.into_iter().chain(eval) {
                if process.alive() {
                    ask(&process, role)?;
                    working.push(process);
                }
            }
        }
    }
    while working.iter().any(Process::exists) {
        thread::sleep(POLL);
    }
    Ok(!working.is_empty())
}

fn ask(process: &Process, role: Role) -> Result<()> {
    let who = format!("the {} with pid {}", role.process_name(), process.pid);
    if let Some(host) = process.host.as_ref().filter(|_| !process.exists()) {
        bail_user!("{who} is at work on another machine: stop it there, on {host}");
    }
    match kill(Pid::from_raw(process.pid as i32), Signal::SIGTERM) {
        Err(error) if error != Errno::ESRCH => {
            Err(error).with_context(|| format!("failed to stop {who}"))
        }
        _ => Ok(()), // asked, or gone by itself
    }
}
