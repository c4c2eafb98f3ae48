//! Paths as users write them, wherever one is read.

use crate::support::{Done, Project, names};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Run runboard to its end, with a home directory in the project.
fn at_home(project: &Project, arguments: &[&str], data: Option<&str>) -> Done {
    let mut command = project.command(arguments);
    command
        .env("HOME", project.path("home"))
        .env("PLACE", project.path("place"))
        .env_remove("NOWHERE");
    if let Some(data) = data {
        command.env("RUNBOARD_DATA", data);
    }
    Done::of(command.output().unwrap())
}

#[test]
fn home_and_variables_are_expanded_wherever_a_path_is_read() {
    let project = Project::new();
    project.write("home/e/its.yaml", "data: {folder: '${PLACE}/x'}");
    let home = project.path("home").display().to_string();
    let place = project.path("place").display().to_string();
    for (arguments, data, want) in [
        (
            &["check", "small", "--set", "data.folder=~/x"][..],
            None,
            format!("folder: {home}/x"),
        ),
        (
            &["check", "small", "--data", "$PLACE/x"],
            None,
            format!("folder: {place}/x"),
        ),
        (
            &["check", "small"],
            Some("~/x"),
            format!("folder: {home}/x"),
        ),
        (
            &["check", "its", "--experiments", "~/e"],
            None,
            format!("folder: {place}/x"),
        ),
        (
            &["check", "~/e/its.yaml"],
            None,
            format!("folder: {place}/x"),
        ),
        (
            &["list", "--runs", "~"],
            None,
            format!("no runs in {home};"),
        ),
        (&["data", "import", "~/x"], None, format!("{home}/x")),
        (
            &["data", "import", "x", "--into", "$PLACE"],
            None,
            "x/train".to_owned(),
        ),
        (&["data", "check", "${PLACE}/x"], None, format!("{place}/x")),
        (
            &["resume", "~/x"],
            None,
            format!("{home}/x is no run directory"),
        ),
        (
            &["train", "--run", "~/x"],
            None,
            format!("{home}/x is no run directory"),
        ),
    ] {
        let done = at_home(&project, arguments, data);
        let said = format!("{}{}", done.out, done.err);
        assert!(said.contains(&want), "{arguments:?}: no {want:?} in {said}");
        assert!(matches!(done.code, Some(0 | 2)), "{arguments:?}: {said}");
    }
    assert!(!project.path("~").exists());
}

#[test]
fn variable_that_is_not_set_is_named_and_nothing_created() {
    let project = Project::new();
    for (arguments, data) in [
        (
            &["run", "small", "--set", "data.folder=$NOWHERE/x"][..],
            None,
        ),
        (&["run", "small", "--data", "${NOWHERE}/x"], None),
        (&["run", "small"], Some("$NOWHERE")),
        (&["run", "small", "--runs", "$NOWHERE/x"], None),
        (&["run", "small", "--experiments", "$NOWHERE/x"], None),
        (&["resume", "small", "--data", "$NOWHERE/x"], None),
        (&["list", "--runs", "$NOWHERE/x"], None),
        (&["data", "fetch", "$NOWHERE/x"], None),
        (&["data", "import", "$NOWHERE/x"], None),
        (&["data", "import", "x", "--into", "$NOWHERE/x"], None),
        (&["data", "synthesize", "$NOWHERE/x"], None),
        (&["data", "check", "$NOWHERE/x"], None),
    ] {
        let done = at_home(&project, arguments, data);
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.err);
        let want = "the variable NOWHERE is not set or empty";
        assert!(done.err.contains(want), "{arguments:?}: {}", done.err);
    }
    assert_eq!(names(&project.path("")), ["experiments"]);
}

#[test]
fn run_trains_and_resumes_in_directories_with_a_dollar_in_their_names() {
    let project = Project::new();
    let sets = ["--runs", "a$$b", "--set", "data.folder=c$$d"];
    project.succeed(&[&["run", "small"], &sets[..]].concat());
    assert!(project.path("a$b/small").is_dir() && project.path("c$d").is_dir());
    project.succeed(&["resume", "small", "--runs", "a$$b"]);
}

#[test]
fn place_of_runs_that_is_no_directory_is_one_error_of_every_command() {
    let project = Project::new();
    project.write("file", "");
    symlink("nowhere", project.path("link")).unwrap();
    for (runs, problem) in [
        ("link", "link is a link to nowhere, which is not there"),
        (
            "link/below",
            "link is a link to nowhere, which is not there",
        ),
        ("file", "file is a file"),
        ("file/below", "file is a file"),
    ] {
        for command in [
            &["run", "small"][..],
            &["resume", "small"],
            &["stop", "small"],
            &["train", "--run", "small"],
            &["eval", "--run", "small"],
            &["list"],
        ] {
            let done = project.runboard(&[command, &["--runs", runs]].concat());
            assert_eq!(done.code, Some(2), "{command:?}: {}", done.err);
            let place = done
                .err
                .strip_prefix("error: no runs can be in ")
                .unwrap_or(&done.err);
            assert!(
                place.starts_with(runs) && place.contains(problem),
                "{command:?}: {}",
                done.err
            );
        }
    }
    assert_eq!(names(&project.path("")), ["experiments", "file", "link"]);
}

/// A name that is not UTF-8, below the project.
fn foreign(name: &str) -> &OsStr {
    OsStr::from_bytes(match name {
        "runs" => b"r\xffx",
        _ => b"d\xff",
    })
}

#[test]
fn runs_may_be_in_a_directory_whose_name_is_not_utf8() {
    let project = Project::new();
    let runs = [OsStr::new("--runs"), foreign("runs")];
    for arguments in [
        &["run", "small", "--set", "train.steps=3"][..],
        &["resume", "small"],
        &["list"],
    ] {
        let done = project.command(arguments).args(runs).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(String::from_utf8_lossy(&done.stdout).contains("small/2"));
    }
}

#[test]
fn data_in_a_directory_whose_name_is_not_utf8_are_refused_before_anything_is_created() {
    let project = Project::new();
    let data = foreign("data");
    let set = [b"data.folder=".as_slice(), data.as_bytes()].concat();
    let refused = |command: &mut std::process::Command, place: &Path| {
        let done = command.current_dir(place).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(
            said.contains("want UTF-8") || said.contains("in UTF-8"),
            "{said}"
        );
    };
    let home = project.path("");
    refused(
        project.command(&["run", "small", "--data"]).arg(data),
        &home,
    );
    refused(
        project
            .command(&["run", "small", "--set"])
            .arg(OsStr::from_bytes(&set)),
        &home,
    );
    refused(
        project
            .command(&["run", "small"])
            .env("RUNBOARD_DATA", data),
        &home,
    );
    let variable = ["run", "small", "--set", "data.folder=$PLACE/x"];
    refused(project.command(&variable).env("PLACE", data), &home);
    assert_eq!(names(&home), ["experiments"]);
    // A relative folder is stored with the working directory's name.
    let place = home.join(data);
    std::fs::create_dir(&place).unwrap();
    refused(
        &mut project.command(&["run", "small", "--set", "data.folder=data"]),
        &place,
    );
    assert_eq!(names(&place), [""; 0]);
    project.succeed(&["run", "small", "--set", "train.steps=1"]);
    std::fs::remove_dir(&place).unwrap();
    std::fs::rename(project.path("data"), &place).unwrap();
    refused(
        project.command(&["resume", "small", "--data"]).arg(data),
        &home,
    );
}
