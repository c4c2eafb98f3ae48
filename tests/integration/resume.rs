//! A run that is killed and resumed ends as one that never was: the same bytes, the same curves.

use crate::support::{
    Project, TINY_NETWORK, checkpoints, journal, json, last_weights, names, respecify, signal,
    steps, tensorboard_reads, tensorboard_shows, timed, wait_for,
};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const STEPS: u64 = 300;
const KILLS: u64 = 20;

/// Saves often.
const TINY: &str = "
train: {steps: 300, batch_size: 8, log_every: 1, scalars_every: 1, histograms_every: 10, images_every: 50,
  checkpoint_every: 7, keep_checkpoints: 3, keep_every: 21}
eval: {policy: latest}
";

/// All that a step may remember and draw: momentum, an average that is not of every step, dropout, a schedule. Its first
/// weights are of the images.
const RECIPE: &str = "
extends: tiny
network: {dropout: 0.2, conv1: {init: whitening, frozen: true}}
loss: {label_smoothing: 0.1}
optimizer: {learning_rate: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.001, bias_rate_factor: 2, clip_norm: 5}
schedule: {name: piecewise, unit: percent, knots: [0, 20, 100], factors: [0.2, 1, 0.07]}
average: {start_epoch: 2, every: 3}
";

/// A project whose experiments `tiny` and `recipe` are [`TINY`] and [`RECIPE`].
fn tiny() -> Project {
    let project = Project::new();
    project.write("experiments/tiny.yaml", format!("{TINY_NETWORK}{TINY}"));
    project.write("experiments/recipe.yaml", RECIPE);
    project
}

/// When a trainer is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start.
    Start(Duration),
    /// So many steps on, and so long after that.
    Step(u64, Duration),
    /// So many steps on, so long after the next save of a checkpoint has begun.
    Save(u64, Duration),
    /// So many steps on, when its curves have grown by another so many bytes.
    Events(u64, u64),
}

impl Moment {
    /// A kind of moment in turn, drawn within its bounds.
    fn draw(kill: u64, start: Duration, random: &mut ChaCha8Rng) -> Self {
        let steps = random.random_range(0..STEPS / KILLS);
        let little = Duration::from_micros(random.random_range(0..4000));
        match kill % 4 {
            0 => Moment::Start(start.mul_f64(random.random())),
            1 => Moment::Step(steps, little),
            2 => Moment::Save(steps, little),
            _ => Moment::Events(steps, random.random_range(1..50_000)),
        }
    }

    /// Wait for the moment, or for the trainer's end.
    fn wait(self, trainer: &mut Child, run: &Path) {
        let said = BufReader::new(trainer.stdout.take().unwrap()).lines();
        // Closed after that: nobody reads on, and a full pipe would hold the trainer.
        let pass = |steps: u64| {
            let mut told = said.filter(|line| line.as_ref().unwrap().contains(": step "));
            told.nth(steps as usize);
        };
        let mut until = |passed: &dyn Fn() -> bool| {
            while !passed() && trainer.try_wait().unwrap().is_none() {
                thread::yield_now();
            }
        };
        match self {
            Moment::Start(after) => thread::sleep(after),
            Moment::Step(steps, after) => {
                pass(steps);
                thread::sleep(after);
            }
            Moment::Save(steps, after) => {
                pass(steps);
                until(&|| saving(run));
                thread::sleep(after);
            }
            Moment::Events(steps, bytes) => {
                pass(steps);
                let begin = event_bytes(run);
                until(&|| event_bytes(run) >= begin + bytes);
            }
        }
    }
}

/// Whether a checkpoint is being written, or was when the trainer was killed.
fn saving(run: &Path) -> bool {
    let checkpoints = run.join("checkpoints");
    checkpoints.exists()
        && names(&checkpoints)
            .iter()
            .any(|name| name.ends_with(".tmp"))
}

/// Size of the event files together.
fn event_bytes(run: &Path) -> u64 {
    let files = fs::read_dir(run.join("train")).unwrap();
    files
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
        .sum()
}

/// How long a whole run takes to start.
fn train_whole(project: &Project, run: &Path) -> Duration {
    let begin = Instant::now();
    let mut trainer = project.start(&["train", "--run", run.to_str().unwrap()]);
    let mut lines = BufReader::new(trainer.stdout.take().unwrap()).lines();
    let first = lines.find(|line| line.as_ref().unwrap().contains(": step 0,"));
    assert!(first.is_some(), "no first step");
    let start = begin.elapsed();
    assert_eq!(lines.count() as u64, STEPS - 1);
    assert_eq!(trainer.wait().unwrap().code(), Some(0));
    start
}

/// The seed of everything random, printed with a failure; `RUNBOARD_TEST_SEED` sets it.
fn seeded() -> ChaCha8Rng {
    let seed = match env::var("RUNBOARD_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros() as u64,
    };
    println!("RUNBOARD_TEST_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// The curves of a resumed run and those of an uninterrupted one, as TensorBoard's reader finds them.
fn assert_same_curves(resumed: &Path, whole: &Path) {
    let total = json(&whole.join("train.status.json"))["steps"]
        .as_u64()
        .unwrap();
    let Some(resumed) = tensorboard_reads(&resumed.join("train")) else {
        return;
    };
    let whole = tensorboard_reads(&whole.join("train")).unwrap();
    for kind in ["histograms", "images", "graph", "text", "custom_scalars"] {
        assert_eq!(resumed[kind], whole[kind], "{kind}");
    }
    let tags =
        |curves: &Value| -> Vec<String> { curves.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(tags(&resumed["scalars"]), tags(&whole["scalars"]));
    for (tag, curve) in resumed["scalars"].as_object().unwrap() {
        // Layers are looked at with the histograms.
        let with_histograms = ["/sparsity", "/gradient_norm", "/weight_norm"];
        let every = match with_histograms.iter().any(|end| tag.ends_with(end)) {
            true => 10,
            false => 1,
        };
        let cadence: Vec<u64> = (0..total).step_by(every).collect();
        assert_eq!(steps(curve), cadence, "{tag}");
        if !timed(tag) {
            assert_eq!(curve, &whole["scalars"][tag], "{tag}");
        }
    }
}

/// What a served TensorBoard shows of all runs: with both readers the same, and of each the same steps.
fn assert_both_readers_agree(runs: &Path, ids: &[String], scalars: usize) {
    let Some(shown) = tensorboard_shows(runs) else {
        return;
    };
    for (plugin, python) in shown["python"].as_object().unwrap() {
        assert!(python == &shown["fast"][plugin], "{plugin} by {shown}");
    }
    let shown = &shown["python"];
    let train = |id: &String| format!("{id}/train");
    for (plugin, tags) in [
        ("scalars", scalars),
        ("histograms", 25),
        ("distributions", 25),
        ("images", 4),
        ("text", 3),
    ] {
        let whole = &shown[plugin][train(&ids[0])];
        assert_eq!(whole.as_object().unwrap().len(), tags, "{plugin}");
        for curve in whole.as_object().unwrap().values() {
            let steps: Vec<u64> = serde_json::from_value(curve.clone()).unwrap();
            assert!(steps.is_sorted_by(|a, b| a < b), "{plugin}: {steps:?}");
        }
        // Which sessions there were is not the same.
        let others = |id: &String| {
            let mut series = shown[plugin][train(id)].as_object().unwrap().clone();
            series.remove("sessions");
            series
        };
        for id in ids {
            assert_eq!(others(id), others(&ids[0]), "{plugin} of {id}");
        }
    }
}

#[test]
fn run_that_is_killed_twenty_times_ends_with_the_same_bytes() {
    let files = assert_kills_change_nothing("tiny", 40);
    assert_eq!(
        files,
        ["ema.safetensors", "state.json", "weights.safetensors"]
    );
}

#[test]
fn run_with_momentum_that_is_killed_twenty_times_ends_with_the_same_bytes() {
    let files = assert_kills_change_nothing("recipe", 41);
    assert!(files.contains(&"momentum.safetensors".to_owned()));
}

/// Kill a run of this experiment, which shows so many scalars of training, again and again; the files of its last checkpoint.
fn assert_kills_change_nothing(experiment: &str, scalars: usize) -> Vec<String> {
    let mut random = seeded();
    let project = tiny();
    let whole = project.prepare(experiment, "tiny/whole", &[]);
    let start = train_whole(&project, &whole);
    let kept = names(&whole.join("checkpoints"));
    let want: Vec<String> = (0..STEPS)
        .filter(|step| step.is_multiple_of(21) || [287, 294, 299].contains(step))
        .map(|step| format!("step-{step:08}"))
        .collect();
    assert_eq!(kept, want);

    let mut ids = vec!["tiny/whole".to_owned()];
    let (mut kills, mut interrupted_saves) = (0, 0);
    // Usually one run; another one if that is through before the last kill.
    while kills < KILLS {
        let id = format!("tiny/resumed-{}", ids.len());
        let run = project.prepare(experiment, &id, &[]);
        let directory = run.to_str().unwrap();
        while kills < KILLS {
            let moment = Moment::draw(kills, start, &mut random);
            let mut trainer = project.start(&["train", "--run", directory]);
            moment.wait(&mut trainer, &run);
            trainer.kill().unwrap();
            let end = trainer.wait().unwrap();
            if end.success() {
                break;
            }
            assert_eq!(end.signal(), Some(9), "{moment:?}: {end}");
            kills += 1;
            let interrupted = saving(&run);
            interrupted_saves += u64::from(interrupted);
            println!("kill {kills}: {moment:?}, while saving: {interrupted}");
        }
        project.succeed(&["train", "--run", directory]);

        assert!(last_weights(&run) == last_weights(&whole));
        assert_eq!(names(&run.join("checkpoints")), kept);
        let status = json(&run.join("train.status.json"));
        assert_eq!(
            (&status["process"]["state"], &status["step"]),
            (&json!("finished"), &json!(STEPS))
        );
        assert_same_curves(&run, &whole);
        ids.push(id);
    }
    println!(
        "{interrupted_saves} of {kills} kills fell into a save, in {} runs",
        ids.len() - 1
    );
    assert_both_readers_agree(&project.path("runs"), &ids, scalars);
    last_weights(&whole)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn stop_during_a_save_lets_it_end_and_a_second_one_does_not() {
    let project = tiny();
    // Training does not end before it is stopped.
    let run = project.prepare("tiny", "tiny/stopped", &["train.steps=1000000"]);
    let directory = run.to_str().unwrap();
    for signals in [1, 2, 1] {
        let mut trainer = project.start(&["train", "--run", directory]);
        Moment::Save(5, Duration::ZERO).wait(&mut trainer, &run);
        for _ in 0..signals {
            signal(&trainer, Signal::SIGTERM);
        }
        let end = wait_for("the trainer's end", || trainer.try_wait().unwrap());
        assert_eq!(end.code(), Some(143));
        let state = &json(&run.join("train.status.json"))["process"]["state"];
        if signals == 1 {
            assert_eq!(state, "stopped");
            assert!(!saving(&run));
        }
    }
    // So far that only what an uninterrupted run keeps is left.
    let steps = checkpoints(&run).pop().unwrap() + 30;
    respecify(&run, "steps: 1000000", &format!("steps: {steps}"));
    project.succeed(&["train", "--run", directory]);
    let whole = project.prepare("tiny", "tiny/whole", &[&format!("train.steps={steps}")]);
    project.succeed(&["train", "--run", whole.to_str().unwrap()]);
    assert!(last_weights(&run) == last_weights(&whole));
    assert_eq!(
        names(&run.join("checkpoints")),
        names(&whole.join("checkpoints"))
    );
    assert_same_curves(&run, &whole);
}

#[test]
fn run_may_be_moved_between_sessions() {
    let project = tiny();
    let whole = project.prepare("tiny", "tiny/whole", &[]);
    train_whole(&project, &whole);
    let run = project.prepare("tiny", "tiny/here", &[]);
    let mut trainer = project.start(&["train", "--run", run.to_str().unwrap()]);
    Moment::Step(30, Duration::ZERO).wait(&mut trainer, &run);
    trainer.kill().unwrap();
    trainer.wait().unwrap();

    let moved = project.path("elsewhere/under another name");
    fs::create_dir_all(moved.parent().unwrap()).unwrap();
    fs::rename(&run, &moved).unwrap();
    project.succeed(&["train", "--run", moved.to_str().unwrap()]);
    assert!(!run.exists());
    assert!(last_weights(&moved) == last_weights(&whole));
    assert_same_curves(&moved, &whole);
}

#[test]
fn number_of_threads_changes_no_bit() {
    let project = Project::new();
    // Layers and a batch so large that libtorch would share every sum out among the threads.
    let wide = [
        "network.local3.units=384",
        "network.local4.units=192",
        "train.batch_size=72",
        "train.checkpoint_every=2",
        "train.steps=6",
    ];
    let with = |threads: &str, name: &str| {
        let threads = format!("compute.threads={threads}");
        let sets: Vec<&str> = wide.iter().copied().chain([threads.as_str()]).collect();
        let run = project.fresh(name, &sets);
        project.succeed(&["train", "--run", run.to_str().unwrap()]);
        project.succeed(&["eval", "--once", "--run", run.to_str().unwrap()]);
        run
    };
    let whole = with("1", "one");
    let losses = |run: &Path| -> Vec<Value> {
        let evaluations = journal(run).into_iter();
        evaluations
            .map(|evaluation| evaluation["loss"].clone())
            .collect()
    };
    for threads in ["2", "3"] {
        let run = with(threads, threads);
        assert!(
            last_weights(&run) == last_weights(&whole),
            "{threads} threads"
        );
        assert_eq!(losses(&run), losses(&whole));
        // Resumed with another number, as on another machine.
        fs::remove_dir_all(run.join("checkpoints/step-00000005")).unwrap();
        respecify(&run, &format!("threads: {threads}"), "threads: 1");
        let done = project.succeed(&["train", "--run", run.to_str().unwrap()]);
        assert!(!done.out.contains("warning"), "{}", done.out);
        assert!(last_weights(&run) == last_weights(&whole));
    }
    let muon = |threads: &str| {
        let name = format!("muon-{threads}");
        let threads = format!("compute.threads={threads}");
        let sets = [&wide[..], &["optimizer.name=muon", &threads]].concat();
        let run = project.fresh(&name, &sets);
        project.succeed(&["train", "--run", run.to_str().unwrap()]);
        last_weights(&run)
    };
    assert!(muon("3") == muon("1"));
}

#[test]
fn another_number_of_threads_is_told_where_it_changes_the_last_bits() {
    let project = Project::new();
    let run = project.fresh("bf16", &["compute.precision=bf16", "train.steps=3"]);
    let directory = run.to_str().unwrap();
    project.succeed(&["train", "--run", directory]);
    respecify(&run, "steps: 3", "steps: 4");
    respecify(&run, "threads: 1", "threads: 2");
    let done = project.succeed(&["train", "--run", directory]);
    assert!(
        done.out.contains("warning: 2 threads, but 1 before: ")
            && done.out.contains("compute.threads=1"),
        "{}",
        done.out
    );
}

#[test]
fn what_would_end_training_or_evaluation_is_refused_before_they_start() {
    let project = Project::new();
    project.succeed(&["run", "small", "--until", "12"]);
    let run = project.run("small");
    let [journal, directory] = ["evaluations.jsonl", "checkpoints"].map(|it| run.join(it));
    let record = fs::read(run.join("provenance.json")).unwrap();
    let refused = |want: &str| {
        let done = project.runboard(&["resume", "small"]);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.contains(want), "{}, want {want}", done.err);
        assert!(!done.out.contains("starting"), "{}", done.out);
        assert_eq!(fs::read(run.join("provenance.json")).unwrap(), record);
    };
    let whole = fs::read_to_string(&journal).unwrap();
    let impossible = whole.replace("\"step\":0,", &format!("\"step\":{},", i64::MAX));
    fs::write(&journal, impossible).unwrap();
    refused(": no run has so many steps; without the file");
    fs::remove_file(&journal).unwrap();
    symlink(&journal, &journal).unwrap();
    refused("evaluations.jsonl: it is no regular file, want the evaluator's journal");
    fs::remove_file(&journal).unwrap();
    fs::write(&journal, whole).unwrap();

    let beyond = directory.join("step-999999999999");
    fs::create_dir(&beyond).unwrap();
    let want = "step-999999999999: got a checkpoint of step 999999999999 in a run of 25 steps, want none beyond its last; move it elsewhere, or --set train.steps=1000000000000 if it is of this run";
    refused(want);
    fs::remove_dir(&beyond).unwrap();
    let aside = run.join("aside");
    fs::rename(&directory, &aside).unwrap();
    symlink(&directory, &directory).unwrap();
    refused("checkpoints: it is no directory, want that of checkpoints");
    fs::remove_file(&directory).unwrap();
    mkfifo(&directory, Mode::S_IRWXU).unwrap();
    refused("checkpoints: it is no directory, want that of checkpoints");
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    project.succeed(&["resume", "small"]);
}
