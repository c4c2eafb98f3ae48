//! A supervisor that has no terminal: started in a session of its own, found again, and stopped.

use std::ffi::OsString;
use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use super::child::{describe, resume};
use super::log::Log;
use crate::error::BAD_INPUT;
use crate::run::{
    EvalStatus, Holder, Lock, LockState, Process, ProcessDir, ProcessState, Role, Status,
    SupervisorStatus, SweepStatus, TrainStatus, stop_request,
};
use crate::{bail_user, user_error};

/// How often something awaited is looked for.
const POLL: Duration = Duration::from_millis(50);

/// How often it looks whether a process that holds a lock has said so in the lock's file; on a full disk it never does.
const WRITTEN_AFTER_POLLS: u32 = 10;

/// How long a process may take that is to end at once. One that waits for its terminal, where Ctrl-S was pressed, never
/// ends by itself.
const KILL_AFTER: Duration = Duration::from_secs(20);

/// How long a stop waits that is to be at once. A process that it cannot kill may be frozen, with its container, say.
const NOW_LIMIT: Duration = Duration::from_secs(60);

/// How long a stop waits for a last checkpoint, which a full disk may keep a trainer from writing for a while.
const LIMIT: Duration = Duration::from_secs(1800);

/// How many lines of a supervisor's log are shown that could not begin.
const TAIL: usize = 5;

/// Starts `program resume DIR ARGUMENTS` (runboard itself) in a session of its own, which no closing terminal ends, as the
/// process whose status is `S`: a run's supervisor, or a sweep. It waits until that is at work. It gets its lock as its
/// standard input, so that the directory is locked all the time, and writes into its log. Returns its pid.
///
/// # Errors
/// A user error if that says so; otherwise if the process cannot be started, says that it cannot begin, or
/// gives no sign of life for as long as `limit`.
pub fn detach<S: Status>(
    directory: &ProcessDir,
    lock: Lock,
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
) -> Result<u32> {
    let who = S::ROLE.process_name();
    let mut log = Log::follow(directory.log(S::ROLE));
    let mut command = resume(program, directory, Some(&lock))?;
    command
        .args(arguments)
        .stdout(log.open_for_writing()?)
        .stderr(log.open_for_writing()?);
    let leave = || setsid().map(drop).map_err(io::Error::from);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; this is a system call, and
    // its error is a bare number.
    unsafe { command.pre_exec(leave) };
    let mut supervisor = command
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    drop(command); // which has the lock open
    let pid = supervisor.id();
    let identity = Process::of(pid); // an earlier supervisor may have had the pid
    lock.hand_over(&identity);
    let mut sign_of_life = Instant::now();
    loop {
        let exit_status = supervisor
            .try_wait()
            .with_context(|| format!("failed to wait for the {who}"))?;
        // Asked second: one that has ended by now has said all that it had to say.
        let status = S::load(directory).ok().flatten(); // one that is damaged is replaced
        if status.is_some_and(|status| status.process().is_same(&identity)) {
            return Ok(pid);
        }
        if let Some(status) = exit_status {
            let end = log.tail(TAIL).join("\n  ");
            let path = log.path().display();
            let what = describe(status);
            let message = format!("the {who} ended ({what}); the end of {path}:\n  {end}");
            return Err(match status.code() {
                Some(BAD_INPUT) => user_error!("{message}"),
                _ => anyhow!(message),
            });
        }
        if !log.lines(false).is_empty() {
            sign_of_life = Instant::now(); // it prepares data, say
        }
        if sign_of_life.elapsed() > limit {
            bail!(
                "no sign of life from the {who} (pid {pid}) for {} s; it is left running: see {}, or end it \
                 with: kill {pid}",
                limit.as_secs_f64(),
                log.path().display()
            );
        }
        thread::sleep(POLL);
    }
}

/// How to stop a run.
#[derive(Clone, Copy, Debug)]
pub struct StopOptions<'a> {
    /// At once, without a last checkpoint, and even if a process is frozen.
    pub now: bool,
    /// After this time it is told what is waited for.
    pub notice_after: Duration,
    /// After this time it is given up; what was asked stays asked.
    pub limit: Duration,
    /// What a user types to stop the run at once.
    pub how_to_insist: &'a str,
}

impl<'a> StopOptions<'a> {
    /// Those of `runboard stop`.
    pub fn new(now: bool, how_to_insist: &'a str) -> Self {
        StopOptions {
            now,
            notice_after: Duration::from_secs(5),
            limit: if now { NOW_LIMIT } else { LIMIT },
            how_to_insist,
        }
    }
}

/// Asks the running processes of the run to stop after a last checkpoint, its supervisor or else those that were
/// started by themselves, or that of a sweep, and waits until they have ended. Returns whether there were any. It tells `notify` which of
/// them is frozen and, once, what it waits for.
///
/// A process that cannot be signalled, in another container or on another machine, finds a request in the run directory.
///
/// # Errors
/// A user error if a process of an earlier version is on another machine; otherwise if a status cannot be read, a
/// process not be signalled, as that of another user, a request not be written, or a process has not ended within the limit.
pub fn stop(run: &ProcessDir, options: StopOptions, notify: impl Fn(&str)) -> Result<bool> {
    Stopping::ask(run.clone(), options)?.wait(notify)
}

/// A run, or a sweep, whose processes were asked to stop.
#[must_use = "nobody waits for their end"]
pub struct Stopping<'a> {
    run: ProcessDir,
    options: StopOptions<'a>,
    /// Those that were asked.
    targets: Vec<Target>,
    /// Those that the supervisor among them stops.
    children: Vec<Target>,
    begin: Instant,
}

impl<'a> Stopping<'a> {
    /// Asks the processes of a run to stop, as [`stop`] does, without waiting for them.
    ///
    /// # Errors
    /// As [`stop`].
    pub fn ask(run: ProcessDir, options: StopOptions<'a>) -> Result<Self> {
        let supervisor = match Target::find::<SweepStatus>(&run)? {
            None => Target::find::<SupervisorStatus>(&run)?,
            sweep => sweep,
        };
        let train = Target::find::<TrainStatus>(&run)?;
        let eval = Target::find::<EvalStatus>(&run)?;
        let others = train.into_iter().chain(eval).collect();
        let (targets, children) = match supervisor {
            Some(supervisor) => (vec![supervisor], others),
            None => (others, Vec::new()),
        };
        for target in &targets {
            target.ask(&run, options.now)?;
        }
        Ok(Stopping {
            run,
            options,
            targets,
            children,
            begin: Instant::now(),
        })
    }

    /// Waits until they have ended. Returns whether there were any.
    ///
    /// # Errors
    /// As [`stop`].
    pub fn wait(self, notify: impl Fn(&str)) -> Result<bool> {
        let Stopping {
            run,
            options,
            targets,
            children,
            begin,
        } = &self;
        let processes: Vec<&Target> = targets.iter().chain(children).collect();
        let (mut notified, mut killed, mut frozen) = (false, false, None);
        while let Some(target) = targets.iter().find(|target| target.is_there(run)) {
            let now_frozen = processes.iter().find(|target| target.is_frozen(run));
            if let Some(target) = now_frozen
                && !options.now
                && frozen.replace(target.role) != Some(target.role)
            {
                notify(&target.frozen_notice(options.how_to_insist));
            }
            if begin.elapsed() >= options.notice_after && !mem::replace(&mut notified, true) {
                notify(&target.notice(*options));
            }
            if options.now && begin.elapsed() >= KILL_AFTER && !mem::replace(&mut killed, true) {
                for target in &processes {
                    target.kill(run, &notify)?;
                }
            }
            if begin.elapsed() >= options.limit {
                bail!("{}", target.no_answer(run, *options));
            }
            thread::sleep(POLL);
        }
        for target in processes.iter().filter(|_| options.now) {
            // On a full disk, say. The run has ended all the same.
            if let Err(error) = (target.record_stop)(run) {
                notify(&format!("warning: {error:#}"));
            }
        }
        Ok(!targets.is_empty())
    }
}

/// Writes into the status of a process that was ended at once, and could not do so itself, that it was stopped.
///
/// # Errors
/// If the status cannot be read or written.
fn record_stop<S: Status>(run: &ProcessDir) -> Result<()> {
    let Some(mut status) = S::load(run)?.filter(|status| status.vanished(run)) else {
        return Ok(());
    };
    // Whoever holds the lock is another process, and writes its own.
    if let Ok(_lock) = Lock::take(run, S::ROLE) {
        status.process_mut().state = ProcessState::Stopped;
        status.save(run)?;
    }
    Ok(())
}

/// What the lock file of the role says; of a process that has just taken the lock, once it has written it.
fn holder_once_written<S: Status>(run: &ProcessDir) -> Option<Holder> {
    for _ in 0..WRITTEN_AFTER_POLLS {
        let holder = Lock::holder(run, S::ROLE);
        if holder.is_some() || !matches!(Lock::probe(run, S::ROLE), LockState::Held) {
            return holder;
        }
        thread::sleep(POLL);
    }
    None
}

/// A process to stop.
struct Target {
    role: Role,
    /// What it said last, or what one before it said; of one that has said nothing what its lock file says.
    process: Option<Process>,
    /// Whether it has said nothing, and is the process only as long as it holds its lock.
    is_silent: bool,
    /// What its lock file says, by which it is asked to stop.
    holder: Option<Holder>,
    /// Whether its status says that it is running, and that is so.
    alive: fn(&ProcessDir) -> bool,
    /// As the function of this name.
    record_stop: fn(&ProcessDir) -> Result<()>,
    /// Whether it is stopping already.
    stopping: bool,
}

impl Target {
    /// The process of the role, if there is one.
    fn find<S: Status>(run: &ProcessDir) -> Result<Option<Self>> {
        let status = S::load(run)?;
        let told = status.as_ref().map(|status| status.process().clone());
        let is_held = matches!(Lock::probe(run, S::ROLE), LockState::Held);
        // Before it has written a status, only its lock file tells of it.
        let silent = match &told {
            Some(told) if told.exists(run) => None,
            _ => Lock::process(run, S::ROLE).filter(|_| is_held),
        };
        let target = Target {
            role: S::ROLE,
            holder: holder_once_written::<S>(run),
            alive: |run| S::load(run).is_ok_and(|status| status.is_some_and(|s| s.alive(run))),
            record_stop: record_stop::<S>,
            stopping: status.as_ref().is_some_and(S::stopping),
            is_silent: silent.is_some(),
            process: silent.or(told),
        };
        Ok(Some(target).filter(|target| target.is_there(run)))
    }

    /// Whether it has not ended, nor made room for another one. It may have said that it ended, and its lock is held
    /// before it has said anything.
    fn is_there(&self, run: &ProcessDir) -> bool {
        self.exists(run)
            || match Lock::probe(run, self.role) {
                LockState::Held => Lock::holder(run, self.role) == self.holder,
                LockState::Linked | LockState::Foreign => false,
                LockState::Free | LockState::Unknown => (self.alive)(run),
            }
    }

    /// Whether it is there, in this PID namespace.
    fn exists(&self, run: &ProcessDir) -> bool {
        let process = self.process.as_ref();
        let is_it = || !self.is_silent || matches!(Lock::probe(run, self.role), LockState::Held);
        process.is_some_and(|process| process.exists(run)) && is_it()
    }

    fn is_frozen(&self, run: &ProcessDir) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.is_frozen(run))
    }

    /// Asks it to stop, after a last checkpoint or `now`. Without `now` it may be asked as often as one likes: it never
    /// counts as insisting.
    fn ask(&self, run: &ProcessDir, now: bool) -> Result<()> {
        let alive = (self.alive)(run);
        let process = self.process.as_ref();
        let here = process.filter(|process| alive && process.exists(run));
        let asked_before = alive && self.stopping;
        let holder = self.holder.as_ref();
        let Some(holder) = holder.filter(|holder| holder.reads_requests()) else {
            return self.ask_earlier_version(here, alive, asked_before && !now);
        };
        let written = stop_request::write(run, self.role, holder, now);
        match (written, here) {
            (Ok(()), _) => {}
            (Err(error), None) => {
                return Err(error).with_context(|| format!("failed to stop {}", self.name()));
            }
            // On a full disk, say. Of two signals that are different none is lost.
            (Err(_), Some(process)) if now => {
                self.signal(process.pid, Signal::SIGTERM)?;
                self.signal(process.pid, Signal::SIGINT)?;
            }
            (Err(_), Some(process)) if !process.ignores_hangup() => {
                self.signal(process.pid, Signal::SIGHUP)?; // which never insists
            }
            (Err(_), Some(_)) if asked_before => {}
            (Err(_), Some(process)) => self.signal(process.pid, Signal::SIGTERM)?,
        }
        match here {
            // Or it would not find out.
            Some(process) if now && process.is_frozen(run) => {
                self.signal(process.pid, Signal::SIGCONT)
            }
            _ => Ok(()),
        }
    }

    /// Asks a process to stop that looks for no requests.
    fn ask_earlier_version(
        &self,
        here: Option<&Process>,
        alive: bool,
        asked_before: bool,
    ) -> Result<()> {
        match here {
            _ if asked_before => Ok(()), // a second signal would end it at once, without a checkpoint
            Some(process) => self.signal(process.pid, Signal::SIGTERM),
            None if alive => {
                let process = self.process.as_ref();
                let host = process.and_then(|process| process.host.as_ref());
                bail_user!(
                    "{} is running on another machine: stop it there{}",
                    self.name(),
                    host.map_or_else(String::new, |host| format!(", on {host}"))
                )
            }
            None => Ok(()), // it is ending
        }
    }

    /// Kills it, if it is there.
    fn kill(&self, run: &ProcessDir, notify: impl Fn(&str)) -> Result<()> {
        match self.process.as_ref().filter(|_| self.exists(run)) {
            Some(process) => {
                notify(&format!("{} does not end: killed", self.name()));
                self.signal(process.pid, Signal::SIGKILL)
            }
            None => Ok(()),
        }
    }

    fn signal(&self, pid: u32, signal: Signal) -> Result<()> {
        match kill(Pid::from_raw(pid as i32), signal) {
            Err(error) if error != Errno::ESRCH => {
                Err(error).with_context(|| format!("failed to stop {}", self.name()))
            }
            _ => Ok(()), // asked, or gone by itself
        }
    }

    /// `the trainer (pid 5)`
    fn name(&self) -> String {
        let who = self.role.process_name();
        match &self.process {
            Some(process) => format!("the {who} (pid {})", process.pid),
            None => format!("the {who}"),
        }
    }

    /// What a stop waits for, and how not to wait.
    fn notice(&self, options: StopOptions) -> String {
        let (name, insist) = (self.name(), options.how_to_insist);
        match self.role {
            _ if options.now => format!("waiting for {name} to end"),
            Role::Eval => {
                format!("waiting for {name} to end; to end it at once: {insist}")
            }
            Role::Sweep => format!(
                "waiting for {name} to end after a last checkpoint of each of its points; to end it at once, without \
                 that: {insist}"
            ),
            _ => format!(
                "waiting for {name} to end after a last checkpoint; to end it at once, without that: {insist}"
            ),
        }
    }

    /// That it did not end within the limit, and what helps.
    fn no_answer(&self, run: &ProcessDir, options: StopOptions) -> String {
        let (name, seconds) = (self.name(), options.limit.as_secs());
        let insist = options.how_to_insist;
        match (self.exists(run), options.now) {
            (false, _) => format!(
                "{name} is in another container or on another machine, and has not ended for {seconds} s; it may be frozen \
                 with that (docker pause): it ends when it goes on, or kill it there"
            ),
            (true, true) => format!("{name} has not ended for {seconds} s, although it was killed"),
            (true, false) => format!(
                "{name} has not ended for {seconds} s; it still may, as it was asked to; to end it at once: {insist}"
            ),
        }
    }

    /// That it cannot end now, and what helps.
    fn frozen_notice(&self, how_to_insist: &str) -> String {
        let pid = self.process.as_ref().map_or(0, |process| process.pid);
        frozen_notice(self.role, pid, how_to_insist)
    }
}

/// That a process cannot end now, and what helps.
pub(super) fn frozen_notice(role: Role, pid: u32, how_to_insist: &str) -> String {
    format!(
        "the {} (pid {pid}) is frozen (by SIGSTOP or Ctrl-Z) and ends only after it goes on; to let it go on: \
         kill -CONT {pid}; to end the run at once, without a last checkpoint: {how_to_insist}",
        role.process_name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunDir, StopRequests};
    use crate::shutdown::Shutdown;
    use crate::supervisor::tests::{Fake, wait_for};
    use std::fs;
    use std::process::{Child, Command};
    use std::sync::Mutex;

    #[test]
    fn detach_says_where_to_look_when_the_supervisor_gives_no_sign_of_life() {
        // Until the test ends, which removes its directory.
        let fake = Fake::new("echo $$ > \"$2/pid\"; while [ -d \"$2\" ]; do sleep 0.05; done");
        let lock = Lock::take(&fake.run, Role::Supervisor).unwrap();
        let error = detach::<SupervisorStatus>(&fake.run, lock, &fake.program, &[], Duration::ZERO)
            .unwrap_err();
        let pid = fake.file("pid");
        let read = || {
            fs::read_to_string(&pid)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        wait_for(|| !read().is_empty());
        let pid = read();
        assert_eq!(
            error.to_string(),
            format!(
                "no sign of life from the supervisor (pid {pid}) for 0 s; it is left running: see {}, or end it with: \
                 kill {pid}",
                fake.run.log(Role::Supervisor).display()
            )
        );
    }

    /// A trainer that never stops, with its lock and its status. It would note a signal.
    struct Trainer {
        fake: Fake,
        process: Child,
        _lock: Lock,
    }

    impl Trainer {
        fn start() -> Self {
            let fake = Fake::new("");
            let process = Command::new("sh")
                .args([
                    "-c",
                    "cd \"$0\"; trap 'touch asked' TERM; touch up; while :; do sleep 0.02; done",
                ])
                .arg(fake.run.path())
                .spawn()
                .unwrap();
            wait_for(|| fake.file("up").exists());
            let lock = Lock::take(&fake.run, Role::TRAIN).unwrap();
            let mut status = TrainStatus {
                step: 1,
                steps: 2,
                ..TrainStatus::new(Process::of(process.id()))
            };
            status.process.state = ProcessState::Running;
            status.save(&fake.run).unwrap();
            Trainer {
                fake,
                process,
                _lock: lock,
            }
        }
    }

    fn options(now: bool, notice_after: Duration) -> StopOptions<'static> {
        StopOptions {
            notice_after,
            ..StopOptions::new(now, "STOP NOW")
        }
    }

    /// Stops the trainer's run and kills the trainer at the first notice; what was notified.
    fn stop_until_noticed(trainer: Trainer, notice_after: Duration, asked: bool) -> Vec<String> {
        let Trainer {
            fake,
            process,
            _lock: lock,
        } = trainer;
        let notices = Mutex::new(Vec::new());
        let process = Mutex::new((process, Some(lock)));
        let stopped = stop(&fake.run, options(false, notice_after), |notice| {
            if asked {
                wait_for(|| fake.file("train.stop.json").exists()); // it takes its time
            }
            notices.lock().unwrap().push(notice.to_owned());
            let mut process = process.lock().unwrap();
            process.0.kill().unwrap();
            process.0.wait().unwrap();
            process.1 = None;
        });
        assert!(stopped.unwrap());
        let options = options(false, Duration::ZERO);
        // A process that another test is starting has inherited the lock, until it is started.
        wait_for(|| !stop(&fake.run, options, |_| ()).unwrap());
        notices.into_inner().unwrap()
    }

    #[test]
    fn stop_says_what_it_waits_for() {
        let trainer = Trainer::start();
        let pid = trainer.process.id();
        assert_eq!(
            stop_until_noticed(trainer, Duration::ZERO, true),
            [format!(
                "waiting for the trainer (pid {pid}) to end after a last checkpoint; to end it at once, without that: \
                 STOP NOW"
            )]
        );
    }

    #[test]
    fn stop_says_that_a_process_is_frozen() {
        let trainer = Trainer::start();
        let pid = trainer.process.id();
        kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).unwrap();
        let status = TrainStatus::load(&trainer.fake.run).unwrap().unwrap();
        wait_for(|| status.process.is_frozen(&trainer.fake.run));
        assert_eq!(
            stop_until_noticed(trainer, Duration::from_secs(3600), false),
            [format!(
                "the trainer (pid {pid}) is frozen (by SIGSTOP or Ctrl-Z) and ends only after it goes on; to let it go \
                 on: kill -CONT {pid}; to end the run at once, without a last checkpoint: STOP NOW"
            )]
        );
    }

    #[test]
    fn several_are_asked_before_one_is_waited_for() {
        let trainers = [Trainer::start(), Trainer::start()];
        let options = options(false, Duration::from_secs(3600));
        let asked = trainers
            .each_ref()
            .map(|it| Stopping::ask(ProcessDir::clone(&it.fake.run), options).unwrap());
        let mut runs = Vec::new();
        for trainer in trainers {
            assert!(trainer.fake.file("train.stop.json").exists());
            let Trainer {
                fake,
                mut process,
                _lock: lock,
            } = trainer;
            process.kill().unwrap();
            process.wait().unwrap();
            drop(lock);
            runs.push(fake);
        }
        for stopping in asked {
            assert!(stopping.wait(|notice| panic!("{notice}")).unwrap());
        }
    }

    #[test]
    fn stop_gives_up_after_its_limit_and_says_why() {
        let fake = Fake::new("");
        let lock = Lock::take(&fake.run, Role::Supervisor).unwrap();
        // One of an earlier version in another container: nothing is known of it but its lock.
        let path = fake.run.path().join("supervisor.lock");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.lines().next().unwrap()).unwrap();
        let options = StopOptions {
            limit: Duration::from_millis(1),
            ..StopOptions::new(true, "STOP NOW")
        };
        let error = stop(&fake.run, options, |_| ()).unwrap_err();
        assert!(!crate::error::is_user_error(&error));
        let begin = "the supervisor is in another container or on another machine, and has not ended for 0 s; ";
        assert!(error.to_string().starts_with(begin), "{error}");
        drop(lock);
    }

    #[test]
    fn stop_is_of_the_process_that_has_the_lock_before_it_has_a_status() {
        let fake = Fake::new("");
        let mut ended = Command::new("true").spawn().unwrap();
        SupervisorStatus::new(Process::of(ended.id()), None)
            .save(&fake.run)
            .unwrap();
        ended.wait().unwrap();
        let _lock = Lock::take(&fake.run, Role::Supervisor).unwrap();
        let target = Target::find::<SupervisorStatus>(&fake.run).unwrap();
        let process = target.and_then(|target| target.process).unwrap();
        assert_eq!(process.pid, std::process::id());
    }

    #[test]
    fn detach_waits_for_a_status_in_the_place_of_one_that_is_damaged() {
        let fake = Fake::new("exit 2");
        fs::write(fake.run.path().join("supervisor.status.json"), "").unwrap();
        let lock = Lock::take(&fake.run, Role::Supervisor).unwrap();
        let limit = Duration::from_secs(600);
        let error = detach::<SupervisorStatus>(&fake.run, lock, &fake.program, &[], limit);
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("the supervisor ended (exit code 2)"),
            "{message}"
        );
    }

    #[test]
    fn stop_of_a_copy_leaves_the_original_alone() {
        let mut trainer = Trainer::start();
        let run = &trainer.fake.run;
        let copied = Command::new("cp")
            .arg("-a")
            .arg(run.path())
            .arg(run.path().with_file_name("copy"))
            .status();
        assert!(copied.unwrap().success());
        let copy = RunDir::open(&run.path().with_file_name("copy")).unwrap();
        for now in [false, true] {
            let options = options(now, Duration::ZERO);
            assert!(!stop(&copy, options, |notice| panic!("{notice}")).unwrap());
        }
        // Nor while the copy is just being resumed, and its statuses are still those of the original.
        let lock = Lock::take(&copy, Role::TRAIN).unwrap();
        let shutdown = Shutdown::new();
        let requests = StopRequests::watch(&lock, &shutdown).unwrap();
        let held = Mutex::new(Some((lock, requests)));
        let stopped = stop(&copy, options(false, Duration::ZERO), |_| {
            assert!(shutdown.sleep(Duration::from_secs(600)));
            *held.lock().unwrap() = None;
        });
        assert!(stopped.unwrap());
        assert!(!trainer.fake.file("train.stop.json").exists());
        trainer.process.kill().unwrap();
        trainer.process.wait().unwrap();
    }
}
