//! Cores and GPUs of this machine as slots, which the sweeps of a user share: no broker, no daemon, but a lock each.
//!
//! A slot is a file, `core-0`, ... or `cuda-0`, ..., in `$XDG_RUNTIME_DIR/runboard` or else in `/tmp/runboard-UID`, and whoever
//! has an exclusive flock(2) on it has the slot. The files are passed on to the supervisor of a point, and by that to its
//! trainer and its evaluator: a slot is free exactly when all of them have ended, however that happened.
//!
//! A point on the CPU takes as many cores as it has threads, all or none. Whoever waits for them holds the lock of the queue,
//! so that nobody who wants fewer takes them away one by one. Who has a file locked is written in it, for those who wait: it
//! means nothing while nobody has it locked.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::overview::count;
use crate::{bail_user, files};

/// The lock of those who wait for cores.
const QUEUE: &str = "core-queue";

/// What is read at most of who has a slot, in bytes.
const MAX_HOLDER: u64 = 1 << 10;

/// The slots of this machine, and a place in their queue.
#[derive(Debug)]
pub struct Slots {
    directory: PathBuf,
    cores: usize,
    /// Who waits, for others.
    owner: String,
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
    /// Those of this machine. `owner` is who waits for them, for others.
    ///
    /// # Errors
    /// If the directory cannot be made, and a user error if it is another user's.
    pub fn of_this_machine(owner: String) -> Result<Self> {
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|runtime| runtime.is_absolute() && runtime.is_dir());
        let directory = match runtime {
            Some(runtime) => runtime.join("runboard"),
            // Not what TMPDIR says, which may be another directory for each job: all sweeps of a user have to meet.
            None => Path::new("/tmp").join(format!("runboard-{}", user())),
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new(directory, cores, owner)
    }

    fn new(directory: PathBuf, cores: usize, owner: String) -> Result<Self> {
        make_private(&directory)?;
        Ok(Slots {
            directory,
            cores,
            owner,
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
            self.queue = self.lock(QUEUE)?;
            if let Some(queue) = &self.queue {
                write_holder(queue, &self.owner);
            }
        }
        if self.queue.is_none() {
            return Ok(None); // somebody was there before
        }
        let wanted = threads.clamp(1, self.cores);
        let mut files = Vec::new();
        for core in 0..self.cores {
            files.extend(self.lock(&core_name(core))?);
            if files.len() == wanted {
                self.leave();
                return Ok(Some(self.slot("cpu", files)));
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
            if let Some(file) = self.lock(&gpu_name(device))? {
                return Ok(Some(self.slot(device, vec![file])));
            }
        }
        Ok(None)
    }

    /// These files, which are locked; until the point is there that they are for, it is the owner who has them.
    fn slot(&self, device: &str, files: Vec<File>) -> Slot {
        let slot = Slot {
            device: device.to_owned(),
            files,
        };
        slot.set_holder(&self.owner);
        slot
    }

    /// What a point waits for that wants so many cores, and who has them, in a few words for people.
    pub fn wait_for_cores(&self, threads: usize) -> String {
        let holders = self.holders((0..self.cores).map(core_name));
        let mut wait = wait(&count(threads.clamp(1, self.cores), "core"), &holders);
        if self.queue.is_none()
            && let Some(first) = self.holders([QUEUE.to_owned()]).first()
        {
            wait += &format!("; {first} waits before it");
        }
        wait
    }

    /// What a point waits for that wants one of these GPUs, and who has them, in a few words for people.
    pub fn wait_for_gpu(&self, devices: &[String]) -> String {
        let holders = self.holders(devices.iter().map(|device| gpu_name(device)));
        let wanted = match devices {
            [only] => only.clone(),
            _ => "a GPU".to_owned(),
        };
        wait(&wanted, &holders)
    }

    /// Who has these files locked, each once.
    fn holders(&self, names: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut holders: Vec<String> = Vec::new();
        for name in names {
            if !matches!(self.lock(&name), Ok(None)) {
                continue;
            }
            let text = files::read_small(&self.directory.join(name), MAX_HOLDER);
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            let holder = text.lines().next().unwrap_or_default();
            if !holder.is_empty() && !holders.iter().any(|it| it == holder) {
                holders.push(holder.to_owned());
            }
        }
        holders
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

impl Slot {
    /// Says who has it from now on, for those who wait for it.
    pub fn set_holder(&self, holder: &str) {
        self.files
            .iter()
            .for_each(|file| write_holder(file, holder));
    }
}

fn core_name(core: usize) -> String {
    format!("core-{core}")
}

/// Of `cuda:N`.
fn gpu_name(device: &str) -> String {
    device.replace(':', "-")
}

/// `for 2 cores: rates/20261126-050000/003 (pid 123) has what there is`.
fn wait(wanted: &str, holders: &[String]) -> String {
    match holders {
        [] => format!("for {wanted}"),
        [one] => format!("for {wanted}: {one} has what there is"),
        [first, others @ ..] => {
            format!(
                "for {wanted}: {first} and {} more have what there is",
                others.len()
            )
        }
    }
}

/// Only told: that it cannot be written, on a full disk say, harms nothing.
fn write_holder(file: &File, holder: &str) {
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all_at(format!("{holder}\n").as_bytes(), 0));
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
    use std::time::Duration;

    fn slots(directory: &Path, cores: usize) -> Slots {
        Slots::new(directory.join("slots"), cores, "a sweep (pid 7)".to_owned()).unwrap()
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
    fn wait_tells_who_has_the_cores_or_gpus_and_who_waits_before() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other] = [0, 1].map(|_| slots(directory.path(), 3));
        let first = one.take_cores(1).unwrap().unwrap();
        first.set_holder("a run of a long name (pid 5)");
        first.set_holder("a run (pid 5)");
        assert!(one.take_cores(3).unwrap().is_none());
        let held = "for 3 cores: a run (pid 5) has what there is";
        assert_eq!(one.wait_for_cores(9), held);
        assert!(other.take_cores(1).unwrap().is_none());
        assert_eq!(
            other.wait_for_cores(1),
            "for 1 core: a run (pid 5) has what there is; a sweep (pid 7) waits before it"
        );
        one.leave();
        // A process that another test is just starting may have the lock for a moment more.
        let soon = |is_so: &mut dyn FnMut() -> bool| {
            (0..500).any(|_| {
                thread::sleep(Duration::from_millis(10));
                is_so()
            })
        };
        let mut taken = None;
        assert!(soon(&mut || {
            taken = other.take_cores(1).unwrap();
            taken.is_some()
        }));
        taken.unwrap().set_holder("nobody any more");
        assert!(soon(&mut || one.wait_for_cores(9) == held));
        let gpus = ["cuda:0", "cuda:1"].map(str::to_owned);
        assert_eq!(one.wait_for_gpu(&gpus[..1]), "for cuda:0");
        let taken = [one.take_gpu(&gpus), other.take_gpu(&gpus)].map(|it| it.unwrap().unwrap());
        taken
            .iter()
            .zip(["x", "y"])
            .for_each(|(slot, name)| slot.set_holder(name));
        assert_eq!(
            one.wait_for_gpu(&gpus),
            "for a GPU: x and 1 more have what there is"
        );
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
        let error = Slots::new(file.clone(), 1, String::new())
            .unwrap_err()
            .to_string();
        let begin = format!("{}: got something else than a directory", file.display());
        assert!(error.starts_with(&begin), "{error}");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let given = Command::new("chown")
            .args(["12345", file.to_str().unwrap()])
            .status();
        if given.is_ok_and(|status| status.success()) {
            let error = Slots::new(file.clone(), 1, String::new())
                .unwrap_err()
                .to_string();
            let begin = format!("{} belongs to the user 12345, want", file.display());
            assert!(error.starts_with(&begin), "{error}");
        }
    }
}
