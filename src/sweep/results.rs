//! What a sweep has found: its settings from the best to the worst, for people (`results.md`, the terminal), and its points
//! for programs (`results.csv`).
//!
//! A point counts when it has ended, has been compared at a rung of halving, or has reached the target. What others have
//! scored so far is shown without a rank, as it is not to be compared with that. Settings all of whose points count come
//! first, and of them those that went further in halving: they won against the others at the same steps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ::console::measure_text_width;
use anyhow::Result;
use serde_json::Value;

use super::definition::{Definition, Goal, MetricName, Score};
use super::point::{Point, labels};
use super::progress::Progress;
use super::ranking::{self, Candidate};
use super::schedule::{self, Decision, End, PointState, Rung, stopped};
use crate::files::write_atomic;
use crate::overview::text::{count, cut};
use crate::run::{Evaluation, RunState};
use crate::spec::{Base, Section, Spec};

/// What the values of the best setting take at most in a list of runs, in columns.
const LABEL: usize = 30;

/// What the table is of. `progress` has one entry for each point, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    /// `NAME/TIMESTAMP` of the sweep.
    pub id: &'a str,
    /// The spec of every point but for the fields that the point sets.
    pub base: &'a Spec,
    pub definition: &'a Definition,
    pub points: &'a [Point],
    pub progress: &'a [Progress],
    pub decisions: &'a [Decision],
    /// How many validation images the points hold out of their training images.
    pub validation_images: &'a BTreeSet<usize>,
}

/// A setting and what its points have come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting<'a> {
    /// From 1 for the best; none of one without a score that counts.
    pub rank: Option<usize>,
    /// The values of the swept fields, by their dotted paths.
    pub values: &'a BTreeMap<String, Value>,
    /// Its points, in their order.
    pub points: Vec<(&'a Point, &'a Progress)>,
    /// How many rungs of halving it has passed.
    rungs: usize,
    /// What it is ranked by.
    pub judged: Candidate,
    /// What its points have scored that do not count yet.
    so_far: Candidate,
    /// The same checkpoints' accuracy on the test images, where it is not that.
    tested: Candidate,
}

impl<'a> Results<'a> {
    /// All settings, the best first; those without a score that counts at the end.
    pub fn settings(&self) -> Vec<Setting<'a>> {
        let mut settings: Vec<Setting> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let rungs = self.rungs();
        let stopped = stopped(self.decisions);
        let winner = self.winner();
        for (point, progress) in self.points.iter().zip(self.progress) {
            let place = *places.entry(&point.setting).or_insert_with(|| {
                settings.push(Setting {
                    rank: None,
                    values: &point.set,
                    points: Vec::new(),
                    rungs: rungs.get(&point.number).copied().unwrap_or(0),
                    judged: Candidate::default(),
                    so_far: Candidate::default(),
                    tested: Candidate::default(),
                });
                settings.len() - 1
            });
            let setting = &mut settings[place];
            setting.points.push((point, progress));
            let has_failed = progress.end.is_some_and(End::is_failure);
            let counts = progress.end.is_some()
                || stopped.contains_key(&point.number)
                || rungs.contains_key(&point.number)
                || winner == Some(point.number);
            let found = self.judged(progress).filter(|_| !has_failed);
            let score = found.map(|(_, score)| score);
            let scores = match counts {
                true => &mut setting.judged,
                false => &mut setting.so_far,
            };
            scores.points.push(point.number);
            scores.scores.push(score);
            if counts {
                let tested = found.and_then(|(evaluation, _)| evaluation.accuracy);
                setting.tested.scores.push(tested);
            }
        }
        let goal = self.definition.metric.goal;
        // The smaller the better.
        let class = |it: &Setting| match it.judged.known().len() {
            _ if winner.is_some_and(|winner| it.judged.points.contains(&winner)) => 0,
            known if known == it.points.len() => 1,
            1.. => 2,
            0 if !it.so_far.known().is_empty() => 3,
            0 => 4,
        };
        settings.sort_by(|a, b| {
            (class(a), Reverse(a.rungs))
                .cmp(&(class(b), Reverse(b.rungs)))
                .then_with(|| ranking::compare(goal, &a.judged, &b.judged))
        });
        let ranked = settings.iter_mut().filter(|it| it.judged.mean().is_some());
        for (rank, setting) in (1..).zip(ranked) {
            setting.rank = Some(rank);
        }
        settings
    }

    /// The number of the point that has reached the target which the sweep has now.
    pub fn winner(&self) -> Option<usize> {
        self.decisions.iter().find_map(|decision| match decision {
            Decision::Target { point, target, .. } if Some(*target) == self.definition.target => {
                Some(*point)
            }
            _ => None,
        })
    }

    /// How many points need no more: they have ended, reached the target, or were stopped by halving.
    pub fn done(&self) -> usize {
        let stopped = stopped(self.decisions);
        let winner = self.winner();
        let all = self.points.iter().zip(self.progress);
        let done = all.filter(|(point, progress)| {
            progress.end.is_some()
                || stopped.contains_key(&point.number)
                || winner == Some(point.number)
        });
        done.count()
    }

    /// How far the rung of halving is at which points are compared next, if there is one.
    pub fn rung(&self) -> Option<Rung> {
        let all = self.progress.iter();
        // All points of a halving train the same number of steps.
        let steps = all.filter_map(|progress| progress.steps).max()?;
        let metric = self.definition.metric;
        let states = self.progress.iter();
        let states: Vec<PointState> = states.map(|it| it.point_state(steps, metric)).collect();
        schedule::rung(self.definition, self.points, &states, self.decisions)
    }

    /// How each point stands, in a word or two for people, in the order of the points.
    pub fn states(&self) -> Vec<String> {
        let word = self.word();
        let all = self.points.iter().zip(self.progress);
        all.map(|(point, progress)| word(point, progress)).collect()
    }

    fn word(&self) -> impl Fn(&Point, &Progress) -> String + use<> {
        let stopped = stopped(self.decisions);
        let winner = self.winner();
        move |point, progress| {
            let has_failed = progress.end.is_some_and(End::is_failure);
            match winner {
                Some(winner) if winner == point.number && !has_failed => {
                    "reached the target".to_owned()
                }
                Some(_) if progress.state.is_none() => "not run".to_owned(),
                _ => state(progress, stopped.get(&point.number).copied()),
            }
        }
    }

    /// How many rungs each point has passed that was compared with others; 0 of one that was stopped at the first.
    fn rungs(&self) -> BTreeMap<usize, usize> {
        let mut rungs = BTreeMap::new();
        for decision in self.decisions {
            if let Decision::Halving { go_on, stop, .. } = decision {
                for point in go_on {
                    *rungs.entry(*point).or_insert(0) += 1;
                }
                for point in stop {
                    rungs.entry(*point).or_insert(0);
                }
            }
        }
        rungs
    }

    /// The evaluation that a point is judged by, and its score.
    pub fn judged<'b>(&self, progress: &'b Progress) -> Option<(&'b Evaluation, f64)> {
        let metric = self.definition.metric;
        let mut scored = progress.evaluations.iter().filter_map(|evaluation| {
            let score = Progress::score(evaluation, metric)?;
            Some((evaluation, score))
        });
        match metric.of {
            Score::Last => scored.next_back(),
            Score::Best => scored.reduce(|best, later| match metric.goal {
                Goal::Maximize if later.1 > best.1 => later,
                Goal::Minimize if later.1 < best.1 => later,
                _ => best,
            }),
        }
    }

    /// By which images the settings are ranked, and what that means, in a sentence.
    pub fn judge(&self) -> String {
        let metric = self.definition.metric;
        let (of, name) = (metric.of.name(), self.metric());
        let goal = match metric.goal {
            Goal::Maximize => "the highest",
            Goal::Minimize => "the lowest",
        };
        let begin = format!("Ranked by the {of} {name} of a run, {goal} first,");
        let counts: Vec<String> = self
            .validation_images
            .iter()
            .map(usize::to_string)
            .collect();
        match self.validation_images.first() {
            Some(0) if counts.len() > 1 => format!(
                "{begin} on the validation images of runs that have some and on the test images of those that have none: \
                 their ranks do not compare."
            ),
            None | Some(0) => format!(
                "{begin} on the test images: they choose, which flatters the best one. \
                 `data.validation_images` holds training images back to rank by."
            ),
            Some(_) => format!(
                "{begin} on {} validation images, which no run trains on; the test images have no say.",
                counts.join(" or ")
            ),
        }
    }

    /// By which images the settings are ranked, in short.
    pub fn images(&self) -> &'static str {
        match self.has_validation() {
            true => "by validation images",
            false => "by the test images",
        }
    }

    /// What stands before a score where it is not the accuracy on the test images.
    pub fn prefix(&self) -> &'static str {
        match (self.has_validation(), self.definition.metric.name) {
            (false, MetricName::Accuracy) => "",
            (true, MetricName::Accuracy) => "validation ",
            (false, MetricName::Loss) => "loss ",
            (true, MetricName::Loss) => "validation loss ",
        }
    }

    /// The best setting in a few words, without its seeds: `0.153 ± 0.010, learning_rate=0.2`. None if none has a rank.
    pub fn best(&self) -> Option<String> {
        let settings = self.settings();
        let best = settings.first().filter(|it| it.rank.is_some())?;
        let score = format!("{}{}", self.prefix(), spread(&best.judged));
        match cut(&self.label(best), LABEL) {
            label if label.is_empty() => Some(score), // it sweeps over seeds alone
            label => Some(format!("{score}, {label}")),
        }
    }

    /// The values that a setting sets: `learning_rate=0.2 momentum=0.9`.
    pub fn label(&self, setting: &Setting) -> String {
        let labels = labels(&self.definition.fields()).into_iter();
        let values = labels.filter_map(|(field, label)| {
            let value = setting.values.get(&field)?;
            Some(format!("{label}={}", text(value)))
        });
        values.collect::<Vec<_>>().join(" ")
    }

    fn metric(&self) -> &'static str {
        match self.definition.metric.name {
            MetricName::Accuracy => "accuracy",
            MetricName::Loss => "loss",
        }
    }

    /// Whether all points are judged by validation images.
    fn has_validation(&self) -> bool {
        self.validation_images
            .first()
            .is_some_and(|images| *images > 0)
    }

    /// How the points stand, in a line: `18 points: 12 finished, 2 running, 4 waiting`.
    pub fn counts(&self) -> String {
        let tally = self.tally(self.points.iter().zip(self.progress));
        let parts: Vec<String> = tally
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        format!(
            "{}: {}",
            count(self.points.len(), "point"),
            parts.join(", ")
        )
    }

    /// How these points stand, and how many of them do so; those that have ended come first.
    fn tally<'b>(
        &self,
        points: impl Iterator<Item = (&'b Point, &'b Progress)>,
    ) -> Vec<(String, usize)> {
        let word = self.word();
        let mut counts: BTreeMap<(u8, String), usize> = BTreeMap::new();
        for (point, progress) in points {
            let word = word(point, progress);
            *counts.entry((order(progress), word)).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|((_, word), count)| (word, count))
            .collect()
    }

    /// The points that failed or diverged, each in a line with what ended it.
    pub fn failures(&self) -> Vec<String> {
        let all = self.points.iter().zip(self.progress);
        let failed = all.filter(|(_, progress)| progress.end.is_some_and(End::is_failure));
        failed
            .map(|(point, progress)| {
                let how = state(progress, None);
                match progress
                    .error
                    .as_ref()
                    .and_then(|error| error.lines().next())
                {
                    Some(error) => format!("{} {how}: {error}", point.name),
                    None => format!("{} {how}", point.name),
                }
            })
            .collect()
    }

    /// The table of settings: its head, and as many rows as there may be.
    fn rows(&self, most: usize) -> Vec<Vec<String>> {
        let fields = self.definition.fields();
        let labels = labels(&fields);
        let values = Values::new(self.base, &fields);
        let name = self.metric();
        let mut head = vec!["rank".to_owned()];
        head.extend(labels.into_iter().map(|(_, label)| label));
        head.push(match self.has_validation() {
            true => format!("validation {name}"),
            false => name.to_owned(),
        });
        if self.has_test_column() {
            head.push("test accuracy".to_owned());
        }
        head.extend(["steps", "minutes", "state", "points"].map(str::to_owned));
        let mut rows = vec![head];
        for setting in self.settings().iter().take(most) {
            let mut row = vec![setting.rank.map_or_else(none, |rank| rank.to_string())];
            let (point, _) = setting.points[0];
            row.extend(values.of(point).map(|value| value.unwrap_or_else(none)));
            row.push(match setting.so_far.mean() {
                Some(_) if setting.rank.is_none() => format!("{} so far", spread(&setting.so_far)),
                _ => spread(&setting.judged),
            });
            if self.has_test_column() {
                row.push(spread(&setting.tested));
            }
            let begun: Vec<&Progress> = setting
                .points
                .iter()
                .map(|(_, it)| *it)
                .filter(|it| it.state.is_some())
                .collect();
            row.push(range(begun.iter().map(|it| it.done)));
            let minutes = begun.iter().map(|it| it.seconds / 60.0).sum::<f64>();
            row.push(match begun.len() {
                0 => none(),
                points => format!("{:.1}", minutes / points as f64),
            });
            row.push(match &self.tally(setting.points.iter().copied())[..] {
                [(word, _)] => word.clone(),
                words => {
                    let parts: Vec<String> = words
                        .iter()
                        .map(|(word, count)| format!("{count} {word}"))
                        .collect();
                    parts.join(", ")
                }
            });
            let numbers = setting
                .points
                .iter()
                .map(|(point, _)| point.number.to_string());
            row.push(numbers.collect::<Vec<_>>().join(" "));
            rows.push(row);
        }
        rows
    }

    /// Whether the test images' accuracy is something else than what is ranked by.
    fn has_test_column(&self) -> bool {
        self.has_validation() || self.definition.metric.name != MetricName::Accuracy
    }

    /// The table as text, with the `most` best settings.
    pub fn table(&self, most: usize) -> Vec<String> {
        let rows = self.rows(most);
        let widths = widths(&rows);
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| pad(cell, *width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    }

    /// `results.md`.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}. {}\n", self.id, self.counts(), self.judge());
        if self.definition.seeds.len() > 1 {
            text += &format!(
                "Mean ± standard deviation over {} seeds.\n",
                self.definition.seeds.len()
            );
        }
        text.push('\n');
        let mut rows = self.rows(usize::MAX);
        for row in &mut rows {
            for cell in row {
                *cell = cell.replace('|', "\\|");
            }
        }
        let widths = widths(&rows);
        rows.insert(
            1,
            widths
                .iter()
                .map(|width| "-".repeat((*width).max(3)))
                .collect(),
        );
        for row in &rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| pad(cell, *width));
            text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
        let failures = self.failures();
        if !failures.is_empty() {
            text += "\nFailed:\n\n";
            failures
                .iter()
                .for_each(|line| text += &format!("- {line}\n"));
        }
        text
    }

    /// `results.csv` (RFC 4180): a row for each point, in the order of their numbers. The scores are those of the
    /// checkpoint that the point is judged by, the last step that of its checkpoint.
    pub fn csv(&self) -> String {
        let fields = self.definition.fields();
        let mut head = vec!["point", "id", "name", "setting", "rank"];
        head.extend(&fields);
        head.extend([
            "seed",
            "state",
            "steps",
            "minutes",
            "step",
            "accuracy",
            "loss",
            "validation_accuracy",
            "validation_loss",
            "error",
        ]);
        let word = self.word();
        let values = Values::new(self.base, &fields);
        let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
        for setting in self.settings() {
            let numbers = setting.points.iter().map(|(point, _)| point.number);
            ranks.extend(numbers.filter_map(|number| Some((number, setting.rank?))));
        }
        let mut lines = vec![csv_line(head.iter().map(|name| (*name).to_owned()))];
        for (point, progress) in self.points.iter().zip(self.progress) {
            let judged = self.judged(progress).map(|(evaluation, _)| evaluation);
            let of = |number: fn(&Evaluation) -> Option<f64>| {
                let number = judged.and_then(number);
                number.map_or_else(String::new, |number| number.to_string())
            };
            let rank = ranks.get(&point.number);
            let mut row = vec![
                point.number.to_string(),
                point.id.clone(),
                point.name.clone(),
                point.setting.clone(),
                rank.map_or_else(String::new, usize::to_string),
            ];
            row.extend(values.of(point).map(Option::unwrap_or_default));
            row.extend([
                point.seed.to_string(),
                word(point, progress),
                progress.done.to_string(),
                format!("{:.2}", progress.seconds / 60.0),
                judged.map_or_else(String::new, |it| it.step.to_string()),
                of(|it| it.accuracy),
                of(|it| it.loss),
                of(|it| it.validation_accuracy),
                of(|it| it.validation_loss),
                progress.error.clone().unwrap_or_default(),
            ]);
            lines.push(csv_line(row.into_iter()));
        }
        lines.concat()
    }

    /// Writes `results.csv` and `results.md` into the sweep's directory.
    ///
    /// # Errors
    /// One of them cannot be written; that of before then stays.
    pub fn write(&self, directory: &Path) -> Result<()> {
        write_atomic(&directory.join("results.csv"), self.csv().as_bytes())?;
        write_atomic(&directory.join("results.md"), self.markdown().as_bytes())
    }
}

/// The values of fields that points train with, whether they set them or not.
struct Values<'a> {
    fields: &'a [&'a str],
    base: Option<Base>,
}

impl<'a> Values<'a> {
    fn new(base: &Spec, fields: &'a [&'a str]) -> Self {
        let section = Section::of_values(serde_yaml::Value::Null);
        Values {
            fields,
            base: Base::new(base, section).ok(), // as it was when the sweep began
        }
    }

    /// That of each field, for people; none of a field that has no effect in the point.
    fn of(&self, point: &Point) -> impl Iterator<Item = Option<String>> {
        let is_set = |field: &&str| point.set.contains_key(*field);
        let spec = match self.fields.iter().all(is_set) {
            true => None, // as in every grid
            false => self.base.as_ref().and_then(|it| point.spec_of(it).ok()),
        };
        let unused: Vec<String> = spec.iter().flat_map(Spec::unused).collect();
        let all = spec.and_then(|spec| spec.to_json().ok());
        self.fields.iter().map(move |field| {
            let inherited = || {
                let is_used = unused.iter().all(|it| it != field);
                all.as_ref()?
                    .pointer(&format!("/{}", field.replace('.', "/")))
                    .filter(|_| is_used)
            };
            point.set.get(*field).or_else(inherited).map(text)
        })
    }
}

/// How a point stands, as people read it; `rung` is where halving has stopped it.
pub fn state(progress: &Progress, rung: Option<u64>) -> String {
    match (progress.state, progress.end, rung) {
        (_, Some(End::Failed), _) => "failed".to_owned(),
        (_, Some(End::Diverged), _) => "diverged".to_owned(),
        // Somebody has resumed it by hand.
        (_, _, Some(rung)) if progress.done > rung => format!("out at {rung}, resumed"),
        (_, _, Some(rung)) => format!("out at {rung}"),
        (None, ..) => "waiting".to_owned(),
        // Killed with the sweep, it goes on with it.
        (Some(RunState::Failed), None, None) => "interrupted".to_owned(),
        (Some(state), ..) => state.to_string(),
    }
}

/// Points that have ended come first, those that failed last.
fn order(progress: &Progress) -> u8 {
    match (progress.end, progress.state) {
        (Some(end), _) if end.is_failure() => 4,
        (Some(_), _) => 0,
        (None, Some(state)) if state.is_under_way() => 2,
        (None, Some(_)) => 1,
        (None, None) => 3,
    }
}

impl Score {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Score::Best => "best",
            Score::Last => "last",
        }
    }
}

fn none() -> String {
    "-".to_owned()
}

/// A value of a field, without the quotes of a string.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => {
            let text = value.to_string();
            text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
        }
    }
}

/// Mean and deviation.
pub fn spread(candidate: &Candidate) -> String {
    match (candidate.mean(), candidate.deviation()) {
        (Some(mean), Some(deviation)) => format!("{mean:.3} ± {deviation:.3}"),
        (Some(mean), None) => format!("{mean:.3}"),
        (None, _) => none(),
    }
}

/// `1000`, or `250-1000` where they differ.
fn range(numbers: impl Iterator<Item = u64> + Clone) -> String {
    let (least, most) = (numbers.clone().min(), numbers.max());
    match (least, most) {
        (Some(least), Some(most)) if least < most => format!("{least}-{most}"),
        (Some(least), _) => least.to_string(),
        (None, _) => none(),
    }
}

/// The width of each column.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| measure_text_width(&row[column]));
        cells.max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

fn pad(cell: &str, width: usize) -> String {
    let missing = width.saturating_sub(measure_text_width(cell));
    format!("{cell}{}", " ".repeat(missing))
}

/// A line of a CSV file; what has commas, quotes or line breaks is quoted.
fn csv_line(cells: impl Iterator<Item = String>) -> String {
    let quoted = cells.map(|cell| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    });
    quoted.collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::run::{Quality, Scores};
    use crate::sweep::definition::{Choice, Metric, Parameter};
    use crate::sweep::schedule::tests::{definition, points};
    use std::time::Duration;

    /// A point that has finished, with these accuracies of its checkpoints, of validation images too.
    pub fn finished(accuracies: &[(f64, Option<f64>)]) -> Progress {
        let evaluation = |(index, (accuracy, validation)): (usize, &(f64, Option<f64>))| {
            let quality = |accuracy| Quality {
                accuracy,
                loss: 1.0 - accuracy,
            };
            let scores = Scores {
                accuracy: *accuracy,
                loss: 0.5,
                validation: validation.map(quality),
                ..Scores::default()
            };
            let step = 10 * index as u64 + 9;
            Evaluation::new(step, None, None, Ok(scores), Duration::ZERO)
        };
        Progress {
            state: Some(RunState::Finished),
            end: Some(End::Finished),
            done: 10 * accuracies.len() as u64,
            steps: Some(20),
            loss: Some(1.5),
            seconds: 90.0,
            evaluations: accuracies.iter().enumerate().map(evaluation).collect(),
            error: None,
        }
    }

    pub fn failed() -> Progress {
        Progress {
            state: Some(RunState::Diverged),
            end: Some(End::Diverged),
            error: Some("the loss at step 5 is inf\nmore".to_owned()),
            ..finished(&[(0.9, Some(0.9))])
        }
    }

    pub struct Case {
        pub definition: Definition,
        pub points: Vec<Point>,
        progress: Vec<Progress>,
        decisions: Vec<Decision>,
        validation_images: BTreeSet<usize>,
        base: Spec,
    }

    impl Case {
        /// Settings of two seeds each, with a learning rate and a text.
        pub fn new(progress: Vec<Progress>) -> Self {
            let mut definition = definition(1, None);
            definition.metric.of = Score::Best;
            definition.seeds = vec![1, 2];
            definition.parameters = ["optimizer.learning_rate", "optimizer.type"]
                .map(|field| Parameter {
                    field: field.to_owned(),
                    choice: Choice::Values(Vec::new()),
                })
                .into();
            let mut points = points(progress.len(), 2);
            for point in &mut points {
                let rate = 0.1 * point.number.div_ceil(2) as f64;
                point.seed = 1 + (point.number as u64 + 1) % 2;
                point.set = BTreeMap::from([
                    ("optimizer.learning_rate".to_owned(), rate.into()),
                    ("optimizer.type".to_owned(), "a, \"b\"".into()),
                ]);
            }
            Case {
                definition,
                points,
                progress,
                decisions: Vec::new(),
                validation_images: BTreeSet::from([0]),
                base: Spec::default(),
            }
        }

        pub fn results(&self) -> Results<'_> {
            Results {
                id: "rates/20261126-050000",
                base: &self.base,
                definition: &self.definition,
                points: &self.points,
                progress: &self.progress,
                decisions: &self.decisions,
                validation_images: &self.validation_images,
            }
        }

        /// The numbers of the settings' first points, those that have no rank after a 0.
        fn order(&self) -> Vec<usize> {
            let settings = self.results().settings();
            let ranked = settings.iter().filter(|it| it.rank.is_some()).count();
            let mut order: Vec<usize> = settings.iter().map(|it| it.points[0].0.number).collect();
            order.insert(ranked, 0);
            order
        }
    }

    #[test]
    fn results_are_ranked_by_the_best_or_the_last_checkpoint() {
        let mut case = Case::new(vec![
            finished(&[(0.5, None), (0.4, None)]),
            finished(&[(0.5, None), (0.6, None)]),
            finished(&[(0.8, None), (0.1, None)]),
            finished(&[(0.2, None), (0.7, None)]),
        ]);
        assert_eq!(case.order(), [3, 1, 0]);
        case.definition.metric.of = Score::Last;
        assert_eq!(case.order(), [1, 3, 0]);
        case.definition.metric.goal = Goal::Minimize;
        assert_eq!(case.order(), [3, 1, 0]);
    }

    #[test]
    fn results_say_what_ranks_and_what_failed() {
        let mut case = Case::new(vec![
            finished(&[(0.5, None), (0.4, None)]),
            finished(&[(0.6, None)]),
            finished(&[(0.8, None)]),
            failed(),
            Progress::default(),
            Progress::default(),
        ]);
        case.progress[5].state = Some(RunState::Running);
        let want = "\
# rates/20261126-050000

6 points: 3 finished, 1 running, 1 waiting, 1 diverged. Ranked by the best accuracy of a run, the highest first, on the test \
images: they choose, which flatters the best one. `data.validation_images` holds training images back to rank by.
Mean ± standard deviation over 2 seeds.

| rank | learning_rate       | type   | accuracy      | steps | minutes | state                  | points |
| ---- | ------------------- | ------ | ------------- | ----- | ------- | ---------------------- | ------ |
| 1    | 0.1                 | a, \"b\" | 0.550 ± 0.071 | 10-20 | 1.5     | finished               | 1 2    |
| 2    | 0.2                 | a, \"b\" | 0.800         | 10    | 1.5     | 1 finished, 1 diverged | 3 4    |
| -    | 0.30000000000000004 | a, \"b\" | -             | 0     | 0.0     | 1 running, 1 waiting   | 5 6    |

Failed:

- 004 diverged: the loss at step 5 is inf
";
        assert_eq!(case.results().markdown(), want);
        let table = case.results().table(1);
        assert_eq!(table.len(), 2);
        let row = "1     0.1            a, \"b\"  0.550 ± 0.071  10-20  1.5      finished  1 2";
        assert_eq!(table[1], row);
    }

    #[test]
    fn results_are_ranked_by_validation_images_where_there_are_any() {
        let mut case = Case::new(vec![
            finished(&[(0.9, Some(0.5)), (0.4, Some(0.6))]),
            finished(&[(0.9, Some(0.6))]),
            finished(&[(0.3, Some(0.7))]),
            finished(&[(0.3, Some(0.7))]),
        ]);
        case.validation_images = BTreeSet::from([500]);
        assert_eq!(case.order(), [3, 1, 0]);
        let judge = case.results().judge();
        assert_eq!(
            judge,
            "Ranked by the best accuracy of a run, the highest first, on 500 validation images, which no run trains on; \
             the test images have no say."
        );
        let head = &case.results().table(0)[0];
        let want = "rank  learning_rate  type  validation accuracy  test accuracy  steps  minutes  state  points";
        assert_eq!(head, want);
        // The test accuracy is that of the checkpoint that validation has chosen.
        let tested = &case.results().settings()[1].tested;
        assert_eq!(tested.scores, [Some(0.4), Some(0.9)]);
        case.validation_images = BTreeSet::from([0, 500]);
        assert!(
            case.results()
                .judge()
                .ends_with("their ranks do not compare.")
        );
        case.definition.metric = Metric {
            name: MetricName::Loss,
            goal: Goal::Minimize,
            of: Score::Last,
        };
        assert_eq!(case.order(), [3, 1, 0]);
    }

    #[test]
    fn settings_that_went_further_in_halving_come_first() {
        let mut case = Case::new(vec![finished(&[(0.9, None)]); 6]);
        case.progress[2..4].fill(finished(&[(0.5, None)]));
        for progress in &mut case.progress[4..] {
            (progress.state, progress.end) = (Some(RunState::Stopped), None);
        }
        assert_eq!(case.order(), [1, 3, 0, 5], "an interrupted one has no rank");
        case.decisions = vec![Decision::Halving {
            steps: 10,
            go_on: vec![3, 4],
            stop: vec![1, 2, 5, 6],
            scores: BTreeMap::new(),
        }];
        assert_eq!(case.order(), [3, 1, 5, 0]);
        assert!(
            case.results().counts().contains("2 out at 10"),
            "{}",
            case.results().counts()
        );
    }

    #[test]
    fn point_that_reaches_the_target_has_the_first_rank_and_the_others_none() {
        let stopped = |accuracy| Progress {
            state: Some(RunState::Stopped),
            end: None,
            ..finished(&[(accuracy, None)])
        };
        let mut case = Case::new(vec![
            finished(&[(0.3, None)]),
            finished(&[(0.4, None)]),
            stopped(0.9),
            Progress::default(),
            stopped(0.25),
            Progress::default(),
        ]);
        let target = |target| Decision::Target {
            point: 3,
            step: 9,
            score: 0.9,
            target,
        };
        case.definition.target = Some(0.9);
        case.decisions = vec![target(0.5)];
        assert_eq!(case.order(), [1, 0, 3, 5], "the sweep had another target");
        assert_eq!(case.results().states()[3], "waiting");
        case.decisions.push(target(0.9));
        assert_eq!(case.order(), [3, 1, 0, 5]);
        let states = [
            "finished",
            "finished",
            "reached the target",
            "not run",
            "stopped",
            "not run",
        ];
        assert_eq!(case.results().states(), states);
        assert_eq!(case.results().done(), 3);
        let table = case.results().table(9);
        assert!(table[1].contains("0.900"), "{table:#?}");
        assert!(table[3].contains("0.250 so far"), "{table:#?}");
    }

    #[test]
    fn setting_without_a_score_has_no_rank_and_unfinished_ones_come_after_finished_ones() {
        let case = Case::new(vec![
            failed(),
            failed(),
            finished(&[(0.9, None)]),
            Progress::default(),
            finished(&[(0.5, None)]),
            finished(&[(0.5, None)]),
        ]);
        assert_eq!(case.order(), [5, 3, 0, 1]);
    }

    #[test]
    fn best_setting_is_told_without_its_seeds_and_with_what_its_score_is() {
        let mut case = Case::new(vec![finished(&[(0.5, Some(0.75))]); 2]);
        let best = |case: &Case| case.results().best();
        let want = "0.750 ± 0.000, learning_rate=0.1 type=a, \"b\"";
        assert_eq!(best(&case).as_deref(), Some(want));
        case.points[0].set.clear();
        case.validation_images = BTreeSet::from([500]);
        assert_eq!(best(&case).as_deref(), Some("validation 0.750 ± 0.000"));
        case.definition.metric.name = MetricName::Loss;
        assert_eq!(case.results().prefix(), "validation loss ");
        assert_eq!(best(&Case::new(vec![failed()])), None);
    }

    #[test]
    fn point_out_of_halving_that_was_resumed_says_so() {
        let mut case = Case::new(vec![finished(&[(0.9, None), (0.9, None)]); 4]);
        case.progress[3].done = 10;
        case.decisions = vec![Decision::Halving {
            steps: 10,
            go_on: vec![1, 2],
            stop: vec![3, 4],
            scores: BTreeMap::new(),
        }];
        let states = case.results().states();
        assert_eq!(states[2..], ["out at 10, resumed", "out at 10"]);
    }

    #[test]
    fn field_that_a_point_does_not_set_has_its_value_of_the_base() {
        let mut case = Case::new(vec![finished(&[(0.5, None)]); 4]);
        case.base.optimizer.learning_rate = 0.125;
        for point in &mut case.points {
            point.set.clear();
        }
        case.points[2].set = BTreeMap::from([("optimizer.learning_rate".to_owned(), 0.5.into())]);
        let table = case.results().table(9);
        // There is no field optimizer.type.
        assert!(
            table[1].starts_with("1     0.125          - "),
            "{table:#?}"
        );
        assert!(
            table[2].starts_with("2     0.5            - "),
            "{table:#?}"
        );
        let csv = case.results().csv();
        assert!(csv.contains(",1,0.125,,1,finished"), "{csv}");
    }

    #[test]
    fn csv_has_a_row_for_each_point_and_quotes_what_needs_it() {
        let mut case = Case::new(vec![finished(&[(0.25, Some(0.5))]), failed()]);
        case.progress[1].error = Some("a, b\nc".to_owned());
        let csv = case.results().csv();
        let want = "point,id,name,setting,rank,optimizer.learning_rate,optimizer.type,seed,state,steps,minutes,step,accuracy,\
                    loss,validation_accuracy,validation_loss,error\r\n\
                    1,1,001,000,1,0.1,\"a, \"\"b\"\"\",1,finished,10,1.50,9,0.25,0.5,0.5,0.5,\r\n\
                    2,2,002,000,1,0.1,\"a, \"\"b\"\"\",2,diverged,10,1.50,9,0.9,0.5,0.9,0.09999999999999998,\"a, b\nc\"\r\n";
        assert_eq!(csv, want);
    }

    #[test]
    fn results_are_written_beside_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let case = Case::new(vec![finished(&[(0.5, None)]); 2]);
        case.results().write(directory.path()).unwrap();
        let read = |name| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("results.md"), case.results().markdown());
        assert_eq!(read("results.csv"), case.results().csv());
    }
}
