//! What TensorBoard's HParams tab compares: a run's hyperparameters and its status.
//!
//! No description of the experiment is written. With one, TensorBoard would show the hyperparameters and
//! metrics of whichever run it finds first; without, it joins those of all runs: it finds each value's
//! type and range, lists those that differ first and else by name, and takes every scalar of the session's directory as
//! a metric, by name as well. It shows the first five of each.
//!
//! Of a tag's metadata, which is where all of this is, both readers keep what they read first. So a session's beginning
//! has a file of its own that sorts before all others, and is replaced when the hyperparameters change; its status is
//! written once it is known, at the end, with the last step's summaries, and removed when the session goes on.

use super::file;
use super::record::{encode, message};
use super::summaries::{Summaries, event, wall_time};
use crate::files::{remove_stale_of, replace_by};
use anyhow::{Context, Result};
use protobuf::well_known_types;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tensorboard_proto::api::Status;
use tensorboard_proto::plugin_hparams::HParamsPluginData;

/// How a session ended. TensorBoard calls the status of one that has not unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// All work is done.
    Success,
    /// An error ended it.
    Failure,
}

/// The tags under which TensorBoard looks for a session.
/// <https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/hparams/metadata.py>
pub(super) const START_TAG: &str = "_hparams_/session_start_info";
pub(super) const END_TAG: &str = "_hparams_/session_end_info";

/// What the name of a temporary file begins with: nothing that TensorBoard takes for an event file.
const TEMPORARY: &str = ".hparams.";

/// Integers from here on are not all numbers of 64-bit floating point.
const EXACT: u64 = 1 << 53;

/// List the run of the directory `dir` in the HParams tab, as `group`, with the leaves of `hparams`, an object of
/// objects, under names such as `optimizer.learning_rate`. Its metrics are all scalars of the directory. What was listed
/// before is replaced; a TensorBoard that has read that shows it until it is started again.
///
/// # Errors
/// The file cannot be written; the one before it stays.
pub fn list_session(dir: &Path, group: &str, hparams: &Value) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let now = wall_time();
    let mut version = event(0, now);
    version.set_file_version(file::VERSION.into());
    let mut summaries = Summaries::at_time(0, now);
    summaries.session(START_TAG, start(group, hparams, now));
    let bytes = [encode(&version), encode(summaries.event())].concat();
    let path = session_file(dir);
    remove_stale_of(dir, TEMPORARY);
    replace_by(&path, TEMPORARY, true, |file| file.write_all(&bytes))
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Whether the run of the directory `dir` is listed in the HParams tab.
pub fn is_session_listed(dir: &Path) -> bool {
    session_file(dir).is_file()
}

/// The file of [`list_session`]. TensorBoard's Python reader, which never returns to an earlier name, finds it first.
pub(super) fn session_file(dir: &Path) -> PathBuf {
    dir.join(format!("events.out.{}.0000000000.hparams", file::MARK))
}

/// A session's beginning: its group, its hyperparameters and the time in seconds since 1970.
pub(super) fn start(group: &str, hparams: &Value, time: f64) -> Vec<u8> {
    let mut data = HParamsPluginData::new();
    let info = data.mut_session_start_info();
    info.set_group_name(group.into());
    info.set_start_time_secs(time);
    let mut leaves = HashMap::new();
    collect(&mut leaves, String::new(), hparams);
    info.set_hparams(leaves);
    message(&data)
}

/// A session's end, at `time`, which is as in [`start`].
pub(super) fn end(status: SessionStatus, time: f64) -> Vec<u8> {
    let mut data = HParamsPluginData::new();
    let info = data.mut_session_end_info();
    info.set_status(match status {
        SessionStatus::Success => Status::STATUS_SUCCESS,
        SessionStatus::Failure => Status::STATUS_FAILURE,
    });
    info.set_end_time_secs(time);
    message(&data)
}

/// Add the leaves of `value`, named by their path: `optimizer.learning_rate`.
fn collect(leaves: &mut HashMap<String, well_known_types::Value>, path: String, value: &Value) {
    let fields = match value {
        Value::Object(fields) => fields,
        // An empty cell: a text among numbers would make texts of them all.
        Value::Null => return,
        _ => {
            leaves.insert(path, leaf(value));
            return;
        }
    };
    for (key, value) in fields {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        collect(leaves, path, value);
    }
}

fn leaf(value: &Value) -> well_known_types::Value {
    let mut leaf = well_known_types::Value::new();
    let exact = |value: &Value| {
        let large = value.as_u64().is_some_and(|n| n > EXACT)
            || value.as_i64().is_some_and(|n| n.unsigned_abs() > EXACT);
        value.as_f64().filter(|_| !large)
    };
    match (value, exact(value)) {
        (Value::Bool(flag), _) => leaf.set_bool_value(*flag),
        (Value::String(text), _) => leaf.set_string_value(text.clone()),
        (_, Some(number)) => leaf.set_number_value(number),
        // A large seed, a list: shown as written.
        _ => leaf.set_string_value(value.to_string()),
    }
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message;
    use serde_json::json;

    fn started(hparams: &Value) -> HParamsPluginData {
        HParamsPluginData::parse_from_bytes(&start("group", hparams, 5.0)).unwrap()
    }

    #[test]
    fn hparams_are_named_by_their_path() {
        let data = started(&json!({"a": {"b": {"c": 1}, "d": 2}, "e": 3}));
        let info = data.get_session_start_info();
        assert_eq!(
            (info.get_group_name(), info.get_start_time_secs()),
            ("group", 5.0)
        );
        let mut names: Vec<_> = info.get_hparams().keys().collect();
        names.sort();
        assert_eq!(names, ["a.b.c", "a.d", "e"]);
    }

    #[test]
    fn hparams_keep_their_type_and_large_integers_their_digits_and_nothing_is_left_out() {
        let data = started(&json!({
            "flag": true, "text": "x", "small": -3, "real": 0.1, "list": [1, 2], "none": null,
            "exact": EXACT, "large": u64::MAX, "negative": i64::MIN,
        }));
        let hparams = data.get_session_start_info().get_hparams();
        assert!(hparams["flag"].get_bool_value());
        assert_eq!(hparams["text"].get_string_value(), "x");
        assert_eq!(hparams["small"].get_number_value(), -3.0);
        assert_eq!(hparams["real"].get_number_value(), 0.1);
        assert_eq!(hparams["list"].get_string_value(), "[1,2]");
        assert!(!hparams.contains_key("none"));
        assert_eq!(hparams["exact"].get_number_value(), 9_007_199_254_740_992.0);
        assert_eq!(hparams["large"].get_string_value(), "18446744073709551615");
        assert_eq!(
            hparams["negative"].get_string_value(),
            "-9223372036854775808"
        );
    }

    #[test]
    fn session_end_carries_status_and_time() {
        for (status, want) in [
            (SessionStatus::Success, Status::STATUS_SUCCESS),
            (SessionStatus::Failure, Status::STATUS_FAILURE),
        ] {
            let data = HParamsPluginData::parse_from_bytes(&end(status, 7.5)).unwrap();
            let info = data.get_session_end_info();
            assert_eq!((info.get_status(), info.get_end_time_secs()), (want, 7.5));
        }
    }
}
