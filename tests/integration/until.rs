//! `--until`: a part of a run, which a resume continues as if there had been no stop.

use crate::support::{
    Project, at_work, checkpoints, end, evaluated_steps, journal, json, kill_all, last_weights,
    status, wait_for,
};
use serde_json::json;
use std::fs;
use std::path::Path;

/// What `list` says of the only run.
fn listed(project: &Project) -> Vec<String> {
    let table = project.succeed(&["list"]).out;
    let row = table.lines().nth(1).unwrap().split_whitespace();
    row.skip(1).take(2).map(str::to_owned).collect()
}

#[test]
fn run_until_a_step_is_stopped_there_and_goes_on_to_the_same_bytes() {
    let project = Project::new();
    let done = project.succeed(&["run", "small", "--until", "13"]);
    let run = project.run("small");
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    let begin = format!("\n{id} is stopped: 13 of 25 steps, as --until 13 asked, after ");
    assert!(done.out.contains(&begin), "{}", done.out);
    let want = "\n  checkpoint     step 12; a resume goes on with step 13\n";
    assert!(done.out.contains(want), "{}", done.out);
    let last = done.out.trim_end().lines().last().unwrap();
    assert!(last.starts_with("  to go on       "), "{last}");
    let trained = format!("training {id} on cpu: 1000 images, steps 0 to 12 (--until 13 of 25)");
    assert!(done.out.contains(&trained), "{}", done.out);
    assert_eq!(listed(&project), ["stopped", "13/25"]);
    assert_eq!(evaluated_steps(&journal(&run)), [0, 10, 12]);
    assert_eq!(checkpoints(&run), [0, 10, 12]);

    // That far already, it trains nothing.
    let done = project.succeed(&["resume", "small", "--until", "13"]);
    let note = format!("13 of 25 steps of {id} are trained; nothing is left to score\n");
    assert!(done.out.starts_with(&note), "{}", done.out);
    assert_eq!(listed(&project), ["stopped", "13/25"]);
    // It scores what waits.
    fs::remove_file(run.join("evaluations.jsonl")).unwrap();
    project.succeed(&["resume", "small", "--until", "5"]);
    assert_eq!(evaluated_steps(&journal(&run)), [0, 10, 12]);
    assert_eq!(checkpoints(&run), [0, 10, 12]);

    project.succeed(&["resume", "small"]);
    assert_eq!(listed(&project), ["finished", "25/25"]);
    let whole = project.fresh("whole", &[]);
    project.succeed(&["train", "--run", whole.to_str().unwrap()]);
    assert!(last_weights(&run) == last_weights(&whole));
    // Of a whole run no part is wanted.
    project.succeed(&["resume", "small", "--until", "20"]);
    assert_eq!(listed(&project), ["finished", "25/25"]);
}

#[test]
fn until_more_steps_than_there_are_or_none_creates_nothing() {
    let project = Project::new();
    let done = project.runboard(&["run", "small", "--until", "26"]);
    assert_eq!(done.code, Some(2));
    let error = "error: --until: got 26, want at most the 25 steps of the run\n";
    assert!(done.err.ends_with(error), "{}", done.err);
    for steps in ["0", "-1", "many"] {
        let done = project.runboard(&["run", "small", "--until", steps]);
        assert_eq!(done.code, Some(2));
        let error = format!(
            "invalid value '{steps}' for '--until <STEPS>': want a number of steps, 1 or more\n"
        );
        assert!(done.err.contains(&error), "{}", done.err);
    }
    assert!(!project.path("runs/small").exists());
    // The last one is the end.
    project.succeed(&["run", "small", "--until", "25"]);
    assert_eq!(listed(&project), ["finished", "25/25"]);
    let done = project.runboard(&["resume", "small", "--until", "26"]);
    assert_eq!((done.code, &*done.err), (Some(2), error));
}

#[test]
fn until_holds_for_a_detached_run_and_for_one_that_another_process_started() {
    let project = Project::new();
    project.succeed(&["run", "small", "--until", "13", "--detach"]);
    let run = project.run("small");
    let ended = |state: &str| {
        wait_for("the supervisor's end", || {
            let said = status(&run, "supervisor")?;
            at_work(&said).is_none().then_some(())
        });
        assert_eq!(listed(&project)[0], state);
    };
    ended("stopped");
    assert_eq!(checkpoints(&run), [0, 10, 12]);
    let directory = run.to_str().unwrap();
    project.succeed(&["resume", directory, "--recorded", "--until", "21"]);
    assert_eq!(listed(&project), ["stopped", "21/25"]);
    project.succeed(&["resume", directory, "--detach"]);
    ended("finished");
}

#[test]
fn part_of_a_run_whose_processes_are_killed_ends_with_the_same_bytes() {
    let project = Project::new();
    let sets = ["--set", "train.steps=160", "--until", "155"];
    let run = |killed: bool, name: &str| {
        let spec = format!("extends: small\ndescription: {name}\n");
        project.write(&format!("experiments/{name}.yaml"), spec);
        let start = [&["run", name][..], &sets].concat();
        if !killed {
            project.succeed(&start);
            return project.run(name);
        }
        let mut supervisor = project.start(&start);
        let run = wait_for("a run", || project.newest(name));
        for newest in [10, 60, 110] {
            wait_for("a checkpoint", || {
                let steps = run
                    .join("checkpoints")
                    .exists()
                    .then(|| checkpoints(&run))?;
                let over = supervisor.try_wait().unwrap().is_some();
                (over || steps.last().is_some_and(|&step| step >= newest)).then_some(())
            });
            kill_all(&run);
            supervisor.wait().unwrap();
            supervisor = project.start(&["resume", run.to_str().unwrap(), "--until", "155"]);
        }
        let done = end(supervisor);
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
        run
    };
    let (whole, killed) = (run(false, "whole"), run(true, "killed"));
    assert_eq!(checkpoints(&killed).last(), Some(&154));
    assert!(last_weights(&killed) == last_weights(&whole));
    let scores = |run: &Path| -> Vec<_> {
        let lines = journal(run).into_iter();
        lines
            .map(|line| (line["step"].clone(), line["accuracy"].clone()))
            .collect()
    };
    assert_eq!(scores(&killed), scores(&whole));
    let trained = json(&killed.join("train.status.json"));
    assert_eq!(
        (&trained["step"], &trained["until"]),
        (&json!(155), &json!(155))
    );
}
