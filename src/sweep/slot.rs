//! Cores and GPUs of this machine as slots, which the sweeps of a user share: no broker, no daemon, but a lock each.
//!
//! A slot is a file, `core-0`, ... or `cuda-0`, ..., in `$XDG_RUNTIME_DIR/runboard` or else in `/tmp/runboard-UID`, and whoever
//! has an exclusive flock(2) on it has the slot. The files are passed on to the supervisor of a point, and by that to its
//! trainer and its evaluator: a slot is free exactly when all of them have ended, however that happened.
//!
//! A point on the CPU takes as many cores as it has threads, all or none. Whoever waits for them holds the lock of the queue,
//! so that nobody who wants fewer takes them away one by one.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::{bail_user, files};

/// The slots of this machine, and a place in their queue.
#[derive(Debug)]
pub struct Slots {
    directory: PathBuf,
    cores: usize,
    /// The lock of the queue, while this process waits for cores.
    queue: Option<File>,
}

/// What a point computes on, until all who hold its files have ended.
#[derive(Debug)]
pub struct Slot {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// To be passed on to the point's processes.
    pub files: Vec<File>,
}

impl Slots {
    /// Those of this machine.
    ///
    /// # Errors
    /// If the directory cannot be made, and a user error if it is another user's.
    pub fn of_this_machine() -> Result<Self> {
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|runtime| runtime.is_absolute() && runtime.is_dir());
        let directory = match runtime {
            Some(runtime) => runtime.join("runboard"),
            None => env::temp_dir().join(format!("runboard-{}", user())),
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new(directory, cores)
    }

    fn new(directory: PathBuf, cores: usize) -> Result<Self> {
        make_private(&directory)?;
        Ok(Slots {
            directory,
            cores,
            queue: None,
        })
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// A slot on the CPU for so many threads; none if they are not free now. Then this process waits in the queue.
    ///
    /// # Errors
    /// If a slot's file cannot be opened or locked.
    pub fn take_cores(&mut self, threads: usize) -> Result<Option<Slot>> {
        if self.queue.is_none() {
            self.queue = self.lock("core-queue")?;
        }
        if self.queue.is_none() {
            return Ok(None); // somebody was there before
        }
        let wanted = threads.clamp(1, self.cores);
        let mut files = Vec::new();
        for core in 0..self.cores {
            files.extend(self.lock(&format!("core-{core}"))?);
            if files.len() == wanted {
                self.leave();
                let device = "cpu".to_owned();
                return Ok(Some(Slot { device, files }));
            }
        }
        Ok(None)
    }

    /// A slot on one of these GPUs, `cuda:N`; none if none is free now.
    ///
    /// # Errors
    /// As [`Slots::take_cores`].
    pub fn take_gpu(&mut self, devices: &[String]) -> Result<Option<Slot>> {
        for device in devices {
            if let Some(file) = self.lock(&device.replace(':', "-"))? {
                return Ok(Some(Slot {
                    device: device.clone(),
                    files: vec![file],
                }));
            }
        }
        Ok(None)
    }

    /// Waits no longer.
    pub fn leave(&mut self) {
        self.queue = None;
    }

    /// The locked file of this name; none if another one has it locked.
    fn lock(&self, name: &str) -> Result<Option<File>> {
        let path = self.directory.join(name);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = files::open_regular_with(&path, &options)
            .with_context(|| format!("failed to open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("failed to lock {}", path.display()))
            }
        }
    }
}

/// The id of this process's user.
fn user() -> u32 {
    // SAFETY: a plain system call that cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes a directory of this user's own, or makes sure that it is.
fn make_private(directory: &Path) -> Result<()> {
    let made = DirBuilder::new().mode(0o700).create(directory);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("failed to create {}", directory.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(directory)
        .with_context(|| format!("failed to read {}", directory.display()))?;
    if !found.is_dir() {
        bail_user!(
            "{}: got something else than a directory, want one in which sweeps lock cores and GPUs",
            directory.display()
        );
    }
    if found.uid() != user() {
        bail!(
            "{} belongs to the user {}, want one of this user's own, in which sweeps lock cores and GPUs: set \
             XDG_RUNTIME_DIR",
            directory.display(),
            found.uid()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn slots(directory: &Path, cores: usize) -> Slots {
        Slots::new(directory.join("slots"), cores).unwrap()
    }

    #[test]
    fn cores_are_taken_all_or_none_and_free_when_they_are_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other] = [0, 1].map(|_| slots(directory.path(), 4));
        let three = one.take_cores(3).unwrap().unwrap();
        assert_eq!((&*three.device, three.files.len()), ("cpu", 3));
        assert!(other.take_cores(2).unwrap().is_none());
        // The one core that is free is for who waits, not for who came later and wants no more than it.
        assert!(one.take_cores(1).unwrap().is_none());
        drop(three);
        let two = other.take_cores(2).unwrap().unwrap();
        let again = one.take_cores(2).unwrap().unwrap();
        assert_eq!((two.files.len(), again.files.len()), (2, 2));
        // More than there are is all.
        drop((two, again));
        assert_eq!(one.take_cores(9).unwrap().unwrap().files.len(), 4);
    }

    #[test]
    fn who_leaves_the_queue_lets_others_pass() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other] = [0, 1].map(|_| slots(directory.path(), 2));
        let _first = one.take_cores(1).unwrap().unwrap();
        assert!(other.take_cores(2).unwrap().is_none());
        assert!(one.take_cores(1).unwrap().is_none());
        other.leave();
        assert!(one.take_cores(1).unwrap().is_some());
    }

    #[test]
    fn gpu_is_given_to_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other] = [0, 1].map(|_| slots(directory.path(), 1));
        let devices = ["cuda:0", "cuda:1"].map(str::to_owned);
        let first = one.take_gpu(&devices).unwrap().unwrap();
        let second = other.take_gpu(&devices).unwrap().unwrap();
        assert_eq!((&*first.device, &*second.device), ("cuda:0", "cuda:1"));
        assert!(one.take_gpu(&devices).unwrap().is_none());
        drop(second);
        assert_eq!(one.take_gpu(&devices).unwrap().unwrap().device, "cuda:1");
    }

    #[test]
    fn slots_need_a_directory_of_this_user() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("slots");
        fs::write(&file, "").unwrap();
        let error = Slots::new(file.clone(), 1).unwrap_err().to_string();
        let begin = format!("{}: got something else than a directory", file.display());
        assert!(error.starts_with(&begin), "{error}");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let given = Command::new("chown")
            .args(["12345", file.to_str().unwrap()])
            .status();
        if given.is_ok_and(|status| status.success()) {
            let error = Slots::new(file.clone(), 1).unwrap_err().to_string();
            let begin = format!("{} belongs to the user 12345, want", file.display());
            assert!(error.starts_with(&begin), "{error}");
        }
    }
}
