//! A program that works in steps and prints them on its standard output, timed in turns: it is stopped (SIGSTOP)
//! while others have theirs, so that none takes another's cores, and the machine's noise is the same for all. The
//! program need not know: runboard's trainer is measured as users run it.

use crate::parent::bind_to_parent;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process that can stop may take to do so.
const STOPS_WITHIN: Duration = Duration::from_millis(200);

/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(1);

/// A program while it is timed. It is killed when this is dropped.
#[derive(Debug)]
pub struct SteppedProcess {
    /// What it is called in messages.
    pub name: String,
    child: Child,
    lines: BufReader<ChildStdout>,
    errors: PathBuf,
    /// The last step that it printed.
    step: u64,
}

impl SteppedProcess {
    /// Start a program, let it take at least `warm_up` steps, and stop it until its first turn; `None` if it is not so far after
    /// `patience`. What it writes on standard error goes into `directory`.
    ///
    /// # Errors
    /// It cannot be started, or ends.
    pub fn start(
        name: &str,
        mut command: Command,
        warm_up: u64,
        patience: Option<Duration>,
        directory: &Path,
    ) -> Result<Option<Self>> {
        let errors = directory.join(format!("{name}.log"));
        let log = File::create(&errors)
            .with_context(|| format!("failed to create {}", errors.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        bind_to_parent(&mut command, Signal::SIGKILL);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {name}: {command:?}"))?;
        let lines = child.stdout.take().context("the output is a pipe")?;
        let mut process = SteppedProcess {
            name: name.to_owned(),
            child,
            lines: BufReader::new(lines),
            errors,
            step: 0,
        };
        let warm = match patience {
            None => process.warm_up(warm_up),
            Some(patience) => {
                let group = process.group();
                let warmed = || process.warm_up(warm_up);
                let Some(warm) = unless_killed(group, patience, warmed) else {
                    return Ok(None);
                };
                warm
            }
        };
        warm?;
        Ok(Some(process))
    }

    fn warm_up(&mut self, steps: u64) -> Result<()> {
        self.step = self.next_step()?;
        self.advance(steps)?;
        self.pause()
    }

    /// Go on for at least `steps` steps, to a line that prints one, and stop again: seconds a step.
    ///
    /// # Errors
    /// It ends.
    pub fn turn(&mut self, steps: u64) -> Result<f64> {
        let begin = Instant::now();
        killpg(self.group(), Signal::SIGCONT).context("failed to continue a process")?;
        let steps_done = self.advance(steps)?;
        let seconds = begin.elapsed().as_secs_f64();
        self.pause()?;
        Ok(seconds / steps_done as f64)
    }

    /// The peak of its resident memory so far, in MiB.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn peak_memory(&self) -> Result<f64> {
        peak_memory_mib(self.child.id())
    }

    fn advance(&mut self, steps: u64) -> Result<u64> {
        let from = self.step;
        while self.step < from + steps {
            self.step = self.next_step()?;
        }
        Ok(self.step - from)
    }

    /// Wait for the next line in the tutorial's form, `[time: ]step 120, ...`, and return its step.
    fn next_step(&mut self) -> Result<u64> {
        loop {
            let mut line = String::new();
            let length = self.lines.read_line(&mut line)?;
            if length == 0 {
                let errors = fs::read_to_string(&self.errors).unwrap_or_default();
                bail!("{} has ended:\n{}", self.name, errors.trim_end());
            }
            let step = line
                .split("step ")
                .nth(1)
                .and_then(|rest| rest.split(',').next());
            if let Some(step) = step.and_then(|digits| digits.parse().ok()) {
                return Ok(step);
            }
        }
    }

    fn pause(&self) -> Result<()> {
        let signal = |signal| killpg(self.group(), signal).context("failed to stop a process");
        signal(Signal::SIGSTOP)?;
        let mut begin = Instant::now();
        loop {
            // The kernel reports it when the last thread has stopped.
            let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
            match waitpid(self.group(), Some(flags))? {
                WaitStatus::Stopped(..) => return Ok(()),
                WaitStatus::StillAlive if begin.elapsed() < STOPS_WITHIN => thread::sleep(POLL),
                WaitStatus::StillAlive => {
                    // A process that has just begun another one (vfork) cannot stop before that has become its program,
                    // which it cannot either, as it is stopped. It may now, and is stopped once more.
                    signal(Signal::SIGCONT)?;
                    thread::sleep(POLL);
                    signal(Signal::SIGSTOP)?;
                    begin = Instant::now();
                }
                status => bail!("{} has ended: {status:?}", self.name),
            }
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

/// What `wait` returns, which waits for processes of this group; `None` if it took longer than `patience`, and they were killed.
fn unless_killed<T>(group: Pid, patience: Duration, wait: impl FnOnce() -> T) -> Option<T> {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = killpg(group, Signal::SIGKILL); // it may have ended
            }
            late
        });
        let waited = wait();
        drop(done);
        let late = watch.join().unwrap_or(false);
        (!late).then_some(waited)
    })
}

/// The peak of a process's resident memory so far, in MiB (`VmHWM` of proc_pid_status(5)).
///
/// # Errors
/// The system does not tell.
pub fn peak_memory_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("no VmHWM in {path}"))? / 1024.0)
}

impl Drop for SteppedProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_starts_others_all_the_time_can_be_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let script = "step=0; while /bin/true; do step=$((step + 1)); echo \"step $step, \"; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let process = SteppedProcess::start("shell", command, 1, None, directory.path());
        let mut process = process.unwrap().unwrap();
        for _ in 0..300 {
            process.turn(1).unwrap();
        }
    }
}
