//! The fields of a spec, found by their dotted paths.

mod table;

pub use table::Field;

use super::Spec;
use super::names;
use super::overrides::canonical_path;
use super::reference::similar;
use super::rule::{Numbers, Rule, describe};
use super::section::SWEEP;
use super::sweep_reference::sweep_keys;
use super::synonyms::meant_by;
use serde_yaml::{Mapping, Value};
use std::sync::OnceLock;
use table::{FIELDS, SECTIONS};

impl Field {
    /// The field of a spec that a user calls so; else what to call it.
    pub fn find(name: &str) -> Result<&'static Field, String> {
        let path = canonical_path(name).map_err(|_| {
            let similar = similar(name);
            let similar = match similar.is_empty() {
                true => String::new(),
                false => format!("did you mean {}? ", similar.join(" or ")),
            };
            format!("unknown field; {similar}`runboard fields` lists them all")
        })?;
        match field(&path) {
            Some(_) if !is_in_spec(&path) => Err("this is for files, no field of a run".to_owned()),
            Some(field) => Ok(field),
            None => Err(format!(
                "got a section, want a field of it: {}",
                keys(&path).join(", ")
            )),
        }
    }

    /// All fields of a spec, in the order of its struct.
    pub fn all() -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(|field| is_in_spec(field.path))
    }

    /// The value of the field in a spec's JSON; none where it is not set.
    pub fn value<'a>(&self, spec: &'a serde_json::Value) -> Option<&'a serde_json::Value> {
        let mut keys = self.path.split('.');
        let found = keys.try_fold(spec, |value, key| value.get(key))?;
        Some(found).filter(|value| !value.is_null())
    }

    /// Its default; none where that is not to be set.
    pub fn default_value(&self) -> Option<&'static serde_json::Value> {
        static DEFAULTS: OnceLock<serde_json::Value> = OnceLock::new();
        self.value(DEFAULTS.get_or_init(|| Spec::default().to_json().unwrap_or_default()))
    }

    /// The words that it may be, where they are few.
    pub fn choices(&self) -> Vec<&'static str> {
        match &self.rule {
            Rule::Bool => vec!["true", "false"],
            Rule::OneOf(choices) | Rule::Switch(choices) => choices.to_vec(),
            Rule::Device => vec!["auto", "cpu", "cuda"],
            _ => Vec::new(),
        }
    }

    /// Whether it is true or false.
    pub fn is_flag(&self) -> bool {
        matches!(self.rule, Rule::Bool)
    }

    /// Pass a value that the field allows, as it stands in a spec; else a message of what was found and is wanted.
    pub fn check(&self, value: Value) -> Result<Value, String> {
        self.rule.check(value)
    }

    /// Whether it holds a list.
    pub fn is_list(&self) -> bool {
        self.rule.each().is_some()
    }

    /// What numbers it holds; none of what holds no number.
    pub fn numbers(&self) -> Option<Numbers> {
        self.rule.numbers()
    }
}

/// Every field, in the order of the struct; first the keys that files have and a spec has not.
pub(super) fn all() -> &'static [Field] {
    FIELDS
}

/// Every section and what it is about, in the order of the struct; the top level is the section "".
pub(super) fn sections() -> &'static [(&'static str, &'static str)] {
    SECTIONS
}

/// The field at this dotted path; none for a section and for an unknown path.
pub(super) fn field(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.path == path)
}

/// The rule of the field at this dotted path; none for a section and for an unknown path.
pub(super) fn rule(path: &str) -> Option<&'static Rule> {
    field(path).map(|field| &field.rule)
}

/// Whether the key at this path is a field of [`Spec`](super::Spec), and not of files alone.
pub(super) fn is_in_spec(path: &str) -> bool {
    !["extends", "version"].contains(&path)
}

/// Fields of which a spec has one: setting one unsets the other.
const ALTERNATIVES: &[[&str; 2]] = &[["train.steps", "train.epochs"]];

/// The fields in whose place others may stand, and the others.
pub(super) fn alternatives() -> impl Iterator<Item = [&'static str; 2]> {
    let pairs = ALTERNATIVES.iter();
    pairs.flat_map(|&[one, other]| [[one, other], [other, one]])
}

/// The value at this dotted path of a tree; none if there is none.
pub(super) fn value<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |value, key| value.get(key))
}

/// A scalar or a list as a file has it, in one line.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Sequence(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(", "))
        }
        // A scalar always has a text.
        scalar => {
            let text = serde_yaml::to_string(scalar).unwrap_or_default();
            text.trim_end().to_owned()
        }
    }
}

/// The mappings that a path names, with this value innermost.
pub(super) fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, key| {
        Value::Mapping(Mapping::from_iter([(key.into(), value)]))
    })
}

/// The dotted paths of the fields that hold paths of directories.
pub(super) fn directories() -> impl Iterator<Item = &'static str> {
    paths().filter(|path| matches!(rule(path), Some(Rule::Directory)))
}

/// The dotted paths of all fields.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|field| field.path)
}

/// The keys of a section, in the table's order; the top level is the section "". Empty if there is no
/// such section.
pub(super) fn keys(section: &str) -> Vec<&'static str> {
    let mut keys: Vec<&str> = paths()
        .filter_map(|path| {
            let rest = match section {
                "" => path,
                _ => path.strip_prefix(section)?.strip_prefix('.')?,
            };
            rest.split('.').next()
        })
        .collect();
    keys.dedup(); // a section's fields stand together
    keys
}

/// The dotted path of a section's key.
pub(super) fn join(section: &str, key: &str) -> String {
    match section {
        "" => key.to_owned(),
        _ => format!("{section}.{key}"),
    }
}

/// What the field or section at this path wants, to follow "want".
pub(super) fn wanted(path: &str) -> String {
    match rule(path) {
        Some(rule) => rule.to_string(),
        None => format!("a mapping of {}", keys(path).join(", ")),
    }
}

/// Pass a scalar or a list that the field allows; else a message of what was found and what is wanted.
pub(super) fn check(field: &str, value: Value) -> Result<Value, String> {
    match rule(field) {
        Some(rule) => rule.check(value),
        None => Err(format!("got {}, want {}", describe(&value), wanted(field))),
    }
}

/// The keys at this path; of a field, the field itself. Empty if there is no such path.
fn wanted_keys(path: &str) -> Vec<&str> {
    match rule(path) {
        Some(_) => vec![path],
        None => keys(path),
    }
}

/// How a file has what `key`, a dotted one in this section, names: a path from the section, from one around it or from
/// the top level on. None if it names nothing.
fn undotted(section: &str, key: &str) -> Option<String> {
    if !key.contains('.') {
        return None;
    }
    let is_known = |path: &str| !wanted_keys(path).is_empty();
    if is_known(&join(section, key)) {
        return Some(format!("{} in a file", opened(key)));
    }
    // `train.steps` in `train`, `network.conv1.kernel` or `conv1.kernel` in `network.conv1`.
    let ends = section
        .match_indices('.')
        .map(|(dot, _)| &section[dot + 1..]);
    let mut inside = [section].into_iter().chain(ends).filter_map(|end| {
        let rest = key.strip_prefix(end)?.strip_prefix('.')?;
        is_known(&join(section, rest)).then_some(rest)
    });
    if let Some(rest) = inside.next() {
        return Some(format!("{} in {section}", opened(rest)));
    }
    is_known(key).then(|| format!("{} at the top level", opened(key)))
}

/// The mappings that a dotted path names, in one line; the innermost value is left open.
fn opened(path: &str) -> String {
    let mut keys = path.rsplit('.');
    let innermost = format!("{}: ...", keys.next().unwrap_or_default());
    keys.fold(innermost, |inner, key| format!("{key}: {{{inner}}}"))
}

/// The message for a key that a section does not have.
pub(super) fn unknown_key(section: &str, key: &str) -> String {
    if key == "<<" {
        return "YAML's merge key has no meaning here; want 'extends: NAME' at the top level to start from another \
                experiment"
            .to_owned();
    }
    if let Some(want) = undotted(section, key) {
        return format!("a dotted key is for --set; want {want}");
    }
    let mut known = keys(section);
    if section.is_empty() {
        if sweep_keys().contains(&key) {
            return format!("unknown key; it is one of a sweep, want {SWEEP}: {{{key}: ...}}");
        }
        known.push(SWEEP);
    }
    let message = format!("unknown key, want one of {}", known.join(", "));
    // What others call so may be a key of this section, too.
    let meant = meant_by(key);
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let own = meant.iter().map(|path| last(path));
    let own: Vec<String> = own
        .filter(|key| known.contains(key))
        .map(|key| join(section, key))
        .collect();
    // The right name in the wrong section is an easy slip in a nested file.
    let same = |path: &&str| path.rsplit_once('.').is_some_and(|(_, last)| last == key);
    let near = match (meant, names::nearest(key, known.iter().copied())) {
        _ if !own.is_empty() => own.iter().map(String::as_str).collect(),
        ([], Some(near)) => vec![near],
        ([], None) => paths().filter(same).take(2).collect(),
        (meant, _) => meant.to_vec(),
    };
    message + &names::did_you_mean(near)
}
