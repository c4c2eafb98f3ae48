//! A point of a sweep: the values of one run's fields, and what it is called.

use crate::files::sha256;
use crate::spec::{Base, Spec};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Digits of an id, in base 16: of 10,000 points no two have the same but once in five million sweeps.
const ID_DIGITS: usize = 12;

/// Characters of a name; a directory's may have 255, but a terminal's line is shared.
const NAME_LENGTH: usize = 60;

/// A run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// From 1. It stays what it is when points are added.
    pub number: usize,
    /// Of the values and the seed, however they are written: 3e6 and 3000000 are one.
    pub id: String,
    /// The id without the seed: points of one setting are averaged.
    pub setting: String,
    /// The name of its directory: `007-learning_rate=0.05-seed=2`.
    pub name: String,
    pub seed: u64,
    /// The values of the fields that it sets, by their dotted paths, as a spec has them.
    pub set: BTreeMap<String, Value>,
}

impl Point {
    /// A point that sets these fields; `labels` are the words for those that its name tells, in that order, and
    /// `tells_seed` whether it tells the seed.
    pub(super) fn new(
        number: usize,
        seed: u64,
        set: BTreeMap<String, Value>,
        labels: &[(String, String)],
        tells_seed: bool,
    ) -> Self {
        let label = label(&set, labels, tells_seed.then_some(seed));
        Point {
            number,
            id: id(&json!({"seed": seed, "set": set})),
            setting: id(&json!({ "set": set })),
            name: name(number, &label),
            seed,
            set,
        }
    }

    /// What is not as it was made: the id of its values, or the name of its directory, which must not lead elsewhere.
    pub(super) fn damage(&self) -> Option<String> {
        let made = Point::new(self.number, self.seed, self.set.clone(), &[], false);
        let allowed = |c: char| is_plain(c) || c == '=';
        let found = |field, found: &str, want: &str| {
            Some(format!(
                "point {}: got {field} {found:?}, want {want}",
                self.number
            ))
        };
        if (&self.id, &self.setting) != (&made.id, &made.setting) {
            found(
                "id",
                &self.id,
                &format!("{:?}, that of its values", made.id),
            )
        } else if self.name != name(self.number, self.label()) || !self.name.chars().all(allowed) {
            found(
                "name",
                &self.name,
                &format!("one that begins with {:?}", made.name),
            )
        } else {
            None
        }
    }

    /// What differs from other points: the name without its number, `learning_rate=0.05-seed=2`.
    pub fn label(&self) -> &str {
        self.name.split_once('-').map_or("", |(_, label)| label)
    }

    /// Give the point another number.
    pub(super) fn renumber(&mut self, number: usize) {
        self.name = name(number, self.label());
        self.number = number;
    }

    /// The spec of its run, which is `base` with the values of the point.
    ///
    /// # Errors
    /// None for the base of its sweep, with which the point has been checked.
    pub(super) fn spec(&self, base: &Base) -> Result<Spec> {
        let mut tree = BTreeMap::new();
        for (field, value) in &self.set {
            tree.insert(field.clone(), serde_yaml::to_value(value)?);
        }
        tree.insert("seed".to_owned(), self.seed.into());
        base.with(&tree, BTreeMap::new(), self.name.clone())
    }
}

fn name(number: usize, label: &str) -> String {
    match label {
        "" => format!("{number:03}"),
        label => format!("{number:03}-{label}"),
    }
}

/// The first digits of the SHA-256 of a value, whose keys are sorted.
fn id(value: &Value) -> String {
    sha256(value.to_string())[..ID_DIGITS].to_owned()
}

/// Fields and seed of a point in the characters of a file's name: as many of the fields as there is room for.
fn label(set: &BTreeMap<String, Value>, labels: &[(String, String)], seed: Option<u64>) -> String {
    let seed = seed.map(|seed| format!("seed={seed}"));
    let reserved = seed.as_ref().map_or(0, |seed| 1 + seed.len());
    let mut parts: Vec<String> = Vec::new();
    let mut length = reserved;
    for (field, word) in labels {
        let Some(value) = set.get(field) else {
            continue;
        };
        let part = format!("{word}={}", plain(value));
        length += 1 + part.len();
        if length > NAME_LENGTH {
            break;
        }
        parts.push(part);
    }
    parts.extend(seed);
    parts.join("-")
}

/// A value in characters that need no quotes.
pub fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            items.join(",")
        }
        value => value.to_string(),
    };
    // A whole number reads better without its decimals.
    let text = text.strip_suffix(".0").unwrap_or(&text);
    let plain = |c| if is_plain(c) { c } else { '_' };
    text.chars().map(plain).collect()
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-' | ',')
}

/// Dotted paths and their shortest ends that tell them apart.
pub fn labels(fields: &[&str]) -> Vec<(String, String)> {
    let end = |field: &str, keys: usize| {
        let all: Vec<&str> = field.split('.').collect();
        all[all.len().saturating_sub(keys)..].join(".")
    };
    let label = |field: &&str| {
        let is_unique = |keys: &usize| {
            let wanted = end(field, *keys);
            let same = fields.iter().filter(|other| end(other, *keys) == wanted);
            same.count() == 1
        };
        let keys = (1..=field.split('.').count()).find(is_unique);
        ((*field).to_owned(), end(field, keys.unwrap_or(usize::MAX)))
    };
    fields.iter().map(label).collect()
}
