//! The command line's entry.

use runboard::{cli, files};
use std::process::ExitCode;

fn main() -> ExitCode {
    files::ignore_sigxfsz();
    cli::complete::answer();
    cli::exit_code(cli::Cli::parse_arguments().run()).into()
}
