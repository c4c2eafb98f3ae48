//! What runs differ in.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Entry, parallel};
use crate::spec::Field;

/// Fields that say nothing of what was tried: for people, and where the images lie.
const LEFT_OUT: [&str; 2] = ["description", "data.folder"];

/// What a sweep gives a point as it is free at the time.
const GIVEN_BY_SWEEP: [&str; 2] = ["compute.device", "compute.threads"];

/// As [`differing`], but for what tells no settings apart: which device a sweep gave a point, and how many threads.
pub fn differing_settings(group: &[&Entry]) -> Vec<&'static Field> {
    let points = || group.iter().filter_map(|entry| entry.point());
    let is_set = |field: &Field| points().any(|(point, _)| point.set.contains_key(field.path));
    let mut fields = differing(group);
    fields.retain(|field| !GIVEN_BY_SWEEP.contains(&field.path) || is_set(field));
    fields
}

/// The fields that do not have the same value in all of these runs.
pub fn differing(group: &[&Entry]) -> Vec<&'static Field> {
    parallel::map(group, |entry| entry.spec().is_some()); // which takes longest
    let specs: Vec<&Json> = group.iter().filter_map(|entry| entry.spec()).collect();
    let Some((first, others)) = specs.split_first() else {
        return Vec::new();
    };
    // Section by section, most of which are the same: a field by its path takes longer to find.
    let section = |path: &'static str| path.split('.').next().unwrap_or_default();
    let mut sections: BTreeMap<&str, bool> = BTreeMap::new();
    let mut differs = |name: &'static str| {
        *sections.entry(name).or_insert_with(|| {
            others
                .iter()
                .any(|other| other.get(name) != first.get(name))
        })
    };
    let fields = Field::all().filter(|field| !LEFT_OUT.contains(&field.path));
    let fields = fields.filter(|field| differs(section(field.path)));
    let is_not_same = |field: &&Field| {
        let of_first = field.value(first);
        others.iter().any(|other| field.value(other) != of_first)
    };
    fields.filter(is_not_same).collect()
}
