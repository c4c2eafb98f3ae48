//! `runboard doctor`: what it finds, what it leaves, and how it ends.

use crate::support::{Done, Project, names, signal, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The findings by their names.
fn findings(out: &str) -> BTreeMap<String, Value> {
    let value: Value = serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"));
    let findings = value["findings"].as_array().unwrap().iter();
    findings
        .map(|it| (it["name"].as_str().unwrap().to_owned(), it.clone()))
        .collect()
}

#[test]
fn doctor_finds_that_the_cpu_computes_as_it_should_and_leaves_nothing() {
    let project = Project::new();
    let done = project.succeed(&["doctor", "--device=cpu", "--json"]);
    let findings = findings(&done.out);
    for name in [
        "file locks",
        "libtorch",
        "device",
        "checkpoint",
        "self-test float32",
    ] {
        assert_eq!(findings[name]["state"], "good", "{}", findings[name]);
    }
    for (name, finding) in &findings {
        assert_eq!(
            finding["advice"].is_null(),
            finding["state"] == "good",
            "{name}"
        );
    }
    assert_eq!(findings["device"]["values"]["device"], "cpu");
    assert_eq!(findings["checkpoint"]["values"]["same"], true);
    assert!(findings["self-test float32"]["values"]["compared"].as_u64() > Some(100));
    assert!(findings["disk speed"]["values"]["bytes_per_second"].as_f64() > Some(0.0));
    assert_eq!(names(&project.path("")), ["experiments"]);
}

#[test]
fn doctor_tells_what_fails_and_what_to_do_and_ends_with_1() {
    let project = Project::new();
    let done = project.runboard(&["doctor", "--device=cuda:77"]);
    assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
    assert_eq!(done.err, "");
    let words = done.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("FAILS device --device: got 'cuda:77', but libtorch sees "),
        "{words}"
    );
    assert!(words.contains(" -> "), "{words}");
    assert!(!words.contains("self-test"), "{words}");

    project.write("file", "");
    let done = project.runboard(&["doctor", "--device=cpu", "--runs=file/runs"]);
    assert_eq!(done.code, Some(1), "{}", done.out);
    assert!(done.out.contains("/file is no directory\n"), "{}", done.out);
    let done = project.runboard(&["doctor", "--device=cpu", "--json", "--runs=/proc/runs"]);
    assert_eq!(done.code, Some(1), "{}", done.out);
    let findings = findings(&done.out);
    assert_eq!(findings["disk"]["state"], "fails");
    assert_eq!(findings["checkpoint"]["state"], "good"); // elsewhere
}

#[test]
fn doctor_that_is_asked_to_stop_leaves_nothing_and_judges_nothing() {
    let project = Project::new();
    let stop = || {
        let mut command = project.command(&["doctor", "--device=cpu"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let begun = || (names(&project.path("")).len() > 1).then_some(());
        wait_for("its directory", begun);
        signal(&child, Signal::SIGTERM);
        Done::of(child.wait_with_output().unwrap())
    };
    // On a busy machine one may have ended before the signal came.
    let done = wait_for("one that a signal ends", || {
        Some(stop()).filter(|done| done.code != Some(0))
    });
    assert_eq!((done.code, &*done.err), (Some(143), ""), "{}", done.out);
    assert!(!done.out.contains("FAILS"), "{}", done.out);
    assert_eq!(names(&project.path("")), ["experiments"]);
}

#[test]
fn doctor_refuses_what_is_no_device() {
    let done = Project::new().runboard(&["doctor", "--device=gpu"]);
    assert_eq!((done.code, &*done.out), (Some(2), ""));
    let said =
        "error: invalid value 'gpu' for '--device <DEVICE>': want auto, cpu, cuda or cuda:N\n";
    assert!(done.err.starts_with(said), "{}", done.err);
}

#[test]
fn doctor_says_why_libtorch_does_not_see_the_gpus_that_the_driver_knows() {
    let project = Project::new();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(project.path("libnvidia-ml.so.1"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("compute/tests/nvml.c"))
        .status();
    assert!(built.unwrap().success());
    let doctor = |machine: &str, device: &str| {
        let mut command = project.command(&["doctor", "--json", "--device", device]);
        command
            .env("NVML_STAND_IN", machine)
            .env("LD_LIBRARY_PATH", project.path(""));
        let output = command.output().unwrap();
        let code = output.status.code();
        (code, findings(&String::from_utf8(output.stdout).unwrap()))
    };
    let (code, found) = doctor("two", "auto");
    assert_eq!(
        found["driver"]["found"],
        "NVIDIA's 580.65.06, for CUDA up to 13.1"
    );
    assert_eq!(
        found["GPU 0"]["found"],
        "A GPU, 86 GB, of which 2.1 GB are in use, compute capability 9.0"
    );
    // Others are on the second one.
    assert_eq!(found["GPU 0"]["state"], "note");
    assert_eq!(
        found["GPU 1"]["values"]["compute_capability"],
        serde_json::json!([7, 5])
    );
    let device = &found["device"];
    match device["values"]["gpus"].as_u64() {
        Some(0) => {
            assert_eq!((code, device["state"].as_str()), (Some(1), Some("fails")));
            assert!(
                device["advice"].as_str().unwrap().contains("torch"),
                "{device}"
            );
        }
        _ => assert_eq!(code, Some(0)), // a machine that has some
    }
    // Who wants the CPU has what he wants.
    let (code, found) = doctor("two", "cpu");
    assert_eq!((code, &found["device"]["state"]), (Some(0), &"good".into()));

    let (_, found) = doctor("lost", "auto");
    let gpu = &found["GPU 0"];
    assert_eq!(gpu["state"], "note");
    assert!(gpu["advice"].as_str().unwrap().contains("xid"), "{gpu}");
    let (_, found) = doctor("none", "auto");
    assert!(!found.contains_key("GPU 0"));
}
