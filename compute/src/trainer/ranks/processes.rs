//! The processes of this host's ranks.

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, Signal, signal};
use runboard::launch::Launch;
use runboard::parent::{bind_to_parent, end_child};
use runboard::run::{Role, RunDir};
use runboard::{files, paths};
use std::env;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// The processes of this host's ranks but this one, which is rank 0.
pub struct RankProcesses {
    children: Arc<Mutex<Vec<(Role, Child)>>>,
    /// Where ranks of one host meet: no other user can open it. None where they meet those of others.
    directory: Option<TempDir>,
    /// Whether training was started because a rank, of any host, was lost.
    was_lost: bool,
}

impl RankProcesses {
    /// Start them; none where one process trains alone.
    ///
    /// # Errors
    /// The system's.
    pub fn start(run: &RunDir, launch: &Launch, was_lost: bool) -> Result<Option<Self>> {
        if launch.world == 1 {
            return Ok(None);
        }
        let directory = match launch.rendezvous {
            Some(_) => None,
            None => Some(files::temporary_dir("for the ranks to meet in")?),
        };
        let processes = RankProcesses {
            children: Arc::default(),
            directory,
            was_lost,
        };
        for index in 1..launch.count {
            let launch = launch.of_rank(index);
            let role = Role::Train {
                rank: u32::try_from(launch.rank)?,
            };
            let child = start_rank(run, role, &launch, processes.store().as_deref())
                .with_context(|| format!("failed to start the process {role}"))?;
            processes.lock().push((role, child));
        }
        Ok(Some(processes))
    }

    /// Whether training was started because a rank, of any host, was lost.
    pub fn was_lost(&self) -> bool {
        self.was_lost
    }

    /// Says of one that has ended, if one has.
    pub fn ended(&self) -> impl Fn() -> Option<String> + Send + use<> {
        let children = Arc::clone(&self.children);
        move || {
            let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
            children.iter_mut().find_map(|(role, child)| {
                let status = child.try_wait().ok()??;
                let role_log = format!("{role}.log");
                Some(format!(
                    "the {} ended ({status}); {role_log} says more",
                    role.process_name()
                ))
            })
        }
    }

    /// Where the ranks meet, if all are of this host.
    pub fn store(&self) -> Option<PathBuf> {
        let directory = self.directory.as_ref();
        directory.map(|directory| directory.path().join("store"))
    }

    /// The directory of that, which is removed when it is dropped.
    pub fn take_directory(&mut self) -> Option<TempDir> {
        self.directory.take()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Role, Child)>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RankProcesses {
    fn drop(&mut self) {
        let mut children = self.lock();
        for (_, child) in children.iter_mut() {
            let _ = child.kill(); // all at once; they have nothing to save
        }
        children.iter_mut().for_each(|(_, child)| end_child(child));
    }
}

/// Start the process of a rank. It ends with this process, and by nothing else that is meant for it: a request to stop
/// reaches the whole process group, but it is rank 0 that ends training.
fn start_rank(run: &RunDir, role: Role, launch: &Launch, store: Option<&Path>) -> Result<Child> {
    let mut log = OpenOptions::new();
    let log = log.create(true).append(true).open(run.log(role))?;
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = env::args_os().next() {
        command.arg0(name); // runboard's, to whoever looks
    }
    command
        .arg("rank")
        .arg("--run")
        .arg(paths::unexpanded(run.path()))
        .args(["--launch", &serde_json::to_string(launch)?])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(store) = store {
        command.arg("--store").arg(store);
    }
    let ignore_requests = || {
        for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: no handler is given that could be called.
            unsafe { signal(stop, SigHandler::SigIgn) }?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `ignore_requests` makes plain system calls,
    // and its errors are bare numbers that need no memory.
    unsafe { command.pre_exec(ignore_requests) };
    bind_to_parent(&mut command, Signal::SIGKILL);
    Ok(command.spawn()?)
}
