//! `compute.devices`: several processes that train together as one would.

use crate::support::{
    Project, at_work, checkpoints, children, end, hold, last_checkpoint, last_weights, names,
    recipe, saved, signal, status, tensorboard_reads, wait_for, with_sets,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runboard::checkpoint::{self, TensorGroups};
use serde_json::Value;
use std::fs;
use std::iter::zip;
use std::path::{Path, PathBuf};

fn project() -> Project {
    let project = Project::new();
    project.write("experiments/recipe.yaml", recipe(120, 50));
    project
}

/// `compute.devices` for so many ranks.
fn devices(ranks: usize) -> String {
    format!("compute.devices=[{}]", vec!["cpu"; ranks].join(", "))
}

/// Train without an evaluator. Nothing is warned of, such as ranks that do not find one another at the end.
fn train(project: &Project, name: &str, sets: &[&str]) -> PathBuf {
    let run = project.prepare("recipe", &format!("{name}/20260101-000000"), sets);
    let done = project.succeed(&["train", "--run", run.to_str().unwrap()]);
    assert!(!done.out.contains("warning"), "{}", done.out);
    run
}

/// All tensors of the last checkpoint.
fn last_tensors(run: &Path) -> TensorGroups {
    checkpoint::load(&last_checkpoint(run)).unwrap().tensors
}

/// What so many ranks made of the weights is what one process makes of them, to 1e-4.
fn assert_close(got: &TensorGroups, wanted: &TensorGroups, ranks: usize) {
    assert!(got.keys().eq(wanted.keys()));
    for (group, tensors) in wanted {
        for (want, got) in zip(tensors, &got[group]) {
            for (want, got) in zip(&want.values, &got.values) {
                let off = (want - got).abs();
                assert!(off < 1e-4, "{ranks} ranks: {group} is off by {off}");
            }
        }
    }
}

/// The processes of the ranks but the first.
fn others(run: &Path) -> Vec<Pid> {
    let trainer = status(run, "train").and_then(|status| at_work(&status));
    trainer.map_or_else(Vec::new, children)
}

/// A run of `recipe` on two devices, without an end, when it has saved a checkpoint.
fn under_way(project: &Project) -> PathBuf {
    wait_for("a checkpoint of two ranks", || {
        let run = project.newest("recipe")?;
        (saved(&run) > 1 && others(&run).len() == 1).then_some(run)
    })
}

#[test]
fn ranks_train_as_one_process_does() {
    let project = project();
    // At a higher rate a relu or a maximum that the last bits decide now and then grows to a difference of 1e-3.
    let sets = [
        "train.steps=200",
        "train.scalars_every=1",
        "optimizer.learning_rate=0.01",
    ];
    let train = |name: &str, ranks: usize| {
        let devices = devices(ranks);
        let sets: Vec<&str> = sets.into_iter().chain([devices.as_str()]).collect();
        train(&project, name, &sets)
    };
    let one = train("one", 1);
    let wanted = last_tensors(&one);
    let last_loss = |run: &Path| status(run, "train").unwrap()["loss"].as_f64().unwrap();
    for ranks in 2..=4 {
        let run = train(&format!("of{ranks}"), ranks);
        let off = (last_loss(&run) / last_loss(&one) - 1.0).abs();
        assert!(off < 1e-5, "{ranks} ranks: the last loss is off by {off}");
        if let Some(curves) = tensorboard_reads(&run.join("train")) {
            let one = tensorboard_reads(&one.join("train")).unwrap();
            let losses = |curves: &Value| curves["scalars"]["total_loss (raw)"].clone();
            let (losses, wanted) = (losses(&curves), losses(&one));
            assert_eq!(losses.as_array().unwrap().len(), 200);
            for (loss, want) in zip(losses.as_array().unwrap(), wanted.as_array().unwrap()) {
                let off = (loss[1].as_f64().unwrap() / want[1].as_f64().unwrap() - 1.0).abs();
                assert!(off < 1e-5, "{ranks} ranks: {loss} is off by {off}");
            }
            // What the ranks do together has its curves, and each waits for batches.
            let has = |curves: &Value, tag: &str| curves["scalars"].get(tag).is_some();
            assert!(has(&curves, "time/allreduce_ms") && !has(&one, "time/allreduce_ms"));
            for rank in 0..5 {
                let tag = format!("time/input_ms (rank {rank})");
                assert_eq!(has(&curves, &tag), (1..ranks).contains(&rank), "{tag}");
            }
        }
        assert_close(&last_tensors(&run), &wanted, ranks);
        assert!(names(&run).contains(&"train-1.log".to_owned()));
    }
    // The same number of ranks has the same bits.
    let again = train("again", 3);
    assert!(last_weights(&again) == last_weights(&project.run("of3")));
}

#[test]
fn ranks_train_as_one_process_does_where_libtorch_computes() {
    let project = project();
    let train = |name: &str, ranks: usize| {
        let kernel = "network.conv2.kernel=3";
        let sets = ["train.steps=20", kernel, &devices(ranks)];
        last_tensors(&train(&project, name, &sets))
    };
    let one = train("one", 1);
    for ranks in [2, 3] {
        assert_close(&train(&format!("of{ranks}"), ranks), &one, ranks);
    }
}

#[test]
fn two_and_four_ranks_end_with_the_bytes_of_one_process() {
    let project = project();
    let train_with = |name: &str, sets: &[&str]| train(&project, name, sets);
    let train = |name: &str, ranks: usize| {
        let sets = ["train.batch_size=64", "train.steps=60", &devices(ranks)];
        train_with(name, &sets)
    };
    let one = last_weights(&train("one", 1));
    for ranks in [2, 4] {
        let run = train(&format!("of{ranks}"), ranks);
        assert!(last_weights(&run) == one, "{ranks} ranks");
    }
    // And so does a run whose number of ranks changes on the way.
    let run = train("half", 1);
    fs::remove_dir_all(run.join("checkpoints/step-00000059")).unwrap();
    let done = project.succeed(&with_sets(
        &["resume", run.to_str().unwrap()],
        &[&devices(2)],
    ));
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(!log.contains("last bits"), "{log}\n{}", done.out);
    assert!(last_weights(&run) == one);

    // Muon's products are made by each rank, with the threads that it has: four, or two.
    let muon = |name: &str, ranks: usize| {
        let sets = [
            "train.batch_size=64",
            "train.steps=20",
            "optimizer.name=muon",
            "network.local3.units=200",
            "network.local4.units=130",
            "compute.threads=4",
            &devices(ranks),
        ];
        last_weights(&train_with(name, &sets))
    };
    assert!(muon("muon-of2", 2) == muon("muon-of1", 1));
}

#[test]
fn gradients_that_travel_in_bf16_train_nearly_as_others_do() {
    let project = project();
    let train = |name: &str, ranks: usize, precision: &str| {
        let precision = format!("compute.reduce_precision={precision}");
        let sets = ["train.batch_size=64", "train.steps=60", &devices(ranks)];
        train(&project, name, &[&sets[..], &[&precision]].concat())
    };
    let loss = |run: &Path| status(run, "train").unwrap()["loss"].as_f64().unwrap();
    let one = train("one", 1, "bf16"); // of which nothing travels
    for ranks in [2, 4] {
        if ranks == 2 {
            let exact = train("exact", ranks, "float32");
            assert!(last_weights(&exact) == last_weights(&one));
        }
        let of = |name: &str| train(&format!("{name}-of{ranks}"), ranks, "bf16");
        let run = of("run");
        let off = (loss(&run) / loss(&one) - 1.0).abs();
        assert!(
            0.0 < off && off < 0.01,
            "{ranks} ranks: the loss is off by {off}"
        );
        assert!(last_weights(&run) != last_weights(&one));
        assert!(last_weights(&of("again")) == last_weights(&run));
    }
    let run = project.run("run-of2");
    fs::remove_dir_all(run.join("checkpoints/step-00000059")).unwrap();
    let four = devices(4);
    project.succeed(&with_sets(&["resume", run.to_str().unwrap()], &[&four]));
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(log.contains("4 devices train now, 2 before"), "{log}");
}

#[test]
fn lost_rank_is_named_and_training_goes_on_to_the_same_bytes() {
    let project = project();
    let two = devices(2);
    let sets = [
        two.as_str(),
        "train.steps=1000000",
        "compute.timeout_secs=10",
    ];
    let child = project.start(&with_sets(&["run", "recipe"], &sets));
    let run = under_way(&project);
    // Frozen it is lost as well as killed.
    let frozen = others(&run)[0];
    hold(frozen);
    let lost = |pid: Pid| format!("rank 1 on {} (pid {pid})", host());
    let second = wait_for("another rank", || {
        others(&run).into_iter().find(|&pid| pid != frozen)
    });
    let begun = checkpoints(&run).pop().unwrap();
    wait_for("progress", || {
        (checkpoints(&run).pop()? > begun).then_some(())
    });
    kill(second, Signal::SIGKILL).unwrap();
    wait_for("a third rank", || {
        others(&run).into_iter().find(|&pid| pid != second)
    });
    signal(&child, Signal::SIGINT);
    let done = end(child);
    assert_eq!(done.code, Some(130), "{}\n{}", done.out, done.err);
    let silent = format!("no answer from {} within 10 s", lost(frozen));
    assert!(done.out.contains(&silent), "{}", done.out);
    let killed = format!("{} is gone: it was killed", lost(second));
    assert!(done.out.contains(&killed), "{}", done.out);
    assert!(others(&run).is_empty());

    let steps = checkpoints(&run).pop().unwrap() + 1;
    let whole = train(&project, "whole", &[&two, &format!("train.steps={steps}")]);
    assert!(last_weights(&run) == last_weights(&whole));
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn ranks_end_with_their_trainer_and_another_number_of_them_goes_on() {
    let project = project();
    let two = devices(2);
    let child = project.start(&with_sets(
        &["run", "recipe"],
        &[&two, "train.steps=1000000"],
    ));
    let run = under_way(&project);
    let pids = others(&run);
    let trainer = at_work(&status(&run, "train").unwrap()).unwrap();
    signal(&child, Signal::SIGKILL);
    child.wait_with_output().unwrap();
    let ended = |pid: Pid| !Path::new(&format!("/proc/{pid}")).exists();
    wait_for("the end of all ranks", || {
        pids.iter()
            .chain([&trainer])
            .all(|&pid| ended(pid))
            .then_some(())
    });
    let state = &status(&run, "train").unwrap()["process"]["state"];
    assert_eq!(state, &Value::from("stopped"));
    let begun = checkpoints(&run).pop().unwrap();

    let steps = format!("train.steps={}", begun + 20);
    let done = project.succeed(&with_sets(&["resume", "recipe"], &[&devices(3), &steps]));
    let warning =
        "3 devices train now, 2 before: the last bits of the weights depend on the number";
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(log.contains(warning), "{log}\n{}", done.out);
    assert_eq!(checkpoints(&run).pop(), Some(begun + 19));
}

#[test]
fn batch_that_the_devices_cannot_share_is_refused() {
    let project = Project::new();
    let done = project.runboard(&with_sets(&["run", "small"], &[&devices(3)]));
    assert_eq!(done.code, Some(2));
    let error = "got a batch of 16 images for 3 devices, want an equal part for each: 15 or 18 images, or 2 or 4 devices, say";
    assert!(done.err.contains(error), "{}", done.err);
    assert!(!project.path("runs/small").exists());
}

#[test]
fn device_that_is_not_there_is_named_by_its_field() {
    let project = Project::new();
    for (set, field) in [
        ("compute.devices=[cpu, cuda:77]", "compute.devices[1]"),
        ("eval.device=cuda:77", "eval.device"),
    ] {
        for command in ["run", "check"] {
            let done = project.runboard(&with_sets(&[command, "small"], &[set]));
            assert_eq!(done.code, Some(2), "{}", done.err);
            let error = format!("{field}: got 'cuda:77', but libtorch sees ");
            assert!(done.err.contains(&error), "{}", done.err);
        }
    }
    assert!(!project.path("runs/small").exists());
}

#[test]
fn rank_that_cannot_begin_is_named() {
    let project = project();
    let run = project.prepare("recipe", "a/20260101-000000", &[&devices(2)]);
    // Its log cannot be written.
    fs::create_dir(run.join("train-1.log")).unwrap();
    let done = project.runboard(&["train", "--run", run.to_str().unwrap()]);
    assert_eq!(done.code, Some(1));
    let error = "error: failed to start the process train-1: Is a directory";
    assert!(done.err.contains(error), "{}", done.err);
}
