//! What runs differ in from others of their experiment.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Entry, parallel};
use crate::spec::Field;

/// Fields that say nothing of what was tried: for people, and where the images lie.
const LEFT_OUT: [&str; 2] = ["description", "data.folder"];

/// Finds of each of these runs the fields in which it differs from the others of its experiment, that is from the value that
/// most of them have (the oldest of equally many), beside those that its command line set. They are in the order of the
/// spec.
pub fn find_changes(entries: &[Entry]) {
    parallel::map(entries, |entry| entry.spec().is_some()); // which takes longest
    let mut groups: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.is_sweep()) {
        groups.entry(entry.name()).or_default().push(entry);
    }
    let groups: Vec<Vec<&Entry>> = groups.into_values().collect();
    parallel::map(&groups, |group| find_in_group(group));
}

fn find_in_group(group: &[&Entry]) {
    let fields = differing(group);
    let usual: Vec<Option<&Json>> = fields.iter().map(|field| usual(group, field)).collect();
    for entry in group {
        let mut changes = entry.own_changes();
        for (field, usual) in fields.iter().zip(&usual) {
            let value = entry.spec().and_then(|spec| field.value(spec));
            if let Some(value) = value.filter(|value| Some(*value) != *usual) {
                changes.insert(field.path.to_owned(), value.clone());
            }
        }
        let ordered = Field::all().filter_map(|field| changes.remove_entry(field.path));
        entry.set_changes(ordered.collect());
    }
}

/// The fields that do not have the same value in all of these runs.
pub fn differing(group: &[&Entry]) -> Vec<&'static Field> {
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

/// The value of a field that most of these runs have, which are ordered from the newest.
fn usual<'a>(group: &[&'a Entry], field: &Field) -> Option<&'a Json> {
    let mut counts: BTreeMap<String, (usize, usize, &Json)> = BTreeMap::new();
    for (place, entry) in group.iter().enumerate() {
        if let Some(value) = entry.spec().and_then(|spec| field.value(spec)) {
            let (count, last, _) = counts.entry(value.to_string()).or_insert((0, place, value));
            (*count, *last) = (*count + 1, place);
        }
    }
    let most = counts
        .into_values()
        .max_by_key(|(count, last, _)| (*count, *last));
    most.map(|(.., value)| value)
}
