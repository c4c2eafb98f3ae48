//! The time of a step, averaged from one console line to the next.

use std::time::Instant;

/// Times the steps between console lines.
pub(super) struct StepTimer {
    since: Instant,
    /// The first step that is not in an earlier interval.
    next: u64,
}

impl StepTimer {
    pub fn start(first: u64) -> Self {
        StepTimer {
            since: Instant::now(),
            next: first,
        }
    }

    /// End the interval with `step` and begin the next; seconds a step.
    pub fn lap(&mut self, step: u64) -> f64 {
        let steps = (step + 1 - self.next) as f64;
        let seconds = self.since.elapsed().as_secs_f64();
        *self = Self::start(step + 1);
        seconds / steps
    }
}
