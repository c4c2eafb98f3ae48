//! Pages of runs and sweeps.

use crate::support::{
    Done, Project, RUNBOARD, TINY_NETWORK, last_weights, running, signal, status, wait_for,
};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;

/// A project with an experiment that takes less than a second.
fn project() -> Project {
    let project = Project::new();
    project.write(
        "experiments/tiny.yaml",
        format!("{TINY_NETWORK}\ntrain: {{steps: 20, scalars_every: 2, checkpoint_every: 10}}\n"),
    );
    project
}

/// The page that a command writes, which prints where alone.
fn page(project: &Project, command: &[&str]) -> String {
    let done = project.succeed(command);
    assert_eq!(done.err, "");
    let path = done.out.strip_suffix('\n').unwrap();
    fs::read_to_string(project.path(path)).unwrap()
}

#[track_caller]
fn assert_says(page: &str, wanted: &[&str]) {
    for want in wanted {
        assert!(page.contains(want), "no {want:?} in {page}");
    }
}

/// The only commands on a page that follow these words, as a browser would copy them.
fn commands(page: &str, words: &str) -> String {
    let (_, rest) = page.split_once(words).unwrap();
    let (_, rest) = rest.split_once("<pre class=\"commands\">").unwrap();
    let (text, _) = rest.split_once("</pre>").unwrap();
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

/// Runs lines in bash, runboard being found.
fn paste(project: &Project, lines: &str) {
    let programs = Path::new(RUNBOARD).parent().unwrap().display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut command = project.command_of(Path::new("bash"), &["-e", "-c", lines]);
    let done = Done::of(command.env("PATH", path).output().unwrap());
    assert_eq!(done.code, Some(0), "{lines}\n{}\n{}", done.out, done.err);
}

#[test]
fn page_of_a_run_tells_all_of_it_and_its_commands_repeat_it() {
    let project = project();
    project.succeed(&["run", "tiny", "--quiet", "--set", "seed=3"]);
    let run = project.run("tiny");
    project.succeed(&["tag", "tiny", "best"]);
    project.succeed(&["note", "tiny", "<script>alert('note')</script> & more"]);
    let report = ["report", "tiny"];
    let done = project.succeed(&report);
    let path = run.join("report.html");
    assert_eq!(
        project.path(done.out.trim_end()).canonicalize().unwrap(),
        path.canonicalize().unwrap()
    );
    let written = page(&project, &report);
    assert_says(
        &written,
        &[
            "<span class=\"state\">finished</span>",
            "<span>best</span>",
            "&lt;script&gt;alert('note')&lt;/script&gt; &amp; more",
            "20 of 20",
            "<h3>Accuracy</h3>",
            "<h3>Loss</h3>",
            "<h3>Learning rate</h3>",
            "alt=\"Confusion matrix: ",
            "alt=\"Confident mistakes: ",
            "src=\"data:image/png;base64,",
            "<h3>Precision-recall curves</h3>",
            "<code>seed</code>: <b>3</b></dt><dd>default 1; set by --set.",
            ", libtorch 2.",
            "--set 'seed=3'",
        ],
    );
    // Nothing is fetched from anywhere, and the only scripts and styles are the page's own.
    for other in [
        "http:",
        "https:",
        "<link",
        " src=\"/",
        "@import",
        "alert('note')</script>",
    ] {
        assert!(!written.contains(other), "{other}");
    }
    assert_eq!(written.matches("<script").count(), 1);
    assert!(written.len() < 400_000, "{} bytes", written.len());
    // Pasted into a shell.
    paste(&project, &commands(&written, "How to repeat it</h2>"));
    let again = project.run("tiny-again");
    assert_eq!(last_weights(&again), last_weights(&run));
    // Also with fields that files below were allowed to set, and that are of no effect.
    project.succeed(&[
        "run",
        "tiny",
        "--set",
        "fidelity=tutorial",
        "--set",
        "train.steps=2",
    ]);
    paste(
        &project,
        &commands(&page(&project, &report), "How to repeat it</h2>"),
    );
}

#[test]
fn page_of_a_sweep_ranks_it_and_draws_its_fields() {
    let project = project();
    let sweep = |name: &str, fields: &[&str]| {
        project.write(
            &format!("experiments/{name}.yaml"),
            "extends: tiny\ntrain: {steps: 4, scalars_every: 1, checkpoint_every: 2}\n",
        );
        let mut command = vec!["run", name, "--quiet"];
        command.extend(fields.iter().flat_map(|field| ["--sweep", field]));
        project.succeed(&command);
        page(&project, &["report", name])
    };
    let one = sweep("one", &["optimizer.learning_rate=0.05,0.1", "seed=1,2"]);
    assert_says(
        &one,
        &[
            "<h3>Score over learning_rate</h3>",
            "<th class=\"number\">rank</th><th class=\"number\">learning_rate</th>",
            "4 of 4 done",
            "2 runs of each setting, with a seed each",
            "</span>learning_rate=0.05 <small>2 curves, at last ",
            "001-learning_rate=0.05-seed=1",
            "alt=\"Confusion matrix: ",
            "Of the best setting the point that scored best: <code>one/",
        ],
    );
    assert!(!one.contains("role=\"note\""), "an alert in {one}");
    let two = sweep(
        "two",
        &["optimizer.learning_rate=0.05,0.1", "network.dropout=0,0.5"],
    );
    assert_says(&two, &["<h3>Score by ", "<table class=\"heat\">"]);
    assert_eq!(two.matches("<td style=\"--v:").count(), 4);
    let three = sweep(
        "three",
        &[
            "optimizer.learning_rate=0.05,0.1",
            "network.dropout=0,0.5",
            "train.batch_size=8,16",
        ],
    );
    assert_says(&three, &["<h3>Which values score well</h3>"]);
    assert_eq!(three.matches("class=\"line rated").count(), 8);
    // The sweep as its page says it.
    paste(&project, &commands(&one, "The whole sweep, from this page"));
    let again = page(&project, &["report", "one-again"]);
    let ranking = |page: &str| {
        let (_, table) = page.split_once("<h2>Ranking</h2>").unwrap();
        let scores = table.split("<td").filter(|cell| cell.contains(" ± "));
        scores.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ranking(&again), ranking(&one));
    // One whose definition cannot be read still has its points.
    let sweeps = fs::read_dir(project.path("runs/one")).unwrap();
    let sweep = sweeps.last().unwrap().unwrap().path();
    fs::write(sweep.join("sweep.yaml"), "version: 1\n").unwrap();
    let damaged = page(&project, &["report", "one"]);
    assert_says(
        &damaged,
        &[
            "<b>Damaged. </b>",
            "sweep.yaml",
            "<h2>Comparison</h2>",
            "<svg",
        ],
    );
}

#[test]
fn page_of_several_runs_has_them_in_one_chart() {
    let project = project();
    for seed in ["1", "2"] {
        let set = format!("seed={seed}");
        project.succeed(&["run", "tiny", "--quiet", "--set", &set]);
    }
    project.write("experiments/other.yaml", "extends: tiny\n");
    project.succeed(&["run", "other", "--quiet"]);
    let ids: Vec<String> = crate::support::listed(&project)
        .iter()
        .map(|row| row["run"].as_str().unwrap().to_owned())
        .collect();
    let mut command = vec!["report"];
    command.extend(ids.iter().map(String::as_str));
    assert_eq!(project.succeed(&command).out, "runs/report.html\n");
    let written = page(&project, &command);
    assert_says(
        &written,
        &[
            "<h1>3 runs</h1>",
            "<h3>Training loss</h3>",
            "<th class=\"number\">seed</th>",
        ],
    );
    for id in &ids {
        assert_says(
            &written,
            &[&format!("</span>{id} <small>"), &format!("<summary>{id}")],
        );
    }
}

#[test]
fn page_says_what_is_not_evaluated_damaged_or_at_work() {
    let project = project();
    // Never started.
    let fresh = project.fresh("fresh", &[]);
    let of = |run: &Path| page(&project, &["report", run.to_str().unwrap()]);
    assert_says(
        &of(&fresh),
        &[
            "There are no curves yet.",
            "No checkpoint was evaluated, so there are no accuracies",
        ],
    );
    // Trained, and nobody evaluated it.
    project.succeed(&["train", "--run", fresh.to_str().unwrap()]);
    let trained = of(&fresh);
    assert_says(
        &trained,
        &[
            "<h3>Loss</h3>",
            "No checkpoint was evaluated",
            "To score them:",
        ],
    );
    paste(&project, &commands(&trained, "To score them:"));
    assert_says(&of(&fresh), &["alt=\"Confusion matrix: "]);
    // Damaged in several places.
    for (file, text) in [
        ("evaluations.jsonl", "notes\n"),
        ("labels.yaml", "{"),
        ("train.status.json", "{"),
    ] {
        fs::write(fresh.join(file), text).unwrap();
    }
    let damaged = of(&fresh);
    assert_says(
        &damaged,
        &[
            "<span class=\"state\">damaged</span>",
            "<b>Damaged. </b>",
            "<h3>Loss</h3>",
            "evaluations.jsonl",
            "labels.yaml",
            "train.status.json",
        ],
    );
    // Its sessions recorded the spec as well.
    fs::write(fresh.join("spec.yaml"), "version: 3\n").unwrap();
    assert_says(
        &of(&fresh),
        &[
            "spec.yaml: got no section train",
            "<code>seed</code>: <b>7</b>",
        ],
    );
    fs::remove_file(fresh.join("provenance.json")).unwrap();
    assert_says(&of(&fresh), &["The spec cannot be read."]);
    // At work.
    project.write(
        "experiments/endless.yaml",
        format!("{TINY_NETWORK}\ntrain: {{steps: 100000000, checkpoint_every: 100000, scalars_every: 1000}}\n"),
    );
    let mut child = project.start(&["run", "endless", "--quiet"]);
    let run = wait_for("the run", || {
        let run = project.newest("endless")?;
        let begun = status(&run, "train").is_some_and(|train| train["step"].as_u64() > Some(0));
        running(&run, "train").filter(|_| begun).map(|_| run)
    });
    assert_says(
        &of(&run),
        &["<b>At work. </b>", "<span class=\"state\">running</span>"],
    );
    signal(&child, Signal::SIGTERM);
    child.wait().unwrap();
}

#[test]
fn page_goes_where_it_is_told_and_replaces_no_other_file() {
    let project = project();
    let run = project.fresh("fresh", &[]);

    let unknown = project.refused(&["report", "frehs"]);
    assert!(
        unknown.starts_with("error: no run \"frehs\" in "),
        "{unknown}"
    );
    assert!(unknown.contains("; did you mean 'fresh'?"), "{unknown}");
    assert_eq!(
        project.refused(&["report", "fresh", "-o", "none/page.html"]),
        "error: there is no directory none; want one that is there\n"
    );
    assert_eq!(
        project.refused(&["report", "fresh", "-o", "runs"]),
        format!(
            "error: {0} is a directory; want a file, such as {0}/report.html\n",
            project.path("runs").canonicalize().unwrap().display()
        )
    );
    project.write("page.html", "mine");
    let there = project.path("page.html").canonicalize().unwrap();
    assert_eq!(
        project.refused(&["report", "fresh", "-o", "page.html"]),
        format!(
            "error: {} is there and no page of `runboard report`; want another name, or --force to replace it\n",
            there.display()
        )
    );
    assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
    let forced = project.succeed(&["report", "fresh", "-o", "page.html", "--force"]);
    assert_eq!(forced.out, "page.html\n");
    // Its own it replaces.
    assert_eq!(
        project.succeed(&["report", "fresh", "-o", "page.html"]).out,
        "page.html\n"
    );
    let streamed = project.succeed(&["report", "fresh", "-o", "-"]).out;
    assert!(streamed.starts_with("<!DOCTYPE html>") && streamed.ends_with("</html>\n"));
    assert!(!run.join("report.html").exists());
    // Where nobody may write, root neither.
    let error = project.refused(&["report", "fresh", "-o", "/sys/page.html"]);
    assert!(
        error.starts_with("error: failed to write /sys/page.html: ")
            && error.ends_with("; want another place: -o FILE\n"),
        "{error}"
    );
}
