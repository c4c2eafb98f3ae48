//! What commands print with `--json`, and that docs/json.md tells all of it.

use crate::support::{Project, TINY_NETWORK};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A page of docs/.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::read_to_string(path.join(name)).unwrap()
}

/// The names that a section of docs/json.md has, of all of its tables.
fn documented(section: &str) -> BTreeSet<String> {
    let page = page("json.md");
    let start = page.split_once(&format!("\n## {section}\n"));
    let (_, text) = start.unwrap_or_else(|| panic!("no section {section}"));
    let text = text.split("\n## ").next().unwrap();
    named(text)
}

/// What the first cells of tables name.
fn named(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = cells.map(|line| line.split(" |").next().unwrap());
    let names = cells.flat_map(|cell| cell.split(", "));
    names
        .map(|name| name.trim_matches('`').to_owned())
        .collect()
}

/// The names in a value: `data`, `data.state`, of lists `classes[].train`.
fn names(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match prefix {
                    "" => name.clone(),
                    prefix => format!("{prefix}.{name}"),
                };
                names(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => {
            let prefix = match prefix {
                "" => String::new(),
                prefix => format!("{prefix}[]"),
            };
            items.iter().for_each(|item| names(item, &prefix, found));
        }
        _ => {}
    }
}

/// Holds the names of a section equal to those that its command has printed, each time it ran; what is told of as a whole may hold anything.
pub fn assert_documented(section: &str, printed: &[&Value]) {
    let documented = documented(section);
    let mut found = BTreeSet::new();
    for value in printed {
        names(value, "", &mut found);
    }
    let is_whole = |name: &String| {
        let parts = documented.iter().filter(|it| {
            let rest = it.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(['.', '[']))
        });
        parts.count() == 0
    };
    let is_told = |name: &String| {
        let within = |whole: &String| {
            let rest = name.strip_prefix(whole.as_str());
            rest.is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        documented.contains(name) || documented.iter().any(|it| is_whole(it) && within(it))
    };
    let untold: Vec<_> = found.iter().filter(|name| !is_told(name)).collect();
    let missing: Vec<_> = documented.difference(&found).collect();
    assert!(
        untold.is_empty() && missing.is_empty(),
        "{section}: docs/json.md lacks {untold:?}, and nothing has {missing:?}"
    );
}

/// What a command prints, which says nothing else.
fn json(project: &Project, arguments: &[&str]) -> Value {
    let done = project.succeed(arguments);
    assert_eq!(done.err, "", "{arguments:?}");
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.out))
}

#[test]
fn doctor_tells_programs_what_was_found_and_what_to_do() {
    let project = Project::new();
    let found = json(&project, &["doctor", "--device", "cpu", "--json"]);
    assert_documented("doctor", &[&found]);
}

#[test]
fn check_tells_programs_what_a_run_and_a_sweep_will_be() {
    let project = Project::new();
    let sets = [
        "--set",
        "data.synthetic.train_images=100",
        "--set",
        "data.validation_images=60",
        "--set",
        "train.batch_size=10",
    ];
    let check = [&["check", "small", "--json"], &sets[..]].concat();
    let run = json(
        &project,
        &[&check[..], &["--set", "train.epochs=2"]].concat(),
    );
    for (name, want) in [
        ("/name", "small".into()),
        ("/device", "cpu".into()),
        ("/evaluation_device", "cpu".into()),
        ("/steps", 8.into()),
        ("/epochs", 2.0.into()),
        ("/spec/train/batch_size", 10.into()),
        ("/data/state", "generate".into()),
        ("/data/images", 100.into()),
        ("/data/training_images", 40.into()),
        ("/data/error", Value::Null),
        ("/sweep", Value::Null),
    ] {
        assert_eq!(run.pointer(name), Some(&want), "{name} in {run}");
    }
    for name in ["/threads", "/disk/bytes", "/time/seconds"] {
        let number = run.pointer(name).and_then(Value::as_f64);
        assert!(number.is_some_and(|it| it > 0.0), "{name} in {run}");
    }
    let differences = run["differences"].as_array().unwrap();
    let batch = differences
        .iter()
        .find(|it| it["field"] == "train.batch_size");
    let batch = batch.unwrap();
    assert_eq!(
        (&batch["value"], &batch["default"]),
        (&10.into(), &128.into())
    );
    assert_eq!(batch["origin"], "--set");

    let sweep = [&check[..], &["--sweep", "optimizer.learning_rate=0.1,0.25"]].concat();
    let sweep = json(
        &project,
        &[
            &sweep[..],
            &["--sweep", "seed=1,2", "--set", "train.steps=8"],
        ]
        .concat(),
    );
    let of_sweep = &sweep["sweep"];
    assert_eq!(
        (&of_sweep["method"], &of_sweep["settings"]),
        (&"grid".into(), &2.into())
    );
    let points = of_sweep["points"].as_array().unwrap();
    let told = points.iter().map(|point| {
        let rate = &point["set"]["optimizer.learning_rate"];
        (point["number"].clone(), rate.clone(), point["seed"].clone())
    });
    let want = [(1, 0.1, 1), (2, 0.25, 1), (3, 0.1, 2), (4, 0.25, 2)];
    let want = want.map(|(number, rate, seed)| (number.into(), rate.into(), seed.into()));
    assert_eq!(told.collect::<Vec<_>>(), want);
    assert_eq!(sweep["steps"], 32);
    assert!(!project.path("runs").exists() && !project.path("data").exists());

    let missing = ["--set", "data.source=cifar10", "--data", "typo"];
    let done = project.runboard(&[&["check", "small", "--json"], &missing[..]].concat());
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.starts_with("error: --data: no CIFAR-10 "),
        "{}",
        done.err
    );
    let missing: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(missing["data"]["state"], "missing");
    let error = missing["data"]["error"].as_str().unwrap();
    assert!(error.starts_with("no CIFAR-10 binary files in "), "{error}");
    assert_documented("check", &[&run, &sweep, &missing]);

    let bad = project.runboard(&["check", "small", "--json", "--set", "train.stepps=8"]);
    assert_eq!((bad.code, &*bad.out), (Some(2), ""));
    assert!(
        bad.err.starts_with("error: --set train.stepps"),
        "{}",
        bad.err
    );
}

#[test]
fn commands_about_a_run_answer_programs_in_the_names_of_the_page() {
    let project = Project::new();
    project.write(
        "experiments/tiny.yaml",
        format!("{TINY_NETWORK}\ntrain: {{steps: 20, checkpoint_every: 10}}\n"),
    );
    project.succeed(&["run", "tiny", "--quiet"]);
    let run = json(&project, &["show", "tiny", "--json"]);
    let id = run["run"].as_str().unwrap().to_owned();
    let (columns, beside) = (named(&page("columns.md")), documented("show"));
    let mut others = run.clone();
    let fields = others.as_object_mut().unwrap();
    for name in &columns {
        assert!(fields.contains_key(name), "{name}");
    }
    let is_of_page = |name: &String| beside.contains(name) || !columns.contains(name);
    fields.retain(|name, _| is_of_page(name));
    let swept = "extends: tiny\nsweep: {seeds: 2}\ntrain: {steps: 4}\n";
    project.write("experiments/swept.yaml", swept);
    let elsewhere = ["--runs", "others"];
    project.succeed(&[&["run", "swept", "--quiet"], &elsewhere[..]].concat());
    let shown = [&["show", "swept", "--json"], &elsewhere[..]].concat();
    let mut sweep = json(&project, &shown);
    let setting = &sweep["results"]["settings"][0];
    assert_eq!(setting["points"], serde_json::json!([1, 2]));
    assert_eq!(setting["mean"], setting["test_accuracy"]);
    assert!(setting["deviation"].is_number(), "{setting}");
    let fields = sweep.as_object_mut().unwrap();
    fields.retain(|name, _| is_of_page(name));
    assert_documented("show", &[&others, &sweep]);

    let stopped = json(&project, &["stop", "tiny", "--json"]);
    assert_eq!(stopped["was_running"], false);
    assert_eq!(
        (&stopped["run"], &stopped["state"]),
        (&id.clone().into(), &"finished".into())
    );
    assert_documented("stop", &[&stopped]);
    assert_eq!(project.succeed(&["stop", "tiny", "--quiet"]).out, "");

    let tagged = json(&project, &["tag", "tiny", "good", "first", "--json"]);
    assert_eq!(tagged["tags"], serde_json::json!(["good", "first"]));
    let noted = json(&project, &["note", "tiny", "it works", "--json"]);
    assert_eq!(noted["notes"][0]["text"], "it works");
    assert_eq!(
        (&noted["run"], &noted["tags"]),
        (&tagged["run"], &tagged["tags"])
    );
    assert_documented("tag, note", &[&tagged, &noted]);

    let points = json(&project, &["curve", "tiny", "--json"]);
    let list = json(&project, &["curve", "tiny", "--list", "--json"]);
    let lists = list.as_array().unwrap();
    let accuracy = lists.iter().find(|it| it["short"] == "accuracy").unwrap();
    assert_eq!(
        accuracy["points"].as_u64(),
        points.as_array().map(|points| points.len() as u64)
    );
    assert_documented("curve", &[&points, &list]);

    let exported = json(&project, &["export", "tiny", "-o", "network", "--json"]);
    for name in exported["files"].as_array().unwrap() {
        let file = project.path("network").join(name.as_str().unwrap());
        assert!(file.is_file(), "{}", file.display());
    }
    assert_documented("export", &[&exported]);

    let folder = run["spec"]["data"]["folder"].as_str().unwrap();
    let data = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let data = data.path();
    let images = json(
        &project,
        &["data", "check", data.to_str().unwrap(), "--json"],
    );
    let of_classes = images["classes"].as_array().unwrap().iter();
    let sum: u64 = of_classes.map(|it| it["train"].as_u64().unwrap()).sum();
    assert_eq!(images["train"].as_u64(), Some(sum));
    assert_documented("data check", &[&images]);

    let differences = json(&project, &["diff", "tiny", "small", "--json"]);
    assert_documented("diff", &[&differences]);

    // Nobody answers a program's question, and nothing happens.
    let asked = project.runboard(&["rm", &id, "--json"]);
    assert_eq!((asked.code, &*asked.out), (Some(2), ""));
    let removed = json(&project, &["rm", &id, "--yes", "--json"]);
    assert_eq!(
        (&removed[0]["run"], &removed[0]["state"]),
        (&id.clone().into(), &"finished".into())
    );
    assert_eq!(json(&project, &["list", "--json"]), serde_json::json!([]));
    let trash = json(&project, &["restore", "--json"]);
    assert_eq!(trash[0]["accuracy"], run["accuracy"]);
    assert_eq!(trash[0]["tags"], tagged["tags"]);
    let back = json(&project, &["restore", &id, "--json"]);
    assert_eq!(back[0]["path"], format!("runs/{id}"));
    assert!(project.path("runs").join(&id).is_dir());
    assert_eq!(
        json(&project, &["restore", "--json"]),
        serde_json::json!([])
    );
    project.succeed(&["rm", &id, "--yes"]);
    let kept = json(&project, &["gc", "--older-than", "30d", "--yes", "--json"]);
    assert_eq!(kept, serde_json::json!([]));
    let deleted = json(&project, &["gc", "--yes", "--json"]);
    assert_eq!(deleted[0]["run"], id);
    assert!(!project.path("runs/.trash").exists());
    assert_documented("rm, restore, gc", &[&removed, &trash, &back, &deleted]);
    let gone = project.runboard(&["restore", &id, "--json"]);
    assert_eq!((gone.code, &*gone.out), (Some(2), ""));
    assert!(gone.err.starts_with("error: no run "), "{}", gone.err);
}
