//! A disk that refuses, directories that vanish: training goes on where it can, and says what it could not save.

use crate::support::{
    Project, checkpoints, evaluated_steps, hold, journal, json, last_weights, names, pid, signal,
    steps, tensorboard_reads, wait_for,
};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A run that ends only when it is told to.
const ENDLESS: [&str; 5] = [
    "train.steps=1000000",
    "train.log_every=1000",
    "train.checkpoint_every=50",
    "train.histograms_every=50",
    "train.images_every=1000000", // which would fill a small disk in a while
];

/// A trainer at work, its output in `train.log` as under a supervisor.
struct Trainer {
    process: Child,
    run: PathBuf,
}

impl Trainer {
    fn start(project: &Project, run: &Path) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(run.join("train.log"))
            .unwrap();
        let process = project
            .command(&["train", "--run", run.to_str().unwrap()])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Trainer {
            process,
            run: run.to_owned(),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.run.join("train.log")).unwrap()
    }

    /// Wait until the log says all of this.
    fn says(&self, parts: &[&str]) {
        wait_for(&parts.join(", "), || {
            let log = self.log();
            parts.iter().all(|part| log.contains(part)).then_some(())
        });
    }

    /// The newest checkpoint's name, waited for.
    fn saves(&self) -> String {
        wait_for("a checkpoint", || newest(&self.run))
    }

    fn ends(&mut self) -> Option<i32> {
        wait_for("the trainer's end", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn newest(run: &Path) -> Option<String> {
    let directory = fs::read_dir(run.join("checkpoints")).ok()?;
    let names = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| !name.contains('.')).max()
}

/// Let a process write files of at most so many bytes: beyond that, every write of it fails as on a full
/// disk, whoever the user is.
fn limit_files(process: &Child, bytes: &str) {
    let prlimit = Command::new("prlimit")
        .arg(format!("--pid={}", process.id()))
        .arg(format!("--fsize={bytes}:"))
        .status();
    assert!(prlimit.expect("util-linux").success());
}

/// A small disk in memory, in a mount namespace of its own.
struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// `None` where the machine does not let its users mount one.
    fn mount(directory: &Path) -> Option<Self> {
        const MOUNT: &str =
            "mount -t tmpfs -o size=64m tmpfs \"$0\" && echo mounted && exec cat > /dev/null";
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux");
        let mut answer = String::new();
        let out = holder.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut answer).unwrap();
        let path = PathBuf::from(format!("/proc/{}/root{}", holder.id(), directory.display()));
        let disk = SmallDisk { holder, path };
        (answer == "mounted\n").then_some(disk)
    }

    fn fill(&self) {
        let mut file = File::create(self.path.join("filler")).unwrap();
        // Byte by byte at the end, so that no corner is left.
        for piece in [1 << 16, 1 << 8, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What a disk does to a process, and what the log says of it besides.
type Turn<'a> = (&'a dyn Fn(&Child), &'a [&'a str]);

/// Train, have the disk refuse and take again, and stop: nothing may be missing.
fn assert_training_goes_on(
    project: &Project,
    run: &Path,
    (refuse, refused): Turn,
    (take, taken): Turn,
) {
    let mut trainer = Trainer::start(project, run);
    trainer.saves();
    refuse(&trainer.process);
    trainer.says(&[
        "warning: the events of ",
        "they wait in memory and are tried again every second",
        "warning: failed to save checkpoint ",
        "training goes on, the next checkpoint is due in 50 steps",
    ]);
    trainer.says(refused);
    let before = trainer.saves();
    assert_eq!(trainer.process.try_wait().unwrap(), None);

    take(&trainer.process);
    trainer.says(&["they are written again; 0 were given up"]);
    trainer.says(taken);
    wait_for("a newer checkpoint", || {
        (trainer.saves() > before).then_some(())
    });
    signal(&trainer.process, Signal::SIGTERM);
    assert_eq!(trainer.ends(), Some(143), "{}", trainer.log());
    let told = trainer.log().matches("they wait in memory").count();
    assert_eq!(told, 1, "{}", trainer.log());

    let last = newest(run).unwrap();
    let step = json(&run.join("checkpoints").join(&last).join("state.json"))["step"]
        .as_u64()
        .unwrap();
    assert!(
        trainer
            .log()
            .contains(&format!("stopped after step {step}, which is saved"))
    );
    project.succeed(&["eval", "--run", run.to_str().unwrap(), "--once"]);
    if let Some(events) = tensorboard_reads(&run.join("train")) {
        let every = |cadence| (0..=step).step_by(cadence).collect::<Vec<_>>();
        assert_eq!(steps(&events["scalars"]["total_loss"]), every(10));
        assert_eq!(
            events["histograms"]["conv1/weights"],
            every(50).len(),
            "a histogram is missing"
        );
    }
}

#[test]
fn training_goes_on_while_the_disk_is_full_and_loses_no_step() {
    let project = Project::new();
    let directory = project.path("disk");
    fs::create_dir(&directory).unwrap();
    let Some(disk) = SmallDisk::mount(&directory) else {
        eprintln!("not checked on a full disk: this user may not mount one (unshare)");
        return;
    };
    symlink(&disk.path, project.path("runs")).unwrap();
    let run = project.fresh("full", &ENDLESS);
    let refused = ["No space left on device", "train.status.json"];
    let taken = ["warning: the status of train is written again"];
    assert_training_goes_on(
        &project,
        &run,
        (&|_| disk.fill(), &refused),
        (&|_| disk.free(), &taken),
    );
}

#[test]
fn training_goes_on_while_writes_fail_and_loses_no_step() {
    let project = Project::new();
    let run = project.fresh("limited", &ENDLESS);
    // The log stays below, a checkpoint's weights and the curves do not.
    let refuse = |process: &Child| limit_files(process, "40000");
    let take = |process: &Child| limit_files(process, "unlimited");
    assert_training_goes_on(&project, &run, (&refuse, &[]), (&take, &[]));
}

#[test]
fn last_checkpoint_that_cannot_be_saved_is_an_error_and_a_resume_saves_it() {
    let project = Project::new();
    let whole = project.fresh("whole", &[]);
    project.succeed(&["train", "--run", whole.to_str().unwrap()]);

    let run = project.fresh("unsaved", &[]);
    let mut limited = Command::new("prlimit");
    let trainer = project.command(&["train", "--run", run.to_str().unwrap()]);
    limited.arg("--fsize=40000:").arg(trainer.get_program());
    limited
        .args(trainer.get_args())
        .current_dir(project.path(""));
    let done = crate::support::Done::of(limited.output().unwrap());
    assert_eq!(done.code, Some(1), "{}\n{}", done.out, done.err);
    let error = "the last checkpoint, of step 24, is not saved, there is no other one; free the disk and resume: ";
    assert!(
        done.err.starts_with(&format!("error: {error}")),
        "{}",
        done.err
    );
    let status = json(&run.join("train.status.json"));
    assert_eq!(status["process"]["state"], "failed");
    assert!(
        status["process"]["error"]
            .as_str()
            .unwrap()
            .starts_with(error)
    );
    assert_eq!(names(&run.join("checkpoints")), [""; 0]);

    project.succeed(&["train", "--run", run.to_str().unwrap()]);
    assert!(last_weights(&run) == last_weights(&whole));
}

#[test]
fn removed_directories_are_created_again_but_not_a_removed_run() {
    let project = Project::new();
    let run = project.fresh("vanished", &ENDLESS);
    let mut trainer = Trainer::start(&project, &run);
    let first = trainer.saves();
    for directory in ["train", "checkpoints"] {
        // The trainer may put something there meanwhile.
        wait_for("the end of a directory", || {
            fs::remove_dir_all(run.join(directory)).ok()
        });
    }
    trainer.says(&["their file was removed; they go on in a new one"]);
    wait_for("a new checkpoint", || {
        newest(&run).filter(|newest| *newest > first)
    });
    if let Some(events) = tensorboard_reads(&run.join("train")) {
        let curve = steps(&events["scalars"]["total_loss"]);
        assert!(
            curve[0] > 0 && curve.is_sorted_by(|a, b| b - a == 10),
            "{curve:?}"
        );
    }

    let away = project.path("away");
    fs::rename(&run, &away).unwrap();
    trainer.run = away;
    assert_eq!(trainer.ends(), Some(1));
    let log = trainer.log();
    assert!(log.contains("error: the run directory "), "{log}");
    assert!(
        log.contains(" has vanished: it was removed or moved"),
        "{log}"
    );
    assert!(!run.exists(), "a part of it was made again");
}

#[test]
fn output_to_a_full_device_ends_no_run() {
    let project = Project::new();
    let into_full = |arguments: &[&str]| {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let mut command = project.command(arguments);
        let status = command.stdout(full()).stderr(full()).status();
        status.unwrap().code()
    };
    assert_eq!(
        into_full(&["check", "small"]),
        Some(1),
        "its output is what it is for"
    );
    assert_eq!(into_full(&["run", "smal"]), Some(2));
    assert_eq!(into_full(&["run", "small"]), Some(0));
}

#[test]
fn evaluator_waits_for_a_disk_that_refuses_writes_and_evaluates_everything() {
    let project = Project::new();
    let run = project.fresh(
        "evaluated",
        &[&ENDLESS[..], &["train.keep_checkpoints=1000"]].concat(),
    );
    let path = run.to_str().unwrap();
    let mut trainer = Trainer::start(&project, &run);
    trainer.saves();
    // Beside training that goes on, as long as this machine may take, there is no end to its patience.
    hold(pid(&trainer.process));
    // Its log, status and journal stay below this, what it shows in TensorBoard does not.
    let log = run.join("eval.log");
    let mut limited = Command::new("prlimit");
    let evaluator = project.command(&["eval", "--run", path]);
    limited.arg("--fsize=20000:").arg(evaluator.get_program());
    limited.args(evaluator.get_args());
    limited.current_dir(project.path("")).stdin(Stdio::null());
    limited.stdout(File::create(&log).unwrap());
    limited.stderr(File::options().append(true).open(&log).unwrap());
    let mut process = limited.spawn().unwrap();
    let refused = "step 0 is evaluated again as soon as the disk can be written";
    wait_for(refused, || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains(refused).then_some(())
    });
    thread::sleep(Duration::from_secs(3)); // some more tries
    limit_files(&process, "unlimited");
    signal(&trainer.process, Signal::SIGCONT);
    signal(&trainer.process, Signal::SIGTERM);
    assert_eq!(trainer.ends(), Some(143), "{}", trainer.log());
    let code = wait_for("its end", || process.try_wait().unwrap()).code();
    let log = fs::read_to_string(&log).unwrap();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches(refused).count(), 1, "{log}");
    // Of that disk it says once that it refuses, and once that it takes again what waited.
    assert_eq!(log.matches("warning: the events of ").count(), 2, "{log}");
    let evaluated = evaluated_steps(&journal(&run));
    assert_eq!(evaluated, checkpoints(&run));
    if let Some(read) = tensorboard_reads(&run.join("eval")) {
        assert_eq!(steps(&read["scalars"]["Precision @ 1"]), evaluated);
    }
}
