//! The names of run directories, which sort runs by age: the local time of their creation, and a number.

use std::fmt;

use chrono::{DateTime, Local, NaiveDateTime};

/// `YYYYmmdd-HHMMSS`, or `YYYYmmdd-HHMMSS-NUMBER` with a number from 002, so that texts sort as well.
///
/// Local time goes back: in autumn, with a clock that is corrected, in another time zone. A run then gets the time of
/// the run before it, and the next number: whatever the clocks say, a later run has the greater timestamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timestamp {
    time: String,
    number: u32,
}

impl Timestamp {
    /// That of a run created at this moment.
    pub(super) fn of(moment: &DateTime<Local>) -> Self {
        Timestamp {
            time: moment.format("%Y%m%d-%H%M%S").to_string(),
            number: 1,
        }
    }

    /// Reads a directory's name; `None` for one that somebody made up.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (time, rest) = name.split_at_checked("YYYYmmdd-HHMMSS".len())?;
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        let (day, second) = time.split_once('-')?;
        if day.len() != 8 || !digits(day) || !digits(second) {
            return None;
        }
        let number = match rest.strip_prefix('-') {
            Some(number) if digits(number) => number.parse().ok()?,
            None if rest.is_empty() => 1,
            _ => return None,
        };
        Some(Timestamp {
            time: time.to_owned(),
            number,
        })
    }

    /// The local time that it names; `None` for one that this time zone skips.
    pub(super) fn time(&self) -> Option<DateTime<Local>> {
        let time = NaiveDateTime::parse_from_str(&self.time, "%Y%m%d-%H%M%S").ok()?;
        time.and_local_timezone(Local).earliest()
    }

    /// The first one after this. `None` if there is none, after billions of runs.
    pub(super) fn next(&self) -> Option<Self> {
        Some(Timestamp {
            time: self.time.clone(),
            number: self.number.max(1).checked_add(1)?,
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => f.write_str(&self.time),
            number => write!(f, "{}-{number:03}", self.time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_as_they_are_written_and_sort_by_age() {
        let names = [
            "20251123-031000",
            "20261123-031000",
            "20261123-031000-002",
            "20261123-031000-010",
            "20261123-031001",
        ];
        assert!(names.is_sorted());
        let timestamps = names.map(|name| Timestamp::parse(name).unwrap());
        assert!(timestamps.is_sorted());
        assert_eq!(timestamps.each_ref().map(Timestamp::to_string), names);
        for name in [
            "renamed by hand",
            "20261123-03100",
            "20261123-0310000",
            "20261123-031000-",
            "20261123-031000-+2",
            "20261123-031000-99999999999",
            "2026112-3031000",
        ] {
            assert_eq!(Timestamp::parse(name), None, "{name}");
        }
        let earlier_versions = ["20261123-031000-2", "20261123-031000-10"];
        for (earlier, name) in earlier_versions.iter().zip(&names[2..]) {
            assert_eq!(Timestamp::parse(earlier), Timestamp::parse(name));
        }
        let last = Timestamp::parse("20261123-031000-4294967295").unwrap();
        assert_eq!(last.next(), None);
    }
}
