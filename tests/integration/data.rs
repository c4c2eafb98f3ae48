//! A run's data between its sessions: other data, moved data, no data.

use crate::support::{Done, Project};
use std::fs;

/// A project whose experiment `real` has images of its own in `real/`, and a finished run of it.
fn finished() -> Project {
    let project = Project::new();
    project.write(
        "experiments/real.yaml",
        "extends: small\ndata: {source: cifar10, folder: real}\ntrain: {steps: 2}\n",
    );
    let record = |label: u8| [&[label], [128u8; 3072].as_slice()].concat();
    for batch in 1..=5 {
        project.write(&format!("real/data_batch_{batch}.bin"), record(1).repeat(4));
    }
    project.write("real/test_batch.bin", record(2).repeat(4));
    project.succeed(&["run", "real"]);
    project
}

fn refused(project: &Project, arguments: &[&str]) -> String {
    let done = project.runboard(arguments);
    assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
    done.err
}

#[test]
fn other_data_are_refused_by_resume_trainer_and_evaluator() {
    let project = finished();
    project.succeed(&["resume", "real"]);
    let path = project.path("real/data_batch_4.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] = 3;
    fs::write(&path, bytes).unwrap();
    for command in [&["resume", "real"][..], &["train", "--run", "real"]] {
        let error = refused(&project, command);
        assert!(
            error.contains("real holds other data than real/2"),
            "{error}"
        );
        assert!(error.contains("data_batch_4.bin has "), "{error}");
    }
    project.write("real/batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
    let error = refused(&project, &["eval", "--once", "--run", "real"]);
    assert!(
        error.contains("class 0 is named \"a\", want \"airplane\""),
        "{error}"
    );
}

#[test]
fn moved_data_are_taken_from_their_new_place_and_never_fetched() {
    let project = finished();
    fs::rename(project.path("real"), project.path("moved")).unwrap();
    let error = refused(&project, &["resume", "real"]);
    assert!(error.contains("--data DIR"), "{error}");
    refused(&project, &["train", "--run", "real"]);
    assert!(!project.path("real").exists());
    project.succeed(&["resume", "real", "--data", "moved"]);
    project.succeed(&["eval", "--once", "--run", "real"]);

    fs::rename(project.path("moved"), project.path("again")).unwrap();
    let mut command = project.command(&["resume", "real"]);
    command.env("RUNBOARD_DATA", "again");
    let done = Done::of(command.output().unwrap());
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    project.succeed(&["resume", "real"]);
}

#[test]
fn bad_images_are_refused_before_a_run_is_created() {
    let project = finished();
    project.write("real/data_batch_3.bin", [255; 3073]);
    project.write("experiments/other.yaml", "extends: real\n");
    let error = refused(&project, &["run", "other"]);
    assert!(error.contains("data_batch_3.bin: record 0 "), "{error}");
    assert!(!project.path("runs/other").exists());
}
