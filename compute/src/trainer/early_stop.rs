//! The wait for the scores that may end training before its last step.
//!
//! With `stop.accuracy` or `stop.patience` training waits at each of its checkpoints for the score, and so ends at the very
//! checkpoint that decides, however slow the evaluator is and whatever was killed in between. It does not wait for an
//! evaluator that is not there and will not be started.

use super::Trainer;
use anyhow::Result;
use runboard::console;
use runboard::run::{
    self, Completion, EarlyStop, EvalStatus, Evaluation, Journal, RunDir, Status, SupervisorStatus,
};
use runboard::shutdown::Shutdown;
use std::fs;
use std::time::{Duration, Instant};

/// How often a waiting trainer looks for the score.
const LOOK: Duration = Duration::from_millis(50);

impl Trainer<'_> {
    /// How training ends at the checkpoint of `step`, which is saved, if it does: by its scores or its time, or because it
    /// is asked to stop while it waits for the scores.
    pub(super) fn end_at(&mut self, step: u64, stop: &Shutdown) -> Result<Option<Completion>> {
        let early = match EarlyStop::by_time(self.spec, self.status.seconds) {
            None if self.spec.stop.needs_scores() => {
                let evaluations = self.wait_for_scores(stop)?;
                if let Some(signal) = stop.requested() {
                    return Ok(Some(self.stopped(step, signal)));
                }
                EarlyStop::by_scores(self.spec, step, &evaluations)
            }
            early => early,
        };
        Ok(early.map(|early| self.stopped_early(step, early)))
    }

    /// That training ends with this step, whose checkpoint is saved.
    pub(super) fn stopped_early(&mut self, step: u64, early: EarlyStop) -> Completion {
        console::timed(format_args!(
            "stopped early after step {step}, which is saved: {early}"
        ));
        self.status.stopped_early = Some(early);
        Completion::Finished
    }

    /// The evaluations there are when no checkpoint waits for its own any more, or nobody will evaluate it, or the run is
    /// to stop. None of a journal that cannot be read, which the evaluator reports.
    fn wait_for_scores(&mut self, stop: &Shutdown) -> Result<Vec<Evaluation>> {
        let path = self.run.evaluations();
        let begin = Instant::now();
        let restarts = evaluator_restarts(supervisor(self.run).as_ref());
        let (mut evaluations, mut read) = (Vec::new(), None);
        loop {
            // Asked first: what an evaluator wrote before it ended counts.
            let supervisor = supervisor(self.run);
            let is_evaluated = evaluator_restarts(supervisor.as_ref())
                <= restarts + self.spec.train.restarts
                && is_evaluated(self.run, supervisor);
            let length = fs::metadata(&path).map_or(0, |file| file.len()); // it only grows
            if read.replace(length) != Some(length) {
                evaluations = Journal::read(&path).unwrap_or_default();
            }
            let waits = self.queue.next(&evaluations)?.is_some();
            if !waits || !is_evaluated || stop.requested().is_some() {
                if waits && stop.requested().is_none() && !self.misses_scores {
                    self.misses_scores = true;
                    console::warning(format_args!(
                        "no evaluator scores the checkpoints: training goes on, and stop.accuracy and stop.patience go by \
                         the scores that are there"
                    ));
                }
                break;
            }
            self.status.waits_for_score = true;
            self.save_heartbeat()?;
            if let Some(ranks) = &mut self.ranks
                && ranks.keep_alive()
            {
                run::request_stop(self.run, stop);
            }
            stop.sleep(LOOK);
        }
        self.status.waits_for_score = false;
        self.timer.leave_out(begin.elapsed());
        Ok(evaluations)
    }
}

fn supervisor(run: &RunDir) -> Option<SupervisorStatus> {
    SupervisorStatus::load(run).ok().flatten()
}

/// Whether there is an evaluator of `run`, or its supervisor starts one.
fn is_evaluated(run: &RunDir, supervisor: Option<SupervisorStatus>) -> bool {
    match supervisor.filter(|status| status.alive(run)) {
        Some(supervisor) => supervisor.evaluation,
        None => {
            let eval = EvalStatus::load(run).ok().flatten();
            eval.is_some_and(|status| status.alive(run))
        }
    }
}

/// How often the evaluator was started again. One that dies at the same checkpoint again and again does not keep training
/// for good.
fn evaluator_restarts(supervisor: Option<&SupervisorStatus>) -> u32 {
    supervisor.map_or(0, |status| status.restarts.eval)
}
