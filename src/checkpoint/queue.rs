//! The checkpoints that wait for their evaluation: those on disk that the journal does not know.

use super::{self as checkpoint, CheckpointEntry};
use crate::run::{Evaluation, RunDir, Scores};
use crate::spec::{Policy, Spec};
use anyhow::Result;
use chrono::{DateTime, Local};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where checkpoints come, and which of them are wanted.
pub struct EvaluationQueue {
    directory: PathBuf,
    policy: Policy,
    /// How many may wait.
    room: usize,
}

/// A checkpoint as it was when it was found.
#[derive(Debug, PartialEq)]
pub struct Candidate {
    entry: CheckpointEntry,
    manifest: Option<String>,
    written: Option<DateTime<Local>>,
}

impl EvaluationQueue {
    /// The backlog of a run.
    pub fn new(run: &RunDir, spec: &Spec) -> Self {
        EvaluationQueue {
            directory: run.checkpoints(),
            policy: spec.eval.policy,
            room: spec.train.keep_checkpoints,
        }
    }

    /// What is to be evaluated next after these evaluations: the oldest of all that none of them is about, or
    /// of the newest alone.
    ///
    /// That may be an older step than the last: training has gone back and has written other weights. From
    /// there on everything is evaluated again.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn next(&self, evaluations: &[Evaluation]) -> Result<Option<Candidate>> {
        let mut entries = checkpoint::list(&self.directory)?;
        if self.policy == Policy::Latest {
            entries.drain(..entries.len().saturating_sub(1));
        }
        let mut candidates = entries.into_iter().map(Candidate::of);
        Ok(candidates.find(|candidate| !candidate.is_known(evaluations)))
    }

    /// The newest checkpoint, evaluated or not.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn newest(&self) -> Result<Option<Candidate>> {
        Ok(checkpoint::latest(&self.directory)?.map(Candidate::of))
    }

    /// The steps of the checkpoints there that these evaluations are about, and not about others of their
    /// steps, which were trained before.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn evaluated(&self, evaluations: &[Evaluation]) -> Result<BTreeSet<u64>> {
        let entries = checkpoint::list(&self.directory)?.into_iter();
        let known = entries
            .map(Candidate::of)
            .filter(|candidate| candidate.is_known(evaluations));
        Ok(known.map(|candidate| candidate.step()).collect())
    }

    /// Whether so many of them all wait as training keeps: soon it would have to give one up.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn is_crowded(&self, evaluations: &[Evaluation]) -> Result<bool> {
        if self.policy != Policy::Every {
            return Ok(false);
        }
        let candidates = checkpoint::list(&self.directory)?
            .into_iter()
            .map(Candidate::of);
        let waiting = candidates.filter(|candidate| !candidate.is_known(evaluations));
        Ok(waiting.take(self.room).count() >= self.room)
    }

    /// Where the checkpoints are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Candidate {
    fn of(entry: CheckpointEntry) -> Self {
        let written = fs::metadata(&entry.path).and_then(|directory| directory.modified());
        Candidate {
            manifest: entry.fingerprint(),
            written: written.ok().map(Into::into),
            entry,
        }
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
    pub fn is_there(&self) -> bool {
        self.written.is_some() && Self::of(self.entry.clone()) == *self
    }

    /// Whether one of these evaluations is about it.
    pub fn is_known(&self, evaluations: &[Evaluation]) -> bool {
        let (manifest, written) = (self.manifest.as_deref(), self.written);
        let mut evaluations = evaluations.iter();
        evaluations.any(|evaluation| evaluation.is_of(self.step(), manifest, written))
    }

    /// What was found of it just now, within `took`: scores, or damage.
    pub fn judged(&self, found: Result<Scores, String>, took: Duration) -> Evaluation {
        Evaluation::new(
            self.step(),
            self.manifest.clone(),
            self.written,
            found,
            took,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::File;
    use std::time::SystemTime;

    /// A directory of checkpoints, each with a manifest of the given text, and written a second after the last.
    struct Checkpoints(tempfile::TempDir, EvaluationQueue, Cell<u64>);

    impl Checkpoints {
        fn new(policy: Policy, checkpoints: &[(u64, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let backlog = EvaluationQueue {
                directory: directory.path().to_owned(),
                policy,
                room: 2,
            };
            let there = Checkpoints(directory, backlog, Cell::new(0));
            for &(step, manifest) in checkpoints {
                there.write(step, manifest);
            }
            there
        }

        fn path(&self, step: u64) -> PathBuf {
            self.0.path().join(format!("step-{step:08}"))
        }

        fn write(&self, step: u64, manifest: &str) {
            let path = self.path(step);
            if path.exists() {
                fs::remove_dir_all(&path).unwrap();
            }
            fs::create_dir(&path).unwrap();
            fs::write(path.join("manifest.json"), manifest).unwrap();
            self.2.set(self.2.get() + 1);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.2.get());
            File::open(&path).unwrap().set_modified(time).unwrap();
        }

        /// Judge what waits until nothing does; the steps in their order, and the evaluations in force.
        fn judge(&self, evaluations: &mut Vec<Evaluation>) -> Vec<u64> {
            let mut steps = Vec::new();
            while let Some(candidate) = self.1.next(evaluations).unwrap() {
                assert!(candidate.is_there());
                let step = candidate.step();
                steps.push(step);
                evaluations.retain(|earlier| earlier.step < step);
                let manifest = fs::read_to_string(candidate.path().join("manifest.json"));
                let found = match manifest.as_deref() {
                    Ok("damaged") | Err(_) => Err("damaged".to_owned()),
                    _ => Ok(Scores::default()),
                };
                evaluations.push(candidate.judged(found, Duration::ZERO));
                assert!(steps.len() < 100, "no end: {steps:?}");
            }
            steps
        }
    }

    #[test]
    fn every_checkpoint_comes_once_and_the_oldest_first() {
        let there = Checkpoints::new(Policy::Every, &[(20, "c"), (0, "a"), (10, "b")]);
        let mut evaluations = Vec::new();
        assert_eq!(there.judge(&mut evaluations), [0, 10, 20]);
        assert!(there.judge(&mut evaluations).is_empty());
        fs::remove_dir_all(there.path(0)).unwrap();
        there.write(30, "d");
        there.write(40, "e");
        assert_eq!(there.judge(&mut evaluations), [30, 40]);
        assert_eq!(there.1.newest().unwrap().unwrap().step(), 40);
    }

    #[test]
    fn of_the_latest_those_before_are_passed_over_for_good() {
        let there = Checkpoints::new(Policy::Latest, &[(0, "a"), (10, "b"), (20, "c")]);
        let mut evaluations = Vec::new();
        assert_eq!(there.judge(&mut evaluations), [20]);
        there.write(30, "d");
        assert_eq!(there.judge(&mut evaluations), [30]);
        assert!(there.judge(&mut evaluations).is_empty());
        there.write(30, "other weights");
        assert_eq!(there.judge(&mut evaluations), [30]);
    }

    #[test]
    fn the_same_bytes_again_are_known_and_others_begin_anew() {
        let there = Checkpoints::new(Policy::Every, &[(0, "a"), (10, "b"), (20, "c")]);
        let mut evaluations = Vec::new();
        there.judge(&mut evaluations);
        there.write(10, "b");
        assert!(there.judge(&mut evaluations).is_empty());
        there.write(10, "other weights");
        let evaluated = there.1.evaluated(&evaluations).unwrap();
        assert_eq!(evaluated, BTreeSet::from([0, 20]));
        assert_eq!(there.judge(&mut evaluations), [10, 20]);
        // Training went back to 10, was stopped at 13, and 20 is still the old one.
        there.write(13, "new");
        assert_eq!(there.judge(&mut evaluations), [13, 20]);
        let steps: Vec<u64> = evaluations.iter().map(|e| e.step).collect();
        assert_eq!(steps, [0, 10, 13, 20]);
    }

    #[test]
    fn a_damaged_one_comes_again_only_when_it_was_written_again() {
        let there = Checkpoints::new(Policy::Every, &[(0, "a"), (10, "damaged")]);
        fs::create_dir(there.path(20)).unwrap(); // without a manifest
        let mut evaluations = Vec::new();
        assert_eq!(there.judge(&mut evaluations), [0, 10, 20]);
        assert!(there.judge(&mut evaluations).is_empty());
        there.write(10, "damaged");
        there.write(20, "b");
        assert_eq!(there.judge(&mut evaluations), [10, 20]);
    }

    #[test]
    fn it_is_crowded_when_as_many_wait_as_training_keeps() {
        let there = Checkpoints::new(Policy::Every, &[(0, "a")]);
        let mut evaluations = Vec::new();
        assert!(!there.1.is_crowded(&evaluations).unwrap());
        there.write(10, "b");
        assert!(there.1.is_crowded(&evaluations).unwrap());
        there.judge(&mut evaluations);
        assert!(!there.1.is_crowded(&evaluations).unwrap());
        let latest = Checkpoints::new(Policy::Latest, &[(0, "a"), (10, "b")]);
        assert!(!latest.1.is_crowded(&[]).unwrap());
    }

    #[test]
    fn one_that_changed_since_is_there_no_more() {
        let there = Checkpoints::new(Policy::Every, &[(0, "a")]);
        let found = || there.1.newest().unwrap().unwrap();
        let candidate = found();
        there.write(0, "b");
        assert!(!candidate.is_there());
        let candidate = found();
        assert!(candidate.is_there());
        fs::remove_dir_all(there.path(0)).unwrap();
        assert!(!candidate.is_there());
    }
}
