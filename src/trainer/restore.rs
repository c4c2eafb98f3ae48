//! Where a session of training goes on.

use crate::backend::Optimizer;
use crate::checkpoint::{self, CheckpointState};
use crate::model::Network;
use crate::run::RunDir;
use crate::spec;
use crate::user_error;
use anyhow::Result;

/// What training goes on from.
pub(super) struct Restored {
    pub optimizer: Optimizer,
    /// What else the checkpoint holds.
    pub state: CheckpointState,
    /// The first step to take.
    pub first: u64,
}

/// Restore the newest whole checkpoint of `run`, or begin with the weights of `fresh` where there is none yet.
///
/// # Errors
/// A checkpoint that cannot be read, and a user error for one of another network.
pub(super) fn restore(run: &RunDir, spec: &spec::Optimizer, fresh: Network) -> Result<Restored> {
    let Some(restored) = checkpoint::restore(&run.checkpoints())? else {
        return Ok(Restored {
            optimizer: Optimizer::new(spec, &fresh)?,
            state: CheckpointState::default(),
            first: 0,
        });
    };
    let checkpoint = restored.checkpoint;
    let optimizer = Optimizer::restore(spec, &fresh, &checkpoint.tensors).map_err(|error| {
        user_error!(
            "{} does not fit the network of {}: {error:#}",
            restored.path.display(),
            run.spec().display()
        )
    })?;
    Ok(Restored {
        optimizer,
        first: checkpoint.state.step + 1,
        state: checkpoint.state,
    })
}
