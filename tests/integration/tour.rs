//! docs/tour.md, run as it is written.
//!
//! In its blocks of `console` a line after `$ ` is a command for bash, and the lines up to the next one are what it prints.
//! What differs from machine to machine does not count: digits, units, how columns are spaced, how curves look, and the order of rows that
//! are sorted by scores, which the last bits of a machine's arithmetic decide.
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
            if comparable(&done, &printed) != comparable(&done, &expected) {
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

/// What a command prints, without what differs from machine to machine.
fn comparable(command: &str, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(comparable_line).collect();
    if command.contains(" --sort ") {
        lines.sort();
    }
    lines
}

fn comparable_line(line: &str) -> String {
    let is_drawn =
        |c: char| ('\u{2580}'..='\u{259f}').contains(&c) || ('\u{2800}'..='\u{28ff}').contains(&c);
    let line: String = line
        .chars()
        .map(|c| if is_drawn(c) { ' ' } else { c })
        .collect();
    // Whether the last checkpoint is the best, and which class is the most probable, is the machine's arithmetic.
    let of_line = match line.starts_with("  accuracy ") && line.contains("best") {
        true => 1,
        false => usize::MAX,
    };
    let has_classes = line.starts_with("stripes.png ");
    let mut words = Vec::new();
    for word in line.split_whitespace().take(of_line) {
        let mut plain = String::new();
        for c in word.chars() {
            match c.is_ascii_digit() {
                true if plain.ends_with('0') => {}
                true => plain.push('0'),
                false => plain.push(c),
            }
        }
        if has_classes && plain.chars().all(char::is_alphabetic) {
            plain = "class".to_owned();
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
    words.join(" ")
}

#[test]
fn tour_compares_rows_sorted_by_scores_in_any_order_and_nothing_else_so() {
    let row = |run: &str, state: &str, accuracy: &str| format!("{run}  {state}  {accuracy}\n");
    let (sweep, point) = (
        row("rates/20261126-132328", "finished  6/6 points", "0.151"),
        row("rates/20261126-132328/2", "finished  60/60", "0.154"),
    );
    let other = row("rates/20261126-132328/2", "failed  60/60", "0.154");
    let sorted = "runboard list --points --sort accuracy";
    let [one, two] = [format!("{point}{sweep}"), format!("{sweep}{point}")];
    assert_eq!(comparable(sorted, &one), comparable(sorted, &two));
    let list = "runboard list --points";
    assert_ne!(comparable(list, &one), comparable(list, &two));
    for changed in [
        format!("{other}{sweep}"),
        sweep.clone(),
        format!("{point}{point}{sweep}"),
        one.replace("0.154", "0.154  -"),
    ] {
        assert_ne!(comparable(sorted, &one), comparable(sorted, &changed));
    }
}
