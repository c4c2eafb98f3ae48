//! One writer, and readers that may not write.

use crate::support::{
    Done, Project, at_work, end, json, names, running, signal, status, wait_for, with_sets,
};
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

/// A run that would train for hours, detached, once it trains.
fn detached(project: &Project) -> PathBuf {
    let command = [
        "run",
        "small",
        "--detach",
        "--set",
        "train.steps=1000000",
        "--set",
        "train.checkpoint_every=1000000",
        "--set",
        "train.log_every=1000",
    ];
    project.succeed(&command);
    let run = project.run("small");
    wait_for("the trainer", || running(&run, "train"));
    wait_for("the evaluator", || running(&run, "eval"));
    run
}

/// What of a list does not change with the time of day.
const LIST: [&str; 3] = ["list", "--columns", "run,state,steps,accuracy,size"];

/// The state that `runboard list` shows of a run.
fn listed(project: &Project, id: &str) -> String {
    let list = project.succeed(&["list"]).out;
    let row = list.lines().find(|line| line.trim().starts_with(id));
    let row = row.unwrap_or_else(|| panic!("no {id} in {list}"));
    row.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn copy_of_a_running_run_is_not_running_and_its_stop_leaves_the_original_alone() {
    let project = Project::new();
    let run = detached(&project);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&run)
        .arg(run.with_file_name("copy"))
        .status();
    assert!(copied.unwrap().success());
    assert_eq!(listed(&project, "small/copy"), "failed");
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    assert_eq!(listed(&project, &id), "running");
    for command in [
        &["stop", "small/copy"][..],
        &["stop", "small/copy", "--now"],
    ] {
        let stopped = project.succeed(command).out;
        assert!(
            stopped.starts_with("small/copy is not running"),
            "{stopped}"
        );
    }
    // Nor does an evaluator wait for the original's trainer.
    let evaluated = project.runboard(&["eval", "--run", "small/copy"]);
    assert_eq!(evaluated.code, Some(3), "{}", evaluated.err);

    for role in ["supervisor", "train", "eval"] {
        let status = status(&run, role).unwrap();
        assert!(at_work(&status).is_some(), "{role} was disturbed");
        assert_eq!(status["process"]["state"], "running", "{role}");
    }
    assert_eq!(status(&run, "supervisor").unwrap()["stopping"], false);
    let stopped = project.succeed(&["stop", &id]).out;
    assert!(stopped.contains(&format!("{id} is stopped")), "{stopped}");
}

#[test]
fn hard_linked_copy_of_a_running_run_is_neither_running_nor_started() {
    let project = Project::new();
    let run = detached(&project);
    let linked = Command::new("cp")
        .arg("-al")
        .arg(&run)
        .arg(run.with_file_name("link"))
        .status();
    assert!(linked.unwrap().success());
    assert_eq!(listed(&project, "small/link"), "failed");
    for now in [&[][..], &["--now"]] {
        let stopped = project.succeed(&[&["stop", "small/link"], now].concat());
        assert!(
            stopped.out.starts_with("small/link is not running"),
            "{}",
            stopped.out
        );
    }
    for command in [
        &["resume", "small/link"][..],
        &["eval", "--run", "small/link"],
    ] {
        let done = project.runboard(command);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(
            done.err
                .contains(" is a hard link to that of a run that is running (")
        );
    }
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    assert_eq!(listed(&project, &id), "running");
    project.succeed(&["stop", &id]);
    assert_eq!(
        status(&run, "train").unwrap()["process"]["state"],
        "stopped"
    );
}

#[test]
fn locks_of_another_program_are_no_processes_of_the_run() {
    let project = Project::new();
    let run = detached(&project);
    let supervisor = running(&run, "supervisor").unwrap();
    kill(supervisor, Signal::SIGKILL).unwrap();
    wait_for("the end of all processes", || {
        let ended = |role| at_work(&status(&run, role).unwrap()).is_none();
        ["supervisor", "train", "eval"]
            .into_iter()
            .all(ended)
            .then_some(())
    });
    let other = fs::File::open(run.join("supervisor.lock")).unwrap();
    other.lock().unwrap();
    let stopped = project.succeed(&["stop", "small"]).out;
    assert!(stopped.contains(" is not running"), "{stopped}");
    assert!(!run.join("supervisor.stop.json").exists());
    let done = project.runboard(&["resume", "small"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    let want = "supervisor.lock is locked by another program, and no supervisor is running: ";
    assert!(done.err.contains(want), "{}", done.err);
}

#[test]
fn run_in_another_pid_namespace_is_running_and_is_stopped_in_good_order() {
    let project = Project::new();
    let inside = |arguments: &[&str]| {
        let runboard = project.command(arguments);
        let mut command = Command::new("unshare");
        command
            .args(["-p", "-f", "--mount-proc", "--kill-child"])
            .arg(runboard.get_program())
            .args(runboard.get_args())
            .current_dir(project.path(""))
            .env_remove("RUNBOARD_DATA")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let allowed = inside(&["--version"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("not checked: this process may not make a PID namespace (unshare)");
        return;
    }
    let sets = [
        "train.steps=1000000",
        "train.checkpoint_every=1000000",
        "train.log_every=1000",
    ];
    let supervisor = inside(&with_sets(&["run", "small"], &sets))
        .spawn()
        .unwrap();
    let begun = |run: &PathBuf| {
        let at_work =
            |role| status(run, role).is_some_and(|it| it["process"]["state"] == "running");
        at_work("train") && at_work("eval")
    };
    let run = wait_for("the run", || project.newest("small").filter(begun));
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    assert_eq!(listed(&project, &id), "running");

    let stopped = project.succeed(&["stop", "small"]).out;
    assert!(stopped.contains(&format!("{id} is stopped")), "{stopped}");
    let done = end(supervisor);
    assert_eq!(done.code, Some(143), "{}", done.err);
    assert_eq!(listed(&project, &id), "stopped");

    // A trainer by itself, for which an evaluator outside waits.
    let trainer = inside(&["train", "--run", "small"]).spawn().unwrap();
    wait_for("the trainer", || {
        (status(&run, "train")?["process"]["state"] == "running").then_some(())
    });
    let evaluator = project.start(&["eval", "--run", "small"]);
    wait_for("the evaluator", || running(&run, "eval"));
    assert_eq!(listed(&project, &id), "running");
    let stopped = project.succeed(&["stop", "small"]).out;
    assert!(stopped.contains(&format!("{id} is stopped")), "{stopped}");
    // The evaluator may see that training ended before it sees that it is to stop itself.
    for (child, codes) in [(trainer, &[143][..]), (evaluator, &[0, 143])] {
        let done = end(child);
        assert!(
            codes.contains(&done.code.unwrap()),
            "{:?}: {}",
            done.code,
            done.err
        );
    }
}

#[test]
fn run_of_a_machine_that_was_renamed_goes_on_and_is_stopped() {
    let project = Project::new();
    let run = project.fresh("long", &["train.steps=1000000", "train.log_every=1000"]);
    let mut trainer = project.start(&["train", "--run", "long"]);
    wait_for("the trainer", || running(&run, "train"));
    let renamed = |arguments: &[&str]| {
        let runboard = project.command(arguments);
        let mut command = Command::new("unshare");
        command
            .args([
                "-u",
                "sh",
                "-c",
                "hostname another-name && exec \"$0\" \"$@\"",
            ])
            .arg(runboard.get_program())
            .args(runboard.get_args())
            .current_dir(project.path(""));
        Done::of(command.output().unwrap())
    };
    if renamed(&["--version"]).code != Some(0) {
        eprintln!("not checked: this process may not name its machine (unshare -u)");
        trainer.kill().unwrap();
        trainer.wait().unwrap();
        return;
    }
    let stopped = renamed(&["stop", "long"]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.err);
    let code = wait_for("the end", || trainer.try_wait().unwrap()).code();
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

    let list = nobody(project.command(&LIST)).unwrap();
    assert!(
        list.status.success(),
        "{}",
        String::from_utf8_lossy(&list.stderr)
    );
    let own = project.succeed(&LIST).out;
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
