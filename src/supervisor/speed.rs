//! How fast training goes, by the steps that were seen lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back steps count.
const WINDOW: Duration = Duration::from_secs(60);

/// The steps seen, and when.
#[derive(Default)]
pub(super) struct Speed {
    seen: VecDeque<(Instant, u64)>,
}

impl Speed {
    /// So many steps are done `now`. Fewer than before begin anew: training has gone back.
    pub fn see(&mut self, now: Instant, step: u64) {
        match self.seen.back() {
            Some(&(_, last)) if last == step => return,
            Some(&(_, last)) if last > step => self.seen.clear(),
            _ => {}
        }
        self.seen.push_back((now, step));
        let old = |&(seen, _): &(Instant, u64)| now.duration_since(seen) > WINDOW;
        while self.seen.len() > 2 && self.seen.front().is_some_and(old) {
            self.seen.pop_front();
        }
    }

    /// Forgets what was seen: the run was paused.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Steps a second, once there are two moments to tell from.
    pub fn steps_per_second(&self) -> Option<f64> {
        let ((begin, first), (end, last)) = (self.seen.front()?, self.seen.back()?);
        let seconds = end.duration_since(*begin).as_secs_f64();
        (seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_minute() {
        let begin = Instant::now();
        let mut speed = Speed::default();
        let mut see = |seconds, step| {
            speed.see(begin + Duration::from_secs(seconds), step);
            speed.steps_per_second()
        };
        assert_eq!(see(0, 100), None);
        assert_eq!(see(1, 100), None);
        assert_eq!(see(2, 108), Some(4.0));
        for second in 3..200 {
            see(second, 108 + 10 * second);
        }
        assert_eq!(see(200, 108 + 2000), Some(10.0));
        assert_eq!(see(201, 5), None, "training has gone back");
        assert_eq!(see(1001, 4005), Some(5.0), "two moments, however far apart");
    }
}
