//! The time of a step, averaged from one console line to the next.

use std::time::{Duration, Instant};

/// Times the steps between console lines.
pub(super) struct StepTimer {
    since: Instant,
    /// The first step that is not in an earlier interval.
    next: u64,
    /// How long the steps waited for their batches.
    waited: Duration,
}

impl StepTimer {
    pub fn start(first: u64) -> Self {
        StepTimer {
            since: Instant::now(),
            next: first,
            waited: Duration::ZERO,
        }
    }

    /// Count the wait of a step for its batch.
    pub fn waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Time that no step took.
    pub fn leave_out(&mut self, time: Duration) {
        self.since += time;
    }

    /// End the interval with `step` and begin the next; seconds a step, and the share of them, in 0..=1, that it
    /// waited for its batch.
    pub fn lap(&mut self, step: u64) -> (f64, f64) {
        let steps = (step + 1 - self.next) as f64;
        let seconds = self.since.elapsed().as_secs_f64();
        let waited = self.waited.as_secs_f64();
        *self = Self::start(step + 1);
        (seconds / steps, (waited / seconds).min(1.0))
    }
}
