//! What a session of training goes on from.

use crate::backend::Parameters;
use crate::checkpoint::{self, Restored};
use crate::model::{self, EMA, Network, WEIGHTS};
use crate::run::RunDir;
use crate::user_error;
use anyhow::Result;
use burn::tensor::Device;

/// What a session goes on from.
pub(super) struct StartPoint {
    pub weights: Parameters,
    pub ema: Parameters,
    /// What else the checkpoint holds.
    pub state: checkpoint::CheckpointState,
    /// The first step to take.
    pub first: u64,
}

impl StartPoint {
    /// The newest whole checkpoint, or `fresh` weights where there is none yet.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, and a user error for one of another network.
    pub fn of(run: &RunDir, fresh: Network, device: &Device) -> Result<Self> {
        let Some(Restored { path, checkpoint }) = checkpoint::restore(&run.checkpoints())? else {
            return Ok(StartPoint {
                weights: Parameters::of(&fresh)?,
                ema: Parameters::of(&fresh)?,
                state: checkpoint::CheckpointState::default(),
                first: 0,
            });
        };
        let parameters = |name| {
            let values = model::group(&checkpoint.tensors, name);
            let network = values.and_then(|values| fresh.clone().with_values(values, device));
            Parameters::of(&network.map_err(|error| {
                user_error!(
                    "{} does not fit the network of {}: {error:#}",
                    path.display(),
                    run.spec().display()
                )
            })?)
        };
        Ok(StartPoint {
            weights: parameters(WEIGHTS)?,
            ema: parameters(EMA)?,
            first: checkpoint.state.step + 1,
            state: checkpoint.state,
        })
    }
}
