//! One layer of an experiment: the values that a file or an override sets, and how errors point there.

use super::overrides::Override;
use super::read::{self, FieldError};
use super::section::{Part, SWEEP, Section};
use crate::files::{self, without_bom};
use crate::{bail_user, paths, user_error};
use anyhow::Result;
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One layer of values and where it comes from.
pub(super) struct Layer {
    pub source: Origin,
    /// Known keys and allowed values only.
    pub values: Value,
    /// The section of a sweep, if it is a file that has one.
    pub sweep: Option<Section>,
}

/// Where values come from.
pub(super) enum Origin {
    File { path: PathBuf, text: String },
    Override(Override),
    Point(Point),
}

/// A point of a sweep, whose values are in the section of the sweep.
pub(super) struct Point {
    pub section: Arc<Section>,
    /// Where in the section the values of fields are.
    pub paths: BTreeMap<String, Vec<String>>,
    /// Which point it is.
    pub label: String,
}

impl Point {
    /// The path of the field's value; of the whole section if the point does not set it.
    fn path(&self, field: &str) -> &[String] {
        self.paths.get(field).map_or(&[], Vec::as_slice)
    }
}

impl Layer {
    /// Read an experiment's file.
    pub fn from_file(path: PathBuf) -> Result<Self> {
        Layer::parse(path, |text| read::read(text, ""))
    }

    /// Read a run's frozen spec.
    pub fn from_frozen_file(path: PathBuf) -> Result<Self> {
        Layer::parse(path, read::read_frozen)
    }

    /// Read the text of a run's frozen spec that is in this file.
    pub fn from_frozen_text(path: PathBuf, text: String) -> Result<Self> {
        Layer::parse_text(path, text, read::read_frozen)
    }

    fn parse(path: PathBuf, read: fn(&str) -> Result<Value, FieldError>) -> Result<Self> {
        let text = read_text(&path)?;
        Layer::parse_text(path, text, read)
    }

    fn parse_text(
        path: PathBuf,
        text: String,
        read: fn(&str) -> Result<Value, FieldError>,
    ) -> Result<Self> {
        let read = read(&text);
        match read {
            Ok(mut values) => {
                let sweep = values.as_mapping_mut().and_then(|top| top.remove(SWEEP));
                Ok(Layer {
                    sweep: sweep.map(|sweep| Section::of_file(sweep, &path, &text)),
                    source: Origin::File { path, text },
                    values,
                })
            }
            Err(error) => Err(Origin::File { path, text }.error(error)),
        }
    }

    /// Read an override.
    pub fn from_override(setting: &Override) -> Result<Self> {
        let source = Origin::Override(setting.clone());
        let values = setting.values().map_err(|error| source.error(error))?;
        Ok(Layer {
            source,
            values,
            sweep: None,
        })
    }

    /// Expand `~` and variables in a field that this layer sets to a path. A path that an override gives as it stands
    /// is left so.
    pub fn expand_path(&mut self, field: &str) -> Result<()> {
        if matches!(&self.source, Origin::Override(setting) if !setting.is_expanded_later()) {
            return Ok(());
        }
        let found = field
            .split('.')
            .try_fold(&mut self.values, |value, key| value.get_mut(key));
        let Some(Value::String(path)) = found else {
            return Ok(());
        };
        let expanded = paths::expand(&*path).map_err(|error| error.to_string());
        let expanded = expanded.and_then(|expanded| storable(&expanded).map(str::to_owned));
        match expanded {
            Ok(expanded) => *path = expanded,
            Err(problem) => {
                let message = format!("got {path:?}: {problem}");
                return Err(self.source.error_at(field, &message));
            }
        }
        Ok(())
    }

    /// The experiments that a file extends, as it names them.
    pub fn extends(&self) -> Vec<String> {
        let name = |value: &Value| Some(value.as_str()?.to_owned());
        match self.values.get("extends") {
            Some(Value::Sequence(several)) => several.iter().filter_map(name).collect(),
            one => one.and_then(name).into_iter().collect(),
        }
    }

    /// Whether this layer sets the field or section.
    pub fn sets(&self, field: &str) -> bool {
        field
            .split('.')
            .try_fold(&self.values, |value, key| value.get(key))
            .is_some()
    }
}

impl Origin {
    /// Line and column of a field that this source sets; none in an override.
    pub fn place(&self, field: &str) -> Option<(usize, usize)> {
        match self {
            Origin::File { text, .. } => read::locate(text, field),
            Origin::Override(_) => None,
            Origin::Point(point) => point.section.place(point.path(field), Part::Value),
        }
    }

    /// Whether it is the command line.
    pub fn is_override(&self) -> bool {
        matches!(self, Origin::Override(_))
    }

    /// A field that this source sets, and where.
    pub fn describe(&self, field: &str) -> String {
        match (self, self.place(field)) {
            (Origin::File { .. }, Some((line, column))) => format!("{field} ({line}:{column})"),
            (Origin::File { .. } | Origin::Point(_), None) => field.to_owned(),
            (Origin::Point(_), Some((line, column))) => format!("{field} ({line}:{column})"),
            (Origin::Override(setting), _) if setting.path() == field => setting.to_string(),
            (Origin::Override(setting), _) => format!("{field} ({setting})"),
        }
    }

    /// What this source is, and the place in it of a field that it sets.
    pub fn origin(&self, field: &str) -> String {
        match (self, self.place(field)) {
            (Origin::File { path, .. }, Some((line, column))) => {
                format!("{}:{line}:{column}", path.display())
            }
            (Origin::File { path, .. }, None) => path.display().to_string(),
            (Origin::Override(setting), _) => setting.given_by().to_owned(),
            (Origin::Point(point), _) => point.label.clone(),
        }
    }

    /// An error about a field that this source sets.
    pub fn error_at(&self, field: &str, message: &str) -> anyhow::Error {
        self.error(FieldError {
            place: self.place(field),
            field: field.to_owned(),
            message: message.to_owned(),
        })
    }

    /// An error in this source, which it names.
    pub fn error(&self, error: FieldError) -> anyhow::Error {
        let mut message = match (self, error.place) {
            (Origin::Point(point), _) => {
                let message = format!("{}, in {}", error.message, point.label);
                let path = point.path(&error.field);
                return point.section.error(path, Part::Value, &message);
            }
            (Origin::File { path, .. }, Some((line, column))) => {
                format!("{}:{line}:{column}: ", path.display())
            }
            (Origin::File { path, .. }, None) => format!("{}: ", path.display()),
            (Origin::Override(setting), _) => format!("{setting}: "),
        };
        // The label of an override holds its path already.
        let named = matches!(self, Origin::Override(setting) if setting.path() == error.field);
        if !named && !error.field.is_empty() {
            message += &format!("{}: ", error.field);
        }
        user_error!("{message}{}", error.message)
    }
}

/// A path as a spec can hold it: in one line of UTF-8.
pub(super) fn storable(path: &Path) -> Result<&str, String> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    text.ok_or_else(|| {
        let shown = path.display();
        format!(
            "a spec cannot hold the path {shown}; want one in UTF-8, without control characters"
        )
    })
}

/// Of a spec file: 30 times a full spec. libyaml's time grows with the square of the nesting: 2 s at this size, minutes at 1 MiB.
pub(super) const MAX_BYTES: u64 = 64 << 10;

/// The text of a spec file, which is small and in UTF-8.
fn read_text(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| user_error!("failed to read {}: {error}", path.display());
    let kind = path.metadata().map_err(failed)?;
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a directory"
        } else {
            "no regular file"
        };
        bail_user!("{}: got {found}, want a YAML file", path.display());
    }
    let mut bytes = Vec::new();
    let file = files::open_regular(path).map_err(failed)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        bail_user!(
            "{}: got more than {MAX_BYTES} bytes, want a YAML file of at most that",
            path.display()
        );
    }
    String::from_utf8(bytes).map(without_bom).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()])
            .into_owned();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        user_error!(
            "{}:{line}:{column}: got a byte that is not UTF-8, want a YAML file in UTF-8",
            path.display()
        )
    })
}
