//! Runs with shell scripts in the place of trainer and evaluator.

mod restarts;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::*;
use crate::error::is_user_error;
use crate::run::commands;
use crate::run::{Process, ProcessState, Role, provenance};

/// For a script: a status as the processes write it, but with the script's pid and start.
const SET_IDENTITY: &str = "start=$(sed 's/.*) //' /proc/$$/stat | cut -d ' ' -f 20)
    sed \"s/12345678/$$/; s/\\\"start_ticks\\\": null/\\\"start_ticks\\\": $start/\"";

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// A run whose two processes are the branches of a shell script, which finds its directory in `$3`.
pub(super) struct Fake {
    pub(super) run: RunDir,
    pub(super) program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Fake {
    pub(super) fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let program = directory.path().join("program");
        // A shell writes it: a script open for writing here would be inherited by a child that another
        // test forks right now, and could not be started then ("text file busy").
        let written = Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\" && chmod +x \"$2\"", "sh"])
            .arg(format!("#!/bin/sh\ncd \"$3\"\n{script}\n"))
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        Fake {
            run,
            program,
            _directory: directory,
        }
    }

    fn both(train: &str, eval: &str) -> Self {
        Self::new(&format!(
            "if [ $1 = train ]; then\n{train}\nelse\n{eval}\nfi"
        ))
    }

    fn supervise(&self, shutdown: &Shutdown) -> (SessionSummary, String) {
        self.supervise_patiently(shutdown, Duration::from_millis(1))
    }

    fn supervise_patiently(
        &self,
        shutdown: &Shutdown,
        delay: Duration,
    ) -> (SessionSummary, String) {
        let shown = Shown::default();
        let options = Options {
            restarts: 2,
            delay,
            poll: Duration::from_millis(5),
            until: None,
            launch: None,
            silence: None,
        };
        let mut display = Display::plain(shown.clone());
        let lock = lock(&self.run).unwrap();
        let summary = supervise(
            &self.run,
            &lock,
            &self.program,
            shutdown,
            &mut display,
            options,
        )
        .unwrap();
        let bytes = shown.0.lock().unwrap().clone();
        (summary, String::from_utf8(bytes).unwrap())
    }

    fn in_background(self, shutdown: &Shutdown) -> JoinHandle<(SessionSummary, String, Self)> {
        let shutdown = shutdown.clone();
        thread::spawn(move || {
            let (summary, shown) = self.supervise(&shutdown);
            (summary, shown, self)
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.run.path().join(name)
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.file(name))
            .unwrap()
            .lines()
            .count()
    }
}

/// What was written, for whoever holds a clone of it.
#[derive(Clone, Default)]
pub(super) struct Shown(pub(super) Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for what must come to pass; only a hang reaches the limit, however busy the machine is.
pub(super) fn wait_for(mut passed: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !passed() {
        assert!(begin.elapsed() < Duration::from_secs(600), "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn supervise_shows_every_line_of_two_processes_that_end_well() {
    let fake = Fake::both(
        "echo step 0; echo a warning >&2; touch trained; printf 'no line end'",
        "while ! [ -e trained ]; do sleep 0.02; done; echo precision",
    );
    let (summary, shown) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 0);
    let train: Vec<&str> = shown.lines().filter(|line| line.starts_with('t')).collect();
    assert_eq!(
        train,
        ["train | step 0", "train | a warning", "train | no line end"]
    );
    assert!(shown.contains("eval  | precision\n"), "{shown}");
    let id = fake.run.id();
    let text = summary.to_string();
    assert!(
        text.starts_with(&format!("{id} is finished, after ")),
        "{text}"
    );
    assert!(!text.contains("resume"), "{text}");
}

#[test]
fn summary_has_the_statuses_of_this_session() {
    let fake = Fake::both(
        &format!("{SET_IDENTITY} train.template > train.status.json"),
        &format!("{SET_IDENTITY} eval.template > eval.status.json"),
    );
    let mut process = Process::of(12_345_678); // which is nobody's
    process.state = ProcessState::Finished;
    let score = |step, accuracy| Some(crate::run::Score::new(step, accuracy));
    let mut train = TrainStatus {
        step: 500,
        steps: 500,
        loss: Some(1.0),
        ..TrainStatus::new(process.clone())
    };
    let mut eval = EvalStatus {
        last: score(500, 0.712),
        best: score(400, 0.7154),
        ..EvalStatus::new(process)
    };
    train.save(&fake.run).unwrap();
    eval.save(&fake.run).unwrap();
    std::fs::rename(fake.run.status(Role::TRAIN), fake.file("train.template")).unwrap();
    std::fs::copy(fake.run.status(Role::Eval), fake.file("eval.template")).unwrap();

    let (summary, _) = fake.supervise(&Shutdown::new());
    let text = summary.to_string();
    let id = fake.run.id();
    let begin = format!("{id} is finished: 500 of 500 steps, after ");
    assert!(text.starts_with(&begin), "{text}");
    let scores = "\n  accuracy       0.712 at step 500, best 0.715 at step 400\n";
    assert!(text.contains(scores), "{text}");
}

#[test]
fn stop_before_the_start_starts_nothing() {
    let shutdown = Shutdown::new();
    shutdown.request(SIGTERM);
    let fake = Fake::new("touch started");
    let (summary, _) = fake.supervise(&shutdown);
    assert_eq!(summary.exit_code(), 143);
    assert!(!fake.file("started").exists());
}

#[test]
fn stop_is_passed_on_and_waited_for() {
    let tidy =
        "trap 'sleep 0.1; echo saved; exit 129' HUP; touch $1.up; while :; do sleep 0.02; done";
    let shutdown = Shutdown::new();
    let fake = Fake::new(tidy);
    let (trainer, evaluator) = (fake.file("train.up"), fake.file("eval.up"));
    let running = fake.in_background(&shutdown);
    wait_for(|| trainer.exists() && evaluator.exists());
    shutdown.request(SIGINT);
    let (summary, shown, fake) = running.join().unwrap();
    assert_eq!(summary.exit_code(), 130);
    assert!(
        shown.contains("train | saved\n") && shown.contains("eval  | saved\n"),
        "{shown}"
    );
    let id = fake.run.id();
    let text = summary.to_string();
    assert!(
        text.starts_with(&format!("{id} is stopped, after ")),
        "{text}"
    );
    let hint = format!("\n  to go on       {}", commands::resume(&fake.run));
    assert!(text.ends_with(&hint), "{text}");
    let path = fake.run.path().display();
    assert!(hint.ends_with(&format!(" resume {path}")), "{hint}");
}

#[test]
fn stop_after_training_ends_the_scoring_and_says_so() {
    let shutdown = Shutdown::new();
    let fake = Fake::both(
        &format!("{SET_IDENTITY} train.template > train.status.json"),
        "trap 'exit 129' HUP; touch $1.up; while :; do sleep 0.02; done",
    );
    let mut process = Process::of(12_345_678); // which is nobody's
    process.state = ProcessState::Finished;
    let mut train = TrainStatus::new(process);
    train.save(&fake.run).unwrap();
    std::fs::rename(fake.run.status(Role::TRAIN), fake.file("train.template")).unwrap();
    let (evaluator, run) = (fake.file("eval.up"), fake.run.clone());
    let running = fake.in_background(&shutdown);
    let trained = || {
        let status = SupervisorStatus::load(&run).unwrap();
        status.is_some_and(|status| !status.training)
    };
    wait_for(|| evaluator.exists() && trained());
    shutdown.request(SIGINT);
    let (_, shown, _) = running.join().unwrap();
    let said = "stopping to score: 0 stay unscored; training is complete\n";
    assert!(shown.contains(said), "{shown}");
    assert!(!shown.contains("last checkpoint"), "{shown}");
}

#[test]
fn trainer_that_fails_while_it_stops_has_failed() {
    let shutdown = Shutdown::new();
    let fake = Fake::new("trap 'exit 1' HUP; touch $1.up; while :; do sleep 0.02; done");
    let (trainer, evaluator) = (fake.file("train.up"), fake.file("eval.up"));
    let running = fake.in_background(&shutdown);
    wait_for(|| trainer.exists() && evaluator.exists());
    shutdown.request(SIGTERM);
    let (summary, _, _) = running.join().unwrap();
    assert_eq!(summary.exit_code(), 1);
    assert!(matches!(
        summary.outcome,
        Outcome::Failed(Failure {
            role: Role::TRAIN,
            ..
        })
    ));
}

#[test]
fn trainer_that_the_system_kills_while_it_stops_has_failed() {
    let shutdown = Shutdown::new();
    let fake = Fake::new("trap 'kill -9 $$' HUP; touch $1.up; while :; do sleep 0.02; done");
    let (trainer, evaluator) = (fake.file("train.up"), fake.file("eval.up"));
    let running = fake.in_background(&shutdown);
    wait_for(|| trainer.exists() && evaluator.exists());
    shutdown.request(SIGTERM);
    let (summary, _, _) = running.join().unwrap();
    assert_eq!(summary.exit_code(), 137);
    let text = summary.to_string();
    let begin = "the trainer died (signal 9, SIGKILL)\nnot started again: the run was asked to stop; \
         what it has trained since its last checkpoint is not saved\n";
    assert!(text.starts_with(begin), "{text}");
}

#[test]
fn second_request_kills_and_the_first_does_not() {
    // The trap shows that the first request has arrived, and ignores it.
    let stubborn = "trap 'touch $1.asked' HUP; touch $1.up; while :; do sleep 0.02; touch $1.$(ls $1.asked); done";
    let shutdown = Shutdown::new();
    let fake = Fake::new(stubborn);
    let (trainer, evaluator) = (fake.file("train.up"), fake.file("eval.up"));
    let outlived = [fake.file("train.train.asked"), fake.file("eval.eval.asked")];
    let running = fake.in_background(&shutdown);
    wait_for(|| trainer.exists() && evaluator.exists());
    shutdown.request(SIGTERM);
    wait_for(|| outlived.iter().all(|file| file.exists()));
    assert!(!running.is_finished());
    shutdown.request(SIGINT);
    let (summary, shown, _) = running.join().unwrap();
    assert_eq!(summary.exit_code(), 143, "the first signal counts");
    assert!(matches!(summary.outcome, Outcome::Stopped(SIGTERM)));
    assert!(shown.contains("ending at once\n"), "{shown}");
}

#[test]
fn run_that_is_running_already_is_left_alone() {
    for role in [Role::Eval, Role::Supervisor] {
        let fake = Fake::new("");
        let _lock = Lock::take(&fake.run, role).unwrap();
        let error = lock(&fake.run).unwrap_err();
        assert!(is_user_error(&error));
        let begin = format!(
            "{} is already running ({}, pid {} on ",
            fake.run.path().display(),
            role.process_name(),
            std::process::id()
        );
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert!(!fake.run.log(Role::TRAIN).exists());
    }
}

#[test]
fn processes_of_a_session_that_was_killed_are_waited_for() {
    let fake = Fake::new("");
    let orphan = Lock::take(&fake.run, Role::Eval).unwrap();
    let ends = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(orphan);
    });
    wait_for_orphans(&fake.run);
    lock(&fake.run).unwrap();
    ends.join().unwrap();
}
