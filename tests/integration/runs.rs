//! Whole runs: train, evaluate, stop, resume.

use crate::support::{
    Done, Project, end, json, last_weights, names, respecify, running, signal, status, steps,
    tensorboard_reads, timed, wait_for, with_sets,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;

const PARAMETERS: [&str; 10] = [
    "conv1/weights",
    "conv1/biases",
    "conv2/weights",
    "conv2/biases",
    "local3/weights",
    "local3/biases",
    "local4/weights",
    "local4/biases",
    "softmax_linear/weights",
    "softmax_linear/biases",
];

const LAYERS: [&str; 5] = ["conv1", "conv2", "local3", "local4", "softmax_linear"];

const OTHER_SCALARS: [&str; 11] = [
    "learning_rate",
    "norm/gradients",
    "norm/weights",
    "norm/update_to_weight",
    "global_step/sec",
    "examples/sec",
    "time/input_ms",
    "time/compute_ms",
    "prefetch/fraction_full",
    "process/cores",
    "process/memory_mib",
];

#[test]
fn experiment_trains_writes_curves_and_is_evaluated_alongside() {
    let project = Project::new();
    let done = project.succeed(&["run", "small"]);
    let run = project.run("small");

    // Step 0 counts for everything; the last step is saved as well.
    let mut checkpoints = names(&run.join("checkpoints"));
    checkpoints.retain(|name| name != "best");
    assert_eq!(
        checkpoints,
        [
            "step-00000000",
            "step-00000010",
            "step-00000020",
            "step-00000024"
        ]
    );
    let train = json(&run.join("train.status.json"));
    assert_eq!(
        (&train["process"]["state"], &train["step"]),
        (&json!("finished"), &json!(25))
    );
    let eval = json(&run.join("eval.status.json"));
    assert_eq!(
        (&eval["process"]["state"], &eval["last"]["step"]),
        (&json!("finished"), &json!(24))
    );

    let best = json(&run.join("checkpoints/best/state.json"));
    assert_eq!(best["step"], eval["best"]["step"]);

    let log = fs::read_to_string(run.join("train.log")).unwrap();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(": step "))
        .collect();
    assert_eq!(lines.len(), 5, "{log}");
    for (line, step) in lines.iter().zip([0, 5, 10, 15, 20]) {
        // 2026-11-23 03:10:00.123: step 10, loss = 4.64 (467.3 examples/sec; 0.274 sec/batch)
        let (time, rest) = line.split_at(23);
        let form = "%Y-%m-%d %H:%M:%S%.3f";
        assert!(
            chrono::NaiveDateTime::parse_from_str(time, form).is_ok(),
            "{line}"
        );
        let rest = rest
            .strip_prefix(&format!(": step {step}, loss = "))
            .expect(line);
        let (loss, rest) = rest.split_once(" (").expect(line);
        let (rate, rest) = rest.split_once(" examples/sec; ").expect(line);
        let seconds = rest.strip_suffix(" sec/batch)").expect(line);
        for number in [loss, rate, seconds] {
            assert!(number.parse::<f64>().unwrap() >= 0.0, "{line}");
        }
        assert!(
            done.out.contains(&format!("train | {line}")),
            "{}",
            done.out
        );
    }
    let log = fs::read_to_string(run.join("eval.log")).unwrap();
    let accuracy = eval["last"]["accuracy"].as_f64().unwrap();
    let last = log.lines().last().unwrap();
    let before = log.lines().rev().nth(1).unwrap();
    assert!(before.ends_with(": scored step 24"), "{log}");
    assert!(
        last.ends_with(&format!(": precision @ 1 = {accuracy:.3}")),
        "{log}"
    );
    assert!(
        done.out.contains(" is finished: 25 of 25 steps, after "),
        "{}",
        done.out
    );
    assert!(done.out.contains("  tensorboard --logdir "), "{}", done.out);

    if let Some(events) = tensorboard_reads(&run.join("train")) {
        for loss in [
            "total_loss",
            "cross_entropy",
            "local3/weight_loss",
            "local4/weight_loss",
        ] {
            assert_eq!(steps(&events["scalars"][loss]), [0, 10, 20], "{loss}");
            let raw = format!("{loss} (raw)");
            assert_eq!(steps(&events["scalars"][&raw]), [0, 10, 20], "{raw}");
        }
        for tag in OTHER_SCALARS {
            assert_eq!(steps(&events["scalars"][tag]), [0, 10, 20], "{tag}");
        }
        let rate = events["scalars"]["learning_rate"][0][1].as_f64();
        assert_eq!(rate, Some(f64::from(0.1f32)));
        assert_eq!(events["histograms"].as_object().unwrap().len(), 25);
        for layer in LAYERS {
            let activations = format!("{layer}/activations");
            assert_eq!(
                events["histograms"][&activations],
                json!(3),
                "{activations}"
            );
            let sparsity = format!("{layer}/sparsity");
            assert_eq!(
                steps(&events["scalars"][&sparsity]),
                [0, 10, 20],
                "{sparsity}"
            );
        }
        for parameter in PARAMETERS {
            assert_eq!(events["histograms"][parameter], json!(3), "{parameter}");
            let gradients = format!("{parameter}/gradients");
            assert_eq!(events["histograms"][&gradients], json!(3), "{gradients}");
        }
        let events = tensorboard_reads(&run.join("eval")).unwrap();
        let curve = &events["scalars"]["Precision @ 1"];
        let evaluated = steps(curve);
        assert_eq!(evaluated.last(), Some(&24));
        assert!(evaluated.is_sorted_by(|a, b| a < b), "{evaluated:?}");
        let got = curve.as_array().unwrap().last().unwrap()[1]
            .as_f64()
            .unwrap();
        assert!((got - accuracy).abs() < 1e-6);
    }

    let list = project.succeed(&["list"]).out;
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], [&id, "finished", "25/25"], "{list}");
}

#[test]
fn newest_run_is_the_one_created_last_although_local_time_went_back() {
    let project = Project::new();
    let created = ["Asia/Tokyo", "America/New_York", "UTC"].map(|zone| {
        let mut command = project.command(&["run", "small", "--set", "train.steps=2"]);
        let done = Done::of(command.env("TZ", zone).output().unwrap());
        assert_eq!(done.code, Some(0), "{}", done.err);
        let begin = done.out.lines().next().unwrap();
        let id = begin.strip_prefix("starting runs/").unwrap().to_owned();
        let stopped = project.succeed(&["stop", "small"]).out;
        assert!(stopped.starts_with(&id), "{id} is not newest: {stopped}");
        id
    });
    assert_eq!(
        [&created[1], &created[2]],
        [
            &format!("{}-002", created[0]),
            &format!("{}-003", created[0])
        ]
    );
}

#[test]
fn training_learns() {
    let project = Project::new();
    let sets = [
        "data.synthetic.train_images=5000",
        "network.conv1={channels: 32, stddev: 0.1}",
        "network.conv2={channels: 32, stddev: 0.05}",
        "network.local3.units=128",
        "network.local4.units=64",
        "network.softmax_linear.stddev=0.05",
        "train={steps: 400, batch_size: 64, checkpoint_every: 1000}",
    ];
    project.succeed(&with_sets(&["run", "small"], &sets));
    let eval = json(&project.run("small").join("eval.status.json"));
    let accuracy = eval["best"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.2, "accuracy {accuracy} is near chance, 0.1");
}

#[test]
fn fidelity_tutorial_keeps_the_tutorials_quirks() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "fidelity=tutorial"]);
    let run = project.run("small");
    // 200 images in batches of 16 are evaluated as 13 * 16, the first 8 of them twice.
    let eval = json(&run.join("eval.status.json"));
    let hits = 208.0 * eval["last"]["accuracy"].as_f64().unwrap();
    assert!((hits - hits.round()).abs() < 1e-9, "{hits} of 208");
    // A batch of more images than there are goes round until it is full.
    let large = Project::new();
    let sets = ["fidelity=tutorial", "train.batch_size=512", "train.steps=1"];
    large.succeed(&with_sets(&["run", "small"], &sets));
    let eval = json(&large.run("small").join("eval.status.json"));
    let hits = 512.0 * eval["last"]["accuracy"].as_f64().unwrap();
    assert!((hits - hits.round()).abs() < 1e-9, "{hits} of 512");
    if let Some(events) = tensorboard_reads(&run.join("train")) {
        let first = |tag: &str| events["scalars"][tag][0][1].as_f64().unwrap();
        let (average, raw) = (first("total_loss"), first("total_loss (raw)"));
        assert!((average - 0.1 * raw).abs() < 1e-6, "{average} of {raw}");
    }

    // The default does both right.
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let eval = json(&run.join("eval.status.json"));
    let hits = 200.0 * eval["last"]["accuracy"].as_f64().unwrap();
    assert!((hits - hits.round()).abs() < 1e-9, "{hits} of 200");
    if let Some(events) = tensorboard_reads(&run.join("train")) {
        let first = |tag: &str| events["scalars"][tag][0][1].as_f64().unwrap();
        assert_eq!(first("total_loss"), first("total_loss (raw)"));
    }
}

#[test]
fn stopped_run_resumes_to_the_same_bytes_and_clean_curves() {
    let parted = Project::new();
    let sets = ["train.steps=1000000", "train.log_every=1000"];
    let child = parted.start(&with_sets(&["run", "small"], &sets));
    let run = wait_for("a few steps", || {
        let run = parted.newest("small")?;
        (status(&run, "train")?["step"].as_u64()? > 2).then_some(run)
    });
    signal(&child, Signal::SIGTERM);
    let stopped = end(child);
    assert_eq!(stopped.code, Some(143), "{}", stopped.out);
    let go_on = "runboard resume small/";
    assert!(stopped.out.contains(go_on), "{}", stopped.out);
    let train = status(&run, "train").unwrap();
    assert_eq!(train["process"]["state"], "stopped");
    let end = train["step"].as_u64().unwrap() + 25;
    respecify(&run, "steps: 1000000", &format!("steps: {end}"));
    parted.succeed(&["resume", "small"]);
    let sessions = &json(&run.join("provenance.json"))["sessions"];
    assert_eq!(sessions.as_array().unwrap().len(), 2, "{sessions}");
    assert_eq!(sessions[0]["first_step"], 0);
    assert_eq!(sessions[1]["first_step"], train["step"]);
    assert_eq!(sessions[1]["command"].as_array().unwrap()[1], "resume");

    let whole = Project::new();
    whole.succeed(&["run", "small", "--set", &format!("train.steps={end}")]);
    assert!(last_weights(&run) == last_weights(&whole.run("small")));
    let train = json(&run.join("train.status.json"));
    assert_eq!(
        (&train["process"]["state"], &train["step"]),
        (&json!("finished"), &json!(end))
    );
    if let Some(parted) = tensorboard_reads(&run.join("train")) {
        let whole = tensorboard_reads(&whole.run("small").join("train")).unwrap();
        assert_eq!(parted["histograms"], whole["histograms"]);
        let (parted, whole) = (&parted["scalars"], &whole["scalars"]);
        let tags = whole.as_object().unwrap();
        assert_eq!(parted.as_object().unwrap().len(), tags.len());
        for (tag, curve) in tags {
            assert_eq!(steps(&parted[tag]), steps(curve), "{tag}");
            if !timed(tag) {
                assert_eq!(&parted[tag], curve, "{tag}");
            }
        }
    }
}

#[test]
fn loss_that_is_not_finite_ends_the_run_and_names_the_step() {
    let project = Project::new();
    let done = project.runboard(&["run", "small", "--set", "optimizer.learning_rate=1e6"]);
    assert_eq!(done.code, Some(4), "{}\n{}", done.out, done.err);
    let train = json(&project.run("small").join("train.status.json"));
    assert_eq!(train["process"]["state"], "diverged");
    let error = train["process"]["error"].as_str().unwrap();
    assert!(error.starts_with("the loss at step "), "{error}");
    let shown = format!("{}{}", done.out, done.err);
    assert!(shown.contains(error), "{shown}");
    assert!(shown.contains(" diverged: "), "{shown}");
}

#[test]
fn trainer_and_evaluator_work_without_a_supervisor() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let path = run.to_str().unwrap();
    let before = last_weights(&run);

    let once = project.succeed(&["eval", "--run", path, "--once"]).out;
    assert_eq!(once.matches("precision @ 1 = ").count(), 1, "{once}");
    // Nothing is left to do: neither trains nor evaluates again.
    let again = project.succeed(&["eval", "--run", "small"]).out;
    assert_eq!(again.matches("precision @ 1 = ").count(), 0, "{again}");
    let trained = project.succeed(&["train", "--run", path]).out;
    assert_eq!(trained.matches(": step ").count(), 0, "{trained}");
    assert!(
        trained.contains(" is trained already, all 25 steps\n"),
        "{trained}"
    );
    let resumed = project.succeed(&["resume", "small", "--quiet"]).out;
    let said = " are trained; nothing is left to score";
    assert!(resumed.contains(said), "{resumed}");
    assert!(!resumed.contains("eval  |"), "{resumed}");
    assert!(last_weights(&run) == before);
    if let Some(events) = tensorboard_reads(&run.join("eval")) {
        let evaluated = steps(&events["scalars"]["Precision @ 1"]);
        assert!(evaluated.is_sorted_by(|a, b| a < b), "{evaluated:?}");
    }
}

#[test]
fn evaluator_without_a_checkpoint_waits_or_says_so() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let fresh = project.path("runs/fresh/20260101-000000");
    fs::create_dir_all(&fresh).unwrap();
    fs::copy(run.join("spec.yaml"), fresh.join("spec.yaml")).unwrap();

    let done = project.runboard(&["eval", "--run", "fresh", "--once"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.err.contains("no checkpoint in "), "{}", done.err);

    let mut waiting = project.start(&["eval", "--run", "fresh"]);
    wait_for("the evaluator", || running(&fresh, "eval"));
    project.succeed(&["train", "--run", "fresh"]);
    let code = wait_for("the evaluator's end", || waiting.try_wait().unwrap()).code();
    assert_eq!(code, Some(0));
    assert_eq!(status(&fresh, "eval").unwrap()["last"]["step"], 24);
}

#[test]
fn trainer_by_hand_records_its_session_once_it_may_start() {
    let project = Project::new();
    let run = project.fresh("by-hand", &["train.steps=3"]);
    let path = run.to_str().unwrap();
    project.succeed(&["train", "--run", path]);
    respecify(&run, "steps: 3", "steps: 5");
    project.succeed(&["train", "--run", path]);
    let sessions = || json(&run.join("provenance.json"))["sessions"].clone();
    let first_steps = |sessions: &Value| -> Vec<Value> {
        let sessions = sessions.as_array().unwrap().iter();
        sessions
            .map(|session| session["first_step"].clone())
            .collect()
    };
    assert_eq!(first_steps(&sessions()), [0, 3]);
    // That of a supervised trainer is its supervisor's.
    respecify(&run, "steps: 5", "steps: 6");
    project.succeed(&["resume", path]);
    assert_eq!(first_steps(&sessions()), [0, 3, 5]);
}
