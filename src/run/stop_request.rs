//! A request to stop a process that cannot be signalled: in another container, on another machine.
//!
//! It is a file in the run directory, `ROLE.stop.json`, which names the process by its lock's line. So it is no request
//! to the next process of the role, nor, in a copy of the directory, to anybody. Each process of a run looks for its own.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::lock::Holder;
use super::{Lock, ProcessDir, Role, RunDir, Status, SupervisorStatus};
use crate::files::{read_if_there, replace};
use crate::shutdown::Shutdown;

/// How often a process looks for a request.
const INTERVAL: Duration = Duration::from_millis(200);

const VERSION: u32 = 1;

/// A request has about a hundred bytes.
const MAX_BYTES: u64 = 1 << 16;

/// What a request counts as.
const SIGTERM: i32 = 15;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct StopRequest {
    version: u32,
    /// The process that is to stop, as its lock file has it.
    holder: Holder,
    /// Whether it shall end at once, without a last checkpoint.
    now: bool,
    /// Whether the supervisor of another host was asked, which passes it on.
    #[serde(default)]
    passed_on: bool,
}

/// Asks the process of the role to stop whose lock says `holder`; `now` is without a last checkpoint.
///
/// # Errors
/// If the request cannot be written.
pub(crate) fn write(directory: &ProcessDir, role: Role, holder: &Holder, now: bool) -> Result<()> {
    let request = StopRequest {
        version: VERSION,
        holder: holder.clone(),
        now,
        passed_on: false,
    };
    request.write(directory, role)
}

impl StopRequest {
    /// Write it, in the place of an earlier one of the same process, as which it never asks for less.
    fn write(mut self, directory: &ProcessDir, role: Role) -> Result<()> {
        let before = read(directory, role).ok().flatten();
        if let Some(before) = before.filter(|before| before.holder == self.holder) {
            self.now |= before.now; // it is not to take its time again
            self.passed_on &= before.passed_on; // it was asked on this host
        }
        let mut json = serde_json::to_vec(&self).context("failed to encode a request to stop")?;
        json.push(b'\n');
        replace(&directory.stop_request(role), &json)
    }
}

/// Asks the run to stop whose trainer this process is, as another host was asked: its supervisor if there is one, or else `stop`, the trainer's own.
pub fn request_stop(run: &RunDir, stop: &Shutdown) {
    if stop.requested().is_some() {
        return;
    }
    let supervisor = SupervisorStatus::load(run).ok().flatten();
    let supervisor = supervisor.filter(|status| status.alive(run));
    let holder = supervisor.and_then(|_| Lock::holder(run, Role::Supervisor));
    let request = holder.map(|holder| StopRequest {
        version: VERSION,
        holder,
        now: false,
        passed_on: true,
    });
    let asked = request.is_some_and(|request| request.write(run, Role::Supervisor).is_ok());
    if !asked {
        stop.request_once(SIGTERM);
    }
}

/// Removes the request to an earlier process of the role, if there is one.
pub(super) fn remove(directory: &ProcessDir, role: Role) {
    let _ = fs::remove_file(directory.stop_request(role)); // left there it is ignored
}

fn read(directory: &ProcessDir, role: Role) -> Result<Option<StopRequest>> {
    let path = directory.stop_request(role);
    let Some(json) = read_if_there(&path, MAX_BYTES)? else {
        return Ok(None);
    };
    let failed = || format!("failed to read {}: no request to stop", path.display());
    let request: StopRequest = serde_json::from_slice(&json).with_context(failed)?;
    ensure!(
        request.version <= VERSION,
        "{}: got version {}, want at most {VERSION}",
        path.display(),
        request.version
    );
    Ok(Some(request))
}

/// Looks for requests to the calling process until this is dropped.
#[derive(Debug)]
pub struct StopRequests(#[expect(dead_code, reason = "ends the thread when dropped")] Sender<()>);

impl StopRequests {
    /// Passes requests to the process that holds `lock` on to `shutdown`, as if they were signals.
    ///
    /// # Errors
    /// If the thread that does so cannot be started.
    pub fn watch(lock: &Lock, shutdown: &Shutdown) -> Result<Self> {
        let (sender, ended) = mpsc::channel();
        let (directory, role) = (lock.directory().clone(), lock.role());
        let shutdown = shutdown.clone();
        let look = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // What is no request, or cannot be read, is nobody's.
                let request = read(&directory, role).ok().flatten();
                // Who holds the lock is read beside it: when this process began, the one that has started it may just have been
                // writing it down.
                let is_own = |request: &StopRequest| {
                    Lock::holder(&directory, role).as_ref() == Some(&request.holder)
                };
                let own = request.filter(is_own);
                match &own {
                    Some(request) if request.now => {
                        shutdown.force(SIGTERM);
                        break;
                    }
                    Some(request) if request.passed_on => shutdown.pass_on(SIGTERM),
                    Some(_) => shutdown.request_once(SIGTERM),
                    None => {}
                }
            }
        };
        thread::Builder::new()
            .name("stop requests".to_owned())
            .spawn(look)
            .context("failed to start the thread that looks for requests to stop")?;
        Ok(StopRequests(sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, ProcessState, provenance};

    #[test]
    fn request_is_found_by_a_process_whose_lock_file_was_being_written_when_it_began() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let lock = Lock::take(&run, Role::TRAIN).unwrap();
        let text = fs::read(run.lock(Role::TRAIN)).unwrap();
        fs::write(run.lock(Role::TRAIN), "").unwrap();
        let shutdown = Shutdown::new();
        let _requests = StopRequests::watch(&lock, &shutdown).unwrap();
        assert!(!shutdown.sleep(INTERVAL * 3));
        fs::write(run.lock(Role::TRAIN), text).unwrap();
        let holder = Lock::holder(&run, Role::TRAIN).unwrap();
        write(&run, Role::TRAIN, &holder, false).unwrap();
        assert!(shutdown.sleep(Duration::from_secs(600)));
    }

    #[test]
    fn request_stops_the_process_it_names_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let lock = Lock::take(&run, Role::TRAIN).unwrap();
        let shutdown = Shutdown::new();
        let _requests = StopRequests::watch(&lock, &shutdown).unwrap();

        let other = Holder::from("pid 1 on another machine");
        write(&run, Role::TRAIN, &other, true).unwrap();
        assert!(!shutdown.sleep(INTERVAL * 5));
        let holder = Lock::holder(&run, Role::TRAIN).unwrap();
        write(&run, Role::TRAIN, &holder, false).unwrap();
        assert!(shutdown.sleep(Duration::from_secs(600)));
        assert_eq!(shutdown.requested(), Some(SIGTERM));
        write(&run, Role::TRAIN, &holder, false).unwrap();
        thread::sleep(INTERVAL * 5);
        assert!(!shutdown.forced(), "it was only asked to stop, twice");

        write(&run, Role::TRAIN, &holder, true).unwrap();
        while !shutdown.forced() {
            thread::sleep(INTERVAL);
        }
        // Asked for once, it stays so.
        write(&run, Role::TRAIN, &holder, false).unwrap();
        assert!(read(&run, Role::TRAIN).unwrap().unwrap().now);
    }

    #[test]
    fn request_that_another_host_passes_on_takes_back_none_of_this_host() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let lock = Lock::take(&run, Role::Supervisor).unwrap();
        let mut status = SupervisorStatus::new(Process::current(), None);
        status.process.state = ProcessState::Running;
        status.save(&run).unwrap();
        let holder = Lock::holder(&run, Role::Supervisor).unwrap();
        let shutdown = Shutdown::new();
        let asked = || {
            request_stop(&run, &shutdown);
            let request = read(&run, Role::Supervisor).unwrap().unwrap();
            (request.now, request.passed_on)
        };
        assert_eq!(asked(), (false, true));
        write(&run, Role::Supervisor, &holder, false).unwrap();
        assert_eq!(asked(), (false, false));
        write(&run, Role::Supervisor, &holder, true).unwrap();
        assert_eq!(asked(), (true, false));
        assert_eq!(shutdown.requested(), None, "the supervisor was there");
        drop(lock);
    }

    #[test]
    fn requests_to_earlier_processes_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        for role in [Role::TRAIN, Role::Eval] {
            write(&run, role, &Holder::from("pid 1 on another machine"), false).unwrap();
        }
        let _lock = Lock::take(&run, Role::TRAIN).unwrap();
        assert!(!run.stop_request(Role::TRAIN).exists());
        assert!(run.stop_request(Role::Eval).exists());
    }
}
