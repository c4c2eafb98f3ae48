//! What a run goes on from.

use super::{
    Checkpoint, CheckpointEntry, contents, list, load, recover_replaced, remove, rename, step,
};
use crate::{bail_user, console};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Extension of a checkpoint in quarantine. Nothing reads it, and only a rollback to before it removes it.
const DAMAGED: &str = "damaged";

/// A checkpoint and where it lies.
#[derive(Debug)]
pub struct Restored {
    pub path: PathBuf,
    pub checkpoint: Checkpoint,
}

/// The newest whole checkpoint in `directory`; none if there are no checkpoints at all. Newer ones that cannot
/// be loaded are quarantined as `step-N.damaged`, with a warning that says what is wrong with each.
///
/// Only the run's trainer may call it.
///
/// # Errors
/// A user error if there are checkpoints but none is whole: to begin anew then, over curves and weights that
/// may yet be saved, is for the user to say. Nothing is changed in that case. Otherwise I/O errors.
pub fn restore(directory: &Path) -> Result<Option<Restored>> {
    recover_replaced(directory)?;
    let mut refused = Vec::new();
    for entry in list(directory)?.into_iter().rev() {
        match load(&entry.path) {
            Ok(checkpoint) => {
                for (refused, error) in refused {
                    quarantine(&refused, &error)?;
                }
                let path = entry.path;
                return Ok(Some(Restored { path, checkpoint }));
            }
            Err(error) => refused.push((entry, error)),
        }
    }
    let earlier = quarantined(directory)?;
    if refused.is_empty() && earlier.is_empty() {
        return Ok(None);
    }
    let wrong = refused.iter().map(|(_, error)| format!("\n  {error:#}"));
    let earlier = earlier
        .iter()
        .map(|path| format!("\n  {} was quarantined earlier", path.display()));
    bail_user!(
        "no whole checkpoint in {}: put one there from a copy, or, to train from the beginning, remove the \
         directory{}",
        directory.display(),
        wrong.chain(earlier).collect::<String>()
    )
}

fn quarantine(entry: &CheckpointEntry, error: &anyhow::Error) -> Result<()> {
    let damaged = entry.path.with_extension(DAMAGED);
    remove(&damaged)?; // of the same step: one to look at is enough
    rename(&entry.path, &damaged)?;
    console::warning(format_args!(
        "{error:#}; it is quarantined as {}",
        damaged.display()
    ));
    Ok(())
}

/// Remove what is in quarantine in `directory` of step `first_step` and later ones.
pub(super) fn remove_quarantined(directory: &Path, first_step: u64) -> Result<()> {
    for path in quarantined(directory)? {
        let step = path.file_stem().and_then(|stem| step(stem.to_str()?));
        if step.is_some_and(|step| step >= first_step) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// What is in quarantine in `directory`.
fn quarantined(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = contents(directory)?;
    paths.retain(|path| path.extension().is_some_and(|e| e == DAMAGED));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{latest, save};
    use super::*;
    use crate::error::is_user_error;
    use std::fs;

    fn saved(steps: &[u64]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for &step in steps {
            save(directory.path(), &sample(step)).unwrap();
        }
        directory
    }

    #[test]
    fn newest_whole_checkpoint_is_restored_and_newer_ones_are_quarantined() {
        let directory = saved(&[1, 2, 3, 4]);
        let path = |name: &str| directory.path().join(name);
        fs::write(path("step-00000002/state.json"), "").unwrap(); // too old to matter
        fs::remove_file(path("step-00000004/manifest.json")).unwrap();
        // One of the same step was quarantined before.
        fs::create_dir(path("step-00000004.damaged")).unwrap();
        fs::write(path("step-00000004.damaged/earlier"), "").unwrap();
        fs::write(path("step-00000005"), "a file in the way").unwrap();

        for _ in 0..2 {
            let restored = restore(directory.path()).unwrap().unwrap();
            assert_eq!(restored.path, path("step-00000003"));
            assert_eq!(restored.checkpoint, sample(3));
            assert_eq!(latest(directory.path()).unwrap().unwrap().step, 3);
        }
        assert_eq!(
            quarantined(directory.path()).unwrap(),
            [path("step-00000004.damaged"), path("step-00000005.damaged")]
        );
        assert!(path("step-00000004.damaged/weights.safetensors").exists());
        assert!(!path("step-00000004.damaged/earlier").exists());
    }

    #[test]
    fn restore_is_refused_where_no_checkpoint_is_whole() {
        let directory = saved(&[1, 2]);
        for step in ["step-00000001", "step-00000002"] {
            fs::write(directory.path().join(step).join("state.json"), "{}").unwrap();
        }
        let refusal = || {
            let error = restore(directory.path()).unwrap_err();
            assert!(is_user_error(&error));
            error
                .to_string()
                .replace(directory.path().to_str().unwrap(), "F")
        };
        let got = fs::metadata(directory.path().join("step-00000001/weights.safetensors"));
        assert!(got.is_ok(), "nothing is moved");
        assert!(
            refusal().starts_with(
                "no whole checkpoint in F: put one there from a copy, or, to train from the beginning, remove \
                 the directory\n  failed to load checkpoint F/step-00000002: state.json: got 2 bytes, want "
            ),
            "{}",
            refusal()
        );
        assert_eq!(refusal().lines().count(), 3);
        assert_eq!(latest(directory.path()).unwrap().unwrap().step, 2);
        // Even if all were quarantined.
        for step in ["step-00000001", "step-00000002"] {
            let path = directory.path().join(step);
            fs::rename(&path, path.with_extension(DAMAGED)).unwrap();
        }
        assert!(
            refusal().ends_with("\n  F/step-00000002.damaged was quarantined earlier"),
            "{}",
            refusal()
        );
    }

    #[test]
    fn restore_finds_nothing_where_nothing_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        assert!(restore(&directory.path().join("none")).unwrap().is_none());
        fs::create_dir(directory.path().join("step-00000000.tmp")).unwrap();
        assert!(restore(directory.path()).unwrap().is_none());
    }
}
