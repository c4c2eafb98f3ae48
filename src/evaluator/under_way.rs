//! An evaluation under way: how far it is, and whether it is worth finishing when the run is asked to stop.

use std::time::{Duration, Instant};

use chrono::{DateTime, Local};

use super::{FINISH_WITHIN, HEARTBEAT};
use crate::run::Activity;
use crate::shutdown::Shutdown;

/// How far the evaluation of a checkpoint is.
pub(super) struct EvaluationUnderWay {
    /// The checkpoint's.
    pub step: u64,
    /// Images done.
    pub done: usize,
    /// Images to do in all.
    images: usize,
    since: DateTime<Local>,
    begin: Instant,
    /// When it was last shown.
    shown: Option<Instant>,
    /// When a stop was first noticed.
    asked: Option<Instant>,
}

impl EvaluationUnderWay {
    /// One that begins.
    pub fn new(step: u64, images: usize) -> Self {
        EvaluationUnderWay {
            step,
            done: 0,
            images,
            since: Local::now(),
            begin: Instant::now(),
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

    /// Whether it ends unfinished because the run is to stop: as fast as it was, it would not be done within
    /// [`FINISH_WITHIN`] of the request. What was counted is then lost; a later evaluation begins anew.
    pub fn gives_way(&mut self, stop: &Shutdown) -> bool {
        if stop.requested().is_none() {
            return false;
        }
        let waited = self.asked.get_or_insert_with(Instant::now).elapsed();
        let left = time_left(self.begin.elapsed(), self.done, self.images);
        left.is_none_or(|left| waited + left > FINISH_WITHIN)
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
            ..EvaluationUnderWay::new(7, 1000)
        };
        assert!(!begun(600, 1).gives_way(&stop));
        stop.request(1);
        assert!(begun(0, 0).gives_way(&stop), "its speed is not known");
        assert!(begun(600, 1).gives_way(&stop));
        assert!(begun(600, 500).gives_way(&stop));
        assert!(!begun(600, 999).gives_way(&stop));
        let mut late = begun(600, 999);
        late.asked = Some(Instant::now() - 2 * FINISH_WITHIN);
        assert!(late.gives_way(&stop), "it took longer than it seemed");
    }
}
