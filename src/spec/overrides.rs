//! Values set on the command line, above all files.

use super::read::{self, FieldError};
use super::{fields, frozen};
use crate::bail_user;
use anyhow::Result;
use serde_yaml::Value;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// A field or section set on the command line, above all files.
#[derive(Clone, Debug)]
pub struct Override {
    path: String,
    value: Setting,
    given_by: &'static str,
}

#[derive(Clone, Debug)]
enum Setting {
    Yaml(String),
    Text(String),
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
            value: Setting::Yaml(value.to_owned()),
            given_by: "--set",
        })
    }

    /// A field set to a text as it stands, also where YAML would read a number or more.
    pub fn text(path: &str, value: &str) -> Self {
        Override {
            path: path.to_owned(),
            value: Setting::Text(value.to_owned()),
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
        matches!(self.value, Setting::Yaml(_))
    }

    /// Dotted path of the field or section that is set.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The checked value, nested in the mappings that its path names.
    pub(super) fn values(&self) -> Result<Value, FieldError> {
        let error = |field: &str, message: String| FieldError {
            place: None,
            field: field.to_owned(),
            message,
        };
        let mut section = String::new();
        for key in self.path.split('.') {
            let mut path = fields::join(&section, key);
            if let [key] = frozen::renamed(&path, false) {
                path = fields::join(&section, key);
            } else if let Some(rule) = fields::rule(&section) {
                return Err(error(&section, format!("got a mapping, want {rule}")));
            } else if !fields::keys(&section).contains(&key) {
                return Err(error(&path, fields::unknown_key(&section, key)));
            }
            section = path;
        }
        if !fields::is_in_spec(&section) {
            return Err(error(&section, "got an override, want it in a file".into()));
        }
        let value = match &self.value {
            Setting::Yaml(text) => read::read(text, &section)?,
            Setting::Text(text) => fields::check(&section, text.as_str().into())
                .map_err(|message| error(&section, message))?,
        };
        Ok(fields::nested(&section, value))
    }
}

/// As the user gave it.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Setting::Yaml(value) => write!(f, "--set {}={value}", self.path),
            Setting::Text(value) => write!(f, "{}={value}", self.path),
        }
    }
}
