//! `runboard rerun`: a run once more, and whether it becomes the same.

use crate::support::{
    Project, checkpoints, copy_program, json, last_weights, runboard_compute, wait_for,
};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The run of `small` that is not `other`.
fn another(project: &Project, other: &Path) -> PathBuf {
    let newest = project.newest("small").unwrap();
    assert_ne!(newest, other);
    newest
}

#[test]
fn rerun_says_what_differs_and_that_the_same_bytes_came() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "optimizer.learning_rate=0.05"]);
    let first = project.run("small");
    let id = format!("small/{}", first.file_name().unwrap().to_str().unwrap());
    let done = project.succeed(&["rerun", "small"]);
    let lines: Vec<&str> = done.out.lines().collect();
    let begin = format!("repeats {id}: the same spec, seed 7 and data ");
    assert!(lines[0].starts_with(&begin), "{}", done.out);
    assert_eq!(
        lines[1],
        "  differs    nothing that is recorded: commit, programs, machine"
    );
    assert_eq!(
        lines[2],
        "  expected   the same bytes in checkpoints of the same steps"
    );
    let end = format!("repeats {id}, with the same bytes at steps 0, 10, 20, 24");
    assert_eq!(lines.last(), Some(&&*end));
    let second = another(&project, &first);
    assert_eq!(last_weights(&first), last_weights(&second));
    let session = &json(&second.join("provenance.json"))["sessions"][0];
    assert_eq!(session["repeats"]["run"], id);
    assert_eq!(session["origins"]["optimizer.learning_rate"], "--set");
    let shown = project.succeed(&["show", "small"]).out;
    let want = format!("\n  repeats        {id}, with the same bytes at steps 0, 10, 20, 24\n");
    assert!(shown.contains(&want), "{shown}");
    assert!(shown.contains(&format!("\n    repeats {id}\n")), "{shown}");

    let told = |of: &Project| {
        let out = of.succeed(&["show", "small", "--json"]).out;
        serde_json::from_str::<Value>(&out).unwrap()["repeats"].clone()
    };
    let same = serde_json::json!([0, 10, 20, 24]);
    assert_eq!(
        (&told(&project)["outcome"], &told(&project)["same_steps"]),
        (&"same".into(), &same)
    );

    // Other bytes than expected are a failure, which names where they begin.
    let bytes = last_weights(&second);
    fs::remove_dir_all(second.join("checkpoints/step-00000024")).unwrap();
    project.succeed(&["resume", "small", "--quiet"]);
    assert_eq!(last_weights(&second), bytes);
    damage_and_digest_again(&first.join("checkpoints/step-00000020"));
    fs::remove_dir_all(second.join("checkpoints/step-00000024")).unwrap();
    let other = project.runboard(&["resume", "small", "--quiet"]);
    assert_eq!(other.code, Some(1), "{}", other.out);
    let end = format!("repeats {id}, with other bytes from step 20 on: ");
    let last = other.out.lines().last().unwrap();
    assert!(
        last.starts_with(&end) && last.ends_with("; the same at steps 0, 10"),
        "{last}"
    );
    assert_eq!(
        (&told(&project)["outcome"], &told(&project)["other_step"]),
        (&"other".into(), &20.into())
    );
    assert_eq!(told(&project)["expected"], true);
    fs::remove_dir_all(&first).unwrap();
    let shown = project.succeed(&["show", "small"]).out;
    assert!(
        shown.contains(&format!(
            "{id}, which is not there any more to compare with"
        )),
        "{shown}"
    );
}

/// Another value of a weight, in a checkpoint whose manifest knows it.
fn damage_and_digest_again(checkpoint: &Path) {
    let path = checkpoint.join("weights.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    let old = runboard::files::sha256(&bytes);
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let path = checkpoint.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    assert!(manifest.contains(&old));
    fs::write(
        &path,
        manifest.replace(&old, &runboard::files::sha256(&bytes)),
    )
    .unwrap();
}

#[test]
fn rerun_of_a_run_that_was_resumed_with_changes_takes_the_last_spec_from_the_start() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "train.steps=12", "--quiet"]);
    project.succeed(&["resume", "small", "--set", "train.steps=22", "--quiet"]);
    let first = project.run("small");
    let done = project.succeed(&["rerun", "small", "--data", "data", "--verbose"]);
    assert!(
        done.out.contains(
            "  differs    train.steps: 22 from the start, was 12 at first (resume --set)\n"
        ),
        "{}",
        done.out
    );
    let last = done.out.lines().last().unwrap();
    assert!(
        last.ends_with(", with the same bytes at steps 0, 10, 20, 21"),
        "{last}"
    );
    assert_eq!(checkpoints(&another(&project, &first)), [0, 10, 20, 21]);
}

#[test]
fn rerun_of_a_run_that_was_stopped_stops_there_too() {
    let project = Project::new();
    project.succeed(&["run", "small", "--until", "13", "--quiet"]);
    let first = project.run("small");
    let done = project.succeed(&["rerun", "small"]);
    assert!(
        done.out.contains("  until      13 of 25 steps, as small/"),
        "{}",
        done.out
    );
    let last = done.out.lines().last().unwrap();
    assert!(
        last.ends_with(", with the same bytes at steps 0, 10, 12"),
        "{last}"
    );
    let second = another(&project, &first);
    assert_eq!(last_weights(&first), last_weights(&second));
    project.succeed(&["resume", "small", "--quiet"]);
    assert_eq!(checkpoints(&second), [0, 10, 12, 20, 24]);
}

#[test]
fn rerun_begins_with_the_weights_that_the_other_run_began_with() {
    let project = Project::new();
    project.succeed(&["run", "small", "--until", "11", "--quiet"]);
    project.succeed(&[
        "run",
        "small",
        "--from",
        "small",
        "--quiet",
        "--set",
        "train.steps=11",
    ]);
    let warm = project.newest("small").unwrap();
    let done = project.succeed(&["rerun", "small", "--detach"]);
    assert!(done.out.contains("started "), "{}", done.out);
    let again = another(&project, &warm);
    let log = wait_for("the end of the detached run", || {
        let log = fs::read_to_string(again.join("supervisor.log")).ok()?;
        log.contains("\nrepeats ").then_some(log)
    });
    assert!(
        log.trim_end()
            .ends_with(", with the same bytes at steps 0, 10"),
        "{log}"
    );
    let origin =
        |run: &Path| json(&run.join("provenance.json"))["sessions"][0]["weights_from"].clone();
    assert!(origin(&warm).is_object());
    assert_eq!(origin(&warm), origin(&again));
}

#[test]
fn rerun_of_a_sweeps_point_is_a_run_of_its_own_and_a_sweep_is_refused() {
    let project = Project::new();
    project.write(
        "experiments/few.yaml",
        "extends: small\ntrain: {steps: 2}\n",
    );
    project.succeed(&["run", "few", "--sweep", "seed=3,4", "--quiet"]);
    let sweep = project.succeed(&["list", "few", "--json"]).out;
    let refused = project.runboard(&["rerun", "few"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .err
            .contains(" is a sweep; want one of its points, such as few/"),
        "{}",
        refused.err
    );
    // What a checkpoint is wanted for takes the best point: the first of those that are equal.
    let exported = project.succeed(&["export", "few", "-o", "best"]).out;
    assert!(exported.contains("-seed="), "{exported}");
    let done = project.succeed(&["rerun", "few/2"]);
    assert!(
        done.out.contains(": the same spec, seed 4 and data "),
        "{}",
        done.out
    );
    assert!(
        done.out
            .trim_end()
            .ends_with(", with the same bytes at steps 0, 1"),
        "{}",
        done.out
    );
    assert!(
        project.newest("few").unwrap().join("spec.yaml").exists(),
        "{sweep}"
    );
    // The number of a point is one of the sweep, though the name's latest run is another.
    let shown = project.succeed(&["show", "few/1"]).out;
    assert!(shown.contains("/001-seed=3"), "{shown}");
}

#[test]
fn rerun_is_refused_where_it_cannot_be_the_same() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "train.steps=2", "--quiet"]);
    let run = project.run("small");
    let refused = |arguments: &[&str]| {
        let done = project.runboard(&[&["rerun", "small"], arguments].concat());
        assert_eq!(done.code, Some(2), "{}{}", done.out, done.err);
        assert_eq!(project.run("small"), run); // no other one
        done.err
    };
    assert!(refused(&["--until", "3"]).contains("--until: got 3, want at most the 2 steps"));
    project.succeed(&[
        "data",
        "synthesize",
        "others",
        "--train-images",
        "1000",
        "--test-images",
        "200",
        "--seed",
        "2",
    ]);
    let others = refused(&["--data", "others"]);
    assert!(others.contains("rerun small/"), "{others}");
    let status = run.join("train.status.json");
    let ranks = fs::read_to_string(&status).unwrap();
    fs::write(
        &status,
        ranks
            .replace("\"ranks\":1", "\"ranks\":4")
            .replace("\"ranks\": 1", "\"ranks\": 4"),
    )
    .unwrap();
    let said = refused(&[]);
    assert!(
        said.contains("was trained by 4 ranks, and its spec lists 1: "),
        "{said}"
    );
}

#[test]
fn rerun_by_another_build_does_not_expect_the_same_bytes() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "train.steps=2", "--quiet"]);
    let programs = tempfile::tempdir().unwrap();
    let runboard = programs.path().join("runboard");
    copy_program(Path::new(crate::support::RUNBOARD), &runboard);
    let compute = programs.path().join("runboard-compute");
    copy_program(&runboard_compute(), &compute);
    // What is behind the end of a program has no say but in its digest.
    fs::File::options()
        .append(true)
        .open(&compute)
        .unwrap()
        .write_all(b"another")
        .unwrap();
    let output = project
        .command_of(&runboard, &["rerun", "small"])
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains("\n  differs    program: "), "{out}");
    assert!(
        out.contains(
            "the same bytes are not: what computes is of another build, or was not recorded\n"
        ),
        "{out}"
    );
    assert!(
        out.trim_end()
            .ends_with(", with the same bytes at steps 0, 1"),
        "{out}"
    );
}
