//! `run --from`: the weights of another run's checkpoint, with which a new run begins.

use super::best_run;
use super::which::Which;
use crate::checkpoint::{self, Checkpoint, CheckpointState, NamedTensor, TensorGroups, WEIGHTS};
use crate::run::{RunDir, RunState, WeightsOrigin, state};
use crate::spec::Spec;
use crate::{bail_user, console, user_error};
use anyhow::Result;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Weights of another run, read and verified.
#[derive(Debug)]
pub struct WarmStart {
    pub origin: WeightsOrigin,
    path: PathBuf,
    weights: Vec<NamedTensor>,
}

impl WarmStart {
    /// The weights that `from` means, `RUN`, `RUN@STEP`, `RUN@best` or `RUN@last`: the averaged ones, which are what is evaluated, or
    /// the weights themselves where a checkpoint has no others.
    ///
    /// # Errors
    /// A user error for a run or a checkpoint that is not there, naming those that are, and for a damaged one.
    pub fn find(runs: &Path, from: &Path) -> Result<Self> {
        let (run, which) = parse(runs, from)?;
        if let Some(state @ (RunState::Diverged | RunState::Failed)) = state(&run) {
            console::warning(format_args!(
                "--from {}: {} has {state}",
                from.display(),
                run.id()
            ));
        }
        let entry = which.find(&run)?;
        let manifest = checkpoint::fingerprint(&entry.path);
        let Checkpoint { mut tensors, .. } = checkpoint::load(&entry.path).map_err(|error| {
            user_error!(
                "--from {}: {error:#}; another checkpoint is named by {}@STEP",
                from.display(),
                run.id()
            )
        })?;
        let group = checkpoint::averaged(&tensors);
        let weights = tensors.remove(group).unwrap_or_default(); // a checkpoint has weights
        Ok(WarmStart {
            origin: WeightsOrigin {
                run: run.id(),
                step: entry.step,
                group: group.to_owned(),
                manifest,
            },
            path: entry.path,
            weights,
        })
    }

    /// Makes sure that the network of `spec` has these weights.
    ///
    /// # Errors
    /// A user error that names the first difference.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        for (name, want) in spec.network.parameter_shapes(spec.input.crop) {
            let found = self.weights.iter().find(|tensor| tensor.name == name);
            let found = found.map_or("nothing".to_owned(), |it| format!("{:?}", it.shape));
            let want = format!("{want:?}");
            if found != want {
                bail_user!(
                    "{} is of another network than this experiment's: {name}: got shape {found}, want {want}",
                    self.path.display()
                );
            }
        }
        Ok(())
    }

    /// Copies the weights into the directory of a new run, which may outlive the other one.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn copy_into(&self, run: &RunDir) -> Result<()> {
        let weights = Checkpoint {
            state: CheckpointState {
                step: self.origin.step,
                ..CheckpointState::default()
            },
            tensors: TensorGroups::from([(WEIGHTS.to_owned(), self.weights.clone())]),
        };
        checkpoint::write_weights(&run.initial_weights(), &weights)
    }
}

/// The run and the checkpoint that `RUN@STEP` means. A path may hold an @ itself.
fn parse(runs: &Path, from: &Path) -> Result<(RunDir, Which)> {
    let bytes = from.as_os_str().as_bytes();
    let at = bytes.iter().rposition(|&byte| byte == b'@');
    let Some(at) = at.filter(|_| RunDir::open(from).is_err()) else {
        return Ok((best_run(runs, from)?, Which::Newest));
    };
    let (run, suffix) = (Path::new(OsStr::from_bytes(&bytes[..at])), &bytes[at + 1..]);
    let suffix = String::from_utf8_lossy(suffix);
    let which = suffix.parse().map_err(|want| {
        user_error!(
            "--from {}: got {suffix:?} after the @, {want}",
            from.display()
        )
    })?;
    Ok((best_run(runs, run)?, which))
}
