//! The request to stop: a signal or a test makes it, the loops ask for it.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

/// A request to stop, shared by its clones. Handed down as an argument to whatever loops or waits.
///
/// SIGINT, SIGTERM and SIGHUP ask for it. The second SIGINT or SIGTERM forces it: whatever runs ends at
/// once. SIGHUP never does, however often it comes: a closing terminal sends it from the kernel and from
/// the shell, and the supervisor sends it to its children, which a `killall` may have signalled already.
#[derive(Clone, Default)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Requests>,
    changed: Condvar,
    /// What ends the process when a stop is forced.
    on_forced: Option<fn(i32)>,
}

#[derive(Default)]
struct Requests {
    first: Option<i32>,
    /// How many of them may force it.
    count: usize,
    /// Whether a pause was asked for.
    pause: bool,
}

impl Shutdown {
    /// A shutdown that only [`Shutdown::request`] sets.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that signals request, for the trainer and the evaluator. A second one ends the process on the spot
    /// with 128 + the signal's number, whatever it is busy with.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn on_signals() -> Result<Self> {
        // _exit instead of exit: libtorch's own clean-up must not run beside threads that still compute.
        Self::listen(
            &[],
            Some(|signal| signal_hook::low_level::exit(128 + signal)),
        )
    }

    /// A shutdown that signals request and that only notes when it is forced, or when SIGTSTP (Ctrl-Z) asks for a pause:
    /// for the supervisor, which has two children to end, or to pause, before itself.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn counting_signals() -> Result<Self> {
        Self::listen(&[SIGTSTP], None)
    }

    fn listen(more: &[i32], on_forced: Option<fn(i32)>) -> Result<Self> {
        let mut watched = vec![SIGINT, SIGTERM];
        if !ignored(SIGHUP) {
            watched.push(SIGHUP); // else `nohup` asked for it to be ignored
        }
        watched.extend(more.iter().filter(|&&signal| !ignored(signal)));
        let mut signals =
            Signals::new(watched).context("failed to install the handlers of signals")?;
        let shutdown = Shutdown {
            shared: Arc::new(Shared {
                on_forced,
                ..Shared::default()
            }),
        };
        let setter = shutdown.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    match signal {
                        SIGTSTP => setter.request_pause(),
                        _ => setter.request(signal),
                    }
                }
            })
            .context("failed to start the thread that receives signals")?;
        Ok(shutdown)
    }

    /// Asks to stop as `signal` would.
    pub fn request(&self, signal: i32) {
        let mut requests = self.lock();
        requests.first.get_or_insert(signal);
        if signal != SIGHUP {
            requests.count += 1;
        }
        self.shared.changed.notify_all();
        let forced = requests.count > 1;
        drop(requests);
        if let Some(on_forced) = self.shared.on_forced.filter(|_| forced) {
            on_forced(signal);
        }
    }

    /// Asks for a pause, as SIGTSTP would.
    pub fn request_pause(&self) {
        self.lock().pause = true;
    }

    /// Whether a pause was asked for since the last call.
    pub fn take_pause(&self) -> bool {
        mem::take(&mut self.lock().pause)
    }

    /// The first signal that asked to stop, if one did.
    pub fn requested(&self) -> Option<i32> {
        self.lock().first
    }

    /// Whether it was asked for again, by a SIGINT or SIGTERM.
    pub fn forced(&self) -> bool {
        self.lock().count > 1
    }

    /// Sleeps for `duration`, or until a stop is requested. Returns whether one was.
    pub fn sleep(&self, duration: Duration) -> bool {
        let asleep = self.lock();
        let (requests, _) = self
            .shared
            .changed
            .wait_timeout_while(asleep, duration, |requests| requests.first.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        requests.first.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        // A number and an option are whole at any moment, even if a holder panicked.
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process that started this one wants it to ignore `signal`.
fn ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one, for which there is room; all
    // zeros, which it leaves after an error, is a valid one as well.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.requested()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigHandler, Signal, signal};
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn the_first_request_decides_and_ends_every_sleep() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.sleep(Duration::ZERO));
        assert_eq!(shutdown.requested(), None);

        let asleep = shutdown.clone();
        let sleeper = thread::spawn(move || asleep.sleep(Duration::from_secs(3600)));
        shutdown.request(SIGINT);
        assert!(sleeper.join().unwrap());
        assert!(!shutdown.forced());
        shutdown.request(SIGTERM);
        assert!(shutdown.forced());
        assert_eq!(shutdown.requested(), Some(SIGINT));
    }

    #[test]
    fn sighup_requests_a_stop_but_never_forces_it() {
        let shutdown = Shutdown::new();
        for _ in 0..3 {
            shutdown.request(SIGHUP);
        }
        shutdown.request(SIGTERM);
        assert_eq!(
            (shutdown.requested(), shutdown.forced()),
            (Some(SIGHUP), false)
        );
        shutdown.request(SIGTERM);
        assert!(shutdown.forced());
    }

    /// This test again, in a process of its own, which the variable tells to play the other side, and which
    /// is started with SIGHUP ignored or not.
    fn play(hangup: SigHandler) -> Option<i32> {
        let name = thread::current().name().unwrap().to_owned();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", &name, "--test-threads=1"]);
        command.env(PLAYER, "");
        let prepare = move || {
            // SAFETY: no handler is given that could be called.
            unsafe { signal(Signal::SIGHUP, hangup) }?;
            Ok(())
        };
        // SAFETY: a plain system call between fork and exec.
        unsafe { command.pre_exec(prepare) };
        command.output().unwrap().status.code()
    }

    const PLAYER: &str = "RUNBOARD_TEST_SIGNALLED";

    #[test]
    fn second_signal_ends_the_process() {
        if env::var_os(PLAYER).is_some() {
            let shutdown = Shutdown::on_signals().unwrap();
            signal_hook::low_level::raise(SIGINT).unwrap();
            assert!(shutdown.sleep(Duration::from_secs(3600)));
            assert_eq!(shutdown.requested(), Some(SIGINT));
            signal_hook::low_level::raise(SIGTERM).unwrap();
            thread::sleep(Duration::from_secs(3600));
        }
        assert_eq!(play(SigHandler::SigDfl), Some(143));
    }

    #[test]
    fn sighup_that_nohup_ignores_stays_ignored() {
        if env::var_os(PLAYER).is_some() {
            let shutdown = Shutdown::on_signals().unwrap();
            signal_hook::low_level::raise(SIGHUP).unwrap();
            if !ignored(SIGHUP) {
                assert!(shutdown.sleep(Duration::from_secs(3600)));
            }
            signal_hook::low_level::raise(SIGTERM).unwrap();
            assert!(shutdown.sleep(Duration::from_secs(3600)));
            let first = shutdown.requested().unwrap();
            signal_hook::low_level::exit(first);
        }
        assert_eq!(play(SigHandler::SigDfl), Some(SIGHUP));
        assert_eq!(play(SigHandler::SigIgn), Some(SIGTERM));
    }
}
