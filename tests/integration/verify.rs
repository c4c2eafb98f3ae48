//! `runboard verify`: every answer on the CPU, and what a kill leaves.

use crate::json::assert_documented;
use crate::support::{Done, Project, children, names, pid, signal, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

/// Plenty of time, small work, and no PyTorch, whatever this machine has.
const QUICK: [&str; 8] = [
    "verify",
    "--device",
    "cpu",
    "--quick",
    "--minutes",
    "600",
    "--out",
    "answers",
];

fn answers(project: &Project) -> Option<Value> {
    let text = fs::read_to_string(project.path("answers/verify.json")).ok()?;
    // Whole at any moment.
    Some(serde_json::from_str(&text).unwrap())
}

fn outcomes(answers: &Value) -> Vec<(String, String)> {
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap().to_owned();
    let answers = answers["answers"].as_array().unwrap().iter();
    answers
        .map(|answer| (text(answer, "question"), text(answer, "outcome")))
        .collect()
}

/// A program that is a python with torch to whoever asks: it prints steps as the script would, as fast as they are read. It starts
/// no process in between: a shell that does cannot be stopped while its child, which has yet to become another program, is.
fn write_python(path: &Path) {
    let script = "#!/bin/sh\n\
        if [ \"$1\" = -c ]; then echo 2.11.0+fake; exit; fi\n\
        test -f \"$1\" || exit 1\n\
        step=0\n\
        while :; do step=$((step + 10)); echo \"step $step, loss = 1.00 (1 examples/sec; 1 sec/batch)\"; done\n";
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn verify_answers_every_question_on_the_cpu() {
    let project = Project::new();
    let python = project.path("python");
    write_python(&python);
    let python = python.to_str().unwrap();
    let done = project.succeed(&[&QUICK[..], &["--python", python]].concat());
    let answers = answers(&project).unwrap();
    let got = outcomes(&answers);
    let got: Vec<(&str, &str)> = got.iter().map(|(name, it)| (&**name, &**it)).collect();
    let want = [
        ("goldens-float32", "passed"),
        ("goldens-tf32", "passed"),
        ("goldens-bf16", "passed"),
        ("losses", "passed"),
        ("resume", "passed"),
        ("deterministic", "passed"),
        ("ahead", "measured"),
        ("steps-float32", "measured"),
        ("steps-tf32", "measured"),
        ("steps-bf16", "measured"),
        ("evaluation", "measured"),
        ("pytorch", "measured"),
        ("fast-start", "left_out"),
        ("memory", "measured"),
        ("gloo", "passed"),
        ("nccl", "left_out"),
    ];
    assert_eq!(got, want, "{}", done.out);
    assert_eq!(answers["finished"], true);
    assert_eq!(answers["version"], 1);
    let of = |name: &str| {
        let all = answers["answers"].as_array().unwrap();
        all.iter().find(|it| it["question"] == name).unwrap()
    };
    // What is compared is there, and is no comparison of nothing.
    let golden = of("goldens-bf16")["values"]["comparisons"]
        .as_array()
        .unwrap();
    assert!(golden.len() > 500);
    assert!(
        golden
            .iter()
            .any(|it| it["deviation"].as_f64() > Some(1e-3))
    );
    assert_eq!(
        of("losses")["values"]["losses"].as_array().unwrap().len(),
        20
    );
    assert_eq!(of("resume")["values"]["step"], 19);
    let times = of("steps-float32")["values"]["times"].as_array().unwrap();
    let sizes: Vec<_> = times.iter().map(|it| it["batch_size"].as_u64()).collect();
    assert_eq!(sizes, [Some(16), Some(32)]);
    for times in times {
        assert_eq!(times["phases"].as_array().unwrap().len(), 4);
    }
    assert_eq!(of("evaluation")["values"]["images"], 100);
    let timed = of("pytorch")["values"]["timed"].as_array().unwrap();
    let names: Vec<_> = timed
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["runboard", "pytorch-eager", "pytorch-best"]);
    assert_documented("verify", &[&answers]);

    let page = fs::read_to_string(project.path("answers/verify.md")).unwrap();
    assert!(page.starts_with("## On "), "{page}");
    assert!(!page.contains("Not finished"), "{page}");
    let last = done.out.lines().last().unwrap();
    assert_eq!(
        last,
        "7 passed, 7 measured, 2 left out; answers/verify.md has all of it"
    );
    for (name, outcome) in want {
        let title = of(name)["title"].as_str().unwrap();
        let word = outcome.replace('_', " ");
        assert!(
            page.contains(&format!("| {title} | {word} | ")),
            "{title}: {page}"
        );
    }
    assert!(
        page.contains(
            "| batch size | images/s | ms a step | issued in, ms | waiting for the batch |"
        )
    );
    let log = fs::read_to_string(project.path("answers/verify.log")).unwrap();
    assert!(log.contains("--until"), "{log}");
    assert!(!project.path("answers/work").exists());
    // Nothing of it is where the user's runs and images are.
    for name in ["runs", "images", "data"] {
        assert!(!project.path(name).exists(), "{name}");
    }

    let again = project.runboard(&QUICK);
    assert_eq!(again.code, Some(2));
    assert!(
        again
            .err
            .contains("verify.json has the answers of another time"),
        "{}",
        again.err
    );
}

#[test]
fn verify_that_is_killed_leaves_the_answers_that_it_had_and_no_process() {
    let project = Project::new();
    let mut child = project.start(&[&QUICK[..], &["--python", "/nowhere"]].concat());
    let begun = || {
        let log = fs::read_to_string(project.path("answers/verify.log")).ok()?;
        let under_way = children(pid(&child));
        (log.contains("losses: ") && !under_way.is_empty()).then_some(under_way)
    };
    let processes = wait_for("the first run", begun);
    child.kill().unwrap();
    child.wait().unwrap();
    let answers = answers(&project).unwrap();
    let got = outcomes(&answers);
    let names: Vec<&str> = got.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["goldens-float32", "goldens-tf32", "goldens-bf16"]);
    assert_eq!(answers["finished"], false);
    let page = fs::read_to_string(project.path("answers/verify.md")).unwrap();
    assert!(
        page.contains("| golden values in bf16 | passed | "),
        "{page}"
    );
    let ended = || {
        let there = |it: &nix::unistd::Pid| Path::new(&format!("/proc/{it}")).exists();
        (!processes.iter().any(there)).then_some(())
    };
    wait_for("the processes to end", ended);
}

#[test]
fn verify_refuses_what_is_not_there_and_makes_nothing() {
    let project = Project::new();
    for (arguments, want) in [
        (
            ["--device", "cuda:7", "--minutes", "1"],
            "--device: got 'cuda:7', but libtorch sees",
        ),
        (
            ["--device", "gpu", "--minutes", "1"],
            "invalid value 'gpu' for '--device <DEVICE>': want auto, cpu, cuda or cuda:N",
        ),
        (
            ["--device", "cpu", "--data", "nowhere"],
            "--data: no directory ",
        ),
        (
            ["--device", "cpu", "--minutes", "0"],
            "invalid value '0' for '--minutes <N>'",
        ),
        (
            ["--device", "cpu", "--minutes", "-1"],
            "invalid value '-1' for '--minutes <N>'",
        ),
    ] {
        let done = project.runboard(&[&["verify", "--out", "answers"], &arguments[..]].concat());
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(want), "{arguments:?}: {}", done.err);
        assert!(!project.path("answers").exists());
    }
}

#[test]
fn verify_refuses_a_place_that_cannot_be_its_directory() {
    let project = Project::new();
    project.write("file", "");
    for out in ["file", "file/answers"] {
        let done = project.runboard(&["verify", "--device=cpu", "--out", out]);
        let said = format!(
            "error: --out: no directory can be made at {out}: a file is in the way; want another place\n"
        );
        assert_eq!((done.code, &*done.err), (Some(2), &*said));
    }
    project.write("mine/work/precious", "");
    let done = project.runboard(&["verify", "--device=cpu", "--out=mine"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    let said = "/mine/work is there already, of another verify or for something else; want a directory without it\n";
    assert!(done.err.ends_with(said), "{}", done.err);
    assert_eq!(names(&project.path("mine")), ["work"]);
    assert_eq!(names(&project.path("mine/work")), ["precious"]);
    let odd = OsStr::from_bytes(b"answers\xff");
    let mut command = project.command(&["verify", "--device=cpu", "--out"]);
    let done = Done::of(command.arg(odd).output().unwrap());
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(
        done.err.contains("want a place whose name is UTF-8"),
        "{}",
        done.err
    );
    assert!(!project.path("").join(odd).exists());
}

#[test]
fn verify_that_is_asked_to_stop_ends_its_programs_and_keeps_its_answers_alone() {
    let project = Project::new();
    let mut command = project.command(&[&QUICK[..], &["--python", "/nowhere"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let begun = || {
        let log = fs::read_to_string(project.path("answers/verify.log")).ok()?;
        let under_way = children(pid(&child));
        (log.contains("losses: ") && !under_way.is_empty()).then_some(under_way)
    };
    let processes = wait_for("the first run", begun);
    signal(&child, Signal::SIGTERM);
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(143), "{}{}", done.out, done.err);
    let last = done.out.lines().last().unwrap();
    assert_eq!(
        last,
        "stopped after 3 passed; answers/verify.md has all of it"
    );
    assert!(!done.out.contains("FAILED"), "{}", done.out);
    for process in processes {
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
    let want = ["verify.json", "verify.log", "verify.md"];
    assert_eq!(names(&project.path("answers")), want);
    let answers = answers(&project).unwrap();
    assert_eq!(outcomes(&answers).len(), 3);
    assert_eq!(answers["finished"], false);
    let page = fs::read_to_string(project.path("answers/verify.md")).unwrap();
    let said = "\nNot finished: 3 of 16 questions are answered.\n";
    assert!(page.contains(said), "{page}");
}
