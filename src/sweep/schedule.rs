//! What a sweep does next: a pure function of its definition, of how its points stand, and of what was decided before.
//!
//! Nothing here depends on which points ran beside each other, on who ended first, or on what was killed: a rung of
//! successive halving is decided when all of its points have been scored at it, by those scores alone.
//!
//! Halving is synchronous (Jamieson and Talwalkar, 2016, <https://arxiv.org/abs/1502.07943>). A rung is a number of steps,
//! `min_iter`, `eta * min_iter`, `eta^2 * min_iter`, ..., as long as that is less than any point trains in all. Of n settings at
//! a rung the best n / `eta`, rounded up, go on, with all of their seeds. The last one trains to its end.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Sweep;
use super::definition::{Definition, Goal, Halving, MetricName, OnFailure};
use super::point::Point;
use super::ranking::{self, Candidate};

/// How a point stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointState {
    /// The steps that it trains if nothing ends it before.
    pub steps: u64,
    /// The steps that are trained and saved.
    pub done: u64,
    /// Whether a process of it is at work.
    pub running: bool,
    /// Whether it is left alone although it has not ended: somebody has stopped it, who may resume it, it could not be
    /// started, or its scores cannot be read. So nothing is decided from how it stands meanwhile.
    pub withheld: bool,
    /// How it ended; none while it has not begun, is running, or was interrupted.
    pub end: Option<End>,
    /// The scores of its checkpoints by the sweep's metric, in the order of their steps; NaN where there should be one and
    /// is none.
    pub scores: Vec<(u64, f64)>,
}

/// How a point ended that needs no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are trained, and the checkpoints scored.
    Finished,
    /// It met a condition under `stop` in its spec.
    StoppedEarly,
    /// An error ended it.
    Failed,
    /// Its loss was not finite, or exploded.
    Diverged,
}

impl End {
    /// Whether it is what `on_failure` is about.
    pub fn is_failure(self) -> bool {
        matches!(self, End::Failed | End::Diverged)
    }
}

impl PointState {
    /// Whether all is known that a decision at the rung of these steps needs.
    fn is_settled(&self, rung: u64) -> bool {
        let is_over = self.end.is_some() || self.done > rung;
        !self.running && !self.withheld && (self.score_at(rung).is_some() || is_over)
    }

    /// What it is judged by at the rung of these steps: the checkpoint that is saved there, or the last before it where
    /// there is none because training ended earlier, or went on without a stop.
    fn judged_at(&self, rung: u64) -> Option<f64> {
        let before = || match self.end {
            Some(end) if end.is_failure() => None,
            _ => Some(self.scores.iter().rfind(|(step, _)| *step < rung)?.1),
        };
        let score = self.score_at(rung).or_else(before);
        score.filter(|score| score.is_finite())
    }

    /// The score of the checkpoint that is saved when these steps are done. Steps are counted from 0.
    fn score_at(&self, done: u64) -> Option<f64> {
        let at = |(step, _): &&(u64, f64)| step + 1 == done;
        self.scores.iter().find(at).map(|(_, score)| *score)
    }
}

/// What was decided. It is written down before it is acted on, and holds from then on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Which points of a rung go on.
    Halving {
        /// The rung.
        steps: u64,
        /// The points that go on, by their numbers, the best first.
        go_on: Vec<usize>,
        /// The points that do not, the best first.
        stop: Vec<usize>,
        /// What each of them was judged by; none of one that failed before.
        scores: BTreeMap<usize, Option<f64>>,
    },
    /// A point has reached the target, and the sweep is over.
    Target {
        /// The point's number.
        point: usize,
        /// The step of the checkpoint.
        step: u64,
        /// Its score.
        score: f64,
        /// The target.
        target: f64,
        /// What it was scored by. Earlier versions did not say: that counts for any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metric: Option<MetricName>,
    },
}

/// The point that has reached the target which a sweep has now, by the metric that it has now.
pub(super) fn winner(definition: &Definition, decisions: &[Decision]) -> Option<usize> {
    let name = definition.metric.name;
    decisions.iter().find_map(|decision| match decision {
        Decision::Target {
            point,
            target,
            metric,
            ..
        } if Some(*target) == definition.target && metric.is_none_or(|it| it == name) => {
            Some(*point)
        }
        _ => None,
    })
}

/// The first decision that does not follow on those before it, by its index, and why: a rung comes after the one below
/// it, and has points that were sent on from there.
pub(super) fn misplaced(sweep: &Sweep, decisions: &[Decision]) -> Option<(usize, String)> {
    let mut rungs = sweep.definition.rungs(u64::MAX).into_iter();
    let mut there: BTreeSet<usize> = sweep.points.iter().map(|point| point.number).collect();
    decisions.iter().enumerate().find_map(|(index, decision)| {
        let problem = match decision {
            Decision::Target { point, .. } => sweep
                .point(*point)
                .is_none()
                .then(|| format!("got point {point}, which the sweep does not have")),
            Decision::Halving {
                steps, go_on, stop, ..
            } => {
                let want = rungs.next()?;
                let members: BTreeSet<usize> = go_on.iter().chain(stop).copied().collect();
                let is_sound = *steps == want
                    && !go_on.is_empty()
                    && members.len() == go_on.len() + stop.len()
                    && members.is_subset(&there);
                there = go_on.iter().copied().collect();
                (!is_sound).then(|| {
                    format!(
                        "got a decision at {steps} steps, want one at {want} about points that came so far"
                    )
                })
            }
        };
        problem.map(|problem| (index, problem))
    })
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Write this down, then ask again.
    Decide(Decision),
    /// Start these points, then wait until another one has ended. There may be none to start.
    Start(Vec<Start>),
    /// Start no more, and stop those that are running.
    End(Reason),
}

/// A point to be started, or to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its number.
    pub point: usize,
    /// After how many steps it stops and waits for a decision; none if it trains to its end.
    pub until: Option<u64>,
}

/// Why a sweep is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing left to do.
    Complete,
    /// The point of this number has reached the target.
    Target(usize),
    /// The point of this number has failed, and the sweep is to stop then.
    Failure(usize),
}

/// What a sweep does next. `states` has one entry for each point, in the same order.
pub fn next(
    definition: &Definition,
    points: &[Point],
    states: &[PointState],
    decisions: &[Decision],
) -> Next {
    let numbered = || points.iter().map(|point| point.number).zip(states);
    if let Some(target) = definition.target {
        if let Some(point) = winner(definition, decisions) {
            return Next::End(Reason::Target(point));
        }
        let goal = definition.metric.goal;
        let reached = numbered().find_map(|(point, state)| {
            let reaches = |(_, score): &&(u64, f64)| ranking::reaches(goal, *score, target);
            Some((point, *state.scores.iter().find(reaches)?))
        });
        if let Some((point, (step, score))) = reached {
            return Next::Decide(Decision::Target {
                point,
                step,
                score,
                target,
                metric: Some(definition.metric.name),
            });
        }
    }
    let has_failed = |state: &PointState| state.end.is_some_and(End::is_failure);
    if definition.on_failure == OnFailure::Stop
        && let Some((point, _)) = numbered().find(|(_, state)| has_failed(state))
    {
        return Next::End(Reason::Failure(point));
    }
    let going = Going::of(points, states, decisions);
    let halving = definition.early_terminate;
    let rung = halving.and_then(|halving| Some((halving, going.rung(halving)?)));
    if let Some((halving, rung)) = rung
        && going.states().all(|state| state.is_settled(rung))
    {
        return Next::Decide(going.decide(definition.metric.goal, halving.eta, rung));
    }
    let until = rung.map(|(_, rung)| rung);
    let waits = |state: &PointState| {
        !state.running
            && !state.withheld
            && state.end.is_none()
            && !until.is_some_and(|it| state.is_settled(it))
    };
    let waiting = going.points.iter().filter(|(_, state)| waits(state));
    let mut starts: Vec<Start> = waiting
        .map(|(point, _)| Start {
            point: point.number,
            until,
        })
        .collect();
    let withheld = states.iter().filter(|state| state.withheld).count();
    let running = states.iter().filter(|it| it.running && !it.withheld);
    let running = running.count();
    if starts.is_empty() && running + withheld == 0 {
        return Next::End(Reason::Complete);
    }
    starts.truncate(definition.parallel.saturating_sub(running));
    Next::Start(starts)
}

/// How far the rung of halving is at which points are compared next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// From 1.
    pub number: u32,
    /// How many rungs there are.
    pub of: u32,
    /// The points that are scored at it, or have ended before.
    pub settled: usize,
    /// The points that are compared at it.
    pub points: usize,
}

/// The rung that comes next; none without halving, or where the points that are left train to their end.
pub fn rung(
    definition: &Definition,
    points: &[Point],
    states: &[PointState],
    decisions: &[Decision],
) -> Option<Rung> {
    let halving = definition.early_terminate?;
    let going = Going::of(points, states, decisions);
    let steps = going.rung(halving)?;
    let shortest = going.states().map(|state| state.steps).min()?;
    let settings = going.candidates(steps).len() as u64;
    let rungs = halving.compared(steps, settings, shortest);
    Some(Rung {
        number: going.passed + 1,
        of: going.passed + rungs.count() as u32,
        settled: going
            .states()
            .filter(|state| state.is_settled(steps))
            .count(),
        points: going.points.len(),
    })
}

/// The points that halving has stopped, by their numbers, each with the rung, in steps.
pub fn stopped(decisions: &[Decision]) -> BTreeMap<usize, u64> {
    let rungs = decisions.iter().filter_map(|decision| match decision {
        Decision::Halving { steps, stop, .. } => Some(stop.iter().map(|point| (*point, *steps))),
        Decision::Target { .. } => None,
    });
    rungs.flatten().collect()
}

/// The points that halving has not stopped.
struct Going<'a> {
    points: Vec<(&'a Point, &'a PointState)>,
    /// How many rungs they have passed.
    passed: u32,
}

impl<'a> Going<'a> {
    fn of(points: &'a [Point], states: &'a [PointState], decisions: &[Decision]) -> Self {
        let stopped = stopped(decisions);
        let is_going = |(point, _): &(&Point, _)| !stopped.contains_key(&point.number);
        let is_rung = |decision: &&Decision| matches!(decision, Decision::Halving { .. });
        Going {
            points: points.iter().zip(states).filter(is_going).collect(),
            passed: decisions.iter().filter(is_rung).count() as u32,
        }
    }

    fn states(&self) -> impl Iterator<Item = &PointState> {
        self.points.iter().map(|(_, state)| *state)
    }

    /// The rung, in steps, at which they stop; none if they train to their end.
    fn rung(&self, halving: Halving) -> Option<u64> {
        let growth = halving.eta.checked_pow(self.passed)?;
        let rung = growth.checked_mul(halving.min_iter)?;
        let shortest = self.states().map(|state| state.steps).min()?;
        (rung < shortest && self.candidates(rung).len() > 1).then_some(rung)
    }

    /// Who goes on from a rung.
    fn decide(&self, goal: Goal, eta: u64, rung: u64) -> Decision {
        let mut candidates = self.candidates(rung);
        ranking::rank(goal, &mut candidates);
        let go_on = (candidates.len() as u64).div_ceil(eta) as usize;
        let numbers = |candidates: &[Candidate]| {
            let points = candidates.iter().flat_map(|it| it.points.iter().copied());
            points.collect()
        };
        let judged = self.points.iter();
        let judged = judged.map(|(point, state)| (point.number, state.judged_at(rung)));
        Decision::Halving {
            steps: rung,
            go_on: numbers(&candidates[..go_on]),
            stop: numbers(&candidates[go_on..]),
            scores: judged.collect(),
        }
    }

    /// Its settings, as they stand at a rung.
    fn candidates(&self, rung: u64) -> Vec<Candidate> {
        let mut settings: BTreeMap<&str, Candidate> = BTreeMap::new();
        for (point, state) in &self.points {
            let candidate = settings.entry(&point.setting).or_default();
            candidate.points.push(point.number);
            candidate.scores.push(state.judged_at(rung));
        }
        settings.into_values().collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sweep::definition::{Launcher, Method, Metric, MetricName, Score};
    use crate::testing::fuzz;
    use rand::Rng;
    use rand::seq::IteratorRandom;
    use rand_chacha::ChaCha8Rng;

    const STEPS: u64 = 100;

    pub fn definition(parallel: usize, min_iter: Option<u64>) -> Definition {
        Definition {
            method: Method::Grid,
            metric: Metric {
                name: MetricName::Accuracy,
                goal: Goal::Maximize,
                of: Score::Last,
            },
            parameters: Vec::new(),
            cases: Vec::new(),
            seeds: vec![1],
            parallel,
            devices: None,
            launcher: Launcher::Local,
            on_failure: OnFailure::Continue,
            target: None,
            early_terminate: min_iter.map(|min_iter| Halving { min_iter, eta: 3 }),
        }
    }

    /// Points of settings with `seeds` each.
    pub fn points(count: usize, seeds: usize) -> Vec<Point> {
        let point = |number| Point {
            number,
            id: number.to_string(),
            // Not in the order of the numbers, as hashes are not.
            setting: format!("{:03}", (number - 1) / seeds * 7919 % 1000),
            name: format!("{number:03}"),
            seed: 1,
            set: BTreeMap::new(),
        };
        (1..=count).map(point).collect()
    }

    fn waiting(count: usize) -> Vec<PointState> {
        let state = PointState {
            steps: STEPS,
            ..PointState::default()
        };
        vec![state; count]
    }

    fn starts(next: Next) -> Vec<(usize, Option<u64>)> {
        match next {
            Next::Start(starts) => starts.iter().map(|it| (it.point, it.until)).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Points that train, fail and are killed in any order.
    struct Machine {
        states: Vec<PointState>,
        /// Until where those train that are running.
        until: Vec<u64>,
        decisions: Vec<Decision>,
    }

    impl Machine {
        fn new(points: usize) -> Self {
            Machine {
                states: waiting(points),
                until: vec![0; points],
                decisions: Vec::new(),
            }
        }

        /// What a point is worth after some steps: the same whenever it is trained.
        fn score(point: usize, steps: u64) -> f64 {
            (point * 31 % 17) as f64 + steps as f64 / 1000.0
        }

        /// When a point fails, if it does.
        fn failure(point: usize) -> Option<(u64, End)> {
            match point % 11 {
                3 => Some((25, End::Failed)),
                7 => Some((5, End::Diverged)),
                _ => None,
            }
        }

        /// Lets a point that is running end its session, of its own or killed in the middle of it.
        fn end(&mut self, index: usize, killed: bool, rng: &mut ChaCha8Rng) {
            let (state, until) = (&mut self.states[index], self.until[index]);
            state.running = false;
            let failure = Machine::failure(index + 1).filter(|(step, _)| *step <= until);
            let last = failure.map_or(until, |(step, _)| step);
            let done = match killed {
                true => rng.random_range(state.done..=last),
                false => last,
            };
            state.done = done;
            // One that was killed may not have been scored.
            let is_scored = !killed || rng.random_bool(0.5);
            for steps in (10..=done)
                .step_by(10)
                .filter(|steps| is_scored || *steps < done)
            {
                if state.score_at(steps).is_none() {
                    state
                        .scores
                        .push((steps - 1, Machine::score(index + 1, steps)));
                }
            }
            if let Some((_, end)) = failure.filter(|_| !killed) {
                state.end = Some(end);
            } else if !killed && done == STEPS {
                state.end = Some(End::Finished);
            }
        }

        /// Runs a sweep to its end, with interruptions or without any.
        fn run(
            &mut self,
            definition: &Definition,
            points: &[Point],
            kills: bool,
            rng: &mut ChaCha8Rng,
        ) -> Reason {
            loop {
                match next(definition, points, &self.states, &self.decisions) {
                    Next::Decide(decision) => self.decisions.push(decision),
                    Next::End(reason) => return reason,
                    Next::Start(starts) => {
                        let running = self.states.iter().filter(|it| it.running).count();
                        assert!(running + starts.len() <= definition.parallel);
                        for Start { point, until } in starts {
                            self.states[point - 1].running = true;
                            self.until[point - 1] = until.unwrap_or(STEPS);
                        }
                        let running = (0..points.len()).filter(|it| self.states[*it].running);
                        let running: Vec<usize> = running.collect();
                        if kills && rng.random_bool(0.2) {
                            // Everything is killed at once.
                            running.iter().for_each(|index| self.end(*index, true, rng));
                        } else if let Some(index) = running.into_iter().choose(rng) {
                            let killed = kills && rng.random_bool(0.2);
                            self.end(index, killed, rng);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn point_that_is_withheld_keeps_no_other_from_starting_and_a_rung_from_being_decided() {
        let points = points(3, 1);
        let mut states = waiting(3);
        states[0].withheld = true;
        let one = definition(1, None);
        assert_eq!(starts(next(&one, &points, &states, &[])), [(2, None)]);
        for state in &mut states[1..] {
            state.end = Some(End::Finished);
        }
        // Somebody may resume it.
        assert_eq!(starts(next(&one, &points, &states, &[])), []);
        for (state, score) in states.iter_mut().zip([0.1, 0.2, 0.3]) {
            (state.end, state.done, state.scores) = (None, 10, vec![(9, score)]);
        }
        let halving = definition(1, Some(10));
        assert_eq!(starts(next(&halving, &points, &states, &[])), []);
        states[0].withheld = false;
        let decided = next(&halving, &points, &states, &[]);
        assert!(matches!(decided, Next::Decide(_)), "{decided:?}");
    }

    #[test]
    fn decisions_are_the_same_whatever_ran_in_parallel_and_was_killed() {
        fuzz::check(200, |rng| {
            let count = rng.random_range(1..40);
            let points = points(count, rng.random_range(1..=3));
            let halving = rng.random_bool(0.8).then_some(10);
            let mut undisturbed = Machine::new(count);
            let plain = definition(1, halving);
            undisturbed.run(&plain, &points, false, rng);
            for _ in 0..4 {
                let definition = definition(rng.random_range(1..=8), halving);
                let mut other = Machine::new(count);
                let end = other.run(&definition, &points, true, rng);
                assert_eq!(end, Reason::Complete);
                assert_eq!(other.decisions, undisturbed.decisions);
                assert_eq!(other.states, undisturbed.states);
            }
        });
    }

    #[test]
    fn grid_starts_its_points_in_order_and_as_many_as_may_run() {
        let (two, points) = (definition(2, None), points(3, 1));
        let mut states = waiting(3);
        assert_eq!(
            starts(next(&two, &points, &states, &[])),
            [(1, None), (2, None)]
        );
        states[0].running = true;
        states[1].end = Some(End::Failed);
        assert_eq!(starts(next(&two, &points, &states, &[])), [(3, None)]);
        states[2].running = true;
        assert_eq!(starts(next(&two, &points, &states, &[])), []);
        for state in &mut states {
            (state.running, state.end) = (false, Some(End::Finished));
        }
        let end = next(&two, &points, &states, &[]);
        assert_eq!(end, Next::End(Reason::Complete));
    }

    #[test]
    fn failure_ends_a_sweep_that_is_to_stop_then() {
        let mut stop = definition(2, None);
        let (points, mut states) = (points(3, 1), waiting(3));
        states[1].end = Some(End::Diverged);
        let go_on = next(&stop, &points, &states, &[]);
        assert_eq!(starts(go_on), [(1, None), (3, None)]);
        stop.on_failure = OnFailure::Stop;
        states[0].running = true;
        let end = next(&stop, &points, &states, &[]);
        assert_eq!(end, Next::End(Reason::Failure(2)));
    }

    #[test]
    fn target_is_written_down_and_ends_the_sweep_until_it_is_another_one() {
        let mut definition = definition(1, None);
        definition.target = Some(0.8);
        let (points, mut states) = (points(2, 1), waiting(2));
        states[1].running = true;
        states[1].scores = vec![(9, 0.7), (19, 0.81), (29, 0.9)];
        let Next::Decide(decision) = next(&definition, &points, &states, &[]) else {
            panic!("the target is reached");
        };
        let before = r#"{"target":{"point":2,"step":19,"score":0.81,"target":0.8}}"#;
        let want = before.replace("}}", r#","metric":"accuracy"}}"#);
        assert_eq!(serde_json::to_string(&decision).unwrap(), want);
        states[1] = waiting(1).remove(0);
        // Also as an earlier version has written it.
        for decision in [decision, serde_json::from_str(before).unwrap()] {
            let end = next(&definition, &points, &states, &[decision]);
            assert_eq!(end, Next::End(Reason::Target(2)));
        }
        let decisions = [serde_json::from_str(&want).unwrap()];
        let starts_again = |definition: &Definition| {
            let start = next(definition, &points, &states, &decisions);
            assert_eq!(starts(start), [(1, None)]);
        };
        let mut other = definition.clone();
        other.target = Some(0.95);
        starts_again(&other);
        definition.metric.name = MetricName::Loss;
        (definition.metric.goal, definition.target) = (Goal::Maximize, Some(0.8));
        starts_again(&definition);
    }

    #[test]
    fn rung_is_decided_when_all_its_points_are_scored_or_have_failed() {
        let (halving, points) = (definition(9, Some(10)), points(4, 1));
        let mut states = waiting(4);
        let all = [1, 2, 3, 4].map(|point| (point, Some(10)));
        assert_eq!(starts(next(&halving, &points, &states, &[])), all);
        for (state, score) in states.iter_mut().zip([0.2, 0.3, f64::NAN]) {
            (state.done, state.scores) = (10, vec![(9, score)]);
        }
        states[3].running = true;
        assert_eq!(starts(next(&halving, &points, &states, &[])), []);
        (states[3].running, states[3].end) = (false, Some(End::Failed));
        let Next::Decide(decision) = next(&halving, &points, &states, &[]) else {
            panic!("all is known");
        };
        let line = serde_json::to_string(&decision).unwrap();
        let want = r#"{"halving":{"steps":10,"go_on":[2,1],"stop":[3,4],"scores":{"1":0.2,"2":0.3,"3":null,"4":null}}}"#;
        assert_eq!(line, want);
        assert_eq!(serde_json::from_str::<Decision>(&line).unwrap(), decision);
        let decisions = [decision];
        assert_eq!(stopped(&decisions), BTreeMap::from([(3, 10), (4, 10)]));
        let go_on = next(&halving, &points, &states, &decisions);
        assert_eq!(starts(go_on), [(1, Some(30)), (2, Some(30))]);
    }

    #[test]
    fn seeds_of_a_setting_go_on_together() {
        let (halving, points) = (definition(9, Some(10)), points(6, 2));
        let mut states = waiting(6);
        for (state, score) in states.iter_mut().zip([0.9, 0.1, 0.6, 0.6, 0.1, 0.2]) {
            (state.done, state.scores) = (10, vec![(9, score)]);
        }
        let Next::Decide(Decision::Halving { go_on, stop, .. }) =
            next(&halving, &points, &states, &[])
        else {
            panic!("all is known");
        };
        assert_eq!((go_on, stop), (vec![3, 4], vec![1, 2, 5, 6]));
    }

    #[test]
    fn stages_tell_what_a_sweep_trains_in_which_no_point_fails() {
        for (settings, seeds) in [(3, 3), (9, 3), (7, 1), (1, 2), (81, 1)] {
            let count = settings * seeds;
            let mut definition = definition(count, Some(2));
            definition.seeds = vec![1; seeds];
            let (points, mut states) = (points(count, seeds), waiting(count));
            let (mut decisions, mut steps, mut sessions) = (Vec::new(), 0, 0);
            loop {
                match next(&definition, &points, &states, &decisions) {
                    Next::Decide(decision) => decisions.push(decision),
                    Next::End(_) => break,
                    Next::Start(starts) => {
                        for Start { point, until } in starts {
                            let (state, until) = (&mut states[point - 1], until.unwrap_or(STEPS));
                            steps += until - state.done;
                            sessions += 1;
                            state.done = until;
                            state.scores.push((until - 1, point as f64));
                            state.end = (until == STEPS).then_some(End::Finished);
                        }
                    }
                }
            }
            let each = vec![STEPS; count];
            assert_eq!(definition.steps(&each), steps, "{settings} of {seeds}");
            assert_eq!(definition.starts(&each), sessions, "{settings} of {seeds}");
        }
    }

    #[test]
    fn last_setting_trains_to_its_end() {
        let (halving, points) = (definition(9, Some(1)), points(3, 1));
        let mut machine = Machine::new(3);
        for (state, score) in machine.states.iter_mut().zip([0.2, 0.3, 0.1]) {
            (state.done, state.scores) = (1, vec![(0, score)]);
        }
        let Next::Decide(decision) = next(&halving, &points, &machine.states, &[]) else {
            panic!("all is known");
        };
        let go_on = next(&halving, &points, &machine.states, &[decision]);
        assert_eq!(starts(go_on), [(2, None)]);
    }

    #[test]
    fn point_that_went_past_a_rung_is_judged_by_the_last_score_before_it() {
        let (halving, points) = (definition(9, Some(10)), points(2, 1));
        let mut states = waiting(2);
        (states[0].done, states[0].scores) = (40, vec![(4, 0.5), (39, 0.9)]);
        (states[1].done, states[1].scores) = (8, vec![(7, 0.6)]);
        states[1].end = Some(End::StoppedEarly);
        let Next::Decide(Decision::Halving { go_on, scores, .. }) =
            next(&halving, &points, &states, &[])
        else {
            panic!("all is known");
        };
        assert_eq!(go_on, [2]);
        assert_eq!(scores, BTreeMap::from([(1, Some(0.5)), (2, Some(0.6))]));
    }

    #[test]
    fn rungs_are_less_than_what_the_points_train() {
        let points = points(2, 1);
        for (min_iter, want) in [(99, Some(99)), (100, None), (u64::MAX, None)] {
            let next = next(&definition(9, Some(min_iter)), &points, &waiting(2), &[]);
            assert_eq!(starts(next), [(1, want), (2, want)]);
        }
    }

    #[test]
    fn rung_tells_how_many_of_its_points_are_scored() {
        let points = points(6, 1);
        let mut states = waiting(6);
        let rung = |definition: &Definition, states: &[PointState], decisions: &[Decision]| {
            let rung = rung(definition, &points, states, decisions)?;
            Some((rung.number, rung.of, rung.settled, rung.points))
        };
        assert_eq!(rung(&definition(2, None), &states, &[]), None);
        let definition = definition(2, Some(10));
        assert_eq!(rung(&definition, &states, &[]), Some((1, 2, 0, 6)));
        for state in &mut states[..3] {
            (state.done, state.scores) = (10, vec![(9, 0.5)]);
        }
        states[2].running = true; // its score may be of another session
        states[5].end = Some(End::Failed);
        assert_eq!(rung(&definition, &states, &[]), Some((1, 2, 3, 6)));
        let decision = |steps, go_on: &[usize]| Decision::Halving {
            steps,
            go_on: go_on.to_vec(),
            stop: (1..=6).filter(|it| !go_on.contains(it)).collect(),
            scores: BTreeMap::new(),
        };
        let first = decision(10, &[1, 2]);
        assert_eq!(
            rung(&definition, &states, std::slice::from_ref(&first)),
            Some((2, 2, 0, 2))
        );
        let decisions = [first, decision(30, &[1])];
        assert_eq!(rung(&definition, &states, &decisions), None);
    }
}
