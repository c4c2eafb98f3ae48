//! Numbers, bars and rows as a terminal shows them.

use std::time::Duration;

use ::console::{measure_text_width, truncate_str};

use crate::run::Score;

/// The width of a row's label, with what parts it from the rest.
const LABEL: usize = 11;

/// What parts one part of a row from the next.
pub(crate) const GAP: &str = "   ";

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// Whether there are colours.
    pub colour: bool,
}

impl Paint {
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    /// The text in a graphic rendition of ECMA-48.
    pub(super) fn with(self, code: &str, text: &str) -> String {
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// A row of `width` columns at most: its label, and as many of the parts, in their order, as there is room for. The
/// first is cut if it has to be.
pub(crate) fn row(paint: Paint, label: &str, parts: &[String], width: usize) -> String {
    let mut row = paint.dim(&format!("{label:<LABEL$}"));
    let mut used = LABEL;
    for (index, part) in parts.iter().filter(|part| !part.is_empty()).enumerate() {
        let gap = if index == 0 { "" } else { GAP };
        let columns = gap.len() + measure_text_width(part);
        if index > 0 && used + columns > width {
            break;
        }
        row.push_str(gap);
        row.push_str(part);
        used += columns;
    }
    cut(row.trim_end(), width)
}

/// How many columns a row of `width` has beside its label.
pub(crate) fn room(width: usize) -> usize {
    width.saturating_sub(LABEL)
}

/// The text, cut to `width` columns.
pub(crate) fn cut(text: &str, width: usize) -> String {
    truncate_str(text, width, "…").into_owned()
}

/// A bar, and behind it the longest of these texts, which become shorter, that leaves the bar `least` columns.
pub(crate) fn bar_and_text(
    paint: Paint,
    share: f64,
    texts: &[String],
    least: usize,
    columns: usize,
) -> String {
    let bar_beside = |text: &String| columns.checked_sub(measure_text_width(text) + 2);
    let fitting = texts
        .iter()
        .find(|text| bar_beside(text).is_some_and(|bar| bar >= least));
    match fitting.and_then(|text| Some((text, bar_beside(text)?))) {
        Some((text, length)) => format!("{}  {text}", bar(paint, share, length)),
        None => texts.last().cloned().unwrap_or_default(),
    }
}

/// A bar of which a `share` in 0..=1 is full.
pub(crate) fn bar(paint: Paint, share: f64, columns: usize) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let halves = (share * 2.0 * columns as f64).floor() as usize;
    let (full, half) = (halves / 2, halves % 2);
    let filled = "━".repeat(full) + if half == 1 { "╸" } else { "" };
    let empty = "─".repeat(columns - full - half);
    paint.green(&filled) + &paint.dim(&empty)
}

/// The last of these numbers as a row of small columns, at most `columns`, from the least to the largest of them.
pub(crate) fn sparkline(numbers: &[f64], columns: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &numbers[numbers.len().saturating_sub(columns)..];
    let least = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = largest - least;
    let level = |number: f64| match range > 0.0 {
        true => LEVELS[((number - least) / range * 7.0).round() as usize % LEVELS.len()],
        false => LEVELS[3],
    };
    shown.iter().map(|&number| level(number)).collect()
}

/// A duration as `H:MM:SS`, and days before it.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => rest,
        days => format!("{days} d {rest}"),
    }
}

/// Bytes in their largest unit, as `8.6 MB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64 / 1e3;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1e3;
        unit += 1;
    }
    let decimals = usize::from(size < 9.95 && bytes > 0);
    format!("{size:.decimals$} {}", UNITS[unit])
}

/// A number of any size, with three decimals or three after the first digit.
pub(crate) fn number(number: f64) -> String {
    match number.abs() {
        size if size == 0.0 || (1e-2..1e5).contains(&size) => format!("{number:.3}"),
        _ => format!("{number:.3e}"),
    }
}

/// The text in lines of at most `columns`, broken between words. A word that is longer, a path say, stays whole.
pub fn wrap(text: &str, columns: usize) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut start = 0; // of the words that are in a line already
        let mut broken = String::new();
        for word in line.split_whitespace() {
            let longer = measure_text_width(&broken[start..]) + 1 + measure_text_width(word);
            match broken.is_empty() {
                true => broken.push_str(indent),
                false if longer > columns => {
                    broken.push('\n');
                    start = broken.len();
                    broken.push_str(indent);
                }
                false => broken.push(' '),
            }
            broken.push_str(word);
        }
        lines.push(broken);
    }
    lines.join("\n")
}

/// The last score and the best one.
pub(super) fn scores(last: Score, best: Score) -> String {
    match best.step == last.step {
        true => format!("{last}, the best"),
        false => format!("{last}, best {best}"),
    }
}

/// `1 checkpoint`, `2 checkpoints`.
pub fn count(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint { colour: false };

    #[test]
    fn numbers_stay_readable_whatever_their_size() {
        let seconds = |seconds| clock(Duration::from_secs(seconds));
        assert_eq!(seconds(0), "0:00:00");
        assert_eq!(seconds(3723), "1:02:03");
        assert_eq!(seconds(86_400 * 2 + 59), "2 d 0:00:59");
        let sizes = [
            0,
            999,
            1_000,
            9_949,
            9_950,
            34_000_000,
            999_600_000,
            u64::MAX,
        ];
        assert_eq!(
            sizes.map(bytes),
            [
                "0 kB", "1.0 kB", "1.0 kB", "9.9 kB", "10 kB", "34 MB", "1.0 GB", "18447 PB"
            ]
        );
        let numbers = [0.0, 4.6402, -0.5, 1e-7, 3.093130734844415e24];
        assert_eq!(
            numbers.map(number),
            ["0.000", "4.640", "-0.500", "1.000e-7", "3.093e24"]
        );
        assert_eq!(count(1, "checkpoint"), "1 checkpoint");
        assert_eq!(count(0, "checkpoint"), "0 checkpoints");
    }

    #[test]
    fn row_keeps_the_first_parts_and_its_width() {
        let parts = ["first".to_owned(), String::new(), "second".to_owned()];
        assert_eq!(row(PLAIN, "label", &parts, 25), "label      first   second");
        assert_eq!(row(PLAIN, "label", &parts, 24), "label      first");
        assert_eq!(row(PLAIN, "label", &parts, 14), "label      fi…");
        assert_eq!(row(PLAIN, "label", &[], 80), "label");
        let coloured = Paint { colour: true }.red("first");
        let coloured = row(Paint { colour: true }, "label", &[coloured], 14);
        assert_eq!(measure_text_width(&coloured), 14, "{coloured:?}");
    }

    #[test]
    fn wrapped_text_is_broken_between_words_alone() {
        let text = "the loss at step 19 is inf: weights are in runs/small/20261126-010101/divergence\n  a log's line";
        assert_eq!(
            wrap(text, 20),
            "the loss at step 19\nis inf: weights are\nin\nruns/small/20261126-010101/divergence\n  a log's line"
        );
        assert_eq!(wrap(text, 200), text);
        assert_eq!(wrap("a\n\n", 20), "a\n\n");
    }

    #[test]
    fn bar_is_full_by_halves_of_a_column() {
        assert_eq!(bar(PLAIN, 0.0, 4), "────");
        assert_eq!(bar(PLAIN, 0.375, 4), "━╸──");
        assert_eq!(bar(PLAIN, 1.0, 4), "━━━━");
        for share in [-1.0, 2.0, f64::NAN, f64::INFINITY] {
            assert_eq!(bar(PLAIN, share, 4).chars().count(), 4, "{share}");
        }
        let texts = ["long text".to_owned(), "short".to_owned()];
        let shown = |columns| bar_and_text(PLAIN, 0.0, &texts, 4, columns);
        assert_eq!(shown(15), "────  long text");
        assert_eq!(shown(14), "───────  short");
        assert_eq!(shown(10), "short");
    }

    #[test]
    fn sparkline_spans_the_numbers_shown() {
        assert_eq!(sparkline(&[0.1, 0.2, 0.8], 10), "▁▂█");
        assert_eq!(sparkline(&[9.0, 0.1, 0.8], 2), "▁█");
        assert_eq!(sparkline(&[0.5, 0.5], 10), "▄▄");
        assert_eq!(sparkline(&[], 10), "");
    }
}
