//! Processes of a run that die, are stopped, or lose their terminal.

use crate::support::{
    Done, Project, at_work, json, last_weights, signal, steps, tensorboard_reads, wait_for,
};
use crate::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

/// Longer than any test waits: such a run must be stopped.
const ENDLESS: [&str; 2] = ["--set", "train.steps=1000000"];

fn status(run: &Path, role: &str) -> Option<Value> {
    let text = fs::read(run.join(format!("{role}.status.json"))).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

fn pid(run: &Path, role: &str) -> i32 {
    let status = status(run, role).expect("a status");
    i32::try_from(status["process"]["pid"].as_u64().unwrap()).unwrap()
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The run, once trainer and evaluator are at it and the trainer has taken some steps beyond `step`.
fn under_way(project: &Project, step: u64) -> PathBuf {
    wait_for("a run under way", || {
        let run = project.newest("small")?;
        let running = |role| {
            status(&run, role).filter(|status| {
                let pid = i32::try_from(status["process"]["pid"].as_u64().unwrap()).unwrap();
                status["process"]["state"] == "running" && at_work(pid)
            })
        };
        running("eval")?;
        (running("train")?["step"].as_u64()? > step).then_some(run)
    })
}

/// Until nothing is left of the run's processes.
fn nothing_left(run: &Path) {
    let pids =
        ["supervisor", "train", "eval"].map(|role| status(run, role).map(|_| pid(run, role)));
    wait_for("the end of all processes", || {
        let left = pids.iter().flatten().any(|&pid| at_work(pid));
        (!left).then_some(())
    });
}

fn finish(child: Child) -> Done {
    Done::of(child.wait_with_output().unwrap())
}

#[test]
fn what_is_killed_is_started_again_and_nothing_is_missing() {
    let sets = [
        "--set",
        "train={steps: 1000, checkpoint_every: 100, keep_checkpoints: 20}",
    ];
    let arguments = [&["run", "small"], &sets[..]].concat();
    let whole = Project::new();
    whole.succeed(&arguments);

    let parted = Project::new();
    let child = parted.start(&arguments);
    let run = wait_for("a checkpoint beyond the first", || {
        let run = parted.newest("small")?;
        run.join("checkpoints/step-00000100")
            .exists()
            .then_some(run)
    });
    // However fast the machine is, training does not end before the evaluator has begun.
    let trainer = pid(&run, "train");
    send(trainer, Signal::SIGSTOP);
    let evaluator = wait_for("the evaluator", || {
        status(&run, "eval").map(|_| pid(&run, "eval"))
    });
    let list = parted.succeed(&["list"]).out;
    assert!(list.lines().nth(1).unwrap().contains(" running "), "{list}");
    send(trainer, Signal::SIGKILL);
    send(evaluator, Signal::SIGKILL);
    let done = finish(child);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    for line in [
        "\nthe trainer died (signal 9, SIGKILL); restart 1 of 3 in 1 s\n",
        "\nthe evaluator died (signal 9, SIGKILL); restart 1 in 1 s\n",
        "\n  restarts       trainer 1, evaluator 1\n",
    ] {
        assert!(done.out.contains(line), "no {line:?} in {}", done.out);
    }
    assert!(last_weights(&run) == last_weights(&whole.run("small")));
    let restarts = &status(&run, "supervisor").unwrap()["restarts"];
    assert_eq!(restarts, &json!({"train": 1, "eval": 1}));
    let journal = fs::read_to_string(run.join("evaluations.jsonl")).unwrap();
    let evaluated: Vec<u64> = journal
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["step"]
                .as_u64()
                .unwrap()
        })
        .collect();
    let wanted: Vec<u64> = (0..1000).step_by(100).chain([999]).collect();
    assert_eq!(evaluated, wanted);
    if let Some(events) = tensorboard_reads(&run.join("eval")) {
        assert_eq!(steps(&events["scalars"]["Precision @ 1"]), wanted);
    }
    let list = parted.succeed(&["list"]).out;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row.last()), ("finished", Some(&"2")), "{list}");
}

#[test]
fn a_failure_that_repeats_itself_is_not_tried_again() {
    let project = Project::new();
    let done = project.runboard(&["run", "small", "--set", "optimizer.learning_rate=1e6"]);
    assert!(done.code.is_some_and(|code| code != 0), "{}", done.out);
    let run = project.run("small");
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert_eq!(log.matches(": training small/").count(), 2, "{log}");
    assert!(
        done.out.contains("; restart 1 of 3 in 1 s\n"),
        "{}",
        done.out
    );
    let why = "\nnot started again: it has died so at this very step before\n";
    assert!(done.out.contains(why), "{}", done.out);
    // The evaluator scored what there is, and was not blamed.
    assert_eq!(status(&run, "eval").unwrap()["last"]["step"], 0);
    assert_eq!(status(&run, "supervisor").unwrap()["restarts"]["eval"], 0);
}

#[test]
fn bad_input_is_not_tried_again() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "train.steps=1"]);
    let mut found = fs::read_dir(project.path("data")).unwrap();
    let images = found.find_map(|entry| Some(entry.unwrap().path()).filter(|path| path.is_dir()));
    fs::write(images.unwrap().join("data_batch_3.bin"), [255; 3073]).unwrap();
    let done = project.runboard(&["run", "small"]);
    assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
    let why = "\nnot started again: the same input would end it again\n";
    assert!(done.out.contains(why), "{}", done.out);
    assert!(done.out.contains("data_batch_3.bin"), "{}", done.out);
}

#[test]
fn a_trainer_that_gets_nowhere_is_given_up() {
    let project = Project::new();
    let sets = ["train.restarts=1", "train.checkpoint_every=1000000"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["run", "small"]
        .into_iter()
        .chain(ENDLESS)
        .chain(sets)
        .collect();
    let child = project.start(&arguments);
    let run = under_way(&project, 1);
    let first = pid(&run, "train");
    send(first, Signal::SIGKILL);
    let second = wait_for("the second trainer", || {
        Some(pid(&run, "train")).filter(|&pid| pid != first)
    });
    send(second, Signal::SIGKILL);
    let done = finish(child);
    assert_eq!(done.code, Some(137), "{}\n{}", done.out, done.err);
    let why = "\nnot started again: train.restarts is 1\n";
    assert!(done.out.contains(why), "{}", done.out);
    nothing_left(&run);
}

#[test]
fn a_stop_at_any_moment_of_the_start_loses_nothing() {
    let sets = ["--set", "train={steps: 120, checkpoint_every: 50}"];
    let arguments = [&["run", "small"], &sets[..]].concat();
    let whole = Project::new();
    whole.succeed(&arguments);

    let parted = Project::new();
    let child = parted.start(&arguments);
    let run = wait_for("the run", || parted.newest("small"));
    signal(&child, Signal::SIGTERM);
    finish(child);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..6 {
        let child = parted.start(&["resume", "small"]);
        thread::sleep(Duration::from_millis(random.random_range(0..600)));
        signal(&child, Signal::SIGTERM);
        let done = finish(child);
        // Killed by it before it listens, or stopped, or finished by then.
        let good = [None, Some(143), Some(0)].contains(&done.code);
        assert!(good, "{:?}\n{}\n{}", done.code, done.out, done.err);
        if done.code == Some(143) {
            assert!(done.out.contains("runboard resume small/"), "{}", done.out);
        }
        nothing_left(&run);
    }
    parted.succeed(&["resume", "small"]);
    assert!(last_weights(&run) == last_weights(&whole.run("small")));
}

#[test]
fn a_signal_to_every_process_asks_each_of_them_once() {
    let project = Project::new();
    let child = project.start(&[&["run", "small"], &ENDLESS[..]].concat());
    let run = under_way(&project, 1);
    for role in ["supervisor", "train", "eval"] {
        send(pid(&run, role), Signal::SIGTERM);
    }
    let done = finish(child);
    assert_eq!(done.code, Some(143), "{}\n{}", done.out, done.err);
    for role in ["supervisor", "train", "eval"] {
        let state = &status(&run, role).unwrap()["process"]["state"];
        assert_eq!(state, "interrupted", "{role}");
    }
}

#[test]
fn a_closing_terminal_stops_a_run_in_good_order() {
    let project = Project::new();
    let mut command = project.command(&[&["run", "small"], &ENDLESS[..]].concat());
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut command);
    let run = wait_for("a run under way", || {
        terminal.read();
        let run = project.newest("small")?;
        (status(&run, "train")?["step"].as_u64()? > 1).then_some(run)
    });
    drop(terminal);
    assert_eq!(child.wait().unwrap().code(), Some(129));
    for role in ["supervisor", "train"] {
        let state = &status(&run, role).unwrap()["process"]["state"];
        assert_eq!(state, "interrupted", "{role}");
    }
    nothing_left(&run);
}

#[test]
fn a_detached_run_survives_its_terminal_until_it_is_stopped() {
    let project = Project::new();
    let arguments = [&["run", "small", "--detach"], &ENDLESS[..]].concat();
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut project.command(&arguments));
    let ended = wait_for("the prompt", || {
        terminal.read();
        child.try_wait().unwrap()
    });
    let said = terminal.said();
    assert!(ended.success(), "{said}");
    let run = project.run("small");
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    let supervisor = pid(&run, "supervisor");
    for part in [
        format!("running {id} in runs/{id}, detached, with pid {supervisor}"),
        format!("tail -f runs/{id}/supervisor.log"),
        format!("runboard stop {id}"),
    ] {
        assert!(said.contains(&part), "no {part:?} in {said}");
    }
    drop(terminal);
    let run = under_way(&project, 1);
    let step = status(&run, "train").unwrap()["step"].as_u64().unwrap();
    under_way(&project, step + 5);
    assert!(at_work(supervisor));
    let again = project.runboard(&["resume", "small", "--detach"]);
    assert_eq!(again.code, Some(2), "{}", again.err);
    assert!(again.err.contains(" is at work already: "), "{}", again.err);

    let stopped = project.succeed(&["stop", "small"]).out;
    assert!(
        stopped.starts_with(&format!("{id} is stopped, at step ")),
        "{stopped}"
    );
    for role in ["supervisor", "train", "eval"] {
        assert!(!at_work(pid(&run, role)), "{role}");
        let state = &status(&run, role).unwrap()["process"]["state"];
        assert_eq!(state, "interrupted", "{role}");
    }
    let log = fs::read_to_string(run.join("supervisor.log")).unwrap();
    assert!(
        log.contains("\ntrain | ") && log.contains(" is stopped at step "),
        "{log}"
    );
    let again = project.succeed(&["stop", "small"]).out;
    assert!(again.contains(" is not at work, at step "), "{again}");
}

#[test]
fn a_killed_supervisor_takes_its_children_along() {
    let project = Project::new();
    let arguments = [&["run", "small", "--detach"], &ENDLESS[..]].concat();
    project.succeed(&arguments);
    let run = under_way(&project, 1);
    send(pid(&run, "supervisor"), Signal::SIGKILL);
    nothing_left(&run);
    // In good order, even so.
    for role in ["train", "eval"] {
        let state = &json(&run.join(format!("{role}.status.json")))["process"]["state"];
        assert_eq!(state, "interrupted", "{role}");
    }
}

#[test]
fn processes_without_a_supervisor_are_stopped_as_well() {
    let project = Project::new();
    let child = project.start(&[&["run", "small"], &ENDLESS[..]].concat());
    under_way(&project, 1);
    project.succeed(&["stop", "small"]);
    assert_eq!(finish(child).code, Some(143));
    let child = project.start(&["train", "--run", "small"]);
    let run = project.run("small");
    wait_for("the trainer", || {
        let process = &status(&run, "train")?["process"];
        (process["state"] == "running").then_some(())
    });
    project.succeed(&["stop", "small"]);
    assert_eq!(finish(child).code, Some(143));
}
