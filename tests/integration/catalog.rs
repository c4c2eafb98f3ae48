//! What is told of many runs: lists, filters, comparisons, curves.

use crate::help::shown;
use crate::json::assert_documented;
use crate::support::{Done, Project, RUNBOARD, TINY_NETWORK, json, listed, tensorboard_reads};
use serde_json::{Value, json};
use std::fs;

/// A project with an experiment that takes less than a second, and runs of it with these settings, the oldest first.
fn project(runs: &[&[&str]]) -> Project {
    let project = Project::new();
    project.write(
        "experiments/tiny.yaml",
        format!("{TINY_NETWORK}\ntrain: {{steps: 20, checkpoint_every: 10}}\n"),
    );
    for sets in runs {
        let mut command = vec!["run", "tiny", "--quiet"];
        command.extend(sets.iter().flat_map(|set| ["--set", set]));
        project.succeed(&command);
    }
    project
}

/// The ids of the runs in a table's first column.
fn ids(table: &str) -> Vec<&str> {
    let rows = table.lines().skip(1);
    rows.filter_map(|row| row.split_whitespace().next())
        .collect()
}

#[test]
fn list_filters_sorts_and_has_a_form_for_everybody() {
    let project = project(&[
        &[],
        &["seed=2", "train.steps=30"],
        &["optimizer.learning_rate=0.01"],
    ]);
    let all = listed(&project);
    let id = |index: usize| all[index]["run"].as_str().unwrap().to_owned();
    assert_eq!(all.len(), 3);
    // The newest first.
    let created: Vec<&str> = all
        .iter()
        .map(|row| row["created"].as_str().unwrap())
        .collect();
    assert!(created.is_sorted_by(|a, b| a >= b), "{created:?}");
    let changes = |index: usize| all[index]["changes"].clone();
    assert_eq!(changes(0), json!({"optimizer.learning_rate": 0.01}));
    assert_eq!(changes(1), json!({"seed": 2, "train.steps": 30}));
    assert_eq!(changes(2), Value::Null);
    for row in &all {
        assert_eq!(
            (&row["state"], &row["kind"]),
            (&json!("finished"), &json!("run"))
        );
        assert!(
            (0.0..=1.0).contains(&row["accuracy"].as_f64().unwrap()),
            "{row}"
        );
        assert!(row["size"].as_u64().unwrap() > 1000 && row["duration"].as_f64().unwrap() > 0.0);
    }
    for (options, want) in [
        (
            &["--where", "seed=2 or learning_rate<0.05"][..],
            vec![id(0), id(1)],
        ),
        (&["--where", "seed=2", "--where", "steps<30"], vec![]),
        (&["--where", "steps>=20 and not seed=2"], vec![id(0), id(2)]),
        (&["--name", "ti*"], vec![id(0), id(1), id(2)]),
        (&["--name", "small"], vec![]),
        (
            &["--state", "finished", "--since", "1h"],
            vec![id(0), id(1), id(2)],
        ),
        (&["--state", "failed,stopped-early"], vec![]),
        (&["--since", "2199-01-01"], vec![]),
        (&["--limit", "1"], vec![id(0)]),
        (&["--reverse", "--limit", "1"], vec![id(2)]),
        (&["--sort", "steps,created"], vec![id(1), id(0), id(2)]),
        (&["--sort", "learning_rate", "--limit", "1"], vec![id(0)]),
    ] {
        let table = project
            .succeed(&[&["list", "--columns", "run"], options].concat())
            .out;
        assert_eq!(ids(&table), want, "{options:?}");
    }
    // Without a value they are last, also the other way round.
    project.succeed(&["tag", &id(1), "good"]);
    for order in [&["--sort", "tags"][..], &["--sort", "tags", "--reverse"]] {
        let first = ["list", "--columns", "run", "--limit", "1"];
        let table = project.succeed(&[&first, order].concat()).out;
        assert_eq!(ids(&table), [id(1)], "{order:?}");
    }
    let columns = [
        "list",
        "--columns",
        "run,steps,learning_rate",
        "--limit",
        "1",
    ];
    let written = |form: &str| project.succeed(&[&columns[..], &[form]].concat()).out;
    let id = id(0);
    assert_eq!(
        written("--csv").replace('\r', ""),
        format!("run,steps,optimizer.learning_rate\n{id},20,0.01\n")
    );
    assert_eq!(
        written("--md"),
        format!(
            "| run | steps | optimizer.learning_rate |\n| --- | --: | --: |\n| {id} | 20/20 | 0.01 |\n"
        )
    );
    let rows: Value = serde_json::from_str(&written("--json")).unwrap();
    assert_eq!(
        rows,
        json!([{"run": id, "steps": 20, "optimizer.learning_rate": 0.01}])
    );
    // With no run that is meant, programs get an empty list, people a word on standard error.
    let none = project.succeed(&["list", "--state", "failed", "--json"]);
    assert_eq!((&*none.out, &*none.err), ("[]\n", ""));
    let none = project.succeed(&["list", "--state", "failed"]);
    assert_eq!(none.err, "these options choose none of 3 runs\n");
    let all_columns = project.succeed(&["list", "--columns", "all", "--json"]).out;
    let all_columns: Value = serde_json::from_str(&all_columns).unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/columns.md")).unwrap();
    for name in all_columns[0].as_object().unwrap().keys() {
        assert!(
            page.contains(&format!("| `{name}` |")),
            "docs/columns.md lacks {name}"
        );
    }
}

#[test]
fn changes_of_a_run_are_the_same_whatever_else_is_listed() {
    let project = project(&[&[], &["stop.accuracy=0.9", "network.local3.init=xavier"]]);
    // An edit of the file is no change of the run's own.
    let path = "experiments/tiny.yaml";
    let text = fs::read_to_string(project.path(path)).unwrap();
    project.write(path, text.replace("steps: 20", "steps: 30"));
    project.succeed(&["run", "tiny", "--quiet"]);
    let set = json!({"network.local3.init": "xavier", "stop.accuracy": 0.9});
    let want = [Value::Null, set, Value::Null];
    let all = listed(&project);
    let changes: Vec<&Value> = all.iter().map(|row| &row["changes"]).collect();
    assert_eq!(changes, want.iter().collect::<Vec<_>>());
    for (row, want) in all.iter().zip(&want) {
        let alone = project.succeed(&["list", row["run"].as_str().unwrap(), "--json"]);
        let alone: Value = serde_json::from_str(&alone.out).unwrap();
        assert_eq!(alone[0]["changes"], *want);
    }
    let columns = ["list", "--columns", "run,changes"];
    let lines = |options: &[&str]| -> Vec<String> {
        let out = project.succeed(&[&columns[..], options].concat()).out;
        out.lines().skip(1).map(str::to_owned).collect()
    };
    let mut reversed = lines(&["--reverse"]);
    reversed.reverse();
    assert_eq!(lines(&[]), reversed);
    // What is shown can be asked for.
    let shown = "local3.init=xavier stop.accuracy=0.9";
    assert!(reversed[1].ends_with(shown), "{reversed:?}");
    let found = lines(&["--where", &shown.replace(' ', " and ")]);
    assert_eq!(found, reversed[1..2]);
}

#[test]
fn narrow_terminal_has_what_differs_and_says_what_it_has_not() {
    let project = project(&[
        &["compute.threads=1", "optimizer.learning_rate=0.01"],
        &["compute.threads=2", "schedule.warmup=0.125", "seed=2"],
    ]);
    let compared = shown(&project, &format!("'{RUNBOARD}' compare"));
    let head = compared.lines().next().unwrap();
    for name in ["BEST", "seed", "learning_rate", "warmup"] {
        assert!(head.contains(name), "no {name} in {compared}");
    }
    assert!(!head.contains("threads"), "{compared}");
    let told = " columns left out for the width of the terminal; a wider one, --columns NAME,..., --csv or --json shows more";
    assert!(compared.replace("\r\n", "").contains(told), "{compared}");
    let asked = shown(
        &project,
        &format!("'{RUNBOARD}' compare --columns compute.threads"),
    );
    assert!(asked.lines().next().unwrap().contains("threads"), "{asked}");
    let program = project.succeed(&["compare", "--csv"]);
    assert_eq!(program.err, "");
}

#[test]
fn name_of_several_runs_is_told_to_be_the_latest_alone() {
    let project = project(&[&[], &[], &[]]);
    let latest = listed(&project)[0]["run"].as_str().unwrap().to_owned();
    for command in ["list", "compare"] {
        let done = project.succeed(&[command, "tiny"]);
        assert_eq!(ids(&done.out), [&latest]);
        let told = format!("2 older runs of tiny: `{command} --name tiny` shows all\n");
        assert_eq!(done.err, told);
        let mut elsewhere = project.command(&[command, "tiny", "--runs", "../runs"]);
        elsewhere.current_dir(project.path("experiments"));
        let done = Done::of(elsewhere.output().unwrap());
        let told =
            format!("2 older runs of tiny: `{command} --name tiny --runs ../runs` shows all\n");
        assert_eq!(done.err, told);
        for alone in [&[command, &latest][..], &[command, "tiny", "--json"]] {
            assert_eq!(project.succeed(alone).err, "", "{alone:?}");
        }
        let all = project.succeed(&[command, "--name", "tiny"]);
        assert_eq!((ids(&all.out).len(), &*all.err), (3, ""));
    }
}

#[test]
fn list_refuses_what_it_does_not_know_with_the_nearest_that_it_does() {
    let project = project(&[&[]]);
    project.succeed(&["tag", "tiny", "best"]);
    for (options, want) in [
        (
            &["--where", "acuracy>0.1"][..],
            "error: --where: acuracy: unknown name, want a column or a field of a spec; did you mean 'accuracy'?\n  \
             acuracy>0.1\n  ^^^^^^^\n",
        ),
        (
            &["--sort", "acuracy"],
            "error: --sort: acuracy: unknown name, want a column or a field of a spec; did you mean 'accuracy'?\n",
        ),
        (
            &["--columns", "run,optimizer.learning_rat"],
            "error: --columns: optimizer.learning_rat: unknown name, want a column or a field of a spec; did you mean \
             'optimizer.learning_rate'?\n",
        ),
        (
            &["--state", "finishd"],
            "error: --state: got 'finishd', want a state, as of docs/terminal.md; did you mean 'finished'?\n",
        ),
        (
            &["--tag", "bset"],
            "error: --tag: no run has the tag 'bset'; did you mean 'best'?\n",
        ),
        (
            &["--since", "yesterday"],
            "error: --since: got 'yesterday', want how long ago, such as 2h or 7d, or a time such as 2026-11-20 or \
             2026-11-20T08:00\n",
        ),
    ] {
        assert_eq!(project.refused(&[&["list"], options].concat()), want);
    }
}

#[test]
fn damaged_run_is_shown_as_damaged_and_hides_no_other() {
    let project = project(&[&[], &[], &[], &[]]);
    let runs: Vec<String> = listed(&project)
        .iter()
        .map(|row| row["run"].as_str().unwrap().to_owned())
        .collect();
    let path = |run: &str, file: &str| project.path(&format!("runs/{run}/{file}"));
    fs::write(path(&runs[0], "spec.yaml"), "").unwrap();
    fs::write(path(&runs[1], "train.status.json"), "{").unwrap();
    fs::write(path(&runs[2], "evaluations.jsonl"), "notes\n").unwrap();
    fs::write(path(&runs[2], "provenance.json"), "{").unwrap();
    let states: Vec<Value> = listed(&project)
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert_eq!(states, ["damaged", "damaged", "finished", "finished"]);
    for run in &runs {
        let shown = project.succeed(&["show", run]).out;
        assert!(shown.starts_with(run.as_str()), "{shown}");
    }
    for (run, file) in [
        (0, "spec.yaml"),
        (1, "train.status.json"),
        (2, "evaluations.jsonl"),
        (2, "provenance.json"),
    ] {
        let shown = project.succeed(&["show", &runs[run]]).out;
        let line = shown
            .lines()
            .find(|line| line.starts_with("  damaged ") && line.contains(file));
        assert!(line.is_some(), "no {file} in {shown}");
    }
    project.succeed(&["compare"]);
    let rows: Value = serde_json::from_str(&project.succeed(&["compare", "--json"]).out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
}

#[test]
fn show_tells_what_differs_and_where_it_was_set() {
    let project = project(&[&["seed=3"]]);
    project.succeed(&["resume", "tiny", "--quiet", "--set", "train.steps=30"]);
    project.succeed(&["tag", "tiny", "best-so-far"]);
    project.succeed(&["note", "tiny", "the loss still falls"]);
    let shown = project.succeed(&["show", "tiny"]).out;
    let line = |part: &str| {
        let line = shown.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no {part} in {shown}"))
    };
    assert!(
        shown.starts_with("tiny/") && shown.contains(" is finished: 30 of 30 steps"),
        "{shown}"
    );
    assert!(line("  seed: 3 ").ends_with("  --set"), "{shown}");
    assert!(
        line("  train.steps: 30 ").ends_with("  resume --set, session 2"),
        "{shown}"
    );
    assert!(
        line("  input.crop: 8 ").ends_with("  experiments/tiny.yaml:4:15"),
        "{shown}"
    );
    assert!(
        line("  network.conv1.stddev: 0.05 ").ends_with("  experiments/small.yaml:9:32"),
        "{shown}"
    );
    assert!(line("  loss  ").contains(" at step 0 to "), "{shown}");
    assert!(line("  step-00000029  ").contains("accuracy 0."), "{shown}");
    assert!(line("  tags  ").ends_with("best-so-far"), "{shown}");
    assert!(line("the loss still falls").starts_with("  20"), "{shown}");
    assert!(line("train.steps: 20 -> 30").starts_with("    "), "{shown}");
    assert!(
        line("    from step 20, cpu on ").contains("; runboard "),
        "{shown}"
    );

    let shown: Value =
        serde_json::from_str(&project.succeed(&["show", "tiny", "--json"]).out).unwrap();
    let run = project.run("tiny");
    assert_eq!(shown["labels"]["tags"], json!(["best-so-far"]));
    assert_eq!(shown["spec"]["train"]["steps"], 30);
    assert_eq!(shown["origins"]["seed"], "--set");
    assert_eq!(shown["provenance"].as_array().unwrap().len(), 2);
    assert_eq!(
        shown["evaluations"].as_array().unwrap().len(),
        fs::read_to_string(run.join("evaluations.jsonl"))
            .unwrap()
            .lines()
            .count()
    );
    assert_eq!(
        shown["accuracy"],
        json(&run.join("eval.status.json"))["best"]["accuracy"]
    );
}

#[test]
fn compare_shows_scores_and_what_differs_alone_and_differences_to_a_baseline() {
    let project = project(&[&[], &["seed=2", "train.steps=30"]]);
    let [newer, older] = &listed(&project)[..] else {
        panic!("two runs");
    };
    let (newer, older) = (
        newer["run"].as_str().unwrap(),
        older["run"].as_str().unwrap(),
    );
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let out = project.succeed(&[arguments, &["--json"]].concat()).out;
        serde_json::from_str(&out).unwrap()
    };
    let compared = rows(&["compare", newer, older]);
    assert_eq!(
        (&compared[0]["run"], &compared[1]["run"]),
        (&json!(newer), &json!(older))
    );
    assert_eq!(
        (&compared[0]["seed"], &compared[1]["train.steps"]),
        (&json!(2), &json!(20))
    );
    let fields = compared[0].as_object().unwrap().keys();
    let fields: Vec<&String> = fields
        .filter(|name| name.contains('.') || *name == "seed")
        .collect();
    assert_eq!(fields, ["seed", "train.steps"]);
    let compared = rows(&["compare", newer, "--baseline", older]);
    assert_eq!(compared[0]["run"], json!(older));
    let number = |row: usize, name: &str| compared[row][name].as_f64().unwrap();
    let change = number(1, "accuracy") - number(0, "accuracy");
    assert!((number(1, "accuracy_change") - change).abs() < 1e-12);
    assert_eq!(compared[0]["accuracy_change"], Value::Null);
    let table = project.succeed(&["compare", "--baseline", older]).out;
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[..3], ["RUN", "BEST", "+/-"], "{table}");
    assert!(
        head.contains(&"seed") && head.contains(&"train.steps"),
        "{table}"
    );

    let diff = rows(&["diff", older, newer]);
    let row = |name: &str| diff.iter().find(|row| row["name"] == name);
    assert_eq!(
        row("seed").map(|row| (&row["a"], &row["b"])),
        Some((&json!(7), &json!(2)))
    );
    assert_eq!(row("train.steps").unwrap()["section"], "spec");
    assert!(
        row("data").is_none() && row("libtorch").is_none(),
        "{diff:?}"
    );
    let text = project.succeed(&["diff", older, older]).out;
    assert_eq!(text, "nothing differs\n");
    // Experiments and files have a spec alone; a name is its latest run.
    let diff = rows(&["diff", "small", "experiments/tiny.yaml"]);
    assert!(diff.iter().all(|row| row["section"] == "spec"), "{diff:?}");
    assert!(
        diff.iter()
            .any(|row| row["name"] == "input.crop" && row["b"] == 8),
        "{diff:?}"
    );
    let spec = format!("runs/{older}/spec.yaml");
    let diff = rows(&["diff", &spec, older]);
    assert_eq!(diff, [] as [Value; 0]);
    let error = project.refused(&["diff", "tinny", older]);
    assert!(
        error.contains("no run \"tinny\"") && error.contains("did you mean 'tiny'?"),
        "{error}"
    );
}

#[test]
fn curve_has_the_points_that_tensorboard_reads() {
    let project = project(&[&["train.scalars_every=5"], &[]]);
    let run = listed(&project)[1]["run"].as_str().unwrap().to_owned();
    let csv = |tag: &str| -> Vec<(u64, f64)> {
        let out = project.succeed(&["curve", &run, "--tag", tag, "--csv"]).out;
        assert!(out.starts_with("run,step,time,value\r\n"), "{out}");
        let rows = out
            .lines()
            .skip(1)
            .map(|row| row.split(',').collect::<Vec<_>>());
        rows.map(|row| {
            assert_eq!(row[0], run);
            (row[1].parse().unwrap(), row[3].parse().unwrap())
        })
        .collect()
    };
    let steps: Vec<u64> = csv("loss").iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 5, 10, 15]);
    assert_eq!(csv("total_loss"), csv("loss"));
    assert_eq!(csv("train/total_loss"), csv("loss"));
    let directory = project.path("runs").join(&run);
    if let Some(events) = tensorboard_reads(&directory.join("eval")) {
        let points = events["scalars"]["Precision @ 1"]
            .as_array()
            .unwrap()
            .iter();
        let points: Vec<(u64, f64)> = points
            .map(|point| (point[0].as_u64().unwrap(), point[1].as_f64().unwrap()))
            .collect();
        let own = csv("accuracy");
        assert_eq!(own.len(), points.len());
        for (own, theirs) in own.iter().zip(&points) {
            assert!(
                own.0 == theirs.0 && (own.1 - theirs.1).abs() < 1e-7,
                "{own:?} {theirs:?}"
            );
        }
    }
    let plot = project.succeed(&["curve", &run, "--tag", "loss"]).out;
    assert!(
        plot.contains('└') && plot.contains(&format!("━ {run}, at last ")),
        "{plot}"
    );
    let rows: Value =
        serde_json::from_str(&project.succeed(&["curve", "tiny", "--json"]).out).unwrap();
    assert_eq!(rows[0]["step"], 0);
    let names = project.succeed(&["curve", &run, "--list"]).out;
    assert!(names.contains("4  train/total_loss  (loss)\n"), "{names}");
    assert_eq!(
        project.refused(&["curve", &run, "--tag", "totl_loss"]),
        "error: --tag: unknown curve 'totl_loss'; did you mean 'total_loss'? `runboard curve RUN --list` names all\n"
    );
    assert_eq!(
        project.refused(&["curve", &run, "--tag", "validation_accuracy"]),
        "error: --tag: no run has points of validation_accuracy yet\n"
    );
}

#[test]
fn sweep_of_an_earlier_version_is_listed_and_shown() {
    let project = project(&[]);
    project.succeed(&["run", "tiny", "--quiet", "--sweep", "seed=1,2"]);
    let sweep = listed(&project)[0]["run"].as_str().unwrap().to_owned();
    let told = || {
        let points = project.succeed(&["list", "--points", "--json"]).out;
        let rows: Vec<Value> = serde_json::from_str(&points).unwrap();
        let columns = ["run", "kind", "state", "points_done", "accuracy", "changes"];
        let rows = rows.iter();
        let rows: Vec<_> = rows.map(|row| columns.map(|it| row[it].clone())).collect();
        let chosen = ["list", &sweep, "--where", "compute.timeout_secs=60"];
        (rows, ids(&project.succeed(&chosen).out).len())
    };
    let before = told();
    assert_eq!((before.0.len(), before.1), (3, 2));
    assert_eq!(before.0[1][2], "finished");
    // As they were before several devices could train.
    let is_later = |line: &&str| {
        let line = line.trim().replace(['"', ','], "");
        let later = [
            "devices: []",
            "timeout_secs: 60",
            "elastic: false",
            "process_group: auto",
            "reduce_precision: float32",
            "device: auto",
        ];
        later.contains(&&*line)
    };
    let [one, two] = ["001-seed=1", "002-seed=2"].map(|point| format!("runs/{sweep}/{point}"));
    let spec = fs::read_to_string(project.path(&format!("{one}/spec.yaml"))).unwrap();
    let current = spec.lines().next().unwrap(); // its version
    for path in [
        format!("runs/{sweep}/sweep.yaml"),
        format!("{one}/spec.yaml"),
        format!("{one}/provenance.json"),
        format!("{two}/spec.yaml"),
        format!("{two}/provenance.json"),
    ] {
        let text = fs::read_to_string(project.path(&path)).unwrap();
        let (later, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(is_later);
        assert_eq!(later.len(), 6, "{path}: {text}");
        // The spec's own; those of the files around it are others.
        let now = rest.join("\n");
        let then = now.replace(&format!("{current}\n"), "version: 3\n");
        let current = current.replace("version", "\"version\"");
        let then = then.replace(&format!("{current}\n"), "\"version\": 3\n");
        assert_ne!(then, now, "{path}");
        project.write(&path, then + "\n");
    }
    assert_eq!(told(), before);
    for what in [sweep.clone(), format!("{sweep}/2")] {
        let shown = project.succeed(&["show", &what]).out;
        assert!(shown.contains("finished"), "{shown}");
    }
    project.succeed(&["resume", &sweep, "--quiet"]);
}

#[test]
fn sweep_is_one_line_that_opens_with_its_points() {
    let project = project(&[]);
    project.succeed(&[
        "run",
        "tiny",
        "--quiet",
        "--sweep",
        "optimizer.learning_rate=0.01,0.1",
        "--sweep",
        "seed=1,2",
    ]);
    let rows = listed(&project);
    assert_eq!(rows.len(), 1);
    let sweep = rows[0]["run"].as_str().unwrap();
    assert_eq!(
        (
            &rows[0]["kind"],
            &rows[0]["points"],
            &rows[0]["points_done"]
        ),
        (&json!("sweep"), &json!(4), &json!(4))
    );
    let table = project.succeed(&["list"]).out;
    assert!(
        table
            .lines()
            .nth(1)
            .unwrap()
            .contains(" finished  4/4 points "),
        "{table}"
    );
    let table = project.succeed(&["list", "--points"]).out;
    assert_eq!(ids(&table).len(), 5, "{table}");
    let points = project
        .succeed(&["list", sweep, "--where", "seed=2", "--json"])
        .out;
    let points: Vec<Value> = serde_json::from_str(&points).unwrap();
    assert_eq!(points.len(), 2);
    assert_eq!(points[0]["kind"], "point");
    assert_eq!(
        points[0]["changes"],
        json!({"optimizer.learning_rate": 0.01, "seed": 2})
    );
    let table = project.succeed(&["list", sweep]).out;
    assert_eq!(ids(&table)[0], "001-learning_rate=0.01-seed=1", "{table}");
    let compared = project.succeed(&["compare", sweep]).out;
    assert!(
        compared
            .lines()
            .next()
            .unwrap()
            .ends_with("seed  learning_rate"),
        "{compared}"
    );
    let shown = project.succeed(&["show", sweep]).out;
    assert!(
        shown.starts_with(&format!("{sweep} is finished\n4 points: 4 finished\n")),
        "{shown}"
    );
    let point = format!("{sweep}/3");
    let shown = project.succeed(&["show", &point]).out;
    let line = shown
        .lines()
        .find(|line| line.contains("  optimizer.learning_rate: 0.01 "));
    assert!(
        line.is_some_and(|line| line.ends_with("  the sweep")),
        "{shown}"
    );
}

#[test]
fn compare_has_means_over_seeds_of_runs_and_of_points_alike() {
    let project = project(&[
        &["optimizer.learning_rate=0.01", "seed=2"],
        &[],
        &["seed=2"],
        &["seed=3"],
    ]);
    let rows = |options: &[&str]| -> Value {
        let command = [&["compare"], options, &["--json"]].concat();
        serde_json::from_str(&project.succeed(&command).out).unwrap()
    };
    let runs = rows(&[]);
    // The newest first: three seeds of the experiment, and then the other rate.
    let accuracy = |row: usize| runs[row]["accuracy"].as_f64().unwrap();
    let mean = (0..3).map(accuracy).sum::<f64>() / 3.0;
    let squares: f64 = (0..3).map(|row| (accuracy(row) - mean).powi(2)).sum();
    let means = rows(&["--mean-over", "seed"]);
    assert_eq!(means.as_array().unwrap().len(), 2, "{means}");
    assert_eq!(
        (&means[0]["name"], &means[0]["runs"]),
        (&json!("tiny"), &json!(3))
    );
    let ids = means[0]["run_ids"].as_array().unwrap();
    assert!(
        ids.iter().eq((0..3).map(|row| &runs[row]["run"])),
        "{means}"
    );
    let number = |name: &str| means[0][name].as_f64().unwrap();
    assert!((number("accuracy") - mean).abs() < 1e-12);
    assert!((number("accuracy_deviation") - (squares / 2.0).sqrt()).abs() < 1e-12);
    assert_eq!(means[1]["accuracy"], runs[3]["accuracy"]);
    assert_eq!(means[1]["accuracy_deviation"], Value::Null);
    assert_eq!(means[1]["optimizer.learning_rate"], 0.01);
    assert_eq!(means[0].get("seed"), None);

    let change = &rows(&[
        "--mean-over",
        "seed",
        "--baseline",
        runs[3]["run"].as_str().unwrap(),
    ])[1];
    let difference = mean - accuracy(3);
    assert!((change["accuracy_change"].as_f64().unwrap() - difference).abs() < 1e-12);
    let first = |order: &str| rows(&["--mean-over", "seed", "--sort", order, "--limit", "1"]);
    assert_eq!(first("optimizer.learning_rate")[0]["runs"], 1);
    let table = project.succeed(&["compare", "--mean-over", "seed"]).out;
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head[..3], ["NAME", "RUNS", "BEST"], "{table}");
    let told = format!("{mean:.3} ± {:.3}", (squares / 2.0).sqrt());
    assert!(table.contains(&told), "{told} in {table}");
    for (fields, want) in [
        (
            "accuracy",
            "accuracy: got a column, want fields of a spec, such as seed",
        ),
        (
            "sed",
            "sed: unknown name, want a column or a field of a spec; did you mean 'seed'?",
        ),
    ] {
        let error = project.refused(&["compare", "--mean-over", fields]);
        assert_eq!(error, format!("error: --mean-over: {want}\n"));
    }

    // A repetition is no further sample, and neither is a run that is named twice.
    project.succeed(&["run", "tiny", "--quiet"]);
    let again = rows(&["--mean-over", "seed"]);
    assert_eq!(
        (&again[0]["runs"], &again[0]["repetitions"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(again[0]["accuracy"], means[0]["accuracy"]);
    let id = runs[0]["run"].as_str().unwrap();
    let twice = rows(&[id, id, "--mean-over", "seed"]);
    assert_eq!(
        (&twice[0]["runs"], &twice[0]["repetitions"]),
        (&json!(1), &json!(0))
    );
    // Neither are runs on other images, or one of which nothing can be read.
    project.succeed(&[
        "run",
        "tiny",
        "--quiet",
        "--set",
        "seed=9",
        "--set",
        "data.folder=other",
        "--set",
        "data.synthetic.seed=5",
    ]);
    let (other, damaged) = (listed(&project)[0].clone(), listed(&project)[1].clone());
    let damaged = damaged["run"].as_str().unwrap();
    let all = rows(&["--mean-over", "seed,synthetic.seed"]);
    assert_eq!(
        (&all[0]["run_ids"], &all[0]["runs"]),
        (&json!([other["run"]]), &json!(1))
    );
    assert_ne!(all[0]["data"], all[1]["data"]);
    for file in ["spec.yaml", "provenance.json"] {
        fs::write(project.path(&format!("runs/{damaged}/{file}")), "{").unwrap();
    }
    let done = project.succeed(&["compare", "--mean-over", "seed", "--json"]);
    let told = format!("warning: {damaged} is left out: its spec cannot be read\n");
    assert!(done.err.contains(&told), "{}", done.err);
    project.succeed(&[
        "rm",
        damaged,
        other["run"].as_str().unwrap(),
        "--yes",
        "--quiet",
    ]);

    // Points of a sweep are runs as others, and a run that has not trained to its end counts with what it has.
    project.succeed(&[
        "run",
        "tiny",
        "--quiet",
        "--sweep",
        "seed=1,2",
        "--set",
        "data.validation_images=20",
        "--set",
        "eval.tta=mirror",
    ]);
    project.succeed(&["run", "tiny", "--quiet", "--set", "seed=5", "--until", "10"]);
    let mut all = rows(&["--mean-over", "seed"]);
    let all = all.as_array_mut().unwrap();
    let of = |row: &Value| json!([row["runs"], row["unfinished"], row["steps"]]);
    let counts: Vec<Value> = all.iter().map(of).collect();
    assert_eq!(
        counts,
        [json!([4, 1, null]), json!([2, 0, 20]), json!([1, 0, 20])]
    );
    assert_eq!(all[1]["eval.tta"], "mirror");
    let table = project.succeed(&["compare", "--mean-over", "seed"]).out;
    assert!(table.contains("  NOT FINISHED  "), "{table}");
    for row in all.iter_mut() {
        let row = row.as_object_mut().unwrap();
        row.retain(|name, _| !name.contains('.')); // fields of the spec
    }
    assert_documented("compare", &all.iter().collect::<Vec<_>>());
}

#[test]
fn experiments_are_listed_with_their_runs_and_their_best_score() {
    let project = project(&[&[], &["seed=2"]]);
    project.write("experiments/broken.yaml", "train: {stepps: 3}\n");
    // Also one that this machine has no GPUs for.
    project.write(
        "experiments/rates.yaml",
        "extends: tiny\ndescription: two rates\ncompute: {device: auto}\n\
         sweep: {parameters: {optimizer.learning_rate: [0.1, 0.2]}, parallel: 2, devices: [cuda:0, cuda:1]}\n",
    );
    let best = listed(&project)
        .iter()
        .map(|run| run["accuracy"].as_f64().unwrap())
        .reduce(f64::max);
    let done = project.succeed(&["experiments", "--json"]);
    assert!(
        done.err
            .contains("experiments/broken.yaml:1:9: train.stepps: "),
        "{}",
        done.err
    );
    let rows: Vec<Value> = serde_json::from_str(&done.out).unwrap();
    assert_documented("experiments", &rows.iter().collect::<Vec<_>>());
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(
        (&row("tiny")["runs"], row("tiny")["accuracy"].as_f64()),
        (&json!(2), best)
    );
    assert_eq!(
        (&row("tiny")["kind"], &row("tiny")["steps"]),
        (&json!("run"), &json!(20))
    );
    let rates = row("rates");
    assert_eq!(
        (&rates["kind"], &rates["runs"]),
        (&json!("sweep"), &json!(0))
    );
    assert_eq!(rates["description"], "two rates");
    assert_eq!(row("broken")["kind"], Value::Null);
    let table = project.succeed(&["experiments"]).out;
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        head,
        ["NAME", "KIND", "STEPS", "RUNS", "BEST", "DESCRIPTION"]
    );
}

#[test]
fn tags_and_notes_are_kept_and_found() {
    let project = project(&[&[], &[]]);
    let older = listed(&project)[1]["run"].as_str().unwrap().to_owned();
    assert_eq!(
        project.succeed(&["tag", &older, "best-so-far", "v1"]).out,
        "best-so-far\nv1\n"
    );
    assert_eq!(
        project
            .succeed(&["tag", &older, "v2", "--remove", "v1"])
            .out,
        "best-so-far\nv2\n"
    );
    assert_eq!(project.succeed(&["tag", &older]).out, "best-so-far\nv2\n");
    let table = project
        .succeed(&["list", "--tag", "v2", "--columns", "run,tags"])
        .out;
    assert_eq!(ids(&table), [&older]);
    let table = project
        .succeed(&["list", "--where", "tags~v* and tags!=v1"])
        .out;
    assert_eq!(ids(&table), [&older]);
    let labels = fs::read_to_string(project.path(&format!("runs/{older}/labels.yaml"))).unwrap();
    assert_eq!(labels, "version: 1\ntags:\n- best-so-far\n- v2\n");
    let error = project.refused(&["tag", &older, "--remove", "v3"]);
    assert!(
        error.ends_with(" has no tag 'v3'; it has best-so-far, v2\n"),
        "{error}"
    );
    // All or nothing, and nothing that may have been meant for a run.
    let error = project.refused(&["tag", &older, "-d", "v2", "-d", "zz", "new"]);
    assert!(
        error.ends_with(" has no tag 'zz'; it has best-so-far, v2\n"),
        "{error}"
    );
    let error = project.refused(&["tag", &older, &older, "v4"]);
    assert!(
        error.contains("which is a run; want one run and then tags"),
        "{error}"
    );
    assert_eq!(project.succeed(&["tag", &older]).out, "best-so-far\nv2\n");
    // Several tags: all of them.
    let newer = listed(&project)[0]["run"].as_str().unwrap().to_owned();
    project.succeed(&["tag", &newer, "v2"]);
    let both = ["list", "--columns", "run", "--tag", "v2"];
    assert_eq!(ids(&project.succeed(&both).out).len(), 2);
    let both = [&both[..], &["--tag", "best-so-far"]].concat();
    assert_eq!(ids(&project.succeed(&both).out), [&older]);
    let error = project.refused(&["tag", &older, "two words"]);
    assert!(
        error.starts_with("error: got the tag \"two words\", want a word of up to 40 letters"),
        "{error}"
    );

    project.succeed(&["note", &older, "first\nof two lines"]);
    project.succeed(&["note", &older, "second"]);
    let notes = project.succeed(&["note", &older]).out;
    let lines: Vec<&str> = notes.lines().map(|line| line.get(18..).unwrap()).collect();
    assert_eq!(lines, ["first", "of two lines", "second"]);
    project.succeed(&["note", &older, "--clear", "third"]);
    assert_eq!(project.succeed(&["note", &older]).out.lines().count(), 1);

    // A slip in the file is no damage of the run.
    let path = project.path(&format!("runs/{older}/labels.yaml"));
    fs::write(&path, "version: 1\ntags: best\n").unwrap();
    let listed = project.succeed(&["list", "--columns", "run,state,tags"]);
    assert!(!listed.out.contains("damaged"), "{}", listed.out);
    assert!(
        listed.err.contains("expected a sequence")
            && listed.err.contains("its tags and notes are not shown"),
        "{}",
        listed.err
    );
}

#[test]
fn run_and_sweep_begin_with_their_tags_and_note() {
    let project = Project::new();
    let labels = ["--tag", "v1", "--tag", "wide", "--note", " why "];
    let small = ["run", "small", "--quiet", "--set", "train.steps=2"];
    project.succeed(&[&small[..], &labels].concat());
    let sweep = ["--sweep", "seed=1,2"];
    project.succeed(&[&small[..], &sweep, &labels].concat());
    let rows = listed(&project);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row["tags"], serde_json::json!(["v1", "wide"]), "{row}");
        let notes = project.succeed(&["note", row["run"].as_str().unwrap()]).out;
        assert!(notes.ends_with("  why\n"), "{notes}");
    }
    let error = project.refused(&["run", "small", "--tag", "two words"]);
    assert!(
        error.contains("got the tag \"two words\", want a word"),
        "{error}"
    );
    assert_eq!(listed(&project).len(), 2);
    // A tag of a point is not one of what `list` shows.
    project.succeed(&["tag", "small/2", "best"]);
    let error = project.refused(&["list", "--tag", "best"]);
    assert!(
        error.contains("no run has the tag 'best'; the point small/")
            && error.contains("`runboard list --points`"),
        "{error}"
    );
    let points = project.succeed(&["list", "--points", "--tag", "best", "--columns", "run"]);
    assert!(points.out.contains("-seed=2\n"), "{}", points.out);
    // No sweep has few steps.
    let few = project
        .succeed(&["list", "--where", "steps<5", "--columns", "kind"])
        .out;
    assert_eq!(few, "KIND\nrun\n");
    let json = project.succeed(&["show", "small/1", "--json"]).out;
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        shown["labels"],
        serde_json::json!({"tags": [], "notes": []})
    );
}

/// What bash would offer for the last of these words.
fn completions(project: &Project, words: &[&str]) -> Vec<String> {
    let mut command = project.command(&[&["--", "runboard"], words].concat());
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let output = command.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn shell_is_offered_runs_experiments_fields_columns_and_tags() {
    let project = project(&[&[], &[]]);
    project.succeed(&["tag", "tiny", "best-so-far"]);
    let ids: Vec<String> = listed(&project)
        .iter()
        .map(|row| row["run"].as_str().unwrap().to_owned())
        .collect();
    let offered = |words: &[&str]| completions(&project, words);
    assert_eq!(
        offered(&["show", "ti"]),
        [&["tiny".to_owned()], &ids[..]].concat()
    );
    assert_eq!(offered(&["show", "tiny/"]), ids);
    assert_eq!(offered(&["run", ""])[..2], ["small", "tiny"]);
    assert_eq!(
        offered(&["run", "tiny", "--set", "optimizer.lear"]),
        ["optimizer.learning_rate="]
    );
    assert_eq!(
        offered(&["run", "tiny", "--set", "optimizer.nesterov="]),
        ["optimizer.nesterov=true", "optimizer.nesterov=false"]
    );
    let of_resume = offered(&["resume", "tiny", "--set", ""]);
    assert!(
        of_resume.contains(&"train.steps=".to_owned())
            && !of_resume.contains(&"optimizer.learning_rate=".to_owned()),
        "{of_resume:?}"
    );
    assert_eq!(
        offered(&["fields", "optimizer.lear"]),
        ["optimizer.learning_rate"]
    );
    assert_eq!(
        offered(&["list", "--columns", "run,last_a"]),
        ["run,last_accuracy"]
    );
    assert_eq!(offered(&["list", "--tag", "b"]), ["best-so-far"]);
    assert!(offered(&["list", "--state", "stop"]).contains(&"stopped-early".to_owned()));
    assert!(offered(&["sho"]).contains(&"show".to_owned()));
    // Where nothing can be read there is nothing to offer, and no message in the middle of a line.
    fs::remove_dir_all(project.path("runs")).unwrap();
    assert_eq!(offered(&["show", "ti"]), [""; 0]);
}
