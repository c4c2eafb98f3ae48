//! docs/tour.md, run as it is written.
//!
//! In its blocks of `console` a line after `$ ` is a command for bash, and the lines up to the next one are what it prints.
//! What differs from machine to machine does not count: digits, units, how columns are spaced, how curves look.
//! `WRITE_DOCS=1` writes what is printed now into the page.

use crate::support::{Project, RUNBOARD};
use std::path::Path;
use std::{env, fs};

/// Where the project lies, as the page says.
const HOME: &str = "/home/me/runboard";

#[test]
fn tour_is_what_its_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/tour.md")).unwrap();
    let project = Project::new();
    for entry in fs::read_dir(root.join("experiments")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        project.write(&format!("experiments/{name}"), fs::read(&path).unwrap());
    }
    fs::remove_file(project.path("experiments/small.yaml")).unwrap();
    fs::copy(root.join("docs/stripes.png"), project.path("stripes.png")).unwrap();
    let mut written = String::new();
    let (mut is_console, mut command) = (false, None::<String>);
    let mut expected = String::new();
    let mut faults = Vec::new();
    for line in page.lines() {
        let ends = line.starts_with("```") || line.starts_with("$ ");
        if is_console
            && ends
            && let Some(done) = command.take()
        {
            let printed = run(&project, &done);
            if comparable(&printed) != comparable(&expected) {
                faults.push(format!("$ {done}\n{printed}--- and not ---\n{expected}"));
            }
            written += &printed;
            expected.clear();
        }
        if line.starts_with("```") {
            is_console = line == "```console";
        }
        match line.strip_prefix("$ ").filter(|_| is_console) {
            Some(next) => command = Some(next.to_owned()),
            None if is_console && command.is_some() => {
                expected += line;
                expected.push('\n');
                continue;
            }
            None => {}
        }
        written += line;
        written.push('\n');
    }
    if env::var_os("WRITE_DOCS").is_some() {
        fs::write(root.join("docs/tour.md"), written).unwrap();
    } else {
        assert!(
            faults.is_empty(),
            "docs/tour.md prints otherwise:\n{}",
            faults.join("\n")
        );
    }
}

/// All that a command prints.
fn run(project: &Project, command: &str) -> String {
    let program = Path::new(RUNBOARD);
    let path = env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let output = project
        .command_of(
            Path::new("bash"),
            &["-c", &format!("{{ {command}\n}} 2>&1")],
        )
        .env("PATH", path)
        .env("TERM", "dumb")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.replace(
        project.path("").to_str().unwrap().trim_end_matches('/'),
        HOME,
    )
}

/// A text without what differs from machine to machine.
fn comparable(text: &str) -> String {
    let mut words = Vec::new();
    for line in text.lines() {
        let is_drawn = |c: char| {
            ('\u{2580}'..='\u{259f}').contains(&c) || ('\u{2800}'..='\u{28ff}').contains(&c)
        };
        let line: String = line
            .chars()
            .map(|c| if is_drawn(c) { ' ' } else { c })
            .collect();
        // Whether the last checkpoint is the best, and which class is the most probable, is the machine's arithmetic.
        let of_line = match ["  accuracy ", "stripes.png "].map(|it| line.starts_with(it)) {
            [false, false] => usize::MAX,
            _ => 1,
        };
        for word in line.split_whitespace().take(of_line) {
            let mut plain = String::new();
            for c in word.chars() {
                match c.is_ascii_digit() {
                    true if plain.ends_with('0') => {}
                    true => plain.push('0'),
                    false => plain.push(c),
                }
            }
            let units = ["s", "min", "h", "d", "kB", "MB", "GB"];
            let is_number = |word: &String| word.ends_with('0');
            match units.contains(&&*plain) && words.last().is_some_and(is_number) {
                true => {}
                // Whatever its sign and its size are.
                false if plain.contains('0') && plain.chars().all(|c| "0.+-e".contains(c)) => {
                    words.push("0".to_owned());
                }
                false => words.push(plain),
            }
        }
        words.push("\n".to_owned());
    }
    words.join(" ")
}
