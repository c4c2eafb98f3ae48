//! What TensorBoard's HParams tab compares: a run's hyperparameters and its status.
//!
//! No description of the experiment is written. With one, TensorBoard would show the hyperparameters and
//! metrics of whichever run it finds first; without, it joins those of all runs: it finds each value's
//! type and range, puts those that differ first, and takes every scalar of the session's run as a metric.

use super::record::message;
use protobuf::well_known_types;
use serde_json::Value;
use std::collections::HashMap;
use tensorboard_proto::api::Status;
use tensorboard_proto::plugin_hparams::HParamsPluginData;

/// The status of a session. TensorBoard calls that of one without it unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// It is running.
    Running,
    /// All work is done.
    Success,
    /// An error ended it.
    Failure,
}

/// The tags under which TensorBoard looks for a session.
/// <https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/hparams/metadata.py>
pub(super) const START_TAG: &str = "_hparams_/session_start_info";
pub(super) const END_TAG: &str = "_hparams_/session_end_info";

/// Integers from here on are not all numbers of 64-bit floating point.
const EXACT: u64 = 1 << 53;

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

/// A session's status at `time`, which is as in [`start`]: in the format this is its end, even while it runs.
pub(super) fn end(status: SessionStatus, time: f64) -> Vec<u8> {
    let mut data = HParamsPluginData::new();
    let info = data.mut_session_end_info();
    info.set_status(match status {
        SessionStatus::Running => Status::STATUS_RUNNING,
        SessionStatus::Success => Status::STATUS_SUCCESS,
        SessionStatus::Failure => Status::STATUS_FAILURE,
    });
    info.set_end_time_secs(time);
    message(&data)
}

/// Add the leaves of `value`, named by their path: `optimizer.learning_rate`.
fn collect(leaves: &mut HashMap<String, well_known_types::Value>, path: String, value: &Value) {
    let Value::Object(fields) = value else {
        leaves.insert(path, leaf(value));
        return;
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
        // A large seed, a list, nothing: shown as written.
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
    fn hparams_keep_their_type_and_large_integers_their_digits() {
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
        assert_eq!(hparams["none"].get_string_value(), "null");
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
            (SessionStatus::Running, Status::STATUS_RUNNING),
            (SessionStatus::Success, Status::STATUS_SUCCESS),
            (SessionStatus::Failure, Status::STATUS_FAILURE),
        ] {
            let data = HParamsPluginData::parse_from_bytes(&end(status, 7.5)).unwrap();
            let info = data.get_session_end_info();
            assert_eq!((info.get_status(), info.get_end_time_secs()), (want, 7.5));
        }
    }
}
