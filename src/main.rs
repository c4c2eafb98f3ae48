//! The command line's entry: print the error chain, set the exit code.

use clap::Parser;
use runboard::{cli, console, error, files};
use std::process::ExitCode;

fn main() -> ExitCode {
    files::ignore_sigxfsz();
    let code = cli::Cli::parse().run().unwrap_or_else(|error| {
        console::stderr_line(format_args!("error: {error:#}"));
        error::exit_code(&error)
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
