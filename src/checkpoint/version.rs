//! A checkpoint as it was on disk at one moment; one of the same step may take its place.

use super::CheckpointEntry;
use super::format::fingerprint;
use crate::run::{Evaluation, Scores};
use chrono::{DateTime, Local};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A checkpoint of a step, told from others of that step, such as one that was trained again.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointVersion {
    entry: CheckpointEntry,
    /// SHA-256 of its manifest, which holds those of all its files; `None` where that cannot be read.
    manifest: Option<String>,
    /// When its directory was last written; `None` where there is none any more.
    written: Option<DateTime<Local>>,
}

impl CheckpointVersion {
    /// What is on disk now.
    pub(super) fn read(entry: CheckpointEntry) -> Self {
        let written = fs::metadata(&entry.path).and_then(|directory| directory.modified());
        CheckpointVersion {
            manifest: fingerprint(&entry.path),
            written: written.ok().map(Into::into),
            entry,
        }
    }

    /// Whether it has a manifest that could be read.
    pub(super) fn has_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// SHA-256 of its manifest; `None` where that could not be read.
    pub fn manifest(&self) -> Option<&str> {
        self.manifest.as_deref()
    }

    /// Its step.
    pub fn step(&self) -> u64 {
        self.entry.step
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.entry.path
    }

    /// Whether it is neither removed nor replaced by now.
    pub fn is_current(&self) -> bool {
        self.written.is_some() && Self::read(self.entry.clone()) == *self
    }

    /// Whether it is still to be evaluated after these evaluations, which are in the order of their steps: none is of this
    /// version, and it was not passed over for a later step's checkpoint that was there by then.
    pub(super) fn waits(&self, evaluations: &[Evaluation]) -> bool {
        match evaluations.binary_search_by_key(&self.step(), |evaluation| evaluation.step) {
            Ok(at) => !evaluations[at].is_of(self.step(), self.manifest(), self.written),
            Err(after) => {
                // Of one that is not as old, training has gone back.
                let is_older =
                    |later: &Evaluation| self.written.is_some() && later.written > self.written;
                !evaluations[after..].iter().any(is_older)
            }
        }
    }

    /// The evaluation with what was found of it just now, within `took`: scores, or damage.
    pub fn evaluation(&self, found: Result<Scores, String>, took: Duration) -> Evaluation {
        let manifest = self.manifest.clone();
        Evaluation::new(self.step(), manifest, self.written, found, took)
    }
}
