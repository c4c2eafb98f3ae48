//! Child processes that end with the thread that started them, however that ends.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

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
