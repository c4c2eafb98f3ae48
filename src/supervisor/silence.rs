//! How long a process has given no sign of life.

use std::time::{Duration, Instant};

/// A look that comes later than this after the one before tells of the process that looks: it was itself stopped, as all
/// processes of a job are while Slurm suspends it.
const LOOK: Duration = Duration::from_secs(1);

/// The silence of a process, as another one sees it that looks for its signs of life all the time.
#[derive(Debug)]
pub(super) struct Silence<S> {
    /// The last sign, and when that was looked for last.
    last: Option<(S, Instant)>,
    lasts: Duration,
}

impl<S> Default for Silence<S> {
    fn default() -> Self {
        Silence {
            last: None,
            lasts: Duration::ZERO,
        }
    }
}

impl<S: PartialEq> Silence<S> {
    /// For how long the sign of life that is there now has been the last one. Without any there is no silence.
    pub(super) fn since(&mut self, sign: Option<S>) -> Duration {
        let now = Instant::now();
        let looked = match (&self.last, &sign) {
            (Some((last, looked)), Some(sign)) if last == sign => Some(*looked),
            _ => None,
        };
        self.lasts = looked.map_or(Duration::ZERO, |looked| {
            self.lasts + now.duration_since(looked).min(LOOK)
        });
        self.last = sign.map(|sign| (sign, now));
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn silence_lasts_until_the_next_sign_and_counts_no_time_in_which_nobody_looked() {
        let mut silence = Silence::default();
        assert_eq!(silence.since(None::<u32>), Duration::ZERO);
        assert_eq!(silence.since(Some(1)), Duration::ZERO);
        thread::sleep(Duration::from_millis(20));
        let lasts = silence.since(Some(1));
        assert!(lasts >= Duration::from_millis(20));
        thread::sleep(LOOK * 2);
        assert!(silence.since(Some(1)) <= lasts + LOOK);
        assert_eq!(silence.since(Some(2)), Duration::ZERO);
        assert_eq!(silence.since(None), Duration::ZERO);
    }
}
