//! A run's data between its sessions: other data, moved data, no data.

use crate::support::{Done, Project, names, with_sets};
use std::fs;
use std::process::Command;

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
fn refused_resume_does_not_change_where_a_running_run_has_its_data() {
    let project = finished();
    let sets = ["train.steps=1000000", "train.log_every=1000"];
    project.succeed(&with_sets(&["run", "real", "--detach"], &sets));
    let run = project.newest("real").unwrap();
    fs::create_dir(project.path("copy")).unwrap();
    for name in names(&project.path("real")) {
        let to = project.path("copy").join(&name);
        fs::copy(project.path("real").join(&name), to).unwrap();
    }
    let before = fs::read_to_string(run.join("data.json")).unwrap();
    let error = refused(&project, &["resume", "real", "--data", "copy"]);
    assert!(error.contains(" is already running ("), "{error}");
    let after = fs::read_to_string(run.join("data.json")).unwrap();
    project.succeed(&["stop", "real"]);
    assert_eq!(after, before);
}

#[test]
fn run_that_has_lost_the_record_of_its_data_says_which_it_takes_for_them() {
    let project = finished();
    let run = project.run("real");
    fs::remove_file(run.join("data.json")).unwrap();
    let done = project.succeed(&["resume", "real"]);
    let said = format!("{}{}", done.out, done.err);
    let warning = "has no record of the data that it began with (";
    assert!(said.contains(warning), "{said}");
    let done = project.succeed(&["resume", "real"]);
    assert!(!format!("{}{}", done.out, done.err).contains(warning));
}

#[test]
fn bad_variable_ends_no_resume_that_does_not_need_it() {
    let project = finished();
    for option in [&[][..], &["--data", "real"]] {
        let mut command = project.command(&[&["resume", "real"], option].concat());
        command.env("RUNBOARD_DATA", "$RUNBOARD_NOT_SET/x");
        let done = Done::of(command.output().unwrap());
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
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

#[test]
fn named_directory_without_images_is_refused_and_nothing_is_created() {
    let project = finished();
    project.write(
        "experiments/other.yaml",
        "extends: real\ndata:\n  folder: nowhere\n",
    );
    let typo = project.path("typo").display().to_string();
    let before = names(&project.path(""));
    let official = |command: &mut Command| {
        // If it is asked for all the same.
        let command = command.env("RUNBOARD_CIFAR10_URL", "http://127.0.0.1:9/");
        let done = Done::of(command.output().unwrap());
        assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
        done.err
    };
    let option = ["run", "real", "--data", &typo];
    let error = official(&mut project.command(&option));
    let wanted = format!("error: --data: no CIFAR-10 binary files in {typo}: want ");
    assert!(error.starts_with(&wanted), "{error}");
    assert!(error.contains(&format!(" data fetch {typo}\n")), "{error}");
    let mut command = project.command(&["run", "real"]);
    let error = official(command.env("RUNBOARD_DATA", &typo));
    let wanted = format!("error: RUNBOARD_DATA: no CIFAR-10 binary files in {typo}: ");
    assert!(error.starts_with(&wanted), "{error}");
    let error = official(&mut project.command(&["run", "other"]));
    let nowhere = project.path("nowhere");
    let wanted = format!(
        "error: experiments/other.yaml:3:11: no CIFAR-10 binary files in {}: ",
        nowhere.display()
    );
    assert!(error.starts_with(&wanted), "{error}");
    assert_eq!(names(&project.path("")), before);
}
