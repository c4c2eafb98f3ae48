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
    /// Those of them that count: a point may have been resumed by itself, to train more than the sweep gives it.
    pub counted: u64,
    /// Steps that it trains in all; none before it has begun.
    pub steps: Option<u64>,
    /// The loss, averaged over the last steps.
    pub loss: Option<f64>,
    /// How long its sessions took, in seconds.
    pub seconds: f64,
    /// What the evaluator has found, in the order of steps, but for checkpoints of stops that training has left behind.
    pub evaluations: Vec<Evaluation>,
    /// The step of the last of them if only a stop has saved its checkpoint: it shows how far the point has come, but decides nothing, as
    /// a point that nobody stopped would not have it.
    pub saved_by_stop: Option<u64>,
    /// The error that ended it.
    pub error: Option<String>,
    /// Why its scores cannot be read, if they cannot.
    pub damage: Option<String>,
}

impl Progress {
    /// That of the point of `sweep` with this run; none before it has begun. What cannot be read of its state counts as not there.
    /// `steps` is how many the sweep gives it, if that is known.
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
        let (mut evaluations, damage) = match Journal::read(&run.evaluations()) {
            Ok(evaluations) => (evaluations, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let is_regular = |step: u64| saves(step) || Some(step + 1) == most;
        let is_last = |step: u64| step + 1 == done;
        let is_within = |step: u64| most.is_none_or(|most| step < most);
        evaluations.retain(|it| is_within(it.step) && (is_regular(it.step) || is_last(it.step)));
        let has_come_to_its_end = end.is_some_and(|end| !end.is_failure());
        let last = evaluations.last().filter(|_| !has_come_to_its_end);
        let saved_by_stop = last.map(|it| it.step).filter(|step| !is_regular(*step));
        Progress {
            state,
            end,
            done,
            counted: most.map_or(done, |most| done.min(most)),
            steps: train.map(|train| train.steps).filter(|steps| *steps > 0),
            loss: train.and_then(|train| Some(train.smoothed_loss?.value)),
            seconds: statuses
                .supervisor
                .as_ref()
                .map_or(0.0, SupervisorStatus::seconds),
            evaluations,
            saved_by_stop,
            damage,
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

    /// Whether its processes are at work.
    pub fn is_under_way(&self) -> bool {
        self.state.is_some_and(RunState::is_under_way)
    }

    /// Whether it has failed or diverged.
    pub fn has_failed(&self) -> bool {
        self.end.is_some_and(End::is_failure)
    }

    /// Those evaluations that decide: see [`Progress::saved_by_stop`].
    pub fn deciding(&self) -> impl DoubleEndedIterator<Item = &Evaluation> {
        let decides = |it: &&Evaluation| Some(it.step) != self.saved_by_stop;
        self.evaluations.iter().filter(decides)
    }

    /// What the schedule has to know of a point that trains so many steps in all.
    pub fn point_state(&self, steps: u64, metric: Metric) -> PointState {
        let scores = self.deciding().map(|evaluation| {
            let score = Progress::score(evaluation, metric);
            (evaluation.step, score.unwrap_or(f64::NAN))
        });
        PointState {
            steps,
            done: self.done,
            running: self.is_under_way(),
            withheld: self.damage.is_some(),
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
    use crate::sweep::definition::{Goal, Score};
    use std::fs;
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
            let shown: Vec<u64> = steps.collect();
            let metric = Metric {
                name: MetricName::Accuracy,
                goal: Goal::Maximize,
                of: Score::Last,
            };
            let deciding = progress.point_state(100, metric).scores;
            let deciding: Vec<u64> = deciding.into_iter().map(|(step, _)| step).collect();
            (shown, deciding)
        };
        let alike = |steps: &[u64]| (steps.to_vec(), steps.to_vec());
        assert_eq!(scored(14, None), alike(&[0, 10, 13, 20]));
        assert_eq!(scored(25, Some(25)), alike(&[0, 10, 20, 24]));
        assert_eq!(scored(30, Some(30)), alike(&[0, 10, 20]));
        // Stopped in between: how far it has come is shown, and no target is reached by it.
        assert_eq!(scored(25, Some(40)), (vec![0, 10, 20, 24], vec![0, 10, 20]));
        // Resumed by itself, to train on.
        assert_eq!(scored(25, Some(14)), alike(&[0, 10, 13]));
        assert_eq!(scored(25, Some(20)), alike(&[0, 10]));
    }

    #[test]
    fn scores_that_cannot_be_read_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        assert_eq!(Progress::read(&run, |_| true, None).damage, None);
        fs::write(run.evaluations(), "no JSON\n").unwrap();
        let damage = Progress::read(&run, |_| true, None).damage.unwrap();
        assert!(damage.contains("evaluations.jsonl:1: "), "{damage}");
    }
}
