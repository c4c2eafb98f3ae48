//! The run as one row of TensorBoard's HParams tab, among other runs: its spec, how it stands, how good it is.
//!
//! TensorBoard keeps the first status that it reads in a directory, but forgets a directory that is gone. So
//! the row lies in a directory named by how the run stands, `hparams/running`, and moves when that changes.
//! TensorBoard's Python reader waits for ever for a file that vanished from a directory that is still there, or
//! is there again, so a directory is neither written anew nor named as an earlier one: the row of a run that
//! was resumed is `hparams/running-2`.
//!
//! All of the row follows from the spec, the journal and the statuses, so that it can be written at any time.

use crate::events::{EventWriter, SessionStatus, Summaries, tags};
use crate::files::sync_dir;
use crate::run::{Evaluation, EvaluationProgress, Journal, ProcessState, RunDir, state};
use crate::spec::Spec;
use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The row of a run that is being evaluated.
pub struct HparamsSession {
    events: EventWriter,
}

impl HparamsSession {
    /// Show the run as running, with the scores of these evaluations.
    ///
    /// # Errors
    /// The row cannot be written, or the one before it cannot be removed.
    pub fn start(run: &RunDir, spec: &Spec, evaluations: &[Evaluation]) -> Result<Self> {
        Self::write(run, spec, evaluations, ProcessState::Running)
    }

    /// Add the last of these evaluations, which is new.
    pub fn add(&self, evaluations: &[Evaluation]) {
        if let Some(point) = point(evaluations) {
            self.events.write(&point);
        }
        self.events.flush();
    }

    /// Write a new row in a new directory, then remove what was there before.
    fn write(
        run: &RunDir,
        spec: &Spec,
        evaluations: &[Evaluation],
        state: ProcessState,
    ) -> Result<HparamsSession> {
        let directory = run.hparams();
        let before = places(&directory)?;
        let place = Place::after(&before, state);
        let events = EventWriter::open(&directory.join(place.to_string()))?;
        events.session(&run.id(), &hyperparameters(spec)?, status(state));
        for count in 1..=evaluations.len() {
            if let Some(point) = point(&evaluations[..count]) {
                events.write(&point);
            }
        }
        events.sync()?;
        for earlier in before {
            let path = directory.join(earlier.to_string());
            fs::remove_dir_all(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
        sync_dir(&directory)?;
        Ok(HparamsSession { events })
    }
}

/// Write the run's row for a time in which nobody keeps it: as a finished or a failed run, else as one of
/// which TensorBoard says nothing, because it may go on.
///
/// # Errors
/// The spec or the journal cannot be read, the row cannot be written.
pub fn conclude(run: &RunDir) -> Result<()> {
    let spec = Spec::read_frozen(&run.spec())?;
    let evaluations = Journal::read(&run.evaluations())?;
    HparamsSession::write(run, &spec, &evaluations, standing(run))?;
    Ok(())
}

/// As [`conclude`], unless the row says so already: for whoever finds the run without an evaluator.
///
/// # Errors
/// As [`conclude`].
pub fn settle(run: &RunDir) -> Result<()> {
    let told = places(&run.hparams())?;
    match told.as_slice() {
        [place] if place.state == standing(run) => Ok(()),
        _ => conclude(run),
    }
}

/// How a run stands that is not being evaluated. A trainer may well be at work, but what becomes of it nobody
/// would tell.
fn standing(run: &RunDir) -> ProcessState {
    match state(run) {
        Some(ended @ (ProcessState::Finished | ProcessState::Failed)) => ended,
        _ => ProcessState::Interrupted,
    }
}

/// What TensorBoard calls it.
fn status(state: ProcessState) -> Option<SessionStatus> {
    match state {
        ProcessState::Starting | ProcessState::Running => Some(SessionStatus::Running),
        ProcessState::Finished => Some(SessionStatus::Success),
        ProcessState::Failed => Some(SessionStatus::Failure),
        ProcessState::Interrupted => None,
    }
}

/// The row's metrics as they were when the last of these evaluations was new; none where that has no scores.
fn point(evaluations: &[Evaluation]) -> Option<Summaries> {
    let last = evaluations.last()?;
    last.score()?;
    let standing = EvaluationProgress::of(evaluations);
    let time = last.time.timestamp_micros() as f64 * 1e-6;
    let mut summaries = Summaries::at_time(last.step, time);
    for (series, value) in [
        (
            tags::FINAL_ACCURACY,
            standing.last.map(|score| score.accuracy),
        ),
        (
            tags::BEST_ACCURACY,
            standing.best.map(|score| score.accuracy),
        ),
        (tags::FINAL_LOSS, standing.last_loss),
        (tags::LOWEST_LOSS, standing.lowest_loss),
    ] {
        if let Some(value) = value {
            summaries.scalar(&series.tag(), value);
        }
    }
    Some(summaries)
}

/// The spec without what is no hyperparameter: words and places.
fn hyperparameters(spec: &Spec) -> Result<serde_json::Value> {
    // By way of text: an f32 of 0.2 is written as 0.2, but converted to an f64 it is 0.20000000298.
    let mut value: serde_json::Value = serde_json::from_str(&serde_json::to_string(spec)?)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("description");
    }
    if let Some(data) = value["data"].as_object_mut() {
        data.remove("folder");
    }
    Ok(value)
}

/// A directory of the row: `running`, or `running-2` for the second one of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    state: ProcessState,
    number: u32,
}

impl Place {
    /// A place that was not used before. Each time that the run goes on has its number, so that its end has
    /// that of its beginning.
    fn after(before: &[Place], state: ProcessState) -> Self {
        let last = before.iter().map(|place| place.number).max();
        let number = last.unwrap_or(1);
        let same = Place { state, number };
        let used = state == ProcessState::Running && last.is_some() || before.contains(&same);
        Place {
            state,
            number: if used { number + 1 } else { number },
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (word, number) = match name.split_once('-') {
            Some((word, number)) => (word, number.parse().ok()?),
            None => (name, 1),
        };
        let states = [
            ProcessState::Running,
            ProcessState::Finished,
            ProcessState::Failed,
            ProcessState::Interrupted,
        ];
        let state = states.into_iter().find(|state| state.to_string() == word)?;
        Some(Place { state, number })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => write!(f, "{}", self.state),
            number => write!(f, "{}-{number}", self.state),
        }
    }
}

/// The row's directories: one, or what a process left that was killed between two.
fn places(directory: &Path) -> Result<Vec<Place>> {
    let list = || format!("failed to list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(list)?,
    };
    let mut places = Vec::new();
    for entry in entries {
        let name = entry.with_context(list)?.file_name();
        places.extend(name.to_str().and_then(Place::parse));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, Status, TrainStatus, provenance};

    #[test]
    fn hyperparameters_are_the_spec_without_words_and_places() {
        let value = hyperparameters(&Spec::default()).unwrap();
        assert_eq!(value["optimizer"]["learning_rate"], 0.1);
        assert_eq!(value["input"]["contrast"]["lower"], 0.2);
        assert_eq!(value["data"]["source"], "cifar10");
        assert_eq!(value["data"].get("folder"), None);
        assert_eq!(value.get("description"), None);
    }

    fn directories(run: &RunDir) -> Vec<String> {
        let places = places(&run.hparams()).unwrap();
        places.iter().map(Place::to_string).collect()
    }

    #[test]
    fn the_row_of_a_killed_evaluator_is_settled_once() {
        let directory = tempfile::tempdir().unwrap();
        let spec = Spec::default();
        let yaml = spec.to_yaml().unwrap();
        let run = RunDir::create(directory.path(), "a", &yaml, &provenance()).unwrap();
        let mut train = TrainStatus {
            process: Process::current(),
            step: 1,
            steps: 1,
            loss: None,
            examples_per_sec: None,
        };
        train.save(&run).unwrap();
        drop(HparamsSession::start(&run, &spec, &[]).unwrap());
        assert_eq!(directories(&run), ["running"]);
        // It was killed between two directories before, and training goes on.
        fs::create_dir(run.hparams().join("failed")).unwrap();
        settle(&run).unwrap();
        assert_eq!(directories(&run), ["interrupted"]);
        train.process.pid = u32::MAX; // which is nobody's
        train.save(&run).unwrap();
        settle(&run).unwrap();
        settle(&run).unwrap();
        assert_eq!(directories(&run), ["failed"]);
        train.process.state = ProcessState::Finished;
        train.save(&run).unwrap();
        settle(&run).unwrap();
        assert_eq!(directories(&run), ["finished"]);
        drop(HparamsSession::start(&run, &spec, &[]).unwrap());
        assert_eq!(directories(&run), ["running-2"]);
    }

    #[test]
    fn no_directory_is_used_twice() {
        let mut before = Vec::new();
        let mut names = Vec::new();
        for state in [
            ProcessState::Running,
            ProcessState::Failed,
            ProcessState::Running,
            ProcessState::Running, // the second one was killed
            ProcessState::Interrupted,
            ProcessState::Failed,
            ProcessState::Failed,
            ProcessState::Running,
            ProcessState::Finished,
        ] {
            let place = Place::after(&before, state);
            assert_eq!(Place::parse(&place.to_string()), Some(place));
            names.push(place.to_string());
            before = vec![place];
        }
        assert_eq!(
            names,
            [
                "running",
                "failed",
                "running-2",
                "running-3",
                "interrupted-3",
                "failed-3",
                "failed-4",
                "running-5",
                "finished-5"
            ]
        );
        for foreign in ["starting", "running-", "running-x", "notes", ""] {
            assert_eq!(Place::parse(foreign), None, "{foreign}");
        }
    }
}
