//! The frozen spec of a run directory, and what runs did before a field existed.

use super::layer::{Layer, MAX_BYTES};
use super::load::{merge, resolve};
use super::{Spec, fields};
use crate::{bail_user, user_error};
use anyhow::Result;
use serde_json::Value as Json;
use serde_yaml::{Mapping, Value};
use std::path::Path;

/// Version of the frozen spec that this program writes. Version 1 is that of files that do not name one. A new field
/// makes a new version, and has a line in [`ADDED`].
pub(super) const VERSION: u64 = 7;

/// Fields that files of version 1 may lack. Each with the first version of which all files have it, and the value that does what the
/// program did before it had the field; it is "of no effect" where the other values make it so. A run goes on as it began, whatever
/// the default is today.
pub(super) const ADDED: &[(&str, u64, &str)] = &[
    ("fidelity", 2, "exact"),
    // libtorch's own setting on a GPU.
    ("compute.precision", 2, "tf32-conv"),
    ("compute.deterministic", 4, "false"),
    ("train.keep_every", 2, "0"),
    ("train.keep_best", 2, "false"),
    ("train.on_divergence", 2, "stop"),
    ("train.max_rollbacks", 2, "3"),     // of no effect
    ("train.rollback_factor", 2, "0.5"), // of no effect
    ("train.restarts", 2, "0"),
    ("eval.policy", 2, "latest"),
    ("data.validation_images", 3, "0"),
    ("input.pad", 3, "0"),
    ("input.pad_mode", 3, "zero"), // of no effect
    ("input.cutout", 3, "0"),
    ("input.cutmix", 3, "0"),
    ("train.drop_last", 3, "false"),
    ("eval.tta", 3, "none"),
    ("train.divergence_factor", 3, "0"),
    ("optimizer.name", 3, "sgd"),
    ("optimizer.sgd_learning_rate", 3, "0.1"), // of no effect
    ("optimizer.momentum", 3, "0"),
    ("optimizer.nesterov", 3, "false"),
    ("optimizer.dampening", 3, "0"),
    ("optimizer.betas", 3, "[0.9, 0.999]"), // of no effect
    ("optimizer.epsilon", 3, "1e-8"),       // of no effect
    ("optimizer.weight_decay", 3, "0"),
    ("optimizer.bias_rate_factor", 3, "1"),
    ("optimizer.clip_norm", 3, "0"),
    ("optimizer.gradient_accumulation", 3, "1"),
    ("network.conv1.init", 3, "truncated_normal"),
    ("network.conv2.init", 3, "truncated_normal"),
    ("network.local3.init", 3, "truncated_normal"),
    ("network.local4.init", 3, "truncated_normal"),
    ("network.softmax_linear.init", 3, "truncated_normal"),
    ("network.conv1.frozen", 3, "false"),
    ("network.conv2.frozen", 3, "false"),
    ("network.local3.frozen", 3, "false"),
    ("network.local4.frozen", 3, "false"),
    ("network.softmax_linear.frozen", 3, "false"),
    ("network.norm.name", 3, "lrn"),
    ("network.dropout", 3, "0"),
    ("loss.label_smoothing", 3, "0"),
    ("average.name", 3, "ema"),
    ("average.warmup", 3, "true"),
    ("average.start_epoch", 3, "0"),
    ("average.every", 3, "1"),
    ("average.power", 3, "0"), // of no effect
    ("schedule.name", 3, "exponential"),
    // Of no effect with `exponential`, as the next ones; but for the warm-up.
    ("schedule.unit", 3, "epochs"),
    ("schedule.knots", 3, "[]"),
    ("schedule.factors", 3, "[]"),
    ("schedule.interpolation", 3, "linear"),
    ("schedule.factor", 3, "0.1"),
    ("schedule.initial_factor", 3, "0.04"),
    ("schedule.final_factor", 3, "0"),
    ("schedule.peak", 3, "30"),
    ("schedule.warmup", 3, "0"),
    ("schedule.warmup_factor", 3, "0"),
    // The first files of version 3 lack these.
    ("stop.accuracy", 4, "0"),
    ("stop.patience", 4, "0"),
    ("stop.minutes", 4, "0"),
    ("compute.devices", 4, "[]"),
    ("compute.timeout_secs", 4, "60"), // of no effect
    ("eval.device", 4, "auto"),
    ("compute.elastic", 5, "false"),
    ("compute.process_group", 6, "auto"), // no run of several GPUs is older
    ("compute.reduce_precision", 7, "float32"),
];

/// Fields that only earlier versions have, and the keys of the same section that have their value today.
const RENAMED: &[(&str, &[&str])] = &[
    (
        "train.summary_every",
        &["scalars_every", "histograms_every", "images_every"],
    ),
    ("input.standardize", &["normalize"]),
];

/// Those of them that experiments may have, too.
const SYNONYMS: &[&str] = &["input.standardize"];

/// The keys that the field of this old path became; none if it is not an old one. `frozen` says whether it is in a run's
/// spec.
pub(super) fn renamed(path: &str, frozen: bool) -> &'static [&'static str] {
    let found = RENAMED.iter().find(|(old, _)| *old == path);
    let found = found.filter(|_| frozen || SYNONYMS.contains(&path));
    found.map_or(&[], |(_, keys)| keys)
}

/// The keys by which experiments may also call the field of this path.
pub(super) fn synonyms(path: &str) -> impl Iterator<Item = &'static str> {
    let old = SYNONYMS.iter().filter_map(|old| old.rsplit_once('.'));
    old.filter_map(move |(section, old)| {
        let key = path.strip_prefix(section)?.strip_prefix('.')?;
        let keys = renamed(&fields::join(section, old), false);
        keys.contains(&key).then_some(old)
    })
}

impl Spec {
    /// Read the resolved spec of a run directory. Fields that it lacks, because it was written before they existed,
    /// have the values that do what the program did then.
    ///
    /// # Errors
    /// As [`load`](super::load()); also if the file is of a later version, lacks fields that its version has, or
    /// extends another.
    pub fn read_frozen(path: &Path) -> Result<Self> {
        Self::from_frozen(Layer::from_frozen_file(path.to_owned())?, path)
    }

    /// The spec in a text that [`Spec::to_frozen_yaml`] wrote, or in the same as JSON; `path` is the file that it is in.
    ///
    /// # Errors
    /// As [`Spec::read_frozen`].
    pub fn parse_frozen(path: &Path, text: String) -> Result<Self> {
        Self::from_frozen(Layer::from_frozen_text(path.to_owned(), text)?, path)
    }

    fn from_frozen(mut layer: Layer, path: &Path) -> Result<Self> {
        if let Some(base) = layer.extends().first() {
            let message = format!("got {base:?}, want a resolved spec, which extends nothing");
            return Err(layer.source.error_at("extends", &message));
        }
        if let Some(section) = &layer.sweep {
            let message = "got a sweep, want the resolved spec of one run";
            return Err(section.root().key_error(message));
        }
        if layer.values == Value::Mapping(Mapping::new()) {
            bail_user!(
                "{}: got an empty file, want a run's resolved spec",
                path.display()
            );
        }
        let version = layer.values.get("version").and_then(Value::as_u64);
        let mut values = fields::nested("version", VERSION.into());
        for (field, since, before) in ADDED {
            if version.unwrap_or(1) < *since {
                let before = serde_yaml::from_str(before)?;
                merge(&mut values, &fields::nested(field, before));
            }
        }
        merge(&mut values, &layer.values);
        layer.values = values;
        let has = |path: &str| {
            let other = fields::alternatives().find(|[field, _]| *field == path);
            layer.sets(path) || other.is_some_and(|[_, other]| layer.sets(other))
        };
        match fields::paths().find(|path| fields::is_in_spec(path) && !has(path)) {
            Some(field) => Err(user_error!(
                "{}: {field}: got nothing, want {}, as a run's spec has every field",
                path.display(),
                fields::wanted(field)
            )),
            None => resolve(&[layer]),
        }
    }

    /// The fields of the frozen spec in this JSON, which [`Spec::to_frozen_json`] wrote, as JSON; `path` is the file that it
    /// is in. Of this version they are taken as they stand, which takes far less time than to read the spec.
    ///
    /// # Errors
    /// As [`Spec::read_frozen`].
    pub fn fields_of_frozen_json(path: &Path, mut json: Json) -> Result<Json> {
        if json.get("version").and_then(Json::as_u64) != Some(VERSION) {
            return Self::parse_frozen(path, json.to_string())?.to_json();
        }
        if let Some(fields) = json.as_object_mut() {
            fields.remove("version");
        }
        Ok(json)
    }

    /// The text of a run directory's frozen spec: its version and every field. [`Spec::read_frozen`] reads back the
    /// same spec, floats bit for bit.
    ///
    /// # Errors
    /// As [`Spec::to_yaml`]; a user error if it would be too long to be read back.
    pub fn to_frozen_yaml(&self) -> Result<String> {
        let text = format!("version: {VERSION}\n{}", self.to_yaml()?);
        if text.len() as u64 > MAX_BYTES {
            bail_user!(
                "the spec has {} bytes with all of its fields, want at most {MAX_BYTES}: a shorter description, say",
                text.len()
            );
        }
        Ok(text)
    }

    /// The same as JSON: version and every field.
    ///
    /// # Errors
    /// As [`Spec::to_yaml`].
    pub fn to_frozen_json(&self) -> Result<Json> {
        let mut json = serde_json::json!({"version": VERSION});
        if let (Some(json), Some(fields)) = (json.as_object_mut(), self.to_json()?.as_object_mut())
        {
            json.append(fields);
        }
        Ok(json)
    }
}
