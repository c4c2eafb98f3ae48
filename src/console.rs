//! Lines for people on standard output, in the tutorial's form.

use chrono::Local;
use std::fmt::Display;
use std::io::{self, Write};

/// Print a line after the time of day: `2026-11-23 03:10:00.123: text`.
pub fn timed(text: impl Display) {
    line(format_args!(
        "{}: {text}",
        Local::now().format("%Y-%m-%d %H:%M:%S%.3f")
    ));
}

/// Print a line. Nobody reading it any more (`| head`) is no reason for training to end.
pub fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}
