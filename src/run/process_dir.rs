//! A directory that processes work in, a run's or a sweep's: each of them has a lock, a status and a log there, and may
//! find a request to stop.

use super::Role;
use super::timestamp::Timestamp;
use crate::files::dir_of;
use crate::home::Home;
use crate::spec::Data;
use chrono::{DateTime, Local};
use std::path::{self, Path, PathBuf};

/// The file that makes a directory a sweep's.
pub const SWEEP: &str = "sweep.yaml";

/// The paths of the files that every process has in its directory.
#[derive(Clone, Debug)]
pub struct ProcessDir {
    path: PathBuf,
}

impl ProcessDir {
    /// That at `path`.
    pub fn new(path: PathBuf) -> Self {
        ProcessDir { path }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `NAME/TIMESTAMP` of a run or a sweep, `NAME/TIMESTAMP/POINT` of a sweep's point, taken from where the directory
    /// lies.
    pub fn id(&self) -> String {
        let own = last_component(&self.absolute());
        match self.sweep() {
            Some(sweep) => format!("{}/{own}", sweep.id()),
            None => format!("{}/{own}", self.name()),
        }
    }

    /// The experiment's name: that of the directory that the run or the sweep lies in.
    pub fn name(&self) -> String {
        let sweep = self.sweep();
        let path = sweep.as_ref().unwrap_or(self).absolute();
        path.parent().map(last_component).unwrap_or_default()
    }

    /// When it was made, as its name says; `None` of a point, and of one that somebody renamed.
    pub fn created(&self) -> Option<DateTime<Local>> {
        Timestamp::parse(&last_component(&self.absolute()))?.time()
    }

    /// The directory of the sweep that this one is a point of.
    pub fn sweep(&self) -> Option<ProcessDir> {
        let around = ProcessDir::new(self.absolute().parent()?.to_owned());
        around.is_sweep().then_some(around)
    }

    /// Where the data in `folder` are to be looked for: there, or, if that is the default place in a home that is gone, in the same
    /// place in the home that this directory lies in. A clone may be moved with all that is in it.
    pub fn data_folder(&self, folder: &Path) -> PathBuf {
        self.moved_data_folder(folder)
            .unwrap_or_else(|| folder.to_owned())
    }

    fn moved_data_folder(&self, folder: &Path) -> Option<PathBuf> {
        let default = Data::default().folder;
        let before = folder.ancestors().nth(default.components().count())?;
        if !folder.ends_with(&default) || before.exists() {
            return None;
        }
        let outer = self.sweep().unwrap_or_else(|| self.clone()).absolute();
        let home = Home::of_runs(outer.parent()?.parent()?)?; // around NAME/TIMESTAMP
        Some(home.path().join(default))
    }

    /// The directory of this name's runs, or of this sweep's points, for TensorBoard's `--logdir`.
    pub fn logdir(&self) -> PathBuf {
        match self.path.parent() {
            _ if self.is_sweep() => self.path.clone(),
            _ if self.path.file_name().is_none() => dir_of(&self.absolute()).to_owned(),
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Whether it is a sweep's, and runs that lie in it are its points.
    pub fn is_sweep(&self) -> bool {
        self.path.join(SWEEP).is_file()
    }

    fn absolute(&self) -> PathBuf {
        let absolute = match self.path.file_name() {
            Some(_) => path::absolute(&self.path),
            None => self.path.canonicalize(), // which ends in `..`, say, and has no name
        };
        absolute.unwrap_or_else(|_| self.path.clone())
    }

    /// The weights that a run or the points of a sweep with `--from` begin with.
    pub fn initial_weights(&self) -> PathBuf {
        self.path().join("initial")
    }

    /// The console output of the role's process, over all its sessions.
    pub fn log(&self, role: Role) -> PathBuf {
        self.path.join(format!("{role}.log"))
    }

    /// The lock file of the role's process.
    pub(super) fn lock(&self, role: Role) -> PathBuf {
        self.path.join(format!("{role}.lock"))
    }

    /// The request to the role's process to stop, written by whoever cannot signal it.
    pub(super) fn stop_request(&self, role: Role) -> PathBuf {
        self.path.join(format!("{role}.stop.json"))
    }

    /// The status file of the role's process.
    pub fn status(&self, role: Role) -> PathBuf {
        self.path.join(format!("{role}.status.json"))
    }

    /// The files that the role's process replaces as a whole: one that was killed may have left a half beside them.
    pub(super) fn replaced_by(&self, role: Role) -> Vec<PathBuf> {
        let others: &[&str] = match role {
            Role::Supervisor => &["provenance.json", "data.json"],
            Role::Sweep => &[SWEEP, "results.csv", "results.md"],
            Role::Train { .. } | Role::Eval => &[],
        };
        let others = others.iter().map(|name| self.path.join(name));
        others.chain([self.status(role)]).collect()
    }
}

pub(super) fn last_component(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
