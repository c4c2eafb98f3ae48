//! One writer, and readers that may not write.

use crate::support::{Project, json, names, running, signal, wait_for};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

fn refused(project: &Project, arguments: &[&str], holder: &str, child: &Child) {
    let done = project.runboard(arguments);
    assert_eq!(done.code, Some(2), "{arguments:?}\n{}", done.err);
    let want = format!(" is already running ({holder}, pid {} on ", child.id());
    assert!(done.err.contains(&want), "{}", done.err);
}

#[test]
fn second_process_of_a_role_is_refused_and_changes_nothing() {
    let project = Project::new();
    // It says so little that the pipe which nobody reads is never full.
    let sets = [
        "train.steps=1000000",
        "train.checkpoint_every=1000000",
        "train.log_every=1000",
    ];
    let run = project.fresh("long", &sets);
    let wait_until_running = |role: &str| {
        wait_for("the process to run", || running(&run, role));
    };
    let status = |role: &str| run.join(format!("{role}.status.json"));

    let mut trainer = project.start(&["train", "--run", "long"]);
    wait_until_running("train");
    refused(&project, &["train", "--run", "long"], "trainer", &trainer);
    refused(&project, &["resume", "long"], "trainer", &trainer);
    assert_eq!(json(&status("train"))["process"]["pid"], trainer.id());
    assert_eq!(names(&run.join("train")).len(), 1, "another event file");

    let mut evaluator = project.start(&["eval", "--run", "long"]);
    wait_until_running("eval");
    for once in [&[][..], &["--once"]] {
        let arguments = [&["eval", "--run", "long"], once].concat();
        refused(&project, &arguments, "evaluator", &evaluator);
    }
    assert_eq!(json(&status("eval"))["process"]["pid"], evaluator.id());

    // Killed, they leave no lock behind.
    trainer.kill().unwrap();
    evaluator.kill().unwrap();
    trainer.wait().unwrap();
    evaluator.wait().unwrap();
    assert!(run.join("train.lock").exists() && run.join("eval.lock").exists());
    let mut supervisor = project.start(&["resume", "long"]);
    wait_until_running("train");
    refused(&project, &["resume", "long"], "supervisor", &supervisor);
    signal(&supervisor, Signal::SIGTERM);
    let code = wait_for("the end", || supervisor.try_wait().unwrap()).code();
    assert_eq!(code, Some(143));
}

/// `command` as a user who owns nothing; `None` where this process may not become one.
fn as_nobody(command: &Command) -> Option<Command> {
    let mut other = Command::new("setpriv");
    other
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        other.current_dir(directory);
    }
    Some(other)
}

#[test]
fn run_is_readable_for_users_who_may_not_write_it() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let run = project.run("small");
    // The temporary directory is private; the run in it is as the umask says.
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = |command: Command| as_nobody(&command).and_then(|mut c| c.output().ok());
    let reaches_the_binary = nobody(project.command(&["--version"]));
    if !reaches_the_binary.is_some_and(|output| output.status.success()) {
        eprintln!("not checked: this process cannot run runboard as another user");
        return;
    }

    let list = nobody(project.command(&["list"])).unwrap();
    assert!(
        list.status.success(),
        "{}",
        String::from_utf8_lossy(&list.stderr)
    );
    let own = project.succeed(&["list"]).out;
    assert_eq!(String::from_utf8_lossy(&list.stdout), own);

    let mut find = Command::new("find");
    find.arg(&run).args(["!", "-readable"]);
    let unreadable = nobody(find).unwrap();
    assert!(unreadable.status.success());
    assert_eq!(String::from_utf8_lossy(&unreadable.stdout), "");

    let path = run.to_str().unwrap();
    let eval = nobody(project.command(&["eval", "--run", path, "--once"])).unwrap();
    let error = String::from_utf8_lossy(&eval.stderr);
    assert_eq!(eval.status.code(), Some(1));
    let want = format!("error: failed to open {path}/eval.lock: Permission denied");
    assert!(error.starts_with(&want), "{error}");
}
