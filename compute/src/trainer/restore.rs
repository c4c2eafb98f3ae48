//! Where a session of training goes on.

use crate::backend::Optimizer;
use crate::model::Network;
use anyhow::Result;
use runboard::checkpoint::{self, CheckpointState, WEIGHTS};
use runboard::console;
use runboard::data::Images;
use runboard::run::{Provenance, RunDir};
use runboard::spec::Spec;
use runboard::user_error;

/// What training goes on from.
pub(super) struct Restored {
    pub optimizer: Optimizer,
    /// What else the checkpoint holds.
    pub state: CheckpointState,
    /// The first step to take.
    pub first: u64,
}

/// Restore the newest whole checkpoint of `run`. Where there is none yet, begin with the weights of `fresh`, or of
/// another run if it was started with `--from`. `images` are those that it trains on.
///
/// # Errors
/// A checkpoint that cannot be read, and a user error for one of another network.
pub(super) fn restore(
    run: &RunDir,
    spec: &Spec,
    fresh: Network,
    images: &Images,
) -> Result<Restored> {
    let Some(restored) = checkpoint::restore(&run.checkpoints())? else {
        return Ok(Restored {
            optimizer: Optimizer::new(spec, &initial(run, spec, fresh, images)?)?,
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

/// The weights that a run begins with: its copy of another run's, or the fresh ones.
fn initial(run: &RunDir, spec: &Spec, fresh: Network, images: &Images) -> Result<Network> {
    let path = run.initial_weights();
    let origin = Provenance::weights_origin(run);
    if origin.is_none() && !path.exists() {
        return Ok(fresh.whitened(spec, images));
    }
    let shown = origin.map_or("weights of another run".to_owned(), |it| it.to_string());
    let copy = || {
        let tensors = checkpoint::load(&path)?.tensors;
        fresh.with_tensors(checkpoint::group(&tensors, WEIGHTS)?)
    };
    let network = copy().map_err(|error| {
        user_error!(
            "{} begins with {shown}, of which it has no whole copy: {error:#}",
            run.id()
        )
    })?;
    console::timed(format_args!("beginning with {shown}"));
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use crate::testing::provenance;
    use runboard::checkpoint::Checkpoint;
    use runboard::checkpoint::EMA;
    use runboard::error::is_user_error;
    use runboard::run::WeightsOrigin;
    use runboard::spec::{Init, Seed};
    use std::fs;

    #[test]
    fn run_begins_with_its_copy_of_anothers_weights_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let origin = WeightsOrigin {
            run: "b/20261123-031000".to_owned(),
            step: 7,
            group: "weights".to_owned(),
            manifest: None,
        };
        let session = provenance().with_weights_from(origin);
        let (spec, device) = (
            Spec::default(),
            backend::device("compute.device", "cpu").unwrap().0,
        );
        let network = |seed| Network::init(&spec.network, spec.input.crop, Seed(seed), &device);
        let copied = Checkpoint {
            state: CheckpointState::default(),
            tensors: [(WEIGHTS.to_owned(), network(2).named())].into(),
        };
        let write = |run: &RunDir| checkpoint::write_weights(&run.initial_weights(), &copied);
        let (run, ()) = RunDir::create_with(directory.path(), "a", "", &session, write).unwrap();
        let images = Images::noise(Seed(1), 2);
        let begun = || restore(&run, &spec, network(1), &images);
        let Restored {
            optimizer, first, ..
        } = begun().unwrap();
        assert_eq!(first, 0);
        for group in [WEIGHTS, EMA] {
            assert!(optimizer.state()[group] == network(2).named());
        }
        fs::remove_dir_all(run.initial_weights()).unwrap();
        let error = begun().err().unwrap();
        assert!(is_user_error(&error));
        let message = error.to_string();
        let begin = format!(
            "{} begins with the weights of b/20261123-031000 after step 7, of which it has no whole copy: failed",
            run.id()
        );
        assert!(message.starts_with(&begin), "{message}");
    }

    #[test]
    fn whitening_weights_are_of_the_runs_images_and_then_of_its_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let (mut spec, device) = (
            Spec::default(),
            backend::device("compute.device", "cpu").unwrap().0,
        );
        spec.network.conv1.init = Init::Whitening;
        let fresh = || Network::init(&spec.network, spec.input.crop, Seed(1), &device);
        let begun = |seed| {
            let images = Images::noise(Seed(seed), 5);
            restore(&run, &spec, fresh(), &images).unwrap().optimizer
        };
        let first = begun(1).state();
        assert!(first == begun(1).state());
        assert!(first[WEIGHTS][0] != begun(2).state()[WEIGHTS][0]);
        let checkpoint = Checkpoint {
            state: CheckpointState::default(),
            tensors: first.clone(),
        };
        checkpoint::save(&run.checkpoints(), &checkpoint).unwrap();
        assert!(first == begun(2).state());
    }

    #[test]
    fn checkpoint_that_lacks_a_group_of_tensors_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let (spec, device) = (
            Spec::default(),
            backend::device("compute.device", "cpu").unwrap().0,
        );
        let fresh = || Network::init(&spec.network, spec.input.crop, Seed(1), &device);
        let images = Images::noise(Seed(1), 2);
        let begun = restore(&run, &spec, fresh(), &images).unwrap();
        assert_eq!(begun.first, 0);
        let mut checkpoint = Checkpoint {
            state: CheckpointState {
                step: 7,
                ..CheckpointState::default()
            },
            tensors: begun.optimizer.state(),
        };
        checkpoint::save(&run.checkpoints(), &checkpoint).unwrap();
        let restored = restore(&run, &spec, fresh(), &images).unwrap();
        assert_eq!((restored.first, &restored.state), (8, &checkpoint.state));

        checkpoint.tensors.remove(EMA);
        let path = checkpoint::save(&run.checkpoints(), &checkpoint).unwrap();
        let error = restore(&run, &spec, fresh(), &images).err().unwrap();
        assert!(is_user_error(&error));
        let want = format!(
            "{} does not fit the network of {}: got the tensors of weights, want those of ema",
            path.display(),
            run.spec().display()
        );
        assert_eq!(error.to_string(), want);
    }
}
