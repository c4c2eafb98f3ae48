//! The checkpoints in a directory, looked at often while few of them change.
//!
//! Checkpoints are renamed into their directory and out of it, and each such change gives the directory other times.
//! So a look reads the directory's stamp, and only if that has changed those of all checkpoints; and it opens only the
//! checkpoints whose own stamps have changed. Two things could hide a change from that:
//!
//! - File systems tell times in steps, of up to 2 s: a second change within a step leaves the stamp as the first one
//!   made it. So a stamp is not trusted before it has been the same for [`TRUSTED_AFTER`] by this process's clock: what
//!   is read after that includes all changes of its step of time, and later ones give another stamp.
//! - A file that somebody edits within a checkpoint leaves the stamp of the directory around it as it is, and there are
//!   file systems without times of directories, and clocks that are set back. So all stamps of checkpoints are
//!   read again every [`ALL_AGAIN`].
//!
//! While nothing changes a look costs one stat(2) however many checkpoints there are, and nothing is opened but, every
//! [`ALL_AGAIN`], the directory.

use super::format::MANIFEST;
use super::{CheckpointEntry, CheckpointVersion, list};
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No file system tells times in longer steps; it is FAT's.
const TRUSTED_AFTER: Duration = Duration::from_secs(2);

/// How long a change may stay unseen that no stamp of the directory tells of.
const ALL_AGAIN: Duration = Duration::from_secs(60);

/// What is known of the checkpoints in a directory.
pub(super) struct CheckpointWatch {
    directory: PathBuf,
    /// As [`TRUSTED_AFTER`] and [`ALL_AGAIN`]; tests have others.
    trusted_after: Duration,
    all_again_after: Duration,
    /// The directory's stamp when all was last read, and that moment; `None` before.
    read: Option<(Seen<Stamp>, Instant)>,
    /// Whether what was read last can be trusted as long as the directory's stamp stays.
    trusted: bool,
    checkpoints: BTreeMap<u64, Watched>,
}

/// A checkpoint as it was read when it had these stamps.
struct Watched {
    version: CheckpointVersion,
    /// Of its directory and its manifest.
    stamps: Seen<[Stamp; 2]>,
    /// Whether it was read again when its stamps could be trusted.
    trusted: bool,
}

impl CheckpointWatch {
    pub fn new(directory: &Path) -> Self {
        CheckpointWatch {
            directory: directory.to_owned(),
            trusted_after: TRUSTED_AFTER,
            all_again_after: ALL_AGAIN,
            read: None,
            trusted: false,
            checkpoints: BTreeMap::new(),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The checkpoints there are, oldest first.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn look(&mut self) -> Result<impl DoubleEndedIterator<Item = &CheckpointVersion>> {
        let now = Instant::now(); // before anything is read that is to be trusted from now on
        let stamp = stamp(&self.directory);
        let current = self.trusted
            && self.read.is_some_and(|(seen, at)| {
                seen.stamp == stamp && now.duration_since(at) < self.all_again_after
            });
        if !current {
            self.read_all(stamp, now)?;
        }
        Ok(self.checkpoints.values().map(|watched| &watched.version))
    }

    /// Read all anew at the next look.
    pub fn forget(&mut self) {
        self.read = None;
        self.trusted = false;
        self.checkpoints.clear();
    }

    /// Trust what is read from now on as long as stamps stay, whatever the clock says.
    #[cfg(test)]
    pub fn trust_at_once(&mut self) {
        self.trusted_after = Duration::ZERO;
        self.all_again_after = Duration::MAX;
    }

    fn read_all(&mut self, stamp: Stamp, now: Instant) -> Result<()> {
        let seen = Seen::again(self.read.map(|(seen, _)| seen), stamp);
        self.read = Some((seen, now));
        self.trusted = false; // if listing fails
        let entries = list(&self.directory)?;
        let mut before = mem::take(&mut self.checkpoints);
        self.trusted = seen.is_trusted(now, self.trusted_after);
        for entry in entries {
            let watched = before.remove(&entry.step);
            let watched = Watched::of(entry, watched, self.trusted_after);
            self.trusted &= watched.trusted;
            self.checkpoints.insert(watched.version.step(), watched);
        }
        Ok(())
    }
}

impl Watched {
    /// A checkpoint as it is now: as `before`, unless its stamps have changed or could not be trusted then.
    fn of(entry: CheckpointEntry, before: Option<Watched>, trusted_after: Duration) -> Self {
        let now = Instant::now();
        let stamps = [stamp(&entry.path), stamp(&entry.path.join(MANIFEST))];
        let seen = Seen::again(before.as_ref().map(|before| before.stamps), stamps);
        match before {
            Some(before) if before.trusted && before.stamps.stamp == stamps => before,
            _ => {
                // After its stamps: a change meanwhile gives it others.
                let version = CheckpointVersion::read(entry);
                // A manifest that is there and cannot be read may be read another time.
                let done = version.has_manifest() || stamps[1].is_none();
                Watched {
                    version,
                    stamps: seen,
                    trusted: done && seen.is_trusted(now, trusted_after),
                }
            }
        }
    }
}

/// A stamp and when it was first seen.
#[derive(Clone, Copy)]
struct Seen<T> {
    stamp: T,
    since: Instant,
}

impl<T: PartialEq> Seen<T> {
    fn again(before: Option<Self>, stamp: T) -> Self {
        match before {
            Some(before) if before.stamp == stamp => before,
            _ => Seen {
                stamp,
                since: Instant::now(), // after it was read, so that its step of time had begun
            },
        }
    }

    fn is_trusted(&self, now: Instant, after: Duration) -> bool {
        now.duration_since(self.since) >= after // 0 for a moment before it
    }
}

/// What tells that a file or a directory has changed: which one it is, its length, and when its contents and its
/// inode were last changed. `None` where there is nothing.
type Stamp = Option<([u64; 3], [i64; 4])>;

fn stamp(path: &Path) -> Stamp {
    #[cfg(test)]
    tests::STATS.set(tests::STATS.get() + 1);
    let file = fs::metadata(path).ok()?;
    let times = [
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ];
    Some(([file.dev(), file.ino(), file.len()], times))
}

#[cfg(test)]
mod tests {
    use super::super::format::OPENED;
    use super::super::name;
    use super::*;
    use std::cell::Cell;
    use std::fs::File;

    thread_local! {
        /// How often this thread's test has read a stamp.
        pub(super) static STATS: Cell<usize> = const { Cell::new(0) };
    }

    const NEVER: Duration = Duration::MAX;

    /// A watch of checkpoints with manifests that tell their steps, which trusts what it reads after `trusted`.
    fn watched(steps: u64, trusted: Duration) -> (tempfile::TempDir, CheckpointWatch) {
        let directory = tempfile::tempdir().unwrap();
        for step in 0..steps {
            write(directory.path(), step, &step.to_string());
        }
        let mut watch = CheckpointWatch::new(directory.path());
        watch.trust_at_once();
        watch.trusted_after = trusted;
        (directory, watch)
    }

    fn write(directory: &Path, step: u64, manifest: &str) {
        let made = directory.join("new.tmp");
        fs::create_dir(&made).unwrap();
        fs::write(made.join(MANIFEST), manifest).unwrap();
        fs::rename(&made, directory.join(name(step))).unwrap();
    }

    /// Wait until a change of the directory would give it another time.
    fn wait_for_next_time(directory: &Path) {
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let before = modified(directory);
        let clock = tempfile::tempdir().unwrap();
        let mut file = clock.path().join("0");
        for n in 1.. {
            File::create(&file).unwrap();
            if modified(&file) > before {
                return;
            }
            file = clock.path().join(n.to_string());
        }
    }

    /// What a look finds, the files and directories it opens, and the stamps it reads.
    fn look(watch: &mut CheckpointWatch) -> (Vec<CheckpointVersion>, usize, usize) {
        OPENED.set(0);
        STATS.set(0);
        let found = watch.look().unwrap().cloned().collect();
        (found, OPENED.get(), STATS.get())
    }

    #[test]
    fn idle_look_costs_the_same_however_many_checkpoints_are_kept() {
        for kept in [10, 1000] {
            let (_directory, mut watch) = watched(kept, Duration::ZERO);
            let count = kept as usize;
            let (first, opened, stats) = look(&mut watch);
            assert_eq!(
                (first.len(), opened, stats),
                (count, count + 1, 2 * count + 1)
            );
            for _ in 0..10 {
                assert_eq!(look(&mut watch), (first.clone(), 0, 1));
            }
            // Even when all stamps are read again nothing is opened but the directory.
            watch.all_again_after = Duration::ZERO;
            assert_eq!(look(&mut watch), (first, 1, 2 * count + 1));
        }
    }

    #[test]
    fn change_of_the_directory_is_seen_at_once_and_opens_what_changed() {
        let (directory, mut watch) = watched(100, Duration::ZERO);
        let directory = directory.path();
        look(&mut watch);
        wait_for_next_time(directory);
        write(directory, 100, "new");
        let (found, opened, _) = look(&mut watch);
        assert_eq!((found.len(), opened), (101, 2));

        wait_for_next_time(directory);
        fs::rename(directory.join(name(7)), directory.join("7.old")).unwrap();
        write(directory, 7, "other weights");
        let (again, opened, _) = look(&mut watch);
        let changed: Vec<u64> = found
            .iter()
            .zip(&again)
            .filter(|(before, now)| before != now)
            .map(|(before, _)| before.step())
            .collect();
        assert_eq!((changed, opened), (vec![7], 2));

        wait_for_next_time(directory);
        fs::remove_dir_all(directory.join(name(3))).unwrap();
        let (found, opened, _) = look(&mut watch);
        assert_eq!((found.len(), opened), (100, 1));
        fs::remove_dir_all(directory).unwrap();
        assert!(look(&mut watch).0.is_empty());
    }

    #[test]
    fn stamps_are_not_trusted_before_their_step_of_time_is_over() {
        let (_directory, mut watch) = watched(10, NEVER);
        for _ in 0..3 {
            assert_eq!(look(&mut watch).1, 11);
        }
    }

    #[test]
    fn edit_within_a_checkpoint_is_seen_when_all_stamps_are_read_again() {
        let (directory, mut watch) = watched(10, Duration::ZERO);
        let (before, ..) = look(&mut watch);
        fs::write(directory.path().join(name(4)).join(MANIFEST), "edited").unwrap();
        assert_eq!(look(&mut watch), (before.clone(), 0, 1));
        assert!(!before[4].is_current());
        watch.all_again_after = Duration::ZERO;
        let (after, opened, _) = look(&mut watch);
        assert_eq!(opened, 2);
        assert!(after[4] != before[4] && after[4].is_current());
        // Who knows of one sooner lets all be read.
        watch.all_again_after = NEVER;
        fs::write(
            directory.path().join(name(4)).join(MANIFEST),
            "edited again",
        )
        .unwrap();
        watch.forget();
        let (last, ..) = look(&mut watch);
        assert!(last[4].is_current());
    }
}
