//! The curves of a run, read from its event files.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Entry;
use crate::events::{Curve, scalars, tags};
use crate::run::Role;

impl Entry {
    /// Its curves, each by its directory and its tag: `train/learning_rate`. None of a sweep, and of a point that has not
    /// begun.
    ///
    /// # Errors
    /// An event file cannot be read.
    pub fn curves(&self) -> Result<BTreeMap<String, Curve>> {
        let mut all = BTreeMap::new();
        let Some(run) = self.run() else {
            return Ok(all);
        };
        for role in [Role::TRAIN, Role::Eval] {
            let curves = scalars(&run.events(role))?.into_iter();
            all.extend(curves.map(|(tag, curve)| (format!("{role}/{tag}"), curve)));
        }
        Ok(all)
    }
}

/// What [`Entry::curves`] calls a series without a placeholder.
pub fn curve_name(series: &tags::Series) -> String {
    let directory = match series.writer {
        tags::Writer::Trainer => "train",
        tags::Writer::Evaluator => "eval",
    };
    format!("{directory}/{}", series.name)
}
