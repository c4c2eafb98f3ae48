//! An evaluation under way: how far it is, and whether it is worth finishing when the run is asked to stop.

use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, Local};

use super::partial::PartialEvaluation;
use super::{FINISH_WITHIN, HEARTBEAT};
use runboard::run::Activity;
use runboard::shutdown::Shutdown;

/// How far the evaluation of a checkpoint is.
pub(super) struct EvaluationUnderWay {
    /// The checkpoint's.
    pub step: u64,
    /// Images done.
    pub done: usize,
    /// Images to do in all.
    images: usize,
    /// When it began; as much earlier as an evaluation before it took for what this one goes on with.
    since: DateTime<Local>,
    begin: Instant,
    /// How long that one took for it.
    before: Duration,
    /// Of every batch so far, and those at first that are still to be taken in place of computing them.
    logits: Vec<f32>,
    /// How many of them are counted.
    counted: usize,
    /// When it was last shown.
    shown: Option<Instant>,
    /// When a stop was first noticed.
    asked: Option<Instant>,
}

impl EvaluationUnderWay {
    /// One that goes on with `earlier`, which is nothing where it begins.
    pub fn new(step: u64, images: usize, earlier: PartialEvaluation) -> Self {
        EvaluationUnderWay {
            step,
            done: 0,
            images,
            since: Local::now() - earlier.took,
            begin: Instant::now(),
            before: earlier.took,
            logits: earlier.logits,
            counted: 0,
            shown: None,
            asked: None,
        }
    }

    /// Whether it is time to show it again, which the caller does.
    pub fn is_due(&mut self) -> bool {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= HEARTBEAT);
        if due {
            self.shown = Some(Instant::now());
        }
        due
    }

    /// As the status shows it.
    pub fn activity(&self) -> Activity {
        Activity::Scoring {
            step: self.step,
            done: self.done,
            images: self.images,
            since: self.since,
        }
    }

    /// The `count` logits of the next batch: those of an earlier evaluation, or else what `compute` returns.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn logits(
        &mut self,
        count: usize,
        compute: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<&[f32]> {
        let batch = self.counted..self.counted + count;
        if self.logits.len() < batch.end {
            self.logits.truncate(batch.start);
            self.logits.extend(compute()?);
        }
        self.counted = batch.end.min(self.logits.len());
        Ok(&self.logits[batch.start..self.counted])
    }

    /// What a later evaluation can go on with.
    pub fn into_partial(self) -> PartialEvaluation {
        PartialEvaluation {
            took: self.elapsed(),
            logits: self.logits,
        }
    }

    fn elapsed(&self) -> Duration {
        self.before + self.begin.elapsed()
    }

    /// Whether it ends unfinished because the run is to stop: as fast as it was, it would not be done within
    /// [`FINISH_WITHIN`] of the request. How fast it is, its first batch tells.
    pub fn gives_way(&mut self, stop: &Shutdown) -> bool {
        if stop.requested().is_none() {
            return false;
        }
        let waited = self.asked.get_or_insert_with(Instant::now).elapsed();
        let left = time_left(self.elapsed(), self.done, self.images);
        waited + left.unwrap_or_default() > FINISH_WITHIN
    }
}

/// How long the rest of `images` takes after `done` of them took `elapsed`; unknown before the first.
fn time_left(elapsed: Duration, done: usize, images: usize) -> Option<Duration> {
    let left = images.saturating_sub(done) as f64;
    (done > 0).then(|| elapsed.mul_f64(left / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_from_the_speed_so_far() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(second, 0, 10), None);
        assert_eq!(time_left(second, 1, 10), Some(9 * second));
        assert_eq!(time_left(second, 10, 10), Some(Duration::ZERO));
    }

    #[test]
    fn evaluation_gives_way_to_a_stop_if_it_would_take_long() {
        let stop = Shutdown::new();
        let begun = |seconds: u64, done| EvaluationUnderWay {
            begin: Instant::now() - Duration::from_secs(seconds),
            done,
            ..EvaluationUnderWay::new(7, 1000, PartialEvaluation::default())
        };
        assert!(!begun(600, 1).gives_way(&stop));
        stop.request(1);
        assert!(!begun(0, 0).gives_way(&stop), "its speed is not known");
        assert!(begun(600, 1).gives_way(&stop));
        assert!(begun(600, 500).gives_way(&stop));
        assert!(!begun(600, 999).gives_way(&stop));
        let mut late = begun(600, 999);
        late.asked = Some(Instant::now() - 2 * FINISH_WITHIN);
        assert!(late.gives_way(&stop), "it took longer than it seemed");
    }
}
