//! Lines for people, in the tutorial's form. None of them can fail: nobody reading any more (`| head`) or a
//! log on a full disk is no reason for training to end, as a panic of `println!` would be.

use ::console::Term;
use chrono::Local;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// Room kept for a session's lines: thousands of them.
const RESERVE: i64 = 256 << 10; // bytes

/// Print a line after the time of day: `2026-11-23 03:10:00.123: text`.
pub fn timed(text: impl Display) {
    line(format_args!(
        "{}: {text}",
        Local::now().format("%Y-%m-%d %H:%M:%S%.3f")
    ));
}

/// A loss as people read it: with two decimals, as in the tutorial, and in powers of ten where that would be a row of
/// digits, `3.09e24`.
pub fn loss(value: f64) -> String {
    match value.abs() < 1e6 {
        true => format!("{value:.2}"),
        false => format!("{value:.2e}"),
    }
}

/// Print a line.
pub fn line(text: impl Display) {
    // In one piece, or the rest of a line that could not be written would stick to the next one.
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

/// Print what a command is asked for. Unlike a line on the way, it must arrive: half a table on a full disk is a
/// failure. That nobody reads on (`| head`) is none.
///
/// # Errors
/// If it cannot be written.
pub fn output(text: impl Display) -> io::Result<()> {
    let written = io::stdout().write_all(format!("{text}\n").as_bytes());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(io::Error::new(
            error.kind(),
            format!("failed to write the output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// The columns of the terminal that the output goes to; none if it is no terminal.
pub fn columns() -> Option<usize> {
    let (_, columns) = Term::stdout().size_checked()?;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// Print what went wrong and is no reason to end: the display of a run shows these lines.
pub fn warning(text: impl Display) {
    line(format_args!("warning: {text}"));
}

/// The same of a command that answers: its standard output is the answer alone.
pub fn warning_beside_answer(text: impl Display) {
    stderr_line(format_args!("warning: {text}"));
}

/// Print a line on standard error.
pub fn stderr_line(text: impl Display) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Keep room on the disk for this process's lines, where they go into a log: that the disk is full can
/// then be read in the log on it.
pub fn reserve_log_space() {
    let allocate = || -> io::Result<()> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let end = i64::try_from(out.metadata()?.len()).unwrap_or(i64::MAX);
        fallocate(&out, FallocateFlags::FALLOC_FL_KEEP_SIZE, end, RESERVE)?;
        Ok(())
    };
    // Pipes and terminals have no room and need none; some file systems keep none.
    let _ = allocate();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_has_two_decimals_or_a_power_of_ten() {
        for (value, want) in [
            (4.675, "4.67"),
            (0.0, "0.00"),
            (187_205.61, "187205.61"),
            (999_999.0, "999999.00"),
            (1e6, "1.00e6"),
            (3_093_130_734_844_415_450_284_032.0, "3.09e24"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(loss(value), want);
        }
    }
}
