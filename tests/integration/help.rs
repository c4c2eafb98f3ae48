//! What `--help` looks like in a terminal.

use crate::support::{Project, RUNBOARD};
use crate::terminal::Terminal;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// What a shell's commands show in a terminal of 80 columns.
pub fn shown(project: &Project, script: &str) -> String {
    let mut terminal = Terminal::open();
    let script = format!("stty cols 80 rows 24; {script}");
    let mut shell = project.command_of(Path::new("bash"), &["-c", &script]);
    let mut child = terminal.start(&mut shell);
    let status = loop {
        terminal.read();
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => sleep(Duration::from_millis(10)),
        }
    };
    let said = terminal.said();
    assert!(status.success(), "{said}");
    // Less what bold and underlined letters are told by.
    console::strip_ansi_codes(&said).into_owned()
}

#[test]
fn help_of_every_command_fits_a_terminal_of_80_columns() {
    let project = Project::new();
    let of_program = shown(&project, &format!("'{RUNBOARD}' --help"));
    let (_, commands) = of_program.split_once("Commands:").unwrap();
    let commands = commands.split("Options:").next().unwrap();
    // Two spaces and a name; what is wrapped stands further right.
    let names = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 20 && names.contains(&"restore"), "{names:?}");
    let of_data = ["fetch", "import", "synthesize", "check"].map(|name| format!("data {name}"));
    let names = names.iter().map(|name| (*name).to_owned()).chain(of_data);
    let script: Vec<String> = names
        .map(|name| format!("'{RUNBOARD}' {name} --help"))
        .collect();
    let of_commands = shown(&project, &script.join(" && "));
    let usages = of_commands.matches("Usage: runboard ").count();
    assert_eq!(usages, script.len());
    for line in of_program.lines().chain(of_commands.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
