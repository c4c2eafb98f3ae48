//! A process of a run: what it said that it does, and whether that can still be so.

use std::fmt;
use std::fs;
use std::process;

use chrono::{DateTime, Local, TimeDelta};
use serde::{Deserialize, Serialize};
use sysinfo::System;

/// Longer than a running trainer or evaluator goes without writing its status, on a slow machine, and than the
/// clocks of two machines differ.
const SILENCE: TimeDelta = TimeDelta::minutes(5);

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// Preparing: reading the data, building the network.
    Starting,
    /// At its work.
    Running,
    /// Completion, with all its work done.
    Finished,
    /// Stopped by a signal in good order; it can go on from where it stopped.
    Interrupted,
    /// Completion by an error.
    Failed,
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProcessState::Starting => "starting",
            ProcessState::Running => "running",
            ProcessState::Finished => "finished",
            ProcessState::Interrupted => "interrupted",
            ProcessState::Failed => "failed",
        })
    }
}

/// The part of a status that all processes share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// What the process said last; [`Process::observed`] tells whether that can still be so.
    pub state: ProcessState,
    /// The process id.
    pub pid: u32,
    /// The machine's name; pid and start mean something there alone.
    #[serde(default)]
    pub host: Option<String>,
    /// When the kernel started the process, in clock ticks since boot: with the pid, its identity.
    start_ticks: Option<u64>,
    /// When the process began this session.
    pub started: DateTime<Local>,
    /// When the status was last written.
    pub heartbeat: DateTime<Local>,
    /// The error that ended the process.
    pub error: Option<String>,
    /// Whether the last heartbeat could not be written, and the user knows.
    #[serde(skip)]
    pub(super) heartbeat_failed: bool,
}

impl Process {
    /// The calling process, as one that is starting.
    pub fn current() -> Self {
        Self::of(process::id())
    }

    /// The process with this id, on this machine, as one that is starting.
    pub(crate) fn of(pid: u32) -> Self {
        let now = Local::now();
        Process {
            state: ProcessState::Starting,
            pid,
            host: System::host_name(),
            start_ticks: start_ticks(pid),
            started: now,
            heartbeat: now,
            error: None,
            heartbeat_failed: false,
        }
    }

    /// Whether the process is running: it has not said that it ended, and it is there. On another machine (or
    /// in a container of another name) that cannot be asked; there its heartbeat decides, which is silent for
    /// [`SILENCE`] at most.
    pub fn alive(&self) -> bool {
        matches!(self.state, ProcessState::Starting | ProcessState::Running)
            && match self.is_here() {
                true => self.exists(),
                false => !self.silent(),
            }
    }

    /// Whether the process is there, on this machine: its pid is not gone or taken by another process.
    pub fn exists(&self) -> bool {
        self.is_here() && self.start_ticks.is_some() && self.start_ticks == start_ticks(self.pid)
    }

    fn is_here(&self) -> bool {
        self.host.is_none() || self.host == System::host_name()
    }

    /// Whether the process has not written its status for longer than [`SILENCE`]. One on this machine may be
    /// alive all the same: stopped, hanging, or at something that takes long.
    pub fn silent(&self) -> bool {
        Local::now() - self.heartbeat > SILENCE
    }

    /// The state, but `Failed` for a process that vanished without a word.
    pub fn observed(&self) -> ProcessState {
        match self.state {
            ProcessState::Starting | ProcessState::Running if !self.alive() => ProcessState::Failed,
            state => state,
        }
    }
}

/// Field 22 of `/proc/PID/stat`, counted behind the command's name, which may hold blanks and brackets
/// itself (proc_pid_stat(5)). `None` for a process that is not there or only waits to be reaped.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace(); // the first one is field 3, the state
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn process_of_another_machine_is_alive_while_its_heartbeat_is_recent() {
        let beating = Process {
            host: Some("another machine".into()),
            start_ticks: Some(1),
            state: ProcessState::Running,
            ..Process::current()
        };
        assert!(beating.alive());
        let silent = Process {
            heartbeat: Local::now() - SILENCE - TimeDelta::seconds(1),
            ..beating.clone()
        };
        assert!(silent.silent() && !silent.alive());
        assert_eq!(silent.observed(), ProcessState::Failed);
        // Here the process itself is asked, however long it says nothing.
        let here = Process {
            heartbeat: silent.heartbeat,
            ..Process::current()
        };
        assert!(here.silent() && here.alive());
    }

    #[test]
    fn process_is_alive_only_with_its_pid_and_start() {
        let own = Process::current();
        assert!(own.alive());

        let reused = Process {
            start_ticks: own.start_ticks.map(|ticks| ticks + 1),
            ..own.clone()
        };
        assert!(!reused.alive());
        assert_eq!(reused.observed(), ProcessState::Failed);

        let ended = Process {
            state: ProcessState::Interrupted,
            ..own.clone()
        };
        assert!(!ended.alive());
        assert_eq!(ended.observed(), ProcessState::Interrupted);

        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let sleeping = Process {
            pid: child.id(),
            start_ticks: start_ticks(child.id()),
            ..own
        };
        assert!(sleeping.alive());
        let mut ended = sleeping.clone();
        ended.state = ProcessState::Finished;
        assert!(ended.exists() && !ended.alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!sleeping.alive() && !ended.exists());
    }
}
