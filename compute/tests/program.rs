//! The program that computes, as runboard starts it. The runs themselves are tested in tests/integration of the other package.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Run the program with these words, with a text on its standard input.
fn program(words: &[&str], build: Option<&str>, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runboard-compute"));
    command.args(words).env_remove("RUNBOARD_BUILD");
    if let Some(build) = build {
        command.env("RUNBOARD_BUILD", build);
    }
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses its arguments does not read it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn program_tells_what_it_was_built_with_and_how_many_gpus_there_are() {
    let output = program(&["machine"], None, "");
    assert!(output.status.success());
    let machine: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(machine["burn"], "0.22.1");
    assert!(machine["libtorch"].as_str().unwrap().starts_with("2."));
    assert!(machine["gpus"].is_u64());
}

#[test]
fn program_refuses_a_starter_of_another_build() {
    for words in [&["machine"][..], &["train", "--run", "a"]] {
        let output = program(words, Some("another"), "");
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        let start =
            "error: runboard-compute and the runboard that starts it are of different builds; ";
        assert!(said.starts_with(start), "{said}");
    }
}

#[test]
fn pace_refuses_what_is_no_spec() {
    let output = program(&["pace"], None, r#"[{"steps": 1}]"#);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: standard input:1:"), "{said}");
}
