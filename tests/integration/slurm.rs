//! Points of a sweep as jobs of Slurm, and a job that is requeued before its time is up. Slurm is a script here
//! (`fake_slurm.sh`); `make test-slurm` has a real one.

use crate::support::{
    Done, Project, RUNBOARD, TINY_NETWORK, checkpoints, end, json, last_weights, names, pid,
    recipe, saved, signal, status, wait_for,
};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const COMMANDS: [&str; 5] = ["sbatch", "squeue", "scancel", "scontrol", "release"];

/// A project on a host with Slurm.
struct Cluster {
    project: Project,
}

impl Cluster {
    /// With the sweep `sweep` of two learning rates, of so many steps.
    fn new(steps: u64, launcher: &str) -> Self {
        let project = Project::new();
        let train = format!(
            "train: {{steps: {steps}, batch_size: 8, log_every: 1000, scalars_every: 1000, histograms_every: 1000, \
             images_every: 1000, checkpoint_every: 20}}"
        );
        project.write(
            "experiments/tiny.yaml",
            format!("{TINY_NETWORK}\n{train}\n"),
        );
        let sweep = "sweep:\n  parameters: {optimizer.learning_rate: [0.05, 0.1]}";
        project.write(
            "experiments/sweep.yaml",
            format!("extends: tiny\n{sweep}\n  launcher: {launcher}\n"),
        );
        project.write(
            "experiments/local.yaml",
            format!("extends: tiny\n{sweep}\n"),
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/fake_slurm.sh");
        fs::create_dir_all(project.path("bin")).unwrap();
        fs::create_dir_all(project.path("slurm/jobs")).unwrap();
        for name in COMMANDS {
            symlink(&script, project.path("bin").join(name)).unwrap();
        }
        Cluster { project }
    }

    /// A command that finds Slurm, runboard by default.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(RUNBOARD), arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.project.command_of(program, arguments);
        let (path, bin) = (env::var("PATH").unwrap(), self.project.path("bin"));
        command
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("FAKE_SLURM", self.project.path("slurm"));
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    fn runboard(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    /// One of Slurm's own commands.
    fn slurm(&self, command: &str, arguments: &[&str]) {
        let program = self.project.path("bin").join(command);
        let mut slurm = self.command_of(&program, arguments);
        // Its jobs live on.
        slurm.stdout(Stdio::null()).stderr(Stdio::inherit());
        assert!(slurm.status().unwrap().success());
    }

    fn hold(&self) {
        self.project.write("slurm/held", "");
    }

    /// The numbers of all jobs that were submitted.
    fn jobs(&self) -> Vec<String> {
        names(&self.project.path("slurm/jobs"))
    }

    fn job(&self, job: &str, what: &str) -> String {
        let path = self.project.path("slurm/jobs").join(job).join(what);
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// The process of a job that runs.
    fn process(&self, job: &str) -> Pid {
        let pid = || self.job(job, "pid").parse().ok();
        Pid::from_raw(wait_for("a job that has begun", pid))
    }

    /// The runs of both points, once they have saved something.
    fn under_way(&self) -> Vec<PathBuf> {
        wait_for("two points with checkpoints", || {
            let points = self.points("sweep");
            let saved = points.iter().filter(|run| saved(run) > 1).count();
            (saved == 2).then_some(points)
        })
    }

    /// The runs of the points of the only sweep of this name.
    fn points(&self, name: &str) -> Vec<PathBuf> {
        let sweeps = fs::read_dir(self.project.path("runs").join(name));
        let sweeps = sweeps.into_iter().flatten().map(|it| it.unwrap().path());
        let sweeps: Vec<PathBuf> = sweeps.collect();
        assert!(sweeps.len() < 2);
        let all = sweeps.iter().flat_map(|sweep| {
            let names = names(sweep).into_iter();
            names.map(|name| sweep.join(name))
        });
        all.filter(|run| run.join("spec.yaml").exists()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for job in self.jobs() {
            if self.job(&job, "state") == "RUNNING"
                && let Ok(pid) = self.job(&job, "pid").parse()
            {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// The trainer was stopped, and its last step is saved.
fn assert_stopped_in_good_order(run: &Path) {
    let train = status(run, "train").unwrap();
    assert_eq!(train["process"]["state"], "stopped");
    assert_eq!(
        train["step"].as_u64().unwrap(),
        checkpoints(run).pop().unwrap() + 1
    );
}

#[test]
fn jobs_of_a_sweep_whose_process_is_killed_are_found_again() {
    let cluster = Cluster::new(
        60,
        "{slurm: {partition: all, time: 30, options: [--nice=1]}}",
    );
    cluster.hold();
    let mut sweep = cluster.start(&["run", "sweep"]);
    let submitted = || {
        let points = cluster.points("sweep");
        let records = points.iter().map(|run| run.join("submission.json"));
        let known = |path: &PathBuf| path.exists() && json(path)["job"].is_string();
        (records.filter(known).count() == 2).then_some(points)
    };
    let points = wait_for("two jobs", submitted);
    sweep.kill().unwrap();
    sweep.wait().unwrap();
    // As after a kill between the submission and its record.
    let path = points[0].join("submission.json");
    let mut record = json(&path);
    let job = record["job"].take();
    fs::write(&path, record.to_string()).unwrap();
    let sweep = cluster.start(&["resume", "sweep"]);
    wait_for("the job of that name", || {
        (json(&path)["job"] == job).then_some(())
    });
    cluster.slurm("release", &[]);
    let done = end(sweep);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert_eq!(cluster.jobs(), ["1", "2"]);
    let calls = fs::read_to_string(cluster.project.path("slurm/calls")).unwrap();
    let submission = calls
        .lines()
        .find(|line| line.starts_with("sbatch --parsable "))
        .unwrap();
    for option in [
        "--signal=B:USR1@60 --requeue --cpus-per-task=1 --partition=all --time=30 --nice=1 ",
        "/001.1 ",
    ] {
        assert!(submission.contains(option), "{submission}");
    }
    // What a job trains is what this machine trains.
    assert_eq!(cluster.runboard(&["run", "local"]).code, Some(0));
    for (point, local) in points.iter().zip(cluster.points("local")) {
        assert!(last_weights(point) == last_weights(&local));
    }
}

#[test]
fn job_in_whose_place_another_was_submitted_does_nothing() {
    let cluster = Cluster::new(60, "slurm");
    cluster.hold();
    let mut sweep = cluster.start(&["run", "sweep"]);
    wait_for("two jobs", || (cluster.jobs().len() == 2).then_some(()));
    sweep.kill().unwrap();
    sweep.wait().unwrap();
    for point in cluster.points("sweep") {
        let path = point.join("submission.json");
        let record = fs::read_to_string(&path).unwrap();
        fs::write(&path, record.replace("\"number\":1,", "\"number\":2,")).unwrap();
    }
    cluster.slurm("release", &[]);
    for job in ["1", "2"] {
        wait_for("the end of the job", || {
            (cluster.job(job, "state") == "COMPLETED").then_some(())
        });
    }
    for point in cluster.points("sweep") {
        assert_eq!(status(&point, "train"), None);
    }
}

#[test]
fn sweep_that_is_stopped_stops_its_jobs_after_a_last_checkpoint() {
    let cluster = Cluster::new(100_000_000, "slurm");
    let sweep = cluster.start(&["run", "sweep"]);
    let points = cluster.under_way();
    signal(&sweep, Signal::SIGINT);
    let done = end(sweep);
    assert_eq!(done.code, Some(130), "{}\n{}", done.out, done.err);
    for run in &points {
        assert_stopped_in_good_order(run);
    }
    // Those that have not begun never do.
    cluster.hold();
    let sweep = cluster.start(&["resume", "sweep"]);
    wait_for("two more jobs", || {
        (cluster.jobs().len() == 4).then_some(())
    });
    signal(&sweep, Signal::SIGINT);
    assert_eq!(end(sweep).code, Some(130));
    for job in ["3", "4"] {
        assert_eq!(cluster.job(job, "state"), "CANCELLED");
    }
}

#[test]
fn stop_of_a_sweep_that_was_killed_cancels_its_jobs() {
    let cluster = Cluster::new(100_000_000, "slurm");
    let mut sweep = cluster.start(&["run", "sweep"]);
    let points = cluster.under_way();
    sweep.kill().unwrap();
    sweep.wait().unwrap();
    fs::write(cluster.project.path("slurm/jobs/2/state"), "PENDING").unwrap(); // as after a requeue
    let done = cluster.runboard(&["stop", "sweep"]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert_eq!(cluster.job("2", "state"), "CANCELLED");
    for run in &points {
        assert_eq!(status(run, "train").unwrap()["process"]["state"], "stopped");
    }
}

#[test]
fn stop_of_a_sweep_whose_file_is_damaged_stops_its_points() {
    let cluster = Cluster::new(100_000_000, "slurm");
    let mut sweep = cluster.start(&["run", "sweep"]);
    let points = cluster.under_way();
    sweep.kill().unwrap();
    sweep.wait().unwrap();
    let file = points[0].with_file_name("sweep.yaml");
    fs::write(&file, "version: 1000\n").unwrap();
    let done = cluster.runboard(&["stop", "sweep"]);
    assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
    assert!(done.err.contains("got version 1000"), "{}", done.err);
    for run in &points {
        assert_eq!(status(run, "train").unwrap()["process"]["state"], "stopped");
    }
}

#[test]
fn sweep_waits_where_slurm_takes_no_more_jobs() {
    let cluster = Cluster::new(60, "slurm");
    cluster.hold();
    cluster.project.write("slurm/most", "1");
    let sweep = cluster.start(&["run", "sweep"]);
    let refused = cluster.project.path("slurm/refused");
    wait_for("a job that is refused", || refused.exists().then_some(()));
    fs::remove_file(cluster.project.path("slurm/most")).unwrap();
    cluster.slurm("release", &[]);
    let done = end(sweep);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert_eq!(cluster.jobs(), ["1", "2"]);
    let wanted = "waiting for Slurm to take another job (sbatch failed (exit status: 1): sbatch: error: too many jobs)";
    assert!(done.out.contains(wanted), "{}", done.out);
}

#[test]
fn point_whose_job_slurm_ends_goes_on_in_another_and_one_that_somebody_cancels_does_not() {
    let cluster = Cluster::new(100_000_000, "slurm");
    let sweep = cluster.start(&["run", "sweep"]);
    cluster.under_way();
    let state = cluster.project.path("slurm/jobs/1/state");
    let process = cluster.process("1");
    fs::write(state, "NODE_FAIL").unwrap();
    killpg(process, Signal::SIGKILL).unwrap();
    wait_for("another job", || (cluster.jobs().len() == 3).then_some(()));
    cluster.process("3");
    // A failure of Slurm's own changes nothing.
    cluster.project.write("slurm/down", "");
    let calls = || fs::read_to_string(cluster.project.path("slurm/calls")).unwrap();
    let before = calls().len();
    wait_for("a look in vain", || {
        calls()[before..].contains("squeue").then_some(())
    });
    fs::remove_file(cluster.project.path("slurm/down")).unwrap();
    for job in ["2", "3"] {
        cluster.slurm("scancel", &[job]);
    }
    let done = end(sweep);
    assert_eq!(done.code, Some(143), "{}\n{}", done.out, done.err);
    for text in [
        ": its job 1 ended (NODE_FAIL); it is resumed",
        ": resumed as job 3",
        "warning: squeue failed (exit status: 1): squeue: error: Unable to contact slurm controller; Slurm is asked again",
        ": stopped by somebody after ",
    ] {
        assert!(done.out.contains(text), "{text}\n{}", done.out);
    }
    assert_eq!(cluster.jobs().len(), 3);
}

#[test]
fn what_slurm_refuses_or_does_not_know_is_an_error() {
    let cluster = Cluster::new(60, "{slurm: {partition: none}}");
    let done = cluster.runboard(&["run", "sweep"]);
    assert_eq!(done.code, Some(1));
    let wanted =
        "error: sbatch failed (exit status: 1): sbatch: error: invalid partition specified: none";
    assert!(done.err.contains(wanted), "{}", done.err);
    // No Slurm at all.
    let mut nowhere = cluster.project.command(&["run", "sweep"]);
    let done = Done::of(nowhere.env("PATH", "/nowhere").output().unwrap());
    assert_eq!(done.code, Some(2));
    let wanted = "error: sweep.launcher: got slurm, but no jobs can be submitted here: failed to start sbatch";
    assert!(done.err.contains(wanted), "{}", done.err);
    for (launcher, error) in [
        ("pbs", "sweep.launcher: got \"pbs\", want local or slurm"),
        (
            "{slurm: {queue: a}}",
            "unknown key of slurm: want one of partition, account, qos, time, mem, ",
        ),
        (
            "{slurm: {options: [a]}}",
            "want a list of options of sbatch, such as [--exclusive, --nice=10]",
        ),
        ("{slurm: {time: []}}", "want a text, as sbatch takes it"),
        (
            "slurm\n  devices: [cpu]",
            "no effect with launcher slurm, which gives each job its own; want gpus_per_task there",
        ),
    ] {
        let cluster = Cluster::new(60, launcher);
        let done = cluster.runboard(&["run", "sweep"]);
        assert_eq!(done.code, Some(2), "{launcher}");
        assert!(done.err.contains(error), "{}", done.err);
        assert!(cluster.jobs().is_empty());
    }
}

/// Whether the only job, which is to run this command, goes on with its run of the experiment `recipe` after it was
/// requeued. Returns that run.
fn requeued(cluster: &Cluster, command: &str) -> PathBuf {
    let project = &cluster.project;
    let before = project.newest("recipe");
    let script = format!("#!/bin/sh\nexec '{RUNBOARD}' {command}\n");
    project.write("job.sh", script);
    let script = project.path("job.sh");
    cluster.slurm("sbatch", &["--job-name=a", script.to_str().unwrap()]);
    let run = wait_for("a checkpoint", || {
        let run = project.newest("recipe").filter(|run| saved(run) > 1);
        run.filter(|run| before.as_ref() != Some(run))
    });
    let process = cluster.process("1");
    // Slurm may send it to all processes of the job.
    killpg(process, Signal::SIGUSR1).unwrap();
    let trainer = status(&run, "train").unwrap()["process"]["pid"]
        .as_i64()
        .unwrap();
    let _ = kill(Pid::from_raw(trainer as i32), Signal::SIGUSR1);
    let over = || {
        Some(cluster.job("1", "state")).filter(|state| state == "COMPLETED" || state == "FAILED")
    };
    let state = wait_for("the end of the job", over);
    let output = cluster.job("1", "output");
    assert_eq!(state, "COMPLETED", "{output}");
    assert_eq!(cluster.job("1", "restarts"), "1");
    for text in [
        "job 1 is requeued: it goes on when Slurm starts it again",
        "this job is started again, and goes on with recipe/",
    ] {
        assert!(output.contains(text), "{output}");
    }
    assert_eq!(project.newest("recipe").as_ref(), Some(&run));
    run
}

#[test]
fn job_whose_time_is_almost_up_saves_is_requeued_and_goes_on_with_the_same_run() {
    let cluster = Cluster::new(60, "local");
    let project = &cluster.project;
    project.write("experiments/recipe.yaml", recipe(600, 20));
    let weights = last_weights(&requeued(&cluster, "run recipe --quiet"));
    fs::remove_dir_all(project.path("runs")).unwrap();
    project.succeed(&["run", "recipe"]);
    assert!(weights == last_weights(&project.run("recipe")));
}

#[test]
fn requeued_job_goes_on_with_its_rerun_as_far_as_the_run_that_it_repeats() {
    let cluster = Cluster::new(60, "local");
    let project = &cluster.project;
    project.write("experiments/recipe.yaml", recipe(600, 20));
    project.succeed(&["run", "recipe", "--until", "590"]);
    let origin = project.run("recipe");
    // By the time it is started again, the latest run is the one that it has begun itself.
    let run = requeued(&cluster, "rerun recipe --quiet");
    assert_ne!(run, origin);
    assert_eq!(checkpoints(&run).pop(), Some(589));
    assert!(last_weights(&run) == last_weights(&origin));
    let shown = project.succeed(&["show", "recipe"]).out;
    assert!(shown.contains("with the same bytes at "), "{shown}");
}

#[test]
fn sigusr1_outside_a_job_stops_a_run_in_good_order() {
    let project = Project::new();
    project.write("experiments/recipe.yaml", recipe(100_000_000, 20));
    let child = project.start(&["run", "recipe"]);
    let run = wait_for("a checkpoint", || {
        project.newest("recipe").filter(|run| saved(run) > 1)
    });
    kill(pid(&child), Signal::SIGUSR1).unwrap();
    assert_eq!(end(child).code, Some(138));
    assert_stopped_in_good_order(&run);
}
