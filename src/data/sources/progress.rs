//! Progress of a long operation: a bar on a terminal, one plain line elsewhere.

use crate::console;
use indicatif::{ProgressBar, ProgressStyle};

/// What is counted.
#[derive(Clone, Copy)]
pub(in crate::data) enum Unit {
    Bytes,
    Images,
}

/// A bar on standard error that `total` completes. Where that is no terminal, `message` appears once.
pub(in crate::data) fn bar(total: u64, message: String, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if bar.is_hidden() {
        console::stderr_line(&message);
    }
    let counts = match unit {
        Unit::Bytes => "{bytes}/{total_bytes}, {bytes_per_sec}",
        Unit::Images => "{human_pos}/{human_len} images, {per_sec}",
    };
    let template = format!("{{msg}} [{{bar:30}}] {counts}, {{eta}} left");
    // A template that does not parse costs the looks of the bar, not the operation.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_bar_counts() {
        for unit in [Unit::Bytes, Unit::Images] {
            let bar = bar(10, "counting".into(), unit);
            bar.inc(4);
            assert_eq!((bar.position(), bar.length()), (4, Some(10)));
            assert_eq!(bar.message(), "counting");
        }
    }
}
