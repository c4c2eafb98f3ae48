//! Sizes, durations and times as people write them.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime};

/// Units of a size, in bytes.
const SIZES: &[(&str, f64)] = &[
    ("b", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("k", 1e3),
    ("m", 1e6),
    ("g", 1e9),
    ("t", 1e12),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
];

/// Units of a duration, in seconds.
const DURATIONS: &[(&str, f64)] = &[
    ("s", 1.0),
    ("sec", 1.0),
    ("second", 1.0),
    ("seconds", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("minute", 60.0),
    ("minutes", 60.0),
    ("h", 3600.0),
    ("hour", 3600.0),
    ("hours", 3600.0),
    ("d", 86_400.0),
    ("day", 86_400.0),
    ("days", 86_400.0),
    ("w", 604_800.0),
    ("week", 604_800.0),
    ("weeks", 604_800.0),
];

/// A number, which may be followed by `%`.
pub fn number(text: &str) -> Option<f64> {
    let (digits, divisor) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (text, 1.0),
    };
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let number: f64 = digits.parse().ok().filter(|_| is_number)?;
    Some(number / divisor).filter(|number| number.is_finite())
}

/// A size in bytes: `500MB`, `1.5 GiB`, `1000`.
pub fn bytes(text: &str) -> Option<f64> {
    let parts = parts(text, SIZES, 1.0)?;
    (parts.len() == 1).then(|| parts[0])
}

/// A duration in seconds: `30d`, `1h30m`, `20`.
pub fn seconds(text: &str) -> Option<f64> {
    Some(parts(text, DURATIONS, 1.0)?.iter().sum())
}

/// A moment, in seconds since 1970: `2026-11-20`, `2026-11-20T08:00`, `2026-11-20 08:00:30`, with or without a zone.
pub fn time(text: &str) -> Option<f64> {
    let local = |time: NaiveDateTime| time.and_local_timezone(Local).earliest();
    let with_zone = || {
        Some(
            DateTime::parse_from_rfc3339(text)
                .ok()?
                .with_timezone(&Local),
        )
    };
    let forms = [
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S",
    ];
    let mut forms = forms.iter();
    let moment = || forms.find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let found = with_zone().or_else(|| local(moment_of(moment, day)?))?;
    Some(found.timestamp_millis() as f64 / 1e3)
}

fn moment_of(
    moment: impl FnOnce() -> Option<NaiveDateTime>,
    day: impl FnOnce() -> Option<NaiveDate>,
) -> Option<NaiveDateTime> {
    moment().or_else(|| Some(day()?.and_time(NaiveTime::MIN)))
}

/// Numbers, each with its unit; one alone may have none.
fn parts(text: &str, units: &[(&str, f64)], without: f64) -> Option<Vec<f64>> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let of_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c| !of_number(c)).unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let unit = rest[..end].to_lowercase();
        rest = rest[end..].trim_start();
        let factor = match unit.is_empty() {
            true if parts.is_empty() && rest.is_empty() => without,
            true => return None,
            false => units.iter().find(|(name, _)| *name == unit)?.1,
        };
        parts.push(number * factor);
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_that_people_write() {
        for (text, want) in [
            ("0.7", 0.7),
            ("-1e-3", -1e-3),
            ("70%", 0.7),
            (".5", 0.5),
            ("+2", 2.0),
        ] {
            assert_eq!(number(text), Some(want), "{text}");
        }
        for text in ["", "%", "inf", "nan", "-inf", "1e999", "0x1", "1 2", "1,5"] {
            assert_eq!(number(text), None, "{text}");
        }
        for (text, want) in [
            ("1000", 1e3),
            ("500MB", 5e8),
            ("1.5 GiB", 1.5 * 1_073_741_824.0),
            ("2k", 2e3),
        ] {
            assert_eq!(bytes(text), Some(want), "{text}");
        }
        for text in ["", "MB", "5 parsecs", "1GB 2MB", "-1MB", "1.2.3MB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
        for (text, want) in [
            ("90", 90.0),
            ("30d", 2_592_000.0),
            ("1h30m", 5400.0),
            ("1 week 1 day", 691_200.0),
            ("20 min", 1200.0),
        ] {
            assert_eq!(seconds(text), Some(want), "{text}");
        }
        for text in ["", "d", "1h30", "1x", "-1d", "yesterday"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        let day = time("2026-11-20").unwrap();
        assert_eq!(time("2026-11-20T01:00"), Some(day + 3600.0));
        assert_eq!(time("2026-11-20 00:00:30"), Some(day + 30.0));
        assert_eq!(time("1970-01-01T00:01:00Z"), Some(60.0));
        for text in ["", "20261120", "2026-13-01", "tomorrow", "2026-11-20T"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
