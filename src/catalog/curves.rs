//! The curves of a run, read from its event files.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Entry;
use crate::events::{Curve, scalars, tags};
use crate::run::Role;

/// Those who write curves.
pub const WRITERS: [Role; 2] = [Role::TRAIN, Role::Eval];

impl Entry {
    /// Its curves, each by its directory and its tag: `train/learning_rate`. None of a sweep, and of a point that has not
    /// begun.
    ///
    /// # Errors
    /// An event file cannot be read.
    pub fn curves(&self) -> Result<BTreeMap<String, Curve>> {
        let mut all = BTreeMap::new();
        for role in WRITERS {
            all.extend(self.curves_by(role)?);
        }
        Ok(all)
    }

    /// The same, those of one of [`WRITERS`] alone.
    ///
    /// # Errors
    /// An event file cannot be read.
    pub fn curves_by(&self, role: Role) -> Result<BTreeMap<String, Curve>> {
        let Some(run) = self.run() else {
            return Ok(BTreeMap::new());
        };
        let curves = scalars(&run.events(role))?.into_iter();
        Ok(curves
            .map(|(tag, curve)| (format!("{role}/{tag}"), curve))
            .collect())
    }
}

/// What [`Entry::curves`] calls a series without a placeholder.
pub fn curve_name(series: &tags::Series) -> String {
    format!("{}/{}", series.directory(), series.name)
}

/// Of the curves that [`Entry::curves`] has read those of a series, each with what takes the placeholder.
pub fn curves_of<'a>(
    curves: &'a BTreeMap<String, Curve>,
    series: &tags::Series,
) -> impl Iterator<Item = (&'a str, &'a Curve)> {
    curves.iter().filter_map(|(name, curve)| {
        let tag = name.strip_prefix(series.directory())?.strip_prefix('/')?;
        Some((series.which(tag)?, curve))
    })
}
