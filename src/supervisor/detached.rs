//! A supervisor that has no terminal: started in a session of its own, found again, and stopped.

use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use super::child::describe;
use super::log::Log;
use crate::error::BAD_INPUT;
use crate::run::{EvalStatus, Process, Role, RunDir, Status, SupervisorStatus, TrainStatus};
use crate::{bail_user, paths, user_error};

/// How often something awaited is looked for.
const POLL: Duration = Duration::from_millis(50);

/// How many lines of a supervisor's log are shown that could not begin.
const TAIL: usize = 5;

/// Starts `program resume DIR` (runboard itself) in a session of its own, which no closing terminal ends,
/// and waits until it supervises the run. It reads nothing and writes into the supervisor's log. Returns
/// its pid.
///
/// # Errors
/// A user error if that says so; otherwise if the supervisor cannot be started, says that it cannot begin, or
/// gives no sign of life for as long as `limit`.
pub fn detach(run: &RunDir, program: &Path, limit: Duration) -> Result<u32> {
    let mut log = Log::follow(run.log(Role::Supervisor));
    let mut command = Command::new(program);
    command
        .arg("resume")
        .arg(paths::unexpanded(run.path()))
        .arg("--recorded")
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
    let pid = supervisor.id();
    let mut sign_of_life = Instant::now();
    loop {
        let exit_status = supervisor
            .try_wait()
            .context("failed to wait for the supervisor")?;
        // Asked second: one that has ended by now has said all that it had to say.
        if SupervisorStatus::load(run)?.is_some_and(|status| status.process.pid == pid) {
            return Ok(pid);
        }
        if let Some(status) = exit_status {
            let end = log.tail(TAIL).join("\n  ");
            let path = log.path().display();
            let what = describe(status);
            let message = format!("the supervisor ended ({what}); the end of {path}:\n  {end}");
            return Err(match status.code() {
                Some(BAD_INPUT) => user_error!("{message}"),
                _ => anyhow!(message),
            });
        }
        if !log.lines(false).is_empty() {
            sign_of_life = Instant::now(); // it prepares data, say
        }
        if sign_of_life.elapsed() > limit {
            bail!(
                "no sign of life from the supervisor (pid {pid}) for {} s; it is left running: see {}, or end it \
                 with: kill {pid}",
                limit.as_secs_f64(),
                log.path().display()
            );
        }
        thread::sleep(POLL);
    }
}

/// Asks the running processes of the run to stop after a last checkpoint, its supervisor or else those that were
/// started by themselves, and waits until they have ended. Returns whether there were any. After `notice_after` it
/// tells `notify` once what it waits for.
///
/// # Errors
/// A user error if they are on another machine; otherwise if a status cannot be read, or a process not be
/// signalled, as that of another user.
pub fn stop(run: &RunDir, notice_after: Duration, notify: impl Fn(&str)) -> Result<bool> {
    let mut running = Vec::new();
    let supervisor = SupervisorStatus::load(run)?;
    match supervisor.filter(|status| status.process.alive() || status.process.exists()) {
        Some(supervisor) => {
            // Asked twice it would end at once, without a checkpoint.
            if supervisor.process.alive() && !supervisor.stopping {
                request_stop(&supervisor.process, Role::Supervisor)?;
            }
            running.push((supervisor.process, Role::Supervisor));
        }
        None => {
            let train = TrainStatus::load(run)?.map(|status| (status.process, Role::TRAIN));
            let eval = EvalStatus::load(run)?.map(|status| (status.process, Role::Eval));
            for (process, role) in train.into_iter().chain(eval) {
                if process.alive() {
                    request_stop(&process, role)?;
                    running.push((process, role));
                }
            }
        }
    }
    let begin = Instant::now();
    let mut notified = false;
    while let Some((process, role)) = running.iter().find(|(process, _)| process.exists()) {
        if begin.elapsed() >= notice_after && !mem::replace(&mut notified, true) {
            notify(&notice(process.pid, *role));
        }
        thread::sleep(POLL);
    }
    Ok(!running.is_empty())
}

/// What a stop waits for, and how not to wait: a second SIGTERM ends a process at once.
fn notice(pid: u32, role: Role) -> String {
    let who = role.process_name();
    match role {
        Role::Eval => {
            format!("waiting for the {who} (pid {pid}) to end; to end it at once: kill {pid}")
        }
        _ => format!(
            "waiting for the {who} (pid {pid}) to end after a last checkpoint; to end it at once, without that: kill {pid}"
        ),
    }
}

fn request_stop(process: &Process, role: Role) -> Result<()> {
    let who = format!("the {} (pid {})", role.process_name(), process.pid);
    if let Some(host) = process.host.as_ref().filter(|_| !process.exists()) {
        bail_user!("{who} is running on another machine: stop it there, on {host}");
    }
    match kill(Pid::from_raw(process.pid as i32), Signal::SIGTERM) {
        Err(error) if error != Errno::ESRCH => {
            Err(error).with_context(|| format!("failed to stop {who}"))
        }
        _ => Ok(()), // asked, or gone by itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ProcessState;
    use crate::supervisor::tests::{Fake, wait_for};
    use std::fs;
    use std::sync::Mutex;

    #[test]
    fn detach_says_where_to_look_when_the_supervisor_gives_no_sign_of_life() {
        // Until the test ends, which removes its directory.
        let fake = Fake::new("echo $$ > \"$2/pid\"; while [ -d \"$2\" ]; do sleep 0.05; done");
        let error = detach(&fake.run, &fake.program, Duration::ZERO).unwrap_err();
        let pid = fake.file("pid");
        let read = || {
            fs::read_to_string(&pid)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        wait_for(|| !read().is_empty());
        let pid = read();
        assert_eq!(
            error.to_string(),
            format!(
                "no sign of life from the supervisor (pid {pid}) for 0 s; it is left running: see {}, or end it with: \
                 kill {pid}",
                fake.run.log(Role::Supervisor).display()
            )
        );
    }

    #[test]
    fn stop_says_what_it_waits_for() {
        let directory = tempfile::tempdir().unwrap();
        let flag = directory.path().join("asked");
        let fake = Fake::new("");
        let mut child = Command::new("sh")
            .args([
                "-c",
                "trap 'touch \"$0\"' TERM; touch \"$0.up\"; while :; do sleep 0.02; done",
            ])
            .arg(&flag)
            .spawn()
            .unwrap();
        wait_for(|| directory.path().join("asked.up").exists());
        let mut status = TrainStatus {
            process: Process::of(child.id()),
            step: 1,
            steps: 2,
            loss: None,
            examples_per_sec: None,
            threads: None,
        };
        status.process.state = ProcessState::Running;
        status.save(&fake.run).unwrap();
        let notices = Mutex::new(Vec::new());
        let (pid, child) = (child.id(), Mutex::new(&mut child));
        let stopped = stop(&fake.run, Duration::ZERO, |notice| {
            wait_for(|| flag.exists()); // it was asked, and takes its time
            notices.lock().unwrap().push(notice.to_owned());
            let mut child = child.lock().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
        });
        assert!(stopped.unwrap());
        assert_eq!(
            notices.into_inner().unwrap(),
            [format!(
                "waiting for the trainer (pid {pid}) to end after a last checkpoint; to end it at once, without that: \
                 kill {pid}"
            )]
        );
        assert!(!stop(&fake.run, Duration::ZERO, |_| ()).unwrap());
    }
}
