//! A process of a run: what it said that it does, and which process of which machine it is.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process;

use chrono::{DateTime, Local, TimeDelta};
use serde::{Deserialize, Serialize};
use sysinfo::System;

use super::ProcessDir;
use crate::proc_stat::ProcStat;

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
    /// Ended, with all its work done.
    Finished,
    /// Stopped by a signal in good order; it can go on from where it stopped.
    #[serde(alias = "interrupted")] // as earlier versions wrote it
    Stopped,
    /// Ended by an error.
    Failed,
    /// Ended because training diverged.
    Diverged,
}

impl ProcessState {
    /// Whether the process ended by an error.
    pub fn is_failure(self) -> bool {
        matches!(self, ProcessState::Failed | ProcessState::Diverged)
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProcessState::Starting => "starting",
            ProcessState::Running => "running",
            ProcessState::Finished => "finished",
            ProcessState::Stopped => "stopped",
            ProcessState::Failed => "failed",
            ProcessState::Diverged => "diverged",
        })
    }
}

/// The part of a status that all processes share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// What the process said last; [`super::Status::observed`] tells whether that can still be so.
    pub state: ProcessState,
    /// The process id, in its PID namespace.
    pub pid: u32,
    /// The machine's name, for people: it may change, and containers may share it.
    #[serde(default)]
    pub host: Option<String>,
    /// The machine since it was started: the kernel's boot id. Earlier versions did not write it.
    #[serde(default)]
    boot: Option<String>,
    /// The PID namespace (a container's, say): pid and start mean something there alone.
    #[serde(default)]
    pid_namespace: Option<u64>,
    /// When the kernel started the process, in clock ticks since boot: with the pid, its identity.
    start_ticks: Option<u64>,
    /// The run directory that the process works in, which a copy is not.
    #[serde(default)]
    pub(super) directory: Option<DirectoryId>,
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

/// What tells a directory from its copies. Other machines may know its file system by another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    pub(super) fn of(directory: &ProcessDir) -> Option<Self> {
        let metadata = fs::metadata(directory.path()).ok()?;
        Some(DirectoryId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
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
            boot: boot(),
            pid_namespace: pid_namespace(),
            start_ticks: ProcStat::of(pid).map(|stat| stat.start_ticks),
            directory: None,
            started: now,
            heartbeat: now,
            error: None,
            heartbeat_failed: false,
        }
    }

    /// Which process of which machine it is, as a text that is no other one's.
    pub(super) fn identity(&self) -> String {
        let boot = self.boot.as_deref().unwrap_or("none");
        let ticks = self.start_ticks.unwrap_or_default();
        format!("pid {} since {ticks} ticks of boot {boot}", self.pid)
    }

    /// Whether the process works in this very directory, on whatever machine, and not in one that shares files with it.
    pub(super) fn is_in(&self, directory: &ProcessDir) -> bool {
        let inode = |directory: DirectoryId| directory.inode;
        self.directory.is_none()
            || self.directory.map(inode) == DirectoryId::of(directory).map(inode)
    }

    /// Whether the process was one of this PID namespace, and is gone.
    pub(super) fn has_ended(&self) -> bool {
        let is_it = |stat: &ProcStat| self.start_ticks == Some(stat.start_ticks) && stat.is_alive();
        self.boot.is_some()
            && self.is_here()
            && !ProcStat::of(self.pid).is_some_and(|stat| is_it(&stat))
    }

    /// Whether the process said last that it goes on.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.state, ProcessState::Starting | ProcessState::Running)
    }

    /// Whether both are the same process, whatever it does by now.
    pub(crate) fn is_same(&self, other: &Process) -> bool {
        let identity = |process: &Process| {
            let boot = (process.boot.clone(), process.pid_namespace);
            (boot, process.pid, process.start_ticks)
        };
        identity(self) == identity(other)
    }

    /// Whether the process is there, in this PID namespace, where it may be signalled: its pid is not gone or taken by
    /// another process. And whether it works in this very directory, which may be a copy of its own.
    pub(crate) fn exists(&self, directory: &ProcessDir) -> bool {
        self.stat(directory).is_some_and(|stat| stat.is_alive())
    }

    /// Whether the process is there, as [`Process::exists`], and has been stopped by SIGSTOP or SIGTSTP, or by a
    /// debugger.
    pub(crate) fn is_frozen(&self, directory: &ProcessDir) -> bool {
        self.stat(directory).is_some_and(|stat| stat.is_frozen())
    }

    /// Whether the process is there, as [`Process::exists`], and is about to end, killed say: it does no work any more.
    pub(super) fn is_ending(&self, directory: &ProcessDir) -> bool {
        self.stat(directory).is_some_and(|stat| stat.is_ending())
    }

    /// Whether the process, which is there, ignores SIGHUP, as `nohup` starts it.
    pub(crate) fn ignores_hangup(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        ignored.is_some_and(|mask| mask & 1 == 1) // the bit of signal 1
    }

    fn stat(&self, directory: &ProcessDir) -> Option<ProcStat> {
        let own = self.directory.is_none() || self.directory == DirectoryId::of(directory);
        if !own || !self.is_here() {
            return None;
        }
        ProcStat::of(self.pid).filter(|stat| self.start_ticks == Some(stat.start_ticks))
    }

    /// Whether its pid means something here.
    fn is_here(&self) -> bool {
        match self.boot {
            Some(_) => self.boot == boot() && self.pid_namespace == pid_namespace(),
            None => !self.is_elsewhere(), // of an earlier version, which wrote neither
        }
    }

    /// Whether the process is one of another machine, whose locks may not be seen here. One of this machine before it
    /// was started again is not.
    fn is_elsewhere(&self) -> bool {
        let other_boot = self.boot.is_none() || self.boot != boot();
        other_boot && self.host.is_some() && self.host != System::host_name()
    }

    /// Whether it can be that the process is running, although its lock is free: on another machine, with a recent
    /// heartbeat in this very directory.
    pub(super) fn may_run_elsewhere(&self, directory: &ProcessDir) -> bool {
        self.is_elsewhere() && self.is_in(directory) && !self.silent()
    }

    /// Whether the process seems to run, where there are no locks to tell: it is there, or beyond this PID namespace with
    /// a recent heartbeat.
    pub(super) fn seems_to_run(&self, directory: &ProcessDir) -> bool {
        let own = self.directory.is_none() || self.directory == DirectoryId::of(directory);
        match self.is_here() {
            true => self.exists(directory),
            false if self.is_elsewhere() => self.may_run_elsewhere(directory),
            // Of this boot: one before it has ended.
            false => own && self.boot == boot() && !self.silent(),
        }
    }

    /// Whether the process has not written its status for longer than [`SILENCE`]. One on this machine may be
    /// alive all the same: stopped, hanging, or at something that takes long. A heartbeat that is as far in the future is
    /// none either: a clock was wrong when it was written.
    pub fn silent(&self) -> bool {
        (Local::now() - self.heartbeat).abs() > SILENCE
    }
}

/// The kernel's own name of this boot of this machine (random(4)), which containers share.
pub fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// The number of this process's PID namespace (namespaces(7)).
fn pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunDir;
    use crate::run::provenance;
    use std::process::Command;

    fn run() -> (tempfile::TempDir, RunDir) {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        (directory, run)
    }

    #[test]
    fn process_of_another_machine_seems_to_run_while_its_heartbeat_is_recent() {
        let (_directory, run) = run();
        let beating = Process {
            host: Some("another machine".into()),
            boot: Some("another boot".into()),
            start_ticks: Some(1),
            directory: DirectoryId::of(&run),
            ..Process::current()
        };
        assert!(beating.may_run_elsewhere(&run) && beating.seems_to_run(&run));
        let silent = Process {
            heartbeat: Local::now() - SILENCE - TimeDelta::seconds(1),
            ..beating.clone()
        };
        assert!(silent.silent());
        assert!(!silent.may_run_elsewhere(&run) && !silent.seems_to_run(&run));
        let ahead = Process {
            heartbeat: Local::now() + SILENCE + TimeDelta::minutes(1),
            ..beating.clone()
        };
        assert!(ahead.silent() && !ahead.may_run_elsewhere(&run));
        let (_other, copy) = self::run();
        assert!(!beating.may_run_elsewhere(&copy) && !beating.seems_to_run(&copy));
        // Here the process itself is asked, however long it says nothing.
        let here = Process {
            heartbeat: silent.heartbeat,
            ..Process::current()
        };
        assert!(here.silent() && here.seems_to_run(&run));
    }

    #[test]
    fn machine_is_the_same_under_another_name_but_not_after_another_boot() {
        let (_directory, run) = run();
        let renamed = Process {
            host: Some("the name before".into()),
            ..Process::current()
        };
        assert!(renamed.exists(&run) && !renamed.may_run_elsewhere(&run));
        let before = Process {
            boot: Some("the boot before".into()),
            ..Process::current()
        };
        assert!(!before.exists(&run) && !before.seems_to_run(&run));
        let earlier_version = Process {
            boot: None,
            pid_namespace: None,
            ..Process::current()
        };
        assert!(earlier_version.exists(&run));
        let elsewhere = Process {
            host: renamed.host,
            ..earlier_version
        };
        assert!(!elsewhere.exists(&run) && elsewhere.may_run_elsewhere(&run));
    }

    #[test]
    fn pid_of_another_namespace_is_no_process_of_this_one() {
        let (_directory, run) = run();
        let inside = Process {
            pid_namespace: Some(1),
            directory: DirectoryId::of(&run),
            ..Process::current()
        };
        assert!(!inside.exists(&run) && !inside.is_same(&Process::current()));
        assert!(inside.seems_to_run(&run)); // by its heartbeat
    }

    #[test]
    fn process_is_the_one_of_a_pid_and_a_start() {
        let (_directory, run) = run();
        let own = Process::current();
        assert!(own.exists(&run) && own.is_same(&Process::current()));
        let reused = Process {
            start_ticks: own.start_ticks.map(|ticks| ticks + 1),
            ..own.clone()
        };
        assert!(!reused.exists(&run) && !reused.is_same(&own));
        let copied = Process {
            directory: DirectoryId::of(&self::run().1),
            ..own
        };
        assert!(!copied.exists(&run));

        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let sleeping = Process::of(child.id());
        assert!(sleeping.exists(&run));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!sleeping.exists(&run));
    }
}
