//! From YAML text to a value tree that holds known keys and allowed values only.
//!
//! The check happens while serde_yaml walks the text, because only an error raised there learns its
//! line and column. Nothing but known sections is descended into, so a text's size bounds the work:
//! aliases cannot multiply, nor nesting overflow the stack.

use super::rule::Rule;
use super::section::SWEEP;
use super::{fields, frozen};
use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Deserializer, Mapping, Value};
use std::cell::Cell;
use std::fmt;

/// What is wrong in a text, and where.
#[derive(Debug, Default)]
pub(super) struct FieldError {
    /// Line and column, both from 1, the column in characters; none for an error of the whole text.
    pub place: Option<(usize, usize)>,
    /// Dotted path of the field; empty for the top level.
    pub field: String,
    /// What was found and what is wanted.
    pub message: String,
}

/// Read the text of the section or field at `path`, "" for a whole file. An empty file is an empty
/// mapping: all defaults.
pub(super) fn read(text: &str, path: &str) -> Result<Value, FieldError> {
    walk(text, path, false, None)
}

/// Read the text of a run's frozen spec, whose fields may have names of earlier versions.
pub(super) fn read_frozen(text: &str) -> Result<Value, FieldError> {
    walk(text, "", true, None)
}

/// Line and column of a field's value in the text of a file that [`read`] or [`read_frozen`] accepted.
pub(super) fn locate(text: &str, field: &str) -> Option<(usize, usize)> {
    walk(text, "", true, Some(field)).err()?.place
}

fn walk(text: &str, path: &str, old_names: bool, stop: Option<&str>) -> Result<Value, FieldError> {
    let first_error = Cell::new(None);
    let seed = ValueSeed {
        path: path.to_owned(),
        item: None,
        old_names,
        stop,
        first_error: &first_error,
    };
    seed.deserialize(Deserializer::from_str(text))
        .map_err(|error| {
            let place = error.location().map(|place| (place.line(), place.column()));
            let Some(mut field_error) = first_error.take() else {
                let tab = tab_indentation(text).map(|line| {
                    format!("; line {line} begins with a tab, want spaces")
                });
                return FieldError {
                    place,
                    field: String::new(),
                    message: format!(
                        "not valid YAML: {}{}",
                        without_place(&error),
                        tab.unwrap_or_default()
                    ),
                };
            };
            field_error.place = place;
            let line = place.and_then(|(line, _)| text.lines().nth(line - 1));
            if let Some(alias) = place.and_then(|place| find_alias(text, &field_error.field, place)) {
                let (line, column) = alias.anchor;
                field_error.message += &format!(
                    "; it comes from {line}:{column} by the alias *{}: share single values, or whole files by \
                     'extends: NAME'",
                    alias.name
                );
                field_error.place = Some(alias.place);
            } else if line.is_some_and(|line| line.contains(": &"))
                && field_error.message.starts_with("unknown key")
            {
                field_error.message +=
                    "; a key only to hold an anchor has no place: share values by 'extends: NAME'";
            }
            field_error
        })
}

/// The first line whose indentation has a tab, from 1.
fn tab_indentation(text: &str) -> Option<usize> {
    let is_indented = |line: &str| {
        let content = line.trim_start();
        !content.is_empty() && line[..line.len() - content.len()].contains('\t')
    };
    Some(text.lines().position(is_indented)? + 1)
}

/// An alias that repeats a value which is elsewhere.
struct Alias<'a> {
    name: &'a str,
    /// Where it is, and where its anchor.
    place: (usize, usize),
    anchor: (usize, usize),
}

/// The alias by which the field, or a section around it, has its value, if an error of it is at `place`: that is where
/// the anchor's value is, and so before the alias. The parser does not tell of aliases.
fn find_alias<'a>(text: &'a str, field: &str, place: (usize, usize)) -> Option<Alias<'a>> {
    let position = |line: usize, before: &str| (line, before.chars().count() + 1);
    let lines = || (1..).zip(text.lines());
    let mut keys: Vec<&str> = field.split('.').collect();
    keys.reverse();
    let aliases = lines().flat_map(|(line, content)| {
        let stars = content.match_indices(": ").filter_map(move |(colon, _)| {
            let value = content[colon + 2..].trim_start();
            let name = value.strip_prefix('*')?;
            let end = name.find([' ', ',', '}', ']']).unwrap_or(name.len());
            let key = content[..colon].trim_end();
            let before = &content[..content.len() - value.len()];
            Some((position(line, before), key, &name[..end]))
        });
        stars.filter(|(_, key, _)| !key.contains('#'))
    });
    let mut found = aliases.filter(|(at, key, _)| {
        let is_key = |wanted: &&str| {
            let rest = key.strip_suffix(*wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with([' ', '{', ',']))
        };
        *at > place && keys.iter().any(is_key)
    });
    found.find_map(|(at, _, name)| {
        let anchor = lines().find_map(|(line, content)| {
            let mut anchors = content.match_indices('&').filter(|(and, _)| {
                let rest = content[and + 1..].strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            });
            let (and, _) = anchors.next()?;
            Some(position(line, &content[..and]))
        })?;
        (anchor <= place).then_some(Alias {
            name,
            place: at,
            anchor,
        })
    })
}

/// The error's text without the place, which [`FieldError`] holds.
fn without_place(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match error.location() {
        Some(place) => {
            let place = format!(" at line {} column {}", place.line(), place.column());
            text.replacen(&place, "", 1)
        }
        None => text,
    }
}

/// The value at one path of the tree.
struct ValueSeed<'a> {
    path: String,
    /// The rule of the list's items, for one of them.
    item: Option<&'static Rule>,
    /// Whether fields may have names of earlier versions.
    old_names: bool,
    /// Raise an error on reaching this path: how a place is found.
    stop: Option<&'a str>,
    /// The way out for an error with its field, past serde's error type, which carries text only.
    first_error: &'a Cell<Option<FieldError>>,
}

impl ValueSeed<'_> {
    fn fail<T, E: de::Error>(&self, field: String, message: String) -> Result<T, E> {
        self.first_error.set(Some(FieldError {
            place: None,
            field,
            message,
        }));
        Err(E::custom("field error"))
    }

    fn refuse<T, E: de::Error>(&self, found: &str) -> Result<T, E> {
        let message = format!("got {found}, want {}", fields::wanted(&self.path));
        self.fail(self.path.clone(), message)
    }

    fn checked<E: de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        if self.stop == Some(&self.path) {
            return self.refuse("a stop");
        }
        let checked = match self.item {
            Some(rule) => rule.check(value.into()),
            None => fields::check(&self.path, value.into()),
        };
        match checked {
            Ok(value) => Ok(value),
            Err(message) => self.fail(self.path.clone(), message),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fields::wanted(&self.path))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.checked(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.checked(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.checked(value)
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        self.checked(value as f64) // no field is that large, so the digits lost matter to messages only
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        self.checked(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.checked(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.checked(value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        match self.path.as_str() {
            "" => Ok(Value::Mapping(Mapping::new())),
            _ => self.checked(Value::Null),
        }
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let rule = fields::rule(&self.path);
        let (Some(each), None) = (rule.and_then(Rule::each), self.item) else {
            return self.refuse("a list");
        };
        if self.stop == Some(&self.path) {
            return self.refuse("a stop");
        }
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(ValueSeed {
            path: self.path.clone(),
            item: Some(each),
            ..self
        })? {
            items.push(item);
        }
        self.checked(Value::Sequence(items))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        self.refuse("a value with a tag")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if self.stop == Some(&self.path) || fields::rule(&self.path).is_some() {
            return self.refuse("a mapping");
        }
        let mut values = Mapping::new();
        while let Some(keys) = map.next_key_seed(KeySeed {
            section: &self,
            seen: &values,
        })? {
            if keys == [SWEEP] {
                values.insert(SWEEP.into(), map.next_value()?);
                continue;
            }
            let value = map.next_value_seed(ValueSeed {
                path: fields::join(&self.path, keys[0]),
                item: None,
                ..self
            })?;
            for key in keys {
                values.insert(key.into(), value.clone());
            }
        }
        Ok(Value::Mapping(values))
    }
}

/// A key of a section: known, and there for the first time. An old name stands for one key or several of today.
struct KeySeed<'a> {
    section: &'a ValueSeed<'a>,
    seen: &'a Mapping,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Vec<&'static str>;

    fn deserialize<D: de::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Vec<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of plain text")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let section = &self.section.path;
        let path = fields::join(section, key);
        let known = fields::keys(section);
        let keys: Vec<&str> = match known.iter().find(|known| **known == key) {
            Some(known) => vec![known],
            None if path == SWEEP => vec![SWEEP],
            None => frozen::renamed(&path, self.section.old_names).to_vec(),
        };
        if keys.is_empty() {
            return self.section.fail(path, fields::unknown_key(section, key));
        }
        match keys.iter().any(|key| self.seen.contains_key(key)) {
            true => self
                .section
                .fail(path, "got this key twice, want it once".into()),
            false => Ok(keys),
        }
    }
}
