//! One layer of an experiment: the values that a file or an override sets, and how errors point there.

use super::overrides::Override;
use super::read::{self, Fault};
use crate::{bail_user, user_error};
use anyhow::Result;
use serde_yaml::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// One layer of values and where it comes from.
pub(super) struct Layer {
    pub source: Origin,
    /// Known keys and allowed values only.
    pub values: Value,
}

/// Where values come from.
pub(super) enum Origin {
    File { path: PathBuf, text: String },
    Override(Override),
}

impl Layer {
    /// Read an experiment's file.
    pub fn file(path: PathBuf) -> Result<Self> {
        let text = read_text(&path)?;
        let read = read::read(&text, "");
        let source = Origin::File { path, text };
        match read {
            Ok(values) => Ok(Layer { source, values }),
            Err(fault) => Err(source.error(fault)),
        }
    }

    /// Read an override.
    pub fn over(given: &Override) -> Result<Self> {
        let source = Origin::Override(given.clone());
        let values = given.values().map_err(|fault| source.error(fault))?;
        Ok(Layer { source, values })
    }

    /// The experiment that a file extends.
    pub fn extends(&self) -> Option<String> {
        Some(self.values.get("extends")?.as_str()?.to_owned())
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
    /// An error about a field that this source sets.
    pub fn error_at(&self, field: &str, message: &str) -> anyhow::Error {
        let place = match self {
            Origin::File { text, .. } => read::locate(text, field),
            Origin::Override(_) => None,
        };
        self.error(Fault {
            place,
            field: field.to_owned(),
            message: message.to_owned(),
        })
    }

    fn error(&self, fault: Fault) -> anyhow::Error {
        let mut message = match (self, fault.place) {
            (Origin::File { path, .. }, Some((line, column))) => {
                format!("{}:{line}:{column}: ", path.display())
            }
            (Origin::File { path, .. }, None) => format!("{}: ", path.display()),
            (Origin::Override(given), _) => format!("{given}: "),
        };
        // The label of an override tells its path already.
        let told = matches!(self, Origin::Override(given) if given.path() == fault.field);
        if !told && !fault.field.is_empty() {
            message += &format!("{}: ", fault.field);
        }
        user_error!("{message}{}", fault.message)
    }
}

/// The text of a spec file, which is small and in UTF-8.
fn read_text(path: &Path) -> Result<String> {
    // 30 times a full spec. libyaml's time grows with the square of the nesting: 2 s at this size, minutes
    // at 1 MiB.
    const LARGEST: u64 = 64 << 10;
    let failed = |error: std::io::Error| user_error!("failed to read {}: {error}", path.display());
    // Asked before opening: opening a named pipe would wait for a writer.
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
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        bail_user!(
            "{}: got more than {LARGEST} bytes, want a YAML file of at most that",
            path.display()
        );
    }
    String::from_utf8(bytes).map_err(|error| {
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
