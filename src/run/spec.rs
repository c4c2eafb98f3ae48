//! The spec of a run: `spec.yaml`, which is frozen but for what `resume --set` changes.
//!
//! A change must be in two files: in `provenance.json`, so that the record says which session trained with what, and
//! in `spec.yaml`, which people read. The record is written first and holds the whole new spec, then `spec.yaml` is
//! replaced, each atomically and under the supervisor's lock. A kill in between leaves a `spec.yaml` from before a change
//! that is recorded: every process then takes the recorded one, and the next session replaces the file. Any other
//! difference is somebody's edit, and an error: the curves, the HParams tab and the record would each tell another spec.
//!
//! Runs of earlier versions have no spec in their record until their next session; `spec.yaml` alone counts there.

use super::provenance::RecordedSpec;
use super::{Provenance, RunDir, commands};
use crate::files::write_atomic;
use crate::spec::{Change, Override, Spec};
use crate::user_error;
use anyhow::Result;

/// The spec that all processes of a run work with.
///
/// # Errors
/// A user error if the frozen spec is none, or was edited since it was recorded.
pub fn read_spec(run: &RunDir) -> Result<Spec> {
    Ok(SpecChange::new(run, &[])?.to)
}

/// What a session changes of its run's spec, or that it changes nothing.
#[derive(Debug)]
pub struct SpecChange {
    /// The spec of the sessions before.
    pub from: Spec,
    /// The spec from now on.
    pub to: Spec,
    /// Whether `spec.yaml` holds another one.
    is_pending: bool,
}

impl SpecChange {
    /// What these overrides change.
    ///
    /// # Errors
    /// A user error for what no resume can change, for a frozen spec that is none, and for one that was edited, unless
    /// the overrides say the same.
    pub fn new(run: &RunDir, overrides: &[Override]) -> Result<Self> {
        let path = run.spec();
        let file = Spec::read_frozen(&path)?;
        let (from, is_interrupted, edits) = match Provenance::recorded_spec(run)? {
            None => (file.clone(), false, Vec::new()),
            Some(RecordedSpec { spec, history, .. }) => {
                let edits = spec.changes_to(&file)?;
                let is_interrupted = is_before(&edits, &history);
                (spec, is_interrupted, edits)
            }
        };
        let to = match overrides {
            [] => from.clone(),
            _ => from.changed(&path, overrides)?,
        };
        let left = to.changes_to(&file)?;
        if !is_interrupted
            && edits
                .iter()
                .any(|edit| left.iter().any(|it| it.field == edit.field))
        {
            return Err(edited(run, &edits));
        }
        Ok(SpecChange {
            is_pending: !left.is_empty(),
            from,
            to,
        })
    }

    /// The fields that it changes.
    ///
    /// # Errors
    /// If a data directory's path is not Unicode.
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.from.changes_to(&self.to)
    }

    /// Replaces `spec.yaml`, after the session is recorded. Whoever does so holds the supervisor's lock.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        match self.is_pending {
            true => write_atomic(&run.spec(), self.to.to_frozen_yaml()?.as_bytes()),
            false => Ok(()), // with the comments that somebody may have added
        }
    }
}

/// Whether training that goes on at the step `first` has yet to show what a resume changed of the spec: curves from
/// `first` on are written anew, and what was shown before is kept.
pub fn has_new_spec(run: &RunDir, first: u64) -> bool {
    let recorded = Provenance::recorded_spec(run).ok().flatten();
    recorded.is_some_and(|recorded| {
        !recorded.changes.is_empty() && recorded.first_step.is_none_or(|step| first <= step)
    })
}

/// Whether these differences from the recorded spec are of one from before what the newest sessions changed, by the
/// changes of each session, the newest first: each of them may have been killed before it replaced the file.
fn is_before(edits: &[Change], history: &[Vec<Change>]) -> bool {
    let mut back: Vec<Change> = Vec::new();
    history.iter().any(|changes| {
        for change in changes.iter().map(Change::reversed) {
            match back.iter_mut().find(|it| it.field == change.field) {
                Some(later) => later.to = change.to,
                None => back.push(change),
            }
        }
        let differ: Vec<&Change> = back.iter().filter(|it| it.from != it.to).collect();
        !edits.is_empty()
            && differ.len() == edits.len()
            && edits.iter().all(|edit| differ.contains(&edit))
    })
}

/// What was edited, a line each, and a command that can be pasted for all that a resume can take over and for the rest.
fn edited(run: &RunDir, edits: &[Change]) -> anyhow::Error {
    let (allowed, refused): (Vec<&Change>, Vec<&Change>) =
        edits.iter().partition(|edit| edit.is_allowed());
    let mut lines = vec![format!(
        "{} was edited since the run's last session:",
        run.spec().display()
    )];
    lines.extend(allowed.iter().map(|edit| format!("  {edit}")));
    let back = "write it back, the training so far depends on it";
    lines.extend(refused.iter().map(|edit| format!("  {edit}: {back}")));
    if !refused.is_empty() {
        let command = commands::start_from(run, &sets(&refused));
        lines.push(format!(
            "for other values start a new run, here with these weights: {command}"
        ));
    }
    let kept = sets(&allowed);
    if !kept.is_empty() {
        let what = if refused.is_empty() { "it" } else { "the rest" };
        let command = commands::resume_with_sets(run, &kept);
        lines.push(format!("to keep {what}, and have it recorded: {command}"));
    }
    user_error!("{}", lines.join("\n"))
}

/// The new values of these fields as `--set` takes them.
fn sets(edits: &[&Change]) -> Vec<String> {
    let set = edits.iter().filter(|edit| !edit.to.is_null());
    set.map(|edit| format!("{}={}", edit.field, plain(edit)))
        .collect()
}

/// A value as `--set` takes it.
fn plain(change: &Change) -> String {
    match change.to.as_str() {
        Some(text) => text.to_owned(),
        None => change.to.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::provenance;
    use std::fs;

    fn run() -> (tempfile::TempDir, RunDir) {
        let directory = tempfile::tempdir().unwrap();
        let spec = Spec::default();
        let session = provenance().with_spec(&spec).unwrap();
        let yaml = spec.to_frozen_yaml().unwrap();
        let run = RunDir::create(directory.path(), "a", &yaml, &session).unwrap();
        (directory, run)
    }

    fn change(run: &RunDir, sets: &[&str]) -> Result<SpecChange> {
        let overrides: Result<Vec<Override>> = sets.iter().map(Override::parse).collect();
        SpecChange::new(run, &overrides?)
    }

    fn record(run: &RunDir, change: &SpecChange) {
        let session = provenance().with_spec(&change.to).unwrap();
        let changes = change.changes().unwrap();
        session.with_changes(changes).record(run).unwrap();
    }

    fn edit(run: &RunDir, from: &str, to: &str) {
        let text = fs::read_to_string(run.spec()).unwrap();
        assert!(text.contains(from));
        fs::write(run.spec(), text.replace(from, to)).unwrap();
    }

    fn steps(run: &RunDir) -> Option<u64> {
        read_spec(run).unwrap().train.steps
    }

    #[test]
    fn change_that_a_kill_interrupted_counts_and_the_next_session_writes_it() {
        let (_directory, run) = run();
        let before = fs::read_to_string(run.spec()).unwrap();
        record(
            &run,
            &change(&run, &["train.steps=7", "eval.threads=2"]).unwrap(),
        );
        assert_eq!(fs::read_to_string(run.spec()).unwrap(), before);
        assert_eq!(steps(&run), Some(7));
        // Also with a change of its own.
        let next = change(&run, &["eval.threads=3"]).unwrap();
        assert_eq!(next.changes().unwrap().len(), 1);
        let next = change(&run, &[]).unwrap();
        assert_eq!(next.changes().unwrap(), []);
        record(&run, &next);
        next.write(&run).unwrap();
        let written = Spec::read_frozen(&run.spec()).unwrap();
        assert_eq!((written.train.steps, written.eval.threads), (Some(7), 2));
    }

    #[test]
    fn changes_that_several_kills_interrupted_count_and_the_next_session_writes_the_last() {
        let (_directory, run) = run();
        for sets in [
            &["train.steps=7", "eval.threads=2"][..],
            &["train.steps=8"],
            &["eval.threads=0"], // as in the file
            &[],
        ] {
            record(&run, &change(&run, sets).unwrap());
        }
        assert_eq!(steps(&run), Some(8));
        let next = change(&run, &[]).unwrap();
        assert_eq!(next.changes().unwrap(), []);
        next.write(&run).unwrap();
        assert_eq!(Spec::read_frozen(&run.spec()).unwrap().train.steps, Some(8));
        // One that no session trained with is an edit.
        edit(&run, "steps: 8", "steps: 9");
        assert!(read_spec(&run).is_err());
    }

    #[test]
    fn edited_spec_is_refused_with_what_differs_and_how_to_keep_it() {
        let (_directory, run) = run();
        edit(&run, "steps: 100000", "steps: 500 # longer");
        let refusal = |sets: &[&str]| {
            let error = change(&run, sets).unwrap_err();
            assert!(is_user_error(&error));
            error.to_string()
        };
        let begin = format!(
            "{} was edited since the run's last session:",
            run.spec().display()
        );
        let keep = commands::resume_with_sets(&run, &["train.steps=500".to_owned()]);
        let want = format!(
            "{begin}\n  train.steps is 500 and was 100000\nto keep it, and have it recorded: {keep}"
        );
        assert_eq!(refusal(&[]), want);
        assert_eq!(refusal(&["train.steps=600"]), want);
        let kept = change(&run, &["train.steps=500"]).unwrap();
        assert_eq!(kept.changes().unwrap().len(), 1);

        edit(&run, "  learning_rate: 0.1\n", "  learning_rate: 0.2\n");
        let anew = commands::start_from(&run, &["optimizer.learning_rate=0.2".to_owned()]);
        let want = format!(
            "{begin}\n  train.steps is 500 and was 100000\n  optimizer.learning_rate is 0.2 and was 0.1: write it back, \
             the training so far depends on it\nfor other values start a new run, here with these weights: {anew}\n\
             to keep the rest, and have it recorded: {keep}"
        );
        for sets in [&[][..], &["train.steps=500"]] {
            assert_eq!(refusal(sets), want);
        }
        // Comments and order are no edit, and stay.
        edit(
            &run,
            "learning_rate: 0.2",
            "learning_rate: 1e-1 # the tutorial's",
        );
        record(&run, &kept);
        kept.write(&run).unwrap();
        assert_eq!(steps(&run), Some(500));
        let text = fs::read_to_string(run.spec()).unwrap();
        assert!(text.contains("# the tutorial's"));
    }

    #[test]
    fn run_without_a_recorded_spec_has_that_of_its_file() {
        let (_directory, run) = run();
        provenance().record(&run).unwrap();
        fs::remove_file(run.provenance()).unwrap();
        provenance().record(&run).unwrap();
        edit(&run, "steps: 100000", "steps: 500");
        assert_eq!(steps(&run), Some(500));
        fs::write(run.provenance(), "{").unwrap();
        assert_eq!(steps(&run), Some(500));
        assert!(!has_new_spec(&run, 0));
    }

    #[test]
    fn new_spec_is_shown_until_a_checkpoint_after_it() {
        let (_directory, run) = run();
        assert!(!has_new_spec(&run, 0));
        record(&run, &change(&run, &["train.steps=7"]).unwrap()); // of a session from step 0 on
        assert!(has_new_spec(&run, 0) && !has_new_spec(&run, 1));
    }
}
