//! What the user may type next.

use crate::files::read_small;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{env, iter};

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

/// This program with arguments, as the user can type it where this process was started.
pub fn runboard(arguments: &[impl AsRef<OsStr>]) -> String {
    let program = env::args_os().next().unwrap_or_else(|| "runboard".into());
    let arguments = arguments.iter().map(AsRef::as_ref);
    shell(
        &iter::once(program.as_os_str())
            .chain(arguments)
            .collect::<Vec<_>>(),
    )
}

/// A command's words as a shell reads them.
pub fn shell(words: &[impl AsRef<OsStr>]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_ref())).collect();
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let text = word
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    match text.and_then(|text| shlex::try_quote(text).ok()) {
        Some(quoted) => quoted.into_owned(),
        // What cannot be printed: bash, zsh and the like read $'...'.
        None => {
            let escape = |&byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("\\{byte:03o}"),
            };
            let escaped: String = word.as_bytes().iter().map(escape).collect();
            format!("$'{escaped}'")
        }
    }
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
    use std::process::Command;

    #[test]
    fn shell_reads_back_every_word() {
        let words = [
            "a b",
            "it's",
            "",
            "~/x",
            "$HOME",
            "`a`",
            "a\\b",
            "*",
            "\u{e9}",
            "a!b",
            "-x",
            "=",
            "a\nb'\\",
            "\u{1b}[2J",
        ];
        let mut words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        words.push(OsStr::from_bytes(b"r\xff7'\\x"));
        let script = format!("printf '%s\\0' {}", shell(&words));
        assert!(!script.contains(char::is_control), "{script}");
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let mut read: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
        assert_eq!(read.pop(), Some(&b""[..]));
        assert_eq!(
            read,
            words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()
        );
        assert_eq!(shell(&["a", "b/c-d.e_1"]), "a b/c-d.e_1");
    }

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
