//! Runs that are removed, put back and deleted.

use crate::support::{
    Done, Project, TINY_NETWORK, kill_all, listed, names, running, tensorboard_shows, wait_for,
};
use crate::terminal::Terminal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A project with two finished runs, whose ids are returned, the newer first.
fn project() -> (Project, [String; 2]) {
    let project = Project::new();
    project.write(
        "experiments/tiny.yaml",
        format!("{TINY_NETWORK}\ntrain: {{steps: 20, checkpoint_every: 10}}\n"),
    );
    for _ in 0..2 {
        project.succeed(&["run", "tiny", "--quiet"]);
    }
    let ids = listed(&project).into_iter();
    let ids: Vec<String> = ids
        .map(|row| row["run"].as_str().unwrap().to_owned())
        .collect();
    (project, ids.try_into().unwrap())
}

/// Every file below a directory but lock files, with its bytes.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for name in names(directory) {
            let path = directory.join(&name);
            let inside = format!("{prefix}{name}");
            if path.is_dir() && !path.is_symlink() {
                add(&path, &format!("{inside}/"), files);
            } else if !name.ends_with(".lock") {
                files.insert(inside, fs::read(&path).unwrap_or_default());
            }
        }
    }
    let mut found = BTreeMap::new();
    add(directory, "", &mut found);
    found
}

fn ids(project: &Project) -> Vec<String> {
    let rows = listed(project).into_iter();
    rows.map(|row| row["run"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn removed_run_is_gone_from_lists_and_tensorboard_and_comes_back_with_the_same_bytes() {
    let (project, [newer, older]) = project();
    let runs = project.path("runs");
    let before = files(&runs.join(&older));
    let done = project.succeed(&["rm", &older, "--yes"]);
    assert!(
        done.out
            .starts_with(&format!("  {older}   finished   accuracy 0.")),
        "{}",
        done.out
    );
    assert!(
        done.out
            .contains("moved to the trash, runs/.trash; `runboard restore RUN` puts back"),
        "{}",
        done.out
    );
    assert_eq!(ids(&project), std::slice::from_ref(&newer));
    assert!(!runs.join(&older).exists());
    if let Some(shown) = tensorboard_shows(&runs) {
        for reader in ["fast", "python"] {
            let shown = shown[reader]["scalars"].as_object().unwrap();
            let want = ["eval", "train"].map(|part| format!("{newer}/{part}"));
            assert_eq!(Vec::from_iter(shown.keys()), want.each_ref(), "{reader}");
        }
    }
    let trash = project.succeed(&["restore"]).out;
    assert!(
        trash.starts_with(&format!("  {older}   ")) && trash.contains("   removed "),
        "{trash}"
    );
    let again = project.runboard(&["rm", &older, "--yes"]);
    assert_eq!(again.code, Some(2));
    assert!(again.err.contains("no run "), "{}", again.err);

    // Named twice it is one.
    let back = project.succeed(&["restore", &older, &older]).out;
    assert_eq!(back, format!("runs/{older} is back\n"));
    assert_eq!(files(&runs.join(&older)), before);
    assert_eq!(ids(&project), [newer.clone(), older.clone()]);
    assert!(!runs.join(".trash").exists());
    // It goes on as any other.
    project.succeed(&["resume", &older, "--quiet", "--set", "train.steps=30"]);

    project.succeed(&["rm", &older, "--yes"]);
    fs::create_dir_all(runs.join(&older)).unwrap();
    let taken = project.runboard(&["restore", &older]);
    assert_eq!(taken.code, Some(2));
    assert!(
        taken
            .err
            .contains("cannot be put back: there is something at runs/"),
        "{}",
        taken.err
    );
    let unknown = project.runboard(&["restore", &older.replace("2", "3")]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("in the trash"), "{}", unknown.err);
}

#[test]
fn removal_asks_on_a_terminal_and_does_nothing_without_an_answer() {
    let (project, [newer, older]) = project();
    let before = files(&project.path("runs"));
    let done = project.runboard(&["rm", &older]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.out.contains(&older),
        "it shows what it would remove: {}",
        done.out
    );
    let want =
        "error: nothing is done: this asks before it does, and there is no terminal; want --yes\n";
    assert_eq!(done.err, want);
    for (answer, left) in [("n\n", 2), ("\n", 2), ("y\n", 1)] {
        let mut terminal = Terminal::open();
        let mut child = terminal.start(&mut project.command(&["rm", &older]));
        wait_for("the terminal", || {
            terminal
                .said()
                .contains("to the trash? [y/N]")
                .then_some(())
        });
        terminal.press(answer);
        let code = wait_for("the end of rm", || {
            terminal.read();
            child.try_wait().unwrap()
        });
        assert_eq!(code.code(), Some(0));
        assert_eq!(ids(&project).len(), left, "{answer:?}");
        if left == 2 {
            assert_eq!(files(&project.path("runs")), before);
        }
    }
    assert_eq!(ids(&project), [newer]);
}

#[test]
fn removal_refuses_a_run_at_work_links_and_names_that_mean_several() {
    let (project, [newer, older]) = project();
    project.succeed(&["run", "tiny", "--detach", "--set", "train.steps=1000000"]);
    let working = wait_for("the run", || {
        let run = project.newest("tiny")?;
        running(&run, "train").map(|_| run)
    });
    let id = format!("tiny/{}", working.file_name().unwrap().to_str().unwrap());
    let refused = |arguments: &[&str]| {
        let done: Done = project.runboard(&[&["rm", "--yes"], arguments].concat());
        assert_eq!(done.code, Some(2), "{}", done.out);
        assert_eq!(ids(&project).len(), 3);
        done.err
    };
    let error = refused(&[&older, &id]);
    assert!(
        error.starts_with(&format!("error: {id} is running; to stop it: ")),
        "{error}"
    );
    let error = refused(&["--where", "train.steps>1"]);
    assert!(error.contains(" is running; to stop it: "), "{error}");
    project.succeed(&["stop", &id]);
    kill_all(&working);
    let error = refused(&["tiny"]);
    assert!(
        error.contains("tiny has 3 runs; want one by its timestamp, such as "),
        "{error}"
    );
    let error = refused(&[]);
    assert!(
        error.contains("which runs? want NAME/TIMESTAMP, or options that choose some"),
        "{error}"
    );
    let elsewhere = project.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(
        project.path("runs").join(&older),
        elsewhere.join("20260101-000000"),
    )
    .unwrap();
    symlink(&elsewhere, project.path("runs/linked")).unwrap();
    let before = files(&elsewhere);
    let error = refused(&["linked/20260101-000000"]);
    assert!(
        error.contains(" and not in the directory of runs, "),
        "{error}"
    );
    let error = refused(&["elsewhere/20260101-000000"]);
    assert!(
        error.contains(" and not in the directory of runs, "),
        "{error}"
    );
    assert_eq!(files(&elsewhere), before);
    let deep = project.path("runs/deep/er");
    fs::create_dir_all(&deep).unwrap();
    fs::rename(
        elsewhere.join("20260101-000000"),
        deep.join("20260101-000000"),
    )
    .unwrap();
    let error = project.refused(&["rm", "--yes", "runs/deep/er/20260101-000000"]);
    assert!(
        error.contains(" is not NAME/TIMESTAMP in the directory of runs; move it to "),
        "{error}"
    );
    fs::rename(
        deep.join("20260101-000000"),
        elsewhere.join("20260101-000000"),
    )
    .unwrap();
    fs::remove_dir_all(project.path("runs/deep")).unwrap();
    // Several at once, by what they are.
    project.succeed(&["rm", "--yes", "--name", "tiny", "--since", "1h"]);
    assert_eq!(ids(&project), ["linked/20260101-000000"]);
    project.succeed(&["restore", &newer]);
}

#[test]
fn collection_deletes_what_is_old_and_keeps_the_best() {
    let (project, [newer, older]) = project();
    let rows = listed(&project);
    let accuracy = |id: &str| -> f64 {
        let row: &Value = rows.iter().find(|row| row["run"] == id).unwrap();
        row["accuracy"].as_f64().unwrap()
    };
    assert_eq!(
        project.succeed(&["gc", "--yes"]).out,
        "nothing is to be deleted\n"
    );
    let quiet = project.succeed(&["rm", "--yes", "--quiet", &newer, &older]);
    assert_eq!((&*quiet.out, &*quiet.err), ("", ""));
    assert_eq!(ids(&project), [""; 0]);
    let refused = project.runboard(&["gc", "--quiet"]);
    assert_eq!((refused.code, &*refused.out), (Some(2), ""));
    assert!(refused.err.ends_with("want --yes\n"), "{}", refused.err);
    let nothing = project.succeed(&["gc", "--older-than", "30d", "--yes"]).out;
    assert_eq!(nothing, "nothing is to be deleted\n");
    // A number alone would be seconds.
    for age in ["long", "30"] {
        let wrong = project.runboard(&["gc", "--older-than", age]);
        assert_eq!(wrong.code, Some(2));
        assert!(
            wrong.err.contains("want a duration such as 30d"),
            "{}",
            wrong.err
        );
    }
    // Removed a month ago, as it says.
    for id in [&newer, &older] {
        let said = project.path(&format!("runs/.trash/{id}/removed.json"));
        fs::write(
            said,
            r#"{"version": 1, "time": "2026-01-01T00:00:00+00:00"}"#,
        )
        .unwrap();
    }
    let done = project
        .succeed(&["gc", "--older-than", "7d", "--keep-best", "--yes"])
        .out;
    assert!(done.contains("1 run deleted, "), "{done}");
    assert!(
        done.contains(" stays: the best of tiny in the trash\n"),
        "{done}"
    );
    let best = if accuracy(&older) > accuracy(&newer) {
        &older
    } else {
        &newer
    };
    let left = project.succeed(&["restore"]).out;
    assert_eq!(left.lines().count(), 1);
    assert!(
        left.contains(best.as_str()) || accuracy(&older) == accuracy(&newer),
        "{left}"
    );
    assert_eq!(project.succeed(&["gc", "--yes", "--quiet"]).out, "");
    assert!(!project.path("runs/.trash").exists());
    assert_eq!(project.succeed(&["gc", "-q"]).out, "");
    assert_eq!(ids(&project), [""; 0]);
}

#[test]
fn run_that_the_user_is_in_is_not_removed() {
    let (project, [newer, _]) = project();
    let runs = project.path("runs").canonicalize().unwrap();
    let before = files(&runs);
    for (inside, what) in [("", "."), ("checkpoints", ".."), ("checkpoints", &*newer)] {
        let mut command = project.command(&["rm", "-y", what]);
        command.current_dir(runs.join(&newer).join(inside));
        let done = Done::of(command.output().unwrap());
        let want = format!(
            "error: {newer} is where you are; leave it first: cd {}\n",
            runs.display()
        );
        assert_eq!((done.code, &*done.err), (Some(2), &*want));
    }
    assert!(files(&runs) == before);
}
