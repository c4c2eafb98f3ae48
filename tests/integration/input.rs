//! What a user can get wrong: one clear message, exit code 2, nothing created.

use crate::support::{Done, Project};
use std::fs;

fn refused(project: &Project, arguments: &[&str]) -> String {
    let done = project.runboard(arguments);
    assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
    assert!(
        !project.path("runs").exists(),
        "a run directory was created"
    );
    done.err
}

#[test]
fn bad_spec_is_refused_and_nothing_is_created() {
    let project = Project::new();
    project.write(
        "experiments/bad.yaml",
        "extends: small\ntrain:\n  batch_sise: 12\n",
    );
    let error = refused(&project, &["run", "bad"]);
    assert!(
        error.starts_with("error: experiments/bad.yaml:3:3: train.batch_sise: "),
        "{error}"
    );
    assert!(error.contains("did you mean 'batch_size'?"), "{error}");
    assert!(!project.path("data").exists());

    let error = refused(&project, &["run", "smal"]);
    assert!(error.contains("did you mean 'small'?"), "{error}");
    let error = refused(&project, &["run", "small", "--set", "train.steps=0"]);
    assert!(error.contains("--set train.steps=0: "), "{error}");
    let error = refused(&project, &["check", "small", "--set", "compute.device=tpu"]);
    assert!(error.contains("compute.device"), "{error}");
    assert!(refused(&project, &["frobnicate"]).contains("unrecognized subcommand"));
}

#[test]
fn check_shows_the_resolved_spec() {
    let project = Project::new();
    let out = project
        .succeed(&["check", "small", "--data", "some: where"])
        .out;
    assert!(out.starts_with("# small: ok, device "), "{out}");
    assert!(out.contains("steps: 25"), "{out}");
    assert!(out.contains("ema_decay: 0.9999"), "{out}");
    assert!(out.contains("folder: 'some: where'"), "{out}");
}

#[test]
fn fields_shows_what_matches_and_refuses_an_unknown_pattern() {
    let project = Project::new();
    let out = project.succeed(&["fields", "train.steps"]).out;
    assert!(
        out.starts_with("train.steps\n    default  100000\n"),
        "{out}"
    );
    // In no field's path, but in what one means.
    let out = project.succeed(&["fields", "TF32"]).out;
    assert!(out.starts_with("compute.precision\n"), "{out}");
    let error = refused(&project, &["fields", "batchsize"]);
    assert!(
        error.contains("did you mean train.batch_size or eval.batch_size?"),
        "{error}"
    );
    // What users of other programs call one.
    let out = project.succeed(&["fields", "lr"]).out;
    assert!(
        out.starts_with("optimizer.learning_rate\n") && !out.contains("norm.name"),
        "{out}"
    );
    for set in ["lr=0.1", "optimizer.lr=0.1"] {
        let error = refused(&project, &["check", "small", "--set", set]);
        assert!(
            error.ends_with("; did you mean 'optimizer.learning_rate'?\n"),
            "{error}"
        );
    }
    assert!(refused(&project, &["fields", "seed", "--schema"]).contains("cannot be used with"));
}

#[test]
fn frozen_spec_is_versioned_and_a_later_version_is_refused() {
    let project = Project::new();
    let run = project.fresh("later", &[]);
    let path = run.join("spec.yaml");
    let spec = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("version: 99\n{spec}")).unwrap();
    for command in ["train", "eval", "resume"] {
        let directory = run.to_str().unwrap();
        let done = match command {
            "resume" => project.runboard(&[command, directory]),
            _ => project.runboard(&[command, "--run", directory]),
        };
        assert_eq!(done.code, Some(2), "{command}: {}", done.err);
        let error = "spec.yaml:1:10: version: got 99, want a version from 1 to ";
        assert!(done.err.contains(error), "{command}: {}", done.err);
    }
    assert!(!run.join("checkpoints").exists());
}

#[test]
fn damaged_image_is_named_by_file_and_offset() {
    let project = Project::new();
    project.write(
        "experiments/real.yaml",
        "extends: small\ndata: {source: cifar10, folder: real}\n",
    );
    let record = |label: u8| [&[label], [128u8; 3072].as_slice()].concat();
    for batch in 1..=5 {
        project.write(&format!("real/data_batch_{batch}.bin"), record(1).repeat(4));
    }
    project.write("real/test_batch.bin", record(2).repeat(4));
    let check = || project.runboard(&["data", "check", "real"]);
    let done: Done = check();
    assert_eq!(done.code, Some(0), "{}", done.err);

    let mut wrong = record(1).repeat(4);
    wrong[3073] = 10;
    project.write("real/data_batch_3.bin", wrong);
    let done = check();
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.contains("data_batch_3.bin") && done.err.contains("3073"),
        "{}",
        done.err
    );

    project.write("real/data_batch_3.bin", &record(1).repeat(4)[..7000]);
    let done = check();
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.contains("data_batch_3.bin") && done.err.contains("6146"),
        "{}",
        done.err
    );
}

#[test]
fn failed_download_says_how_to_go_on() {
    let project = Project::new();
    // Nobody listens on the discard port of the loopback interface.
    let done = project.command(&["data", "fetch", "images"]);
    let mut done = done;
    let done = Done::of(
        done.env(
            "RUNBOARD_CIFAR10_URL",
            "http://127.0.0.1:9/cifar-10-binary.tar.gz",
        )
        .output()
        .unwrap(),
    );
    assert_ne!(done.code, Some(0));
    for way in ["runboard data import", "source: synthetic", "--data DIR"] {
        assert!(done.err.contains(way), "no {way} in: {}", done.err);
    }
}

#[test]
fn output_that_does_not_arrive_is_a_failure() {
    let project = Project::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    for command in [["fields", "--schema"], ["check", "small"]] {
        let mut command = project.command(&command);
        let done = Done::of(command.stdout(full.try_clone().unwrap()).output().unwrap());
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(
            done.err
                .starts_with("error: failed to write the output: No space left"),
            "{}",
            done.err
        );
    }
}
