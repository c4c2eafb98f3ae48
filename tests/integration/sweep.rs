//! Sweeps: killed at any moment and resumed, they end as those that were left alone.

use crate::support::{
    Done, Project, TINY_NETWORK, at_work, checkpoints, end, hold, journal, json, last_weights,
    names, status, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Saves a few times.
const TINY: &str = "
train: {steps: 60, batch_size: 8, log_every: 10, scalars_every: 10, histograms_every: 50, images_every: 50,
  checkpoint_every: 10, restarts: 100}
";

/// How many points run at once where two are wanted.
fn two() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(2))
}

/// A project with a sweep of that network.
fn project(sweep: &str) -> Project {
    let sweep = sweep.replace("parallel: 2", &format!("parallel: {}", two()));
    let project = Project::new();
    project.write("experiments/tiny.yaml", format!("{TINY_NETWORK}{TINY}"));
    project.write(
        "experiments/sweep.yaml",
        format!("extends: tiny\nsweep:\n{sweep}"),
    );
    project
}

/// The directories of the points that have begun, by their names.
fn points(sweep: &Path) -> BTreeMap<String, PathBuf> {
    let all = names(sweep).into_iter();
    let begun = all.filter(|name| sweep.join(name).join("spec.yaml").exists());
    begun.map(|name| (name.clone(), sweep.join(name))).collect()
}

/// The only sweep, once it is one.
fn begun(project: &Project) -> PathBuf {
    wait_for("a sweep", || {
        let directory = fs::read_dir(project.path("runs/sweep")).ok()?.next()?;
        let path = directory.unwrap().path();
        path.join("sweep.yaml").exists().then_some(path)
    })
}

/// The scores of a run, by the steps.
fn scores(run: &Path) -> BTreeMap<u64, (Value, Value)> {
    let lines = journal(run).into_iter();
    lines
        .map(|line| {
            let score = (line["accuracy"].clone(), line["loss"].clone());
            (line["step"].as_u64().unwrap(), score)
        })
        .collect()
}

/// The table of the points, without the times.
fn table(sweep: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(sweep.join("results.csv")).unwrap();
    let rows: Vec<Vec<String>> = text
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect();
    let timed = rows[0].iter().position(|head| head == "minutes").unwrap();
    let without = |mut row: Vec<String>| {
        row.remove(timed);
        row
    };
    rows.into_iter().map(without).collect()
}

fn decisions(sweep: &Path) -> String {
    fs::read_to_string(sweep.join("decisions.jsonl")).unwrap_or_default()
}

/// Two sweeps have the same points with the same weights, scores, decisions and tables, although the points of the first
/// were stopped on the way, each time with one more checkpoint.
fn assert_same(sweep: &Path, other: &Path) {
    let (own, others) = (points(sweep), points(other));
    assert_eq!(
        own.keys().collect::<Vec<_>>(),
        others.keys().collect::<Vec<_>>()
    );
    for (name, run) in &own {
        let twin = &others[name];
        // A stop on the way saves one more, which stays where fewer are kept than may be.
        let (kept, want) = (checkpoints(run), checkpoints(twin));
        assert_eq!(kept.last(), want.last(), "{name}: {kept:?}, {want:?}");
        assert!(last_weights(run) == last_weights(twin), "{name}");
        let (mut scored, want) = (scores(run), scores(twin));
        scored.retain(|step, _| want.contains_key(step));
        assert_eq!(scored, want, "{name}");
    }
    assert_eq!(decisions(sweep), decisions(other));
    assert_eq!(table(sweep), table(other));
}

/// The processes that work in the project's directory.
fn processes(project: &Project) -> Vec<Pid> {
    let home = project.path(".").canonicalize().unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == home))
        .map(Pid::from_raw)
        .collect()
}

/// Kills all of them, also those that are started meanwhile.
fn kill_everything(project: &Project) {
    wait_for("the end of all processes", || {
        let all = processes(project);
        for pid in &all {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        // One that this test has started is there until it is waited for.
        let is_there = |pid: &&Pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        all.iter().find(is_there).is_none().then_some(())
    });
}

/// The trainers that are at work.
fn trainers(sweep: &Path) -> Vec<Pid> {
    let points = points(sweep).into_values();
    points
        .filter_map(|run| at_work(&status(&run, "train")?))
        .collect()
}

/// A seed that differs from day to day, so that over time all moments are tried; it is told when a test fails.
fn rng() -> ChaCha8Rng {
    let seed = std::env::var("SWEEP_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            / 86_400
    };
    let seed: u64 = seed.unwrap_or_else(now);
    eprintln!("SWEEP_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Kills a sweep, a trainer or everything at random moments, resumes it, and compares with one that was left alone.
fn survives_kills(sweep: &str, kills: usize) {
    let undisturbed = project(sweep);
    undisturbed.succeed(&["run", "sweep"]);
    let whole = begun(&undisturbed);

    let mut rng = rng();
    let project = project(sweep);
    let mut child = project.start(&["run", "sweep"]);
    let directory = begun(&project);
    // What is edited meanwhile changes nothing.
    project.write("experiments/sweep.yaml", "extends: nothing\n");
    project.write("experiments/tiny.yaml", "seed: 5\n");
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(rng.random_range(0..2500)));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        match rng.random_range(0..3) {
            0 => {
                if let Some(pid) = trainers(&directory).choose(&mut rng) {
                    let _ = kill(*pid, Signal::SIGKILL);
                }
                continue;
            }
            1 => child.kill().unwrap(),
            _ => kill_everything(&project),
        }
        end(child);
        child = project.start(&["resume", "sweep"]);
    }
    let done = end(child);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    let done = project.succeed(&["resume", "sweep"]);
    assert!(done.out.contains(" finished\n"), "{}", done.out);
    assert_same(&directory, &whole);
}

const GRID: &str = "
  parameters: {optimizer.learning_rate: [0.02, 0.05]}
  cases: [{input.flip: random}, {input.flip: none}]
  metric: {name: loss, goal: minimize, of: last}
  parallel: 2
";

const HALVING: &str = "
  parameters: {optimizer.learning_rate: [0.01, 0.02, 0.05, 0.1]}
  metric: {name: loss, goal: minimize, of: last}
  early_terminate: {type: halving, min_iter: 10, eta: 2}
  parallel: 2
";

#[test]
fn grid_that_is_killed_at_random_moments_ends_as_one_that_was_left_alone() {
    survives_kills(GRID, 10);
}

#[test]
fn halving_that_is_killed_at_random_moments_decides_as_one_that_was_left_alone() {
    survives_kills(HALVING, 14);
}

#[test]
fn halving_that_is_killed_between_two_rungs_goes_on_with_the_winners() {
    let project = project(HALVING);
    let child = project.start(&["run", "sweep"]);
    let directory = begun(&project);
    wait_for("a decision", || {
        decisions(&directory).ends_with('\n').then_some(())
    });
    kill_everything(&project);
    end(child);
    let first = decisions(&directory);
    // A line that a crash cut short does not count.
    fs::write(
        directory.join("decisions.jsonl"),
        format!("{first}{{\"halving\":{{\"st"),
    )
    .unwrap();
    let done = project.succeed(&["resume", "sweep"]);
    let all = decisions(&directory);
    assert!(all.starts_with(&first), "{first}\n{all}");
    let lines: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |line: &Value| {
        let count = |key: &str| line["halving"][key].as_array().unwrap().len();
        (
            line["halving"]["steps"].as_u64().unwrap(),
            count("go_on"),
            count("stop"),
        )
    };
    assert_eq!(
        lines.iter().map(of).collect::<Vec<_>>(),
        [(10, 2, 2), (20, 1, 1)]
    );
    let steps: Vec<u64> = points(&directory)
        .into_values()
        .map(|run| status(&run, "train").unwrap()["step"].as_u64().unwrap())
        .collect();
    let mut sorted = steps.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [10, 10, 20, 60], "{}", done.out);
}

const FAILING: &str = "
  parameters: {optimizer.learning_rate: [0.02, 100000, 0.05]}
";

#[test]
fn failed_point_is_told_and_the_others_go_on() {
    let project = project(FAILING);
    let done = project.runboard(&["run", "sweep"]);
    assert_eq!(done.code, Some(1), "{}\n{}", done.out, done.err);
    let told = done
        .out
        .find("002-learning_rate=100000: diverged")
        .expect(&done.out);
    let next = done
        .out
        .find("003-learning_rate=0.05: started")
        .expect(&done.out);
    assert!(told < next, "not told at once: {}", done.out);
    assert!(
        done.out.contains("3 points: 2 finished, 1 diverged"),
        "{}",
        done.out
    );
    let directory = begun(&project);
    let before = |name: &str| {
        json(&directory.join(name).join("provenance.json"))["sessions"]
            .as_array()
            .unwrap()
            .len()
    };
    // A resume leaves it so, unless it is to be tried again.
    let done = project.runboard(&["resume", "sweep"]);
    assert_eq!(
        (done.code, before("002-learning_rate=100000")),
        (Some(1), 1)
    );
    let done = project.runboard(&["resume", "sweep", "--retry-failed"]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert_eq!(before("002-learning_rate=100000"), 2);
    assert_eq!(before("001-learning_rate=0.02"), 1);
    let listed = project.succeed(&["list"]).out;
    assert!(listed.contains("3/3 points"), "{listed}");
    assert!(listed.contains("1 failed"), "{listed}");
    let listed = project.succeed(&["list", "sweep"]).out;
    assert_eq!(listed.lines().count(), 4, "{listed}");
}

#[test]
fn failed_point_stops_a_sweep_that_is_to_stop_then() {
    let project = project(&format!("{FAILING}  on_failure: stop\n"));
    let done = project.runboard(&["run", "sweep"]);
    assert_eq!(done.code, Some(1), "{}\n{}", done.out, done.err);
    assert!(
        done.out.contains("002-learning_rate=100000 has failed"),
        "{}",
        done.out
    );
    let directory = begun(&project);
    assert_eq!(points(&directory).len(), 2);
    let diverged = directory.join("002-learning_rate=100000");
    fs::remove_file(diverged.join("train.log")).unwrap();
    let done = project.runboard(&["resume", "sweep", "--retry-failed"]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    let log = fs::read_to_string(diverged.join("train.log")).unwrap_or_default();
    assert!(!log.is_empty(), "it was not tried");
    let done = project.runboard(&["resume", "sweep", "--set", "sweep.on_failure=continue"]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert_eq!(points(&directory).len(), 3);
    assert!(
        done.out.contains("3 points: 2 finished, 1 diverged"),
        "{}",
        done.out
    );
}

#[test]
fn failed_point_is_told_while_its_evaluator_has_still_to_score() {
    let project = project(&format!("{FAILING}  on_failure: stop\n"));
    // So long that its trainer is there to be killed, which is not started again.
    let set = ["--set", "train.steps=100000", "--set", "train.restarts=0"];
    project.succeed(&[&["run", "sweep", "--detach"], &set[..]].concat());
    let directory = begun(&project);
    let run = directory.join("001-learning_rate=0.02");
    let process = |role| wait_for("a process", || at_work(&status(&run, role)?));
    let evaluator = process("eval");
    kill(evaluator, Signal::SIGSTOP).unwrap();
    kill(process("train"), Signal::SIGKILL).unwrap();
    let log = || fs::read_to_string(directory.join("sweep.log")).unwrap();
    wait_for("the failure", || {
        log()
            .contains("001-learning_rate=0.02: failed after ")
            .then_some(())
    });
    assert_eq!(at_work(&status(&run, "eval").unwrap()), Some(evaluator));
    kill(evaluator, Signal::SIGCONT).unwrap();
    wait_for("the end of the sweep", || {
        log()
            .contains("001-learning_rate=0.02 has failed, and sweep.on_failure is stop")
            .then_some(())
    });
    assert_eq!(points(&directory).len(), 1);
}

#[test]
fn point_that_fails_is_tried_again_and_ends_as_one_that_did_not() {
    let sweep = "  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n";
    // So long that its trainer is there to be killed, which is not started again.
    let set = [
        "train.restarts=0",
        "train.steps=500",
        "train.checkpoint_every=50",
    ];
    let set = set.map(|set| ["--set", set]).concat();
    let run = [&["run", "sweep"], &set[..]].concat();
    let undisturbed = project(sweep);
    undisturbed.succeed(&run);
    let project = project(sweep);
    let child = project.start(&run);
    let directory = begun(&project);
    let run = directory.join("001-learning_rate=0.02");
    let trainer = wait_for("a trainer", || at_work(&status(&run, "train")?));
    kill(trainer, Signal::SIGKILL).unwrap();
    let done = end(child);
    assert_eq!(done.code, Some(1), "{}\n{}", done.out, done.err);
    let told = done.out.find("001-learning_rate=0.02: failed after ");
    let next = done.out.find("002-learning_rate=0.05: started");
    assert!(told.is_some() && told < next, "{}", done.out);
    let counts = "2 points: 1 finished, 1 failed";
    assert!(done.out.contains(counts), "{}", done.out);
    assert!(done.out.contains("  to try again   "), "{}", done.out);
    let rows = table(&directory);
    let state = rows[0].iter().position(|head| head == "state").unwrap();
    assert_eq!([&*rows[1][state], &*rows[2][state]], ["failed", "finished"]);

    let done = project.succeed(&["resume", "sweep", "--retry-failed"]);
    assert!(done.out.contains("2 points: 2 finished"), "{}", done.out);
    let (whole, own) = (points(&begun(&undisturbed)), points(&directory));
    for (name, run) in &own {
        assert!(last_weights(run) == last_weights(&whole[name]), "{name}");
        assert_eq!(scores(run), scores(&whole[name]), "{name}");
    }
}

#[test]
fn target_that_is_reached_ends_a_sweep_until_it_has_another() {
    // Every loss reaches it.
    let project = project(
        "
  parameters: {optimizer.learning_rate: [0.02, 0.05, 0.1]}
  metric: {name: loss, goal: minimize, of: last}
  target: 1000
",
    );
    let done = project.succeed(&["run", "sweep"]);
    let over = "over: 001-learning_rate=0.02 has reached the target";
    assert!(done.out.contains(over), "{}", done.out);
    let counts = "3 points: 1 reached the target, 2 not run";
    assert!(done.out.contains(counts), "{}", done.out);
    let directory = begun(&project);
    assert_eq!(points(&directory).len(), 1);
    let first = decisions(&directory);
    assert_eq!(first.lines().count(), 1, "{first}");
    assert!(first.starts_with("{\"target\":{\"point\":1,"), "{first}");
    let rows = table(&directory);
    let rank = rows[0].iter().position(|head| head == "rank").unwrap();
    let ranks: Vec<&str> = rows[1..].iter().map(|row| &*row[rank]).collect();
    assert_eq!(ranks, ["1", "", ""]);
    let listed = project.succeed(&["list"]).out;
    assert!(listed.contains("target reached"), "{listed}");

    let done = project.succeed(&["resume", "sweep"]);
    assert!(done.out.contains(over), "{}", done.out);
    assert_eq!(points(&directory).len(), 1);
    // No loss reaches it: all points are run to their ends.
    let done = project.succeed(&["resume", "sweep", "--set", "sweep.target=0"]);
    assert!(done.out.contains("3 points: 3 finished"), "{}", done.out);
    assert_eq!(decisions(&directory), first);
}

#[test]
fn finished_point_whose_journal_was_removed_is_scored_again() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    project.succeed(&["run", "sweep"]);
    let directory = begun(&project);
    let (before, table_before) = (points(&directory), table(&directory));
    let kept = |run: &Path| {
        let all = scores(run).into_iter();
        let there = checkpoints(run);
        all.filter(|(step, _)| there.contains(step)).collect()
    };
    let wanted: BTreeMap<_, _> = kept(&before["001-learning_rate=0.02"]);
    fs::remove_file(before["001-learning_rate=0.02"].join("evaluations.jsonl")).unwrap();
    let done = project.succeed(&["resume", "sweep"]);
    assert!(done.out.contains("2 points: 2 finished"), "{}", done.out);
    assert_eq!(scores(&before["001-learning_rate=0.02"]), wanted);
    assert_eq!(table(&directory), table_before);
    let again = project.succeed(&["resume", "sweep"]).out;
    assert!(!again.contains(": resumed"), "{again}");
}

#[test]
fn killed_point_is_listed_as_interrupted_alone_as_among_the_others() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    let child = project.start(&["run", "sweep", "--set", "train.steps=100000"]);
    let directory = begun(&project);
    wait_for("a trainer", || trainers(&directory).first().copied());
    kill_everything(&project);
    end(child);
    let point = project
        .path("runs/sweep")
        .join(directory.file_name().unwrap())
        .join("1");
    let point = point.strip_prefix(project.path("runs")).unwrap();
    let columns = ["--columns", "point,state,steps,size"];
    let list = |what: &str| {
        project
            .succeed(&[&["list", what], &columns[..]].concat())
            .out
    };
    let alone = list(point.to_str().unwrap());
    let all = list("sweep");
    assert!(alone.contains("  interrupted  "), "{alone}");
    assert_eq!(alone.lines().count(), 2, "{alone}");
    let words = |text: &str| {
        let row = text.lines().nth(1).unwrap();
        row.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&alone), words(&all));
}

#[test]
fn point_on_several_devices_takes_a_core_for_each() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    let set = ["--set", "compute.devices=[cpu, cpu]"];
    let threads = ["--set", "compute.threads=0"];
    if two() == 2 {
        let done = project.succeed(&[&["run", "sweep"], &set[..], &threads].concat());
        assert!(done.out.contains("2 points: 2 finished"), "{}", done.out);
        let started = "001-learning_rate=0.02: started on cpu with ";
        let (_, rest) = done.out.split_once(started).expect(&done.out);
        let count: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert!(count >= 2, "{}", done.out);
        for run in points(&begun(&project)).values() {
            assert_eq!(status(run, "train").unwrap()["ranks"], json!(2));
        }
    }
    for (option, value, want) in [
        (
            "compute.devices",
            "[cpu, cuda:1]",
            "compute.devices: got cuda:1 in the spec of a sweep",
        ),
        (
            "sweep.devices",
            "[cuda:0]",
            "got cuda:0, but each point trains on compute.devices",
        ),
    ] {
        let other = format!("{option}={value}");
        let refused =
            project.runboard(&[&["check", "sweep"], &set[..], &["--set", &other]].concat());
        assert_eq!(refused.code, Some(2), "{}", refused.out);
        assert!(refused.err.contains(want), "{}", refused.err);
    }
}

#[test]
fn words_of_hydra_are_told_in_ours() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    for (words, want) in [
        (
            "-m optimizer.learning_rate=0.05,0.1 train.steps=9",
            "error: got --multirun optimizer.learning_rate=0.05,0.1 train.steps=9, want --sweep \
             'optimizer.learning_rate=0.05,0.1' --set 'train.steps=9'\n",
        ),
        (
            "--multirun",
            "error: got --multirun, want --sweep FIELD=VALUE,VALUE\n",
        ),
        (
            "train.steps=9",
            "error: got train.steps=9, want --set 'train.steps=9'\n",
        ),
        (
            "other",
            "error: got \"other\" beside tiny, want one experiment\n",
        ),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let refused = project.runboard(&[&["run", "tiny"], &words[..]].concat());
        assert_eq!((refused.code, &*refused.err), (Some(2), want));
    }
    assert!(!project.path("runs").exists());
}

#[test]
fn sweeps_on_one_machine_take_turns() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05, 0.1]}\n");
    project.write(
        "experiments/other.yaml",
        "extends: tiny\nsweep: {parameters: {optimizer.learning_rate: [0.02, 0.05, 0.1]}}\n",
    );
    // Each point has all cores.
    let start = |name| project.start(&["run", name, "--set", "compute.threads=0"]);
    let sweeps = ["sweep", "other"].map(start);
    let mut told = String::new();
    for sweep in sweeps {
        let done = end(sweep);
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
        told += &done.out;
    }
    let waits = told.lines().find(|line| line.starts_with("waiting for "));
    let waits = waits.unwrap_or_else(|| panic!("who has the cores is not told: {told}"));
    assert!(waits.contains(" (pid "), "{waits}");
    let time = |value: &Value| {
        let text = value.as_str().unwrap();
        text.parse::<chrono::DateTime<chrono::FixedOffset>>()
            .unwrap()
    };
    let mut times = Vec::new();
    for name in ["sweep", "other"] {
        for run in points(&project.run(name)).into_values() {
            let process = &status(&run, "supervisor").unwrap()["process"];
            times.push((time(&process["started"]), time(&process["heartbeat"])));
        }
    }
    times.sort();
    assert_eq!(times.len(), 6);
    for pair in times.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two at once: {times:?}");
    }
}

#[test]
fn points_that_are_added_to_a_finished_sweep_are_run_and_no_others() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    project.succeed(&["run", "sweep"]);
    let directory = begun(&project);
    let before: Vec<_> = points(&directory)
        .into_values()
        .map(|run| last_weights(&run))
        .collect();
    let frozen = fs::read(directory.join("sweep.yaml")).unwrap();
    let refused = project.runboard(&["resume", "sweep", "--set", "sweep.seeds=[8]"]);
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(fs::read(directory.join("sweep.yaml")).unwrap() == frozen);
    for option in [["--set", "train.steps=70"], ["--until", "70"]] {
        let refused = project.runboard(&[&["resume", "sweep"], &option[..]].concat());
        assert_eq!(refused.code, Some(2), "{}", refused.out);
    }
    let stopped = project.succeed(&["stop", "sweep"]).out;
    assert!(!stopped.contains("to go on"), "{stopped}");

    let done = project.succeed(&["resume", "sweep", "--set", "sweep.on_failure=stop"]);
    assert!(!done.out.contains("added"), "{}", done.out);
    // Elsewhere, as an environment says that sets it for all; and with other threads.
    fs::rename(project.path("data"), project.path("moved")).unwrap();
    let parallel = format!("sweep.parallel={}", two());
    let mut resume = project.command(&["resume", "sweep", "--set", "sweep.seeds=[7,8]"]);
    resume
        .args(["--set", &*parallel])
        .env("RUNBOARD_DATA", "moved");
    let done = Done::of(resume.output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(!project.path("data").exists(), "made anew");
    assert!(
        done.out
            .contains("2 points are added to the 2 that there were"),
        "{}",
        done.out
    );
    let runs = points(&directory);
    assert_eq!(runs.len(), 4);
    let sessions = |run: &PathBuf| {
        json(&run.join("provenance.json"))["sessions"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        runs.values().map(sessions).collect::<Vec<_>>(),
        [1, 1, 1, 1]
    );
    for (run, weights) in runs.values().zip(&before) {
        assert!(last_weights(run) == *weights);
    }
    let seed = |run: &PathBuf| {
        fs::read_to_string(run.join("spec.yaml"))
            .unwrap()
            .contains("\nseed: 8\n")
    };
    assert_eq!(
        runs.values().map(seed).collect::<Vec<_>>(),
        [false, false, true, true]
    );
    // How many threads a point was given makes no other setting.
    let compare = ["compare", "sweep", "--mean-over", "seed", "--json"];
    let rows: Value = serde_json::from_str(&project.succeed(&compare).out).unwrap();
    let counts = rows.as_array().unwrap().iter();
    let counts: Vec<_> = counts.map(|row| row["runs"].as_u64().unwrap()).collect();
    assert_eq!(counts, [2, 2], "{rows}");
    // Sweeps differ in what they sweep over.
    project.write(
        "experiments/other.yaml",
        "extends: tiny\nsweep: {parameters: {optimizer.learning_rate: [0.1]}, seeds: 3}\n",
    );
    let diff = project.succeed(&["diff", "sweep", "other", "--json"]).out;
    let rows: Value = serde_json::from_str(&diff).unwrap();
    let rows = rows.as_array().unwrap().iter();
    let of_sweep = rows.filter(|row| row["section"] == "sweep");
    let names: Vec<&str> = of_sweep.map(|row| row["name"].as_str().unwrap()).collect();
    for name in ["parameters.optimizer.learning_rate", "seeds", "on_failure"] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    assert_eq!(
        project.succeed(&["diff", "other", "other"]).out,
        "nothing differs\n"
    );
}

#[test]
fn detached_sweep_is_stopped_well_and_its_points_are_runs() {
    let project = project(GRID);
    // So long that it is there to be stopped.
    project.succeed(&["run", "sweep", "--detach", "--set", "train.steps=100000"]);
    let directory = begun(&project);
    wait_for("two trainers", || {
        (trainers(&directory).len() == two()).then_some(())
    });
    let listed = project.succeed(&["list"]).out;
    assert!(listed.contains(" running "), "{listed}");
    assert!(listed.contains("0/4 points"), "{listed}");
    let refused = project.runboard(&["resume", "sweep"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.contains("is already running (sweep, pid "),
        "{}",
        refused.err
    );

    project.succeed(&["stop", "sweep"]);
    assert_eq!(processes(&project), []);
    let runs = points(&directory);
    assert_eq!(runs.len(), two());
    for run in runs.values() {
        let train = status(run, "train").unwrap();
        assert_eq!(train["process"]["state"], json!("stopped"));
        let last = checkpoints(run).pop().unwrap();
        assert_eq!(train["step"], json!(last + 1));
    }
    assert!(project.succeed(&["list"]).out.contains(" stopped "));
    // A point is a run as any other.
    let id = format!(
        "sweep/{}/1",
        directory.file_name().unwrap().to_str().unwrap()
    );
    project.succeed(&[
        "resume",
        &id,
        "--set",
        "train.steps=1000000",
        "--until",
        "100",
    ]);
    project.succeed(&["eval", "--once", "--run", &id]);
    let refused = project.runboard(&["eval", "--once", "--run", "sweep"]);
    assert!(
        refused.err.contains("is a sweep; want one of its points"),
        "{}",
        refused.err
    );
}

#[test]
fn stop_asks_all_points_that_go_on_without_their_sweep_although_one_is_frozen() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    project.succeed(&["run", "sweep"]);
    let runs: Vec<PathBuf> = points(&begun(&project)).into_values().collect();
    let supervisors: Vec<Pid> = runs
        .iter()
        .map(|run| {
            let run = run.to_str().unwrap();
            let steps = "train.steps=1000000";
            project.succeed(&["resume", run, "--set", steps, "--detach"]);
            wait_for("a trainer that trains on", || {
                (status(Path::new(run), "train")?["step"].as_u64()? > 60).then_some(())
            });
            at_work(&status(Path::new(run), "supervisor").unwrap()).unwrap()
        })
        .collect();
    hold(supervisors[0]);
    let stop = project.command(&["stop", "sweep"]).spawn().unwrap();
    wait_for("the end of the second point", || {
        let supervisor = at_work(&status(&runs[1], "supervisor")?);
        supervisor.is_none().then_some(())
    });
    kill(supervisors[0], Signal::SIGCONT).unwrap();
    assert_eq!(end(stop).code, Some(0));
    for run in runs {
        let train = status(&run, "train").unwrap();
        assert_eq!(train["process"]["state"], json!("stopped"));
    }
    assert_eq!(processes(&project), []);
}

#[test]
fn ctrl_c_stops_all_points_well_and_a_second_one_at_once() {
    let project = project(GRID);
    let start = || project.start(&["run", "sweep", "--set", "train.steps=100000"]);
    let child = start();
    let directory = begun(&project);
    wait_for("two trainers", || {
        (trainers(&directory).len() == two()).then_some(())
    });
    let sweep = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(sweep, Signal::SIGINT).unwrap();
    let done = end(child);
    assert_eq!(done.code, Some(130), "{}", done.err);
    assert!(done.out.contains("  to go on "), "{}", done.out);
    for run in points(&directory).values() {
        let train = status(run, "train").unwrap();
        assert_eq!(train["process"]["state"], json!("stopped"));
    }

    let child = project.start(&["resume", "sweep"]);
    wait_for("two trainers", || {
        (trainers(&directory).len() == two()).then_some(())
    });
    // Frozen, they end only at once.
    for pid in trainers(&directory) {
        kill(pid, Signal::SIGSTOP).unwrap();
    }
    let sweep = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(sweep, Signal::SIGINT).unwrap();
    wait_for("the sweep to stop", || {
        let status = status(&directory, "sweep")?;
        (status["stopping"] == json!(true)).then_some(())
    });
    kill(sweep, Signal::SIGTERM).unwrap();
    assert_eq!(end(child).code, Some(130));
    assert_eq!(trainers(&directory), []);
}

#[test]
fn resumed_points_have_the_threads_that_are_kept_for_them() {
    let project = project("  parallel: 2\n  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    let detached = ["--detach", "--set", "compute.threads=0"];
    let run = ["run", "sweep", "--set", "train.steps=100000"];
    project.succeed(&[&run[..], &detached].concat());
    let directory = begun(&project);
    wait_for("two trainers", || {
        (trainers(&directory).len() == two()).then_some(())
    });
    project.succeed(&["stop", "sweep"]);
    let first = || points(&directory).into_values().next().unwrap();
    let threads = || {
        let spec = fs::read_to_string(first().join("spec.yaml"));
        let spec: Value = serde_yaml::from_str(&spec.unwrap()).unwrap();
        spec["compute"]["threads"].as_u64().unwrap() as usize
    };
    let cores = thread::available_parallelism().unwrap().get();
    assert_eq!(threads(), cores / two());
    project.succeed(&["resume", "sweep", "--detach", "--set", "sweep.parallel=1"]);
    wait_for("a trainer", || {
        (trainers(&directory).len() == 1).then_some(())
    });
    assert_eq!(threads(), cores);
    project.succeed(&["stop", "sweep"]);
}

#[test]
fn half_made_point_is_made_again() {
    let project = project("  parameters: {optimizer.learning_rate: [0.02, 0.05]}\n");
    let child = project.start(&["run", "sweep"]);
    let directory = begun(&project);
    kill_everything(&project);
    end(child);
    let half = directory.join("002-learning_rate=0.05");
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(half.join("checkpoints")).unwrap();
    project.succeed(&["resume", "sweep"]);
    assert_eq!(checkpoints(&half).last(), Some(&59));
    // One that has trained is nobody's to remove.
    fs::remove_file(half.join("spec.yaml")).unwrap();
    let refused = project.runboard(&["resume", "sweep"]);
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(
        refused.err.contains("has checkpoints and no spec.yaml"),
        "{}",
        refused.err
    );
}

#[test]
fn random_sweep_that_gets_more_runs_ends_as_one_that_had_them_from_the_beginning() {
    let random = |runs: usize| {
        format!(
            "  method: random\n  runs: {runs}\n  parameters:\n    optimizer.learning_rate: {{distribution: \
             log_uniform_values, min: 0.01, max: 0.1}}\n"
        )
    };
    let whole = project(&random(3));
    whole.succeed(&["run", "sweep"]);
    let project = project(&random(2));
    project.succeed(&["run", "sweep"]);
    let directory = begun(&project);
    assert_eq!(points(&directory).len(), 2);
    project.succeed(&["resume", "sweep", "--set", "sweep.runs=3"]);
    assert_same(&directory, &begun(&whole));
}
