//! The file system that runs are on: room, speed, locks and its clock.

use super::finding::Finding;
use crate::overview::bytes;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::statfs::{self, FsType, statfs};
use serde_json::json;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// What is free at least: some checkpoints and the curves of a run; and what a long sweep wants.
const LEAST: u64 = 200_000_000;
const ENOUGH: u64 = 5_000_000_000;

/// So much is written, or for so long.
const WRITTEN: usize = 64 << 20;
const LONGEST: Duration = Duration::from_millis(1500);
const BLOCK: usize = 1 << 20;

/// Small files that are written and synced, as statuses and journals are.
const SYNCED: u32 = 5;

/// A disk that writes less in a second, or takes longer to sync, is what a run waits for.
const SLOW: f64 = 20e6;
const SLOW_SYNC: f64 = 0.1;

/// Seconds that a file server's clock may be off.
const CLOCK: f64 = 5.0;

/// Names of file systems by their numbers (`man 2 statfs`), and whether it is one of the network.
const FILE_SYSTEMS: [(FsType, &str); 10] = [
    (statfs::EXT4_SUPER_MAGIC, "ext4"),
    (statfs::XFS_SUPER_MAGIC, "xfs"),
    (statfs::BTRFS_SUPER_MAGIC, "btrfs"),
    (statfs::OVERLAYFS_SUPER_MAGIC, "overlay"),
    (statfs::TMPFS_MAGIC, TMPFS),
    (statfs::NFS_SUPER_MAGIC, "nfs"),
    (statfs::SMB_SUPER_MAGIC, "smb"),
    (statfs::FUSE_SUPER_MAGIC, "fuse"),
    (FsType(0x2fc1_2fc1), "zfs"),
    (FsType(0x0bd0_0bd0), "lustre"),
];
const TMPFS: &str = "tmpfs";

/// Looks at something of a directory's file system.
type Look = fn(&Path) -> Result<Finding>;

/// How the names of directories begin for what is tried.
const PREFIX: &str = ".runboard-doctor-";

/// A directory for what is tried, which is removed in the end.
pub struct Trial {
    directory: TempDir,
    /// Is locked for as long as the directory is used, where the file system has locks.
    _lock: File,
}

impl Trial {
    /// One in the directory of the runs or, where there is none yet, in the nearest one above. Those go that a doctor left
    /// there who was killed.
    pub fn new(runs: &Path) -> Result<Self> {
        let absolute = std::path::absolute(runs)?;
        let there = |place: &&Path| place.symlink_metadata().is_ok();
        let place = absolute.ancestors().find(there);
        let place = place.unwrap_or(Path::new("/"));
        if !place.is_dir() {
            bail!("{} is no directory", place.display());
        }
        remove_left(place);
        loop {
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place);
            let directory = made.map_err(|error| {
                // Without the name of what cannot be made.
                anyhow!(
                    "nothing can be written in {}: {}",
                    place.display(),
                    error.kind()
                )
            })?;
            let lock = File::open(directory.path());
            let lock =
                lock.with_context(|| format!("nothing can be read in {}", place.display()))?;
            let _ = lock.lock();
            // Unlocked, it may have been taken for one that was left.
            if directory.path().is_dir() {
                let _lock = lock;
                return Ok(Trial { directory, _lock });
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what nobody has locked any more.
fn remove_left(place: &Path) {
    let names = fs::read_dir(place).into_iter().flatten().flatten();
    let left = names.filter(|it| {
        it.file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
    });
    for path in left.map(|it| it.path()) {
        // Another user's cannot be opened.
        let Ok(lock) = File::open(&path) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Of the file system of `directory`, which is for what is tried.
pub fn findings(directory: &Path) -> Vec<Finding> {
    let failed = |name, error: anyhow::Error| {
        Finding::good(name, format!("{error:#}")).fails_if(
            true,
            "want a disk that takes files: free it, or name another directory by --runs or RUNBOARD_HOME",
        )
    };
    let looks: [(&str, Look); 3] = [("disk", room), ("disk speed", speed), ("file locks", locks)];
    let looks = looks.into_iter();
    let mut findings: Vec<_> = looks
        .map(|(name, look)| look(directory).unwrap_or_else(|error| failed(name, error)))
        .collect();
    findings.extend(clock(directory).ok());
    findings
}

fn room(directory: &Path) -> Result<Finding> {
    let disk =
        statfs(directory).with_context(|| format!("failed to look at {}", directory.display()))?;
    let free = disk.blocks_available() * disk.block_size() as u64;
    let kind = disk.filesystem_type();
    let name = FILE_SYSTEMS.iter().find(|(number, _)| *number == kind);
    let name = name.map_or_else(|| format!("{:#x}", kind.0), |(_, name)| (*name).to_owned());
    let place = directory.parent().unwrap_or(directory);
    let found = format!("{} free in {} ({name})", bytes(free), place.display());
    Ok(Finding::good("disk", found)
        .with(json!({"free": free, "file_system": name, "directory": place.to_string_lossy()}))
        .fails_if(
            free < LEAST,
            "a run does not fit: free the disk (`runboard gc` deletes what is in the trash), or name another directory by --runs",
        )
        .note_if(
            free < ENOUGH,
            "enough for single runs, `runboard check` tells what one takes; sweeps and own networks may take more",
        )
        .note_if(
            name == TMPFS,
            "it is memory: runs are gone when the machine starts anew; name another directory by --runs or RUNBOARD_HOME",
        ))
}

fn speed(directory: &Path) -> Result<Finding> {
    let path = directory.join("speed");
    let failed = || format!("failed to write {}", path.display());
    // No file system finds zeros in it that it need not write.
    let block: Vec<u8> = (0..BLOCK).map(|at| ((at * at) >> 7) as u8 | 1).collect();
    let begin = Instant::now();
    let mut file = File::create(&path).with_context(failed)?;
    let mut written = 0;
    while written < WRITTEN && begin.elapsed() < LONGEST {
        file.write_all(&block).with_context(failed)?;
        written += BLOCK;
    }
    file.sync_all().with_context(failed)?;
    let rate = written as f64 / begin.elapsed().as_secs_f64();
    fs::remove_file(&path).with_context(failed)?;
    let begin = Instant::now();
    for _ in 0..SYNCED {
        let mut file = File::create(&path).with_context(failed)?;
        file.write_all(&block[..4096]).with_context(failed)?;
        file.sync_all().with_context(failed)?;
    }
    let sync = begin.elapsed().as_secs_f64() / f64::from(SYNCED);
    let found = format!(
        "writes {} a second, syncs a small file in {:.1} ms",
        bytes(rate as u64),
        sync * 1e3
    );
    Ok(Finding::good("disk speed", found)
        .with(json!({"bytes_per_second": rate, "sync_seconds": sync}))
        .note_if(
            rate < SLOW || sync > SLOW_SYNC,
            "training waits for it at every checkpoint; a local disk by --runs, or larger train.checkpoint_every and \
             train.scalars_every, help",
        ))
}

fn locks(directory: &Path) -> Result<Finding> {
    let path: PathBuf = directory.join("lock");
    let open = || File::options().create(true).append(true).open(&path);
    let (first, second) = open()
        .and_then(|first| Ok((first, open()?)))
        .with_context(|| format!("failed to open {}", path.display()))?;
    let found = match (first.try_lock(), second.try_lock()) {
        (Ok(()), Err(TryLockError::WouldBlock)) => return Ok(Finding::good("file locks", "work")),
        (Err(TryLockError::Error(error)), _) => format!("there are none: {error}"),
        (Err(TryLockError::WouldBlock), _) => "a new file is locked already".to_owned(),
        (Ok(()), _) => "two have the same lock at once".to_owned(),
    };
    Ok(Finding::good("file locks", found).note_if(
        true,
        "nothing keeps two processes from writing into one run; want runs on a local disk, by --runs or RUNBOARD_HOME, or a network's \
         file system mounted with locks",
    ))
}

fn clock(directory: &Path) -> Result<Finding> {
    let before = SystemTime::now();
    let path = directory.join("clock");
    fs::write(&path, "now")?;
    let written = path.metadata()?.modified()?;
    let off = match written.duration_since(before) {
        Ok(later) => later.as_secs_f64(),
        Err(earlier) => -earlier.duration().as_secs_f64(),
    };
    let found = match off.abs() < 0.05 {
        true => "as this machine's".to_owned(),
        false => format!("{off:+.1} s beside this machine's"),
    };
    Ok(Finding::good("disk clock", found)
        .with(json!({"seconds": off}))
        .note_if(
            off.abs() > CLOCK,
            "that of the file server is another; set both by the network, or signs of life look old",
        ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn disk_is_looked_at_in_the_nearest_directory_above_the_runs_and_left_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let trial = Trial::new(&place.path().join("a/runs")).unwrap();
        assert_eq!(trial.path().parent(), Some(place.path()));
        let findings = findings(trial.path());
        let names: Vec<_> = findings.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["disk", "disk speed", "file locks", "disk clock"]);
        let locks = findings.iter().find(|it| it.name == "file locks").unwrap();
        assert_eq!((locks.state, &*locks.found), (State::Good, "work"));
        assert!(findings[1].values["bytes_per_second"].as_f64().unwrap() > 0.0);
        drop(trial);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn trial_removes_what_another_one_left_but_not_what_is_in_use() {
        let place = tempfile::tempdir().unwrap();
        let used = Trial::new(place.path()).unwrap();
        let left = place.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("speed"), "1").unwrap();
        let other = place.path().join("other");
        fs::create_dir(&other).unwrap();
        let trial = Trial::new(place.path()).unwrap();
        assert!(!left.exists());
        assert!(used.path().exists() && trial.path().exists() && other.exists());
    }

    #[test]
    fn directory_whose_name_is_no_text_is_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let runs = place.path().join(OsStr::from_bytes(b"r\xff"));
        fs::create_dir(&runs).unwrap();
        let trial = Trial::new(&runs).unwrap();
        let room = room(trial.path()).unwrap();
        let shown = room.values["directory"].as_str().unwrap();
        assert!(shown.ends_with("/r\u{fffd}"), "{shown}");
    }

    #[test]
    fn runs_in_what_is_no_directory_fail() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        for runs in [file.clone(), file.join("runs")] {
            let error = Trial::new(&runs).err().unwrap();
            assert_eq!(
                error.to_string(),
                format!("{} is no directory", file.display())
            );
        }
        let error = Trial::new(Path::new("/proc/runs")).err().unwrap();
        let said = error.to_string();
        assert!(
            said.starts_with("nothing can be written in /proc: "),
            "{said}"
        );
        assert!(!said.contains(PREFIX), "{said}");
    }

    #[test]
    fn disk_that_takes_no_files_fails_and_says_what_to_do() {
        let findings = findings(Path::new("/nonexistent/place"));
        assert_eq!(findings.len(), 3);
        for finding in findings {
            assert_eq!(finding.state, State::Fails, "{finding:?}");
            assert!(finding.found.contains("/nonexistent/place"), "{finding:?}");
            assert!(finding.advice.unwrap().contains("--runs"));
        }
    }
}
