//! The directory of experiments, runs and data, unless the command line names others.

use crate::bundle::Bundle;
use crate::{bail_user, paths};
use anyhow::{Context, Result};
use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The variable that names the home.
const VARIABLE: &str = "RUNBOARD_HOME";
const EXPERIMENTS: &str = "experiments";
const RUNS: &str = "runs";

/// A directory with `experiments/`, `runs/` and, in the shipped experiments, `data/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Empty for the current directory, so that paths in it are short.
    directory: PathBuf,
}

impl Home {
    /// The directory that `RUNBOARD_HOME` names; or else the nearest one, from the current one upwards, that has
    /// `experiments/` with YAML files; or else the current one.
    ///
    /// # Errors
    /// A user error if `RUNBOARD_HOME` names no directory.
    pub fn find() -> Result<Home> {
        let directory = match env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(value) => named(&value)?,
            None => nearest(Path::new("")),
        };
        Ok(Home { directory })
    }

    /// The home whose [`Home::runs`] this directory is; none if it has another name.
    pub fn of_runs(runs: &Path) -> Option<Home> {
        let directory = runs.parent().filter(|_| runs.ends_with(RUNS))?.to_owned();
        Some(Home { directory })
    }

    /// The directory itself; empty for the current one.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The directory of the experiments: `experiments/`, or those that were installed with this program if it has none.
    pub fn experiments(&self) -> PathBuf {
        let own = self.directory.join(EXPERIMENTS);
        let installed = || installed_experiments().filter(|installed| has_yaml(installed));
        match has_yaml(&own) {
            true => own,
            false => installed().unwrap_or(own),
        }
    }

    /// The directory of the run directories.
    pub fn runs(&self) -> PathBuf {
        self.directory.join(RUNS)
    }
}

fn named(value: &OsStr) -> Result<PathBuf> {
    let directory = paths::expand(value).context(VARIABLE)?;
    if let Err(error) = directory.metadata()
        && error.kind() == ErrorKind::PermissionDenied
    {
        bail_user!(
            "{VARIABLE}: {} cannot be read: {error}",
            directory.display()
        );
    }
    if !directory.is_dir() {
        bail_user!(
            "{VARIABLE}: no directory {}; want one for experiments/, runs/ and data/",
            directory.display()
        );
    }
    Ok(directory)
}

/// The nearest directory with experiments, from `start` upwards; `start` if there is none.
fn nearest(start: &Path) -> PathBuf {
    let has_experiments = |directory: &&Path| has_yaml(&directory.join(EXPERIMENTS));
    let above = || {
        let absolute = env::current_dir().ok()?.join(start);
        let found = absolute.ancestors().skip(1).find(has_experiments);
        found.map(Path::to_owned)
    };
    match has_experiments(&start) {
        true => start.to_owned(),
        false => above().unwrap_or_else(|| start.to_owned()),
    }
}

/// Where a bundle has the shipped experiments, or `make install` puts them, if this is a program of theirs.
fn installed_experiments() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let directory = program.parent()?;
    Some(match Bundle::find() {
        Ok(None) => directory.parent()?.join("share/runboard/experiments"),
        // That its file is damaged is said by whoever needs what is in it.
        Ok(Some(_)) | Err(_) => directory.join(EXPERIMENTS),
    })
}

/// Whether a directory holds a YAML file: `experiments/` is a common name, also for something else.
fn has_yaml(directory: &Path) -> bool {
    let is_yaml = |path: PathBuf| {
        path.extension()
            .is_some_and(|kind| kind == "yaml" || kind == "yml")
    };
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(is_yaml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use std::fs;

    #[test]
    fn nearest_home_upwards_has_yaml_files_in_experiments() {
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("a/b");
        fs::create_dir_all(below.join(EXPERIMENTS)).unwrap();
        fs::create_dir(place.path().join(EXPERIMENTS)).unwrap();
        assert_eq!(nearest(&below), below);
        fs::write(place.path().join("experiments/x.yaml"), "").unwrap();
        assert_eq!(nearest(&below), place.path());
        fs::write(below.join("experiments/x.yml"), "").unwrap();
        assert_eq!(nearest(&below), below);
    }

    #[test]
    fn home_that_is_named_must_be_there() {
        let error = named(OsStr::new("/nonexistent")).unwrap_err();
        assert!(is_user_error(&error));
        assert_eq!(
            error.to_string(),
            "RUNBOARD_HOME: no directory /nonexistent; want one for experiments/, runs/ and data/"
        );
        assert_eq!(named(OsStr::new("/tmp")).unwrap(), Path::new("/tmp"));
    }
}
