//! `runboard generate`: what is installed beside the program, of the command line's own definition.

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::{Shell, generate as complete};
use std::fs;
use std::path::Path;

/// Where each shell looks for the completions of a command, below `PREFIX/share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/runboard"),
    (Shell::Zsh, "zsh/site-functions/_runboard"),
    (Shell::Fish, "fish/vendor_completions.d/runboard.fish"),
];

/// Writes completions and manual pages of `command` into `share`.
///
/// # Errors
/// If they cannot be written.
pub fn generate(command: Command, share: &Path) -> Result<i32> {
    // `help` would have a page of each command a second time.
    let mut command = command
        .disable_help_subcommand(true)
        .mut_subcommands(|subcommand| subcommand.disable_help_subcommand(true));
    let failed = |path: &Path| format!("failed to write {}", path.display());
    for (shell, path) in COMPLETIONS {
        let path = share.join(path);
        let mut script = Vec::new();
        complete(shell, &mut command, "runboard", &mut script);
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
