//! The supervisor of a host that has not rank 0, of several that train together: it starts the ranks of its host, starts
//! them again when training begins again from the last checkpoint, and ends with them when rank 0 says that training is
//! over. It keeps no run: its ranks have their spec from a directory of a run's layout that goes with it.

use super::child::{bind_to_supervisor, describe, final_code};
use super::restart::{Crash, RestartPolicy};
use super::silence::Silence;
use crate::compute;
use crate::console;
use crate::error::{BAD_INPUT, DIVERGED, LOST_RANK};
use crate::launch::Launch;
use crate::parent::{KILLED_ENDS, end_child};
use crate::paths;
use crate::run::RunDir;
use crate::shutdown::{Shutdown, can_go_on_after_a_pause, stop_like_a_terminal};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How this host's ranks are started again.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// How often in a row ranks that fail by themselves are started again, without a new checkpoint between.
    pub restarts: u32,
    /// The wait before the first restart; it doubles with each one in a row.
    pub delay: Duration,
    /// How often they are looked at.
    pub poll: Duration,
    /// How long ranks may take to end once one of them has.
    pub patience: Duration,
    /// How long a rank that trains may give no sign of life.
    pub silence: Duration,
}

impl NodeOptions {
    /// Those of `runboard run`. Each sum of a step waits for the other ranks for `timeout_secs` at most.
    pub fn new(restarts: u32, timeout_secs: u64) -> Self {
        NodeOptions {
            restarts,
            delay: Duration::from_secs(1),
            poll: Duration::from_millis(100),
            // When one ends the others notice at once, and have a few seconds to find out whose fault it was.
            patience: Duration::from_secs(15),
            silence: silence(timeout_secs),
        }
    }
}

/// How long a rank that others wait for may give no sign of life: they have noticed by then, and wait for another one.
pub fn silence(timeout_secs: u64) -> Duration {
    Duration::from_secs(timeout_secs.saturating_add(15))
}

/// Train with the ranks of `launch`, in processes of `program`, until rank 0 says that training is over. Returns the exit
/// code.
///
/// - `run` has spec and record of the images; nothing else is kept in it.
/// - The first request to stop is passed on to rank 0, which saves a last checkpoint and ends all ranks. A second one ends
///   this host's at once.
/// - Ranks that end because another one has are started again, and wait until rank 0 begins again; ranks that fail by
///   themselves, too, within the limit of `options`.
///
/// Must be called on a thread that lives as long as the ranks are wanted: they end with it.
///
/// # Errors
/// If a process cannot be started or waited for.
pub fn supervise_ranks(
    run: &RunDir,
    program: &Path,
    launch: &Launch,
    shutdown: &Shutdown,
    options: NodeOptions,
) -> Result<i32> {
    let mut policy = RestartPolicy::new(options.delay, "checkpoint");
    policy.limit(options.restarts);
    loop {
        let session = Session::start(run, program, launch)?;
        let delay = match session.wait(shutdown, options)? {
            End::Over(code) => return Ok(code),
            End::Lost { .. } if options.restarts == 0 => {
                console::timed(format_args!(
                    "not started again: train.restarts is 0; rank 0's host says how training ended"
                ));
                return Ok(1);
            }
            End::Lost { had_begun } => {
                if had_begun {
                    policy.begin_anew(); // whatever kept the ranks from meeting before has passed
                }
                console::timed(format_args!("{} to meet again", names(launch)));
                options.delay
            }
            End::Failed {
                rank,
                status,
                began,
            } => match policy.next_delay(Crash::new(status, None, began)) {
                Ok(delay) => {
                    console::timed(format_args!(
                        "rank {rank} failed: {}; restart {} in {} s",
                        describe(status),
                        policy.count(),
                        delay.as_secs()
                    ));
                    delay
                }
                Err(reason) => {
                    console::timed(format_args!(
                        "rank {rank} failed: {}; not started again: {reason}",
                        describe(status)
                    ));
                    return Ok(final_code(status));
                }
            },
        };
        if shutdown.sleep(delay) {
            return Ok(128 + shutdown.requested().unwrap_or(Signal::SIGTERM as i32));
        }
    }
}

/// The ranks of a launch, for people.
fn names(launch: &Launch) -> String {
    let (first, last, world) = (
        launch.rank,
        launch.rank + launch.count.max(1) - 1,
        launch.world,
    );
    match first == last {
        true => format!("rank {first} of {world} waits"),
        false => format!("ranks {first} to {last} of {world} wait"),
    }
}

/// How the ranks of this host have ended.
#[derive(Debug, PartialEq)]
enum End {
    /// For good, with this exit code.
    Over(i32),
    /// Because a rank has ended that is elsewhere.
    Lost {
        /// Whether these had met and begun.
        had_begun: bool,
    },
    /// Because one of them has failed.
    Failed {
        rank: usize,
        status: ExitStatus,
        /// The step that all ranks have begun with, if they had met.
        began: Option<u64>,
    },
}

/// The processes of the ranks, from their start until the last one has ended.
struct Session {
    ranks: Vec<RankProcess>,
    /// Where each rank says that training has begun.
    directory: PathBuf,
}

struct RankProcess {
    rank: usize,
    child: Child,
    ended: Option<ExitStatus>,
    /// Since its last sign of life; it gives none before it has begun.
    silence: Silence<SystemTime>,
    /// The step that it has begun with in this session.
    began: Option<u64>,
    /// When it was killed, if it was.
    killed: Option<Instant>,
}

impl Session {
    fn start(run: &RunDir, program: &Path, launch: &Launch) -> Result<Self> {
        let mut session = Session {
            ranks: Vec::new(),
            directory: run.path().to_owned(),
        };
        for index in 0..launch.count {
            let launch = launch.of_rank(index);
            let began = session.directory.join(began_file(launch.rank));
            let _ = fs::remove_file(&began); // of an earlier session
            let child = start_rank(run, program, &launch, &began)
                .with_context(|| format!("failed to start rank {}", launch.rank))?;
            session.ranks.push(RankProcess {
                rank: launch.rank,
                child,
                ended: None,
                silence: Silence::default(),
                began: None,
                killed: None,
            });
        }
        Ok(session)
    }

    /// Wait until all have ended. The first that ends gives the others a limit.
    fn wait(mut self, shutdown: &Shutdown, options: NodeOptions) -> Result<End> {
        let (mut stopping, mut deadline) = (false, None);
        loop {
            for rank in &mut self.ranks {
                rank.poll(&self.directory)?;
            }
            if self.ranks.iter().all(RankProcess::is_over) {
                for rank in self.ranks.iter().filter(|rank| rank.ended.is_none()) {
                    console::timed(format_args!(
                        "rank {} (pid {}) was killed and does not end: it is in a driver, or waits for a disk; it is \
                         waited for no longer",
                        rank.rank,
                        rank.child.id()
                    ));
                }
                return Ok(self.end(shutdown));
            }
            if self.ranks.iter().any(RankProcess::is_over) {
                deadline.get_or_insert_with(|| Instant::now() + options.patience);
            }
            if shutdown.take_pause() {
                self.pause();
            }
            self.end_silent(options.silence);
            if shutdown.requested().is_some() && !stopping {
                stopping = true;
                console::timed(format_args!(
                    "asking rank 0 to stop after a last checkpoint; ask again to end at once"
                ));
                for rank in &mut self.ranks {
                    // Also one that has begun and meets the others again: it passes the request on at its next step.
                    match rank.began {
                        // A launcher may have sent SIGTERM to all processes already, and a second one ends at once.
                        Some(_) => rank.signal(Signal::SIGHUP),
                        // One that waits for the others can pass nothing on.
                        None => rank.kill(),
                    }
                }
            }
            if shutdown.forced() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.ranks.iter_mut().for_each(RankProcess::kill);
            }
            thread::sleep(options.poll);
        }
    }

    /// End the ranks that have begun and give no sign of life any more: the others are about to begin again without them.
    fn end_silent(&mut self, limit: Duration) {
        for rank in self.ranks.iter_mut().filter(|rank| rank.killed.is_none()) {
            let file = fs::metadata(self.directory.join(began_file(rank.rank)));
            let sign = file.and_then(|file| file.modified()).ok();
            if rank.ended.is_none() && rank.silence.since(sign) >= limit {
                console::timed(format_args!(
                    "rank {} gives no sign of life for {} s: it is frozen, or waits for a disk; it is killed",
                    rank.rank,
                    limit.as_secs()
                ));
                rank.kill();
            }
        }
    }

    /// Ctrl-Z reaches this process alone.
    fn pause(&mut self) {
        if !can_go_on_after_a_pause() {
            return;
        }
        self.ranks.iter().for_each(|it| it.signal(Signal::SIGSTOP));
        // All of this process's threads stop here.
        let _ = stop_like_a_terminal();
        self.ranks.iter().for_each(|it| it.signal(Signal::SIGCONT));
        self.ranks
            .iter_mut()
            .for_each(|it| it.silence = Silence::default());
    }

    /// What follows from how they have ended.
    fn end(&self, shutdown: &Shutdown) -> End {
        let ended = self
            .ranks
            .iter()
            .filter_map(|it| Some((it.rank, it.ended?)));
        let ended: Vec<(usize, ExitStatus)> = ended.collect();
        let with = |codes: &[i32]| {
            let code = |(_, status): &(usize, ExitStatus)| status.code();
            let mut found = ended.iter().filter_map(code);
            found.find(|code| codes.contains(code))
        };
        if let Some(signal) = shutdown.requested() {
            return End::Over(128 + signal);
        }
        // What one of them has heard from rank 0 holds for all.
        if let Some(code) = with(&[0, BAD_INPUT, DIVERGED]) {
            return End::Over(code);
        }
        let stopped = ended.iter().filter_map(|(_, status)| status.code());
        if let Some(code) = stopped.into_iter().find(|&code| code > 128) {
            return End::Over(code);
        }
        let own = self.ranks.iter().find_map(|rank| {
            let status = rank.ended.filter(|it| it.code() != Some(LOST_RANK))?;
            Some((rank, status))
        });
        match own {
            Some((rank, status)) => End::Failed {
                rank: rank.rank,
                status,
                began: rank.began,
            },
            None => End::Lost {
                had_begun: self.ranks.iter().any(|rank| rank.began.is_some()),
            },
        }
    }
}

impl Drop for Session {
    /// Only an error of this supervisor itself drops running ones.
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            if rank.ended.is_none() && rank.killed.is_none() {
                end_child(&mut rank.child);
            }
        }
    }
}

impl RankProcess {
    /// Look whether it has ended, and what it has said.
    fn poll(&mut self, directory: &Path) -> Result<()> {
        if self.ended.is_none() {
            let ended = self.child.try_wait();
            self.ended = ended.with_context(|| format!("failed to wait for rank {}", self.rank))?;
            self.began = began(directory, self.rank).or(self.began);
        }
        Ok(())
    }

    /// Whether it has ended, or does not though it was killed long ago: it is in a driver, or waits for a disk. It computes
    /// nothing any more, and ends when that lets it.
    fn is_over(&self) -> bool {
        let is_late = |killed: Instant| killed.elapsed() >= KILLED_ENDS;
        self.ended.is_some() || self.killed.is_some_and(is_late)
    }

    fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // Not reaped yet, its pid is still its own.
            let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.killed.get_or_insert_with(Instant::now);
    }
}

/// The step that a rank has begun with; none while it waits for the others.
fn began(directory: &Path, rank: usize) -> Option<u64> {
    let text = fs::read_to_string(directory.join(began_file(rank))).ok()?;
    text.trim().parse().ok()
}

/// The name of the file in which a rank says that training has begun.
fn began_file(rank: usize) -> String {
    format!("rank-{rank}.began")
}

/// Start a rank's process, which ends with this thread. What it says goes where this process's words go.
fn start_rank(run: &RunDir, program: &Path, launch: &Launch, began: &Path) -> Result<Child> {
    let mut command = compute::supervised(program)?;
    command
        .arg("rank")
        .arg("--run")
        .arg(paths::unexpanded(run.path()))
        .args(["--launch", &serde_json::to_string(launch)?])
        .arg("--began")
        .arg(began)
        .stdin(Stdio::null())
        .process_group(0); // a terminal's Ctrl-C reaches the supervisor alone
    bind_to_supervisor(&mut command, Signal::SIGKILL); // it has nothing to save
    Ok(command.spawn()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::{Fake, wait_for};

    fn options() -> NodeOptions {
        NodeOptions {
            restarts: 2,
            delay: Duration::from_millis(1),
            poll: Duration::from_millis(5),
            patience: Duration::from_millis(200),
            silence: Duration::from_secs(600),
        }
    }

    /// Supervise ranks 1 and 2 of 3, which are branches of a script; returns the exit code and how often they were started.
    fn supervise(fake: &Fake, shutdown: &Shutdown, options: NodeOptions) -> (i32, usize) {
        let mut launch = Launch::on_one_host(3);
        (launch.rank, launch.count) = (1, 2);
        let program = &fake.program;
        let code = supervise_ranks(&fake.run, program, &launch, shutdown, options).unwrap();
        let starts = fs::read_to_string(fake.file("starts")).unwrap_or_default();
        (code, starts.lines().count())
    }

    /// The script of a rank: `$5` is its launch, `$7` the file in which it says that it began.
    fn fake(script: &str) -> Fake {
        Fake::new(&format!(
            "rank=$(echo \"$5\" | sed 's/.*\"rank\":\\([0-9]*\\).*/\\1/'); echo $rank >>starts\n{script}"
        ))
    }

    #[test]
    fn ranks_end_with_what_rank_0_says() {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 143", 143),
            ("exit 2", 2),
            ("exit 4", 4),
            ("[ $rank = 1 ] && exit 5; exit 0", 0),
        ] {
            let ended = supervise(&fake(script), &Shutdown::new(), options());
            assert_eq!(ended, (code, 2), "{script}");
        }
    }

    #[test]
    fn ranks_that_lost_another_are_started_again_without_a_limit() {
        let script = "[ $(wc -l <starts) -gt 20 ] && exit 0; exit 5";
        let (code, starts) = supervise(&fake(script), &Shutdown::new(), options());
        assert_eq!(code, 0);
        assert!(starts > 20, "{starts}");
        let never = NodeOptions {
            restarts: 0,
            ..options()
        };
        assert_eq!(supervise(&fake("exit 5"), &Shutdown::new(), never), (1, 2));
    }

    #[test]
    fn rank_that_fails_is_started_again_within_the_limit_of_restarts() {
        // The other one notices, and ends with it.
        let killed = "[ $rank = 2 ] && kill -9 $$; exit 5";
        assert_eq!(
            supervise(&fake(killed), &Shutdown::new(), options()),
            (137, 6)
        );
        // Progress begins a new series.
        let begins = format!("wc -l <starts >$7; [ $(wc -l <starts) -gt 12 ] && exit 0; {killed}");
        let (code, starts) = supervise(&fake(&begins), &Shutdown::new(), options());
        assert_eq!(code, 0);
        assert!(starts > 12, "{starts}");
        // An error that repeats itself does so again.
        assert_eq!(
            supervise(&fake("exit 1"), &Shutdown::new(), options()),
            (1, 4)
        );
    }

    #[test]
    fn meetings_that_failed_before_training_began_are_forgotten() {
        // Both ranks of a session count the same one, whichever is first.
        let session = "session=$((($(wc -l <starts) + 1) / 2))";
        let ends = "case $session in 1|3) exit 1;; 2) echo 7 >$7; exit 5;; *) exit 0;; esac";
        let script = format!("{session}\n{ends}");
        let ended = supervise(&fake(&script), &Shutdown::new(), options());
        assert_eq!(ended, (0, 8));
    }

    #[test]
    fn rank_that_takes_its_sign_of_life_back_waits_for_the_others_and_is_left_alone() {
        let options = NodeOptions {
            silence: Duration::from_millis(300),
            ..options()
        };
        let script = "echo 7 >$7; sleep 0.1; rm $7; sleep 1; exit 0";
        let ended = supervise(&fake(script), &Shutdown::new(), options);
        assert_eq!(ended, (0, 2));
    }

    #[test]
    fn rank_that_does_not_end_with_the_others_is_killed() {
        let script = "[ $rank = 1 ] && exit 2; while :; do sleep 0.1; done";
        let ended = supervise(&fake(script), &Shutdown::new(), options());
        assert_eq!(ended, (2, 2));
    }

    #[test]
    fn rank_that_gives_no_sign_of_life_is_killed_and_started_again() {
        let frozen = "[ $(wc -l <starts) -gt 2 ] && exit 0; echo 7 >$7; [ $rank = 1 ] && kill -STOP $$; exit 5";
        let silence = Duration::from_millis(300);
        let options = NodeOptions {
            silence,
            patience: Duration::from_secs(600),
            ..options()
        };
        assert_eq!(supervise(&fake(frozen), &Shutdown::new(), options).0, 0);
    }

    #[test]
    fn request_to_stop_is_passed_on_to_ranks_that_have_begun() {
        let begun = "trap 'exit 143' HUP; echo 7 >$7; while :; do sleep 0.05; done";
        let waits = "trap 'exit 0' HUP; while :; do sleep 0.05; done";
        for script in [begun, waits] {
            let fake = fake(script);
            let shutdown = Shutdown::new();
            let (started, asked) = (fake.file("starts"), shutdown.clone());
            let ask = thread::spawn(move || {
                let lines = || fs::read_to_string(&started).unwrap_or_default();
                wait_for(|| lines().lines().count() == 2);
                asked.request(Signal::SIGINT as i32);
            });
            let (code, _) = supervise(&fake, &shutdown, options());
            ask.join().unwrap();
            assert_eq!(code, 130);
        }
    }
}
