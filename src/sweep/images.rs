//! The images that the points of a sweep train on: found, and read once for all points.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Sweep, SweepDir};
use crate::data::{self, Fetch, Fingerprint};
use crate::spec::{Data, Source, Spec, Synthetic};
use crate::{bail_user, run, user_error};

/// The images of every point.
#[derive(Debug)]
pub struct SweepImages {
    sets: Vec<DataSet>,
    /// Where a user said that they are, in the place of the specs' folder.
    given: Option<PathBuf>,
}

#[derive(Debug)]
struct DataSet {
    source: Source,
    synthetic: Synthetic,
    folder: PathBuf,
    fingerprint: Fingerprint,
}

impl SweepImages {
    /// Those of the points of a sweep, fetched or generated where they are not there. `given` is where they are, if they
    /// were moved.
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
        let mut images = SweepImages {
            sets: Vec::new(),
            given: given.map(Path::to_owned),
        };
        let mut steps = Vec::with_capacity(specs.len());
        for (point, spec) in sweep.points.iter().zip(specs) {
            let mut wanted = spec.data.clone();
            wanted.folder = images.folder(&spec.data).to_owned();
            if images.find(&wanted).is_none() {
                let directory = data::prepare(&wanted, fetch)?;
                images.sets.push(DataSet {
                    fingerprint: Fingerprint::of(&directory)?,
                    source: wanted.source,
                    synthetic: wanted.synthetic,
                    folder: wanted.folder,
                });
            }
            let found = images.steps(spec);
            steps.push(found.map_err(|error| user_error!("point {}: {error:#}", point.name))?);
        }
        sweep.check_steps(&steps)?;
        Ok(images)
    }

    fn find(&self, data: &Data) -> Option<&DataSet> {
        let folder = self.folder(data);
        self.sets.iter().find(|set| {
            (set.source, &*set.folder) == (data.source, folder)
                && (set.source == Source::Cifar10 || set.synthetic == data.synthetic)
        })
    }

    /// Makes sure that the points which have begun train on the same images as those that will.
    ///
    /// # Errors
    /// A user error that names the first difference.
    pub fn check_begun(&self, directory: &SweepDir, sweep: &Sweep) -> Result<()> {
        let mut checked: Vec<&Fingerprint> = Vec::new();
        for point in &sweep.points {
            let Some(run) = directory.run(point) else {
                continue;
            };
            let spec = run::read_spec(&run)?;
            let fingerprint = self.fingerprint(&spec)?;
            if checked.contains(&fingerprint) {
                continue; // of all points the first tells
            }
            if let Some(difference) = run::data::difference(&run, fingerprint)? {
                bail_user!(
                    "{} holds other data than {} began with: {difference}; a sweep keeps its data: start another one \
                     for others",
                    self.folder(&spec.data).display(),
                    run.id()
                );
            }
            checked.push(fingerprint);
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

    /// What the images of a point's spec are.
    ///
    /// # Errors
    /// If they are of no point that was prepared.
    pub fn fingerprint(&self, spec: &Spec) -> Result<&Fingerprint> {
        match self.find(&spec.data) {
            Some(set) => Ok(&set.fingerprint),
            None => bail_user!("no images in {}", self.folder(&spec.data).display()),
        }
    }

    /// How many steps a run of a point's spec has.
    ///
    /// # Errors
    /// A user error if there are too few images for it.
    pub fn steps(&self, spec: &Spec) -> Result<u64> {
        let images = spec.training_images(self.fingerprint(spec)?.train_images())?;
        Ok(spec.train.total_steps(images))
    }
}
