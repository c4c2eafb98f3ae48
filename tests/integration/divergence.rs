//! Training that diverges: reported, its evidence saved, and, where the spec says so, rolled back.

use crate::support::{
    Done, Project, json, last_weights, listed, names, steps, tensorboard_reads, with_sets,
};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Every step multiplies local3's weights by 1 - rate * 100: by -9 at the rate 0.1, so that the loss leaves
/// what a number can hold near step 19, whatever the images are; halved three times, the rate is low enough.
const EXPLODES: [&str; 4] = [
    "network.local3.weight_decay=100",
    "train.divergence_factor=0",
    "train.steps=45",
    "train.log_every=1",
];
const ROLLBACK: &str = "train.on_divergence=rollback";

fn train(project: &Project, run: &Path) -> Done {
    project.runboard(&["train", "--run", run.to_str().unwrap()])
}

#[test]
fn divergence_stops_training_and_saves_its_evidence() {
    let project = Project::new();
    let run = project.fresh("exploding", &EXPLODES);
    let done = train(&project, &run);
    assert_eq!(done.code, Some(4), "{}", done.err);
    let saved = names(&run.join("divergence"));
    let [step] = &saved[..] else {
        panic!("{saved:?}")
    };
    let number: u64 = step.strip_prefix("step-").unwrap().parse().unwrap();
    let directory = run.join("divergence").join(step);
    let error = format!(
        "the loss at step {number} is inf: training diverged; try a lower optimizer.learning_rate or \
         train.on_divergence=rollback; weights and batch are in {}",
        directory.display()
    );
    assert_eq!(done.err.lines().last(), Some(&*format!("error: {error}")));
    let status = json(&run.join("train.status.json"));
    assert_eq!(status["process"]["error"], error);

    let files = [
        "batch.safetensors",
        "divergence.json",
        "weights.safetensors",
    ];
    assert_eq!(names(&directory), files);
    let numbers = json(&directory.join("divergence.json"));
    assert_eq!(
        (&numbers["step"], &numbers["total_loss"]),
        (&json!(number), &json!("inf"))
    );
    // The last good checkpoint stays, and is one.
    assert_eq!(
        names(&run.join("checkpoints")),
        ["step-00000000", "step-00000010"]
    );
    project.succeed(&["eval", "--run", run.to_str().unwrap(), "--once"]);
    if let Some(events) = tensorboard_reads(&run.join("train")) {
        for tag in ["total_loss", "total_loss (raw)", "local3/weight_loss (raw)"] {
            let curve = &events["scalars"][tag];
            assert_eq!(steps(curve), [0, 10, number], "{tag}");
            assert_eq!(curve[2], json!([number, null]), "{tag}");
        }
    }

    // Again from the checkpoint, it is the same.
    let again = train(&project, &run);
    assert_eq!(
        (again.code, names(&run.join("divergence"))),
        (Some(4), saved)
    );
    assert_eq!(again.err.lines().last(), done.err.lines().last());
}

#[test]
fn rollbacks_lower_the_rate_and_end_with_the_same_bytes_after_kills() {
    let project = Project::new();
    let sets = [&EXPLODES[..], &[ROLLBACK]].concat();
    let whole = project.fresh("whole", &sets);
    let done = train(&project, &whole);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    let state = json(&whole.join("checkpoints/step-00000044/state.json"));
    assert_eq!(state["rollbacks"].as_array().unwrap().len(), 3, "{state}");
    assert_eq!(names(&whole.join("divergence")).len(), 3);

    let parted = project.fresh("parted", &sets);
    for rollback in 1..=3 {
        let mut child = project.start(&["train", "--run", parted.to_str().unwrap()]);
        let message = format!("; rollback {rollback} of at most 3: ");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let rolled_back = lines.any(|line| line.unwrap().contains(&message));
        // Where a trainer was faster than its kill, the next one has less or nothing to roll back.
        assert!(rolled_back || rollback > 1, "no {message}");
        // At once, or after the first step that follows.
        if rolled_back && rollback == 2 {
            assert!(lines.any(|line| line.unwrap().contains(": step ")));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let done = train(&project, &parted);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert!(last_weights(&parted) == last_weights(&whole));
    assert_eq!(
        names(&parted.join("checkpoints")),
        names(&whole.join("checkpoints"))
    );
    if let Some(parted) = tensorboard_reads(&parted.join("train")) {
        let whole = tensorboard_reads(&whole.join("train")).unwrap();
        let curve = |tag: &str| (&whole["scalars"][tag], &parted["scalars"][tag]);
        for tag in ["total_loss", "learning_rate", "norm/weights"] {
            let (whole, parted) = curve(tag);
            assert_eq!(whole, parted, "{tag}");
            assert_eq!(steps(whole), [0, 10, 20, 30, 40], "{tag}");
        }
        let rates = curve("learning_rate").0;
        let rate = |point: usize| rates[point][1].as_f64().unwrap();
        assert_eq!(rate(4), f64::from(0.1f32 / 8.0));
        assert_eq!(rate(0), f64::from(0.1f32));
        let texts = whole["text"].as_array().unwrap();
        assert!(texts.contains(&json!("rollbacks")), "{texts:?}");
    }
}

#[test]
fn rollbacks_are_limited_and_evaluated_meanwhile() {
    let project = Project::new();
    let sets = [&EXPLODES[..], &[ROLLBACK, "train.max_rollbacks=2"]].concat();
    let done = project.runboard(&with_sets(&["run", "small"], &sets));
    assert_eq!(done.code, Some(4), "{}\n{}", done.out, done.err);
    let shown = format!("{}{}", done.out, done.err);
    assert!(
        shown.contains(" is inf: training diverged, after 2 rollbacks; try a lower"),
        "{shown}"
    );
    // Once, with no restart, and what does not diverge again.
    assert!(!shown.contains("restart 1"), "{shown}");
    assert!(!shown.contains("the trainer died"), "{shown}");
    assert!(
        shown.contains("eval  | error: training diverged; its checkpoints are evaluated\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\n  rollbacks      2, the rate is now 0.25 of the spec's\n"),
        "{shown}"
    );
    assert!(!shown.contains("to go on"), "{shown}");
    assert!(
        shown.contains(" run small --set 'network.local3.weight_decay=100' ")
            && shown.contains(" --set 'optimizer.learning_rate=0.01'\n"),
        "{shown}"
    );
    let rows = listed(&project);
    let row = rows.iter().find(|row| row["state"] == "diverged").unwrap();
    assert_eq!(row["rollbacks"], 2, "{row}");
    let run = project.run("small");
    let eval = json(&run.join("eval.status.json"));
    // It has scored what there was, and says that its trainer died.
    assert_eq!(eval["process"]["state"], "failed");
    if let Some(events) = tensorboard_reads(&run.join("eval")) {
        let last = |tag: &str| events["scalars"][tag].as_array().unwrap().last().cloned();
        let step = last("Precision @ 1").unwrap()[0].clone();
        assert_eq!(last("training/rollbacks"), Some(json!([step, 2.0])));
        assert_eq!(last("Overview/state"), Some(json!([step, -1.0])));
    }
}

/// The first steps at so high a rate make the loss ten million times what it was. Weight decay shrinks it again, by 0.64 a
/// step, so that it would stay a number.
const HIGH_RATE: [&str; 5] = [
    "optimizer.learning_rate=50",
    "train.steps=200",
    "train.log_every=1",
    "train.checkpoint_every=4",
    "train.keep_checkpoints=2",
];

#[test]
fn explosion_stops_training_as_a_loss_that_is_not_finite_does() {
    let project = Project::new();
    let done = project.runboard(&with_sets(&["run", "small"], &HIGH_RATE));
    let run = project.run("small");
    assert_eq!(done.code, Some(4), "{}\n{}", done.out, done.err);
    let saved = names(&run.join("divergence"));
    let [step] = &saved[..] else {
        panic!("{saved:?}")
    };
    let number: u64 = step.strip_prefix("step-").unwrap().parse().unwrap();
    let numbers = json(&run.join("divergence").join(step).join("divergence.json"));
    assert_eq!(numbers["began"], number - 9);
    let error = json(&run.join("train.status.json"))["process"]["error"].clone();
    let error = error.as_str().unwrap();
    assert!(
        error.contains(
            " times the first one (train.divergence_factor): training diverged; try a lower"
        ),
        "{error}"
    );
    // In few digits, the first one as in the tutorial.
    let log = std::fs::read_to_string(run.join("train.log")).unwrap();
    let first = log.lines().find(|line| line.contains(": step 0,")).unwrap();
    assert!(
        first.contains(", loss = 3.") || first.contains(", loss = 2."),
        "{first}"
    );
    let high = format!(": step {},", number - 1);
    let line = log.lines().find(|line| line.contains(&high)).unwrap();
    let loss = line
        .split("loss = ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(loss.len() <= 9, "{line}");
    // Again from the checkpoint, which holds how long the loss was too high, it is the same.
    assert!(
        done.out.contains(" resume ")
            && done.out.contains(" --set 'train.on_divergence=rollback'\n"),
        "{}",
        done.out
    );
    let again = train(&project, &run);
    assert_eq!(
        (again.code, names(&run.join("divergence"))),
        (Some(4), saved)
    );
    let done = project.runboard(&["run", "small", "--from", "small@12345"]);
    assert!(
        done.out.starts_with("warning: --from small@12345: small/")
            && done.out.contains(" has diverged\n"),
        "{}\n{}",
        done.out,
        done.err
    );

    // An earlier version's run ends as it did then.
    let unlimited = [&HIGH_RATE[..], &["train.divergence_factor=0"]].concat();
    let unlimited = project.fresh("unlimited", &unlimited);
    assert_eq!(train(&project, &unlimited).code, Some(0));
}

#[test]
fn explosion_is_rolled_back_to_before_it_and_ends_with_the_same_bytes_after_kills() {
    let project = Project::new();
    let factor = "train.rollback_factor=0.001";
    let sets = [&HIGH_RATE[..], &[ROLLBACK, factor, "train.steps=40"]].concat();
    let whole = project.fresh("whole", &sets);
    let done = train(&project, &whole);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    let state = json(&whole.join("checkpoints/step-00000039/state.json"));
    let rollbacks = state["rollbacks"].as_array().unwrap();
    let began = rollbacks[0]["diverged"].as_u64().unwrap() - 9;
    assert!(rollbacks.len() == 1 && rollbacks[0]["to"].as_u64().is_none_or(|to| to + 1 < began));

    // Killed among the steps whose loss is too high, some of them in the checkpoint.
    let parted = project.fresh("parted", &sets);
    for step in [began + 4, began + 7] {
        let mut child = project.start(&["train", "--run", parted.to_str().unwrap()]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = format!(": step {step},");
        assert!(lines.any(|line| line.unwrap().contains(&told)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let done = train(&project, &parted);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert!(last_weights(&parted) == last_weights(&whole));
}
