//! A run, a sweep or a point of one, of which everything is read when it is asked for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use chrono::{DateTime, Local};
use serde_json::Value as Json;

use crate::bail_user;
use crate::files::read_small;
use crate::overview::{self, DiskUse};
use crate::run::{
    self, Activity, EvalStatus, Evaluation, EvaluationProgress, Found, Journal, Labels, ProcessDir,
    Provenance, RunDir, RunState, Status, Statuses, SupervisorStatus, TrainStatus,
};
use crate::spec::{self, Field, Spec};
use crate::sweep::{Point, Standing, SweepDir, results};

/// The largest `spec.yaml` that is looked at, in bytes: they have a few kilobytes.
const MAX_SPEC: u64 = 1 << 20;

/// A run, a sweep, or a point of one.
pub struct Entry {
    what: What,
    /// Of a point: what the sweep says of it.
    point: Option<PointOf>,
    /// `NAME/TIMESTAMP`, or `NAME/TIMESTAMP/POINT`.
    id: String,
    statuses: OnceLock<Partly<Statuses>>,
    run_state: OnceLock<Option<RunState>>,
    damage: OnceLock<Vec<String>>,
    labels: OnceLock<Partly<Labels>>,
    spec: OnceLock<Partly<Option<Json>>>,
    sessions: OnceLock<Partly<Vec<Provenance>>>,
    evaluations: OnceLock<Partly<Vec<Evaluation>>>,
    standing: OnceLock<Result<Standing, String>>,
    disk: OnceLock<DiskUse>,
    size: OnceLock<u64>,
}

enum What {
    Run(RunDir),
    Sweep(SweepDir),
    /// A point that has not begun.
    Waiting,
}

/// A point as its sweep sees it.
struct PointOf {
    point: Point,
    state: String,
    /// Whether seeds differ from point to point.
    tells_seed: bool,
}

/// What could be read of something, and what is wrong with the rest.
struct Partly<T> {
    read: T,
    damage: Vec<String>,
}

impl<T: Default> Partly<T> {
    fn of(read: Result<T>) -> Self {
        match read {
            Ok(read) => Partly {
                read,
                damage: Vec::new(),
            },
            Err(error) => Partly {
                read: T::default(),
                damage: vec![format!("{error:#}")],
            },
        }
    }
}

impl Entry {
    fn new(what: What, id: String) -> Self {
        Entry {
            what,
            point: None,
            id,
            statuses: OnceLock::new(),
            run_state: OnceLock::new(),
            damage: OnceLock::new(),
            labels: OnceLock::new(),
            spec: OnceLock::new(),
            sessions: OnceLock::new(),
            evaluations: OnceLock::new(),
            standing: OnceLock::new(),
            disk: OnceLock::new(),
            size: OnceLock::new(),
        }
    }

    /// That of a run or a sweep.
    pub fn of(found: Found) -> Self {
        let id = found.id();
        match found {
            Found::Run(run) => Entry::new(What::Run(run), id),
            Found::Sweep(sweep) => Entry::new(What::Sweep(SweepDir::new(sweep)), id),
        }
    }

    /// Those in a directory of runs, the newest first. Points are not among them.
    pub fn all(runs: &Path) -> Vec<Self> {
        let mut entries: Vec<Entry> = run::list(runs).into_iter().map(Entry::of).collect();
        // Those that somebody renamed come last. Of several at one second, the order of names and ages is turned around.
        entries.reverse();
        entries.sort_by_key(|entry| {
            std::cmp::Reverse(entry.directory().and_then(ProcessDir::created))
        });
        entries
    }

    /// The points of a sweep, those that have not begun too, in the order of their numbers. None of a run.
    ///
    /// # Errors
    /// A user error if the sweep cannot be read.
    pub fn points(&self) -> Result<Vec<Self>> {
        let What::Sweep(directory) = &self.what else {
            return Ok(Vec::new());
        };
        let standing = match self.read_standing() {
            Some(Ok(standing)) => standing,
            Some(Err(error)) => bail_user!("{error}"),
            None => return Ok(Vec::new()),
        };
        let states = standing.results().states();
        let tells_seed = standing.sweep.definition.seeds.len() > 1;
        let points = standing.sweep.points.iter().zip(states);
        let entries = points.map(|(point, state)| {
            let run = directory.run(point);
            let what = run.map_or(What::Waiting, What::Run);
            let id = format!("{}/{}", self.id, point.name);
            Entry {
                point: Some(PointOf {
                    point: point.clone(),
                    state,
                    tells_seed,
                }),
                ..Entry::new(what, id)
            }
        });
        Ok(entries.collect())
    }

    /// The points of a sweep that have begun, as its directory tells also where its definition cannot be read.
    pub fn begun_points(&self) -> Vec<Self> {
        let runs = self.directory().map(run::points).unwrap_or_default();
        let runs = runs.into_iter().map(Found::Run);
        runs.map(Entry::of).collect()
    }

    /// `NAME/TIMESTAMP`, or `NAME/TIMESTAMP/POINT`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The experiment's name.
    pub fn name(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }

    /// `run`, `sweep` or `point`.
    pub fn kind(&self) -> &'static str {
        match (&self.what, self.id.matches('/').count()) {
            (What::Sweep(_), _) => "sweep",
            (What::Run(_), ..2) => "run",
            _ => "point",
        }
    }

    /// Its run; none of a sweep and of a point that has not begun.
    pub fn run(&self) -> Option<&RunDir> {
        match &self.what {
            What::Run(run) => Some(run),
            _ => None,
        }
    }

    /// Whether it is a sweep.
    pub fn is_sweep(&self) -> bool {
        matches!(self.what, What::Sweep(_))
    }

    /// Its directory; none of a point that has not begun.
    pub fn directory(&self) -> Option<&ProcessDir> {
        match &self.what {
            What::Run(run) => Some(run),
            What::Sweep(sweep) => Some(sweep),
            What::Waiting => None,
        }
    }

    /// How a sweep stands; none of a run, and of a sweep that cannot be read.
    pub fn standing(&self) -> Option<&Standing> {
        self.read_standing()?.as_ref().ok()
    }

    fn read_standing(&self) -> Option<&Result<Standing, String>> {
        let What::Sweep(directory) = &self.what else {
            return None;
        };
        let read = || Standing::read(directory).map_err(|error| format!("{error:#}"));
        Some(self.standing.get_or_init(read))
    }

    /// What its processes said last.
    pub fn statuses(&self) -> &Statuses {
        &self.read_statuses().read
    }

    fn read_statuses(&self) -> &Partly<Statuses> {
        self.statuses.get_or_init(|| {
            let mut damage = Vec::new();
            let read = match self.run() {
                None => Statuses::default(),
                Some(run) => Statuses {
                    train: known(TrainStatus::load(run), &mut damage),
                    eval: known(EvalStatus::load(run), &mut damage),
                    supervisor: known(SupervisorStatus::load(run), &mut damage),
                },
            };
            Partly { read, damage }
        })
    }

    /// Its tags and notes.
    pub fn labels(&self) -> &Labels {
        &self.read_labels().read
    }

    fn read_labels(&self) -> &Partly<Labels> {
        self.labels.get_or_init(|| {
            let read = self.directory().map(Labels::read);
            Partly::of(read.unwrap_or_else(|| Ok(Labels::default())))
        })
    }

    /// What is wrong with the file of its tags and notes, if that was read. A slip in a file that people edit is no damage of the
    /// run.
    pub fn label_problems(&self) -> &[String] {
        self.labels.get().map_or(&[], |labels| &labels.damage)
    }

    /// What each of its sessions was started from, the oldest first.
    pub fn sessions(&self) -> &[Provenance] {
        &self.read_sessions().read
    }

    fn read_sessions(&self) -> &Partly<Vec<Provenance>> {
        self.sessions.get_or_init(|| {
            let read = self.run().map(Provenance::read);
            Partly::of(read.unwrap_or_else(|| Ok(Vec::new())))
        })
    }

    /// Its spec as JSON; of a sweep that of the base, of a point that has not begun none. An edit that no session has
    /// trained with is not in it.
    pub fn spec(&self) -> Option<&Json> {
        self.read_spec().read.as_ref()
    }

    fn read_spec(&self) -> &Partly<Option<Json>> {
        self.spec.get_or_init(|| {
            if let Some(standing) = self.standing() {
                return Partly::of(standing.sweep.base.to_json().map(Some));
            }
            let Some(run) = self.run() else {
                return Partly::of(Ok(None));
            };
            let mut recorded = self.sessions().iter().rev();
            let recorded = recorded.find_map(|session| session.spec.clone());
            let fields = match recorded {
                Some(json) => Spec::fields_of_frozen_json(&run.provenance(), json),
                None => Spec::read_frozen(&run.spec()).and_then(|spec| spec.to_json()),
            };
            Partly::of(fields.map(Some))
        })
    }

    /// What the evaluator has found, in the order of steps.
    pub fn evaluations(&self) -> &[Evaluation] {
        &self.read_evaluations().read
    }

    fn read_evaluations(&self) -> &Partly<Vec<Evaluation>> {
        self.evaluations.get_or_init(|| {
            let read = self.run().map(|run| Journal::read(&run.evaluations()));
            Partly::of(read.unwrap_or_else(|| Ok(Vec::new())))
        })
    }

    /// What the evaluations come to: as the evaluator's status says, which is read sooner, or else the journal.
    pub fn scores(&self) -> EvaluationProgress {
        match &self.statuses().eval {
            Some(eval) => EvaluationProgress {
                last: eval.last,
                best: eval.best,
                lowest_loss: eval.lowest_loss,
                ..EvaluationProgress::default()
            },
            None => EvaluationProgress::of(self.evaluations()),
        }
    }

    /// How it stands, in a word or two; none before any process of it has started.
    pub fn state(&self) -> Option<String> {
        if let Some(standing) = self.read_standing() {
            return match standing {
                Ok(standing) => standing.state(),
                Err(_) => Some("damaged".to_owned()),
            };
        }
        if !self.damage().is_empty() {
            return Some("damaged".to_owned());
        }
        match &self.point {
            Some(of) => Some(of.state.clone()),
            None => self.run_state().map(|state| state.to_string()),
        }
    }

    /// How its run stands, whatever is damaged.
    pub fn run_state(&self) -> Option<RunState> {
        let read = || self.statuses().state(self.run()?);
        *self.run_state.get_or_init(read)
    }

    /// Whether a process of it is at work.
    pub fn is_under_way(&self) -> bool {
        match self.standing() {
            Some(standing) => standing.is_at_work(),
            None => self.run_state().is_some_and(RunState::is_under_way),
        }
    }

    /// What of its files cannot be read, each with its path, as far as a list looks: the statuses, whether the spec is
    /// there.
    pub fn damage(&self) -> &[String] {
        self.damage.get_or_init(|| {
            let mut damage = self.read_statuses().damage.clone();
            damage.extend(self.run().and_then(spec_damage));
            if let Some(Err(error)) = self.read_standing() {
                damage.push(error.clone());
            }
            damage
        })
    }

    /// The same of all of its files.
    pub fn all_damage(&self) -> Vec<String> {
        let mut damage = self.damage().to_vec();
        damage.extend(self.read_labels().damage.iter().cloned());
        damage.extend(self.read_sessions().damage.iter().cloned());
        damage.extend(self.read_evaluations().damage.iter().cloned());
        if damage.is_empty() {
            damage.extend(self.read_spec().damage.iter().cloned());
        }
        damage
    }

    /// The error that ended it.
    pub fn error(&self) -> Option<String> {
        match self.standing() {
            Some(standing) => standing.error.clone(),
            None => self.statuses().error(self.run()?),
        }
    }

    /// When it was made: as its first session says, which knows its time zone, else by its name.
    pub fn created(&self) -> Option<DateTime<Local>> {
        let said = self.sessions().first();
        said.map(|session| session.started.into())
            .or_else(|| self.directory()?.created())
    }

    /// How long all of its sessions took, in seconds; of a sweep those of its points together.
    pub fn seconds(&self) -> Option<f64> {
        match self.standing() {
            Some(standing) => Some(standing.progress.iter().map(|point| point.seconds).sum()),
            None => Some(self.statuses().supervisor.as_ref()?.seconds()),
        }
    }

    /// What a run takes on the disk, by kind.
    pub fn disk(&self) -> DiskUse {
        *self.disk.get_or_init(|| {
            let run = self.run();
            run.map_or_else(DiskUse::default, DiskUse::of)
        })
    }

    /// What it takes on the disk in all, in bytes.
    pub fn size(&self) -> Option<u64> {
        let path = self.directory()?.path();
        Some(*self.size.get_or_init(|| overview::size(path)))
    }

    /// How many checkpoints of a run that is not under way are to be scored and are not.
    pub fn unscored(&self) -> Option<usize> {
        let run = self.run()?;
        match self.run_state() {
            Some(state) if state.is_under_way() => None,
            // Its evaluator has ended because none was left, unless somebody has trained on by the trainer alone, or taken the
            // journal away since. To look at every checkpoint of every run takes longer than all else that a list does.
            Some(state)
                if state.is_finished()
                    && self.statuses().is_evaluated()
                    && run.evaluations().is_file() =>
            {
                Some(0)
            }
            _ => Some(overview::unscored(run)),
        }
    }

    /// What the evaluator does, or what it left: checkpoints without a score. Of a sweep how many points failed.
    pub fn evaluation(&self) -> Option<String> {
        if let Some(standing) = self.standing() {
            let failed = standing.results().failures().len();
            return (failed > 0).then(|| format!("{failed} failed"));
        }
        if !self.is_under_way() {
            let unscored = self.unscored()?;
            return (unscored > 0).then(|| format!("{unscored} not scored"));
        }
        let eval = self.statuses().eval.as_ref()?;
        let doing = match eval.activity? {
            Activity::Idle { .. } => "idle".to_owned(),
            Activity::Scoring {
                step, done, images, ..
            } => format!("scoring step {step}, {} %", 100 * done / images.max(1)),
        };
        Some(match eval.waiting {
            0 => doing,
            waiting => format!("{doing}, {waiting} more to score"),
        })
    }

    /// The fields of its spec that its command line, its sweep or a resume set, in the order of the spec; of a sweep those that its
    /// best setting sets.
    pub fn changes(&self) -> Vec<(String, Json)> {
        let mut changes = self.unordered_changes();
        let ordered = Field::all().filter_map(|field| changes.remove_entry(field.path));
        ordered.collect()
    }

    fn unordered_changes(&self) -> BTreeMap<String, Json> {
        let mut changes = BTreeMap::new();
        if let Some(standing) = self.standing() {
            let results = standing.results();
            let settings = results.settings();
            let best = settings.first().filter(|it| it.rank.is_some());
            let values = best.into_iter().flat_map(|best| best.values);
            changes.extend(values.map(|(field, value)| (field.clone(), value.clone())));
            return changes;
        }
        if let Some((set, seed)) = self.swept() {
            changes.extend(set);
            changes.extend(seed.map(|seed| ("seed".to_owned(), seed.into())));
        }
        for session in self.sessions() {
            // What the command line of a sweep sets, all of its points have.
            let of_run = self.kind() == "run";
            for field in session.set_fields().into_iter().filter(|_| of_run) {
                let value = self.spec().and_then(|spec| field.value(spec));
                // An earlier version did not record which fields of a section were set.
                let is_set = |value: &&Json| {
                    !session.origins.is_empty() || field.default_value() != Some(*value)
                };
                let value = value.filter(is_set);
                changes.extend(value.map(|value| (field.path.to_owned(), value.clone())));
            }
            let made = session.changes.iter().filter(|it| !it.to.is_null());
            changes.extend(made.map(|change| (change.field.clone(), change.to.clone())));
        }
        changes
    }

    /// Of a point that was found by its sweep: what that says of it, and whether seeds differ from point to point.
    pub(super) fn point(&self) -> Option<(&Point, bool)> {
        self.point.as_ref().map(|of| (&of.point, of.tells_seed))
    }
}

/// What was read, and nothing where that failed.
fn known<T>(read: Result<Option<T>>, damage: &mut Vec<String>) -> Option<T> {
    read.unwrap_or_else(|error| {
        damage.push(format!("{error:#}"));
        None
    })
}

/// What is wrong with a run's spec as a whole. To read it takes too long for a list.
fn spec_damage(run: &RunDir) -> Option<String> {
    let path = run.spec();
    let problem = match read_small(&path, MAX_SPEC) {
        Err(error) => error.to_string(),
        Ok(bytes) => {
            let is_section =
                |line: &[u8]| line.starts_with(b"train:") || line.starts_with(b"\"train\":");
            if bytes.split(|byte| *byte == b'\n').any(is_section) {
                return None;
            }
            "got no section train, want the spec that `runboard run` wrote".to_owned()
        }
    };
    Some(format!("{}: {problem}", path.display()))
}

/// All words for how a run, a sweep or a point stands, but those with a number.
pub fn states() -> impl Iterator<Item = &'static str> {
    let runs = RunState::ALL.into_iter().map(RunState::word);
    let others = ["target reached", "damaged"];
    runs.chain(results::STATES).chain(others)
}

/// The state that a user means, in whose words there may be a - for a space.
pub(super) fn state_named(text: &str) -> Result<String, String> {
    let word = text.to_lowercase().replace('-', " ");
    let has_steps = results::STATES_AT_STEPS.map(|begin| word.starts_with(begin));
    if states().any(|state| state == word) || has_steps.contains(&true) {
        return Ok(word);
    }
    let near = spec::nearest(&word, states());
    let hint = near.map_or_else(
        || format!("; there are {}", states().collect::<Vec<_>>().join(", ")),
        |near| spec::did_you_mean([near]),
    );
    Err(format!(
        "got '{text}', want a state, as of docs/terminal.md{hint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{COLUMNS, Key, Value};
    use crate::run::{Process, Provenance, Restarts, Score, provenance};
    use crate::spec::Override;
    use serde_json::json;
    use std::fs;

    /// A run of this name whose spec has these values, the newest of its directory.
    fn create(runs: &Path, name: &str, sets: &[&str], session: Provenance) -> RunDir {
        let overrides: Result<Vec<Override>> = sets.iter().map(Override::parse).collect();
        let spec = Spec::default().changed(Path::new("spec.yaml"), &overrides.unwrap());
        let spec = spec.unwrap();
        let session = session.with_spec(&spec).unwrap();
        RunDir::create(runs, name, &spec.to_frozen_yaml().unwrap(), &session).unwrap()
    }

    fn value(entry: &Entry, name: &str) -> Option<Value> {
        Key::find(name).unwrap().value(entry)
    }

    #[test]
    fn entry_tells_steps_scores_and_restarts() {
        let runs = tempfile::tempdir().unwrap();
        let run = create(runs.path(), "a", &["train.steps=9"], provenance());
        let entry = || Entry::all(runs.path()).remove(0);
        assert_eq!(
            (value(&entry(), "state"), value(&entry(), "steps")),
            (None, None)
        );
        let mut train = TrainStatus {
            step: 7,
            steps: 9,
            ..TrainStatus::new(Process::current())
        };
        train.save(&run).unwrap();
        let mut eval = EvalStatus {
            last: Some(Score::new(5, 0.5)),
            best: Some(Score::new(2, 0.75)),
            ..EvalStatus::new(Process::current())
        };
        eval.save(&run).unwrap();
        let first = SupervisorStatus {
            restarts: Restarts { train: 1, eval: 2 },
            ..SupervisorStatus::new(Process::current(), None)
        };
        // The session after it goes on counting.
        let mut supervisor = SupervisorStatus {
            restarts: Restarts { train: 1, eval: 0 },
            ..SupervisorStatus::new(Process::current(), Some(&first))
        };
        supervisor.save(&run).unwrap();
        let found = entry();
        for (name, want) in [
            ("steps", Value::Steps { done: 7, all: 9 }),
            ("steps_total", Value::Count(9)),
            ("accuracy", Value::Accuracy(0.75)),
            ("best_step", Value::Count(2)),
            ("last_accuracy", Value::Accuracy(0.5)),
            ("restarts", Value::Count(4)),
            ("train.steps", Value::Count(9)),
            ("kind", Value::Text("run".into())),
        ] {
            assert_eq!(value(&found, name), Some(want), "{name}");
        }
        // Nothing is known of a run that none of these columns can say.
        for column in COLUMNS {
            let _ = (column.value)(&found);
        }
        // A file may say anything.
        supervisor.restarts_before.train = u32::MAX;
        supervisor.save(&run).unwrap();
        let restarts = Value::Count(u64::from(u32::MAX) + 2);
        assert_eq!(value(&entry(), "restarts"), Some(restarts));
    }

    #[test]
    fn damaged_run_is_shown_as_damaged_and_hides_no_other() {
        let runs = tempfile::tempdir().unwrap();
        for (problem, name) in [
            ("got no section train, want the spec", "spec.yaml"),
            ("no status: ", "train.status.json"),
            ("no status: ", "eval.status.json"),
        ] {
            let run = create(runs.path(), "a", &[], provenance());
            let path = run.path().join(name);
            fs::write(&path, "{}").unwrap();
            let entry = Entry::of(Found::Run(run.clone()));
            assert_eq!(value(&entry, "state"), Some(Value::Text("damaged".into())));
            let damage = value(&entry, "damage").unwrap().text();
            assert!(damage.starts_with(&path.display().to_string()), "{damage}");
            assert!(damage.contains(problem), "{damage}");
        }
        create(runs.path(), "a", &[], provenance());
        let states: Vec<_> = Entry::all(runs.path()).iter().map(Entry::state).collect();
        assert_eq!(states.len(), 4);
        assert_eq!(states[0], None);
        // A slip in a file that people edit.
        let run = create(runs.path(), "b", &[], provenance());
        fs::write(Labels::path(&run), "version: 1\ntags: best\n").unwrap();
        let entry = Entry::of(Found::Run(run));
        assert_eq!(entry.state(), None);
        assert_eq!(entry.labels(), &Labels::default());
        // Other files are looked at where all is told of a run.
        let run = create(runs.path(), "a", &[], provenance());
        fs::write(run.evaluations(), "notes\n").unwrap();
        let entry = Entry::of(Found::Run(run));
        assert_eq!(entry.damage(), [""; 0]);
        assert!(
            entry.all_damage()[0].contains("want an evaluation as"),
            "{:?}",
            entry.all_damage()
        );
    }

    #[test]
    fn entries_are_the_newest_first_and_a_renamed_one_is_last() {
        let runs = tempfile::tempdir().unwrap();
        for id in [
            "b/20261126-000000",
            "a/20261127-000000",
            "b/kept",
            "a/20261126-000000-002",
            "b/20261126-000000-002",
        ] {
            fs::create_dir_all(runs.path().join(id)).unwrap();
            fs::write(runs.path().join(id).join("spec.yaml"), "train:\n").unwrap();
        }
        let entries = Entry::all(runs.path());
        let ids: Vec<&str> = entries.iter().map(Entry::id).collect();
        assert_eq!(
            ids,
            [
                "a/20261127-000000",
                "b/20261126-000000-002",
                "b/20261126-000000",
                "a/20261126-000000-002",
                "b/kept",
            ]
        );
    }

    #[test]
    fn changes_are_what_was_set_whatever_other_runs_have() {
        let runs = tempfile::tempdir().unwrap();
        let origins = |fields: &[(&str, &str)]| {
            let owned = |text: &str| text.to_owned();
            let fields = fields.iter();
            provenance().with_origins(fields.map(|it| (owned(it.0), owned(it.1))).collect())
        };
        let file = "experiments/a.yaml:3:4";
        let changes = |sets: &[&str], session: Provenance| {
            Entry::of(Found::Run(create(runs.path(), "a", sets, session))).changes()
        };
        let field = |name: &str, value: u64| (name.to_owned(), json!(value));
        let sets = [
            "train.steps=7",
            "eval.threads=2",
            "train.keep_checkpoints=3",
        ];
        assert_eq!(changes(&sets, origins(&[("train.steps", file)])), []);
        let session = origins(&[
            ("train.steps", file),
            ("eval.threads", "--set"),
            ("train.keep_checkpoints", "--set"),
        ]);
        // In the order of the spec.
        assert_eq!(
            changes(&sets, session),
            [field("train.keep_checkpoints", 3), field("eval.threads", 2)]
        );
        // Of a run that repeats one which was changed so.
        let session = origins(&[
            ("train.steps", "resume --set, session 2"),
            ("train.keep_checkpoints", "the sweep"),
            ("data.folder", "--data"),
        ]);
        assert_eq!(
            changes(&sets, session),
            [field("train.steps", 7), field("train.keep_checkpoints", 3)]
        );
        // Of a session that did not record it, what is set to its default is not told from what is not set.
        let mut session = provenance();
        let words = ["run", "--set", "train.steps=5", "--set=eval.threads=0"];
        session.command = words.map(str::to_owned).to_vec();
        assert_eq!(
            changes(&["train.steps=5"], session),
            [field("train.steps", 5)]
        );
    }
}
