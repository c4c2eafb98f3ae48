//! Random command lines and damaged run directories: the real binary always ends with a documented exit code.

use crate::cases::{check, edited, edited_text, pick};
use crate::support::{Project, RUNBOARD};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use walkdir::WalkDir;

/// Virtual memory of a process, in KiB; half of it is libtorch and the threads' arenas.
const MEMORY: &str = "8000000";

/// Run the binary to its end, which must have one of the documented exit codes. One that hangs is killed.
fn assert_documented_exit(project: &Project, arguments: &[OsString], full: bool) {
    let limited = format!("ulimit -v {MEMORY}; exec timeout -s KILL 600 \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &limited])
        .arg(RUNBOARD)
        .args(arguments)
        .current_dir(project.path(""))
        .env_remove("RUNBOARD_DATA")
        .env("RUNBOARD_CIFAR10_URL", "http://127.0.0.1:9/")
        .stdin(Stdio::null());
    if full {
        command.stdout(File::create("/dev/full").unwrap());
    }
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let report = format!("{arguments:?}: {}\n{out}\n{err}", output.status);
    assert!(matches!(output.status.code(), Some(0..=3)), "{report}");
    assert!(!report.contains("panicked at"), "{report}");
}

const COMMANDS: &[&[&str]] = &[
    &["run", "NAME", "--set", "SET"],
    &["run", "NAME", "--data", "PATH"],
    &["check", "NAME", "--set", "SET", "--set", "SET"],
    &["check", "NAME", "--experiments", "PATH"],
    &["resume", "NAME"],
    &["resume", "NAME", "--data", "PATH"],
    &["stop", "NAME"],
    &["train", "--run", "NAME"],
    &["eval", "--once", "--run", "NAME"],
    &["list", "--runs", "PATH"],
    &["data", "check", "PATH"],
    &["data", "import", "PATH", "--into", "PATH"],
    &[
        "data",
        "synthesize",
        "PATH",
        "--train-images",
        "NUMBER",
        "--test-images",
        "NUMBER",
    ],
    &["help"],
    &[],
];

const PATHS: &[&str] = &[
    "real",
    "file",
    "file/x",
    "nowhere",
    "experiments",
    "small",
    "small.yaml",
    "experiments/small.yaml",
    "baseline",
    "small/20260101-000000",
    "runs/small/20260101-000000",
    "../..",
    "/dev/null",
    "/proc/self/x",
    "..",
    ".",
    "",
    "-",
    "\u{1b}[2J",
    "a\nb",
];

const SETS: &[&str] = &[
    "train.steps=0",
    "train.steps=18446744073709551616",
    "compute.device=cuda:127",
    "compute.device=cpu",
    "compute.threads=2",
    "data.source=cifar10",
    "data.folder=real",
    "data.download=false",
    "network={conv1: {channels: 4096}, conv2: {channels: 4096, kernel: 15}}",
    "network.pool={size: 8, stride: 1}",
    "train.batch_size=65536",
    "input.crop=1",
    "eval.interval_secs=.nan",
    "extends=x",
    "seed",
    "=",
    "a.b.c=[[[[",
];

const NUMBERS: &[&str] = &[
    "5",
    "12",
    "0",
    "-1",
    "4",
    "5000001",
    "18446744073709551615",
    "1e9",
    "x",
];

/// A random argument for the placeholder `word`, or `word` itself.
fn argument(rng: &mut ChaCha8Rng, word: &str) -> OsString {
    let choices = match word {
        "NAME" | "PATH" => PATHS,
        "SET" => SETS,
        "NUMBER" => NUMBERS,
        _ => return word.into(),
    };
    pick(rng, choices).into()
}

fn arguments(rng: &mut ChaCha8Rng) -> Vec<OsString> {
    let command = pick(rng, COMMANDS);
    let mut arguments: Vec<_> = command.iter().map(|word| argument(rng, word)).collect();
    if rng.random_bool(0.5) {
        let strange = [
            "--help".into(),
            "--version".into(),
            "--bogus".into(),
            "--".into(),
            "--set".into(),
            "--runs=nowhere".into(),
            "--data=file".into(),
            "x".repeat(100_000).into(),
            OsString::from_vec(b"\xff\xfe".to_vec()),
            argument(rng, "PATH"),
            argument(rng, "NUMBER"),
        ];
        let at = rng.random_range(0..=arguments.len());
        let end = (at + rng.random_range(0..2)).min(arguments.len());
        // Without it an evaluation would wait for a training.
        if arguments[at..end] != ["--once"] {
            arguments.splice(at..end, [pick(rng, &strange)]);
        }
    }
    arguments
}

#[test]
fn command_lines_end_with_a_documented_code() {
    let project = Project::new();
    let record = |label: u8| [&[label], [128u8; 3072].as_slice()].concat();
    for batch in 1..=5 {
        project.write(&format!("real/data_batch_{batch}.bin"), record(1).repeat(4));
    }
    project.write("real/test_batch.bin", record(2).repeat(4));
    project.write("file", "not much");
    let tiny = [
        "train.steps=2",
        "data.synthetic.train_images=50",
        "data.synthetic.test_images=10",
    ];
    project.fresh("small", &tiny);
    check(15, |rng| {
        let arguments = arguments(rng);
        assert_documented_exit(&project, &arguments, rng.random_bool(0.1));
    });
}

/// All files of a directory and the directories in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(directory).sort_by_file_name().into_iter();
    let entries = entries.map(Result::unwrap);
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files.map(|entry| entry.into_path()).collect()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn damaged(rng: &mut ChaCha8Rng, file: &[u8]) -> Vec<u8> {
    let words: &[&[u8]] = &[b"\"", b"{", b"null", b"-", b"\n"];
    match str::from_utf8(file) {
        Ok(_) => edited_text(rng, file, words),
        Err(_) => edited(rng, file, words),
    }
}

#[test]
fn damaged_runs_end_with_a_documented_code() {
    let project = Project::new();
    let tiny = [
        "train.steps=4",
        "train.checkpoint_every=1",
        "data.synthetic.train_images=50",
        "data.synthetic.test_images=10",
    ];
    let run = project.fresh("small", &tiny);
    let name = ["--run".into(), "small".into()];
    let train = [&["train".into()], &name[..]].concat();
    let eval = [&["eval".into(), "--once".into()], &name[..]].concat();
    let commands = [train, eval, vec!["list".into()]];
    for command in &commands {
        assert_documented_exit(&project, command, false);
    }
    let whole = project.path("whole");
    fs::rename(&run, &whole).unwrap();
    // An edited spec could ask for anything; it has a fuzz test of its own.
    let files = files(&whole)
        .into_iter()
        .filter(|path| path.file_name() != Some(OsStr::new("spec.yaml")));
    let files: Vec<PathBuf> = files
        .map(|path| path.strip_prefix(&whole).unwrap().to_owned())
        .collect();
    check(4, |rng| {
        let _ = fs::remove_dir_all(&run);
        copy(&whole, &run);
        for _ in 0..rng.random_range(1..4) {
            let path = run.join(pick(rng, &files));
            let Ok(file) = fs::read(&path) else { continue };
            fs::remove_file(&path).unwrap();
            match rng.random_range(0..10) {
                0 => {}
                1 => fs::create_dir(&path).unwrap(),
                2 => fs::write(&path, "").unwrap(),
                _ => fs::write(&path, damaged(rng, &file)).unwrap(),
            }
        }
        for command in &commands {
            assert_documented_exit(&project, command, false);
        }
    });
}
