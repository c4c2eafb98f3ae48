//! The spec's section `stop`: where it ends training, and that no kill and no stop changes that.

use crate::support::{
    Project, checkpoints, evaluated_steps, journal, json, kill_all, last_weights, with_sets,
};
use crate::support::{status, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A run of seven checkpoints whose accuracies go up and down, with an evaluator that seldom looks by itself.
const WAVERING: &str = "
extends: small
train: {steps: 121, batch_size: 32, checkpoint_every: 20}
optimizer: {learning_rate: 0.01}
average: {name: none}
eval: {interval_secs: 300}
";

/// A project with the experiment `wavering`, and the scores of an undisturbed run of it.
fn wavering() -> (Project, PathBuf, Vec<(u64, f64)>) {
    let project = Project::new();
    project.write("experiments/wavering.yaml", WAVERING);
    project.succeed(&["run", "wavering"]);
    let whole = project.run("wavering");
    let scores = scores(&whole);
    assert_eq!(scores.len(), 7);
    (project, whole, scores)
}

/// The accuracy of each checkpoint in the journal.
fn scores(run: &Path) -> Vec<(u64, f64)> {
    let of = |line: &Value| {
        (
            line["step"].as_u64().unwrap(),
            line["accuracy"].as_f64().unwrap(),
        )
    };
    journal(run).iter().map(of).collect()
}

/// Runs `wavering` with these limits to its end.
fn run_with(project: &Project, name: &str, sets: &[&str]) -> (PathBuf, String) {
    project.write(&format!("experiments/{name}.yaml"), "extends: wavering\n");
    let done = project.succeed(&with_sets(&["run", name], sets));
    (project.run(name), done.out)
}

/// The best accuracy on the way, and the first checkpoint that has it.
fn best_on_the_way(scores: &[(u64, f64)]) -> (u64, f64) {
    let on_the_way = scores[1..6].iter().map(|(_, accuracy)| *accuracy);
    let best = on_the_way.fold(0.0, f64::max);
    *scores
        .iter()
        .find(|(_, accuracy)| *accuracy >= best)
        .unwrap()
}

fn row(project: &Project, name: &str) -> String {
    let table = project.succeed(&["list"]).out;
    let row = table.lines().find(|row| row.trim_start().starts_with(name));
    row.unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn training_ends_at_the_checkpoint_that_reaches_the_accuracy_and_goes_on_with_a_higher_one() {
    let (project, whole, all) = wavering();
    let (step, accuracy) = best_on_the_way(&all);
    let (run, out) = run_with(&project, "good", &[&format!("stop.accuracy={accuracy}")]);
    assert_eq!(checkpoints(&run).last(), Some(&step));
    assert_eq!(scores(&run), all[..=(step / 20) as usize]);
    let id = format!("good/{}", run.file_name().unwrap().to_str().unwrap());
    let done = step + 1;
    let begin = format!("\n{id} is stopped early: {done} of 121 steps, after ");
    assert!(out.contains(&begin), "{out}");
    let found = format!("test accuracy {accuracy:.3} at step {step} (stop.accuracy {accuracy})");
    let reason = format!("\n  reason         {found}\n");
    assert!(out.contains(&reason), "{out}");
    let last = out.trim_end().lines().last().unwrap();
    assert!(last.starts_with("  to go on       "), "{last}");
    assert!(last.contains("--set 'stop.accuracy="), "{last}");
    assert!(row(&project, "good").contains(&format!("stopped early {done}/121")));
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    let said = format!("stopped early after step {step}, which is saved: {found}\n");
    assert!(log.ends_with(&said), "{log}");

    // As it is, it trains nothing.
    let again = project.succeed(&["resume", "good"]).out;
    let note = format!("{id} has stopped early, and does not train on: {found}; to go on: ");
    assert!(again.starts_with(&note), "{again}");
    assert!(again.contains(&begin[1..]), "{again}");
    assert_eq!(checkpoints(&run).last(), Some(&step));
    // Without the limit it is the run that never had one.
    let done = project.succeed(&["resume", "good", "--set", "stop.accuracy=0"]);
    assert!(
        done.out.contains("is finished: 121 of 121 steps"),
        "{}",
        done.out
    );
    assert!(last_weights(&run) == last_weights(&whole));
    assert_eq!(scores(&run), all);
}

#[test]
fn training_ends_after_so_many_scores_without_a_better_one() {
    let (project, _, all) = wavering();
    let (mut best, mut since, mut last) = (f64::MIN, 0, 120);
    for &(step, accuracy) in &all[..6] {
        since += 1;
        if accuracy > best {
            (best, since) = (accuracy, 0);
        }
        if since == 2 {
            last = step;
            break;
        }
    }
    let (run, _) = run_with(&project, "patient", &["stop.patience=2"]);
    assert_eq!(checkpoints(&run).last(), Some(&last));
    assert_eq!(scores(&run), all[..=(last / 20) as usize]);
}

#[test]
fn kills_and_stops_do_not_change_where_training_ends() {
    let (project, _, all) = wavering();
    let (step, accuracy) = best_on_the_way(&all);
    let limit = format!("stop.accuracy={accuracy}");
    let (whole, _) = run_with(&project, "whole", &[&limit]);
    project.write("experiments/killed.yaml", "extends: wavering\n");
    // A stop on the way saves a checkpoint that does not count.
    let start = ["run", "killed", "--until", "8", "--set", &limit];
    project.succeed(&start);
    let run = project.run("killed");
    let directory = run.to_str().unwrap();
    for scored in [1, 3, 4] {
        let mut supervisor = project.start(&["resume", directory]);
        wait_for("scores", || {
            let over = supervisor.try_wait().unwrap().is_some();
            (over || journal(&run).len() > scored).then_some(())
        });
        kill_all(&run);
        supervisor.wait().unwrap();
    }
    project.succeed(&["resume", directory]);
    assert_eq!(checkpoints(&run).last(), Some(&step));
    assert!(last_weights(&run) == last_weights(&whole));
    let scheduled = |run: &Path| -> Vec<(u64, f64)> {
        let scores = scores(run).into_iter();
        scores.filter(|(step, _)| step.is_multiple_of(20)).collect()
    };
    assert_eq!(scheduled(&run), scheduled(&whole));
    let early = |run: &Path| json(&run.join("train.status.json"))["stopped_early"].clone();
    assert_eq!(early(&run), early(&whole));
}

#[test]
fn training_ends_after_so_many_minutes_and_not_before_it_may_go_on() {
    let project = Project::new();
    let endless = ["run", "small", "--set", "train.steps=100000000"];
    let done = project.succeed(&with_sets(&endless, &["stop.minutes=0.02"]));
    let reason = "\n  reason         0.0 minutes of training (stop.minutes 0.02)\n";
    assert!(done.out.contains(reason), "{}", done.out);
    let run = project.run("small");
    let last = checkpoints(&run).pop();
    assert_eq!(evaluated_steps(&journal(&run)).last(), last.as_ref());
    let trained = || json(&run.join("train.status.json"));
    assert!(trained()["seconds"].as_f64().unwrap() >= 1.2);
    let again = project.succeed(&["resume", "small"]).out;
    assert!(
        again.contains(" has stopped early, and does not train on: "),
        "{again}"
    );
    assert_eq!(checkpoints(&run).pop(), last);
    assert_eq!(trained()["process"]["state"], "finished");
    assert!(row(&project, "small").contains(" stopped early "));
}

#[test]
fn training_does_not_wait_for_an_evaluator_that_is_not_there() {
    let project = Project::new();
    let sets = ["stop.patience=1", "eval.interval_secs=300"];
    let warning = "warning: no evaluator scores the checkpoints: training goes on, and stop.accuracy and stop.patience \
                   go by the scores that are there\n";
    // None was started.
    let alone = project.fresh("alone", &sets);
    let done = project.succeed(&["train", "--run", alone.to_str().unwrap()]);
    assert_eq!(done.out.matches(warning).count(), 1, "{}", done.err);
    assert_eq!(checkpoints(&alone).last(), Some(&24));
    // One has ended for good.
    let failed = project.fresh("failed", &[&sets[..], &["train.restarts=0"]].concat());
    fs::write(failed.join("eval"), "no directory").unwrap();
    let done = project.runboard(&["resume", failed.to_str().unwrap()]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let train = status(&failed, "train").unwrap();
    assert_eq!(
        (&train["process"]["state"], &train["step"]),
        (&json!("finished"), &json!(25))
    );
    assert_eq!(train["stopped_early"], Value::Null);
    assert_eq!(status(&failed, "supervisor").unwrap()["evaluation"], false);
}
