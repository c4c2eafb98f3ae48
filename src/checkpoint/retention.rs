//! Which checkpoints stay.

use super::best::{is_stale_link, link_best};
use super::queue::EvaluationQueue;
use super::{CheckpointEntry, Rollback, contents, list, remove, remove_if, step};
use crate::console;
use crate::run::{EvaluationProgress, Journal, Lock, Role, RunDir, Status, TrainStatus};
use crate::spec::{self, OnDivergence, Policy, Spec};
use anyhow::Result;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// So many checkpoints at most wait for their evaluation; beyond it the oldest are removed. The tutorial's
/// network takes 9 MB a checkpoint, so an evaluator that is slow, or not running, costs less than 1 GB.
pub const MAX_WAITING: usize = 100;

/// How long a trainer's process takes at most to end after it has said that it has.
const TRAINER_ENDS: Duration = Duration::from_secs(5);

/// What a checkpoint stays for; one reason is enough.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// It is one of so many latest ones. At least 1, the one to resume from.
    pub last: usize,
    /// It is one of [`Retention::last`] latest ones whose steps are multiples of this.
    pub regular: Option<u64>,
    /// Its step is a multiple of this; 0 keeps none for it.
    pub every: u64,
    /// It is the best one: this step's.
    pub best: Option<u64>,
    /// Its step is not among these and so waits for its evaluation; `None` if not every checkpoint is going
    /// to be evaluated.
    pub evaluated: Option<BTreeSet<u64>>,
}

impl Retention {
    /// The spec's wishes. `best` is the step of the best checkpoint by evaluation, as far as that is known;
    /// `evaluated` as in [`Retention::evaluated`].
    pub fn new(spec: &spec::Train, best: Option<u64>, evaluated: Option<BTreeSet<u64>>) -> Self {
        Retention {
            last: spec.keep_checkpoints,
            // One that a stop saved must not take the place of one that a rollback may go to (`rollback_candidates`).
            regular: (spec.on_divergence == OnDivergence::Rollback)
                .then_some(spec.checkpoint_every),
            every: spec.keep_every,
            best: best.filter(|_| spec.keep_best),
            evaluated,
        }
    }

    /// Whether its evaluation is still to come.
    fn waits(&self, entry: &CheckpointEntry) -> bool {
        let evaluated = self.evaluated.as_ref();
        evaluated.is_some_and(|evaluated| !evaluated.contains(&entry.step))
    }

    /// Those of `entries` that there is no reason to keep, oldest first.
    fn removable<'a>(&self, entries: &'a [CheckpointEntry]) -> Vec<&'a CheckpointEntry> {
        let (mut latest, mut regular, mut waiting) = (0, 0, 0);
        let mut removable: Vec<&CheckpointEntry> = entries
            .iter()
            .rev() // so that the newest are counted first
            .filter(|entry| {
                let waits = self.waits(entry);
                waiting += usize::from(waits);
                let is_regular =
                    (self.regular).is_some_and(|every| entry.step.is_multiple_of(every));
                latest += 1;
                regular += usize::from(is_regular);
                let kept = latest <= self.last
                    || (is_regular && regular <= self.last)
                    || (self.every > 0 && entry.step.is_multiple_of(self.every))
                    || Some(entry.step) == self.best
                    || (waits && waiting <= MAX_WAITING);
                !kept
            })
            .collect();
        removable.reverse();
        removable
    }
}

/// The steps of those of `entries`, oldest first, that a rollback may go to after these: the same in every run of this spec, however
/// fast its evaluator is and wherever it was stopped. They are those that are saved every so many steps and stay by their
/// steps alone. Others wait for the evaluator, are the best, or were saved by a stop; they serve where there is none of the former, as after
/// `train.checkpoint_every` has changed.
pub fn rollback_candidates(
    entries: &[CheckpointEntry],
    spec: &spec::Train,
    rollbacks: &[Rollback],
) -> Vec<u64> {
    let every = spec.checkpoint_every;
    let all = entries.iter().map(|entry| entry.step);
    let regular = all.clone().filter(|step| step.is_multiple_of(every));
    let regular: Vec<u64> = regular.collect();
    let Some(&newest) = regular.last() else {
        return all.collect();
    };
    let stays = |&step: &u64| {
        // Before a rollback to an earlier one it was another checkpoint.
        let since = rollbacks.iter().rev();
        let since = since.take_while(|rollback| rollback.to.is_some_and(|to| to >= step));
        let newest = since.fold(newest, |newest, rollback| {
            newest.max(rollback.diverged.saturating_sub(1))
        });
        let later = newest / every - step / every;
        later < spec.keep_checkpoints as u64
            || (spec.keep_every > 0 && step.is_multiple_of(spec.keep_every))
    };
    regular.into_iter().filter(stays).collect()
}

/// Remove the checkpoints of `run` that the spec does not keep, and what interrupted saves left behind; link the best
/// one. A checkpoint that is being read stays until the next time.
///
/// Only the run's trainer may call it.
///
/// # Errors
/// I/O errors, the first one after all that can be removed is.
pub fn retain(run: &RunDir, spec: &Spec, queue: &mut EvaluationQueue) -> Result<()> {
    let removed = remove_unwanted(&run.checkpoints(), || wanted(run, spec, queue));
    removed.and(remove_stale(&run.checkpoints()))
}

/// Remove the checkpoints of `run` that the spec does not keep, where no trainer does: those that were still to be
/// evaluated when training ended. None starts meanwhile; one that has said that it ended is waited for. With one at work, or where there are no locks to tell,
/// all stay.
///
/// The run's evaluator calls it.
///
/// # Errors
/// I/O errors.
pub fn retain_after_training(run: &RunDir, spec: &Spec, queue: &mut EvaluationQueue) -> Result<()> {
    let deadline = Instant::now() + TRAINER_ENDS;
    loop {
        let retained = Lock::while_free(run, Role::TRAIN, || {
            remove_unwanted(&run.checkpoints(), || wanted(run, spec, queue))
        });
        if let Some(result) = retained {
            return result;
        }
        // Its process holds the lock a little longer than it trains.
        let status = TrainStatus::load(run).ok().flatten();
        let is_ending = status.is_some_and(|status| !status.process.goes_on());
        if !is_ending || Instant::now() >= deadline {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What there is reason to keep now; `None` while the journal cannot be read, which is for the evaluator to report.
fn wanted(run: &RunDir, spec: &Spec, queue: &mut EvaluationQueue) -> Option<Retention> {
    let evaluations = Journal::read(&run.evaluations()).ok()?;
    let best = EvaluationProgress::of(&evaluations).best;
    let evaluated = match spec.eval.policy {
        Policy::Every => Some(queue.evaluated(&evaluations).ok()?),
        Policy::Latest => None,
    };
    let best = best.map(|best| best.step);
    Some(Retention::new(&spec.train, best, evaluated))
}

/// Remove the checkpoints in `directory` that there is no reason to keep, and link the best one. `wanted` tells what there
/// is reason to keep now; while it cannot tell, all stay. The error is the first one.
fn remove_unwanted(directory: &Path, mut wanted: impl FnMut() -> Option<Retention>) -> Result<()> {
    let mut done = Ok(());
    if let Some(retention) = wanted() {
        link_best(directory, retention.best);
        let entries = list(directory)?;
        for entry in retention.removable(&entries) {
            let waits = Cell::new(false);
            let removed = remove_if(&entry.path, || {
                // Asked again now that nobody reads it: who did may have found it the best.
                wanted().is_some_and(|retention| {
                    waits.set(retention.waits(entry));
                    retention.removable(&entries).contains(&entry)
                })
            });
            // One that is protected, say, keeps no other.
            let removed = removed.unwrap_or_else(|error| {
                if done.is_ok() {
                    done = Err(error);
                }
                false
            });
            if removed && waits.get() {
                console::warning(format_args!(
                    "{} is removed without an evaluation: more than {MAX_WAITING} wait for theirs",
                    entry.path.display()
                ));
            }
        }
    }
    done
}

/// Remove what saves, removals and links left behind that were interrupted.
pub(super) fn remove_stale(directory: &Path) -> Result<()> {
    for path in contents(directory)? {
        let interrupted = path.extension().is_some_and(|e| e == "tmp" || e == "old");
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if interrupted && stem.and_then(step).is_some() || is_stale_link(&path) {
            remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::best::BEST;
    use super::super::tests::sample;
    use super::super::{CheckpointVersion, Lease, load, name, save};
    use super::*;
    use crate::run::{Scores, provenance};
    use nix::fcntl::AT_FDCWD;
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Checkpoints of these steps.
    fn entries(steps: &[u64]) -> Vec<CheckpointEntry> {
        let entry = |&step| CheckpointEntry {
            step,
            path: name(step).into(),
        };
        steps.iter().map(entry).collect()
    }

    /// What is left of checkpoints of these steps.
    fn kept(retention: &Retention, steps: &[u64]) -> Vec<u64> {
        let entries = entries(steps);
        let removable = retention.removable(&entries);
        assert!(removable.is_sorted_by_key(|entry| entry.step));
        let left = entries.iter().filter(|entry| !removable.contains(entry));
        left.map(|entry| entry.step).collect()
    }

    fn last(last: usize) -> Retention {
        Retention {
            last,
            ..Retention::default()
        }
    }

    #[test]
    fn checkpoint_that_cannot_be_removed_keeps_no_other() {
        let directory = tempfile::tempdir().unwrap();
        for step in [0, 10, 20] {
            fs::create_dir(directory.path().join(name(step))).unwrap();
        }
        // A link to itself cannot be opened, even by root.
        let manifest = directory.path().join(name(0)).join("manifest.json");
        symlink(&manifest, &manifest).unwrap();
        remove_unwanted(directory.path(), || Some(last(1))).unwrap_err();
        let left = list(directory.path()).unwrap();
        let left: Vec<u64> = left.iter().map(|entry| entry.step).collect();
        assert_eq!(left, [0, 20]);
    }

    #[test]
    fn latest_checkpoints_stay() {
        assert_eq!(kept(&last(2), &[0, 10, 20, 25]), [20, 25]);
        assert_eq!(kept(&last(9), &[0, 10]), [0, 10]);
        let regular = Retention {
            regular: Some(10),
            ..last(2)
        };
        assert_eq!(kept(&regular, &[0, 10, 20, 25]), [10, 20, 25]);
        assert_eq!(kept(&regular, &[10, 20, 30, 35, 36]), [20, 30, 35, 36]);
        assert_eq!(kept(&regular, &[5, 15, 25]), [15, 25]);
        assert!(kept(&last(1), &[]).is_empty());
    }

    #[test]
    fn checkpoints_of_multiples_stay() {
        let retention = Retention {
            every: 20,
            ..last(1)
        };
        assert_eq!(kept(&retention, &[0, 10, 20, 30, 40, 45]), [0, 20, 40, 45]);
    }

    #[test]
    fn best_checkpoint_stays_wherever_it_is() {
        for (best, want) in [
            (Some(0), vec![0, 30]),
            (Some(20), vec![20, 30]),
            (Some(30), vec![30]),
            (Some(25), vec![30]), // removed long ago
            (None, vec![30]),
        ] {
            let retention = Retention { best, ..last(1) };
            assert_eq!(kept(&retention, &[0, 10, 20, 30]), want);
        }
    }

    #[test]
    fn checkpoints_that_wait_for_their_evaluation_stay_up_to_a_bound() {
        let waiting = |evaluated: &[u64]| Retention {
            evaluated: Some(evaluated.iter().copied().collect()),
            ..last(1)
        };
        assert_eq!(kept(&waiting(&[0, 20]), &[0, 10, 20, 30]), [10, 30]);
        assert_eq!(kept(&waiting(&[0, 10, 20, 30]), &[0, 10, 20, 30]), [30]);
        // Of those that nobody has evaluated the oldest give way; one that is evaluated takes no place.
        let steps: Vec<u64> = (0..MAX_WAITING as u64 + 10).collect();
        assert_eq!(kept(&waiting(&[]), &steps), steps[10..]);
        let evaluated = steps[steps.len() - 1];
        assert_eq!(kept(&waiting(&[evaluated]), &steps), steps[9..]);
        // Without an evaluation to come nothing waits.
        assert_eq!(kept(&last(3), &steps), steps[steps.len() - 3..]);
    }

    #[test]
    fn rollback_may_go_to_what_a_run_left_alone_and_well_evaluated_would_have() {
        let spec = spec::Train {
            checkpoint_every: 10,
            keep_checkpoints: 2,
            keep_every: 40,
            ..spec::Train::default()
        };
        let candidates = |steps: &[u64], rollbacks: &[(u64, Option<u64>)]| {
            let rollback = |&(diverged, to)| Rollback { diverged, to };
            let rollbacks: Vec<Rollback> = rollbacks.iter().map(rollback).collect();
            rollback_candidates(&entries(steps), &spec, &rollbacks)
        };
        // 20 waits for its evaluation, a stop saved 65.
        assert_eq!(candidates(&[0, 20, 40, 50, 60, 65], &[]), [0, 40, 50, 60]);
        // It is among the newest again after a rollback, and still no candidate.
        assert_eq!(candidates(&[0, 20, 30], &[(45, Some(30))]), [0, 30]);
        assert_eq!(candidates(&[0, 20], &[(45, Some(20))]), [0]);
        // Nor is it after two; but saved anew it is.
        let twice = [(45, Some(30)), (38, Some(30))];
        assert_eq!(candidates(&[0, 20, 30], &twice), [0, 30]);
        let anew = [(45, Some(30)), (38, Some(0))];
        assert_eq!(candidates(&[0, 10, 20], &anew), [0, 10, 20]);
        assert_eq!(candidates(&[0, 10, 20], &[(45, None)]), [0, 10, 20]);
        // A checkpoint that was refused, 70 here, took no other's place.
        assert_eq!(candidates(&[50, 60], &[(70, Some(60))]), [50, 60]);
        // Of a run whose cadence has changed, or that a stop alone has saved.
        assert_eq!(candidates(&[2345, 2346], &[]), [2345, 2346]);
        assert!(candidates(&[], &[]).is_empty());
    }

    #[test]
    fn retention_adds_up_the_reasons_of_the_spec() {
        let mut spec = spec::Train {
            keep_checkpoints: 2,
            keep_every: 30,
            ..spec::Train::default()
        };
        let steps: Vec<u64> = (0..=10).map(|n| n * 10).collect();
        let evaluated = steps.iter().copied().filter(|step| *step != 70).collect();
        let retention = Retention::new(&spec, Some(40), Some(evaluated));
        assert_eq!(kept(&retention, &steps), [0, 30, 40, 60, 70, 90, 100]);
        spec.keep_best = false;
        let retention = Retention::new(&spec, Some(40), None);
        assert_eq!(kept(&retention, &steps), [0, 30, 60, 90, 100]);
    }

    fn names(directory: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn stale_directories_are_removed_and_foreign_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        for step in [1, 2] {
            save(directory.path(), &sample(step)).unwrap();
        }
        let foreign = [
            "notes.tmp",
            "step-1.tmp",
            "step-00000001.damaged",
            "step-00000003",
        ];
        for name in ["step-00000009.tmp", "step-00000008.old"]
            .iter()
            .chain(&foreign[..3])
        {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join(foreign[3]), "a file in the way").unwrap();
        remove_unwanted(directory.path(), || Some(last(1))).unwrap();
        remove_stale(directory.path()).unwrap();
        let mut want = foreign.to_vec();
        want.sort();
        assert_eq!(names(directory.path()), want);
    }

    #[test]
    fn checkpoint_that_is_read_stays_until_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(1)).unwrap();
        save(directory.path(), &sample(2)).unwrap();
        let lease = Lease::take(&path).unwrap();
        remove_unwanted(directory.path(), || Some(last(1))).unwrap();
        assert_eq!(load(&path).unwrap(), sample(1));
        drop(lease);
        // A process that another test is starting has inherited the lease, until it is started.
        while names(directory.path()) != [name(2)] {
            remove_unwanted(directory.path(), || Some(last(1))).unwrap();
        }
    }

    #[test]
    fn checkpoint_that_turns_out_the_best_just_before_its_removal_stays() {
        let directory = tempfile::tempdir().unwrap();
        for step in [1, 2, 3] {
            save(directory.path(), &sample(step)).unwrap();
        }
        let asked = Cell::new(0);
        let wanted = || {
            asked.set(asked.get() + 1);
            let best = (asked.get() > 1).then_some(1);
            Some(Retention { best, ..last(1) })
        };
        remove_unwanted(directory.path(), wanted).unwrap();
        assert_eq!(names(directory.path()), [name(1), name(3)]);
        remove_unwanted(directory.path(), || None).unwrap();
        assert_eq!(names(directory.path()), [name(1), name(3)]);
    }

    #[test]
    fn checkpoints_that_waited_when_training_ended_go_once_they_are_evaluated() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let checkpoints = run.checkpoints();
        for step in 0..6 {
            save(&checkpoints, &sample(step)).unwrap();
        }
        let mut spec = Spec::default();
        spec.train.keep_checkpoints = 2;
        let mut queue = EvaluationQueue::new(&run, &spec);
        let (mut journal, _) = Journal::open(&run.evaluations()).unwrap();
        for entry in &list(&checkpoints).unwrap()[..4] {
            let scores = Scores {
                accuracy: if entry.step == 1 { 0.5 } else { 0.25 },
                ..Scores::default()
            };
            let checkpoint = CheckpointVersion::read(entry.clone());
            let evaluation = checkpoint.evaluation(Ok(scores), Duration::ZERO);
            journal.add(evaluation).unwrap();
        }
        let beside_a_trainer = Lock::take(&run, Role::TRAIN).unwrap();
        let half_saved = checkpoints.join("step-00000009.tmp");
        fs::create_dir(&half_saved).unwrap();
        retain_after_training(&run, &spec, &mut queue).unwrap();
        assert_eq!(list(&checkpoints).unwrap().len(), 6);
        drop(beside_a_trainer);
        // A process that another test is starting has inherited the lock, until it is started.
        while list(&checkpoints).unwrap().len() == 6 {
            retain_after_training(&run, &spec, &mut queue).unwrap();
        }
        // Best and latest stay, and so would those without a score.
        let steps = |spec: &Spec, queue: &mut EvaluationQueue| {
            retain_after_training(&run, spec, queue).unwrap();
            let left = list(&checkpoints).unwrap();
            left.iter().map(|entry| entry.step).collect::<Vec<_>>()
        };
        assert_eq!(steps(&spec, &mut queue), [1, 4, 5]);
        spec.train.keep_checkpoints = 1;
        assert_eq!(steps(&spec, &mut queue), [1, 4, 5]);
        assert!(half_saved.exists());
    }

    #[test]
    fn stale_links_are_removed_and_new_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        for link in [".best-stale1", ".best-new123", "notes"] {
            symlink("step-00000001", directory.path().join(link)).unwrap();
        }
        let long_ago = TimeSpec::new(1, 0);
        for link in [".best-stale1", "notes"] {
            let (link, follow) = (directory.path().join(link), UtimensatFlags::NoFollowSymlink);
            utimensat(AT_FDCWD, &link, &long_ago, &long_ago, follow).unwrap();
        }
        fs::write(directory.path().join(".best-file"), "of somebody").unwrap();
        remove_stale(directory.path()).unwrap();
        assert_eq!(
            names(directory.path()),
            [".best-file", ".best-new123", "notes"]
        );
    }

    #[test]
    fn link_leads_to_the_best_checkpoint_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        for step in [1, 2, 3] {
            save(directory, &sample(step)).unwrap();
        }
        let best = |best| {
            remove_unwanted(directory, || Some(Retention { best, ..last(1) })).unwrap();
            let found = load(&directory.join(BEST)).ok();
            assert_eq!(found.is_some(), names(directory).contains(&BEST.to_owned()));
            found.map(|checkpoint| checkpoint.state.step)
        };
        assert_eq!(best(Some(2)), Some(2));
        assert_eq!(best(Some(2)), Some(2));
        assert_eq!(best(Some(3)), Some(3));
        assert_eq!(names(directory), [BEST.to_owned(), name(3)]);
        assert_eq!(list(directory).unwrap().len(), 1);
        assert_eq!(best(Some(2)), None);
        assert_eq!(best(None), None);
        // In the way of the link, which is not worth the run.
        fs::create_dir(directory.join(BEST)).unwrap();
        link_best(directory, Some(3));
        assert_eq!(names(directory), [BEST.to_owned(), name(3)]);
    }
}
