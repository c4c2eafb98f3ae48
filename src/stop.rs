//! The wish to stop: a signal or a test sets it, the loops ask for it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A request to stop, shared by its clones. Handed down as an argument to whatever loops or waits.
#[derive(Clone, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Requests>,
    changed: Condvar,
}

#[derive(Default)]
struct Requests {
    first: Option<i32>,
    count: usize,
}

impl Stop {
    /// A stop that only [`Stop::request`] sets.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stop that the first SIGINT or SIGTERM sets, for the trainer and the evaluator. The second one
    /// ends the process on the spot with 128 + its number, whatever it is busy with.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn on_signals() -> Result<Self> {
        // _exit instead of exit: libtorch's own clean-up must not run beside threads that still compute.
        Self::listen(|signal| signal_hook::low_level::exit(128 + signal))
    }

    /// A stop that SIGINT and SIGTERM set, and that goes on counting them: for the supervisor, which
    /// has two children to end before itself.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn counting_signals() -> Result<Self> {
        Self::listen(|_| ())
    }

    fn listen(on_second: fn(i32)) -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .context("failed to install the handlers of SIGINT and SIGTERM")?;
        let stop = Self::new();
        let setter = stop.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if setter.request(signal) > 1 {
                        on_second(signal);
                    }
                }
            })
            .context("failed to start the thread that receives signals")?;
        Ok(stop)
    }

    /// Asks to stop as `signal` would, and returns how often that has been asked by now.
    pub fn request(&self, signal: i32) -> usize {
        let mut requests = self.lock();
        requests.first.get_or_insert(signal);
        requests.count += 1;
        self.shared.changed.notify_all();
        requests.count
    }

    /// The first signal that asked to stop, if one did.
    pub fn requested(&self) -> Option<i32> {
        self.lock().first
    }

    /// How often a stop was requested.
    pub fn requests(&self) -> usize {
        self.lock().count
    }

    /// The exit code of a process stopped this way: 130 for SIGINT, 143 for SIGTERM, `None` if nobody
    /// asked.
    pub fn exit_code(&self) -> Option<i32> {
        self.requested().map(|signal| 128 + signal)
    }

    /// Sleeps for `duration`, or until a stop is requested. Returns whether one was.
    pub fn sleep(&self, duration: Duration) -> bool {
        let asleep = self.lock();
        let (requests, _) = self
            .shared
            .changed
            .wait_timeout_while(asleep, duration, |requests| requests.count == 0)
            .unwrap_or_else(PoisonError::into_inner);
        requests.count > 0
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        // A number and an option are whole at any moment, even if a holder panicked.
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.requested()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::process::Command;

    #[test]
    fn the_first_request_decides_the_exit_code_and_ends_every_sleep() {
        let stop = Stop::new();
        assert!(!stop.sleep(Duration::ZERO));
        assert_eq!((stop.requested(), stop.exit_code()), (None, None));

        let asleep = stop.clone();
        let sleeper = thread::spawn(move || asleep.sleep(Duration::from_secs(3600)));
        assert_eq!(stop.request(SIGINT), 1);
        assert_eq!(stop.request(SIGTERM), 2);
        assert!(sleeper.join().unwrap());
        assert_eq!(stop.exit_code(), Some(130));
        assert_eq!(stop.requests(), 2);
    }

    /// Plays both sides: run again by itself, with the variable set, it is the process that is stopped.
    #[test]
    fn the_second_signal_ends_the_process() {
        const PLAYER: &str = "RUNBOARD_TEST_SIGNALLED";
        if env::var_os(PLAYER).is_some() {
            let stop = Stop::on_signals().unwrap();
            signal_hook::low_level::raise(SIGINT).unwrap();
            assert!(stop.sleep(Duration::from_secs(3600)));
            assert_eq!(stop.requested(), Some(SIGINT));
            signal_hook::low_level::raise(SIGTERM).unwrap();
            thread::sleep(Duration::from_secs(3600));
        }
        let name = thread::current().name().unwrap().to_owned();
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", &name, "--test-threads=1"])
            .env(PLAYER, "1")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(143));
    }
}
