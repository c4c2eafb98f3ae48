//! What makes a run a point of a sweep, `point.json`: the fields in which the points of the sweep differ.
//!
//! ```text
//! {"version": 1, "swept": ["eval.tta", "optimizer.learning_rate"]}
//! ```
//!
//! It lies in the run, so that a point that is moved out of its sweep is shown by the same fields as before.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::RunDir;
use crate::files::{read_if_there, write_atomic};
use crate::user_error;

/// Version of the file.
const VERSION: u32 = 1;
/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Contents of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// Dotted paths.
    swept: Vec<String>,
}

/// Records the fields in which the points of a sweep differ, in a new run that is one of them.
///
/// # Errors
/// If the file cannot be written.
pub fn record_swept_fields(run: &RunDir, fields: &[&str]) -> Result<()> {
    let record = Record {
        version: VERSION,
        swept: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    write_atomic(&run.point(), &serde_json::to_vec(&record)?)
}

/// The fields in which the points of the run's sweep differ; none of a run that is no point, or that an earlier version
/// has made.
///
/// # Errors
/// If the file cannot be read, and a user error if it is none of this version.
pub fn swept_fields(run: &RunDir) -> Result<Vec<String>> {
    let path = run.point();
    let Some(bytes) = read_if_there(&path, MAX_BYTES)? else {
        return Ok(Vec::new());
    };
    let record: Record = serde_json::from_slice(&bytes)
        .ok()
        .filter(|record: &Record| record.version == VERSION)
        .ok_or_else(|| {
            user_error!(
                "{}: got something else than a point of version {VERSION}; want what `runboard run` wrote; without the \
                 file the run is shown as one that is no point",
                path.display()
            )
        })?;
    Ok(record.swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::provenance;
    use std::fs;

    #[test]
    fn swept_fields_are_read_as_they_were_recorded() {
        let runs = tempfile::tempdir().unwrap();
        let run = RunDir::create(runs.path(), "a", "seed: 1\n", &provenance()).unwrap();
        assert_eq!(swept_fields(&run).unwrap(), Vec::<String>::new());
        record_swept_fields(&run, &["eval.tta", "seed"]).unwrap();
        assert_eq!(swept_fields(&run).unwrap(), ["eval.tta", "seed"]);
        for damaged in ["{}", "{\"version\": 2, \"swept\": []}", "{\"version\": 1"] {
            fs::write(run.point(), damaged).unwrap();
            let error = swept_fields(&run).unwrap_err();
            let begin = format!("{}: got something else", run.point().display());
            assert!(error.to_string().starts_with(&begin), "{error}");
        }
    }
}
