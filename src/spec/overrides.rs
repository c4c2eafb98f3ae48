//! Values set on the command line, above all files.

use super::read::{self, FieldError};
use super::section::SWEEP;
use super::{fields, frozen};
use crate::{bail_user, user_error};
use anyhow::Result;
use serde_yaml::Value;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// The key of a sweep's section below which the fields are.
const PARAMETERS: &str = "parameters";

/// The option that gives a field of a sweep its values.
const SWEPT: &str = "--sweep";

/// A field or section set on the command line, above all files.
#[derive(Clone, Debug)]
pub struct Override {
    path: String,
    value: Given,
    given_by: &'static str,
}

#[derive(Clone, Debug)]
enum Given {
    Yaml(String),
    Text(String),
    /// Values of a sweep's field, with commas between them: the argument of `--sweep`.
    Values(String),
}

impl Override {
    /// Take `train.steps=500`, the argument of `--set`; the value is YAML.
    ///
    /// # Errors
    /// A user error if there is no `=`, or a byte that is not UTF-8. Path and value are checked by [`load`](super::load()).
    pub fn parse(argument: impl AsRef<OsStr>) -> Result<Self> {
        let argument = argument.as_ref();
        let Some(argument) = argument.to_str() else {
            bail_user!("--set {}: want UTF-8, as specs are", argument.display());
        };
        let Some((path, value)) = argument.split_once('=') else {
            bail_user!("--set {argument}: want PATH=VALUE, such as train.steps=500");
        };
        Ok(Override {
            path: path.to_owned(),
            value: Given::Yaml(value.to_owned()),
            given_by: "--set",
        })
    }

    /// Take `optimizer.learning_rate=0.05,0.1` or `seed=1..3`, the argument of `--sweep`.
    ///
    /// # Errors
    /// As [`Override::parse`].
    pub fn parse_sweep(argument: impl AsRef<OsStr>) -> Result<Self> {
        let argument = argument.as_ref();
        let Some(argument) = argument.to_str() else {
            bail_user!("--sweep {}: want UTF-8, as specs are", argument.display());
        };
        let Some((path, values)) = argument.split_once('=') else {
            bail_user!(
                "--sweep {argument}: want FIELD=VALUE,VALUE, such as optimizer.learning_rate=0.05,0.1"
            );
        };
        Ok(Override {
            path: match path {
                "seed" | "seeds" => format!("{SWEEP}.seeds"),
                field => format!("{SWEEP}.{PARAMETERS}.{field}"),
            },
            value: match path {
                // How many, as in a file.
                "seeds" if values.trim().parse::<u64>().is_ok() => {
                    Given::Yaml(values.trim().to_owned())
                }
                _ => Given::Values(values.to_owned()),
            },
            given_by: SWEPT,
        })
    }

    /// Whether it sets something in the section of a sweep.
    pub fn is_of_sweep(&self) -> bool {
        self.path.split('.').next() == Some(SWEEP)
    }

    /// Refuse two `--sweep` of one field: the second would take the place of the first.
    pub(super) fn refuse_repeated_values(settings: &[Self]) -> Result<()> {
        for (index, setting) in settings.iter().enumerate() {
            let is_swept = |setting: &Self| setting.given_by == SWEPT;
            let is_same = |other: &&Self| is_swept(other) && other.path == setting.path;
            if is_swept(setting)
                && let Some(before) = settings[..index].iter().find(is_same)
            {
                bail_user!(
                    "{setting}: got {before} as well, want one --sweep of a field, with all of its values"
                );
            }
        }
        Ok(())
    }

    /// The keys in the section of a sweep that lead to what it sets. A parameter's name is one key.
    pub(super) fn section_path(&self) -> Vec<String> {
        let inside = self.path.split_once('.').map_or("", |(_, inside)| inside);
        let keys: Vec<&str> = match inside.split_once('.') {
            Some((PARAMETERS, field)) => vec![PARAMETERS, field],
            _ => inside.split('.').filter(|key| !key.is_empty()).collect(),
        };
        keys.into_iter().map(str::to_owned).collect()
    }

    /// [`Override::section_path`] and the value there.
    pub(super) fn in_section(&self) -> Result<(Vec<String>, Value)> {
        let read = |text: &str| {
            serde_yaml::from_str::<Value>(text)
                .map_err(|error| user_error!("{self}: not valid YAML: {error}"))
        };
        let path = self.section_path();
        let value = match &self.value {
            Given::Yaml(text) => read(text)?,
            Given::Text(text) => text.as_str().into(),
            // A call of Hydra's, whose commas divide no values; who reads the section says what to write.
            Given::Values(text) if text.contains('(') => text.as_str().into(),
            Given::Values(text) => match read(&format!("[{text}]"))? {
                Value::Sequence(mut items) if items.len() == 1 => {
                    let takes_list = path
                        .last()
                        .and_then(|field| fields::rule(field))
                        .is_some_and(|rule| rule.each().is_some());
                    match &items[0] {
                        Value::Mapping(_) => items.remove(0),
                        Value::Sequence(_) if !takes_list => items.remove(0),
                        _ => Value::Sequence(items),
                    }
                }
                values => values,
            },
        };
        Ok((path, value))
    }

    /// A field set to a text as it stands, also where YAML would read a number or more.
    pub fn text(path: &str, value: &str) -> Self {
        Override {
            path: path.to_owned(),
            value: Given::Text(value.to_owned()),
            given_by: "the command line",
        }
    }

    /// A field set to the path of a directory as it stands.
    ///
    /// # Errors
    /// A user error if it is not UTF-8, which specs are.
    pub fn directory(path: &str, value: &Path) -> Result<Self> {
        match value.to_str() {
            Some(value) => Ok(Override::text(path, value)),
            None => bail_user!("{path}={}: want UTF-8, as specs are", value.display()),
        }
    }

    /// The same, said to be given by this option or variable.
    #[must_use]
    pub fn with_origin(self, given_by: &'static str) -> Self {
        Override { given_by, ..self }
    }

    /// The option or variable that gave it.
    pub(super) fn given_by(&self) -> &'static str {
        self.given_by
    }

    /// Whether `~` and variables in paths are to be expanded.
    pub(super) fn is_expanded_later(&self) -> bool {
        !matches!(self.value, Given::Text(_))
    }

    /// Dotted path of the field or section that is set.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What to write for a value that looks like several, as a sweep's are in Hydra, to follow a message that refuses it.
    fn sweep_hint(&self, text: &str) -> String {
        match text.contains(',') && !text.contains(['(', '[', '{', '"', '\'']) {
            true => format!(
                "; for a run of each of them: runboard run NAME --sweep {}={text}",
                self.path
            ),
            false => String::new(),
        }
    }

    /// The checked value, nested in the mappings that its path names.
    pub(super) fn values(&self) -> Result<Value, FieldError> {
        let error = |field: &str, message: String| FieldError {
            place: None,
            field: field.to_owned(),
            message,
        };
        if self.is_of_sweep() {
            let message = "this is one run, not a sweep";
            return Err(error(&self.path, message.to_owned()));
        }
        let section =
            canonical_path(&self.path).map_err(|(field, message)| error(&field, message))?;
        if !fields::is_in_spec(&section) {
            return Err(error(&section, "got an override, want it in a file".into()));
        }
        let value = match &self.value {
            Given::Yaml(text) | Given::Values(text) => {
                read::read(text, &section).map_err(|error| FieldError {
                    message: error.message + &self.sweep_hint(text),
                    ..error
                })?
            }
            Given::Text(text) => fields::check(&section, text.as_str().into())
                .map_err(|message| error(&section, message))?,
        };
        Ok(fields::nested(&section, value))
    }
}

/// The path by which specs have the field or section that a user calls so; else where it ends and why.
pub(super) fn canonical_path(path: &str) -> Result<String, (String, String)> {
    let mut section = String::new();
    for key in path.split('.') {
        let mut path = fields::join(&section, key);
        if let [key] = frozen::renamed(&path, false) {
            path = fields::join(&section, key);
        } else if let Some(rule) = fields::rule(&section) {
            return Err((section, format!("got a mapping, want {rule}")));
        } else if !fields::keys(&section).contains(&key) {
            return Err((path, fields::unknown_key(&section, key)));
        }
        section = path;
    }
    Ok(section)
}

/// As the user gave it.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Given::Yaml(count) if self.given_by == SWEPT => write!(f, "{SWEPT} seeds={count}"),
            Given::Yaml(value) => write!(f, "--set {}={value}", self.path),
            Given::Text(value) => write!(f, "{}={value}", self.path),
            Given::Values(values) => {
                let path = self.section_path();
                let field = path.last().map_or("", String::as_str);
                let field = if field == "seeds" { "seed" } else { field };
                write!(f, "{SWEPT} {field}={values}")
            }
        }
    }
}
