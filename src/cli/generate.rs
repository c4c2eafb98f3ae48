//! `runboard generate`: what is installed beside the program, of the command line's own definition.

use super::complete::VARIABLE;
use anyhow::{Context, Result};
use clap::Command;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use std::fs;
use std::path::Path;

/// The program, as the shells' scripts call it.
const PROGRAM: &str = "runboard";

/// Where each shell looks for the completions of a command, below `PREFIX/share`.
const COMPLETIONS: [(&dyn EnvCompleter, &str); 3] = [
    (&Bash, "bash-completion/completions/runboard"),
    (&Zsh, "zsh/site-functions/_runboard"),
    (&Fish, "fish/vendor_completions.d/runboard.fish"),
];

/// What the script for zsh lacks: where zsh finds it by itself, the file is the function that is called for the first completion, and
/// only says there who completes from then on.
const ZSH_CALL: &str =
    "\n[[ $funcstack[1] == _runboard ]] && _clap_dynamic_completer_runboard \"$@\"\n";

/// What the script for bash lacks: bash takes FIELD=VALUE and --OPTION=VALUE for three words each, of which none can be completed.
const BASH_WORDS: &str = "\nCOMP_WORDBREAKS=${COMP_WORDBREAKS//=}\n";

/// Writes the scripts by which shells ask for completions, and manual pages of `command`, into `share`.
///
/// # Errors
/// If they cannot be written.
pub fn generate(command: Command, share: &Path) -> Result<i32> {
    // `help` would have a page of each command a second time.
    let command = command
        .disable_help_subcommand(true)
        .mut_subcommands(|subcommand| subcommand.disable_help_subcommand(true));
    let failed = |path: &Path| format!("failed to write {}", path.display());
    for (shell, path) in COMPLETIONS {
        let path = share.join(path);
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
        if shell.name() == Zsh.name() {
            script.extend(ZSH_CALL.as_bytes());
        }
        if shell.name() == Bash.name() {
            script.extend(BASH_WORDS.as_bytes());
        }
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, script))
            .with_context(|| failed(&path))?;
    }
    let pages = share.join("man/man1");
    fs::create_dir_all(&pages)
        .and_then(|()| clap_mangen::generate_to(command, &pages))
        .with_context(|| failed(&pages))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn zsh_script_defines_what_it_calls_the_first_time() {
        let share = tempfile::tempdir().unwrap();
        generate(super::super::Cli::command(), share.path()).unwrap();
        let script = share.path().join("zsh/site-functions/_runboard");
        let script = fs::read_to_string(script).unwrap();
        assert!(script.starts_with("#compdef runboard\n"), "{script}");
        assert!(
            script.contains("function _clap_dynamic_completer_runboard()"),
            "{script}"
        );
        assert!(script.ends_with(ZSH_CALL), "{script}");
        let script = share.path().join("bash-completion/completions/runboard");
        let bash = std::process::Command::new("bash")
            .args([
                "-c",
                "COMP_WORDBREAKS=' =:'; . \"$0\"; printf %s \"$COMP_WORDBREAKS\"",
            ])
            .arg(script)
            .output()
            .unwrap();
        assert_eq!(bash.stdout, b" :");
    }
}
