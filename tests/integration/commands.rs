//! Printed commands do what they say when they are pasted into a shell.

use crate::support::{Done, Project, at_work, names, respecify, status, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// An experiment that is over when it is told.
const ENDLESS: [&str; 4] = [
    "--set",
    "train.steps=1000000",
    "--set",
    "train.log_every=1000",
];

/// What follows a label in a line of the output: a command, or the one of the project's Makefile and another.
fn printed<'a>(out: &'a str, label: &str) -> Vec<&'a str> {
    let rest = out.lines().find_map(|line| line.split_once(label));
    let (_, rest) = rest.unwrap_or_else(|| panic!("no {label:?} in {out}"));
    rest.trim().split(", or: ").collect()
}

/// Pastes a command into a shell in the project's directory.
fn paste(project: &Project, command: &str) -> Done {
    let path = env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-c", command])
        .current_dir(project.path(""))
        .env("PATH", format!("{}:{path}", project.path("bin").display()))
        .env_remove("RUNBOARD_DATA")
        .stdin(Stdio::null());
    Done::of(shell.output().unwrap())
}

fn pasted(project: &Project, command: &str) -> Done {
    let done = paste(project, command);
    assert_eq!(done.code, Some(0), "{command}\n{}\n{}", done.out, done.err);
    done
}

fn is_running(run: &Path) -> bool {
    status(run, "supervisor").is_some_and(|status| at_work(&status).is_some())
}

/// A project with a program `tensorboard`, which wants a directory with events.
fn project() -> Project {
    let project = Project::new();
    project.write(
        "bin/tensorboard",
        "#!/bin/sh\ntest \"$1\" = --logdir && ls \"$2\"/*/train\n",
    );
    let program = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("bin/tensorboard"), program).unwrap();
    project
}

/// Starts two runs of an experiment and follows, stops and resumes the first one as printed. Checks the commands that
/// the Makefile would run, if there are any.
fn paste_every_command(project: &Project, runs: &str, made: bool) {
    let start = [&["run", "small", "--detach", "--runs", runs], &ENDLESS[..]].concat();
    let out = project.succeed(&start).out;
    let home = project.path(&runs.replace("$$", "$")).join("small");
    let first: PathBuf = home.join(names(&home).remove(0));
    project.succeed(&start); // from now on, small alone is another run
    let second = home.join(names(&home).pop().unwrap());
    assert_ne!(first, second);
    wait_for("a step of the first run", || {
        let step = status(&first, "train")?["step"].as_u64()?;
        (step > 0).then_some(())
    });

    // It follows until it is told to end.
    let follow = printed(&out, "to follow it ").remove(0);
    let done = paste(project, &format!("timeout 1 {follow}"));
    assert_eq!(done.code, Some(124), "{follow}\n{}", done.err);
    pasted(project, printed(&out, "to see curves ").last().unwrap());

    let stop = printed(&out, "to stop it ");
    check_make(project, &stop, "stop", &first, made);
    let out = pasted(project, stop.last().unwrap()).out;
    assert!(!is_running(&first) && is_running(&second), "{out}");

    // The last checkpoint came when the evaluator was asked to stop as well.
    let score = printed(&out, "; to score: ").remove(0);
    pasted(project, score);
    let id = format!("small/{}", first.file_name().unwrap().display());
    let again = project.succeed(&["stop", &id, "--runs", runs]).out;
    assert!(!again.contains("not scored"), "{again}");

    let step = status(&first, "train").unwrap()["step"].as_u64().unwrap();
    respecify(&first, "steps: 1000000", &format!("steps: {}", step + 3));
    let resume = printed(&out, "to go on ");
    check_make(project, &resume, "resume", &first, made);
    let out = pasted(project, resume.last().unwrap()).out;
    assert!(out.contains(" is finished: "), "{out}");
    pasted(project, printed(&out, "to see them ").last().unwrap());
    let id = format!("small/{}", second.file_name().unwrap().display());
    project.succeed(&["stop", &id, "--runs", runs]);
}

fn check_make(project: &Project, commands: &[&str], command: &str, run: &Path, made: bool) {
    assert_eq!(commands.len(), 1 + usize::from(made), "{commands:?}");
    if made {
        let make = commands[0].strip_prefix("make ").unwrap();
        let shown = pasted(project, &format!("make -n {make}")).out;
        let id = run.file_name().unwrap().to_str().unwrap();
        assert!(shown.contains(&format!(" {command} small/{id}")), "{shown}");
    }
}

#[test]
fn commands_of_a_run_mean_that_run_wherever_the_runs_are() {
    paste_every_command(&project(), "my $$runs; it's", false);
}

#[test]
fn make_targets_of_a_run_mean_that_run() {
    let project = project();
    project.write("Makefile", include_str!("../../Makefile"));
    paste_every_command(&project, "runs", true);
}

#[test]
fn list_says_how_to_start_a_run_there() {
    let project = project();
    let out = project.succeed(&["list", "--runs", "my runs"]).out;
    let start = printed(&out, "to start one: ").remove(0);
    let out = pasted(&project, start).out;
    assert!(out.contains(" is finished: 25 of 25 steps"), "{out}");
    let list = project
        .runboard(&["resume", "smaal", "--runs", "my runs"])
        .err;
    let list = list.split('`').nth(1).unwrap();
    assert!(pasted(&project, list).out.contains("finished"), "{list}");
    fs::remove_dir_all(project.path("experiments")).unwrap();
    assert_eq!(
        project.succeed(&["list"]).out,
        "no runs in runs, and no experiments in experiments/ to run\n"
    );
}

#[test]
fn resume_says_how_to_name_moved_data() {
    let project = project();
    project.succeed(&[
        "run",
        "small",
        "--runs",
        "my runs",
        "--set",
        "train.steps=2",
    ]);
    fs::rename(project.path("data"), project.path("moved data")).unwrap();
    fs::write(project.path("data"), "in the way").unwrap();
    let error = project.runboard(&["resume", "small", "--runs", "my runs", "--data", "nowhere"]);
    assert_eq!(error.code, Some(2), "{}", error.err);
    let resume = printed(&error.err, "elsewhere: ").remove(0);
    pasted(&project, &resume.replace("DIR", "'moved data'"));
}
