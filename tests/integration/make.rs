//! What stands behind the Makefile's targets: serving curves, stopping, installing.

use crate::support::{
    Done, Project, RUNBOARD, copy_program, libraries, libtorch, names, runboard_compute,
};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use walkdir::WalkDir;

/// A script of the project's tools, run in a project's directory.
fn tool(project: &Project, script: &str, arguments: &[&str]) -> Done {
    let mut command = Command::new("python3");
    command
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tools")
                .join(script),
        )
        .args(arguments)
        .current_dir(project.path(""))
        .env_remove("RUNBOARD_HOME")
        .env("LIBTORCH", "/elsewhere"); // which is not installed, but half a gigabyte
    Done::of(command.output().unwrap())
}

#[test]
fn tensorboard_takes_the_next_free_port_and_says_so() {
    let project = Project::new();
    let busy = TcpListener::bind("localhost:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let done = tool(&project, "tensorboard.py", &["/bin/echo", &port]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let said = format!("tensorboard: port {port} is in use, ");
    assert!(done.out.starts_with(&said), "{}", done.out);
    assert!(
        !done.out.contains(&format!("--port {port}")),
        "{}",
        done.out
    );
    let arguments = "--samples_per_plugin images=100,histograms=500,pr_curves=100\n";
    assert!(done.out.ends_with(arguments), "{}", done.out);
    assert!(done.out.contains("--logdir runs "), "{}", done.out);
}

#[test]
fn tensorboard_shows_the_runs_of_one_experiment() {
    let project = Project::new();
    fs::create_dir_all(project.path("runs/small/20260101-000000")).unwrap();
    let serve = |name| tool(&project, "tensorboard.py", &["/bin/echo", "20000", name]);
    assert!(serve("small").out.contains("--logdir runs/small "));
    let done = serve("smal");
    assert_eq!(done.code, Some(1));
    assert_eq!(
        done.err,
        "tensorboard: no runs of smal in runs; there are runs of small\n"
    );
}

#[test]
fn stop_builds_nothing_where_there_is_a_program() {
    let project = Project::new();
    project.write("Makefile", include_str!("../../Makefile"));
    project.write("target/release/runboard", "");
    let mut make = Command::new("make");
    make.args(["-n", "stop", "NAME=small"])
        .env_remove("CARGO_TARGET_DIR");
    let done = Done::of(make.current_dir(project.path("")).output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.err);
    let stops = done.out.contains("target/release/runboard stop small\n");
    assert!(stops && !done.out.contains("cargo"), "{}", done.out);
}

#[test]
fn installed_program_has_the_shipped_experiments_and_is_removed_without_a_trace() {
    let project = Project::new();
    let prefix = project.path("prefix");
    let shown = prefix.to_str().unwrap();
    runboard_compute(); // which is installed beside it
    for _ in ["installed", "installed again"] {
        let done = tool(&project, "install.py", &["install", RUNBOARD, shown]);
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let mut fields = Command::new(prefix.join("bin/runboard"));
    fields
        .args(["check", "baseline"])
        .current_dir(elsewhere.path());
    fields
        .env_remove("RUNBOARD_HOME")
        .env_remove("RUNBOARD_DATA");
    let done = Done::of(fields.output().unwrap());
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert_eq!(names(elsewhere.path()), [""; 0]);
    for file in [
        "bash-completion/completions/runboard",
        "zsh/site-functions/_runboard",
        "fish/vendor_completions.d/runboard.fish",
        "man/man1/runboard.1",
        "man/man1/runboard-run.1",
    ] {
        assert!(prefix.join("share").join(file).is_file(), "{file}");
    }
    assert!(!prefix.join("share/man/man1/runboard-help.1").exists());
    let done = tool(&project, "install.py", &["uninstall", shown]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert!(!prefix.exists());
}

#[test]
fn uninstall_leaves_what_others_have_in_the_prefix() {
    let project = Project::new();
    let prefix = project.path("prefix");
    let shown = prefix.to_str().unwrap();
    runboard_compute();
    let done = tool(&project, "install.py", &["install", RUNBOARD, shown]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    project.write("prefix/bin/another", "");
    project.write("prefix/share/man/man1/another.1", "");
    for _ in ["uninstalled", "nothing there"] {
        let done = tool(&project, "install.py", &["uninstall", shown]);
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
    let left = WalkDir::new(&prefix).sort_by_file_name().into_iter();
    let left = left.map(|entry| entry.unwrap().into_path());
    let left: Vec<_> = left.filter(|path| path.is_file()).collect();
    assert_eq!(
        left,
        ["bin/another", "share/man/man1/another.1"].map(|it| prefix.join(it))
    );
    assert_eq!(WalkDir::new(&prefix).into_iter().count(), 7); // with the directories that these are in
}

#[test]
fn program_takes_the_libtorch_that_was_installed_with_it_before_any_other() {
    let project = Project::new();
    let libraries = |program: &Path, other: &Path| {
        let mut command = libraries(program);
        command.env("LD_LIBRARY_PATH", other);
        Done::of(command.output().unwrap()).out
    };
    let line = |listed: &str| {
        let found = listed.lines().find(|line| line.contains("libtorch_cpu.so"));
        found.unwrap_or_else(|| panic!("{listed}")).to_owned()
    };
    let built = &*runboard_compute();
    let other = project.path("other");
    let own = libtorch();
    for place in ["lib/runboard", "other"] {
        let to = project.path(place);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&own, to).unwrap();
    }
    let program = project.path("bin/runboard-compute");
    copy_program(built, &program);
    let found = line(&libraries(&program, &other));
    assert!(
        found.contains("/bin/../lib/runboard/libtorch_cpu.so"),
        "{found}"
    );
    assert!(!line(&libraries(built, &other)).contains("other"));
}
