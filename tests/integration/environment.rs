//! What a process finds in its environment, however it was started.

use crate::support::{self, Project, running, signal, wait_for};
use nix::sys::signal::Signal;
use std::fs;

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
    let mut command = project.command(&["--version"]);
    let output = command
        .env("LD_LIBRARY_PATH", project.path("other"))
        .output();
    let output = output.unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*err), (Some(0), ""));
}
