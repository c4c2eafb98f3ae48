//! The network of a run's checkpoint, as the commands take it that look at images with it.

use super::BestRunArg;
use super::which::{CheckpointArg, Chosen};
use crate::checkpoint::{CheckpointEntry, CheckpointState, EMA, Lease};
use crate::compute::{self, Viewer};
use crate::data::ChannelStatistics;
use crate::run::{self, RunDir, data as run_data};
use crate::spec::{Override, Spec, Tta};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::path::Path;

/// Which network, and where it computes.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    #[command(flatten)]
    run: BestRunArg,
    #[command(flatten)]
    checkpoint: CheckpointArg,
    /// What computes: cpu, cuda or cuda:N [default: what evaluates the run]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

/// A network that is there.
pub struct ChosenNetwork {
    pub run: RunDir,
    /// With the device that computes.
    pub spec: Spec,
    pub checkpoint: CheckpointEntry,
    /// The names of the classes, in the order of the labels.
    pub classes: Vec<String>,
    /// What images are normalised by, where the spec wants it.
    pub statistics: Option<ChannelStatistics>,
    /// As in "step 59, REASON".
    reason: String,
    /// The checkpoint stays meanwhile, also if training goes on.
    _lease: Option<Lease>,
}

impl NetworkArgs {
    /// The network, of a run whose evaluation is changed so. `images` may say where its images are if they were moved, and
    /// `hint` is the command by which a user says so.
    ///
    /// # Errors
    /// A user error for a run or a checkpoint that is not there, a device that is not, and a change that the spec does not allow.
    pub fn find(
        &self,
        changes: &[Override],
        images: Option<&Path>,
        hint: run_data::Hint,
    ) -> Result<ChosenNetwork> {
        let run = self.run.find()?;
        let mut spec = run::read_spec(&run)?.changed(&run.spec(), changes)?;
        if let Some(images) = images {
            spec.data.folder = images.to_owned();
        }
        if let Some(device) = &self.device {
            compute::machine()?.gpu("--device", device)?;
            spec.compute.device.clone_from(device);
            spec.compute.devices.clear();
            spec.eval.device = "auto".to_owned();
        }
        let chosen = self.checkpoint.find(&run)?;
        let lease = Lease::take(&chosen.entry.path).ok();
        let state = chosen.load(&run)?.state;
        let Chosen { entry, reason } = chosen;
        Ok(ChosenNetwork {
            _lease: lease,
            classes: run_data::classes(&run, &spec.data)?,
            statistics: statistics(&run, &spec, &state, hint)?,
            checkpoint: entry,
            run,
            spec,
            reason,
        })
    }
}

/// What images are normalised by that is of the training images, where the spec wants it: as the checkpoint has it; for one of an
/// earlier version of those images.
///
/// # Errors
/// As [`run_data::statistics`].
pub(super) fn statistics(
    run: &RunDir,
    spec: &Spec,
    state: &CheckpointState,
    hint: run_data::Hint,
) -> Result<Option<ChannelStatistics>> {
    match state.statistics {
        Some(statistics) => Ok(Some(statistics)),
        None => run_data::statistics(run, spec, hint),
    }
}

impl ChosenNetwork {
    /// Which network looked at images, where and how, in a line.
    pub fn headline(&self, by: &Viewer) -> String {
        let (id, step, reason) = (self.run.id(), self.checkpoint.step, &self.reason);
        let weights = match &*by.weights {
            EMA => "averaged weights",
            _ => "weights without an average",
        };
        let views = match self.spec.eval.tta {
            Tta::None => String::new(),
            tta => {
                let tta = json!(tta);
                let tta = tta.as_str().unwrap_or_default();
                format!("; {} views of each image (eval.tta: {tta})", by.views)
            }
        };
        format!(
            "{id} at step {step}{reason}; {weights}, on {}{views}",
            by.device
        )
    }
}
