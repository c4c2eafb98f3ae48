//! Which experiment a command is about, and where its images are.

use super::{parse_overrides, path};
use crate::data::Fetch;
use crate::hint::shell;
use crate::home::Home;
use crate::spec::{self, Experiment, Override};
use crate::{bail_user, paths};
use anyhow::{Context, Error, Result};
use clap::Args;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The variable that names the directory of the images.
const DATA_VARIABLE: &str = "RUNBOARD_DATA";

/// An experiment and what is changed of it.
#[derive(Args, Debug)]
pub(super) struct ExperimentArgs {
    /// Name of a file in the experiments directory, or a path ending in .yaml
    #[arg(value_parser = path())]
    name: PathBuf,
    /// Set a field of the spec, such as train.steps=500; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    overrides: Vec<OsString>,
    /// Run a field's values as a sweep, such as optimizer.learning_rate=0.05,0.1 or seed=1..3; with several, all
    /// combinations
    #[arg(long = "sweep", value_name = "FIELD=VALUES")]
    sweeps: Vec<OsString>,
    /// Hydra's way to say what is swept, told how it is said here
    #[arg(long, short = 'm', hide = true)]
    multirun: bool,
    /// Hydra's way to say what is set
    #[arg(hide = true, value_name = "FIELD=VALUE")]
    words: Vec<OsString>,
    /// Directory that has the images, in place of the spec's data.folder; also taken from RUNBOARD_DATA
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub(super) data: Option<PathBuf>,
    /// Directory of the experiments [default: see `runboard --help`]
    #[arg(long, value_name = "DIR", value_parser = path())]
    experiments: Option<PathBuf>,
}

impl ExperimentArgs {
    /// The experiment.
    ///
    /// # Errors
    /// A user error for what is wrong with it or with the options.
    pub(super) fn load(&self, home: &Home) -> Result<Experiment> {
        // A blank in the place of the = leaves a word over: first what is wrong with the option.
        let mut overrides = parse_overrides(&self.overrides)?;
        self.refuse_words_of_hydra()?;
        for sweep in &self.sweeps {
            overrides.push(Override::parse_sweep(sweep)?);
        }
        let data = match given(self.data.as_deref()) {
            Some(directory) => Some((directory.to_owned(), "--data")),
            None => data_from_environment()?.map(|directory| (directory, DATA_VARIABLE)),
        };
        if let Some((directory, origin)) = data {
            overrides.push(Override::directory("data.folder", &directory)?.with_origin(origin));
        }
        let experiments = self.experiments.clone();
        let experiments = experiments.unwrap_or_else(|| home.experiments());
        let is_file = ["yaml", "yml"].map(OsStr::new);
        let is_file = self
            .name
            .extension()
            .is_some_and(|it| is_file.contains(&it));
        if self.experiments.is_none() && !is_file && !experiments.exists() {
            bail_user!(
                "no experiment '{}': there is no directory {}, and no experiments/ with YAML files in one above; want \
                 one, --experiments DIR, or RUNBOARD_HOME set to the directory that it is in",
                self.name.display(),
                experiments.display()
            );
        }
        spec::load(&self.name, &experiments, &overrides)
    }

    /// Say what to write in the place of `--multirun FIELD=VALUE,VALUE`.
    fn refuse_words_of_hydra(&self) -> Result<()> {
        let words: Vec<_> = self
            .words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        if let Some(other) = words.iter().find(|word| !word.contains('=')) {
            bail_user!(
                "got {other:?} beside {}, want one experiment",
                self.name.display()
            );
        }
        if words.is_empty() && !self.multirun {
            return Ok(());
        }
        let is_list = |word: &str| self.multirun && word.contains([',', '(']);
        let wanted = words.iter().map(|word| match is_list(word) {
            true => shell(&["--sweep", word.as_ref()]),
            false => shell(&["--set", word.as_ref()]),
        });
        let mut wanted: Vec<String> = wanted.collect();
        if self.multirun && !words.iter().any(|word| is_list(word)) {
            wanted.push("--sweep FIELD=VALUE,VALUE".to_owned());
        }
        let found = self.multirun.then_some("--multirun").into_iter();
        let found: Vec<&str> = found.chain(words.iter().map(AsRef::as_ref)).collect();
        bail_user!("got {}, want {}", found.join(" "), wanted.join(" "))
    }
}

/// What `--data` names: `--data ""`, of a variable that is not set, names nothing.
pub(super) fn given(data: Option<&Path>) -> Option<&Path> {
    data.filter(|directory| !directory.as_os_str().is_empty())
}

/// The directory that `RUNBOARD_DATA` names.
pub(super) fn data_from_environment() -> Result<Option<PathBuf>> {
    let value = env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty());
    value.map(paths::expand).transpose().context(DATA_VARIABLE)
}

/// Whether the archive may be fetched into the folder of an experiment's images.
pub(super) fn fetch(has_default_folder: bool) -> Fetch {
    match has_default_folder {
        true => Fetch::Allowed,
        false => Fetch::Refused,
    }
}

/// An error of the images of an experiment, with the place that named them.
pub(super) fn data_error(error: Error, experiment: &Experiment) -> Error {
    match experiment.origin("data.folder") {
        Some(option @ "--set") => error.context(format!("{option} data.folder")),
        Some(place) => error.context(place.to_owned()),
        None => error,
    }
}
