//! Cores and GPUs of this machine as slots, which the sweeps of a user share: no broker, no daemon, but a lock each.
//!
//! A slot is a file, `core-0`, ... or `cuda-0`, ..., in `/tmp/runboard-UID` or what `RUNBOARD_SLOTS` says, and whoever
//! has an exclusive flock(2) on it has the slot. The files are passed on to the supervisor of a point, and by that to its
//! trainer and its evaluator: a slot is free exactly when all of them have ended, however that happened. The numbers are
//! those that all processes of the machine have for them, as far as the kernel's numbers of cores and CUDA_VISIBLE_DEVICES
//! tell: a process may be confined to some cores, and see some GPUs alone. A GPU's number and its UUID are not known to be one.
//!
//! A point on the CPU takes as many cores as it has threads, all or none. Each slot has a queue, `core-0-queue`, the lock of
//! which is held by whoever waits for it, so that nobody who came later, or wants fewer, takes slots away one by one. A point takes slots
//! alone whose queue it holds. If it holds fewer than it wants, it keeps the first ones and leaves those behind the first
//! that another one holds: each waits for a later one than it holds, and so no two for each other.
//!
//! Who has a file locked is written in it, for those who wait: it means nothing while nobody has it locked.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{mem, thread};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::overview::count;
use crate::{bail_user, files};

/// The directory of the files, in the place of the one in /tmp.
const VARIABLE: &str = "RUNBOARD_SLOTS";

/// How often a file is opened anew that somebody has removed meanwhile.
const ATTEMPTS: usize = 10;

/// What is read at most of who has a slot, in bytes.
const MAX_HOLDER: u64 = 1 << 10;

/// The slots of this machine, and a place in their queue.
#[derive(Debug)]
pub struct Slots {
    directory: PathBuf,
    /// The numbers of the cores that this process may run on.
    cores: Vec<usize>,
    /// What CUDA_VISIBLE_DEVICES says: the names of `cuda:0`, `cuda:1` and so on for all processes of the machine.
    visible: Option<String>,
    /// Who waits, for others.
    owner: String,
    /// The queues that this process holds, by the slots' names, while it waits.
    queues: BTreeMap<String, File>,
    /// Whether it has got a slot since it waited last: others wait before it.
    served: bool,
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
        let given = env::var_os(VARIABLE).filter(|given| !given.is_empty());
        // Not what TMPDIR says, which may be another directory for each job, nor XDG_RUNTIME_DIR, which goes when its user logs out:
        // all sweeps of a user have to meet, as long as they run.
        let directory = given.map_or_else(
            || Path::new("/tmp").join(format!("runboard-{}", user())),
            PathBuf::from,
        );
        let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
        Self::new(directory, cores(), visible, owner)
    }

    fn new(
        directory: PathBuf,
        cores: Vec<usize>,
        visible: Option<String>,
        owner: String,
    ) -> Result<Self> {
        make_private(&directory)?;
        Ok(Slots {
            directory,
            cores,
            visible,
            owner,
            queues: BTreeMap::new(),
            served: false,
        })
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// A slot on the CPU for so many threads; none if they are not free now. Then this process waits in the queue.
    ///
    /// # Errors
    /// If a slot's file cannot be opened or locked.
    pub fn take_cores(&mut self, threads: usize) -> Result<Option<Slot>> {
        let (names, wanted) = (self.core_names(), self.wanted(threads));
        self.queue(&names, wanted)?;
        let mut files = Vec::new();
        for name in names.iter().filter(|it| self.queues.contains_key(*it)) {
            files.extend(self.lock(name)?);
            if files.len() == wanted {
                return Ok(Some(self.slot("cpu", files)));
            }
        }
        self.let_others_first();
        Ok(None)
    }

    /// A slot on one of these GPUs, `cuda:N`; none if none is free now. Then this process waits in the queue.
    ///
    /// # Errors
    /// As [`Slots::take_cores`].
    pub fn take_gpu(&mut self, devices: &[String]) -> Result<Option<Slot>> {
        self.queue(&self.gpu_names(devices), 1)?;
        for device in devices {
            let name = self.gpu_name(device);
            if self.queues.contains_key(&name)
                && let Some(file) = self.lock(&name)?
            {
                return Ok(Some(self.slot(device, vec![file])));
            }
        }
        self.let_others_first();
        Ok(None)
    }

    /// Queues for slots of these names, of which so many are wanted.
    fn queue(&mut self, names: &[String], wanted: usize) -> Result<()> {
        let mut names: Vec<&String> = names.iter().collect();
        names.sort();
        let mut first_missing = None;
        for name in names {
            if self.queues.contains_key(name) {
                continue;
            }
            match self.lock(&queue_name(name))? {
                Some(queue) => {
                    write_holder(&queue, &self.owner);
                    self.queues.insert(name.clone(), queue);
                }
                None => _ = first_missing.get_or_insert(name),
            }
        }
        if let Some(missing) = first_missing.filter(|_| self.queues.len() < wanted) {
            self.queues.retain(|name, _| name < missing);
        }
        Ok(())
    }

    /// Waits in the queues that it holds, unless it has been served since it waited last: whoever has waited meanwhile comes first.
    fn let_others_first(&mut self) {
        if mem::take(&mut self.served) {
            self.queues.clear();
        }
    }

    /// How many cores a point of so many threads takes.
    fn wanted(&self, threads: usize) -> usize {
        threads.clamp(1, self.cores.len().max(1))
    }

    fn core_names(&self) -> Vec<String> {
        let names = self.cores.iter().map(|core| format!("core-{core}"));
        names.collect()
    }

    fn gpu_names(&self, devices: &[String]) -> Vec<String> {
        let names = devices.iter().map(|device| self.gpu_name(device));
        names.collect()
    }

    /// Of `cuda:N`: the number or the UUID that the driver has for it.
    fn gpu_name(&self, device: &str) -> String {
        let own = device.strip_prefix("cuda:").unwrap_or(device);
        let visible = || {
            let mut names = self.visible.as_ref()?.split(',');
            let name = names.nth(own.parse().ok()?)?.trim();
            Some(name).filter(|name| !name.is_empty())
        };
        format!("cuda-{}", visible().unwrap_or(own)).replace('/', "-")
    }

    /// These files, which are locked, and nothing more to wait for; until the point is there that they are for, it is the owner who has
    /// them.
    fn slot(&mut self, device: &str, files: Vec<File>) -> Slot {
        self.leave();
        self.served = true;
        let slot = Slot {
            device: device.to_owned(),
            files,
        };
        slot.set_holder(&self.owner);
        slot
    }

    /// What a point waits for that wants so many cores, and who has them, in a few words for people.
    pub fn wait_for_cores(&self, threads: usize) -> String {
        self.wait_for(&count(self.wanted(threads), "core"), &self.core_names())
    }

    /// What a point waits for that wants one of these GPUs, and who has them, in a few words for people.
    pub fn wait_for_gpu(&self, devices: &[String]) -> String {
        let wanted = match devices {
            [only] => only,
            _ => "a GPU",
        };
        self.wait_for(wanted, &self.gpu_names(devices))
    }

    /// `for 2 cores: rates/20261126-050000/003 (pid 123) has what there is; ... waits before it`.
    fn wait_for(&self, wanted: &str, names: &[String]) -> String {
        let holders = self.holders(names.iter().cloned());
        let mut wait = format!("for {wanted}");
        match &holders[..] {
            [] => {}
            [one] => wait += &format!(": {one} has what there is"),
            [first, others @ ..] => {
                wait += &format!(": {first} and {} more have what there is", others.len());
            }
        }
        let others = names.iter().filter(|name| !self.queues.contains_key(*name));
        let others = self.holders(others.map(|name| queue_name(name)));
        if let Some(first) = others.first() {
            wait += &format!("; {first} waits before it");
        }
        wait
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
        self.queues.clear();
    }

    /// The locked file of this name; none if another one has it locked. Somebody may tidy up in /tmp: what is removed is made again.
    fn lock(&self, name: &str) -> Result<Option<File>> {
        let path = self.directory.join(name);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        for _ in 0..ATTEMPTS {
            let file = match files::open_regular_with(&path, &options) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    make_private(&self.directory)?;
                    continue;
                }
                file => file.with_context(|| format!("failed to open {}", path.display()))?,
            };
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Some(file)),
                Ok(()) => {} // others lock the one that took its place
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("failed to lock {}", path.display()));
                }
            }
        }
        bail!(
            "{} is removed again and again, want it left alone",
            path.display()
        )
    }
}

/// The name of the queue for the slot of this name.
fn queue_name(slot: &str) -> String {
    format!("{slot}-queue")
}

/// Whether a file is the one at a path still.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: &Metadata| (it.dev(), it.ino());
    let [own, there] = [file.metadata(), fs::symlink_metadata(path)].map(|it| it.ok());
    own.is_some() && own.as_ref().map(identity) == there.as_ref().map(identity)
}

/// The numbers of the cores that this process may run on, as many of them as it may keep busy.
fn cores() -> Vec<usize> {
    let count = thread::available_parallelism().map_or(1, usize::from);
    let allowed = sched_getaffinity(Pid::this()).ok().map(|allowed| {
        let cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        cores.take(count).collect::<Vec<_>>()
    });
    let allowed = allowed.filter(|cores| cores.len() == count);
    allowed.unwrap_or_else(|| (0..count).collect())
}

impl Slot {
    /// Says who has it from now on, for those who wait for it.
    pub fn set_holder(&self, holder: &str) {
        self.files
            .iter()
            .for_each(|file| write_holder(file, holder));
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
        bail_user!(
            "{} belongs to the user {}, want one of this user's own, in which sweeps lock cores and GPUs: set \
             {VARIABLE} to another one",
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
        slots_of(directory, &Vec::from_iter(0..cores), None)
    }

    fn slots_of(directory: &Path, cores: &[usize], visible: Option<&str>) -> Slots {
        let owner = "a sweep (pid 7)".to_owned();
        let visible = visible.map(str::to_owned);
        Slots::new(directory.join("slots"), cores.to_vec(), visible, owner).unwrap()
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
        // Who has just got one waits from the next time on.
        assert!((0..2).all(|_| one.take_cores(3).unwrap().is_none()));
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
        // GPUs have queues, too.
        assert!((0..2).all(|_| one.take_gpu(&gpus).unwrap().is_none()));
        assert!(other.take_gpu(&gpus[1..]).unwrap().is_none());
        assert_eq!(
            other.wait_for_gpu(&gpus[1..]),
            "for cuda:1: y has what there is; a sweep (pid 7) waits before it"
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
        assert!((0..2).all(|_| one.take_gpu(&devices).unwrap().is_none()));
        drop(second);
        // For who waits, not for who came later.
        assert!(other.take_gpu(&devices).unwrap().is_none());
        assert_eq!(one.take_gpu(&devices).unwrap().unwrap().device, "cuda:1");
    }

    #[test]
    fn processes_confined_to_other_cores_or_gpus_do_not_wait_for_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let on = |cores: &[usize], visible| slots_of(directory.path(), cores, Some(visible));
        let (mut one, mut other) = (on(&[0, 1], "0"), on(&[2, 3], "1"));
        let _cores = one.take_cores(2).unwrap().unwrap();
        assert!((0..2).all(|_| one.take_cores(1).unwrap().is_none()));
        assert!(other.take_cores(2).unwrap().is_some());
        // Who shares some of them waits for those alone, and keeps no other from the rest meanwhile.
        let mut both = on(&[1, 2], "");
        assert!(both.take_cores(2).unwrap().is_none());
        assert!(other.take_cores(2).unwrap().is_some());
        assert!(both.take_cores(1).unwrap().is_some());

        let first = ["cuda:0".to_owned()];
        let _gpu = one.take_gpu(&first).unwrap().unwrap();
        let _other = other.take_gpu(&first).unwrap().unwrap();
        // The same GPU under two numbers.
        let mut all = on(&[0], "");
        assert!(all.take_gpu(&["cuda:1".to_owned()]).unwrap().is_none());
        let named = on(&[0], " GPU-8932f937, MIG-GPU-5c89/1/0");
        assert_eq!(named.gpu_name("cuda:0"), "cuda-GPU-8932f937");
        assert_eq!(named.gpu_name("cuda:1"), "cuda-MIG-GPU-5c89-1-0");
        assert_eq!(named.gpu_name("cuda:2"), "cuda-2");
    }

    #[test]
    fn gpu_that_another_one_waits_for_keeps_nobody_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other, mut third] = [0, 1, 2].map(|_| slots(directory.path(), 1));
        let devices = ["cuda:0", "cuda:1", "cuda:2"].map(str::to_owned);
        let _busy = third.take_gpu(&devices[1..2]).unwrap().unwrap();
        assert!(one.take_gpu(&devices[1..2]).unwrap().is_none());
        let first = other.take_gpu(&devices).unwrap().unwrap();
        let second = other.take_gpu(&devices).unwrap().unwrap();
        assert_eq!((&*first.device, &*second.device), ("cuda:0", "cuda:2"));
    }

    #[test]
    fn who_has_got_a_slot_lets_those_go_first_who_have_waited() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other] = [0, 1].map(|_| slots(directory.path(), 2));
        let first = one.take_cores(1).unwrap().unwrap();
        let _second = one.take_cores(1).unwrap().unwrap();
        assert!(one.take_cores(1).unwrap().is_none());
        assert!(other.take_cores(1).unwrap().is_none());
        assert!(one.take_cores(1).unwrap().is_none());
        drop(first);
        assert!(one.take_cores(1).unwrap().is_none());
        assert!(other.take_cores(1).unwrap().is_some());
    }

    #[test]
    fn slots_that_somebody_removes_are_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut slots = slots(directory.path(), 2);
        let before = slots.take_cores(2).unwrap().unwrap();
        fs::remove_dir_all(directory.path().join("slots")).unwrap();
        assert_eq!(slots.take_cores(2).unwrap().unwrap().files.len(), 2);
        assert!(!is_at(
            &before.files[0],
            &directory.path().join("slots/core-0")
        ));
    }

    #[test]
    fn slots_need_a_directory_of_this_user() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("slots");
        fs::write(&file, "").unwrap();
        let error = Slots::new(file.clone(), vec![0], None, String::new())
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
            let error = Slots::new(file.clone(), vec![0], None, String::new())
                .unwrap_err()
                .to_string();
            let begin = format!("{} belongs to the user 12345, want", file.display());
            assert!(error.starts_with(&begin), "{error}");
        }
    }
}
