//! Checkpoints: atomic directories of safetensors that training writes and resumes from and the
//! evaluator reads.
//!
//! ```text
//! checkpoints/
//!   step-00001000/
//!     weights.safetensors   the weights after the step
//!     ema.safetensors       their moving average; a file for each group of tensors
//!     state.json            the step, and what else resuming and predicting need
//!     manifest.json         format version, size and SHA-256 of each file
//!   step-00002000.damaged/  one that could not be loaded, in quarantine, see [`restore`]
//!   best -> step-00001000   by evaluation
//! ```
//!
//! A checkpoint is written as `step-N.tmp/`, synced and renamed: whatever is not renamed does not exist. It
//! is renamed again, `step-N.old/`, before it is removed, and changes names with one that takes its place.

mod best;
mod difference;
mod format;
#[cfg(test)]
mod fuzz;
mod lease;
pub mod queue;
mod restore;
mod retention;
mod rollback;
mod tensors;
mod version;
mod watch;

pub use best::link_best;
pub use difference::{Difference, difference};
pub use format::fingerprint;
pub use format::safetensors;
pub use lease::Lease;
pub use restore::{Restored, restore};
pub use retention::{MAX_WAITING, retain, retain_after_training, rollback_candidates};
pub use rollback::Rollback;
pub use tensors::{EMA, LOOKAHEAD, NamedTensor, TensorGroups, WEIGHTS, averaged, group, misfit};
pub use version::CheckpointVersion;

use crate::bail_user;
use crate::data::ChannelStatistics;
use crate::files;
use crate::schedule::Average;
use anyhow::{Context, Result, ensure};
use lease::RemovalLock;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// All that a run needs to go on after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub state: CheckpointState,
    /// The weights after the step, their moving average, and what the update rule remembers.
    pub tensors: TensorGroups,
}

/// What a checkpoint holds besides the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// The last step taken, counted from 0; the batch stream goes on at the next.
    pub step: u64,
    /// Moving averages of the losses, by their tags.
    pub averages: BTreeMap<String, Average>,
    /// The total loss of the run's first step; `None` in a checkpoint of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_loss: Option<f64>,
    /// How many steps in a row, up to this one, had a loss above the limit of `train.divergence_factor`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps_above_limit: u64,
    /// What training has come back from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<Rollback>,
    /// What the images are normalised by that is of the training images, with `input.normalize: dataset`; `None` otherwise, and in a
    /// checkpoint of an earlier version. So the network can look at pictures where those images are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<ChannelStatistics>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointEntry {
    pub step: u64,
    pub path: PathBuf,
}

/// Write a checkpoint into `directory`, so that it is whole or absent whatever happens meanwhile.
///
/// # Errors
/// I/O errors; checkpoints already there are untouched by them.
pub fn save(directory: &Path, checkpoint: &Checkpoint) -> Result<PathBuf> {
    let path = directory.join(name(checkpoint.state.step));
    let temporary = path.with_extension("tmp");
    remove(&temporary)?;
    files::make_dir(directory)?;
    files::make_dir(&temporary)?;
    let written =
        format::write(&temporary, checkpoint).and_then(|()| put(directory, &temporary, &path));
    if written.is_err() {
        // Best effort: a leftover is ignored by readers and removed by the next save of this step.
        let _ = fs::remove_dir_all(&temporary);
    }
    written.with_context(|| format!("failed to save checkpoint {}", path.display()))?;
    Ok(path)
}

/// Write the weights that a run begins with, as a checkpoint: [`load`] reads and verifies them. Nobody looks into the
/// directory before all of it is written.
///
/// # Errors
/// I/O errors.
pub fn write_weights(directory: &Path, weights: &Checkpoint) -> Result<()> {
    files::make_dir(directory)?;
    format::write(directory, weights)?;
    files::sync_dir(directory)
}

/// Rename a whole checkpoint to where it is found, in place of one of the same step if there is one. Who is
/// reading that one notices and reads the new one.
fn put(directory: &Path, temporary: &Path, path: &Path) -> Result<()> {
    let old = path.with_extension("old");
    if path.symlink_metadata().is_ok() {
        remove(&old)?;
        replace(temporary, path, &old, exchange)?;
    } else {
        rename(temporary, path)?;
    }
    files::sync_dir(directory)?;
    remove(&old)
}

/// Rename `path` to `old` and `temporary` to `path`: at once, so that there is a checkpoint at every moment, or one
/// after the other where the file system cannot `exchange` two. [`restore`] goes back to the old one if a
/// crash comes between.
fn replace(
    temporary: &Path,
    path: &Path,
    old: &Path,
    exchange: impl Fn(&Path, &Path) -> nix::Result<()>,
) -> Result<()> {
    if exchange(temporary, path).is_ok() {
        return rename(temporary, old);
    }
    // Whatever was wrong with that, plain renames are the next try.
    rename(path, old)?;
    let renamed = rename(temporary, path);
    if renamed.is_err() {
        rename(old, path)?;
    }
    renamed
}

/// Let two directories change their names.
fn exchange(one: &Path, other: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

/// Take back whole checkpoints that lie in `directory` as `step-N.old` without a `step-N`: one that a crash found
/// between two renames, or just before its removal, where it does no harm.
fn recover_replaced(directory: &Path) -> Result<()> {
    for old in contents(directory)? {
        let path = old.with_extension("");
        let named = path.file_name().and_then(|name| step(name.to_str()?));
        let is_old = old.extension().is_some_and(|extension| extension == "old");
        if is_old && named.is_some() && path.symlink_metadata().is_err() && load(&old).is_ok() {
            rename(&old, &path)?;
        }
    }
    Ok(())
}

/// Read a checkpoint back and verify it against its manifest. It is leased meanwhile.
///
/// # Errors
/// I/O errors, and whatever differs from the manifest: file, got and want.
pub fn load(path: &Path) -> Result<Checkpoint> {
    loop {
        let read = Lease::take(path).map(|lease| (format::read(path, &lease), lease));
        let read = match read {
            // Removed before it was leased, and another one is there now.
            Ok((Err(_), lease)) if lease.is_lost() && path.exists() => continue,
            Ok((read, _)) => read.and_then(|checkpoint| check_step(path, checkpoint)),
            Err(error) => Err(error),
        };
        return read.with_context(|| format!("failed to load checkpoint {}", path.display()));
    }
}

/// Pass a checkpoint of the step that its directory is named after, if it is named after any.
fn check_step(path: &Path, checkpoint: Checkpoint) -> Result<Checkpoint> {
    let got = checkpoint.state.step;
    let want = path.file_name().and_then(|name| step(name.to_str()?));
    if let Some(want) = want {
        ensure!(got == want, "it holds step {got}, want {want}");
    }
    Ok(checkpoint)
}

/// The checkpoints in `directory`, oldest first; none where there is no such directory.
///
/// # Errors
/// I/O errors.
pub fn list(directory: &Path) -> Result<Vec<CheckpointEntry>> {
    let mut entries: Vec<CheckpointEntry> = contents(directory)?
        .into_iter()
        .filter_map(|path| {
            let step = step(path.file_name()?.to_str()?)?;
            Some(CheckpointEntry { step, path })
        })
        .collect();
    entries.sort_by_key(|entry| entry.step);
    Ok(entries)
}

/// The newest checkpoint in `directory`.
///
/// # Errors
/// A user error for what is no directory; I/O errors.
pub fn latest(directory: &Path) -> Result<Option<CheckpointEntry>> {
    Ok(list(directory)?.pop())
}

/// What a checkpoint's directory is called.
fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step of a checkpoint's directory; none for any other name.
fn step(directory: &str) -> Option<u64> {
    let step = directory.strip_prefix("step-")?.parse().ok()?;
    // The event files' steps are signed, and the next one must be a number too.
    (step < i64::MAX as u64 && name(step) == directory).then_some(step)
}

/// The paths in `directory`, sorted; none where there is no such directory.
fn contents(directory: &Path) -> Result<Vec<PathBuf>> {
    #[cfg(test)]
    format::OPENED.set(format::OPENED.get() + 1);
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        // The latter is a link that leads back to itself.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
            bail_user!(
                "{}: it is no directory, want that of checkpoints",
                directory.display()
            )
        }
        read => read.and_then(|entries| {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<io::Result<Vec<_>>>()
        }),
    };
    let mut paths = read.with_context(|| format!("failed to list {}", directory.display()))?;
    paths.sort();
    Ok(paths)
}

/// Remove the checkpoints in `directory` of step `first_step` and later ones, which a rollback makes way for, and
/// those in quarantine. Whoever is reading one notices.
///
/// # Errors
/// I/O errors.
pub fn remove_from(directory: &Path, first_step: u64) -> Result<()> {
    // First those in quarantine: once no other is left, they would keep training from beginning anew.
    restore::remove_quarantined(directory, first_step)?;
    // From the newest down: those that are left belong together also if this is interrupted.
    for entry in list(directory)?.iter().rev() {
        if entry.step >= first_step {
            remove_renamed(&entry.path)?;
        }
    }
    Ok(())
}

/// Remove a checkpoint unless it is being read. `unwanted` is asked once nobody can read it any more and decides.
/// Returns whether it is removed.
fn remove_if(path: &Path, unwanted: impl FnOnce() -> bool) -> Result<bool> {
    let lock = RemovalLock::of(path)
        .with_context(|| format!("failed to remove checkpoint {}", path.display()))?;
    if lock.is_none() || !unwanted() {
        return Ok(false);
    }
    remove_renamed(path)?;
    Ok(true)
}

/// Remove a checkpoint, renamed first: a reader sees a whole one or none.
fn remove_renamed(path: &Path) -> Result<()> {
    let old = path.with_extension("old");
    remove(&old)?;
    rename(path, &old)?;
    remove(&old)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("failed to rename {} to {}", from.display(), to.display()))
}

/// Remove a directory with its contents, or a file that is in its place.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    /// Parameters in alphabetical order, as they are loaded.
    pub(super) fn sample(step: u64) -> Checkpoint {
        let named = |scale: f32| {
            vec![
                NamedTensor {
                    name: "conv1/biases".into(),
                    shape: vec![2],
                    values: vec![f32::MIN_POSITIVE, -0.0],
                },
                NamedTensor {
                    name: "conv1/weights".into(),
                    shape: vec![2, 1, 1, 3],
                    values: (0..6).map(|i| i as f32 * scale).collect(),
                },
            ]
        };
        Checkpoint {
            state: CheckpointState {
                step,
                averages: BTreeMap::from([("total_loss".into(), Average::default())]),
                ..CheckpointState::default()
            },
            tensors: TensorGroups::from([
                (WEIGHTS.into(), named(0.1)),
                (EMA.into(), named(1.0 / 3.0)),
            ]),
        }
    }

    #[test]
    fn checkpoint_is_loaded_as_it_was_saved_bit_for_bit() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoint = sample(1000);
        for average in checkpoint.state.averages.values_mut() {
            average.update(1.0 / 3.0);
        }
        let path = save(directory.path(), &checkpoint).unwrap();
        assert_eq!(path.file_name().unwrap(), "step-00001000");
        assert_eq!(load(&path).unwrap(), checkpoint);
        save(directory.path(), &checkpoint).unwrap();
        assert_eq!(list(directory.path()).unwrap().len(), 1);
    }

    #[test]
    fn list_has_checkpoints_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(latest(&directory.path().join("absent")).unwrap(), None);
        for step in [9, 10, 100_000_000, 11] {
            save(directory.path(), &sample(step)).unwrap();
        }
        for foreign in [
            "step-00000999.tmp",
            "step-00000999.damaged",
            "step-999",
            "step-+0000999",
            "step-9223372036854775807",
            "best",
        ] {
            fs::create_dir(directory.path().join(foreign)).unwrap();
        }
        let entries = list(directory.path()).unwrap();
        let steps: Vec<_> = entries.iter().map(|e| e.step).collect();
        assert_eq!(steps, [9, 10, 11, 100_000_000]);
        assert_eq!(latest(directory.path()).unwrap().unwrap().step, 100_000_000);
    }

    #[test]
    fn state_keeps_rollbacks_and_is_read_without_any() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoint = sample(30);
        checkpoint.state.rollbacks = vec![Rollback {
            diverged: 17,
            to: None,
        }];
        let path = save(directory.path(), &checkpoint).unwrap();
        assert_eq!(load(&path).unwrap(), checkpoint);
        let before: CheckpointState =
            serde_json::from_str(r#"{"step": 3, "averages": {}}"#).unwrap();
        assert_eq!(before.rollbacks, []);
    }

    #[test]
    fn remove_from_leaves_what_is_older() {
        let directory = tempfile::tempdir().unwrap();
        for step in [0, 10, 20, 30] {
            save(directory.path(), &sample(step)).unwrap();
        }
        for damaged in ["step-00000005.damaged", "step-00000040.damaged"] {
            fs::create_dir(directory.path().join(damaged)).unwrap();
        }
        remove_from(directory.path(), 11).unwrap();
        assert_eq!(latest(directory.path()).unwrap().unwrap().step, 10);
        assert!(directory.path().join("step-00000005.damaged").exists());
        assert!(!directory.path().join("step-00000040.damaged").exists());
        remove_from(directory.path(), 0).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        remove_from(&directory.path().join("absent"), 0).unwrap();
    }

    #[test]
    fn checkpoint_is_replaced_by_one_of_its_step_even_while_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(7)).unwrap();
        let lease = Lease::take(&path).unwrap();
        let mut changed = sample(7);
        changed.tensors.get_mut(WEIGHTS).unwrap()[0].values[0] = 5.0;
        save(directory.path(), &changed).unwrap();
        // What a reader finds that had just leased the first one.
        assert!(format::read(&path, &lease).is_err() && lease.is_lost());
        assert_eq!(load(&path).unwrap(), changed);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn checkpoint_under_the_name_of_another_step_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(7)).unwrap();
        let renamed = directory.path().join(name(8));
        fs::rename(&path, &renamed).unwrap();
        let error = format!("{:#}", load(&renamed).unwrap_err());
        assert!(error.ends_with(": it holds step 7, want 8"), "{error}");
        // A copy for somebody to look at may be called anything.
        let copy = directory.path().join("copy");
        fs::rename(&renamed, &copy).unwrap();
        assert_eq!(load(&copy).unwrap(), sample(7));
    }

    #[test]
    fn failed_save_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(save(&file, &sample(1)).is_err());
        // Nor does it make a run again that is gone.
        assert!(save(&directory.path().join("run/checkpoints"), &sample(1)).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// A checkpoint, and a changed one of its step that is written but not in its place.
    fn old_and_new(directory: &Path) -> (PathBuf, Checkpoint) {
        let path = save(directory, &sample(7)).unwrap();
        let mut new = sample(7);
        new.tensors.get_mut(WEIGHTS).unwrap()[0].values[0] = 5.0;
        let temporary = path.with_extension("tmp");
        fs::create_dir(&temporary).unwrap();
        format::write(&temporary, &new).unwrap();
        (path, new)
    }

    #[test]
    fn checkpoint_is_replaced_with_and_without_an_exchange() {
        let refused = |_: &Path, _: &Path| Err(Errno::EINVAL);
        for exchange in [exchange as fn(&Path, &Path) -> nix::Result<()>, refused] {
            let directory = tempfile::tempdir().unwrap();
            let (path, new) = old_and_new(directory.path());
            let (temporary, old) = (path.with_extension("tmp"), path.with_extension("old"));
            replace(&temporary, &path, &old, exchange).unwrap();
            assert_eq!(load(&path).unwrap(), new);
            assert_eq!(load(&old).unwrap(), sample(7));
            assert!(!temporary.exists());
            // What cannot be put in its place leaves the one that is there.
            fs::remove_dir_all(&old).unwrap();
            replace(&temporary, &path, &old, exchange).unwrap_err();
            assert_eq!(load(&path).unwrap(), new);
        }
    }

    #[test]
    fn crash_while_a_checkpoint_is_replaced_loses_nothing() {
        for exchanged in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let (path, new) = old_and_new(directory.path());
            let (temporary, old) = (path.with_extension("tmp"), path.with_extension("old"));
            // The state after the first of two renames, and that after an exchange.
            let want = match exchanged {
                false => {
                    fs::rename(&path, &old).unwrap();
                    sample(7)
                }
                true => {
                    exchange(&temporary, &path).unwrap();
                    new
                }
            };
            let restored = restore(directory.path()).unwrap().unwrap();
            assert_eq!((&restored.path, restored.checkpoint), (&path, want.clone()));
            // What is left over goes with the next save.
            retention::remove_stale(directory.path()).unwrap();
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            assert_eq!(load(&path).unwrap(), want);
        }
    }

    #[test]
    fn checkpoint_whose_removal_was_interrupted_is_not_recovered() {
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), &sample(1)).unwrap();
        let path = save(directory.path(), &sample(2)).unwrap();
        let old = path.with_extension("old");
        fs::rename(&path, &old).unwrap();
        fs::remove_file(old.join("ema.safetensors")).unwrap();
        let restored = restore(directory.path()).unwrap().unwrap();
        assert_eq!(restored.checkpoint, sample(1));
        assert!(!path.exists());
    }

    #[test]
    fn named_pipe_in_a_checkpoint_is_refused_without_waiting() {
        for file in ["manifest.json", "ema.safetensors"] {
            let directory = tempfile::tempdir().unwrap();
            let path = save(directory.path(), &sample(7)).unwrap();
            fs::remove_file(path.join(file)).unwrap();
            mkfifo(&path.join(file), Mode::S_IRWXU).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            assert!(
                error.contains(&format!("{file}: it is no regular file")),
                "{error}"
            );
            CheckpointVersion::read(latest(directory.path()).unwrap().unwrap());
        }
    }
}
