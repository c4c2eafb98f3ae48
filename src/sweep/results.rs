//! What a sweep has found: its settings from the best to the worst. [`super::table`] and [`super::csv`] write it down.
//!
//! A point counts when it has ended, has been compared at a rung of halving, or has reached the target. What others have
//! scored so far is shown without a rank, as it is not to be compared with that. Settings all of whose points count come
//! first, and of them those that went further in halving: they won against the others at the same steps.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use serde_json::Value;

use super::Sweep;
use super::definition::{Goal, MetricName, OnFailure, Score};
use super::point::{Point, labels};
use super::progress::Progress;
use super::ranking::{self, Candidate};
use super::schedule::{self, Decision, End, PointState, Rung, stopped};
use crate::overview::text::{count, cut};
use crate::run::{Evaluation, ProcessDir, RunState, commands};
use crate::spec::Spec;

/// Words for how a point stands, beside those of [`RunState`].
pub const STATES: [&str; 5] = [
    "waiting",
    "interrupted",
    "not run",
    "reached the target",
    "damaged",
];
/// What such words begin with, before a number of steps: where halving has stopped a point, and where one waits for others.
pub const STATES_AT_STEPS: [&str; 2] = [OUT, AT_RUNG];
const OUT: &str = "out at ";
const AT_RUNG: &str = "at rung ";

/// What the values of the best setting take at most in a list of runs, in columns.
const LABEL: usize = 30;

/// What the table is of. `progress` has one entry for each point, in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    /// `NAME/TIMESTAMP` of the sweep.
    pub id: &'a str,
    pub sweep: &'a Sweep,
    pub progress: &'a [Progress],
    pub decisions: &'a [Decision],
}

/// A setting and what its points have come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting<'a> {
    /// From 1 for the best; none of one without a score that counts.
    pub rank: Option<usize>,
    /// The values of the fields that it sets, by their dotted paths.
    pub values: &'a BTreeMap<String, Value>,
    /// The spec of its first point.
    pub spec: &'a Spec,
    /// Its points, in their order.
    pub points: Vec<(&'a Point, &'a Progress)>,
    /// How many rungs of halving it has passed.
    rungs: usize,
    /// What it is ranked by.
    pub judged: Candidate,
    /// What its points have scored that do not count yet.
    pub so_far: Candidate,
    /// The same checkpoints' accuracy on the test images.
    pub tested: Candidate,
    /// Their loss there.
    tested_loss: Candidate,
}

/// How far a setting has come: those of an earlier class are better, whatever they score.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    ReachedTarget,
    /// All of its points have a score that counts.
    Whole,
    /// Some of them have.
    Partial,
    /// None of them has one that counts yet.
    SoFar,
    NoScore,
}

impl Setting<'_> {
    fn class(&self, winner: Option<usize>) -> Class {
        match self.judged.known().len() {
            _ if winner.is_some_and(|winner| self.judged.points.contains(&winner)) => {
                Class::ReachedTarget
            }
            known if known == self.points.len() => Class::Whole,
            1.. => Class::Partial,
            0 if !self.so_far.known().is_empty() => Class::SoFar,
            0 => Class::NoScore,
        }
    }
}

/// What was decided of the points.
struct Decided {
    /// At how many steps halving has stopped a point.
    stopped: BTreeMap<usize, u64>,
    /// How many rungs each point has passed that was compared with others; 0 of one that was stopped at the first.
    rungs: BTreeMap<usize, usize>,
    /// The point that has reached the target which the sweep has now.
    winner: Option<usize>,
}

impl Decided {
    fn of(results: &Results) -> Self {
        let mut rungs = BTreeMap::new();
        for decision in results.decisions {
            if let Decision::Halving { go_on, stop, .. } = decision {
                for point in go_on {
                    *rungs.entry(*point).or_insert(0) += 1;
                }
                for point in stop {
                    rungs.entry(*point).or_insert(0);
                }
            }
        }
        Decided {
            stopped: stopped(results.decisions),
            rungs,
            winner: results.winner(),
        }
    }

    /// Whether a point needs no more: it has ended, reached the target, or was stopped by halving.
    fn is_done(&self, point: &Point, progress: &Progress) -> bool {
        progress.end.is_some()
            || self.stopped.contains_key(&point.number)
            || self.winner == Some(point.number)
    }

    /// Whether what a point has scored counts.
    fn counts(&self, point: &Point, progress: &Progress) -> bool {
        self.is_done(point, progress) || self.rungs.contains_key(&point.number)
    }
}

impl<'a> Results<'a> {
    /// All settings, the best first; those without a score that counts at the end.
    pub fn settings(&self) -> Vec<Setting<'a>> {
        let mut settings: Vec<Setting> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let decided = Decided::of(self);
        let all = self.sweep.points.iter().zip(&self.sweep.specs);
        for ((point, spec), progress) in all.zip(self.progress) {
            let place = *places.entry(&point.setting).or_insert_with(|| {
                settings.push(Setting {
                    rank: None,
                    values: &point.set,
                    spec,
                    points: Vec::new(),
                    rungs: decided.rungs.get(&point.number).copied().unwrap_or(0),
                    judged: Candidate::default(),
                    so_far: Candidate::default(),
                    tested: Candidate::default(),
                    tested_loss: Candidate::default(),
                });
                settings.len() - 1
            });
            let setting = &mut settings[place];
            setting.points.push((point, progress));
            let counts = decided.counts(point, progress);
            let found = self.judge_by(&decided, point, progress);
            let found = found.filter(|_| !progress.has_failed());
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
                let loss = found.and_then(|(evaluation, _)| evaluation.loss);
                setting.tested_loss.scores.push(loss);
            }
        }
        let goal = self.sweep.definition.metric.goal;
        let order = |it: &Setting| (it.class(decided.winner), Reverse(it.rungs));
        settings.sort_by(|a, b| {
            order(a)
                .cmp(&order(b))
                .then_with(|| ranking::compare(goal, &a.judged, &b.judged))
                .then_with(|| ranking::compare(goal, &a.so_far, &b.so_far))
        });
        let ranked = settings.iter_mut().filter(|it| it.judged.mean().is_some());
        for (rank, setting) in (1..).zip(ranked) {
            setting.rank = Some(rank);
        }
        settings
    }

    /// The point with the best score of the best setting, which need not count yet.
    pub fn best_point(&self) -> Option<&'a Point> {
        let goal = self.sweep.definition.metric.goal;
        let best = self.settings().into_iter().next()?;
        let scored = |candidate: &Candidate| {
            let points = candidate.points.iter().zip(&candidate.scores);
            let scored = points.filter_map(|(point, score)| Some((*point, (*score)?)));
            // Of equals the first.
            scored.reduce(
                |best, next| match ranking::order(goal, Some(next.1), Some(best.1)) {
                    Ordering::Less => next,
                    _ => best,
                },
            )
        };
        let (number, _) = scored(&best.judged).or_else(|| scored(&best.so_far))?;
        let number = self.winner().unwrap_or(number);
        self.sweep
            .points
            .iter()
            .find(|point| point.number == number)
    }

    /// The number of the point that has reached the target which the sweep has now.
    pub fn winner(&self) -> Option<usize> {
        schedule::winner(&self.sweep.definition, self.decisions)
    }

    /// How many points need no more: they have ended, reached the target, or were stopped by halving.
    pub fn done(&self) -> usize {
        let decided = Decided::of(self);
        let all = self.sweep.points.iter().zip(self.progress);
        all.filter(|(point, progress)| decided.is_done(point, progress))
            .count()
    }

    /// How far the rung of halving is at which points are compared next, if there is one.
    pub fn rung(&self) -> Option<Rung> {
        let all = self.progress.iter();
        // All points of a halving train the same number of steps.
        let steps = all.filter_map(|progress| progress.steps).max()?;
        let metric = self.sweep.definition.metric;
        let states = self.progress.iter();
        let states: Vec<PointState> = states.map(|it| it.point_state(steps, metric)).collect();
        schedule::rung(
            &self.sweep.definition,
            &self.sweep.points,
            &states,
            self.decisions,
        )
    }

    /// How each point stands, in a word or two for people, in the order of the points.
    pub fn states(&self) -> Vec<String> {
        let word = self.word();
        let all = self.sweep.points.iter().zip(self.progress);
        all.map(|(point, progress)| word(point, progress)).collect()
    }

    /// How a point stands, in a word or two for people.
    pub(super) fn word(&self) -> impl Fn(&Point, &Progress) -> String + use<> {
        let Decided {
            stopped, winner, ..
        } = Decided::of(self);
        let rungs = self.sweep.definition.rungs(u64::MAX);
        move |point, progress| {
            // There it waits for the others, and does not look as if somebody had stopped it.
            let is_at_rung = progress.state == Some(RunState::Stopped)
                && progress.end.is_none()
                && rungs.contains(&progress.done);
            match winner {
                None if is_at_rung && !stopped.contains_key(&point.number) => {
                    format!("{AT_RUNG}{}", progress.done)
                }
                Some(winner) if winner == point.number && !progress.has_failed() => {
                    "reached the target".to_owned()
                }
                Some(_) if progress.state.is_none() => "not run".to_owned(),
                _ => state(progress, stopped.get(&point.number).copied()),
            }
        }
    }

    /// The evaluation that a point is judged by, or that it would be judged by so far, and its score.
    pub fn judged(&self) -> impl Fn(&Point, &'a Progress) -> Option<(&'a Evaluation, f64)> {
        let decided = Decided::of(self);
        move |point, progress| self.judge_by(&decided, point, progress)
    }

    fn judge_by(
        &self,
        decided: &Decided,
        point: &Point,
        progress: &'a Progress,
    ) -> Option<(&'a Evaluation, f64)> {
        match decided.counts(point, progress) {
            true => self.judged_by(progress.deciding()),
            false => self.judged_by(progress.evaluations.iter()),
        }
    }

    /// That of these evaluations which counts, and its score.
    fn judged_by<'b>(
        &self,
        evaluations: impl DoubleEndedIterator<Item = &'b Evaluation>,
    ) -> Option<(&'b Evaluation, f64)> {
        let metric = self.sweep.definition.metric;
        let mut scored = evaluations.filter_map(|evaluation| {
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
        let metric = self.sweep.definition.metric;
        let (of, name) = (metric.of.name(), self.metric());
        let goal = match metric.goal {
            Goal::Maximize => "the highest",
            Goal::Minimize => "the lowest",
        };
        let begin = format!("Ranked by the {of} {name} of a run, {goal} first,");
        match self.sweep.base.data.validation_images {
            0 => format!(
                "{begin} on the test images: they choose, which flatters the best one. \
                 `data.validation_images` holds training images back to rank by."
            ),
            images => format!(
                "{begin} on {images} validation images, which no point trains on; the test images have no say."
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
        match (self.has_validation(), self.sweep.definition.metric.name) {
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

    /// The mean of the best setting by a measure, on the test images; on the validation images only if that is what settings are ranked
    /// by.
    pub fn best_mean(&self, measure: MetricName, on_validation_images: bool) -> Option<f64> {
        let settings = self.settings();
        let best = settings.first().filter(|it| it.rank.is_some())?;
        let ranks = self.sweep.definition.metric.name == measure;
        match (on_validation_images, measure) {
            (true, _) => best
                .judged
                .mean()
                .filter(|_| ranks && self.has_validation()),
            (false, MetricName::Accuracy) => best.tested.mean(),
            (false, MetricName::Loss) => best.tested_loss.mean(),
        }
    }

    /// The values that a setting sets: `learning_rate=0.2 momentum=0.9`.
    pub fn label(&self, setting: &Setting) -> String {
        let labels = labels(&self.sweep.definition.fields()).into_iter();
        let values = labels.filter_map(|(field, label)| {
            let value = setting.values.get(&field)?;
            Some(format!("{label}={}", text(value)))
        });
        values.collect::<Vec<_>>().join(" ")
    }

    /// What the settings are ranked by, in a word.
    pub fn metric(&self) -> &'static str {
        match self.sweep.definition.metric.name {
            MetricName::Accuracy => "accuracy",
            MetricName::Loss => "loss",
        }
    }

    /// Which checkpoint's score counts: best or last.
    pub fn of(&self) -> &'static str {
        self.sweep.definition.metric.of.name()
    }

    /// Whether the points are judged by validation images; no point may have others.
    pub fn has_validation(&self) -> bool {
        self.sweep.base.data.validation_images > 0
    }

    /// How the points stand, in a line: `18 points: 12 finished, 2 running, 4 waiting`.
    pub fn counts(&self) -> String {
        let tally = self.tally(self.sweep.points.iter().zip(self.progress));
        let parts: Vec<String> = tally
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        format!(
            "{}: {}",
            count(self.sweep.points.len(), "point"),
            parts.join(", ")
        )
    }

    /// How these points stand, and how many of them do so; those that have ended come first.
    pub(super) fn tally<'b>(
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

    /// What a user may type next of the sweep in `directory`, whose process has ended, and what that is for; none if there is nothing left
    /// to do.
    pub fn next_command(&self, directory: &ProcessDir) -> Option<(&'static str, String)> {
        let is_damaged = self.progress.iter().any(|it| it.damage.is_some());
        let is_over = self.done() == self.sweep.points.len() && !is_damaged
            || self.sweep.definition.on_failure == OnFailure::Stop
                && self.progress.iter().any(Progress::has_failed);
        match is_over {
            _ if self.winner().is_some() => None,
            false => Some(("to go on", commands::resume(directory))),
            true if self.can_retry() => Some(("to try again", commands::retry_failed(directory))),
            true => None,
        }
    }

    /// Whether there are points that failed and are run when they are to be tried again: halving lets none go on that it has
    /// stopped.
    pub fn can_retry(&self) -> bool {
        let stopped = stopped(self.decisions);
        let mut all = self.sweep.points.iter().zip(self.progress);
        all.any(|(point, progress)| progress.has_failed() && !stopped.contains_key(&point.number))
    }

    /// The points that failed or diverged, or whose scores cannot be read, each in a line with the error.
    pub fn failures(&self) -> Vec<String> {
        let all = self.sweep.points.iter().zip(self.progress);
        let failed = all.filter(|(_, it)| it.damage.is_some() || it.has_failed());
        failed
            .map(|(point, progress)| {
                let how = state(progress, None);
                let error = progress.damage.as_ref().or(progress.error.as_ref());
                match error.and_then(|error| error.lines().next()) {
                    Some(error) => format!("{} {how}: {error}", point.name),
                    None => format!("{} {how}", point.name),
                }
            })
            .collect()
    }
}

/// The values that a point which sets `set` has of fields, for people, whether it sets them or not; none of a field that has
/// no effect in it.
pub fn values(fields: &[&str], set: &BTreeMap<String, Value>, spec: &Spec) -> Vec<Option<String>> {
    let is_set = |field: &&str| set.contains_key(*field);
    // Nothing is inherited in a grid.
    let inherits = !fields.iter().all(is_set);
    let unused: Vec<String> = spec.unused().filter(|_| inherits).collect();
    let all = inherits.then(|| spec.to_json().ok()).flatten();
    let value = |field: &&str| {
        let inherited = || {
            let is_used = unused.iter().all(|it| it != field);
            all.as_ref()?
                .pointer(&format!("/{}", field.replace('.', "/")))
                .filter(|_| is_used)
        };
        set.get(*field).or_else(inherited).map(text)
    };
    fields.iter().map(value).collect()
}

/// How a point stands, as people read it; `rung` is where halving has stopped it.
pub fn state(progress: &Progress, rung: Option<u64>) -> String {
    match (progress.state, progress.end, rung) {
        _ if progress.damage.is_some() => "damaged".to_owned(),
        (_, Some(End::Failed), _) => "failed".to_owned(),
        (_, Some(End::Diverged), _) => "diverged".to_owned(),
        // Somebody has resumed it by hand.
        (_, _, Some(rung)) if progress.done > rung => format!("{OUT}{rung} (resumed)"),
        (_, _, Some(rung)) => format!("{OUT}{rung}"),
        (None, ..) => "waiting".to_owned(),
        // Killed with the sweep, it goes on with it.
        (Some(RunState::Failed), None, None) => "interrupted".to_owned(),
        (Some(state), ..) => state.to_string(),
    }
}

/// Points that have ended come first, those that failed last.
fn order(progress: &Progress) -> u8 {
    match (progress.end, progress.state) {
        _ if progress.damage.is_some() => 4,
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

/// A value of a field, without the quotes of a string.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(", "))
        }
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
        (None, _) => "-".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::run::{Quality, Scores};
    use crate::sweep::definition::{Choice, Halving, Metric, Parameter};
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
            counted: 10 * accuracies.len() as u64,
            steps: Some(20),
            loss: Some(1.5),
            seconds: 90.0,
            evaluations: accuracies.iter().enumerate().map(evaluation).collect(),
            ..Progress::default()
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
        pub sweep: Sweep,
        pub progress: Vec<Progress>,
        pub decisions: Vec<Decision>,
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
                sweep: Sweep {
                    base: Spec::default(),
                    definition,
                    specs: vec![Spec::default(); points.len()],
                    points,
                    weights_from: None,
                },
                progress,
                decisions: Vec::new(),
            }
        }

        pub fn results(&self) -> Results<'_> {
            Results {
                id: "rates/20261126-050000",
                sweep: &self.sweep,
                progress: &self.progress,
                decisions: &self.decisions,
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
        case.sweep.definition.metric.of = Score::Last;
        assert_eq!(case.order(), [1, 3, 0]);
        case.sweep.definition.metric.goal = Goal::Minimize;
        assert_eq!(case.order(), [3, 1, 0]);
    }

    #[test]
    fn results_are_ranked_by_validation_images_where_there_are_any() {
        let mut case = Case::new(vec![
            finished(&[(0.9, Some(0.5)), (0.4, Some(0.6))]),
            finished(&[(0.9, Some(0.6))]),
            finished(&[(0.3, Some(0.7))]),
            finished(&[(0.3, Some(0.7))]),
        ]);
        case.sweep.base.data.validation_images = 500;
        assert_eq!(case.order(), [3, 1, 0]);
        let judge = case.results().judge();
        assert_eq!(
            judge,
            "Ranked by the best accuracy of a run, the highest first, on 500 validation images, which no point trains on; \
             the test images have no say."
        );
        // The test accuracy is that of the checkpoint that validation has chosen.
        let tested = &case.results().settings()[1].tested;
        assert_eq!(tested.scores, [Some(0.4), Some(0.9)]);
        let mean =
            |case: &Case, measure| [true, false].map(|it| case.results().best_mean(measure, it));
        assert_eq!(mean(&case, MetricName::Accuracy)[1], Some(0.3));
        assert_eq!(mean(&case, MetricName::Loss), [None, Some(0.5)]);
        case.sweep.definition.metric = Metric {
            name: MetricName::Loss,
            goal: Goal::Minimize,
            of: Score::Last,
        };
        assert_eq!(case.order(), [3, 1, 0]);
        let results = case.results();
        let judged = results.settings()[0].judged.mean();
        assert!(judged.is_some());
        assert_eq!(mean(&case, MetricName::Loss), [judged, Some(0.5)]);
        // Also a sweep that goes by losses has accuracies.
        assert_eq!(mean(&case, MetricName::Accuracy), [None, Some(0.3)]);
        case.sweep.base.data.validation_images = 0;
        assert!(mean(&case, MetricName::Accuracy)[1].is_some());
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
        let target = |target, metric| Decision::Target {
            point: 3,
            step: 9,
            score: 0.9,
            target,
            metric,
        };
        case.sweep.definition.target = Some(0.9);
        for other in [
            target(0.5, Some(MetricName::Accuracy)),
            target(0.9, Some(MetricName::Loss)), // which the sweep had as well
        ] {
            case.decisions.push(other);
            assert_eq!(case.order(), [1, 0, 3, 5]);
            assert_eq!(case.results().states()[3], "waiting");
        }
        let accuracy = MetricName::Accuracy;
        for reached in [target(0.9, None), target(0.9, Some(accuracy))] {
            case.decisions.truncate(2);
            case.decisions.push(reached);
            assert_eq!(case.order(), [3, 1, 0, 5]);
        }
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
    }

    #[test]
    fn point_that_counts_is_judged_without_the_checkpoint_that_only_a_stop_has_saved() {
        let stopped = Progress {
            state: Some(RunState::Stopped),
            end: None,
            saved_by_stop: Some(19),
            ..finished(&[(0.5, None), (0.7, None)])
        };
        let mut case = Case::new(vec![stopped]);
        let judged = |case: &Case| {
            let results = case.results();
            let found = results.judged()(&case.sweep.points[0], &results.progress[0]);
            found.map(|(it, score)| (it.step, score))
        };
        assert_eq!(judged(&case), Some((19, 0.7)), "how far it has come");
        case.sweep.definition.target = Some(0.5);
        case.decisions.push(Decision::Target {
            point: 1,
            step: 9,
            score: 0.5,
            target: 0.5,
            metric: Some(MetricName::Accuracy),
        });
        assert_eq!(judged(&case), Some((9, 0.5)));
        assert_eq!(case.results().settings()[0].judged.mean(), Some(0.5));
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
        case.sweep.points[0].set.clear();
        case.sweep.base.data.validation_images = 500;
        assert_eq!(best(&case).as_deref(), Some("validation 0.750 ± 0.000"));
        case.sweep.definition.metric.name = MetricName::Loss;
        assert_eq!(case.results().prefix(), "validation loss ");
        assert_eq!(best(&Case::new(vec![failed()])), None);
    }

    #[test]
    fn point_that_failed_can_be_tried_again_unless_halving_has_stopped_it() {
        let mut case = Case::new(vec![finished(&[(0.9, None)]), failed()]);
        assert!(case.results().can_retry());
        case.decisions = vec![Decision::Halving {
            steps: 10,
            go_on: vec![1],
            stop: vec![2],
            scores: BTreeMap::new(),
        }];
        assert!(!case.results().can_retry());
        assert_eq!(case.results().failures().len(), 1);
    }

    #[test]
    fn point_that_waits_at_a_rung_says_so() {
        let mut case = Case::new(vec![finished(&[(0.9, None)]); 2]);
        case.sweep.definition.early_terminate = Some(Halving {
            min_iter: 10,
            eta: 2,
        });
        for (progress, done) in case.progress.iter_mut().zip([10, 7]) {
            (progress.state, progress.end) = (Some(RunState::Stopped), None);
            progress.done = done;
        }
        assert_eq!(case.results().states(), ["at rung 10", "stopped"]);
    }

    #[test]
    fn value_that_is_a_list_has_no_decimals_that_say_nothing() {
        let list = serde_json::json!([25.0, 50.5, "a"]);
        assert_eq!(text(&list), "[25, 50.5, a]");
    }

    #[test]
    fn best_point_is_the_best_of_the_setting_that_the_table_has_first() {
        // Of two settings with two seeds each the first one has the higher mean, and the second one the best point.
        let accuracies = [0.8, 0.85, 0.6, 0.9];
        let mut case = Case::new(
            accuracies
                .map(|accuracy| finished(&[(accuracy, None)]))
                .to_vec(),
        );
        let best = |case: &Case| case.results().best_point().unwrap().number;
        assert_eq!(best(&case), 2);
        // A point that failed is not it, whatever it had scored before.
        case.progress[1] = Progress {
            evaluations: case.progress[1].evaluations.clone(),
            ..failed()
        };
        assert_eq!(best(&case), 4);
        for unfinished in [0, 2, 3] {
            case.progress[unfinished].end = None;
        }
        assert_eq!(best(&case), 4, "scores that do not count yet");
        case.progress
            .iter_mut()
            .for_each(|it| it.evaluations.clear());
        assert_eq!(case.results().best_point(), None);
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
        assert_eq!(states[2..], ["out at 10 (resumed)", "out at 10"]);
    }
}
