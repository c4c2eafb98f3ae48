//! Checkpoints: atomic directories of safetensors that training writes and resumes from and the
//! evaluator reads.
//!
//! ```text
//! checkpoints/step-00001000/
//!   weights.safetensors   the weights after the step
//!   ema.safetensors       their moving average
//!   state.json            the step and what else a resumed run needs
//!   manifest.json         format version, size and SHA-256 of each file
//! ```
//!
//! A checkpoint is written as `step-N.tmp/`, synced and renamed: whatever is not renamed does not exist.

mod format;

use crate::model::Named;
use crate::schedule::Average;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// All that a run needs to go on after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub state: State,
    /// The weights after the step.
    pub weights: Vec<Named>,
    /// Their moving average.
    pub ema: Vec<Named>,
}

/// What a checkpoint holds besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The last step taken, counted from 0; the batch stream goes on at the next.
    pub step: u64,
    /// Moving averages of the losses, by their tags.
    pub averages: BTreeMap<String, Average>,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub step: u64,
    pub path: PathBuf,
}

/// Write a checkpoint into `folder`, so that it is whole or absent whatever happens meanwhile.
///
/// # Errors
/// I/O errors; checkpoints already there are untouched by them.
pub fn save(folder: &Path, checkpoint: &Checkpoint) -> Result<PathBuf> {
    let path = folder.join(format!("step-{:08}", checkpoint.state.step));
    let temporary = path.with_extension("tmp");
    remove(&temporary)?;
    fs::create_dir_all(&temporary)
        .with_context(|| format!("failed to create {}", temporary.display()))?;
    let written = format::write(&temporary, checkpoint).and_then(|()| {
        discard(&path)?; // the same step again, after a resume from an older checkpoint
        rename(&temporary, &path)?;
        crate::files::sync_folder(folder)
    });
    if written.is_err() {
        // Best effort: a leftover is ignored by readers and removed by the next save of this step.
        let _ = fs::remove_dir_all(&temporary);
    }
    written.with_context(|| format!("failed to save checkpoint {}", path.display()))?;
    Ok(path)
}

/// Read a checkpoint back and verify it against its manifest.
///
/// # Errors
/// I/O errors, and whatever differs from the manifest: file, got and want.
pub fn load(path: &Path) -> Result<Checkpoint> {
    format::read(path).with_context(|| format!("failed to load checkpoint {}", path.display()))
}

/// The checkpoints in `folder`, oldest first; none where there is no such folder.
///
/// # Errors
/// I/O errors.
pub fn list(folder: &Path) -> Result<Vec<Entry>> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("failed to list {}", folder.display()))?,
    };
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry.with_context(|| format!("failed to list {}", folder.display()))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-"));
        if let Some(step) = step.and_then(|digits| digits.parse().ok()) {
            let path = entry.path();
            entries.push(Entry { step, path });
        }
    }
    entries.sort_by_key(|entry| entry.step);
    Ok(entries)
}

/// The newest checkpoint in `folder`.
///
/// # Errors
/// I/O errors.
pub fn latest(folder: &Path) -> Result<Option<Entry>> {
    Ok(list(folder)?.pop())
}

/// Remove all checkpoints but the `keep` latest, and what interrupted saves left behind.
///
/// # Errors
/// I/O errors.
pub fn retain(folder: &Path, keep: usize) -> Result<()> {
    let entries = list(folder)?;
    for entry in entries.iter().rev().skip(keep) {
        discard(&entry.path)?;
    }
    Ok(())
}

/// Remove a checkpoint, renamed first: a reader sees a whole one or none.
fn discard(path: &Path) -> Result<()> {
    if path.exists() {
        let doomed = path.with_extension("old");
        remove(&doomed)?;
        rename(path, &doomed)?;
        remove(&doomed)?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("failed to rename {} to {}", from.display(), to.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters in alphabetical order, as they are loaded.
    fn sample(step: u64) -> Checkpoint {
        let named = |scale: f32| {
            vec![
                Named {
                    name: "conv1/biases".into(),
                    shape: vec![2],
                    values: vec![f32::MIN_POSITIVE, -0.0],
                },
                Named {
                    name: "conv1/weights".into(),
                    shape: vec![2, 1, 1, 3],
                    values: (0..6).map(|i| i as f32 * scale).collect(),
                },
            ]
        };
        Checkpoint {
            state: State {
                step,
                averages: BTreeMap::from([("total_loss".into(), Average::default())]),
            },
            weights: named(0.1),
            ema: named(1.0 / 3.0),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let mut checkpoint = sample(1000);
        for average in checkpoint.state.averages.values_mut() {
            average.update(1.0 / 3.0);
        }
        let path = save(folder.path(), &checkpoint).unwrap();
        assert_eq!(path.file_name().unwrap(), "step-00001000");
        assert_eq!(load(&path).unwrap(), checkpoint);
        save(folder.path(), &checkpoint).unwrap();
        assert_eq!(list(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn the_latest_stay_and_leftovers_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(latest(&folder.path().join("absent")).unwrap(), None);
        for step in [9, 10, 100_000_000, 11] {
            save(folder.path(), &sample(step)).unwrap();
        }
        fs::create_dir(folder.path().join("step-00000999.tmp")).unwrap();
        fs::create_dir(folder.path().join("notes")).unwrap();
        retain(folder.path(), 2).unwrap();
        let steps: Vec<_> = list(folder.path())
            .unwrap()
            .iter()
            .map(|e| e.step)
            .collect();
        assert_eq!(steps, [11, 100_000_000]);
        assert_eq!(latest(folder.path()).unwrap().unwrap().step, 100_000_000);
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_and_says_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(folder.path(), &sample(7)).unwrap();
        let ema = path.join("ema.safetensors");
        let mut bytes = fs::read(&ema).unwrap();
        bytes.pop();
        fs::write(&ema, &bytes).unwrap();
        let short = format!("{:#}", load(&path).unwrap_err());
        let want = format!(
            "ema.safetensors: got {} bytes, want {}",
            bytes.len(),
            bytes.len() + 1
        );
        assert!(short.ends_with(&want), "{short}");
        bytes.push(1);
        fs::write(&ema, &bytes).unwrap();
        let flipped = format!("{:#}", load(&path).unwrap_err());
        assert!(
            flipped.contains("ema.safetensors: checksum mismatch: got "),
            "{flipped}"
        );
        fs::remove_file(path.join("manifest.json")).unwrap();
        let missing = format!("{:#}", load(&path).unwrap_err());
        assert!(missing.contains("failed to read "), "{missing}");
    }

    #[test]
    fn a_failed_save_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(save(&file, &sample(1)).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
