//! The file in the run of a point that says which job of Slurm it is, or is to become, `submission.json`, and the job's script.
//!
//! ```text
//! {"version": 1, "number": 2, "name": "SWEEP/003.2", "job": "77", "before": "2026-01-01T12:00:00+01:00"}
//! ```

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::Result;
use chrono::{DateTime, Local};
use serde::{Deserialize, Serialize};

use crate::files::{read_small, write_atomic};
use crate::run::{RunDir, Status, SupervisorStatus};
use crate::{hint, paths};

/// Version of the file.
const VERSION: u32 = 1;

/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 16;

/// The file in the run of a point.
const FILE: &str = "submission.json";

/// Contents of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Submission {
    version: u32,
    /// How many jobs the point has had, with this one.
    number: u32,
    /// The job's name, which no other one has.
    pub name: String,
    /// Slurm's number of the job, once that is known.
    pub job: Option<String>,
    /// When the session of the point before this job began.
    pub before: Option<DateTime<Local>>,
}

impl Submission {
    /// The last one of a point; none if there was none, or that cannot be read.
    pub fn read(run: &RunDir) -> Option<Self> {
        let bytes = read_small(&run.path().join(FILE), MAX_BYTES).ok()?;
        let submission: Submission = serde_json::from_slice(&bytes).ok()?;
        (submission.version == VERSION).then_some(submission)
    }

    /// The next one of this point, which is not submitted yet.
    pub fn next(run: &RunDir, point: &str) -> Self {
        let number = Self::read(run).map_or(1, |before| before.number + 1);
        let before = SupervisorStatus::load(run).ok().flatten();
        Submission {
            version: VERSION,
            number,
            name: format!("{point}.{number}"),
            job: None,
            before: before.map(|status| status.process.started),
        }
    }

    /// Writes it down in the point's run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        write_atomic(&run.path().join(FILE), &serde_json::to_vec(self)?)
    }

    /// The script of the job, which runs `program resume RUN ARGUMENTS`.
    pub fn script(&self, run: &RunDir, program: &Path, arguments: &[OsString]) -> Vec<u8> {
        let record = run.path().join(FILE);
        let record = hint::shell(&[record.as_os_str()]);
        let directory = paths::unexpanded(run.path());
        let command = [program.as_os_str(), "resume".as_ref(), directory.as_ref()];
        let arguments = arguments.iter().map(OsString::as_os_str);
        let command: Vec<&OsStr> = command.into_iter().chain(arguments).collect();
        let command = hint::shell(&command);
        let (number, name) = (self.number, &self.name);
        format!(
            "#!/bin/sh\n# {name}\n\n# Not if another job was submitted in its place.\ngrep -q '\"number\":{number},' {record} || \
             exit 0\nexec {command}\n"
        )
        .into_bytes()
    }
}
