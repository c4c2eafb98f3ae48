//! Whether a process that died is started again, and after how long.

use std::process::ExitStatus;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::error::{BAD_INPUT, DIVERGED, LOST_RANK, NOT_MET};

/// The longest wait before a restart.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// An unwanted end of a process, as far as it tells whether the next process will end the same way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Crash {
    /// The exit code; `None` for a signal, which comes from outside.
    code: Option<i32>,
    /// The step it had reached.
    step: Option<u64>,
    /// How much of its work was saved by then: what the next process does not do again.
    saved: Option<u64>,
}

impl Crash {
    pub(super) fn new(status: ExitStatus, step: Option<u64>, saved: Option<u64>) -> Self {
        // Beyond 128 it has ended in good order by a signal.
        let code = status.code().filter(|&code| code < 128);
        Crash { code, step, saved }
    }
}

/// The restarts of one process. Its crashes are one series for as long as nothing new is saved; progress
/// begins a new series, with short delays.
pub(super) struct RestartPolicy {
    backoff: ExponentialBuilder,
    /// What begins a new series.
    progress: &'static str,
    /// The delays that are left of this series.
    delays: ExponentialBackoff,
    /// Restarts in this series.
    series: u32,
    /// The most there may be in a series.
    limit: Option<u32>,
    last: Option<Crash>,
    /// The most that was ever saved.
    reached: Option<u64>,
    /// Whether a process before has ended otherwise than by waiting for other ranks in vain.
    has_worked: bool,
}

impl RestartPolicy {
    /// A series begins with `first_delay`; each delay after it is twice as long, up to a minute. `progress` is what its process
    /// saves, such as a checkpoint.
    pub(super) fn new(first_delay: Duration, progress: &'static str) -> Self {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(first_delay)
            .with_max_delay(MAX_DELAY)
            .with_factor(2.0)
            .without_max_times();
        RestartPolicy {
            delays: backoff.build(),
            backoff,
            progress,
            series: 0,
            limit: None,
            last: None,
            reached: None,
            has_worked: false,
        }
    }

    /// From now on a series has at most `limit` restarts, and a failure that repeats itself ends it. A
    /// series without a limit, until then, goes on unless the input is bad.
    pub(super) fn limit(&mut self, limit: u32) {
        if self.limit.replace(limit).is_none() {
            self.last = None;
            self.start_series();
        }
    }

    /// How long to wait before the next process is started, or why none must be.
    ///
    /// # Errors
    /// The reason, to follow "not started again: ".
    pub(super) fn next_delay(&mut self, crash: Crash) -> Result<Duration, String> {
        if crash.saved > self.reached {
            self.reached = crash.saved;
            self.start_series();
        }
        if crash.code == Some(NOT_MET) {
            // Those that were there once may come again; whether they do says nothing of the next time.
            return match self.has_worked {
                true => self.retry_delay(),
                false => Err("the other ranks did not come".to_owned()),
            };
        }
        self.has_worked = true;
        let last = self.last.replace(crash);
        if crash.code == Some(BAD_INPUT) {
            return Err("bad input, which would end it again".to_owned());
        }
        if crash.code == Some(DIVERGED) {
            return Err("training would diverge again".to_owned());
        }
        // Whether the others come says nothing of the next time.
        let is_own = crash.code.is_some() && crash.code != Some(LOST_RANK);
        if self.limit.is_some() && last == Some(crash) && is_own {
            return Err("same exit code at the same step as last time".to_owned());
        }
        self.retry_delay()
    }

    /// The process has worked since it died last: the crashes before are no part of what comes.
    pub(super) fn begin_anew(&mut self) {
        self.last = None;
        self.has_worked = true;
        self.start_series();
    }

    fn start_series(&mut self) {
        self.series = 0;
        self.delays = self.backoff.build();
    }

    /// As [`RestartPolicy::next_delay`], of a process that could not even be started.
    pub(super) fn retry_delay(&mut self) -> Result<Duration, String> {
        if let Some(limit) = self.limit
            && self.series >= limit
        {
            let progress = self.progress;
            return Err(format!(
                "train.restarts allows {limit} without a new {progress}"
            ));
        }
        self.series += 1;
        Ok(self.delays.next().unwrap_or(MAX_DELAY))
    }

    /// Where in its series the latest restart is: `1 of 3`, or `1` without a limit.
    pub(super) fn count(&self) -> String {
        match self.limit {
            Some(limit) => format!("{} of {limit}", self.series),
            None => self.series.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn exit(code: i32, step: u64, saved: u64) -> Crash {
        Crash::new(ExitStatus::from_raw(code << 8), Some(step), Some(saved))
    }

    fn killed(step: u64, saved: u64) -> Crash {
        Crash::new(ExitStatus::from_raw(9), Some(step), Some(saved))
    }

    fn restarts(limit: Option<u32>) -> RestartPolicy {
        let mut restarts = RestartPolicy::new(Duration::from_secs(1), "checkpoint");
        if let Some(limit) = limit {
            restarts.limit(limit);
        }
        restarts
    }

    fn seconds(restarts: &mut RestartPolicy, crash: Crash) -> Option<u64> {
        restarts.next_delay(crash).ok().map(|wait| wait.as_secs())
    }

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_with_progress() {
        let mut restarts = restarts(None);
        let delays: Vec<_> = (0..8)
            .filter_map(|_| seconds(&mut restarts, exit(1, 7, 5)))
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(restarts.count(), "8");
        assert_eq!(seconds(&mut restarts, exit(1, 17, 15)), Some(1));
    }

    #[test]
    fn limit_counts_restarts_without_progress() {
        let mut restarts = restarts(Some(2));
        for (step, saved, wait) in [
            (3, 0, Some(1)),
            (3, 0, Some(2)), // a signal at the same step proves nothing
            (14, 10, Some(1)),
            (12, 10, Some(2)),
            (15, 10, None),
        ] {
            let got = seconds(&mut restarts, killed(step, saved));
            assert_eq!(got, wait, "at step {step}");
        }
        assert_eq!(restarts.count(), "2 of 2");
        let why = restarts.next_delay(killed(16, 10)).unwrap_err();
        assert_eq!(why, "train.restarts allows 2 without a new checkpoint");
        let mut of_evaluator = RestartPolicy::new(Duration::from_secs(1), "score");
        of_evaluator.limit(0);
        let why = of_evaluator.next_delay(killed(1, 1)).unwrap_err();
        assert_eq!(why, "train.restarts allows 0 without a new score");
        assert!(self::restarts(Some(0)).next_delay(killed(0, 0)).is_err());
    }

    #[test]
    fn crash_with_the_same_code_at_the_same_step_is_not_retried() {
        let mut restarts = restarts(Some(3));
        assert!(restarts.next_delay(exit(1, 14, 10)).is_ok());
        assert!(restarts.next_delay(exit(1, 15, 10)).is_ok());
        let why = restarts.next_delay(exit(1, 15, 10)).unwrap_err();
        assert_eq!(why, "same exit code at the same step as last time");
        // Ended in good order by a signal, wherever that met it.
        let mut restarts = self::restarts(Some(3));
        for _ in 0..3 {
            assert!(restarts.next_delay(exit(143, 15, 10)).is_ok());
        }
    }

    #[test]
    fn ranks_that_do_not_come_are_waited_for_once_and_those_that_were_there_as_often_as_restarts_allow()
     {
        let mut alone = restarts(Some(3));
        let why = alone.next_delay(exit(NOT_MET, 0, 0)).unwrap_err();
        assert_eq!(why, "the other ranks did not come");
        let mut later = restarts(Some(3));
        assert_eq!(seconds(&mut later, exit(1, 14, 10)), Some(1));
        for wait in [Some(2), Some(4), None] {
            assert_eq!(seconds(&mut later, exit(NOT_MET, 14, 10)), wait);
        }
        // On another host, whose ranks had begun.
        let mut other = restarts(Some(2));
        other.begin_anew();
        for wait in [Some(1), Some(2), None] {
            assert_eq!(seconds(&mut other, exit(NOT_MET, 0, 0)), wait);
        }
    }

    #[test]
    fn bad_input_is_not_retried() {
        assert!(restarts(Some(3)).next_delay(exit(2, 0, 0)).is_err());
        assert!(restarts(None).next_delay(exit(2, 0, 0)).is_err());
    }

    #[test]
    fn divergence_is_not_retried() {
        for saved in [0, 10] {
            let why = restarts(Some(3))
                .next_delay(exit(4, 14, saved))
                .unwrap_err();
            assert_eq!(why, "training would diverge again");
        }
    }

    #[test]
    fn limit_counts_from_when_it_is_set() {
        let mut restarts = restarts(None);
        for _ in 0..5 {
            assert!(restarts.next_delay(exit(1, 9, 9)).is_ok());
        }
        restarts.limit(3);
        assert_eq!(seconds(&mut restarts, exit(1, 9, 9)), Some(1));
        restarts.limit(3);
        assert!(restarts.next_delay(exit(1, 9, 9)).is_err());
    }
}
