//! How far a point has come, by its run's directory alone.

use crate::run::{
    Evaluation, Journal, ProcessState, RunDir, RunState, Status, Statuses, SupervisorStatus,
};
use crate::sweep::definition::{Metric, MetricName};
use crate::sweep::schedule::{End, PointState};
use crate::sweep::{Point, Sweep};

/// How far a point has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// How its run stands; none before that has begun.
    pub state: Option<RunState>,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// Steps that are done.
    pub done: u64,
    /// Steps that it trains in all; none before it has begun.
    pub steps: Option<u64>,
    /// The loss, averaged over the last steps.
    pub loss: Option<f64>,
    /// How long its sessions took, in seconds.
    pub seconds: f64,
    /// What the evaluator has found, in the order of steps, but for checkpoints of stops that training has left behind.
    pub evaluations: Vec<Evaluation>,
    /// The error that ended it.
    pub error: Option<String>,
}

impl Progress {
    /// That of the point of `sweep` with this run; none before it has begun. What cannot be read counts as not there. `steps`
    /// is how many the sweep gives it, if that is known.
    pub fn of(sweep: &Sweep, point: &Point, run: Option<&RunDir>, steps: Option<u64>) -> Self {
        run.map(|run| Progress::read(run, sweep.saves(point), steps))
            .unwrap_or_default()
    }

    /// `saves` tells whether the point saves a checkpoint at a step also if nobody stops it: what a stop has saved besides
    /// must not choose. Nor must what a point has learnt in more steps than the sweep gives it.
    fn read(run: &RunDir, saves: impl Fn(u64) -> bool, most: Option<u64>) -> Self {
        let statuses = Statuses::read(run);
        let state = statuses.state(run);
        let end = end(&statuses, state);
        let train = statuses.train.as_ref();
        let done = train.map_or(0, |train| train.step);
        let mut evaluations = Journal::read(&run.evaluations()).unwrap_or_default();
        let is_last = |step: u64| step + 1 == done || Some(step + 1) == most;
        let is_within = |step: u64| most.is_none_or(|most| step < most);
        evaluations.retain(|it| is_within(it.step) && (saves(it.step) || is_last(it.step)));
        Progress {
            state,
            end,
            done,
            steps: train.map(|train| train.steps).filter(|steps| *steps > 0),
            loss: train.and_then(|train| Some(train.smoothed_loss?.value)),
            seconds: statuses
                .supervisor
                .as_ref()
                .map_or(0.0, SupervisorStatus::seconds),
            evaluations,
            error: end
                .filter(|end| end.is_failure())
                .and_then(|_| statuses.error(run)),
        }
    }

    /// The score of an evaluation by the metric: of the validation images where there are any.
    pub fn score(evaluation: &Evaluation, metric: Metric) -> Option<f64> {
        evaluation.accuracy?; // none of a damaged checkpoint
        match metric.name {
            MetricName::Accuracy => evaluation.validation_accuracy.or(evaluation.accuracy),
            MetricName::Loss => match evaluation.validation_accuracy {
                Some(_) => evaluation.validation_loss,
                None => evaluation.loss,
            },
        }
    }

    /// What the schedule has to know of a point that trains so many steps in all.
    pub fn point_state(&self, steps: u64, metric: Metric) -> PointState {
        let scores = self.evaluations.iter().map(|evaluation| {
            let score = Progress::score(evaluation, metric);
            (evaluation.step, score.unwrap_or(f64::NAN))
        });
        PointState {
            steps,
            done: self.done,
            running: self.state.is_some_and(RunState::is_under_way),
            withheld: false,
            end: self.end,
            scores: scores.collect(),
        }
    }
}

/// How the run ended, if it will not go on by itself: one that was killed, or whose supervisor was, goes on.
fn end(statuses: &Statuses, state: Option<RunState>) -> Option<End> {
    let state = state.filter(|state| !state.is_under_way())?;
    let supervisor = statuses.supervisor.as_ref()?;
    match (state, supervisor.process().state) {
        (RunState::Finished, _) => Some(End::Finished),
        (RunState::StoppedEarly, _) => Some(End::StoppedEarly),
        (RunState::Diverged, ProcessState::Failed | ProcessState::Diverged) => Some(End::Diverged),
        (_, ProcessState::Failed | ProcessState::Diverged) => Some(End::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, Scores, TrainStatus, provenance};
    use std::time::Duration;

    #[test]
    fn checkpoint_that_a_stop_saved_counts_only_while_it_is_the_last_one_and_none_beyond_the_points_steps()
     {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let (mut journal, _) = Journal::open(&run.evaluations()).unwrap();
        for step in [0, 10, 13, 20, 24] {
            let evaluation =
                Evaluation::new(step, None, None, Ok(Scores::default()), Duration::ZERO);
            journal.add(evaluation).unwrap();
        }
        let mut status = TrainStatus::new(Process::current());
        let mut scored = |done, most| {
            status.step = done;
            status.save(&run).unwrap();
            let progress = Progress::read(&run, |step| step.is_multiple_of(10), most);
            let steps = progress.evaluations.iter().map(|it| it.step);
            steps.collect::<Vec<_>>()
        };
        assert_eq!(scored(14, None), [0, 10, 13, 20]);
        assert_eq!(scored(25, Some(25)), [0, 10, 20, 24]);
        assert_eq!(scored(30, Some(30)), [0, 10, 20]);
        // Resumed by itself, to train on.
        assert_eq!(scored(25, Some(14)), [0, 10, 13]);
        assert_eq!(scored(25, Some(20)), [0, 10]);
    }
}
