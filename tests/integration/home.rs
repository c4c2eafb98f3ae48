//! Experiments, runs and data are found from any directory.

use crate::support::{Done, Project, RUNBOARD, copy_program, names, runboard_compute};
use std::fs;
use std::path::Path;
use std::process::Command;

fn succeeded(command: &mut Command) -> Done {
    let done = Done::of(command.output().unwrap());
    assert_eq!(
        done.code,
        Some(0),
        "{command:?}\n{}\n{}",
        done.out,
        done.err
    );
    done
}

/// The command that follows a label in a line of the output.
fn printed<'a>(out: &'a str, label: &str) -> &'a str {
    let rest = out.lines().find_map(|line| line.split_once(label));
    let (_, rest) = rest.unwrap_or_else(|| panic!("no {label:?} in {out}"));
    rest.trim()
}

#[test]
fn experiments_runs_and_data_are_those_of_the_nearest_directory_upwards() {
    let project = Project::new();
    let below = project.path("notes/today");
    fs::create_dir_all(&below).unwrap();
    let at = |arguments: &[&str]| succeeded(project.command(arguments).current_dir(&below));
    let out = at(&["run", "small", "--set", "train.steps=2", "--detach"]).out;
    let run = project.run("small");
    let stop = printed(&out, "to stop it ");
    let mut shell = Command::new("bash");
    succeeded(shell.args(["-c", stop]).current_dir(&below));
    at(&["resume", "small"]);
    assert!(at(&["list"]).out.contains("finished"));
    assert!(run.join("data.json").exists() && project.path("data").is_dir());
    assert_eq!(names(&below), [""; 0]);
    // What is named on the command line is meant from here.
    at(&[
        "run",
        "small",
        "--runs",
        "r",
        "--data",
        "d",
        "--set",
        "train.steps=1",
    ]);
    assert_eq!(names(&below), ["d", "r"]);
}

#[test]
fn variable_names_the_home_from_anywhere() {
    let project = Project::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |arguments: &[&str], home: &str| {
        let mut command = project.command(arguments);
        command.current_dir(elsewhere.path());
        command
            .env("PLACE", project.path(""))
            .env("RUNBOARD_HOME", home);
        Done::of(command.output().unwrap())
    };
    let run = ["run", "small", "--set", "train.steps=2"];
    assert_eq!(at(&run, "$PLACE").code, Some(0));
    project.run("small");
    assert!(at(&["list"], "$PLACE").out.contains("finished"));
    let done = at(&["list"], "$PLACE/typo");
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(
        done.err.contains("RUNBOARD_HOME: no directory "),
        "{}",
        done.err
    );
    assert_eq!(names(elsewhere.path()), [""; 0]);
}

#[test]
fn installed_experiments_are_used_where_there_are_no_others() {
    let project = Project::new();
    let prefix = tempfile::tempdir().unwrap();
    let shipped = prefix.path().join("share/runboard/experiments");
    fs::create_dir_all(&shipped).unwrap();
    fs::write(shipped.join("theirs.yaml"), "seed: 5").unwrap();
    let program = prefix.path().join("bin/runboard");
    copy_program(Path::new(RUNBOARD), &program);
    copy_program(
        &runboard_compute(),
        &prefix.path().join("bin/runboard-compute"),
    );
    let check = |name: &str, place| {
        let mut command = Command::new(&program);
        let command = command.args(["check", name]).current_dir(place);
        Done::of(command.env_remove("RUNBOARD_HOME").output().unwrap())
    };
    let done = check("theirs", prefix.path().into());
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("\nseed: 5\n"), "{}", done.out);
    assert_eq!(check("small", project.path("")).code, Some(0));
    assert_eq!(check("theirs", project.path("")).code, Some(2));
}
