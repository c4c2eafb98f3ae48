//! What of a run's spec differs from the defaults, and where that was set.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Entry;
use crate::run::{RESUMED, SWEPT};
use crate::spec::{Field, Spec};
use crate::sweep::SweepDir;

/// A field that differs from its default, or that somebody has set to it.
pub struct Difference<'a> {
    /// The field.
    pub field: &'static Field,
    /// Its value.
    pub value: &'a Json,
    /// Its default; none where that is not to be set.
    pub default: Option<&'static Json>,
    /// Where it is set, as far as that was recorded: `experiments/small.yaml:5:11`, `--set`; else empty.
    pub origin: String,
    /// Whether it has an effect with the values of the others.
    pub is_used: bool,
}

impl Entry {
    /// Where each field of its spec is set that is set, as its sessions recorded it.
    pub fn origins(&self) -> BTreeMap<String, String> {
        let mut origins = BTreeMap::new();
        if let Some(first) = self.sessions().first() {
            origins.clone_from(&first.origins);
            for field in first.set_fields() {
                let origin = origins.entry(field.path.to_owned());
                origin.or_insert_with(|| "--set".to_owned());
            }
        }
        for (index, session) in self.sessions().iter().enumerate() {
            let origin = format!("{RESUMED}, session {}", index + 1);
            let changes = session.changes.iter();
            origins.extend(changes.map(|change| (change.field.clone(), origin.clone())));
        }
        if let Some((set, _)) = self.swept() {
            let fields = set.into_keys().chain(["seed".to_owned()]);
            origins.extend(fields.map(|field| (field, SWEPT.to_owned())));
        }
        origins
    }

    /// What a sweep sets in this point of it, without the seed; and the seed, where not all points have the same. To read the sweep
    /// takes long where it has many points.
    pub(super) fn swept(&self) -> Option<(BTreeMap<String, Json>, Option<u64>)> {
        if let Some((point, tells_seed)) = self.point() {
            return Some((point.set.clone(), tells_seed.then_some(point.seed)));
        }
        let run = self.run()?;
        let name = run.path().file_name().unwrap_or_default().to_string_lossy();
        let sweep = SweepDir::new(run.sweep()?).read().ok()?;
        let tells_seed = sweep.definition.seeds.len() > 1;
        let point = sweep.points.into_iter().find(|point| point.name == name)?;
        Some((point.set, tells_seed.then_some(point.seed)))
    }

    /// The fields of its spec that have no effect in it; none of a sweep, of which another point may use them.
    pub fn unused(&self) -> Vec<String> {
        let spec = self.spec().filter(|_| !self.is_sweep());
        let read = spec.and_then(|spec| serde_json::from_value::<Spec>(spec.clone()).ok());
        read.iter().flat_map(Spec::unused).collect()
    }

    /// The fields of its spec that differ from the defaults, and those that were tried; none where the spec cannot be read.
    pub fn differences(&self) -> Option<Vec<Difference<'_>>> {
        let spec = self.spec()?;
        let origins = self.origins();
        let unused = self.unused();
        let fields = Field::all().filter(|field| field.path != "description");
        let differences = fields.filter_map(|field| {
            let (value, default) = (field.value(spec)?, field.default_value());
            let origin = origins.get(field.path).cloned().unwrap_or_default();
            // What somebody tried is told even if it is the default.
            let is_tried = ["--set", SWEPT].contains(&&*origin);
            (is_tried || Some(value) != default).then_some(Difference {
                field,
                value,
                default,
                origin,
                is_used: !unused.iter().any(|it| it == field.path),
            })
        });
        Some(differences.collect())
    }
}
