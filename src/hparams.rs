//! The run as one row of TensorBoard's HParams tab, among other runs: its spec, its state, its scores.
//!
//! The row belongs to `eval/`, so that it needs no entry of its own in TensorBoard's list of runs, and all curves there
//! are its metrics. TensorBoard keeps the first status that it reads, so none is written before the end; how the run
//! stands meanwhile, and after a resume, is a curve of numbers, `Overview/state`. Its last point is at the last step that
//! was scored, as that of the other curves, and is written again when the run ends or goes on.
//!
//! All of the row follows from the spec, the data, the journal and the statuses, so that it can be written at any time.

use crate::error::is_user_error;
use crate::events::{self, EventWriter, SessionStatus, Summaries, tags};
use crate::run::data::{fingerprint_digits, train_images};
use crate::run::{
    Evaluation, Journal, Lock, ProcessState, Role, RunDir, RunState, Status, SupervisorStatus,
    TrainStatus, state, swept_fields,
};
use crate::spec::Spec;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;

/// Fields that are not compared between runs, and sections of such, but for those that a sweep compares: words, places,
/// what is shown and kept, the machine's part.
const OMITTED: &[&str] = &[
    "description",
    "compute.device",
    "compute.devices",
    "compute.timeout_secs",
    "compute.process_group",
    "compute.elastic",
    "compute.threads",
    "data.folder",
    "data.download",
    "data.prefetch",
    "data.workers",
    "train.log_every",
    "train.scalars_every",
    "train.histograms_every",
    "train.images_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.keep_every",
    "train.keep_best",
    "train.divergence_factor",
    "train.restarts",
    "eval.policy",
    "eval.interval_secs",
    "eval.batch_size",
    "eval.device",
    "eval.threads",
    "eval.tta",
];

/// Fields and sections that are compared with one choice of a field alone, besides what the spec says has no effect.
const CONDITIONAL: &[(&str, &str, &str)] = &[
    ("data.synthetic", "data.source", "synthetic"),
    ("train.on_divergence", "train.on_divergence", "rollback"),
];

/// List the run in the HParams tab. The row of an earlier version, in a directory of its own, is removed.
///
/// # Errors
/// The row cannot be written, or the earlier one cannot be removed.
pub fn list(run: &RunDir, spec: &Spec) -> Result<()> {
    let images = train_images(run).and_then(|images| spec.training_images(images));
    let swept = swept_fields(run)?;
    let hparams = hyperparameters(spec, &swept, fingerprint_digits(run)?, images.ok())?;
    events::list_session(&run.events(Role::Eval), &row_name(run), &hparams)?;
    let earlier = run.earlier_hparams();
    if earlier.exists() {
        fs::remove_dir_all(&earlier)
            .with_context(|| format!("failed to remove {}", earlier.display()))?;
    }
    Ok(())
}

/// What the row is called, of which the page shows the first few letters: a run's id. That of a sweep's point begins with
/// its number, and is no other sweep's.
fn row_name(run: &RunDir) -> String {
    let id = run.id();
    match (run.sweep(), id.rsplit_once('/')) {
        (Some(sweep), Some((_, point))) => format!("{point} ({})", sweep.id()),
        _ => id,
    }
}

/// Show that the run is going on.
pub fn add_running(summaries: &mut Summaries, run: &RunDir) {
    add_state(summaries, run, ProcessState::Running);
}

/// Show that the run is going on again, if what is shown is how it ended. Only who holds the evaluator's lock may call it.
///
/// # Errors
/// The journal or the events cannot be read, the row cannot be written.
pub fn show_running(run: &RunDir) -> Result<()> {
    let shown = events::last_scalar(&run.events(Role::Eval), &tags::STATE.tag())?;
    match shown {
        Some(state) if state != number(ProcessState::Running) => {
            show(run, ProcessState::Running, None)
        }
        _ => Ok(()),
    }
}

/// Show how the run stands in place of what is shown of it at the last step that was scored.
fn show(run: &RunDir, state: ProcessState, end: Option<SessionStatus>) -> Result<()> {
    let journal = Journal::read(&run.evaluations())?;
    let last = journal.iter().rev().find_map(Evaluation::score);
    let mut summaries = Summaries::at(last.map_or(0, |score| score.step));
    add_state(&mut summaries, run, state);
    // There may be more than the last checkpoint knows of.
    if let Ok(Some(train)) = TrainStatus::load(run)
        && train.rollbacks > 0
    {
        summaries.scalar(&tags::ROLLBACK_COUNT.tag(), train.rollbacks as f64);
    }
    if let Some(status) = end {
        summaries.end_session(status);
    }
    EventWriter::revise(&run.events(Role::Eval), summaries)
}

/// Show how the run stands, and how long it took up to now.
fn add_state(summaries: &mut Summaries, run: &RunDir, state: ProcessState) {
    summaries.scalar(&tags::STATE.tag(), number(state));
    // Only shown: one that cannot be read is for the supervisor to report.
    if let Ok(Some(supervisor)) = SupervisorStatus::load(run) {
        summaries.scalar(&tags::MINUTES.tag(), supervisor.seconds() / 60.0);
    }
}

/// Show how a run stands whose evaluator ends: as finished or failed, or else as stopped, because it may go on. Without a
/// row there is nothing to do. Only who holds the evaluator's lock may call it.
///
/// # Errors
/// The journal cannot be read, the row cannot be written.
pub fn record_completion(run: &RunDir) -> Result<()> {
    if !events::is_session_listed(&run.events(Role::Eval)) {
        return Ok(());
    }
    let state = completion_state(run);
    show(run, state, status(state))
}

/// As [`record_completion`], unless that is shown already, for an evaluator that was killed. An evaluator that is
/// running, and so holds the lock, does it itself.
///
/// # Errors
/// As [`record_completion`].
pub fn record_missing_completion(run: &RunDir) -> Result<()> {
    let _lock = match Lock::take(run, Role::Eval) {
        Err(error) if is_user_error(&error) => return Ok(()),
        lock => lock?,
    };
    let shown = events::last_scalar(&run.events(Role::Eval), &tags::STATE.tag())?;
    match shown == Some(number(completion_state(run))) {
        true => Ok(()),
        false => record_completion(run),
    }
}

/// The state shown of a run that nobody evaluates. Its trainer may be running, but nobody would update the row when it
/// ends.
fn completion_state(run: &RunDir) -> ProcessState {
    match state(run) {
        Some(state) if state.is_finished() => ProcessState::Finished,
        Some(RunState::Failed | RunState::Diverged) => ProcessState::Failed,
        _ => ProcessState::Stopped,
    }
}

/// What TensorBoard calls it; none if the run may go on.
fn status(state: ProcessState) -> Option<SessionStatus> {
    match state {
        ProcessState::Finished => Some(SessionStatus::Success),
        ProcessState::Failed | ProcessState::Diverged => Some(SessionStatus::Failure),
        ProcessState::Starting | ProcessState::Running | ProcessState::Stopped => None,
    }
}

/// The state in the curve, whose description says so.
fn number(state: ProcessState) -> f32 {
    match state {
        ProcessState::Finished => 2.0,
        ProcessState::Starting | ProcessState::Running => 1.0,
        ProcessState::Stopped => 0.0,
        ProcessState::Failed | ProcessState::Diverged => -1.0,
    }
}

/// What of the spec is compared between runs, and what stands for the data. `swept` are the fields that a sweep compares;
/// `images` are trained on.
fn hyperparameters(
    spec: &Spec,
    swept: &[String],
    data: Option<String>,
    images: Option<usize>,
) -> Result<Value> {
    let mut fields = spec.to_json()?;
    let conditional = CONDITIONAL.iter();
    let without_effect = conditional.filter(|(_, choice, value)| {
        let chosen = fields.pointer(&pointer(choice));
        chosen.and_then(Value::as_str) != Some(value)
    });
    let mut omitted: Vec<String> = without_effect.map(|(path, ..)| path.to_string()).collect();
    omitted.extend(without_limit(&fields));
    omitted.extend(OMITTED.iter().map(|path| path.to_string()));
    omitted.retain(|path| !swept.contains(path));
    for path in omitted.into_iter().chain(spec.unused()) {
        remove(&mut fields, &path);
    }
    if let Some(digits) = data {
        fields["data"]["fingerprint"] = digits.into();
    }
    if let Some(images) = images {
        // Epochs are steps too: one column compares all runs.
        fields["train"]["steps"] = spec.train.total_steps(images).into();
    }
    Ok(fields)
}

/// What the section `stop` does not limit.
fn without_limit(fields: &Value) -> Vec<String> {
    let limits = fields["stop"].as_object().into_iter().flatten();
    let none = limits.filter(|(_, limit)| limit.as_f64() == Some(0.0));
    none.map(|(field, _)| format!("stop.{field}")).collect()
}

/// Remove the field or section at a dotted path.
fn remove(fields: &mut Value, path: &str) {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let section = fields.pointer_mut(&pointer(section));
    if let Some(section) = section.and_then(Value::as_object_mut) {
        section.remove(key);
    }
}

/// The JSON pointer of a dotted path; the top level is the path "".
fn pointer(path: &str) -> String {
    let keys = path.split('.').filter(|key| !key.is_empty());
    keys.map(|key| format!("/{key}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, provenance};
    use crate::spec::{OnDivergence, Source};
    use serde_json::json;
    use std::path::Path;

    /// The names under which the tab shows a spec.
    fn names(spec: &Spec) -> Vec<String> {
        fn leaves(path: &str, value: &Value, names: &mut Vec<String>) {
            match value.as_object() {
                Some(fields) => fields.iter().for_each(|(key, value)| {
                    leaves(&format!("{path}.{key}"), value, names);
                }),
                None => names.push(path[1..].to_owned()),
            }
        }
        let mut names = Vec::new();
        let fields = hyperparameters(spec, &[], Some("0123abcd".to_owned()), None).unwrap();
        leaves("", &fields, &mut names);
        names
    }

    #[test]
    fn hyperparameters_are_what_runs_are_compared_by() {
        let mut spec = Spec::default();
        let value = hyperparameters(&spec, &[], Some("0123abcd".to_owned()), None).unwrap();
        assert_eq!(value["optimizer"]["learning_rate"], 0.1);
        assert_eq!(value["input"]["contrast"]["lower"], 0.2);
        assert_eq!(value["data"]["source"], "cifar10");
        assert_eq!(value["data"]["fingerprint"], "0123abcd");
        let found = names(&spec);
        for name in [
            "train.steps",
            "train.batch_size",
            "seed",
            "network.conv1.stddev",
        ] {
            assert!(found.contains(&name.to_owned()), "{name}");
        }
        let kinds = [
            "_every",
            "workers",
            "synthetic",
            "rollback",
            "description",
            "folder",
            "eval.",
            "stop.",
        ];
        for kind in kinds {
            let odd = found.iter().find(|name| name.contains(kind));
            assert_eq!(odd, None);
        }
        assert!(!found.contains(&"input.pad_mode".to_owned()));
        spec.data.source = Source::Synthetic;
        spec.train.on_divergence = OnDivergence::Rollback;
        spec.stop.patience = 3;
        let more = names(&spec);
        for name in [
            "data.synthetic.seed",
            "train.on_divergence",
            "train.rollback_factor",
            "stop.patience",
        ] {
            assert!(more.contains(&name.to_owned()), "{name}");
        }
    }

    #[test]
    fn hyperparameters_have_every_field_that_a_sweep_compares() {
        let mut spec = Spec::default();
        spec.compute.threads = 2;
        let swept = ["eval.tta", "compute.threads", "stop.patience"].map(str::to_owned);
        let fields = hyperparameters(&spec, &swept, None, None).unwrap();
        let found = ["/eval/tta", "/compute/threads", "/stop/patience"]
            .map(|path| fields.pointer(path).cloned());
        let want = [json!("none"), json!(2), json!(0)];
        assert_eq!(found, want.map(Some));
        assert_eq!(fields.pointer("/eval/policy"), None);
    }

    #[test]
    fn hyperparameters_have_the_steps_that_epochs_are() {
        let mut spec = Spec::default();
        let steps = |spec: &Spec| {
            let fields = hyperparameters(spec, &[], None, Some(1_280)).unwrap();
            fields["train"]["steps"].clone()
        };
        assert_eq!(steps(&spec), 100_000);
        (spec.train.steps, spec.train.epochs) = (None, Some(3.0));
        assert_eq!(steps(&spec), 30);
    }

    #[test]
    fn row_of_a_point_begins_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let sweep = directory.path().join("rates/20261126-050000");
        fs::create_dir_all(&sweep).unwrap();
        let create = |path: &Path| {
            let yaml = Spec::default().to_yaml().unwrap();
            RunDir::create_at(path, &yaml, &provenance(), |_| Ok(()))
                .unwrap()
                .0
        };
        let point = create(&sweep.join("007-learning_rate=0.1"));
        fs::write(sweep.join("sweep.yaml"), "").unwrap();
        let want = "007-learning_rate=0.1 (rates/20261126-050000)";
        assert_eq!(row_name(&point), want);
        let run = create(&directory.path().join("rates/20261126-060000"));
        assert_eq!(row_name(&run), "rates/20261126-060000");
    }

    #[test]
    fn omitted_and_conditional_fields_are_fields_of_the_spec() {
        let spec = serde_json::to_value(Spec::default()).unwrap();
        let conditional = CONDITIONAL
            .iter()
            .flat_map(|(path, choice, _)| [path, choice]);
        for path in OMITTED.iter().chain(conditional) {
            assert!(spec.pointer(&pointer(path)).is_some(), "{path}");
        }
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
        let eval = run.events(Role::Eval);
        let files = || fs::read_dir(&eval).unwrap().count();
        let shown = || events::last_scalar(&eval, &tags::STATE.tag()).unwrap();
        // An evaluator that has not begun has no row.
        record_completion(&run).unwrap();
        assert_eq!(files(), 0);
        fs::create_dir_all(run.earlier_hparams().join("running-2")).unwrap();
        list(&run, &spec).unwrap();
        assert!(!run.earlier_hparams().exists());
        let mut running = Summaries::at(0);
        add_running(&mut running, &run);
        EventWriter::resume(&eval, 0).unwrap().write(&running);
        assert_eq!(shown(), Some(1.0));
        // A process that another test is starting has inherited the lock, until it is started.
        let update_to = |want: ProcessState| {
            while shown() != Some(number(want)) {
                record_missing_completion(&run).unwrap();
            }
        };
        let trainer = Lock::take(&run, Role::TRAIN).unwrap();
        update_to(ProcessState::Stopped);
        drop(trainer);
        update_to(ProcessState::Failed);
        let before = files();
        record_missing_completion(&run).unwrap();
        assert_eq!(files(), before);
        train.process.state = ProcessState::Finished;
        train.save(&run).unwrap();
        let evaluator = loop {
            if let Ok(lock) = Lock::take(&run, Role::Eval) {
                break lock;
            }
        };
        record_missing_completion(&run).unwrap();
        assert_eq!(shown(), Some(-1.0));
        drop(evaluator);
        update_to(ProcessState::Finished);
    }
}
