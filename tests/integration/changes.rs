//! What a resume changes of a run's spec: recorded and shown everywhere, or refused.

use crate::support::{
    Project, checkpoints, json, last_weights, names, pid, tensorboard_shows, wait_for, with_sets,
};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

const STEPS: &str = "train.steps=40";

fn sessions(run: &Path) -> Vec<Value> {
    let record = json(&run.join("provenance.json"));
    record["sessions"].as_array().unwrap().clone()
}

/// How often a text is in the trainer's event files.
fn shown(run: &Path, text: &str) -> usize {
    let files = names(&run.join("train"));
    let files = files
        .iter()
        .map(|name| fs::read(run.join("train").join(name)).unwrap());
    let count = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).matches(text).count();
    files.map(count).sum()
}

#[test]
fn resume_to_more_steps_ends_as_a_run_that_had_them_from_the_start() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    assert_eq!(checkpoints(&run).pop(), Some(24));
    let sets = [STEPS, "train.keep_checkpoints=2", "eval.threads=1"];
    let done = project.succeed(&with_sets(&["resume", "small"], &sets));
    assert!(
        done.out.contains("train.steps is 40 and was 25\n"),
        "{}",
        done.out
    );
    let whole = project.fresh("whole", &[STEPS]);
    project.succeed(&["train", "--run", whole.to_str().unwrap()]);
    assert!(last_weights(&run) == last_weights(&whole));
    assert_eq!(json(&run.join("train.status.json"))["steps"], 40);

    // Three places that tell the same.
    assert!(
        fs::read_to_string(run.join("spec.yaml"))
            .unwrap()
            .contains("\n  steps: 40\n")
    );
    let sessions = sessions(&run);
    assert_eq!(sessions.len(), 2);
    let change = |field: &str, from: u64, to: u64| json!({"field": field, "from": from, "to": to});
    let changes = [
        change("train.steps", 25, 40),
        change("train.keep_checkpoints", 5, 2),
        change("eval.threads", 0, 1),
    ];
    assert_eq!(sessions[1]["changes"], json!(changes));
    assert_eq!(sessions[1]["first_step"], 25);
    assert_eq!(
        (
            shown(&run, "\n  steps: 25\n"),
            shown(&run, "\n  steps: 40\n")
        ),
        (1, 1)
    );
    assert_eq!(shown(&run, "| `changes` | `train.steps: 25 -> 40` |"), 1);
    if let Some(shown) = tensorboard_shows(&project.path("runs/small")) {
        let groups = shown["python"]["hparams"]["groups"].as_object().unwrap();
        let steps: Vec<&Value> = groups
            .values()
            .map(|group| &group["hparams"]["train.steps"])
            .collect();
        assert_eq!(steps, [&json!(40.0)]);
    }

    // Another session changes nothing, and shows nothing again.
    project.succeed(&["resume", "small"]);
    assert_eq!(shown(&run, "\n  steps: 40\n"), 1);
    assert_eq!(self::sessions(&run)[2].get("changes"), None);
}

#[test]
fn resume_refuses_changes_of_what_was_trained_and_changes_nothing() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let before = ["spec.yaml", "provenance.json"].map(|name| fs::read(run.join(name)).unwrap());
    for (set, error) in [
        (
            "train.steps=24",
            "error: train.steps: got 24 steps in all, but 25 are trained already; want at least 25\n",
        ),
        (
            "train.epochs=0.1",
            "error: train.epochs: got 7 steps in all, but 25 are trained already; want at least 25\n",
        ),
        (
            "optimizer.learning_rate=0.01",
            "error: --set optimizer.learning_rate=0.01: a resume cannot change it from 0.1, as the training so far depends on it; ",
        ),
        ("train.step=50", "error: --set train.step=50: unknown key, "),
    ] {
        let done = project.runboard(&["resume", "small", "--set", STEPS, "--set", set]);
        let done = match set.starts_with("train.epochs") {
            true => project.runboard(&["resume", "small", "--set", set]),
            false => done,
        };
        assert_eq!(done.code, Some(2), "{set}");
        assert!(done.err.starts_with(error), "{}", done.err);
        assert_eq!(done.out, "");
    }
    // A schedule that depends on the number of steps.
    let cosine = ["schedule.name=cosine", "train.steps=12"];
    project.succeed(&with_sets(&["run", "small", "--runs", "others"], &cosine));
    let done = project.runboard(&["resume", "small", "--runs", "others", "--set", STEPS]);
    assert_eq!((done.code, &*done.out), (Some(2), ""));
    let message = " follows from how many steps there are: in a run of 40 steps the rates of step 1, which is trained";
    assert!(done.err.contains(message), "{}", done.err);

    let after = ["spec.yaml", "provenance.json"].map(|name| fs::read(run.join(name)).unwrap());
    assert!(after == before);
    assert_eq!(checkpoints(&run).pop(), Some(24));
}

#[test]
fn edited_spec_is_refused_by_every_process_until_it_is_said_with_set() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let path = run.join("spec.yaml");
    let spec = fs::read_to_string(&path).unwrap();
    fs::write(&path, spec.replace("  steps: 25\n", "  steps: 40\n")).unwrap();
    let directory = run.to_str().unwrap();
    for command in [
        &["resume", "small"][..],
        &["train", "--run", directory],
        &["eval", "--run", directory, "--once"],
    ] {
        let done = project.runboard(command);
        assert_eq!(
            done.code,
            Some(2),
            "{command:?}\n{}\n{}",
            done.out,
            done.err
        );
        assert!(
            done.err.contains(
                "spec.yaml was edited since the run's last session:\n  train.steps is 40 and was 25\nto keep it, and have it recorded: "
            ),
            "{}",
            done.err
        );
    }
    // What is refused changes no state.
    let list = project.succeed(&["list"]).out;
    assert!(list.contains(" finished "), "{list}");
    assert_eq!(sessions(&run).len(), 1);
    project.succeed(&["resume", "small", "--set", STEPS]);
    assert_eq!(checkpoints(&run).pop(), Some(39));
    assert_eq!(sessions(&run)[1]["changes"][0]["from"], 25);
}

#[test]
fn kill_at_any_moment_of_a_change_leaves_a_run_with_one_spec() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let whole = project.fresh("whole", &[STEPS]);
    project.succeed(&["train", "--run", whole.to_str().unwrap()]);
    // From before the record is read to after training has begun.
    for delay in [0, 5, 10, 20, 30, 50, 80, 120, 200, 300] {
        let mut child = project.start(&["resume", "small", "--set", STEPS]);
        thread::sleep(Duration::from_millis(delay));
        let _ = kill(pid(&child), Signal::SIGKILL);
        child.wait().unwrap();
        // Its children end in good order by themselves.
        wait_for("the end of a killed session", || {
            let done = project.runboard(&["eval", "--run", run.to_str().unwrap(), "--once"]);
            assert!(!done.err.contains("was edited"), "{}", done.err);
            (done.code == Some(0)).then_some(())
        });
    }
    wait_for("a session that begins", || {
        let done = project.runboard(&["resume", "small", "--set", STEPS]);
        (done.code == Some(0)).then_some(())
    });
    assert!(last_weights(&run) == last_weights(&whole));
    assert!(
        fs::read_to_string(run.join("spec.yaml"))
            .unwrap()
            .contains("\n  steps: 40\n")
    );
    let sessions = sessions(&run);
    let changing = sessions
        .iter()
        .filter(|session| session.get("changes").is_some());
    assert_eq!(changing.count(), 1);
}

#[test]
fn record_that_was_written_before_the_spec_is_taken_by_every_process() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let path = run.join("spec.yaml");
    let before = fs::read(&path).unwrap();
    project.succeed(&["resume", "small", "--set", "train.steps=30"]);
    // As a kill between the two files leaves them.
    fs::write(&path, &before).unwrap();
    fs::remove_dir_all(run.join("checkpoints/step-00000029")).unwrap();
    project.succeed(&["train", "--run", run.to_str().unwrap()]);
    assert_eq!(checkpoints(&run).pop(), Some(29));
    assert!(fs::read(&path).unwrap() != before);
}

#[test]
fn detached_resume_changes_the_spec_too() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    project.succeed(&["resume", "small", "--detach", "--set", STEPS]);
    wait_for("the last checkpoint", || {
        (checkpoints(&run).pop() == Some(39)).then_some(())
    });
    project.runboard(&["stop", "small"]);
    let sessions = sessions(&run);
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[1]["changes"][0]["to"], 40);
    let command = sessions[1]["command"].as_array().unwrap();
    assert_eq!(
        command[1..],
        ["resume", "small", "--detach", "--set", STEPS]
    );
}
