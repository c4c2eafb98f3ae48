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
