//! What a process finds in its environment, however it was started.

use crate::support::{
    self, Done, Project, RUNBOARD, copy_program, names, running, signal, status, wait_for,
};
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const OPENMP: &str = "OMP_WAIT_POLICY";
const GLIBC: &str = "GLIBC_TUNABLES";

/// A variable, in a trainer that is started by hand with this value of it.
fn value_in_trainer(name: &str, value: Option<&str>) -> Option<String> {
    let project = Project::new();
    // It says so little that the pipe which nobody reads is never full.
    let sets = ["train.steps=1000000", "train.log_every=1000"];
    let run = project.fresh("small", &sets);
    let mut command = project.command(&["train", "--run", "small"]);
    match value {
        Some(value) => command.env(name, value),
        None => command.env_remove(name),
    };
    let mut child = command.spawn().unwrap();
    let pid = wait_for("the trainer", || running(&run, "train"));
    assert_eq!(pid, support::pid(&child));
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let environment = String::from_utf8(environment).unwrap();
    let mut variables = environment
        .split('\0')
        .filter_map(|line| line.split_once('='));
    let (_, value) = variables.find(|(found, _)| *found == name)?;
    Some(value.to_owned())
}

#[test]
fn trainer_by_itself_has_openmp_wait_without_spinning() {
    assert_eq!(value_in_trainer(OPENMP, None).unwrap(), "PASSIVE");
}

#[test]
fn trainer_by_itself_has_large_pages() {
    let value = value_in_trainer(GLIBC, None).unwrap();
    assert_eq!(value, "glibc.malloc.hugetlb=1");
}

#[test]
fn variable_that_the_user_has_set_stays() {
    assert_eq!(value_in_trainer(OPENMP, Some("ACTIVE")).unwrap(), "ACTIVE");
}

#[test]
fn libtorch_of_the_build_is_loaded_whatever_ld_library_path_names() {
    let project = Project::new();
    for library in ["libtorch_cpu.so", "libtorch.so", "libc10.so"] {
        project.write(&format!("other/{library}"), "of another program");
    }
    let mut command = Command::new(support::runboard_compute());
    let output = command
        .arg("--version")
        .env("LD_LIBRARY_PATH", project.path("other"))
        .output();
    let output = output.unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*err), (Some(0), ""));
}

#[test]
fn runboard_loads_no_libtorch_and_the_program_that_computes_does() {
    let loaded = |program: &Path| {
        let listed = Done::of(support::libraries(program).output().unwrap());
        assert!(listed.out.contains("libc.so"), "{}", listed.out);
        ["libtorch", "libc10", "libstdc++"].map(|library| listed.out.contains(library))
    };
    assert_eq!(loaded(Path::new(RUNBOARD)), [false; 3]);
    assert_eq!(loaded(&support::runboard_compute()), [true; 3]);
}

#[test]
fn command_that_computes_names_the_program_that_is_missing() {
    let project = Project::new();
    let alone = project.path("bin/runboard");
    copy_program(Path::new(RUNBOARD), &alone);
    project.fresh("small", &[]);
    for (arguments, code) in [
        (&["--version"][..], 0),
        (&["list"], 0),
        (&["fields", "seed"], 0),
        (&["check", "small"], 2),
        (&["run", "small"], 2),
        (&["train", "--run", "small"], 2),
        (&["eval", "--run", "small"], 2),
    ] {
        let done = Done::of(project.command_of(&alone, arguments).output().unwrap());
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.err);
        if code != 0 {
            let missing = project.path("bin/runboard-compute");
            let start = format!("error: no program {}, which trains ", missing.display());
            assert!(done.err.starts_with(&start), "{}", done.err);
            assert!(done.err.contains("`make build`"), "{}", done.err);
        }
    }
    assert_eq!(names(&project.path("runs/small")), ["20260101-000000"]);
}

#[test]
fn program_of_another_build_is_refused_and_no_run_is_begun() {
    let project = Project::new();
    let program = project.path("bin/runboard");
    copy_program(Path::new(RUNBOARD), &program);
    // To the other program its starter is then of another build.
    let compute = support::runboard_compute();
    let script = format!(
        "#!/bin/sh\nRUNBOARD_BUILD=older exec {} \"$@\"\n",
        compute.display()
    );
    project.write("script", script);
    let stale = project.path("bin/runboard-compute");
    copy_program(&project.path("script"), &stale);
    fs::set_permissions(&stale, Permissions::from_mode(0o755)).unwrap();
    let run = project.fresh("small", &[]);
    for arguments in [
        &["check", "small"][..],
        &["run", "small"],
        &["resume", "small"],
        &["train", "--run", "small"],
    ] {
        let done = Done::of(project.command_of(&program, arguments).output().unwrap());
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.err);
        let start =
            "error: runboard-compute and the runboard that starts it are of different builds; ";
        // A resume may have had to generate its images first.
        let last = done.err.lines().last().unwrap();
        assert!(last.starts_with(start), "{}", done.err);
    }
    assert!(status(&run, "train").is_none());
    assert_eq!(names(&project.path("runs/small")), ["20260101-000000"]);
}
