//! The section `sweep` of an experiment's file: what no spec has, as a tree of YAML whose values have places.

use super::load::merge;
use super::overrides::Override;
use crate::user_error;
use anyhow::Result;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Deserializer, Mapping, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// Its key.
pub(super) const SWEEP: &str = "sweep";

/// The section, with what the command line sets in it.
#[derive(Clone, Debug)]
pub struct Section {
    values: Value,
    file: Option<(PathBuf, String)>,
    overrides: Vec<Override>,
}

impl Section {
    /// The section that has these values in a file, whose text this is.
    pub(super) fn of_file(values: Value, path: &Path, text: &str) -> Self {
        Section {
            file: Some((path.to_owned(), text.to_owned())),
            ..Section::of_values(values)
        }
    }

    /// A section that is in no file that a person has written.
    pub fn of_values(values: Value) -> Self {
        Section {
            values: match values {
                Value::Null => Value::Mapping(Mapping::new()),
                values => values,
            },
            file: None,
            overrides: Vec::new(),
        }
    }

    /// The section with what these overrides set in it.
    ///
    /// # Errors
    /// A user error if one is no YAML.
    pub fn with(mut self, overrides: &[Override]) -> Result<Self> {
        for setting in overrides {
            let (path, value) = setting.in_section()?;
            // A field's dotted name is one key here.
            let tree = path.iter().rev().fold(value, |value, key| {
                Value::Mapping(Mapping::from_iter([(key.as_str().into(), value)]))
            });
            let there = path
                .iter()
                .try_fold(&mut self.values, |value, key| value.get_mut(key));
            if let Some(there) = there.filter(|_| !path.is_empty()) {
                *there = Value::Null; // replaced as a whole, in its place
            }
            merge(&mut self.values, &tree);
            self.overrides.push(setting.clone());
        }
        Ok(self)
    }

    /// The whole section.
    pub fn root(&self) -> Node<'_> {
        Node {
            section: self,
            path: Vec::new(),
            value: &self.values,
        }
    }

    /// An error about what is at this path, or about its key.
    pub(super) fn error(&self, path: &[String], of: Part, message: &str) -> anyhow::Error {
        let setting = self
            .overrides
            .iter()
            .rfind(|setting| path.starts_with(&setting.section_path()));
        if let Some(setting) = setting {
            let named = match dotted(&path[setting.section_path().len()..]) {
                inside if inside.is_empty() => inside,
                inside => format!("{inside}: "),
            };
            return user_error!("{setting}: {named}{message}");
        }
        let name = match path.is_empty() {
            true => SWEEP.to_owned(),
            false => format!("{SWEEP}.{}", dotted(path)),
        };
        let place = self.place(path, of);
        match (&self.file, place) {
            (Some((file, _)), Some((line, column))) => {
                user_error!("{}:{line}:{column}: {name}: {message}", file.display())
            }
            (Some((file, _)), None) => user_error!("{}: {name}: {message}", file.display()),
            (None, _) => user_error!("{name}: {message}"),
        }
    }

    /// Line and column in the file of what is at this path, or of its key.
    pub(super) fn place(&self, path: &[String], of: Part) -> Option<(usize, usize)> {
        let (_, text) = self.file.as_ref()?;
        let path: Vec<&str> = [SWEEP]
            .into_iter()
            .chain(path.iter().map(String::as_str))
            .collect();
        let find = Find { path: &path, of };
        let place = find.deserialize(Deserializer::from_str(text)).err()?;
        let place = place.location()?;
        Some((place.line(), place.column()))
    }

    /// Where the section begins, as `experiments/small.yaml:5:1`.
    pub(super) fn origin(&self) -> String {
        match (&self.file, self.place(&[], Part::Key)) {
            (Some((file, _)), Some((line, column))) => {
                format!("{}:{line}:{column}", file.display())
            }
            _ => SWEEP.to_owned(),
        }
    }
}

/// A path in the section for people: items of lists are told by their place.
fn dotted(path: &[String]) -> String {
    let keys = path.iter().filter(|key| key.parse::<usize>().is_err());
    keys.map(String::as_str).collect::<Vec<_>>().join(".")
}

/// What of an entry an error is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// A value of the section and where it is.
#[derive(Clone)]
pub struct Node<'a> {
    section: &'a Section,
    path: Vec<String>,
    pub value: &'a Value,
}

impl<'a> Node<'a> {
    /// The entry with this key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        Some(self.inside(key, self.value.get(key)?))
    }

    /// Keys and values of a mapping. None of anything else, and of a mapping with a key that is no text.
    pub fn entries(&self) -> Option<Vec<(&'a str, Node<'a>)>> {
        let entries = self.value.as_mapping()?.iter();
        entries
            .map(|(key, value)| {
                let key = key.as_str()?;
                Some((key, self.inside(key, value)))
            })
            .collect()
    }

    /// The items of a list. None of anything else.
    pub fn items(&self) -> Option<Vec<Node<'a>>> {
        let items = (0..).zip(self.value.as_sequence()?);
        let item = |(index, value): (usize, _)| self.inside(&index.to_string(), value);
        Some(items.map(item).collect())
    }

    fn inside(&self, key: &str, value: &'a Value) -> Node<'a> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Node {
            section: self.section,
            path,
            value,
        }
    }

    /// What is at this path below; the nearest around it if there is nothing.
    pub fn at(&self, path: &[String]) -> Node<'a> {
        let mut node = self.clone();
        for key in path {
            let index = key.parse::<usize>().ok();
            let inside = match index {
                Some(index) if node.value.is_sequence() => node.value.get(index),
                _ => node.value.get(key),
            };
            match inside {
                Some(value) => node = node.inside(key, value),
                None => break,
            }
        }
        node
    }

    /// A user error about the value.
    pub fn error(&self, message: impl AsRef<str>) -> anyhow::Error {
        self.section
            .error(&self.path, Part::Value, message.as_ref())
    }

    /// A user error about the key.
    pub fn key_error(&self, message: impl AsRef<str>) -> anyhow::Error {
        self.section.error(&self.path, Part::Key, message.as_ref())
    }

    /// A user error about the entry with this key, or about the whole if there is none.
    pub fn error_at(&self, key: &str, message: impl AsRef<str>) -> anyhow::Error {
        self.get(key).as_ref().unwrap_or(self).error(message)
    }
}

/// Fails on reaching a path: serde_yaml tells places in its errors alone.
#[derive(Clone, Copy)]
struct Find<'a> {
    path: &'a [&'a str],
    of: Part,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What is not descended into is an error of its type, which has the place that is looked for.
impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return Err(de::Error::custom("found"));
        };
        let stops = rest.is_empty() && self.of == Part::Key;
        while let Some(is_it) = map.next_key_seed(Key { want: first, stops })? {
            match is_it {
                true => map.next_value_seed(Find { path: rest, ..self })?,
                false => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return Err(de::Error::custom("found"));
        };
        for _ in 0..first.parse().unwrap_or(0) {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Find { path: rest, ..self })?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Whether a key is the one that is looked for.
struct Key<'a> {
    want: &'a str,
    stops: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of plain text")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.want, self.stops) {
            (true, true) => Err(E::custom("found")),
            (is_it, _) => Ok(is_it),
        }
    }
}
