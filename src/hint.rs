//! What the user may type next.

use crate::files::read_small;
use std::path::Path;

/// The project's Makefile is shorter.
const MAX_BYTES: u64 = 1 << 20;

/// `command`, and before it the project's make target that does the same, where there is one to be called.
/// `target` may have arguments: `resume NAME=baseline`.
pub fn hint(target: &str, command: &str) -> String {
    match make(target) {
        Some(make) => format!("{make}, or: {command}"),
        None => command.to_owned(),
    }
}

/// `make TARGET`, where the project's Makefile is in the working directory and has the target.
pub fn make(target: &str) -> Option<String> {
    let makefile = read_small(Path::new("Makefile"), MAX_BYTES).ok()?;
    let name = target.split(' ').next()?;
    has_target(&String::from_utf8_lossy(&makefile), name).then(|| format!("make {target}"))
}

/// Whether this is the text of the project's Makefile, which defines how it runs the binary, and has the target.
fn has_target(makefile: &str, target: &str) -> bool {
    let rule = format!("{target}:");
    let has_line = |start: &str| makefile.lines().any(|line| line.starts_with(start));
    has_line("RUNBOARD =") && has_line(&rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_names_targets_of_the_projects_makefile_alone() {
        let ours = include_str!("../Makefile");
        for target in ["experiment", "resume", "stop", "tensorboard"] {
            assert!(has_target(ours, target), "{target}");
        }
        assert!(!has_target(ours, "lunch"));
        assert!(!has_target("resume:\n\techo another project\n", "resume"));
        assert!(!has_target("", "resume"));
    }
}
