//! Where a session of training goes on.

use crate::backend::Optimizer;
use crate::checkpoint::{self, CheckpointState};
use crate::model::Network;
use crate::run::RunDir;
use crate::spec::Spec;
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
pub(super) fn restore(run: &RunDir, spec: &Spec, fresh: Network) -> Result<Restored> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use crate::checkpoint::Checkpoint;
    use crate::error::is_user_error;
    use crate::model::EMA;
    use crate::run::provenance;
    use crate::spec::Seed;

    #[test]
    fn checkpoint_that_lacks_a_group_of_tensors_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let (spec, device) = (Spec::default(), backend::device("cpu").unwrap().0);
        let fresh = || Network::init(&spec.network, spec.input.crop, Seed(1), &device);
        let begun = restore(&run, &spec, fresh()).unwrap();
        assert_eq!(begun.first, 0);
        let mut checkpoint = Checkpoint {
            state: CheckpointState {
                step: 7,
                ..CheckpointState::default()
            },
            tensors: begun.optimizer.state(),
        };
        checkpoint::save(&run.checkpoints(), &checkpoint).unwrap();
        let restored = restore(&run, &spec, fresh()).unwrap();
        assert_eq!((restored.first, &restored.state), (8, &checkpoint.state));

        checkpoint.tensors.remove(EMA);
        let path = checkpoint::save(&run.checkpoints(), &checkpoint).unwrap();
        let error = restore(&run, &spec, fresh()).err().unwrap();
        assert!(is_user_error(&error));
        let want = format!(
            "{} does not fit the network of {}: got the tensors of weights, want those of ema",
            path.display(),
            run.spec().display()
        );
        assert_eq!(error.to_string(), want);
    }
}
