//! What is known of a run, by name: the one table that lists, filters, sorts, formats, completions and docs/columns.md follow
//! from. The fields of a spec are columns as well.

use super::{Entry, Value};
use crate::run::{Score, WeightsOrigin, data};
use crate::spec::{self, Field};
use crate::sweep::MetricName;
use chrono::Local;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

/// A column.
pub struct Column {
    /// What it is called on the command line and in JSON and CSV, which does not change from version to version.
    pub name: &'static str,
    /// Over the column in a table for people.
    pub heading: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Which come first where a table is sorted by it.
    pub first: First,
    /// What it says, in a line.
    pub meaning: &'static str,
    /// Its value of a run; none where there is none.
    pub value: fn(&Entry) -> Option<Value>,
}

/// What the values of a column are, and so what they can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Flag,
    Number,
    Bytes,
    /// In seconds.
    Duration,
    Time,
    /// Several words, each of which counts.
    List,
    /// Fields of a spec.
    Fields,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Text => "text",
            Kind::Flag => "true or false",
            Kind::Number => "number",
            Kind::Bytes => "size",
            Kind::Duration => "duration",
            Kind::Time => "time",
            Kind::List => "words",
            Kind::Fields => "fields",
        })
    }
}

/// Which values come first where a table is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The smallest, the earliest, the first of the alphabet.
    Smallest,
    /// The largest, the best, the newest.
    Largest,
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            First::Smallest => "smallest",
            First::Largest => "largest",
        })
    }
}

macro_rules! columns {
    ($($name:literal $heading:literal $kind:ident $first:ident $meaning:literal $value:expr;)*) => {
        /// All of them, in the order in which JSON has them.
        pub const COLUMNS: &[Column] = &[$(Column {
            name: $name,
            heading: $heading,
            kind: Kind::$kind,
            first: First::$first,
            meaning: $meaning,
            value: $value,
        }),*];
    };
}

columns! {
    "run" "RUN" Text Smallest "NAME/TIMESTAMP, of a sweep's point NAME/TIMESTAMP/POINT."
        |it| text(it.id());
    "point" "POINT" Text Smallest "The name of a sweep's point: its number and what it sets."
        |it| text(it.id().splitn(3, '/').nth(2)?);
    "name" "NAME" Text Smallest "The experiment."
        |it| text(it.name());
    "kind" "KIND" Text Smallest "run, sweep or point."
        |it| text(it.kind());
    "state" "STATE" Text Smallest
        "How it stands (docs/terminal.md), or damaged where a file of it cannot be read. None before its first process."
        |it| it.state().map(Value::Text);
    "steps" "STEPS" Number Largest "Steps that are done; a table shows of how many. None of a sweep, of which a table shows the points."
        steps;
    "steps_total" "ALL STEPS" Number Largest "Steps to do in all."
        |it| count(it.statuses().train.as_ref()?.steps);
    "points" "POINTS" Number Largest "Points of a sweep."
        |it| count(it.standing()?.sweep.points.len() as u64);
    "points_done" "DONE" Number Largest "Points of a sweep that need no more."
        |it| count(it.standing()?.results().done() as u64);
    "accuracy" "BEST" Number Largest
        "Accuracy of the best checkpoint on the test images, which is the best on the validation images where there are any. \
         Of a sweep that of its best setting, the mean over its seeds."
        |it| match it.standing() {
            Some(_) => sweep_score(it, false).map(Value::Accuracy),
            None => accuracy(it.scores().best),
        };
    "last_accuracy" "LAST" Number Largest "Accuracy of the last checkpoint that was scored, on the test images."
        |it| accuracy(it.scores().last);
    "validation_accuracy" "VALIDATION" Number Largest "Accuracy of the best checkpoint on the validation images."
        |it| match it.standing() {
            Some(_) => sweep_score(it, true).map(Value::Accuracy),
            None => it.scores().best?.validation.map(Value::Accuracy),
        };
    "validation_loss" "VALIDATION LOSS" Number Smallest
        "Cross-entropy of the best checkpoint on the validation images. Of a sweep by losses there, that of its best setting."
        |it| match it.standing() {
            Some(_) => sweep_loss(it, true),
            None => {
                let best = it.scores().best?.step;
                let found = it.evaluations().iter().rfind(|found| found.step == best)?;
                found.validation_loss.map(Value::Loss)
            }
        };
    "best_step" "BEST STEP" Number Largest "The step of the best checkpoint."
        |it| count(it.scores().best?.step);
    "last_step" "LAST STEP" Number Largest "The step of the last checkpoint that was scored."
        |it| count(it.scores().last?.step);
    "loss" "LOSS" Number Smallest
        "The lowest cross-entropy of a checkpoint on the test images. Of a sweep by losses that of its best setting, the mean over \
         its seeds."
        |it| match it.standing() {
            Some(_) => sweep_loss(it, false),
            None => it.scores().lowest_loss.map(Value::Loss),
        };
    "last_loss" "LAST LOSS" Number Smallest "Cross-entropy of the last checkpoint that was scored, on the test images."
        |it| it.evaluations().iter().rev().find_map(|found| found.loss).map(Value::Loss);
    "tta_accuracy" "TTA" Number Largest "The highest accuracy on the test images by several views of each."
        |it| {
            let scores = it.evaluations().iter().filter_map(|found| found.tta_accuracy);
            scores.reduce(f64::max).map(Value::Accuracy)
        };
    "training_loss" "TRAINING LOSS" Number Smallest "Training's loss, averaged over the last 50 steps."
        |it| {
            let train = it.statuses().train.as_ref()?;
            let smoothed = train.smoothed_loss.map(|loss| loss.value);
            smoothed.or(train.loss).map(Value::Loss)
        };
    "created" "CREATED" Time Largest "When it was made."
        |it| it.created().map(Value::Time);
    "age" "AGE" Duration Smallest "How long ago that was."
        |it| Some(Value::Age((Local::now() - it.created()?).as_seconds_f64()));
    "duration" "TIME" Duration Largest "How long all of its sessions took; of a sweep those of its points together."
        |it| it.seconds().map(Value::Duration);
    "training_time" "TRAINING" Duration Largest "How long training took, in all sessions."
        |it| Some(it.statuses().train.as_ref()?.seconds).filter(|it| *it > 0.0).map(Value::Duration);
    "evaluation_time" "SCORING" Duration Largest "How long the scoring of its checkpoints took."
        |it| {
            let seconds: f64 = it.evaluations().iter().map(|found| found.seconds).sum();
            (seconds > 0.0).then_some(Value::Duration(seconds))
        };
    "size" "SIZE" Bytes Largest "What it takes on the disk."
        |it| it.size().map(Value::Bytes);
    "checkpoints_size" "CHECKPOINTS" Bytes Largest "What its checkpoints take on the disk."
        |it| it.run().map(|_| Value::Bytes(it.disk().checkpoints));
    "curves_size" "CURVES" Bytes Largest "What its event files take on the disk."
        |it| it.run().map(|_| Value::Bytes(it.disk().curves));
    "device" "DEVICE" Text Smallest "What computes."
        |it| {
            let trained = it.statuses().train.as_ref().and_then(|train| train.device.clone());
            trained.or_else(|| Some(it.sessions().last()?.software.device.clone())).map(Value::Text)
        };
    "speed" "IMAGES/S" Number Largest "Images trained on a second, lately."
        |it| Some(Value::Number(it.statuses().train.as_ref()?.examples_per_sec?.round()));
    "evaluation" "EVALUATION" Text Smallest
        "What the evaluator does, or how many checkpoints are not scored; of a sweep how many points failed."
        |it| it.evaluation().map(Value::Text);
    "unscored" "NOT SCORED" Number Largest "How many checkpoints of a run that is not under way are to be scored and are not."
        |it| count(it.unscored()? as u64);
    "restarts" "RESTARTS" Number Largest "How often a process was started again after it had died, in all sessions."
        |it| {
            let restarts = it.statuses().supervisor.as_ref()?.all_restarts();
            count(u64::from(restarts.train) + u64::from(restarts.eval))
        };
    "rollbacks" "ROLLBACKS" Number Largest "How often training went back to an earlier checkpoint."
        |it| count(it.statuses().train.as_ref()?.rollbacks as u64);
    "sessions" "SESSIONS" Number Largest "How often it was started or resumed."
        |it| count(it.sessions().len() as u64).filter(|_| it.run().is_some());
    "changes" "CHANGES" Fields Smallest
        "Fields of the spec that `--set`, its sweep or a resume set beside what its experiment's files say: the same whatever else is \
         listed. What differs after an edit of the files, `compare` shows. Of a sweep the values of its best setting."
        |it| Some(it.changes()).filter(|changes| !changes.is_empty()).map(Value::Fields);
    "tags" "TAGS" List Smallest "Its tags (`runboard tag`)."
        |it| Some(Value::List(it.labels().tags.clone())).filter(|_| !it.labels().tags.is_empty());
    "notes" "NOTES" Text Smallest "Its notes (`runboard note`), the last one first."
        |it| {
            let notes = it.labels().notes.iter().rev().map(|note| note.text.clone());
            let notes: Vec<String> = notes.collect();
            (!notes.is_empty()).then(|| Value::Text(notes.join("\n")))
        };
    "error" "ERROR" Text Smallest "The error that ended it."
        |it| it.error().map(Value::Text);
    "damage" "DAMAGE" Text Smallest "What of its files cannot be read."
        |it| Some(it.damage()).filter(|it| !it.is_empty()).map(|it| Value::Text(it.join("\n")));
    "commit" "COMMIT" Text Smallest "The commit of the checkout that its last session began in; + where that differed from it."
        |it| {
            let git = it.sessions().last()?.git.as_ref()?;
            let short = git.commit.get(..10).unwrap_or(&git.commit);
            Some(Value::Text(format!("{short}{}", if git.dirty { "+" } else { "" })))
        };
    "version" "VERSION" Text Smallest "The version of runboard in its last session."
        |it| text(&it.sessions().last()?.runboard);
    "libtorch" "LIBTORCH" Text Smallest "The version of libtorch in its last session."
        |it| text(&it.sessions().last()?.software.libtorch);
    "host" "HOST" Text Smallest "The machine of its last session."
        |it| text(it.sessions().last()?.host.as_deref()?);
    "data" "DATA" Text Smallest "Eight digits that stand for its images: equal if those are."
        |it| data::fingerprint_digits(it.run()?).ok().flatten().map(Value::Text);
    "weights_from" "WEIGHTS FROM" Text Smallest "The run whose weights it began with, and after which step: RUN@STEP."
        |it| {
            let of_sweep = it.standing().map(|standing| standing.sweep.weights_from.as_ref());
            let of_run = || it.sessions().first()?.weights_from.as_ref();
            let WeightsOrigin { run, step, .. } = of_sweep.unwrap_or_else(of_run)?;
            text(&format!("{run}@{step}"))
        };
    "path" "PATH" Text Smallest "Its directory."
        |it| text(&it.directory()?.path().display().to_string());
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}

fn count(count: u64) -> Option<Value> {
    Some(Value::Count(count))
}

fn accuracy(score: Option<Score>) -> Option<Value> {
    Some(Value::Accuracy(score?.accuracy))
}

fn steps(entry: &Entry) -> Option<Value> {
    if let Some(standing) = entry.standing() {
        let (done, all) = (standing.results().done(), standing.sweep.points.len());
        return Some(Value::Points { done, all });
    }
    let train = entry.statuses().train.as_ref()?;
    Some(Value::Steps {
        done: train.step,
        all: train.steps,
    })
}

/// The accuracy of a sweep's best setting, on the test images, or on the validation images where it is ranked by that.
fn sweep_score(entry: &Entry, validation: bool) -> Option<f64> {
    let results = entry.standing()?.results();
    results.best_mean(MetricName::Accuracy, validation)
}

/// The loss of a sweep's best setting, on the test images, or on the validation images where it is ranked by that.
fn sweep_loss(entry: &Entry, validation: bool) -> Option<Value> {
    let results = entry.standing()?.results();
    results
        .best_mean(MetricName::Loss, validation)
        .map(Value::Loss)
}

/// A column, or a field of a spec, which is one as well.
#[derive(Clone, Copy)]
pub enum Key {
    Column(&'static Column),
    Field(&'static Field),
}

impl Key {
    /// What a user calls so: a column, the dotted path of a field, or its last part where only one field has it.
    ///
    /// # Errors
    /// What it may be meant for, to follow the name.
    pub fn find(name: &str) -> Result<Self, String> {
        if let Some(column) = COLUMNS.iter().find(|column| column.name == name) {
            return Ok(Key::Column(column));
        }
        if let Some(field) = Field::all().find(|field| field.path == name) {
            return Ok(Key::Field(field));
        }
        let end = format!(".{name}");
        let ending: Vec<&'static Field> = Field::all()
            .filter(|field| field.path.ends_with(&end))
            .collect();
        match ending[..] {
            [field] => return Ok(Key::Field(field)),
            [] => {}
            _ => {
                let paths: Vec<&str> = ending.iter().map(|field| field.path).collect();
                return Err(format!(
                    "several fields end so, want one of {}",
                    paths.join(", ")
                ));
            }
        }
        let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
        let columns = COLUMNS.iter().map(|column| column.name);
        let fields = Field::all().flat_map(|field| [field.path, last(field.path)]);
        // As it stands over a table.
        let shown = COLUMNS
            .iter()
            .filter(|column| column.heading.eq_ignore_ascii_case(name));
        let shown: Vec<&str> = shown.map(|column| column.name).collect();
        let near = match spec::meant_by(name) {
            _ if !shown.is_empty() => shown,
            [] => spec::nearest(name, columns.chain(fields))
                .into_iter()
                .collect(),
            meant => meant.to_vec(),
        };
        Err(format!(
            "unknown name, want a column or a field of a spec{}",
            spec::did_you_mean(near)
        ))
    }

    /// What it is called in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Key::Column(column) => column.name,
            Key::Field(field) => field.path,
        }
    }

    /// Over the column in a table for people.
    pub fn heading(self) -> String {
        match self {
            Key::Column(column) => column.heading.to_owned(),
            Key::Field(field) => field.path.to_owned(),
        }
    }

    /// What its values are.
    pub fn kind(self) -> Kind {
        match self {
            Key::Column(column) => column.kind,
            Key::Field(field) if field.numbers().is_some() => Kind::Number,
            Key::Field(field) if field.is_flag() => Kind::Flag,
            Key::Field(field) if field.is_list() => Kind::List,
            Key::Field(_) => Kind::Text,
        }
    }

    /// Which of its values come first where a table is sorted.
    pub fn first(self) -> First {
        match self {
            Key::Column(column) => column.first,
            Key::Field(_) => First::Smallest,
        }
    }

    /// Its value of a run; none where there is none.
    pub fn value(self, entry: &Entry) -> Option<Value> {
        match self {
            Key::Column(column) => (column.value)(entry),
            Key::Field(field) => Value::of_field(field.value(entry.spec()?)?),
        }
    }
}

/// As much of the end of a field's path as [`Key::find`] takes for it: `learning_rate`, `stop.accuracy`, `local3.init`.
pub fn short(path: &str) -> &str {
    static SHORT: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
        let paths = Field::all().map(|field| field.path);
        paths.map(|path| (path, shortest(path))).collect()
    });
    SHORT.get(path).copied().unwrap_or(path)
}

fn shortest(path: &'static str) -> &'static str {
    let ends = path.rmatch_indices('.').map(|(dot, _)| &path[dot + 1..]);
    let is_it = |end: &&str| Key::find(end).is_ok_and(|key| key.name() == path);
    ends.chain([path]).find(is_it).unwrap_or(path)
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::Path;
    use std::{env, fs};

    #[test]
    fn columns_have_names_of_their_own_that_no_field_has() {
        let names: BTreeSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert!(Field::all().all(|field| !names.contains(field.path)));
        for column in COLUMNS {
            assert_eq!(Key::find(column.name).unwrap().name(), column.name);
            assert!(column.meaning.ends_with('.'), "{}", column.name);
        }
    }

    #[test]
    fn key_is_found_by_the_end_of_a_path_that_no_other_field_has() {
        for (name, want) in [
            ("seed", "seed"),
            ("learning_rate", "optimizer.learning_rate"),
            ("conv1.kernel", "network.conv1.kernel"),
            ("network.conv1.kernel", "network.conv1.kernel"),
            ("steps", "steps"), // the column
        ] {
            assert_eq!(Key::find(name).unwrap().name(), want);
        }
        for name in ["", "network", "kernel", "extends"] {
            assert!(Key::find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn short_name_is_found_again_and_no_shorter_one_is() {
        for (path, want) in [
            ("seed", "seed"),
            ("optimizer.learning_rate", "learning_rate"),
            ("optimizer.name", "optimizer.name"),
            ("data.synthetic.seed", "synthetic.seed"),
            ("network.local3.init", "local3.init"),
            ("stop.accuracy", "stop.accuracy"), // beside the column
            ("train.steps", "train.steps"),
            ("no.field", "no.field"),
        ] {
            assert_eq!(short(path), want);
        }
        for field in Field::all() {
            assert_eq!(Key::find(short(field.path)).unwrap().name(), field.path);
        }
    }

    /// The table as docs/columns.md shows it.
    fn markdown() -> String {
        let mut text = String::from(
            "# Columns\n\n\
             What `runboard list` and `compare` know of a run, by the names that `--columns`, `--sort` and `--where` take and that \
             `--json` and\n`--csv` write; the names do not change from version to version. This is the table of \
             src/catalog/column.rs, which a test holds\nequal. Every field of a spec ([spec.md](spec.md)) is a column as well, by \
             its dotted path, or by the last part of it where only\none field ends so: `learning_rate`.\n\n\
             JSON and CSV have numbers without units: sizes in bytes, durations in seconds, accuracies in 0..=1, times in RFC \
             3339; `null`\nor an empty cell is what a run has no value of. JSON is a list of objects. `--sort` has the smallest or \
             the largest first, as the\ntable says.\n\n\
             `--where` takes comparisons of these names, joined by `and`, `or`, `not` and parentheses: \
             `'accuracy>0.7 and not (state=failed or learning_rate>=0.1)'`.\nThere are `=`, `!=`, `<`, `<=`, `>`, `>=`, and `~` \
             and `!~` for a pattern of `*` and `?`: `name~fast*`. A value is a number (`0.7`, `12%`), a size (`500MB`),\na \
             duration (`90m`, `1h30m`, `30d`), a time (`2026-11-20`, `2026-11-20T08:00`), `true`, `false`, or a text; one with a \
             space in it is quoted:\n`state='stopped early'`. `error=none` is a run without a value; every other comparison with \
             one that is not there is false.\n\n\
             | column | values | first | |\n|---|---|---|---|\n",
        );
        for column in COLUMNS {
            let (name, kind, first, meaning) =
                (column.name, column.kind, column.first, column.meaning);
            writeln!(text, "| `{name}` | {kind} | {first} | {meaning} |").unwrap();
        }
        text
    }

    #[test]
    fn columns_are_those_of_the_docs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/columns.md");
        if env::var_os("WRITE_DOCS").is_some() {
            fs::write(&path, markdown()).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == markdown(),
            "docs/columns.md differs from src/catalog/column.rs; `make docs` renews it"
        );
    }
}
