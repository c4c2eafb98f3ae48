//! Child processes that end with the thread that started them, however that ends, or when this process is asked to stop.

use crate::proc_stat::ProcStat;
use crate::shutdown::Shutdown;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// How often children are asked to end: of a run the second time ends it without a last checkpoint.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a process that was killed is waited for: one that is in a driver, or waits for a disk of another host, ends when that
/// lets it, which may be never.
pub const KILLED_ENDS: Duration = Duration::from_secs(10);

/// Has the kernel send `end` to the child that `command` starts when the *thread* that starts it ends (PR_SET_PDEATHSIG of
/// prctl(2)): that must stay for as long as the child is wanted. If this process has ended before, the child ends as well,
/// instead of becoming its program.
pub fn bind_to_parent(command: &mut Command, end: Signal) {
    bind(command, process::id(), end);
}

fn bind(command: &mut Command, parent: u32, end: Signal) {
    let bind = move || {
        prctl::set_pdeathsig(end)?;
        if getppid().as_raw() as u32 != parent {
            return Err(Errno::ESRCH.into()); // it ended before this one could be bound
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `bind` makes plain system calls, and its errors
    // are bare numbers that need no memory.
    unsafe { command.pre_exec(bind) };
}

/// Kills a child that has nothing to save and waits for its end, but no longer than [`KILLED_ENDS`].
pub fn end_child(child: &mut Child) {
    let _ = child.kill(); // which may just have ended
    let deadline = Instant::now() + KILLED_ENDS;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lets no child of this process live from the moment that a stop is requested: whoever waits for one goes on then, and can ask
/// `shutdown` why it has ended.
///
/// # Errors
/// If no thread can be started.
pub fn end_children_on(shutdown: Shutdown) -> Result<()> {
    let end = move || {
        while !shutdown.sleep(Duration::from_hours(1)) {}
        loop {
            for child in children() {
                // One that has ended meanwhile needs no signal.
                let _ = kill(child, Signal::SIGTERM);
            }
            thread::sleep(AGAIN);
        }
    };
    let thread = thread::Builder::new().name("children".to_owned());
    let started = thread.spawn(end);
    started.map(drop).context("failed to start a thread")
}

/// The children of this process.
fn children() -> impl Iterator<Item = Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let own = process::id() as i32;
    let children = pids.filter(move |&pid| ProcStat::of(pid).is_some_and(|it| it.parent == own));
    children.map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::thread;

    #[test]
    fn child_ends_with_the_thread_that_started_it() {
        let start = || {
            let mut command = Command::new("sleep");
            bind_to_parent(command.arg("3600"), Signal::SIGTERM);
            command.spawn().unwrap()
        };
        let mut child = thread::spawn(start).join().unwrap();
        let end = child.wait().unwrap();
        assert_eq!(end.signal(), Some(Signal::SIGTERM as i32));
    }

    #[test]
    fn children_are_those_of_this_process() {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let found: Vec<Pid> = children().collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&pid), "{found:?}");
        assert!(!found.contains(&getppid()), "{found:?}");
    }

    #[test]
    fn child_whose_parent_has_ended_already_does_not_start() {
        // Not waited for, it keeps its pid to itself; and it is not what starts the next one.
        let mut ended = Command::new("true").spawn().unwrap();
        let mut command = Command::new("true");
        bind(&mut command, ended.id(), Signal::SIGTERM);
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ESRCH as i32));
        ended.wait().unwrap();
    }
}
