//! The checkpoints that wait for their evaluation: those on disk that the journal does not know.

use super::watch::CheckpointWatch;
use super::{CheckpointVersion, latest};
use crate::run::{Evaluation, RunDir};
use crate::spec::{Policy, Spec};
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// Where checkpoints come, and which of them are evaluated.
pub struct EvaluationQueue {
    watch: CheckpointWatch,
    policy: Policy,
    /// With so many the queue is full; none: it never is.
    limit: Option<usize>,
}

impl EvaluationQueue {
    /// The queue of a run.
    pub fn new(run: &RunDir, spec: &Spec) -> Self {
        EvaluationQueue {
            watch: CheckpointWatch::new(&run.checkpoints()),
            policy: spec.eval.policy,
            limit: match spec.eval.policy {
                _ if spec.stop.needs_scores() => Some(1), // training waits
                Policy::Every => Some(spec.train.keep_checkpoints),
                Policy::Latest => None,
            },
        }
    }

    /// That of any run, whatever its spec: all checkpoints wait that have no evaluation.
    pub fn of_all(run: &RunDir) -> Self {
        EvaluationQueue {
            watch: CheckpointWatch::new(&run.checkpoints()),
            policy: Policy::Every,
            limit: None,
        }
    }

    /// What is to be evaluated next after these evaluations, which are in the order of their steps: the oldest of
    /// all that none of them is of, or of the newest alone.
    ///
    /// That may be an older step than the last: training has gone back and has written other weights. From
    /// there on everything is evaluated again.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn next(&mut self, evaluations: &[Evaluation]) -> Result<Option<CheckpointVersion>> {
        Ok(self.waiting(evaluations)?.last().cloned())
    }

    /// All that are to be evaluated after these evaluations, the newest first.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn waiting<'a>(
        &'a mut self,
        evaluations: &'a [Evaluation],
    ) -> Result<impl Iterator<Item = &'a CheckpointVersion>> {
        let number = match self.policy {
            Policy::Every => usize::MAX,
            Policy::Latest => 1,
        };
        let wanted = self.watch.look()?.rev().take(number);
        Ok(wanted.filter(|checkpoint| checkpoint.waits(evaluations)))
    }

    /// The newest checkpoint, evaluated or not.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn newest(&self) -> Result<Option<CheckpointVersion>> {
        Ok(latest(self.directory())?.map(CheckpointVersion::read))
    }

    /// The steps of the checkpoints there that do not wait after these evaluations, which may be of others of their steps that
    /// were trained before.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn evaluated(&mut self, evaluations: &[Evaluation]) -> Result<BTreeSet<u64>> {
        let checkpoints = self.watch.look()?;
        let evaluated = checkpoints.filter(|checkpoint| !checkpoint.waits(evaluations));
        Ok(evaluated.map(CheckpointVersion::step).collect())
    }

    /// Whether so many wait as training keeps of all: soon it would have to remove one without an evaluation. Or one that
    /// training waits for.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn is_full(&mut self, evaluations: &[Evaluation]) -> Result<bool> {
        let Some(limit) = self.limit else {
            return Ok(false);
        };
        Ok(self.waiting(evaluations)?.take(limit).count() >= limit)
    }

    /// Read all checkpoints again at the next look: one turned out not to be what it was when it was read.
    pub fn refresh(&mut self) {
        self.watch.forget();
    }

    /// Where the checkpoints are.
    pub fn directory(&self) -> &Path {
        self.watch.directory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::format::OPENED;
    use crate::run::{Scores, provenance};
    use std::cell::Cell;
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    /// A directory of checkpoints, each with a manifest of the given text, and written a second after the last.
    struct Checkpoints(tempfile::TempDir, EvaluationQueue, Cell<u64>);

    impl Checkpoints {
        fn new(policy: Policy, checkpoints: &[(u64, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let queue = EvaluationQueue {
                watch: CheckpointWatch::new(directory.path()),
                policy,
                limit: (policy == Policy::Every).then_some(2),
            };
            let there = Checkpoints(directory, queue, Cell::new(0));
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

        /// Evaluate what waits until nothing does; the steps in their order, and the evaluations in force.
        fn evaluate(&mut self, evaluations: &mut Vec<Evaluation>) -> Vec<u64> {
            let mut steps = Vec::new();
            while let Some(checkpoint) = self.1.next(evaluations).unwrap() {
                assert!(checkpoint.is_current());
                let step = checkpoint.step();
                steps.push(step);
                evaluations.retain(|earlier| earlier.step < step);
                let manifest = fs::read_to_string(checkpoint.path().join("manifest.json"));
                let found = match manifest.as_deref() {
                    Ok("damaged") | Err(_) => Err("damaged".to_owned()),
                    _ => Ok(Scores::default()),
                };
                evaluations.push(checkpoint.evaluation(found, Duration::ZERO));
                assert!(steps.len() < 100, "no end: {steps:?}");
            }
            steps
        }
    }

    #[test]
    fn queue_has_each_checkpoint_once_and_the_oldest_first() {
        let mut there = Checkpoints::new(Policy::Every, &[(20, "c"), (0, "a"), (10, "b")]);
        let mut evaluations = Vec::new();
        assert_eq!(there.evaluate(&mut evaluations), [0, 10, 20]);
        assert!(there.evaluate(&mut evaluations).is_empty());
        fs::remove_dir_all(there.path(0)).unwrap();
        there.write(30, "d");
        there.write(40, "e");
        assert_eq!(there.evaluate(&mut evaluations), [30, 40]);
        assert_eq!(there.1.newest().unwrap().unwrap().step(), 40);
    }

    #[test]
    fn queue_of_the_latest_passes_over_those_before_for_good() {
        let mut there = Checkpoints::new(Policy::Latest, &[(0, "a"), (10, "b"), (20, "c")]);
        let mut evaluations = Vec::new();
        assert_eq!(there.evaluate(&mut evaluations), [20]);
        there.write(30, "d");
        assert_eq!(there.evaluate(&mut evaluations), [30]);
        assert!(there.evaluate(&mut evaluations).is_empty());
        there.write(30, "other weights");
        assert_eq!(there.evaluate(&mut evaluations), [30]);
    }

    #[test]
    fn queue_has_no_checkpoint_that_was_passed_over_and_with_it_no_later_one_again() {
        let mut there = Checkpoints::new(Policy::Latest, &[(0, "a"), (10, "b"), (20, "c")]);
        let mut evaluations = Vec::new();
        assert_eq!(there.evaluate(&mut evaluations), [20]);
        there.1.policy = Policy::Every;
        there.write(30, "d");
        assert_eq!(there.evaluate(&mut evaluations), [30]);
        let evaluated = there.1.evaluated(&evaluations).unwrap();
        assert_eq!(evaluated, BTreeSet::from([0, 10, 20, 30]));
    }

    #[test]
    fn queue_has_a_step_again_when_it_was_written_with_other_bytes() {
        let mut there = Checkpoints::new(Policy::Every, &[(0, "a"), (10, "b"), (20, "c")]);
        let mut evaluations = Vec::new();
        there.evaluate(&mut evaluations);
        there.write(10, "b");
        assert!(there.evaluate(&mut evaluations).is_empty());
        there.write(10, "other weights");
        let evaluated = there.1.evaluated(&evaluations).unwrap();
        assert_eq!(evaluated, BTreeSet::from([0, 20]));
        assert_eq!(there.evaluate(&mut evaluations), [10, 20]);
        // Training went back to 10, was stopped at 13, and 20 is still the old one.
        there.write(13, "new");
        assert_eq!(there.evaluate(&mut evaluations), [13, 20]);
        let steps: Vec<u64> = evaluations.iter().map(|e| e.step).collect();
        assert_eq!(steps, [0, 10, 13, 20]);
    }

    #[test]
    fn queue_has_a_damaged_checkpoint_again_only_when_it_was_written_again() {
        let mut there = Checkpoints::new(Policy::Every, &[(0, "a"), (10, "damaged")]);
        fs::create_dir(there.path(20)).unwrap(); // without a manifest
        let mut evaluations = Vec::new();
        assert_eq!(there.evaluate(&mut evaluations), [0, 10, 20]);
        assert!(there.evaluate(&mut evaluations).is_empty());
        there.write(10, "damaged");
        there.write(20, "b");
        assert_eq!(there.evaluate(&mut evaluations), [10, 20]);
    }

    #[test]
    fn queue_is_full_when_as_many_wait_as_training_keeps() {
        let mut there = Checkpoints::new(Policy::Every, &[(0, "a")]);
        let mut evaluations = Vec::new();
        assert!(!there.1.is_full(&evaluations).unwrap());
        there.write(10, "b");
        assert!(there.1.is_full(&evaluations).unwrap());
        there.evaluate(&mut evaluations);
        assert!(!there.1.is_full(&evaluations).unwrap());
        let mut latest = Checkpoints::new(Policy::Latest, &[(0, "a"), (10, "b")]);
        assert!(!latest.1.is_full(&[]).unwrap());
    }

    #[test]
    fn queue_is_full_with_one_checkpoint_that_training_waits_for() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let mut spec = Spec::default();
        let limit = |spec: &Spec| EvaluationQueue::new(&run, spec).limit;
        assert_eq!(limit(&spec), Some(5));
        spec.eval.policy = Policy::Latest;
        assert_eq!(limit(&spec), None);
        spec.stop.patience = 3;
        assert_eq!(limit(&spec), Some(1));
    }

    #[test]
    fn checkpoint_that_has_changed_since_is_not_current() {
        let there = Checkpoints::new(Policy::Every, &[(0, "a")]);
        let found = || there.1.newest().unwrap().unwrap();
        let checkpoint = found();
        there.write(0, "b");
        assert!(!checkpoint.is_current());
        let checkpoint = found();
        assert!(checkpoint.is_current());
        fs::remove_dir_all(there.path(0)).unwrap();
        assert!(!checkpoint.is_current());
    }

    #[test]
    fn queue_opens_nothing_when_nothing_changed() {
        let mut there = Checkpoints::new(Policy::Every, &[(0, "a"), (10, "b")]);
        let mut evaluations = Vec::new();
        there.evaluate(&mut evaluations);
        there.1.watch.trust_at_once();
        there.1.next(&evaluations).unwrap();
        OPENED.set(0);
        for _ in 0..10 {
            assert_eq!(there.1.next(&evaluations).unwrap(), None);
            assert!(!there.1.is_full(&evaluations).unwrap());
            assert_eq!(there.1.evaluated(&evaluations).unwrap().len(), 2);
        }
        assert_eq!(OPENED.get(), 0);
    }
}
