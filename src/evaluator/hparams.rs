//! The run as one row of TensorBoard's HParams tab, among other runs: its spec, its state, its scores.
//!
//! TensorBoard keeps the first status that it reads in a directory, but forgets a directory that is gone. So
//! the row lies in a directory named by the run's state, `hparams/running`, and moves when that changes.
//! TensorBoard's Python reader waits for ever for a file that vanished from a directory that is still there, or
//! is there again, so a directory is neither written anew nor named as an earlier one: the row of a run that
//! was resumed is `hparams/running-2`.
//!
//! All of the row follows from the spec, the journal and the statuses, so that it can be written at any time.

use crate::error::is_user_error;
use crate::events::{EventWriter, SessionStatus, Summaries, tags};
use crate::files::sync_dir;
use crate::run::{
    Evaluation, EvaluationProgress, Journal, Lock, ProcessState, Role, RunDir, RunState, state,
};
use crate::spec::Spec;
use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The row of a run that is being evaluated.
pub struct HparamsSession {
    events: EventWriter,
    /// What the evaluations that it shows come to.
    progress: EvaluationProgress,
}

impl HparamsSession {
    /// Show the run as running, with the scores of these evaluations.
    ///
    /// # Errors
    /// The row cannot be written, or the one before it cannot be removed.
    pub fn start(run: &RunDir, spec: &Spec, evaluations: &[Evaluation]) -> Result<Self> {
        Self::write(run, spec, evaluations, ProcessState::Running)
    }

    /// Add an evaluation of a later step than those before.
    pub fn add(&mut self, evaluation: &Evaluation) {
        if let Some(point) = point(&mut self.progress, evaluation) {
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
        let before = row_directories(&directory)?;
        let name = RowDirectory::after(&before, state).to_string();
        let events = EventWriter::open(&directory.join(name))?;
        events.session(&run.id(), &hyperparameters(spec)?, status(state));
        let mut progress = EvaluationProgress::default();
        for point in points(&mut progress, evaluations) {
            events.write(&point);
        }
        events.sync()?;
        for earlier in before {
            let path = directory.join(earlier.to_string());
            fs::remove_dir_all(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
        sync_dir(&directory)?;
        Ok(HparamsSession { events, progress })
    }
}

/// Write the row of a run whose evaluator ends: as finished or failed, else without a status, because the run may go
/// on. Only who holds the evaluator's lock may call it.
///
/// # Errors
/// The spec or the journal cannot be read, the row cannot be written.
pub fn record_completion(run: &RunDir) -> Result<()> {
    let spec = Spec::read_frozen(&run.spec())?;
    let evaluations = Journal::read(&run.evaluations())?;
    HparamsSession::write(run, &spec, &evaluations, completion_state(run))?;
    Ok(())
}

/// As [`record_completion`], unless the row says so already, for an evaluator that was killed. An evaluator that is
/// running, and so holds the lock, writes the row itself.
///
/// # Errors
/// As [`record_completion`].
pub fn record_missing_completion(run: &RunDir) -> Result<()> {
    let _lock = match Lock::take(run, Role::Eval) {
        Err(error) if is_user_error(&error) => return Ok(()),
        lock => lock?,
    };
    let before = row_directories(&run.hparams())?;
    match before.as_slice() {
        [row] if row.state == completion_state(run) => Ok(()),
        _ => record_completion(run),
    }
}

/// The state shown of a run that nobody evaluates. Its trainer may be running, but nobody would update the row when it
/// ends.
fn completion_state(run: &RunDir) -> ProcessState {
    match state(run) {
        Some(RunState::Finished) => ProcessState::Finished,
        Some(RunState::Failed | RunState::Diverged) => ProcessState::Failed,
        _ => ProcessState::Stopped,
    }
}

/// What TensorBoard calls it.
fn status(state: ProcessState) -> Option<SessionStatus> {
    match state {
        ProcessState::Starting | ProcessState::Running => Some(SessionStatus::Running),
        ProcessState::Finished => Some(SessionStatus::Success),
        ProcessState::Failed | ProcessState::Diverged => Some(SessionStatus::Failure),
        ProcessState::Stopped => None,
    }
}

/// The row's metrics after each of these evaluations that has scores.
fn points<'a>(
    progress: &'a mut EvaluationProgress,
    evaluations: impl IntoIterator<Item = &'a Evaluation>,
) -> impl Iterator<Item = Summaries> {
    let evaluations = evaluations.into_iter();
    evaluations.filter_map(|evaluation| point(progress, evaluation))
}

/// The row's metrics after another evaluation; none if that has no scores.
fn point(progress: &mut EvaluationProgress, evaluation: &Evaluation) -> Option<Summaries> {
    progress.add(evaluation);
    evaluation.score()?;
    let time = evaluation.time.timestamp_micros() as f64 * 1e-6;
    let mut summaries = Summaries::at_time(evaluation.step, time);
    for (series, value) in [
        (
            tags::FINAL_ACCURACY,
            progress.last.map(|score| score.accuracy),
        ),
        (
            tags::BEST_ACCURACY,
            progress.best.map(|score| score.accuracy),
        ),
        (tags::FINAL_LOSS, progress.last_loss),
        (tags::LOWEST_LOSS, progress.lowest_loss),
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

/// A directory of the row by its name: `running`, or `running-2` for the second one of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowDirectory {
    state: ProcessState,
    number: u32,
}

impl RowDirectory {
    /// A directory that was not used before. Each time that the run goes on has its number, so that its end has
    /// that of its beginning.
    fn after(before: &[RowDirectory], state: ProcessState) -> Self {
        let last = before.iter().map(|row| row.number).max();
        let number = last.unwrap_or(1);
        let same = RowDirectory { state, number };
        let used = state == ProcessState::Running && last.is_some() || before.contains(&same);
        RowDirectory {
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
            ProcessState::Stopped,
        ];
        let state = states.into_iter().find(|&state| row_name(state) == word)?;
        Some(RowDirectory { state, number })
    }
}

impl fmt::Display for RowDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => f.write_str(row_name(self.state)),
            number => write!(f, "{}-{number}", row_name(self.state)),
        }
    }
}

/// What a directory of the row is called.
fn row_name(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Starting | ProcessState::Running => "running",
        ProcessState::Finished => "finished",
        ProcessState::Stopped => "interrupted",
        ProcessState::Failed | ProcessState::Diverged => "failed",
    }
}

/// The row's directories: one, or what a process left that was killed between two.
fn row_directories(directory: &Path) -> Result<Vec<RowDirectory>> {
    let list = || format!("failed to list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(list)?,
    };
    let mut rows = Vec::new();
    for entry in entries {
        let name = entry.with_context(list)?.file_name();
        rows.extend(name.to_str().and_then(RowDirectory::parse));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, Scores, Status, TrainStatus, provenance};
    use std::cell::Cell;
    use std::time::Duration;

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
        let rows = row_directories(&run.hparams()).unwrap();
        rows.iter().map(RowDirectory::to_string).collect()
    }

    #[test]
    fn row_of_a_killed_evaluator_is_updated_once_and_never_beside_an_evaluator() {
        let directory = tempfile::tempdir().unwrap();
        let spec = Spec::default();
        let yaml = spec.to_yaml().unwrap();
        let run = RunDir::create(directory.path(), "a", &yaml, &provenance()).unwrap();
        let mut train = TrainStatus {
            step: 1,
            steps: 1,
            ..TrainStatus::new(Process::current())
        };
        train.save(&run).unwrap();
        drop(HparamsSession::start(&run, &spec, &[]).unwrap());
        assert_eq!(directories(&run), ["running"]);
        // It was killed between two directories before, and training goes on.
        fs::create_dir(run.hparams().join("failed")).unwrap();
        // A process that another test is starting has inherited the lock, until it is started.
        let update_to = |want: &str| {
            while directories(&run) != [want] {
                record_missing_completion(&run).unwrap();
            }
        };
        let trainer = Lock::take(&run, Role::TRAIN).unwrap();
        update_to("interrupted");
        drop(trainer);
        update_to("failed");
        record_missing_completion(&run).unwrap();
        assert_eq!(directories(&run), ["failed"]);
        train.process.state = ProcessState::Finished;
        train.save(&run).unwrap();
        update_to("finished");
        drop(HparamsSession::start(&run, &spec, &[]).unwrap());
        assert_eq!(directories(&run), ["running-2"]);
        let evaluator = loop {
            if let Ok(lock) = Lock::take(&run, Role::Eval) {
                break lock;
            }
        };
        record_missing_completion(&run).unwrap();
        assert_eq!(directories(&run), ["running-2"]);
        drop(evaluator);
    }

    #[test]
    fn points_take_one_look_at_each_evaluation() {
        let of = |step| {
            let scores = Scores {
                accuracy: 1.0 / (step + 1) as f64,
                ..Scores::default()
            };
            Evaluation::new(step, None, None, Ok(scores), Duration::ZERO)
        };
        let evaluations: Vec<Evaluation> = (0..100_000).map(of).collect();
        let looks = Cell::new(0);
        let counted = evaluations.iter().inspect(|_| looks.set(looks.get() + 1));
        let mut progress = EvaluationProgress::default();
        assert_eq!(points(&mut progress, counted).count(), evaluations.len());
        assert_eq!(looks.get(), evaluations.len());
        assert_eq!(progress, EvaluationProgress::of(&evaluations));
    }

    #[test]
    fn row_directories_never_have_a_name_twice() {
        let mut before = Vec::new();
        let mut names = Vec::new();
        for state in [
            ProcessState::Running,
            ProcessState::Failed,
            ProcessState::Running,
            ProcessState::Running, // the second one was killed
            ProcessState::Stopped,
            ProcessState::Failed,
            ProcessState::Failed,
            ProcessState::Running,
            ProcessState::Finished,
        ] {
            let row = RowDirectory::after(&before, state);
            assert_eq!(RowDirectory::parse(&row.to_string()), Some(row));
            names.push(row.to_string());
            before = vec![row];
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
            assert_eq!(RowDirectory::parse(foreign), None, "{foreign}");
        }
    }
}
