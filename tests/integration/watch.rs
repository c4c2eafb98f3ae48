//! Looking on at a run that another process has started.

use crate::support::{Project, TINY_NETWORK, end, pid, running, status, wait_for};
use crate::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use std::path::PathBuf;
use std::process::Stdio;

/// A run that trains until it is stopped.
fn endless() -> (Project, PathBuf) {
    let project = Project::new();
    project.write(
        "experiments/tiny.yaml",
        format!("{TINY_NETWORK}\ntrain: {{steps: 100000000, checkpoint_every: 100000, log_every: 1000, scalars_every: 1000}}\n"),
    );
    project.succeed(&["run", "tiny", "--detach"]);
    let run = wait_for("the run", || {
        let run = project.newest("tiny")?;
        running(&run, "train").map(|_| run)
    });
    (project, run)
}

#[test]
fn watching_shows_the_display_and_leaves_the_run_alone() {
    let (project, run) = endless();
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut project.command(&["watch", "tiny"]));
    wait_for("the terminal", || {
        terminal.said().contains("steps ").then_some(())
    });
    wait_for("the terminal", || {
        terminal.said().contains("to stop").then_some(())
    });
    kill(pid(&child), Signal::SIGINT).unwrap();
    let code = wait_for("the end of watch", || {
        terminal.read();
        child.try_wait().unwrap()
    });
    assert_eq!(code.code(), Some(0));
    assert!(
        running(&run, "train").is_some(),
        "{:?}",
        status(&run, "train")
    );
    // Where there is no terminal, both logs' lines, until the run ends.
    let watching = project.start(&["watch", "tiny"]);
    let following = project.start(&["logs", "tiny", "--follow"]);
    project.succeed(&["stop", "tiny"]);
    let watched = end(watching);
    assert_eq!(watched.code, Some(0), "{}", watched.err);
    assert!(watched.out.contains(" is stopped: "), "{}", watched.out);
    let followed = end(following);
    assert_eq!(followed.code, Some(0), "{}", followed.err);
    assert!(followed.out.contains(": training tiny"), "{}", followed.out);
    let log = std::fs::read_to_string(run.join("train.log")).unwrap();
    assert_eq!(project.succeed(&["logs", "tiny"]).out, log);
    let eval = std::fs::read_to_string(run.join("eval.log")).unwrap();
    assert_eq!(project.succeed(&["logs", "tiny", "--eval"]).out, eval);
    // Of one that has ended there is nothing to wait for.
    let ended = project.succeed(&["watch", "tiny"]).out;
    assert!(ended.contains(" is stopped: "), "{ended}");
    project.succeed(&["logs", "tiny", "--follow"]);
    let mut piped = project.command(&["logs", "tiny"]);
    let mut child = piped.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take()); // `| head` that has ended
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
