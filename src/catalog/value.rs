//! What a column says of a run: one value, as people read it, as CSV and JSON have it, and as it is compared.

use std::cmp::Ordering;
use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat};
use serde_json::{Map, Value as Json, json};

use super::column::short;
use crate::overview::text::{bytes, clock, number};

/// Means and changes that are not smaller are written with an exponent: losses that diverge.
const LARGE: f64 = 1e5;

/// A value of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// A number of things.
    Count(u64),
    /// Any number.
    Number(f64),
    /// An accuracy, in 0..=1.
    Accuracy(f64),
    /// A loss.
    Loss(f64),
    /// The mean of an accuracy or a loss over several runs, with its standard deviation.
    Mean { mean: f64, deviation: f64 },
    /// The difference to another number.
    Change(f64),
    /// A size.
    Bytes(u64),
    /// So many seconds.
    Duration(f64),
    /// So many seconds ago.
    Age(f64),
    /// A moment.
    Time(DateTime<Local>),
    /// Several words.
    List(Vec<String>),
    /// So many of so many steps.
    Steps { done: u64, all: u64 },
    /// So many of a sweep's points.
    Points { done: usize, all: usize },
    /// Fields of a spec by their dotted paths.
    Fields(Vec<(String, Json)>),
}

impl Value {
    /// That of a spec's field; none of one that is not set.
    pub fn of_field(value: &Json) -> Option<Self> {
        Some(match value {
            Json::Null => return None,
            Json::Bool(flag) => Value::Flag(*flag),
            Json::Number(number) => match number.as_u64() {
                Some(count) => Value::Count(count),
                None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(plain).collect()),
            other => Value::Text(other.to_string()),
        })
    }

    /// For people, in one line.
    pub fn text(&self) -> String {
        match self {
            Value::Accuracy(accuracy) => format!("{accuracy:.3}"),
            Value::Loss(loss) => number(*loss),
            Value::Mean { mean, deviation } => match mean.abs().max(*deviation) {
                ..LARGE => format!("{mean:.3} ± {deviation:.3}"),
                _ => format!("{mean:.3e} ± {deviation:.3e}"),
            },
            Value::Change(change) => match change.abs() {
                size if size > 0.0 && size < 5e-4 => format!("{change:+.0e}"),
                LARGE.. => format!("{change:+.3e}"),
                _ => format!("{change:+.3}"),
            },
            Value::Bytes(size) => bytes(*size),
            Value::Duration(seconds) => clock(duration(*seconds)),
            Value::Age(seconds) => age(*seconds),
            Value::Time(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
            Value::List(items) => items.join(" "),
            Value::Steps { done, all } => format!("{done}/{all}"),
            Value::Points { done, all } => format!("{done}/{all} points"),
            Value::Fields(fields) => fields_text(fields),
            Value::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            other => other.plain(),
        }
    }

    /// In full and without units, for a cell of CSV.
    pub fn plain(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Flag(flag) => flag.to_string(),
            Value::Time(_) => self.json().as_str().map_or_else(String::new, str::to_owned),
            Value::List(items) => items.join(" "),
            Value::Fields(fields) => {
                let fields = fields.iter();
                let texts = fields.map(|(field, value)| format!("{field}={}", plain(value)));
                texts.collect::<Vec<_>>().join(" ")
            }
            Value::Points { .. } => String::new(), // which have columns of their own
            other => plain(&other.json()),
        }
    }

    /// As JSON has it: numbers without units (seconds, bytes, shares of 1), times in RFC 3339.
    pub fn json(&self) -> Json {
        match self {
            Value::Text(text) => json!(text),
            Value::Flag(flag) => json!(flag),
            Value::Count(count) | Value::Bytes(count) => json!(count),
            Value::Number(number)
            | Value::Accuracy(number)
            | Value::Loss(number)
            | Value::Mean { mean: number, .. }
            | Value::Change(number)
            | Value::Duration(number)
            | Value::Age(number) => json!(number),
            Value::Time(time) => json!(time.to_rfc3339_opts(SecondsFormat::Secs, false)),
            Value::List(items) => json!(items),
            Value::Steps { done, .. } => json!(done),
            Value::Points { .. } => Json::Null,
            Value::Fields(fields) => Json::Object(Map::from_iter(fields.iter().cloned())),
        }
    }

    /// As a number, where it is one; of a time the seconds since 1970.
    pub fn number(&self) -> Option<f64> {
        Some(match self {
            Value::Count(count) | Value::Bytes(count) => *count as f64,
            Value::Number(number)
            | Value::Accuracy(number)
            | Value::Loss(number)
            | Value::Mean { mean: number, .. }
            | Value::Change(number)
            | Value::Duration(number)
            | Value::Age(number) => *number,
            Value::Time(time) => time.timestamp_millis() as f64 / 1e3,
            Value::Steps { done, .. } => *done as f64,
            // Points have columns of their own, and are no steps.
            Value::Text(_)
            | Value::Flag(_)
            | Value::List(_)
            | Value::Points { .. }
            | Value::Fields(_) => return None,
        })
    }

    /// The smaller one first: numbers by their size, all else by its text.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b
                .is_some()
                .cmp(&a.is_some())
                .then_with(|| self.plain().cmp(&other.plain())),
        }
    }
}

/// A value as a file has it, a text without quotes.
pub fn plain(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Fields as an expression names them: `learning_rate=0.1 stop.accuracy=0.8`.
fn fields_text(fields: &[(String, Json)]) -> String {
    let texts = fields
        .iter()
        .map(|(field, value)| format!("{}={}", short(field), plain(value)));
    texts.collect::<Vec<_>>().join(" ")
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// How long ago something was, in its largest unit.
fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        ..60.0 => format!("{seconds:.0} s"),
        ..3600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        ..172_800.0 => format!("{:.0} h", (seconds / 3600.0).floor()),
        _ => format!("{:.0} d", (seconds / 86_400.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_text_for_people_and_plain_for_programs() {
        let fields = vec![
            ("optimizer.learning_rate".to_owned(), json!(0.1)),
            ("network.conv1.kernel".to_owned(), json!(3)),
            ("network.conv2.kernel".to_owned(), json!(5)),
            ("data.folder".to_owned(), json!("a b")),
        ];
        for (value, text, plain, json) in [
            (Value::Accuracy(0.71249), "0.712", "0.71249", json!(0.71249)),
            (Value::Loss(1.5), "1.500", "1.5", json!(1.5)),
            (
                Value::Mean {
                    mean: 0.75,
                    deviation: 0.0125,
                },
                "0.750 ± 0.013",
                "0.75",
                json!(0.75),
            ),
            (Value::Number(1e-7), "1e-7", "1e-7", json!(1e-7)),
            (Value::Count(7), "7", "7", json!(7)),
            (
                Value::Bytes(34_000_000),
                "34 MB",
                "34000000",
                json!(34_000_000),
            ),
            (Value::Duration(3723.0), "1:02:03", "3723.0", json!(3723.0)),
            (Value::Age(7300.0), "2 h", "7300.0", json!(7300.0)),
            (Value::Flag(true), "true", "true", json!(true)),
            (Value::Text("a\n b".into()), "a b", "a\n b", json!("a\n b")),
            (
                Value::List(vec!["a".into(), "b".into()]),
                "a b",
                "a b",
                json!(["a", "b"]),
            ),
            (Value::Steps { done: 3, all: 9 }, "3/9", "3", json!(3)),
            (
                Value::Points { done: 3, all: 9 },
                "3/9 points",
                "",
                json!(null),
            ),
            (
                Value::Fields(fields),
                "learning_rate=0.1 conv1.kernel=3 conv2.kernel=5 folder=a b",
                "optimizer.learning_rate=0.1 network.conv1.kernel=3 network.conv2.kernel=5 data.folder=a b",
                json!({"optimizer.learning_rate": 0.1, "network.conv1.kernel": 3, "network.conv2.kernel": 5, "data.folder": "a b"}),
            ),
        ] {
            assert_eq!((&*value.text(), &*value.plain()), (text, plain));
            assert_eq!(value.json(), json);
        }
        let ages = [-1.0, 59.0, 61.0, 7199.0, 172_799.0, 172_800.0];
        assert_eq!(
            ages.map(age),
            ["0 s", "59 s", "1 min", "1 h", "47 h", "2 d"]
        );
    }

    #[test]
    fn values_are_compared_by_their_size_and_numbers_come_first() {
        let sorted = [
            Value::Number(-1.0),
            Value::Count(2),
            Value::Number(10.0),
            Value::Text("a".into()),
            Value::Text("b".into()),
        ];
        let mut values = sorted.clone();
        values.reverse();
        values.sort_by(Value::compare);
        assert_eq!(values, sorted);
    }
}
