//! The request to stop: a signal or a test makes it, the loops ask for it.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::process;
use std::ptr;
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction, signal};
use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::proc_stat::ProcStat;

/// A request to stop, shared by its clones. Handed down as an argument to whatever loops or waits.
///
/// SIGINT, SIGTERM and SIGHUP ask for it. The second SIGINT or SIGTERM forces it: whatever runs ends at
/// once. SIGHUP never does, however often it comes: a closing terminal sends it from the kernel and from
/// the shell, and the supervisor sends it to its children, which a `killall` may have signalled already.
/// Nor does SIGUSR1, by which Slurm tells a supervisor that its time is almost up.
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
    /// Whether that came from another host, whose own signal nobody here knows.
    is_passed_on: bool,
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
    /// A process whose main thread gets a signal when its parent ends (PR_SET_PDEATHSIG) also goes on then, if it was frozen.
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

    /// A shutdown that signals request, also SIGUSR1, and that only notes when it is forced, or when SIGTSTP (Ctrl-Z) asks
    /// for a pause: for the supervisor, which has two children to end, or to pause, before itself.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn counting_signals() -> Result<Self> {
        Self::listen(&[SIGTSTP, SIGUSR1], None)
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
        let is_bound = matches!(prctl::get_pdeathsig(), Ok(Some(_)));
        let ready = Arc::new(Barrier::new(2));
        let begun = Arc::clone(&ready);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if is_bound {
                    // Each thread may have a signal of its own for the parent's end. With this one the process sees the
                    // other one even if it is frozen, or about to be, because the parent paused it.
                    let _ = prctl::set_pdeathsig(Signal::SIGCONT);
                }
                begun.wait();
                for signal in signals.forever() {
                    match signal {
                        SIGTSTP => setter.request_pause(),
                        _ => setter.request(signal),
                    }
                }
            })
            .context("failed to start the thread that receives signals")?;
        ready.wait();
        Ok(shutdown)
    }

    /// Asks to stop as `signal` would. That the time is almost up is said to all hosts at about the same time: what another one
    /// has passed on meanwhile was that, too.
    pub fn request(&self, signal: i32) {
        self.count(signal, |requests| {
            let was_passed_on = mem::take(&mut requests.is_passed_on);
            if signal == SIGUSR1 && was_passed_on {
                requests.first = Some(signal);
            }
            requests.count + usize::from(![SIGHUP, SIGUSR1].contains(&signal))
        });
    }

    /// Asks to stop as `signal` would, unless that was asked already: so it never forces it, while a signal after it does.
    pub fn request_once(&self, signal: i32) {
        self.count(signal, |requests| {
            requests.is_passed_on = false;
            requests.count.max(1)
        });
    }

    /// Asks to stop as `signal` would, unless that was asked already, for another host that was asked to and does not tell by what.
    /// It does not count: the first signal that this host gets after it forces nothing.
    pub fn pass_on(&self, signal: i32) {
        self.count(signal, |requests| {
            requests.is_passed_on |= requests.first.is_none();
            requests.count
        });
    }

    /// Whether another host was asked to stop, and nobody has asked here.
    pub fn is_passed_on(&self) -> bool {
        self.lock().is_passed_on
    }

    /// Forces a stop as `signal` would that comes again.
    pub fn force(&self, signal: i32) {
        self.count(signal, |requests| {
            requests.is_passed_on = false;
            requests.count.max(2)
        });
    }

    /// Notes a request; `count` tells how many there are then.
    fn count(&self, signal: i32, count: impl FnOnce(&mut Requests) -> usize) {
        let mut requests = self.lock();
        let before = requests.count;
        requests.count = count(&mut requests);
        requests.first.get_or_insert(signal);
        self.shared.changed.notify_all();
        let forced = requests.count > 1 && requests.count > before;
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

/// Lets the calling process write in the background of a terminal that does not want it (`stty tostop`): stopped for that, a
/// supervisor's children would go on unseen.
///
/// # Errors
/// If the signal cannot be ignored.
pub fn write_in_the_background() -> Result<()> {
    // SAFETY: no handler is given that could be called.
    let ignored = unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) };
    ignored.map(drop).context("failed to ignore SIGTTOU")
}

/// Stops the calling process as the terminal does on Ctrl-Z, until it gets SIGCONT. The kernel stops none that nobody would
/// let go on, see [`can_go_on_after_a_pause`].
///
/// # Errors
/// If the signal cannot be sent.
pub fn stop_like_a_terminal() -> Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is given that could be called.
    let handler = unsafe { sigaction(Signal::SIGTSTP, &default) };
    let handler = handler.context("failed to take the handler of SIGTSTP away")?;
    let stopped = raise(Signal::SIGTSTP);
    // SAFETY: it was the handler before.
    let restored = unsafe { sigaction(Signal::SIGTSTP, &handler) };
    restored.context("failed to put the handler of SIGTSTP back")?;
    stopped.context("failed to stop this process")
}

/// Whether a shell is there that can let the calling process go on (`fg`). None is where the process is all that a
/// terminal was opened for, as in `ssh -t HOST runboard run NAME`: its process group is orphaned (setpgid(2)).
pub fn can_go_on_after_a_pause() -> bool {
    let (session, group) = (getsid(None), getpgrp());
    let mut parent = getppid();
    // A script or `make` between this process and the shell is of the same group.
    while parent.as_raw() > 1 && getpgid(Some(parent)) == Ok(group) {
        match ProcStat::of(parent.as_raw()) {
            Some(stat) => parent = Pid::from_raw(stat.parent),
            None => return false,
        }
    }
    parent.as_raw() > 0 && getpgid(Some(parent)) != Ok(group) && getsid(Some(parent)) == session
}

/// Whether the terminal is another job's by now, such as the shell's: after Ctrl-Z it takes the terminal back, and writes to it,
/// as soon as one process of the job has stopped, be it a `make` that started this one.
pub fn has_lost_the_terminal() -> bool {
    let foreground = ProcStat::of(process::id()).map(|stat| stat.foreground);
    foreground.is_some_and(|group| group > 0 && group != getpgrp().as_raw())
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
    use nix::sys::signal::kill;
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use std::env;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::Instant;

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
        for signal in [SIGHUP, SIGUSR1, SIGHUP, SIGUSR1] {
            shutdown.request(signal);
        }
        shutdown.request(SIGTERM);
        assert_eq!(
            (shutdown.requested(), shutdown.forced()),
            (Some(SIGHUP), false)
        );
        shutdown.request(SIGTERM);
        assert!(shutdown.forced());
    }

    #[test]
    fn request_that_is_made_once_never_forces_a_stop_but_a_signal_after_it_does() {
        let shutdown = Shutdown::new();
        for _ in 0..3 {
            shutdown.request_once(SIGTERM);
        }
        assert_eq!(
            (shutdown.requested(), shutdown.forced()),
            (Some(SIGTERM), false)
        );
        shutdown.request(SIGINT);
        assert!(shutdown.forced());

        let shutdown = Shutdown::new();
        shutdown.request(SIGINT);
        shutdown.request_once(SIGTERM);
        assert!(!shutdown.forced());
        shutdown.force(SIGTERM);
        assert!(shutdown.forced());
        assert_eq!(shutdown.requested(), Some(SIGINT));
    }

    #[test]
    fn time_that_is_up_on_all_hosts_is_no_matter_of_which_one_says_so_first() {
        let shutdown = Shutdown::new();
        shutdown.pass_on(SIGTERM);
        assert_eq!(shutdown.requested(), Some(SIGTERM));
        shutdown.request(SIGUSR1);
        assert_eq!(
            (shutdown.requested(), shutdown.forced()),
            (Some(SIGUSR1), false)
        );
        // But who was asked here stays stopped.
        let shutdown = Shutdown::new();
        shutdown.pass_on(SIGTERM);
        shutdown.request_once(SIGTERM);
        shutdown.request(SIGUSR1);
        assert_eq!(shutdown.requested(), Some(SIGTERM));
    }

    #[test]
    fn first_signal_of_a_host_forces_nothing_after_what_another_one_has_passed_on() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_passed_on());
        shutdown.pass_on(SIGTERM);
        assert!(shutdown.is_passed_on());
        shutdown.request(SIGINT);
        assert!(!shutdown.forced() && !shutdown.is_passed_on());
        shutdown.request(SIGINT);
        assert!(shutdown.forced());
        // Whenever it is passed on, and again and again.
        for signal in [SIGHUP, SIGUSR1] {
            let [before, after] = [Shutdown::new(), Shutdown::new()];
            before.request(signal);
            before.pass_on(SIGTERM);
            after.pass_on(SIGTERM);
            after.request(signal);
            for shutdown in [before, after] {
                shutdown.pass_on(SIGTERM);
                shutdown.request(SIGTERM);
                assert!(!shutdown.forced(), "{signal}");
                shutdown.request(SIGTERM);
                assert!(shutdown.forced(), "{signal}");
            }
        }
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

    #[test]
    fn process_that_its_parent_froze_ends_with_it() {
        if env::var_os(PLAYER).is_some() {
            // As if these tests were not started by `nohup`.
            // SAFETY: it is no handler that could be called.
            unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }.unwrap();
            prctl::set_pdeathsig(Signal::SIGHUP).unwrap();
            let shutdown = Shutdown::on_signals().unwrap();
            eprintln!("ready");
            assert!(shutdown.sleep(Duration::from_secs(3600)));
            signal_hook::low_level::exit(shutdown.requested().unwrap());
        }
        let name = thread::current().name().unwrap().to_owned();
        // A thread stands for the parent: this process lives on, so that the kernel itself does not wake the child as one
        // of an orphaned process group.
        let parent = thread::spawn(move || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", &name, "--test-threads=1", "--nocapture"]);
            let mut child = command
                .env(PLAYER, "")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().ends_with("ready")));
            let pid = Pid::from_raw(child.id() as i32);
            kill(pid, Signal::SIGSTOP).unwrap();
            let stopped = WaitStatus::Stopped(pid, Signal::SIGSTOP);
            assert_eq!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(stopped));
            child
        });
        let mut child = parent.join().unwrap();
        let begin = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                None if begin.elapsed() < Duration::from_secs(120) => {
                    thread::sleep(Duration::from_millis(10));
                }
                ended => break ended,
            }
        };
        let _ = child.kill();
        assert_eq!(ended.and_then(|status| status.code()), Some(SIGHUP));
    }
}
