//! Paths as users write them, wherever one is read.

use crate::support::{Done, Project};

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
    assert_eq!(crate::support::names(&project.path("")), ["experiments"]);
}

#[test]
fn run_trains_and_resumes_in_directories_with_a_dollar_in_their_names() {
    let project = Project::new();
    let sets = ["--runs", "a$$b", "--set", "data.folder=c$$d"];
    project.succeed(&[&["run", "small"], &sets[..]].concat());
    assert!(project.path("a$b/small").is_dir() && project.path("c$d").is_dir());
    project.succeed(&["resume", "small", "--runs", "a$$b"]);
}
