//! `run --from`: the weights of another run's checkpoint, with which a new run begins.

use super::best_run;
use super::which::Which;
use crate::checkpoint::{self, Checkpoint, CheckpointState, NamedTensor, TensorGroups, WEIGHTS};
use crate::data::Fingerprint;
use crate::run::{
    ProcessDir, Provenance, RunDir, RunState, WeightsOrigin, data as run_data, state,
};
use crate::spec::Spec;
use crate::{bail_user, console, user_error};
use anyhow::Result;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, iter};

/// So many runs at most are looked at whose weights others began with.
const MOST_ORIGINS: usize = 100;

/// Which images of the training files a run does not train on.
#[derive(PartialEq)]
struct HeldOut {
    count: usize,
    seed: u64,
}

impl HeldOut {
    fn of(spec: &Spec) -> Self {
        HeldOut {
            count: spec.data.validation_images,
            seed: spec.seed.0,
        }
    }
}

impl fmt::Display for HeldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => write!(f, "none"),
            count => write!(f, "{count} by seed {}", self.seed),
        }
    }
}

/// Weights of another run, read and verified.
#[derive(Debug)]
pub struct WarmStart {
    pub origin: WeightsOrigin,
    run: RunDir,
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
            run,
            path: entry.path,
            weights,
        })
    }

    /// Makes sure that the network of `spec` has these weights.
    ///
    /// # Errors
    /// A user error that names the first difference.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        match checkpoint::misfit(&self.weights, spec) {
            None => Ok(()),
            Some(misfit) => bail_user!(
                "{} is of another network than this experiment's: {misfit}",
                self.path.display()
            ),
        }
    }

    /// Warns if the weights tell other classes apart than those of the images, or have learnt images that `spec` holds out to judge them
    /// by: a run that they come from has trained on the same data set, and held out others or none.
    pub fn warn_of_images<'a>(
        &self,
        runs: &Path,
        specs: impl IntoIterator<Item = &'a Spec>,
        images: &Fingerprint,
    ) {
        let its = Spec::read_frozen(&self.run.spec());
        let classes = its.and_then(|spec| run_data::classes(&self.run, &spec.data));
        if let Ok(classes) = classes
            && classes != images.classes()
        {
            console::warning(format_args!(
                "--from: {} tells other classes apart ({}) than there are here ({}): the last layer begins with weights of \
                 those",
                self.run.id(),
                classes.join(", "),
                images.classes().join(", ")
            ));
        }
        let mut held_out: Vec<HeldOut> = Vec::new();
        for held in specs.into_iter().map(HeldOut::of) {
            if held.count > 0 && !held_out.contains(&held) {
                held_out.push(held);
            }
        }
        if held_out.is_empty() {
            return;
        }
        for (run, its) in self.trained_on(runs, images) {
            for want in held_out.iter().filter(|want| **want != its) {
                console::warning(format_args!(
                    "--from: {} has trained on images that are held out here, so that scores on validation images flatter: it \
                     held out {its}, want {want} as here (data.validation_images, seed)",
                    run.id()
                ));
            }
        }
    }

    /// The runs that the weights come from which have trained on this data set, and what each held out of it.
    fn trained_on(&self, runs: &Path, images: &Fingerprint) -> Vec<(RunDir, HeldOut)> {
        let before = |run: &RunDir| {
            let origin = Provenance::weights_origin(run)?;
            let found = RunDir::open(&runs.join(&origin.run)).ok();
            if found.is_none() {
                console::warning(format_args!(
                    "--from: {} began with weights of {}, which is gone: whether that has trained on images that are held \
                     out here is not known",
                    run.id(),
                    origin.run
                ));
            }
            found
        };
        // Each is older than the one before; the limit is for files that somebody has edited.
        let origins = iter::successors(Some(self.run.clone()), before).take(MOST_ORIGINS);
        let is_same_data = |run: &RunDir| matches!(run_data::difference(run, images), Ok(None));
        // What cannot be read is told elsewhere, or is of a run that is deleted.
        let trained = origins.filter(is_same_data).filter_map(|run| {
            let its = HeldOut::of(&Spec::read_frozen(&run.spec()).ok()?);
            Some((run, its))
        });
        trained.collect()
    }

    /// Copies the weights into the directory of a new run or sweep, which may outlive the other one.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn copy_into(&self, directory: &ProcessDir) -> Result<()> {
        let weights = Checkpoint {
            state: CheckpointState {
                step: self.origin.step,
                ..CheckpointState::default()
            },
            tensors: TensorGroups::from([(WEIGHTS.to_owned(), self.weights.clone())]),
        };
        checkpoint::write_weights(&directory.initial_weights(), &weights)
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
