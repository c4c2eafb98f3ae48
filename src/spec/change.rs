//! What differs between two specs: one and the defaults, or a run's before and after a resume.

use super::layer::Layer;
use super::load::resolve;
use super::rule::shortened;
use super::{Override, Spec, fields};
use crate::user_error;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// A field that has another value in another spec; null where a spec has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its dotted path.
    pub field: String,
    pub from: Value,
    pub to: Value,
}

/// How the lack of a value is shown.
const NOT_SET: &str = "not set";

impl Change {
    /// Whether a resume may make it: what was trained so far does not depend on the field.
    pub fn is_allowed(&self) -> bool {
        fields::field(&self.field).is_some_and(|field| field.changeable)
    }

    /// Both values, as a file has them.
    pub fn as_yaml(&self) -> [String; 2] {
        [&self.from, &self.to].map(|value| match serde_yaml::to_value(value) {
            Ok(value) if !value.is_null() => fields::text(&value),
            _ => NOT_SET.to_owned(),
        })
    }

    /// The way back.
    pub fn reversed(&self) -> Self {
        Change {
            field: self.field.clone(),
            from: self.to.clone(),
            to: self.from.clone(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| match value {
            Value::Null => NOT_SET.to_owned(),
            Value::String(text) => Value::from(shortened(text)).to_string(),
            value => value.to_string(),
        };
        let (from, to) = (shown(&self.from), shown(&self.to));
        write!(f, "{} is {to} and was {from}", self.field)
    }
}

impl Spec {
    /// The spec as JSON, floats in as few digits as in YAML.
    ///
    /// # Errors
    /// If the data directory's path is not Unicode.
    pub fn to_json(&self) -> Result<Value> {
        // By way of text: an f32 of 0.2 is written as 0.2, but converted to an f64 it is 0.20000000298.
        let text = serde_json::to_string(self).context("failed to write the spec as JSON")?;
        serde_json::from_str(&text).context("failed to read the spec as JSON")
    }

    /// The fields whose values are not the defaults, in the order of the spec; those without a value, in whose place
    /// another one is set, are left out.
    ///
    /// # Errors
    /// As [`Spec::changes_to`].
    pub fn differences(&self) -> Result<Vec<Change>> {
        let mut changes = Spec::default().changes_to(self)?;
        changes.retain(|change| !change.to.is_null());
        Ok(changes)
    }

    /// The fields that have another value in `other`, in the order of the spec.
    ///
    /// # Errors
    /// If a data directory's path is not Unicode.
    pub fn changes_to(&self, other: &Spec) -> Result<Vec<Change>> {
        let (from, to) = (self.to_json()?, other.to_json()?);
        let value = |spec: &Value, path: &str| {
            let found = path.split('.').try_fold(spec, |value, key| value.get(key));
            found.cloned().unwrap_or_default()
        };
        let fields = fields::paths().filter(|path| fields::is_in_spec(path));
        let changes = fields.map(|field| Change {
            field: field.to_owned(),
            from: value(&from, field),
            to: value(&to, field),
        });
        Ok(changes.filter(|change| change.from != change.to).collect())
    }

    /// All fields with their values, as people read them, in the order of the spec.
    ///
    /// # Errors
    /// If the data directory's path is not Unicode.
    pub fn values(&self) -> Result<Vec<(String, String)>> {
        let json = self.to_json()?;
        let fields = fields::paths().filter(|path| fields::is_in_spec(path));
        let values = fields.map(|field| {
            let value = field
                .split('.')
                .try_fold(&json, |value, key| value.get(key));
            let text = value.map_or_else(|| NOT_SET.to_owned(), Value::to_string);
            (field.to_owned(), text)
        });
        Ok(values.collect())
    }

    /// This spec of a run, which is in the file `path`, as a resume with these overrides changes it.
    ///
    /// # Errors
    /// A user error for a field that a resume cannot change, naming those that it can, and for whatever else is wrong.
    pub fn changed(&self, path: &Path, overrides: &[Override]) -> Result<Spec> {
        let text = self.to_frozen_yaml()?;
        let mut layers = vec![Layer::from_frozen_text(path.to_owned(), text)?];
        for setting in overrides {
            layers.push(Layer::from_override(setting)?);
        }
        let changed = resolve(&layers)?;
        let changes = self.changes_to(&changed)?;
        let Some(refused) = changes.iter().find(|change| !change.is_allowed()) else {
            return Ok(changed);
        };
        let field = &refused.field;
        let hint = match field.starts_with("data.") {
            true => "--data DIR says where a run's data are",
            false => {
                "start a new run for another value, with --from RUN if it is to begin with the weights of this one"
            }
        };
        let message = format!(
            "a resume cannot change it from {}, as the training so far depends on it; {hint}; `runboard fields` says what a \
             resume can change",
            refused.from
        );
        let set = layers.iter().rfind(|layer| layer.sets(field));
        Err(set.map_or_else(
            || user_error!("{field}: {message}"),
            |layer| layer.source.error_at(field, &message),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use serde_json::json;

    fn changed(sets: &[&str]) -> Result<Spec> {
        let overrides: Result<Vec<Override>> = sets.iter().map(Override::parse).collect();
        Spec::default().changed(Path::new("spec.yaml"), &overrides.unwrap())
    }

    #[test]
    fn differences_are_the_fields_with_other_values_than_the_defaults() {
        let mut spec = Spec::default();
        assert_eq!(spec.differences().unwrap(), []);
        spec.input.contrast.lower = 0.3;
        spec.network.conv1.stddev = 0.05;
        spec.data.folder = "a b".into();
        spec.schedule.knots = vec![1.0, 2.5];
        (spec.train.steps, spec.train.epochs) = (None, Some(1.5));
        let found = spec.differences().unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|change| {
                let [default, value] = change.as_yaml();
                format!("{}: {value}, {default}", change.field)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "data.folder: a b, data/cifar10",
                "input.contrast.lower: 0.3, 0.2",
                "network.conv1.stddev: 0.05, 0.0001",
                "schedule.knots: [1.0, 2.5], []",
                "train.epochs: 1.5, not set",
            ]
        );
    }

    #[test]
    fn changes_are_the_fields_that_differ() {
        let spec = changed(&["train.steps=7", "eval={threads: 3}"]).unwrap();
        let changes = Spec::default().changes_to(&spec).unwrap();
        let change = |field: &str, from: u64, to: u64| Change {
            field: field.to_owned(),
            from: json!(from),
            to: json!(to),
        };
        let steps = change("train.steps", 100_000, 7);
        assert_eq!(steps.to_string(), "train.steps is 7 and was 100000");
        assert_eq!(changes, [steps, change("eval.threads", 0, 3)]);
        let back: Vec<Change> = changes.iter().map(Change::reversed).collect();
        assert_eq!(spec.changes_to(&Spec::default()).unwrap(), back);
        // Steps in the place of epochs, and what stays as it is.
        let spec = changed(&["train.epochs=1.5", "optimizer.learning_rate=0.1"]).unwrap();
        let changes = Spec::default().changes_to(&spec).unwrap();
        let shown: Vec<String> = changes.iter().map(Change::to_string).collect();
        let steps = "train.steps is not set and was 100000";
        assert_eq!(shown, [steps, "train.epochs is 1.5 and was not set"]);
    }

    #[test]
    fn change_of_what_training_depends_on_is_refused_with_what_to_do() {
        let refusal = |set| {
            let error = changed(&["train.steps=7", set]).unwrap_err();
            assert!(is_user_error(&error));
            error.to_string()
        };
        let message = refusal("seed=2");
        let want = "--set seed=2: a resume cannot change it from 1, as the training so far depends on it; start a new run for \
                    another value, with --from RUN if it is to begin with the weights of this one; `runboard fields` says \
                    what a resume can change";
        assert_eq!(message, want);
        let message = refusal("data={folder: x}");
        let begin = "--set data={folder: x}: data.folder: a resume cannot change it from ";
        assert!(message.starts_with(begin), "{message}");
        assert!(
            message.contains("; --data DIR says where a run's data are; "),
            "{message}"
        );
        assert!(refusal("train.stebs=1").contains("unknown key"));
    }

    #[test]
    fn frozen_json_is_read_back_bit_for_bit() {
        let mut spec = Spec {
            description: "a: b # \u{e9}".to_owned(),
            ..Spec::default()
        };
        spec.seed.0 = u64::MAX;
        spec.network.conv1.stddev = 1e-300;
        spec.input.contrast.lower = 0.2;
        let text = serde_json::to_string_pretty(&spec.to_frozen_json().unwrap()).unwrap();
        let path = Path::new("provenance.json");
        assert_eq!(Spec::parse_frozen(path, text).unwrap(), spec);
    }
}
