//! The images that the points of a sweep train on: found once for all points.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Sweep, SweepDir};
use crate::data::{self, Fetch, Fingerprint};
use crate::run::Journal;
use crate::spec::Data;
use crate::{bail_user, run};

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
    /// As [`data::prepare`] and [`Sweep::steps`].
    pub fn prepare(sweep: &Sweep, fetch: Fetch, given: Option<&Path>) -> Result<Self> {
        let mut wanted = sweep.base.data.clone();
        if let Some(given) = given {
            wanted.folder = given.to_owned();
        }
        let images = SweepImages {
            fingerprint: Fingerprint::of(&data::prepare(&wanted, fetch)?)?,
            given: given.map(Path::to_owned),
        };
        sweep.steps(images.fingerprint.train_images())?;
        Ok(images)
    }

    /// Makes sure that the points which have begun train on the same images as those that will.
    ///
    /// # Errors
    /// A user error that names the first difference, a spec that was edited, or scores that cannot be read.
    pub fn check_begun(&self, directory: &SweepDir, sweep: &Sweep) -> Result<()> {
        let begun = sweep.points.iter().filter_map(|it| directory.run(it));
        for (index, run) in begun.enumerate() {
            // What was edited by hand or is damaged is refused here, too, before it is left out of a ranking.
            run::read_spec(&run)?;
            Journal::read(&run.evaluations())?;
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
}
