//! The programs that are asked: runboard itself, in a home of its own, and a python; all of them end with this process.

use crate::hint;
use crate::parent::bind_to_parent;
use crate::paths::unexpanded;
use crate::{bail_user, console, files};
use anyhow::{Context, Result, bail};
use chrono::Local;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The file of what was done and what the programs said.
pub(super) const LOG: &str = "verify.log";

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// What a program said last is looked for in so many bytes, and so many characters of it are told.
const TAIL: u64 = 1 << 14;
const SAID: usize = 300;

/// The error of a program that was ended because the time is up.
#[derive(Debug)]
struct OutOfTime;

impl fmt::Display for OutOfTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

impl std::error::Error for OutOfTime {}

/// Whether this is why there is no answer.
pub(super) fn is_out_of_time(error: &anyhow::Error) -> bool {
    error.is::<OutOfTime>()
}

pub(super) struct Programs {
    runboard: PathBuf,
    /// Experiments, images and runs, as long as there are questions.
    work: PathBuf,
    log: File,
    until: Instant,
}

impl Programs {
    /// Makes `work/` in the directory of the answers.
    ///
    /// # Errors
    /// A user error if that is there already.
    pub fn new(out: &Path, until: Instant) -> Result<Self> {
        // Processes have it as a path from other directories.
        let out = out.canonicalize().context("--out")?;
        let work = out.join("work");
        match fs::create_dir(&work) {
            // It would be removed in the end.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail_user!(
                "--out: {} is there already, of another verify or for something else; want a directory without it",
                work.display()
            ),
            made => made.with_context(|| format!("failed to create {}", work.display()))?,
        }
        files::make_dir(&work.join("experiments"))?;
        let path = out.join(LOG);
        let mut log = OpenOptions::new();
        let log = log.read(true).append(true).create(true).open(&path);
        Ok(Programs {
            runboard: env::current_exe().context("failed to find runboard's own binary")?,
            work,
            log: log.with_context(|| format!("failed to open {}", path.display()))?,
            until,
        })
    }

    /// The directory with `experiments/`, `runs/` and images.
    pub fn directory(&self) -> &Path {
        &self.work
    }

    pub fn runs(&self) -> PathBuf {
        self.work.join("runs")
    }

    /// How much time is left, if there is any.
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    /// Writes a line into the log.
    pub fn say(&self, line: &str) -> Result<()> {
        let now = Local::now().format("%F %T");
        writeln!(&self.log, "{now}: {line}").context("failed to write verify.log")
    }

    /// Runs runboard with these words, to its end.
    ///
    /// # Errors
    /// It fails; the time is up.
    pub fn runboard<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<()> {
        let mut command = Command::new(&self.runboard);
        command
            .args(words)
            .env("RUNBOARD_HOME", unexpanded(&self.work));
        command.env_remove("RUNBOARD_DATA");
        self.run(command)
    }

    /// The last line that says what went wrong, or else the last one, of what was written into the log since it had so many bytes.
    fn last_line_since(&self, begin: u64) -> String {
        let end = self.log.metadata().map_or(begin, |log| log.len());
        let begin = begin.max(end.saturating_sub(TAIL));
        let mut text = vec![0; usize::try_from(end - begin).unwrap_or(0)];
        if self.log.read_exact_at(&mut text, begin).is_err() {
            return "its words cannot be read".to_owned();
        }
        let text = String::from_utf8_lossy(&text);
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines().rev().find_map(|line| line.split_once("error: "));
        let line = error
            .map(|(_, error)| error)
            .or_else(|| lines().next_back());
        match line {
            Some(line) => line.chars().take(SAID).collect(),
            None => "it said nothing".to_owned(),
        }
    }

    /// Runs a program to its end; what it prints goes into the log.
    pub fn run(&self, mut command: Command) -> Result<()> {
        let shown = shown(&command);
        self.say(&format!("{command:?}"))?;
        let begin = self.log.metadata().map_or(0, |log| log.len());
        let log = || self.log.try_clone().context("failed to write verify.log");
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        bind_to_parent(&mut command, Signal::SIGTERM);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {shown}"))?;
        loop {
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    let said = self.last_line_since(begin);
                    bail!("`{shown}` has failed, {status}: {said} ({LOG} has more)");
                }
                return Ok(());
            }
            if self.time_left().is_none() {
                end(&mut child)?;
                return Err(OutOfTime.into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Programs {
    /// Nothing of it is asked for any more, whatever ended the questions.
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.work) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let work = self.work.display();
                console::warning(format_args!("failed to remove {work}: {error}"));
            }
            _ => {}
        }
    }
}

/// A command for people, without its environment and where its program is.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = program.file_name().into_iter().chain(command.get_args());
    hint::shell(&words.collect::<Vec<_>>())
}

/// Asks a program to end, and makes it.
fn end(child: &mut Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    // Twice: runboard then saves no checkpoint.
    for _ in 0..2 {
        kill(pid, Signal::SIGTERM).ok();
        thread::sleep(Duration::from_millis(100));
    }
    let until = Instant::now() + GRACE;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill().ok();
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A python on the path, or this one, that has torch and numpy, and torch's version.
pub(super) fn torch(python: Option<&Path>) -> Option<(PathBuf, String)> {
    let python = python.map_or_else(|| PathBuf::from("python3"), Path::to_owned);
    let output = Command::new(&python)
        .args(["-c", "import numpy, torch; print(torch.__version__)"])
        .stdin(Stdio::null())
        .output();
    let output = output.ok().filter(|it| it.status.success())?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    Some((python, version))
}

/// Writes the experiments' files.
pub(super) fn write_experiment(work: &Path, name: &str, yaml: &str) -> Result<()> {
    let path = work.join("experiments").join(format!("{name}.yaml"));
    fs::write(&path, yaml).with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_ended_when_the_time_is_up() {
        let directory = tempfile::tempdir().unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        let programs = Programs::new(directory.path(), until).unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let error = programs.run(command).unwrap_err();
        assert!(is_out_of_time(&error), "{error:#}");
        assert_eq!(programs.time_left(), None);
    }

    #[test]
    fn program_that_fails_is_named_and_what_it_said_is_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let until = Instant::now() + Duration::from_secs(600);
        let programs = Programs::new(directory.path(), until).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo error: no such thing >&2; echo bye; exit 3"]);
        let error = programs.run(command).unwrap_err();
        assert!(!is_out_of_time(&error));
        let said = error.to_string();
        assert!(
            said.ends_with("` has failed, exit status: 3: no such thing (verify.log has more)"),
            "{said}"
        );
        assert!(said.starts_with("`sh -c "), "{said}");
        let log = fs::read_to_string(directory.path().join(LOG)).unwrap();
        assert!(log.contains("error: no such thing\nbye\n"), "{log}");
        let mut command = Command::new("sh");
        command.args(["-c", "echo late; exit 1"]);
        let said = programs.run(command).unwrap_err().to_string();
        assert!(said.contains("exit status: 1: late ("), "{said}");
        let work = programs.directory().to_owned();
        assert!(work.is_dir());
        drop(programs);
        assert!(!work.exists());
    }
}
