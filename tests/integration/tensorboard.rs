//! What TensorBoard makes of the event files.

use crate::support::{
    Project, TensorBoard, checkpoints, evaluated_steps, hold, journal, json, respecify, running,
    signal, tensorboard_reads, tensorboard_shows, wait_for, with_sets,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runboard::events::tags::{self, Plugin, Series, Writer};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn tensorboard_shows_every_plugin_of_several_runs_in_both_readers() {
    let project = Project::new();
    for rate in ["0.1", "0.05"] {
        let rate = format!("optimizer.learning_rate={rate}");
        let sets = [
            rate.as_str(),
            "data.validation_images=100",
            "eval.tta=mirror",
        ];
        project.succeed(&with_sets(&["run", "small"], &sets));
    }
    let failed = project.runboard(&["run", "small", "--set", "optimizer.learning_rate=1e6"]);
    assert_eq!(failed.code, Some(4));
    let Some(shown) = tensorboard_shows(&project.path("runs")) else {
        return;
    };
    assert_eq!(shown["fast"], shown["python"]);
    let shown = &shown["python"];
    for plugin in [
        "custom_scalars",
        "distributions",
        "graphs",
        "histograms",
        "hparams",
        "images",
        "pr_curves",
        "scalars",
        "text",
    ] {
        let active = shown["active"].as_array().unwrap();
        assert!(active.contains(&json!(plugin)), "{plugin} is not active");
    }

    let status =
        |directory: &Path| json(&directory.join("train.status.json"))["process"]["state"].clone();
    let runs = fs::read_dir(project.path("runs/small")).unwrap();
    let whole = runs
        .map(|entry| entry.unwrap().path())
        .find(|directory| status(directory) == "finished")
        .unwrap();
    let id = format!("small/{}", whole.file_name().unwrap().to_str().unwrap());
    let (train, eval) = (format!("{id}/train"), format!("{id}/eval"));

    let graph = &shown["graphs"][&train];
    assert_eq!(graph["conv1/conv1"], json!([16, 24, 24, 8]));
    assert_eq!(graph["norm2"], json!([16, 12, 12, 8]));
    assert_eq!(graph["local3/weights"], json!([6 * 6 * 8, 32]));
    assert!(keys(graph).contains(&"ExponentialMovingAverage/softmax_linear/biases"));
    assert_eq!(
        keys(&shown["text"][&train]),
        ["description", "sessions", "spec"]
    );
    let images = [
        "conv1/filters",
        "images/image/0",
        "images/image/1",
        "images/image/2",
    ];
    assert_eq!(keys(&shown["images"][&train]), images);
    assert_eq!(shown["images"][&train]["conv1/filters"], json!([0, 10, 20]));
    assert_eq!(shown["images"][&train]["images/image/2"], json!([0, 20]));
    assert_eq!(
        keys(&shown["images"][&eval]),
        ["confident_mistakes", "confusion_matrix"]
    );
    assert_eq!(keys(&shown["pr_curves"][&eval]).len(), 11);
    let together = "Training (of augmented images, averaged) beside evaluation";
    for (chart, tag) in [
        ("cross-entropy", "cross_entropy"),
        ("accuracy", "Precision @ 1"),
    ] {
        let chart = &shown["custom_scalars"][together][chart];
        assert_eq!(chart[&train], json!([tag]));
        assert!(chart[&eval].as_array().unwrap().contains(&json!(tag)));
    }
    let scalars = keys(&shown["scalars"][&eval]);
    for tag in [
        "Precision @ 1",
        "Precision @ 1 (raw weights)",
        "cross_entropy",
        "recall/disc",
    ] {
        assert!(scalars.contains(&tag), "{tag} is not in {scalars:?}");
    }

    assert_series_are_those_of_the_table(shown, &id);

    let compared = &shown["hparams"];
    assert_eq!(
        compared["hparams"]["optimizer.learning_rate"]["differs"],
        true
    );
    assert_eq!(compared["hparams"]["train.batch_size"]["differs"], false);
    assert_eq!(compared["hparams"]["data.fingerprint"]["differs"], false);
    assert_eq!(compared["hparams"].get("train.log_every"), None);
    // TensorBoard shows the first five.
    let metrics = compared["metrics"].as_array().unwrap().iter();
    let metrics: Vec<&str> = metrics.map(|it| it[1].as_str().unwrap()).take(5).collect();
    assert_eq!(
        metrics,
        [
            "Overview/best accuracy",
            "Overview/minutes",
            "Overview/state",
            "Overview/training loss",
            "Precision @ 1"
        ]
    );
    let row = &compared["groups"][&id];
    let status = json(&whole.join("eval.status.json"));
    let metric = |name: &str| row["metrics"][name].as_f64().unwrap();
    for (name, score) in [
        ("Precision @ 1", "last"),
        ("Overview/best accuracy", "best"),
    ] {
        let accuracy = status[score]["accuracy"].as_f64().unwrap();
        assert!((metric(name) - accuracy).abs() < 1e-6, "{name}");
    }
    let losses = shown["scalars"][&train]["total_loss"].as_array().unwrap();
    assert!(!losses.is_empty() && metric("Overview/training loss") > 0.0);
    assert_eq!(metric("Overview/state"), 2.0);
    // A run has two entries in the list of runs.
    let entries: Vec<&str> = keys(&shown["scalars"])
        .into_iter()
        .filter(|run| run.starts_with(&id))
        .collect();
    assert_eq!(entries, [eval.as_str(), train.as_str()]);
    let ends: Vec<&str> = compared["groups"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|row| row["status"].as_object().unwrap().values())
        .map(|status| status.as_str().unwrap())
        .collect();
    let count = |what: &str| ends.iter().filter(|end| end.ends_with(what)).count();
    assert_eq!((count("SUCCESS"), count("FAILURE")), (2, 1), "{ends:?}");
}

/// Every series that TensorBoard shows of a finished run is in the table of tags, and the other way round but for those
/// that only some runs have.
fn assert_series_are_those_of_the_table(shown: &Value, id: &str) {
    let mut missing: Vec<&Series> = tags::ALL.iter().collect();
    for (plugin, kind) in [
        (Plugin::Scalars, "scalars"),
        (Plugin::Histograms, "histograms"),
        (Plugin::Images, "images"),
        (Plugin::PrCurves, "pr_curves"),
        (Plugin::Text, "text"),
    ] {
        for (writer, directory) in [(Writer::Trainer, "train"), (Writer::Evaluator, "eval")] {
            let run = format!("{id}/{directory}");
            let Some(tags) = shown[kind].get(&run) else {
                continue;
            };
            for tag in keys(tags) {
                // One without a placeholder goes before "{parameter}", which any name matches.
                let matches = |series: &&Series| {
                    (series.writer, series.plugin) == (writer, plugin) && names(series, tag)
                };
                let by_length = |series: &&Series| (series.name == tag, series.name.len());
                let series = tags::ALL.iter().filter(matches).max_by_key(by_length);
                let series = series.unwrap_or_else(|| panic!("{kind} {tag} of {run}"));
                missing.retain(|it| it != &series);
                let description = &shown["descriptions"][&run][tag][1];
                if plugin != Plugin::Text && !series.description.is_empty() {
                    let shown = format!("<p>{}</p>", series.description);
                    assert_eq!(description.as_str(), Some(shown.as_str()), "{tag}");
                }
            }
        }
    }
    let missing: Vec<&str> = missing.iter().map(|series| series.name).collect();
    let of_some_runs = [
        "momentum",
        "time/allreduce_ms",
        "time/input_ms (rank {rank})",
        "gpu/utilisation",
        "gpu/memory_mib",
        "{histogram}/nonfinite",
        "rollbacks",
        "class_numbers",
        "training/rollbacks",
    ];
    assert_eq!(missing, of_some_runs);
}

/// Whether the series, or one of those that it stands for, has this tag.
fn names(series: &Series, tag: &str) -> bool {
    match series.name.split_once('{').zip(series.name.split_once('}')) {
        Some(((before, _), (_, after))) => tag.starts_with(before) && tag.ends_with(after),
        None => tag == series.name,
    }
}

/// A trainer that is stopped by SIGSTOP until this is dropped.
struct SuspendedTrainer(Pid);

impl Drop for SuspendedTrainer {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Suspend the run's trainer, once it has saved another checkpoint for the evaluator.
fn suspend_trainer(run: &Path) -> SuspendedTrainer {
    let before = checkpoints(run).pop();
    let trainer = wait_for("the trainer", || running(run, "train"));
    wait_for("a checkpoint", || {
        (checkpoints(run).pop() > before).then_some(())
    });
    hold(trainer);
    SuspendedTrainer(trainer)
}

#[test]
fn live_tensorboard_follows_a_run_that_is_stopped_fails_and_succeeds() {
    let project = Project::new();
    fs::create_dir(project.path("runs")).unwrap();
    let Some(mut tensorboard) = TensorBoard::serve(&project.path("runs")) else {
        return;
    };
    let sets = [
        "train.steps=1000000", // never over before it is held
        "train.log_every=1000",
        "train.checkpoint_every=100",
        "train.restarts=0",
    ];
    let mut child = project.start(&with_sets(&["run", "small"], &sets));
    let run = wait_for("the run", || project.newest("small"));
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    let mut shows = |state: i32, status: &str| {
        let rows = tensorboard.shows(&id, state, status);
        for reader in ["fast", "python"] {
            assert_eq!(rows[reader]["session"], format!("{id}/eval"), "{reader}");
        }
        rows
    };

    let trainer = suspend_trainer(&run);
    shows(1, "STATUS_UNKNOWN");
    signal(&child, Signal::SIGTERM);
    drop(trainer);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    shows(0, "STATUS_UNKNOWN");

    let mut child = project.start(&["resume", "small"]);
    let trainer = suspend_trainer(&run);
    shows(1, "STATUS_UNKNOWN");
    kill(trainer.0, Signal::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(137));
    shows(-1, "STATUS_FAILURE");

    respecify(&run, "restarts: 0", "restarts: 3");
    let mut child = project.start(&["resume", "small"]);
    let trainer = suspend_trainer(&run);
    // TensorBoard keeps the first status until it is started again.
    shows(1, "STATUS_FAILURE");
    let end = checkpoints(&run).pop().unwrap() + 150;
    respecify(&run, "steps: 1000000", &format!("steps: {end}"));
    kill(trainer.0, Signal::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let rows = shows(2, "STATUS_FAILURE");

    let lines = journal(&run);
    let steps = evaluated_steps(&lines);
    assert!(steps.is_sorted(), "{steps:?}");
    let last = lines.last().unwrap()["accuracy"].as_f64().unwrap();
    for reader in ["fast", "python"] {
        assert_eq!(rows[reader]["steps"], json!(steps), "{reader}");
        let found = rows[reader]["metrics"]["Precision @ 1"].as_f64();
        assert!((found.unwrap() - last).abs() < 1e-6, "{reader}");
    }
    let shown = tensorboard_shows(&project.path("runs")).unwrap();
    for reader in ["fast", "python"] {
        let row = &shown[reader]["hparams"]["groups"][&id];
        assert_eq!(
            row["status"],
            json!({ format!("{id}/eval"): "STATUS_SUCCESS" })
        );
    }
}

#[test]
fn frozen_event_file_is_read_by_tensorboard() {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/events/testdata");
    if let Some(events) = tensorboard_reads(&frozen) {
        assert_eq!(events["scalars"]["total_loss"], json!([[7, 0.75]]));
        assert_eq!(events["histograms"]["conv1/weights"], 1);
        assert_eq!(events["text"], json!(["spec"]));
        assert_eq!(events["pr_curves"], json!(["cat"]));
        assert_eq!(events["graph"], json!(["conv1/weights"]));
        assert_eq!(
            events["custom_scalars"],
            json!(["custom_scalars__config__"])
        );
    }
}
