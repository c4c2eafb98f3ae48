//! The images that the points of a sweep train on: found once for all points.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Sweep, SweepDir};
use crate::data::{self, Fetch, Fingerprint};
use crate::spec::{Data, Spec};
use crate::{bail_user, run, user_error};

/// The images of a sweep, which are the same for every point: no point may set a field of `data` that says which they are.
#[derive(Debug)]
pub struct SweepImages {
    fingerprint: Fingerprint,
    /// Where a user said that they are, in the place of the specs' folder.
    given: Option<PathBuf>,
}

impl SweepImages {
    /// Those of a sweep, fetched or generated where they are not there. `given` is where they are, if they were moved.
    ///
    /// # Errors
    /// As [`data::prepare`], and a user error for a point whose training images are too few for it, or whose steps halving cannot
    /// compare.
    pub fn prepare(
        sweep: &Sweep,
        specs: &[Spec],
        fetch: Fetch,
        given: Option<&Path>,
    ) -> Result<Self> {
        let mut wanted = sweep.base.data.clone();
        if let Some(given) = given {
            wanted.folder = given.to_owned();
        }
        let images = SweepImages {
            fingerprint: Fingerprint::of(&data::prepare(&wanted, fetch)?)?,
            given: given.map(Path::to_owned),
        };
        let steps = sweep.points.iter().zip(specs).map(|(point, spec)| {
            let steps = images.steps(spec);
            steps.map_err(|error| user_error!("point {}: {error:#}", point.name))
        });
        sweep.check_steps(&steps.collect::<Result<Vec<u64>>>()?)?;
        Ok(images)
    }

    /// Makes sure that the points which have begun train on the same images as those that will.
    ///
    /// # Errors
    /// A user error that names the first difference, or a spec that was edited.
    pub fn check_begun(&self, directory: &SweepDir, sweep: &Sweep) -> Result<()> {
        let begun = sweep.points.iter().filter_map(|it| directory.run(it));
        for (index, run) in begun.enumerate() {
            run::read_spec(&run)?; // one that was edited by hand is refused here, too
            // Of all points the first tells.
            if index == 0
                && let Some(difference) = run::data::difference(&run, &self.fingerprint)?
            {
                bail_user!(
                    "{} holds other data than {} began with: {difference}; a sweep keeps its data: start another one \
                     for others",
                    self.folder(&sweep.base.data).display(),
                    run.id()
                );
            }
        }
        Ok(())
    }

    /// Where the images of a spec are.
    pub fn folder<'a>(&'a self, data: &'a Data) -> &'a Path {
        self.given.as_deref().unwrap_or(&data.folder)
    }

    /// Where a user said that they are.
    pub fn given(&self) -> Option<&Path> {
        self.given.as_deref()
    }

    /// What they are.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// How many steps a run of a point's spec has.
    ///
    /// # Errors
    /// A user error if there are too few images for it.
    pub fn steps(&self, spec: &Spec) -> Result<u64> {
        let images = spec.training_images(self.fingerprint.train_images())?;
        Ok(spec.train.total_steps(images))
    }
}
