//! One child process, a run's or a sweep's: started so that it survives nothing it should not, and is never left behind.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::Pid;

use super::log::Log;
use crate::error::{FAILURE, LOST_RANK, NOT_MET};
use crate::files::TemporaryDirs;
use crate::parent::bind_to_parent;
use crate::run::{Lock, Process, ProcessDir, Role, RunDir, Status};
use crate::{compute, paths};

/// Training comes first where there are not cores enough for both.
const EVALUATOR_NICE: i32 = 10;

/// A running or ended child, with its log.
pub struct Child {
    role: Role,
    process: process::Child,
    /// Which process it is: a pid alone may have been that of an earlier one.
    identity: Process,
    exit_status: Option<ExitStatus>,
    /// The last signal that it was sent to end it.
    sent: Option<Signal>,
    temporary_dirs: TemporaryDirs,
    pub(super) log: Log,
}

impl Child {
    /// Starts `program ROLE --run DIR`, which is runboard-compute, with these arguments after it.
    ///
    /// Its output goes straight into its log file, so that it needs nobody to read it. It has a process
    /// group of its own, so that a terminal's Ctrl-C reaches the supervisor alone. And it gets a SIGHUP
    /// when the calling *thread* ends, however that happens: the thread must stay for as long as the
    /// child is wanted.
    pub(super) fn start(
        program: &Path,
        role: Role,
        run: &RunDir,
        arguments: &[String],
    ) -> Result<Self> {
        let mut command = compute::supervised(program)?;
        command
            .arg(role.to_string())
            .arg("--run")
            .arg(paths::unexpanded(run.path()))
            .args(arguments)
            .stdin(Stdio::null());
        Self::spawn(command, role, run, &[])
    }

    /// Starts `program resume DIR ARGUMENTS` as the supervisor of a sweep's point, as [`Child::start`] does. It and its
    /// own children hold these files open for as long as they live. With the lock, which is handed over, the session is
    /// recorded already.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_supervisor(
        program: &Path,
        run: &RunDir,
        lock: Option<Lock>,
        arguments: &[OsString],
        held: &[File],
    ) -> Result<Self> {
        let mut command = resume(program, run, lock.as_ref())?;
        command.args(arguments);
        let child = Self::spawn(command, Role::Supervisor, run, held)?;
        if let Some(lock) = lock {
            lock.hand_over(&child.identity);
        }
        Ok(child)
    }

    fn spawn(mut command: Command, role: Role, run: &RunDir, held: &[File]) -> Result<Self> {
        let log = Log::follow(run.log(role));
        command
            .stdout(log.open_for_writing()?)
            .stderr(log.open_for_writing()?)
            .process_group(0);
        let held: Vec<RawFd> = held.iter().map(File::as_raw_fd).collect();
        let prepare = move || {
            for &file in &held {
                // SAFETY: a plain system call on a file that is open: it is not closed when the program begins.
                if unsafe { libc::fcntl(file, libc::F_SETFD, 0) } < 0 {
                    return Err(Errno::last().into());
                }
            }
            if role == Role::Eval {
                // SAFETY: a plain system call; that it may fail harms nothing.
                unsafe { libc::nice(EVALUATOR_NICE) };
            }
            Ok(())
        };
        // SAFETY: between fork and exec only async-signal-safe calls are allowed. `prepare` makes plain system calls, and its
        // errors are bare numbers that need no memory.
        unsafe { command.pre_exec(prepare) };
        bind_to_supervisor(&mut command, Signal::SIGHUP);
        let temporary_dirs = TemporaryDirs::of(&mut command);
        let program = command.get_program().display().to_string();
        let process = command
            .spawn()
            .with_context(|| format!("failed to start {program} {role}"))?;
        Ok(Child {
            role,
            identity: Process::of(process.id()),
            process,
            exit_status: None,
            sent: None,
            temporary_dirs,
            log,
        })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether the child has written this status.
    pub fn wrote(&self, status: &impl Status) -> bool {
        self.identity.is_same(status.process())
    }

    /// Looks whether the child has ended.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn poll(&mut self) -> Result<()> {
        if self.exit_status.is_none() {
            self.exit_status = self
                .process
                .try_wait()
                .with_context(|| format!("failed to wait for the process {}", self.role))?;
            if self.exit_status.is_some() {
                self.temporary_dirs.remove();
            }
        }
        Ok(())
    }

    /// Its pid, if it is frozen.
    pub(super) fn frozen(&self, run: &RunDir) -> Option<u32> {
        let is_frozen = self.exit_status.is_none() && self.identity.is_frozen(run);
        is_frozen.then_some(self.identity.pid)
    }

    /// How the child ended, `None` if it was running when it was last polled.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.exit_status
    }

    /// How the child ended, in words.
    pub fn end(&self) -> String {
        self.exit_status.map_or_else(String::new, describe)
    }

    /// How the child ended, if not well: by an error of its own, or by a signal that does not answer the one it
    /// was sent.
    pub(super) fn failure(&self) -> Option<ExitStatus> {
        let is_answer = |status| {
            self.sent
                .is_some_and(|signal| answers(signal).contains(&exit_code(status)))
        };
        self.exit_status
            .filter(|&status| !status.success() && !is_answer(status))
    }

    /// The last `count` lines of its log.
    pub fn tail(&mut self, count: usize) -> Vec<String> {
        self.log.tail(count)
    }

    /// The lines that the child has written since the last call.
    pub(super) fn new_lines(&mut self) -> Vec<String> {
        self.log.lines(self.exit_status.is_some())
    }

    /// Sends `signal`, which ends the child, to it and to whatever it has started, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status.is_none() {
            self.sent = Some(signal);
            self.send(signal);
        }
    }

    /// Sends a signal to the child and to whatever it has started, unless it has ended.
    pub fn send(&self, signal: Signal) {
        if self.exit_status.is_none() {
            // Not reaped yet, its pid is still its own. A group that has just gone needs no signal.
            let _ = killpg(Pid::from_raw(self.process.id() as i32), signal);
        }
    }
}

impl Drop for Child {
    /// Only an error of the supervisor itself drops a running child.
    fn drop(&mut self) {
        self.signal(Signal::SIGHUP);
    }
}

/// Binds the child that a command starts to this thread: it gets `end` when that ends. SIGHUP and SIGUSR1 are for its parent: it
/// takes the one that this sends, and ignores the other.
pub(super) fn bind_to_supervisor(command: &mut Command, end: Signal) {
    let take_signals = || {
        // Ignored under `nohup`, which is meant for the terminal's and not for ours.
        // SAFETY: no handler is given that could be called.
        unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }?;
        // Slurm sends it to all processes of a job, of which it is meant for the first one.
        // SAFETY: as above.
        unsafe { signal(Signal::SIGUSR1, SigHandler::SigIgn) }?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `take_signals` makes plain system calls, and its
    // errors are bare numbers that need no memory.
    unsafe { command.pre_exec(take_signals) };
    bind_to_parent(command, end); // now, when the signal is not ignored
}

/// The command that resumes the run or the sweep in a directory. With the lock of its process, which becomes the standard
/// input, the session is recorded, and whatever has to be made sure of is.
pub(super) fn resume(
    program: &Path,
    directory: &ProcessDir,
    lock: Option<&Lock>,
) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .arg("resume")
        .arg(paths::unexpanded(directory.path()));
    let Some(lock) = lock else {
        command.stdin(Stdio::null());
        return Ok(command);
    };
    let lock = lock.as_stdin().context("failed to hand over the lock")?;
    command.arg("--recorded").stdin(lock);
    Ok(command)
}

/// The exit codes of a child that was sent `signal` and ended as it should. After a SIGHUP it has saved its last
/// checkpoint, or had not begun; another may have sent it SIGINT or SIGTERM before (`killall`), which do the same.
/// SIGKILL is ours only if we sent it: the system's too, where memory is short, and then nothing is saved.
fn answers(signal: Signal) -> &'static [i32] {
    const HUP: i32 = 128 + Signal::SIGHUP as i32;
    const INT: i32 = 128 + Signal::SIGINT as i32;
    const TERM: i32 = 128 + Signal::SIGTERM as i32;
    const KILL: i32 = 128 + Signal::SIGKILL as i32;
    match signal {
        Signal::SIGKILL => &[HUP, INT, TERM, KILL],
        _ => &[HUP, INT, TERM],
    }
}

/// An exit in words: `exit code 1`, `signal 9`.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("signal {signal}, {name}"),
            Err(_) => format!("signal {signal}"),
        },
        (None, None) => "an unknown end".to_owned(),
    }
}

/// The exit as a shell gives it: the code, or 128 + the signal.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}

/// With which code a supervisor ends that does not start a process of this exit again: what ranks tell it by a code of their own is a
/// failure to others.
pub(super) fn final_code(status: ExitStatus) -> i32 {
    match exit_code(status) {
        LOST_RANK | NOT_MET => FAILURE,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::{Fake, wait_for};
    use std::thread;

    #[test]
    fn child_does_not_outlive_the_thread_that_supervises_it() {
        let fake = Fake::new("echo ready; while :; do sleep 0.05; done");
        let (run, program) = (fake.run.clone(), fake.program.clone());
        let mut child = thread::spawn(move || {
            let mut child = Child::start(&program, Role::TRAIN, &run, &[]).unwrap();
            wait_for(|| !child.log.lines(false).is_empty());
            child
        })
        .join()
        .unwrap();
        wait_for(|| {
            child.poll().unwrap();
            child.exit_status().is_some()
        });
        let status = child.exit_status().unwrap();
        assert_eq!(describe(status), "signal 1, SIGHUP");
        assert_eq!(exit_code(status), 129);
    }

    #[test]
    fn start_names_a_program_that_is_not_there() {
        let fake = Fake::new("");
        let missing = fake.run.path().join("missing");
        let error = Child::start(&missing, Role::Eval, &fake.run, &[])
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            format!("failed to start {} eval", missing.display())
        );
    }
}
