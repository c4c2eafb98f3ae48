//! A new run that begins with the weights of another one's checkpoint.

use crate::support::{Project, checkpoints, json, last_weights, names, pid, running, wait_for};
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A project with a run `source` of the experiment small, and an experiment `next`.
fn project() -> Project {
    let project = Project::new();
    project.write("experiments/source.yaml", "extends: small\n");
    project.write(
        "experiments/next.yaml",
        "extends: small\ntrain: {steps: 12}\n",
    );
    project.succeed(&["run", "source"]);
    project
}

fn refused(project: &Project, arguments: &[&str]) -> String {
    let done = project.runboard(&[&["run", "next"], arguments].concat());
    assert_eq!((done.code, &*done.out), (Some(2), ""), "{}", done.err);
    assert!(!project.path("runs/next").exists());
    done.err
}

/// The bytes of the averaged weights of a checkpoint.
fn averages(run: &Path, step: &str) -> Vec<u8> {
    fs::read(run.join("checkpoints").join(step).join("ema.safetensors")).unwrap()
}

#[test]
fn run_from_another_begins_with_its_averaged_weights_and_says_so() {
    let project = project();
    let source = project.run("source");
    let id = format!("source/{}", source.file_name().unwrap().to_str().unwrap());
    let done = project.succeed(&["run", "next", "--from", "source@10"]);
    let run = project.run("next");
    let origin = format!("the averaged weights of {id} after step 10");
    assert!(
        done.out.contains(&format!("\n  began with     {origin}\n")),
        "{}",
        done.out
    );
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(
        log.contains(&format!(": beginning with {origin}\n")),
        "{log}"
    );
    assert_eq!(checkpoints(&run), [0, 10, 11]);
    let files = ["manifest.json", "state.json", "weights.safetensors"];
    assert_eq!(names(&run.join("initial")), files);
    let copied = fs::read(run.join("initial/weights.safetensors")).unwrap();
    assert!(copied == averages(&source, "step-00000010"));
    let from = &json(&run.join("provenance.json"))["sessions"][0]["weights_from"];
    assert_eq!(
        (&from["run"], &from["step"], &from["group"]),
        (&id.as_str().into(), &10.into(), &"ema".into())
    );
    // A trained network's loss, not a guess's.
    let first = |run: &Path| {
        let state = json(&run.join("checkpoints/step-00000000/state.json"));
        state["first_loss"].as_f64().unwrap()
    };
    assert!(first(&run) < first(&source));
    assert!(last_weights(&run) != last_weights(&source));

    // Without a step it is the newest one; the same again is the same.
    let newest = project.prepare("next", "next/newest", &[]);
    let best = project.prepare("next", "next/best", &[]);
    project.succeed(&[
        "run",
        "next",
        "--runs",
        "others",
        "--from",
        source.to_str().unwrap(),
    ]);
    let other = project.path("others/next");
    let other = other.join(&names(&other)[0]);
    let copied = fs::read(other.join("initial/weights.safetensors")).unwrap();
    assert!(copied == averages(&source, "step-00000024"));
    for run in [newest, best] {
        copy(&other.join("initial"), &run.join("initial"));
        project.succeed(&["train", "--run", run.to_str().unwrap()]);
        assert!(last_weights(&run) == last_weights(&other));
    }
    let best = source.join("checkpoints/best").read_link().unwrap();
    let from = format!("{}@best", source.display());
    project.succeed(&["run", "next", "--runs", "more", "--from", &from]);
    let more = project.path("more/next");
    let more = more.join(&names(&more)[0]);
    let copied = fs::read(more.join("initial/weights.safetensors")).unwrap();
    assert!(copied == averages(&source, best.to_str().unwrap()));
}

#[test]
fn run_from_a_sweep_begins_with_the_weights_of_its_best_point() {
    let project = Project::new();
    project.succeed(&[
        "run",
        "small",
        "--sweep",
        "seed=1,2,3",
        "--set",
        "sweep.metric={name: loss}",
    ]);
    project.write(
        "experiments/next.yaml",
        "extends: small\ntrain: {steps: 1}\n",
    );
    project.succeed(&["run", "next", "--from", "small@last"]);
    let run = project.run("next");
    let from = &json(&run.join("provenance.json"))["sessions"][0]["weights_from"];
    let points = project.succeed(&["list", "small", "--json"]).out;
    let points: Vec<serde_json::Value> = serde_json::from_str(&points).unwrap();
    let loss = |point: &serde_json::Value| point["loss"].as_f64().unwrap();
    let best = points.iter().map(loss).fold(f64::MAX, f64::min);
    let chosen = points.iter().find(|point| point["run"] == from["run"]);
    assert_eq!(loss(chosen.unwrap()), best, "{points:?}");
    assert!(points.iter().any(|point| loss(point) > best), "{points:?}");
    let point = project.path("runs").join(from["run"].as_str().unwrap());
    let copied = fs::read(run.join("initial/weights.safetensors")).unwrap();
    assert!(copied == averages(&point, "step-00000024"));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(name)).unwrap();
    }
}

#[test]
fn warm_start_that_is_killed_at_its_beginning_ends_with_the_same_bytes_without_its_source() {
    let project = project();
    let source = project.run("source");
    let source = source.to_str().unwrap();
    project.succeed(&["run", "next", "--runs", "whole", "--from", source]);
    let whole = project.path("whole/next");
    let whole = whole.join(&names(&whole)[0]);
    // Before its trainer has begun, and before it has saved anything.
    let mut child = project.start(&["run", "next", "--from", "source"]);
    let run = wait_for("a run", || project.newest("next"));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    wait_for("the trainer's end", || {
        running(&run, "train").is_none().then_some(())
    });
    fs::remove_dir_all(project.path("runs/source")).unwrap();
    for _ in 0..2 {
        // As if no checkpoint had been saved yet.
        let _ = fs::remove_dir_all(run.join("checkpoints"));
        let mut trainer = project.start(&["train", "--run", run.to_str().unwrap()]);
        let mut lines = BufReader::new(trainer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| {
            line.unwrap()
                .contains(": beginning with the averaged weights of source/")
        }));
        trainer.kill().unwrap();
        trainer.wait().unwrap();
    }
    let _ = fs::remove_dir_all(run.join("checkpoints"));
    wait_for("a session that begins", || {
        (project.runboard(&["resume", "next"]).code == Some(0)).then_some(())
    });
    assert!(last_weights(&run) == last_weights(&whole));

    // Without a whole copy nothing is trained, least of all from fresh weights.
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    for damage in [
        (|path: &Path| fs::write(path, "x").unwrap()) as fn(&Path),
        |path| fs::remove_dir_all(path.parent().unwrap()).unwrap(),
    ] {
        damage(&run.join("initial/weights.safetensors"));
        let done = project.runboard(&["train", "--run", run.to_str().unwrap()]);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(
            done.err.contains(", of which it has no whole copy: "),
            "{}",
            done.err
        );
    }
}

#[test]
fn points_of_a_sweep_begin_with_the_weights_of_another_run_also_when_that_is_gone() {
    let project = project();
    let source = project.run("source");
    let want = averages(&source, "step-00000010");
    let step_10 = format!("{}@10", source.display());
    let from = ["--from", &*step_10, "--set", "train.steps=3"];
    let swept = ["run", "next", "--runs", "swept", "--sweep", "seeds=2"];
    project.succeed(&[&swept[..], &from].concat());
    project.succeed(&[&["run", "next"], &from[..]].concat());
    let sweep = project.path("swept/next");
    let sweep = sweep.join(&names(&sweep)[0]);
    fs::remove_dir_all(&source).unwrap();
    let shown = sweep.to_str().unwrap();
    let frozen = fs::read(sweep.join("sweep.yaml")).unwrap();
    fs::rename(sweep.join("initial"), project.path("initial")).unwrap();
    let refused = project.runboard(&["resume", shown, "--set", "sweep.seeds=3"]);
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(
        refused.err.contains("; a point has a copy: cp -a "),
        "{}",
        refused.err
    );
    assert!(fs::read(sweep.join("sweep.yaml")).unwrap() == frozen);
    fs::rename(project.path("initial"), sweep.join("initial")).unwrap();
    project.succeed(&["resume", shown, "--set", "sweep.seeds=3"]);
    let points = ["001-seed=7", "002-seed=8", "003-seed=9"].map(|name| sweep.join(name));
    for point in &points {
        let copied = fs::read(point.join("initial/weights.safetensors")).unwrap();
        assert!(copied == want, "{}", point.display());
        let from = &json(&point.join("provenance.json"))["sessions"][0]["weights_from"];
        assert_eq!(from["step"], 10);
    }
    assert!(last_weights(&points[0]) == last_weights(&project.run("next")));
    let told = project.succeed(&["show", shown]).out;
    assert!(
        told.contains("its points begin with the averaged weights of source/"),
        "{told}"
    );
}

#[test]
fn point_of_another_network_is_not_added_to_a_sweep_that_begins_with_weights() {
    let project = project();
    project.write(
        "experiments/listed.yaml",
        "extends: next\nsweep: {method: points, points: [{optimizer.learning_rate: 0.02}]}\n",
    );
    project.succeed(&[
        "run",
        "listed",
        "--from",
        "source",
        "--set",
        "train.steps=2",
    ]);
    let sweep = project.path("runs/listed");
    let sweep = sweep.join(&names(&sweep)[0]);
    let frozen = fs::read(sweep.join("sweep.yaml")).unwrap();
    let points = "sweep.points=[{optimizer.learning_rate: 0.02}, {network.local3.units: 100}]";
    let refused = project.runboard(&["resume", "listed", "--set", points]);
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(
        refused
            .err
            .contains("are of another network: local3/weights: got shape"),
        "{}",
        refused.err
    );
    assert!(fs::read(sweep.join("sweep.yaml")).unwrap() == frozen);
}

#[test]
fn weights_that_have_learnt_what_is_held_out_are_warned_of() {
    let project = project();
    let held_out = ["--set", "data.validation_images=100"];
    let run = |name: &str, more: &[&str]| {
        let steps = ["run", name, "--set", "train.steps=2"];
        let out = project.succeed(&[&steps[..], more].concat()).out;
        let warnings = out
            .lines()
            .filter(|line| line.starts_with("warning: --from"));
        warnings.collect::<Vec<_>>().join("\n")
    };
    let from_source = [&["--from", "source"], &held_out[..]].concat();
    let warned = run("next", &from_source);
    assert!(warned.contains("that are held out here"), "{warned}");
    assert!(
        warned.contains("held out none, want 100 by seed 7 as here"),
        "{warned}"
    );
    // The same images are held out from the beginning, but not by another seed; and who begins with that inherits what it has learnt.
    assert_eq!(run("source", &held_out), "");
    assert_eq!(run("next", &from_source), "");
    let other = run("next", &[&["--set", "seed=2"], &from_source[..]].concat());
    assert!(
        other.contains("held out 100 by seed 7, want 100 by seed 2"),
        "{other}"
    );
    let inherited = run("next", &[&["--from", "next"], &held_out[..]].concat());
    assert!(inherited.contains("next/"), "{inherited}");
}

#[test]
fn warm_start_that_cannot_be_is_refused_before_anything_is_created() {
    let project = project();
    let message = refused(&project, &["--from", "source@15"]);
    assert!(
        message.contains(": no checkpoint of step 15 in "),
        "{message}"
    );
    assert!(
        message.ends_with("; there are those of 0, 10, 20, 24\n"),
        "{message}"
    );
    let message = refused(&project, &["--from", "source@newest"]);
    assert_eq!(
        message,
        "error: --from source@newest: got \"newest\" after the @, want a checkpoint's step, best or last\n"
    );
    let message = refused(&project, &["--from", "sorce"]);
    assert!(
        message.starts_with("error: no run \"sorce\" in runs; did you mean 'source'?"),
        "{message}"
    );
    let wide = ["--from", "source", "--set", "network.conv2.channels=16"];
    let message = refused(&project, &wide);
    let want = "step-00000024 is of another network than this experiment's: conv2/weights: got shape [8, 8, 5, 5], want \
                [16, 8, 5, 5]\n";
    assert!(message.ends_with(want), "{message}");
    let run = project.run("source");
    fs::write(run.join("checkpoints/step-00000024/ema.safetensors"), "x").unwrap();
    let message = refused(&project, &["--from", "source"]);
    assert!(
        message.contains("ema.safetensors: got 1 bytes, want "),
        "{message}"
    );
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let message = refused(&project, &["--from", "source"]);
    assert!(message.contains(" has no checkpoint in "), "{message}");
}
