//! The evaluator's journal: each checkpoint is evaluated once, whatever happens to either process.

use crate::support::{
    Project, checkpoints, end, evaluated_steps, hold, journal, json, listed, names, pid, signal,
    status, steps as points, tensorboard_reads, timed, wait_for, with_sets,
};
use nix::sys::signal::Signal;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

/// Steps of the journal's lines in the order of the file, with `key`.
fn lines(run: &Path, key: &str) -> Vec<u64> {
    let mut journal = journal(run);
    journal.retain(|line| line.get(key).is_some());
    evaluated_steps(&journal)
}

/// TensorBoard's readers see a point at each of these steps, once and in order.
fn assert_curve(run: &Path, steps: &[u64]) {
    let Some(events) = tensorboard_reads(&run.join("eval")) else {
        return;
    };
    let curve = |tag: &str| points(&events["scalars"][tag]);
    for tag in ["Precision @ 1", "Overview/best accuracy", "Overview/state"] {
        assert_eq!(curve(tag), steps, "{tag}");
    }
    let session = events["hparams"].as_array().unwrap().last();
    assert_eq!(session, Some(&json!("_hparams_/session_start_info")));
}

#[test]
fn checkpoint_is_evaluated_once_however_often_the_evaluator_is_killed() {
    let project = Project::new();
    let sets = [
        "train.steps=36",
        "train.checkpoint_every=2",
        "train.keep_checkpoints=3",
    ];
    let run = project.fresh("killed", &sets);
    project.succeed(&["train", "--run", "killed"]);
    let all: Vec<u64> = (0..36).step_by(2).chain([35]).collect();

    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..6 {
        let before = journal_length(&run);
        let mut evaluator = project.start(&["eval", "--run", "killed"]);
        wait_for("a line or the end", || {
            let ended = evaluator.try_wait().unwrap().is_some();
            (ended || journal_length(&run) > before).then_some(())
        });
        thread::sleep(Duration::from_millis(random.random_range(0..60)));
        evaluator.kill().unwrap();
        evaluator.wait().unwrap();
    }
    assert!(journal_length(&run) > 0);
    project.succeed(&["eval", "--run", "killed"]);
    assert_eq!(lines(&run, "step"), all);
    assert_eq!(lines(&run, "accuracy"), all);
    assert_curve(&run, &all);
    // All were there until they had their scores; now those go that the trainer kept for that alone.
    let left = checkpoints(&run);
    let best = left.iter().filter(|step| !all[16..].contains(step));
    assert!(left.ends_with(&all[16..]) && best.count() <= 1, "{left:?}");
    let again = project.succeed(&["eval", "--run", "killed"]).out;
    assert!(!again.contains("precision @ 1 = "), "{again}");
    assert_curve(&run, &all);
}

#[test]
fn validation_images_and_views_are_scored_beside_the_test_images_and_best_follows_validation() {
    let project = Project::new();
    let sets = [
        "data.validation_images=100",
        "eval.tta=mirror_translate",
        "input.normalize=dataset",
        "train.epochs=0.75", // of 900 images in batches of 16: 42.2 steps
        "train.keep_checkpoints=100",
        "train.checkpoint_every=5",
    ];
    project.succeed(&with_sets(&["run", "small"], &sets));
    let run = project.run("small");
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(log.contains("900 images, steps 0 to 42"), "{log}");
    let lines = journal(&run);
    let steps = evaluated_steps(&lines);
    assert_eq!(steps, [0, 5, 10, 15, 20, 25, 30, 35, 40, 42]);
    let of = |key: &str| -> Vec<f64> {
        lines
            .iter()
            .map(|line| line[key].as_f64().unwrap())
            .collect()
    };
    for (key, images) in [("validation_accuracy", 100.0), ("tta_accuracy", 200.0)] {
        let whole = of(key)
            .iter()
            .all(|share| (share * images).fract().min(1.0 - (share * images).fract()) < 1e-9);
        assert!(whole, "{key} {:?}", of(key)); // over so many images
    }
    assert!(
        of("validation_loss")
            .iter()
            .chain(&of("tta_loss"))
            .all(|loss| *loss > 0.0)
    );

    // The first of the best by validation.
    let accuracies = of("validation_accuracy");
    let largest = accuracies.iter().copied().fold(0.0, f64::max);
    let best = accuracies
        .iter()
        .position(|&accuracy| accuracy == largest)
        .unwrap();
    let link = fs::read_link(run.join("checkpoints/best")).unwrap();
    assert_eq!(link, Path::new(&format!("step-{:08}", steps[best])));
    let status = json(&run.join("eval.status.json"));
    assert_eq!(status["best"]["validation"].as_f64(), Some(largest));
    assert_eq!(status["best"]["accuracy"], lines[best]["accuracy"]);
    let listed = &listed(&project)[0];
    assert_eq!(listed["last_accuracy"], of("accuracy")[9]);
    assert_eq!(listed["validation_accuracy"].as_f64(), Some(largest));
    let loss = of("validation_loss")[best];
    let compared = project.succeed(&["compare", "small", "--json"]).out;
    let compared: Value = serde_json::from_str(&compared).unwrap();
    assert_eq!(compared[0]["validation_loss"].as_f64(), Some(loss));
    let log = project.succeed(&["logs", "small", "--eval"]).out;
    let line = format!("validation images: accuracy = {largest:.3}, loss = {loss:.3}\n");
    assert!(log.contains(&line), "{log}");

    let Some(events) = tensorboard_reads(&run.join("eval")) else {
        return;
    };
    for (tag, key) in [
        ("Precision @ 1", "accuracy"),
        ("validation/Precision @ 1", "validation_accuracy"),
        ("validation/cross_entropy", "validation_loss"),
        ("tta/Precision @ 1", "tta_accuracy"),
        ("tta/cross_entropy", "tta_loss"),
    ] {
        let curve = events["scalars"][tag].as_array().unwrap().iter();
        let points: Vec<(u64, f64)> = curve
            .map(|point| (point[0].as_u64().unwrap(), point[1].as_f64().unwrap()))
            .collect();
        assert_eq!(points.len(), steps.len(), "{tag}");
        for ((step, value), (want_step, want)) in points.iter().zip(steps.iter().zip(of(key))) {
            assert_eq!(step, want_step);
            assert!(
                (value - want).abs() < 1e-5,
                "{tag} at {step}: {value}, {want}"
            );
        }
    }
}

fn journal_length(run: &Path) -> u64 {
    let journal = fs::metadata(run.join("evaluations.jsonl"));
    journal.map_or(0, |journal| journal.len())
}

#[test]
fn point_whose_line_is_lost_or_unfinished_is_evaluated_again_and_shown_once() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let path = run.join("evaluations.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let line_end = whole[..whole.len() - 1].rfind('\n').unwrap() + 1;
    for (length, unfinished) in [(line_end, false), (line_end + 30, true)] {
        // As after a kill or a power cut between the point and its line, or within the line.
        fs::write(&path, &whole[..length]).unwrap();
        let out = project.succeed(&["eval", "--run", "small"]).out;
        assert_eq!(out.matches("precision @ 1 = ").count(), 1, "{out}");
        let said = "evaluations.jsonl was not finished: its 30 bytes are removed";
        assert_eq!(out.contains(said), unfinished, "{out}");
        assert_eq!(lines(&run, "accuracy"), [0, 10, 20, 24]);
        assert_curve(&run, &[0, 10, 20, 24]);
    }
    // Points without a line go even if their checkpoint is no longer there.
    let lines_kept: String = whole.split_inclusive('\n').take(2).collect();
    fs::write(&path, lines_kept).unwrap();
    fs::remove_dir_all(run.join("checkpoints/step-00000020")).unwrap();
    project.succeed(&["eval", "--run", "small"]);
    assert_eq!(lines(&run, "accuracy"), [0, 10, 24]);
    assert_curve(&run, &[0, 10, 24]);

    fs::write(&path, format!("{whole}no evaluation\n")).unwrap();
    let refused = project.runboard(&["eval", "--run", "small"]);
    assert_eq!(refused.code, Some(2));
    let place = "evaluations.jsonl:5: got \"no evaluation\", want an evaluation";
    assert!(refused.err.contains(place), "{}", refused.err);
}

#[test]
fn latest_policy_evaluates_the_newest_and_once_evaluates_what_waits() {
    let project = Project::new();
    let latest = project.fresh("latest", &["eval.policy=latest"]);
    project.succeed(&["train", "--run", "latest"]);
    project.succeed(&["eval", "--run", "latest"]);
    assert_eq!(lines(&latest, "accuracy"), [24]);

    let every = project.fresh("every", &[]);
    project.succeed(&["train", "--run", "every"]);
    project.succeed(&["eval", "--run", "every", "--once"]);
    assert_eq!(lines(&every, "accuracy"), [0, 10, 20, 24]);
    project.succeed(&["eval", "--run", "every", "--once"]);
    assert_eq!(lines(&every, "accuracy"), [0, 10, 20, 24, 24]);
    assert_curve(&every, &[0, 10, 20, 24]);
}

#[test]
fn weights_that_were_trained_again_are_evaluated_again_from_there_on() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    let other = project.fresh("other", &["seed=8"]);
    project.succeed(&["train", "--run", "other"]);
    let step = "checkpoints/step-00000020";
    for name in names(&run.join(step)) {
        fs::copy(other.join(step).join(&name), run.join(step).join(&name)).unwrap();
    }
    project.succeed(&["eval", "--run", "small"]);
    assert_eq!(lines(&run, "accuracy"), [0, 10, 20, 24, 20, 24]);
    assert_curve(&run, &[0, 10, 20, 24]);
}

#[test]
fn weights_that_are_trained_again_stay_until_they_are_evaluated_again() {
    let project = Project::new();
    let run = project.fresh("again", &["train.keep_checkpoints=1"]);
    // The scores of other weights of these steps, as before a resume on a GPU or at a lower rate.
    let line = |step: u64| {
        let time = "2026-01-01T00:00:00Z";
        let line = json!({
            "step": step, "manifest": "of others", "written": time, "time": time, "seconds": 1.0,
            "accuracy": 0.1, "raw_accuracy": 0.1, "loss": 2.3,
        });
        format!("{line}\n")
    };
    let earlier: String = [0, 10, 20].map(line).concat();
    fs::write(run.join("evaluations.jsonl"), earlier).unwrap();
    project.succeed(&["train", "--run", "again"]);
    project.succeed(&["eval", "--run", "again"]);
    assert_eq!(lines(&run, "accuracy"), [0, 10, 20, 0, 10, 20, 24]);
    assert_curve(&run, &[0, 10, 20, 24]);
}

/// An evaluator of the run, frozen while it scores a checkpoint, and that one's step.
fn frozen_while_scoring(project: &Project, run: &Path) -> (Child, u64) {
    let evaluator = project.start(&["eval", "--run", run.to_str().unwrap()]);
    let step = wait_for("an evaluation under way", || {
        hold(pid(&evaluator));
        let status = status(run, "eval");
        let step = status.and_then(|status| status["activity"]["scoring"]["step"].as_u64());
        let under_way = step.filter(|step| !lines(run, "step").contains(step));
        if under_way.is_none() {
            signal(&evaluator, Signal::SIGCONT);
        }
        under_way
    });
    (evaluator, step)
}

#[test]
fn evaluation_under_way_at_a_stop_is_finished_if_it_takes_less_than_seconds() {
    let project = Project::new();
    let run = project.fresh("stopped", &["eval.batch_size=1"]);
    project.succeed(&["train", "--run", "stopped"]);
    // On a machine with much else to do it may take longer, or be taken for one that does.
    for tries in 1.. {
        let (evaluator, step) = frozen_while_scoring(&project, &run);
        signal(&evaluator, Signal::SIGTERM);
        signal(&evaluator, Signal::SIGCONT);
        let done = end(evaluator);
        assert!([Some(143), Some(0)].contains(&done.code), "{}", done.err);
        let finished = lines(&run, "accuracy").contains(&step);
        assert_eq!(run.join("evaluation.partial").exists(), !finished);
        if finished {
            break;
        }
        assert!(tries < 10, "{}", done.out);
    }
}

#[test]
fn evaluation_that_gives_way_to_a_stop_goes_on_later_and_counts_the_same() {
    let project = Project::new();
    let sets = [
        "eval.batch_size=1",
        "eval.tta=mirror_translate",
        "data.synthetic.test_images=1000",
        "data.validation_images=100",
    ];
    let run = project.fresh("stopped", &sets);
    project.succeed(&["train", "--run", "stopped"]);
    let left_alone = project.path("runs/left-alone");
    fs::create_dir(&left_alone).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-a")
        .arg(run.parent().unwrap().join("20260101-000000"))
        .arg(&left_alone);
    assert!(copy.status().unwrap().success());
    let left_alone = left_alone.join("20260101-000000");
    project.succeed(&["eval", "--run", "left-alone"]);

    let partial = run.join("evaluation.partial");
    // Once noticed, the stop is frozen for longer than an evaluation may take to end; on a fast machine it may end before.
    while !partial.exists() {
        let (evaluator, _) = frozen_while_scoring(&project, &run);
        signal(&evaluator, Signal::SIGTERM);
        signal(&evaluator, Signal::SIGCONT);
        thread::sleep(Duration::from_millis(20));
        signal(&evaluator, Signal::SIGSTOP);
        thread::sleep(Duration::from_millis(5_500));
        signal(&evaluator, Signal::SIGCONT);
        let done = end(evaluator);
        assert_eq!(done.code, Some(143), "{}", done.err);
    }
    let out = project.succeed(&["eval", "--run", "stopped"]).out;
    assert_eq!(out.matches(" of 7100 images\n").count(), 1, "{out}"); // 6 views, raw weights, validation
    assert!(!partial.exists());
    let scores = |run: &Path| {
        let mut lines = journal(run);
        for line in &mut lines {
            let line = line.as_object_mut().unwrap();
            line.retain(|key, _| !["time", "seconds", "written"].contains(&key.as_str()));
        }
        lines
    };
    assert_eq!(scores(&run), scores(&left_alone));
    let curves = |run: &Path| {
        let mut events = tensorboard_reads(&run.join("eval"))?;
        let curves = events["scalars"].as_object_mut().unwrap();
        curves.retain(|tag, _| !timed(tag));
        Some(events["scalars"].take())
    };
    assert_eq!(curves(&run), curves(&left_alone));
}

#[test]
fn damaged_checkpoint_is_named_and_skipped_unless_it_is_the_last() {
    let project = Project::new();
    let run = project.fresh("damaged", &[]);
    project.succeed(&["train", "--run", "damaged"]);
    let cut = |step: &str| {
        let path = run.join("checkpoints").join(step).join("ema.safetensors");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        whole
    };
    cut("step-00000010");
    let out = project.succeed(&["eval", "--run", "damaged"]).out;
    assert!(
        out.contains("step-00000010: ema.safetensors: got ") && out.contains("; it is skipped\n"),
        "{out}"
    );
    assert_eq!(lines(&run, "accuracy"), [0, 20, 24]);
    assert_eq!(lines(&run, "damage"), [10]);
    assert_curve(&run, &[0, 20, 24]);
    let again = project.succeed(&["eval", "--run", "damaged"]).out;
    assert!(!again.contains("skipped"), "{again}");

    let whole = cut("step-00000024");
    let done = project.runboard(&["eval", "--run", "damaged", "--once"]);
    assert_eq!(done.code, Some(1), "{}", done.out);
    let said = "error: the last checkpoint has no score: failed to load checkpoint ";
    assert!(done.err.starts_with(said), "{}", done.err);
    assert_curve(&run, &[0, 20]);
    let path = run.join("checkpoints/step-00000024/ema.safetensors");
    fs::write(path, whole).unwrap();
    project.succeed(&["eval", "--run", "damaged", "--once"]);
    assert_curve(&run, &[0, 20, 24]);
}

#[test]
fn evaluator_of_a_killed_trainer_evaluates_what_is_left_and_says_so() {
    let project = Project::new();
    let sets = ["train.steps=1000000", "train.checkpoint_every=1000000"];
    let run = project.fresh("alone", &sets);
    let evaluator = project.start(&["eval", "--run", "alone"]);
    let status = run.join("eval.status.json");
    let row = run.join("eval/events.out.tfevents.0000000000.hparams");
    wait_for("the evaluator", || row.exists().then_some(()));
    let mut trainer = project.start(&["train", "--run", "alone"]);
    wait_for("the first checkpoint", || {
        let there = run.join("checkpoints/step-00000000").exists();
        there.then_some(())
    });
    signal(&trainer, Signal::SIGKILL);
    trainer.wait().unwrap();
    let done = end(evaluator);
    assert_eq!(done.code, Some(3), "{}", done.out);
    let said = "error: the trainer died; its checkpoints are evaluated\n";
    assert!(done.err.ends_with(said), "{}", done.err);
    assert_eq!(lines(&run, "accuracy"), [0]);
    assert_eq!(json(&status)["process"]["state"], json!("failed"));
    if let Some(events) = tensorboard_reads(&run.join("eval")) {
        assert_eq!(events["scalars"]["Overview/state"], json!([[0, -1.0]]));
        let session = ["_hparams_/session_end_info", "_hparams_/session_start_info"];
        assert_eq!(events["hparams"], json!(session));
    }
}

/// Whether a file of the directory has these bytes in it.
fn holds(directory: &Path, text: &str) -> bool {
    let files = names(directory).into_iter();
    let mut files = files.map(|name| fs::read(directory.join(name)).unwrap());
    files.any(|bytes| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn class_names_that_no_font_has_are_listed_by_their_numbers() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "train.steps=1"]);
    let run = project.newest("small").unwrap();
    assert!(!holds(&run.join("eval"), "class_numbers"));

    // Arabic letters join, so that they cannot be drawn one after the other, whatever fonts there are.
    let record = |label: u8| [&[label], [128u8; 3072].as_slice()].concat();
    for batch in 1..=5 {
        project.write(&format!("real/data_batch_{batch}.bin"), record(1).repeat(4));
    }
    project.write("real/test_batch.bin", record(2).repeat(4));
    let classes = "طائرة\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
    project.write("real/batches.meta.txt", classes);
    project.write(
        "experiments/real.yaml",
        "extends: small\ndata: {source: cifar10, folder: real}\ntrain: {steps: 1}\n",
    );
    project.succeed(&["run", "real"]);
    let run = project.newest("real").unwrap();
    assert!(holds(&run.join("eval"), "```\n0 طائرة\n1 b\n"));
}
