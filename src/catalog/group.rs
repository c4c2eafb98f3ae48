//! Runs of one experiment that differ in nothing but fields such as the seed, as one row of a table: the mean of their scores.

use serde_json::Value as Json;

use super::table::Row;
use super::{Entry, Key, Value};
use crate::run::RunState;
use crate::spec::Field;
use crate::sweep::{deviation, mean};

/// Runs that are told as one.
pub struct Group {
    /// At least one, no two with the same values of the fields that the mean is over.
    runs: Vec<Entry>,
    /// How many others there are, each a repetition of one of these.
    repetitions: usize,
}

impl Group {
    /// The columns beside a spec's fields in which the runs of a group are the same.
    pub const BESIDE: [&str; 2] = ["data", "weights_from"];

    /// The groups of these runs, in the order of the first run of each. Together are runs of the same name on the same images, which
    /// began with the weights of the same run, if of any, and have the same values of `fields`. Of runs that have the same values
    /// of `over` as well, the first one that has ended counts alone, or else the first: a repetition is no further sample.
    /// Runs whose spec cannot be read are in no group.
    pub fn of(runs: Vec<Entry>, fields: &[&'static Field], over: &[&'static Field]) -> Vec<Self> {
        let mut groups: Vec<(_, Group)> = Vec::new();
        for run in runs.into_iter().filter(|run| run.spec().is_some()) {
            let beside = Group::BESIDE.map(|name| Key::find(name).ok()?.value(&run));
            let key = (run.name().to_owned(), beside, values(&run, fields));
            let Some((_, group)) = groups.iter_mut().find(|(other, _)| *other == key) else {
                let (runs, repetitions) = (vec![run], 0);
                groups.push((key, Group { runs, repetitions }));
                continue;
            };
            let is_repeated = |other: &&mut Entry| values(other, over) == values(&run, over);
            match group.runs.iter_mut().find(is_repeated) {
                None => group.runs.push(run),
                Some(other) => {
                    group.repetitions += 1;
                    if !has_ended(other) && has_ended(&run) {
                        *other = run;
                    }
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// Its runs, at least one.
    pub fn runs(&self) -> &[Entry] {
        &self.runs
    }

    /// How many runs are left out as they repeat one of these.
    pub fn repetitions(&self) -> usize {
        self.repetitions
    }

    /// How many of its runs have not trained as far as they were to, whatever the reason. Their scores so far count only where no
    /// run has ended.
    pub fn unfinished(&self) -> usize {
        self.runs.iter().filter(|run| !has_ended(run)).count()
    }

    /// The standard deviation of what its runs have in a column; none where fewer than two have a number there.
    pub fn deviation(&self, key: Key) -> Option<f64> {
        deviation(&self.numbers(key))
    }

    /// What those of its runs that have ended have in a column, or all of them where none has; nothing where one of them has no finite
    /// number there. Sorted, so that a sum does not depend on the order of the runs.
    fn numbers(&self, key: Key) -> Vec<f64> {
        let all = self.runs.len() == self.unfinished();
        let counted = self.runs.iter().filter(|run| all || has_ended(run));
        let number = |run| {
            let number = key.value(run)?.number()?;
            number.is_finite().then_some(number)
        };
        let numbers: Option<Vec<f64>> = counted.map(number).collect();
        let mut numbers = numbers.unwrap_or_default();
        numbers.sort_by(f64::total_cmp);
        numbers
    }
}

fn values(run: &Entry, fields: &[&'static Field]) -> Vec<Option<Json>> {
    let value = |field: &&Field| field.value(run.spec()?).cloned();
    fields.iter().map(value).collect()
}

/// Whether a run has trained as far as it was to.
fn has_ended(run: &Entry) -> bool {
    run.run_state().is_some_and(RunState::is_finished)
}

/// Of scores the mean and its deviation; of all else what is the same in all runs, or the mean of a
/// column of numbers. What a field of the spec has is no measurement: where it differs there is none.
impl Row for Group {
    fn value(&self, key: Key) -> Option<Value> {
        let first = self.runs.iter().find_map(|run| key.value(run))?;
        let numbers = self.numbers(key);
        if let (Value::Accuracy(_) | Value::Loss(_), Some(deviation)) =
            (&first, deviation(&numbers))
        {
            let mean = mean(&numbers)?;
            return Some(Value::Mean { mean, deviation });
        }
        let is_same = |run: &Entry| key.value(run).as_ref() == Some(&first);
        if self.runs.iter().all(is_same) {
            return Some(first);
        }
        match (key, first) {
            (Key::Field(_), _) => None,
            (_, Value::Accuracy(_)) => mean(&numbers).map(Value::Accuracy),
            (_, Value::Loss(_)) => mean(&numbers).map(Value::Loss),
            (_, Value::Count(_) | Value::Number(_)) => mean(&numbers).map(Value::Number),
            (_, Value::Duration(_)) => mean(&numbers).map(Value::Duration),
            (_, Value::Age(_)) => mean(&numbers).map(Value::Age),
            (_, Value::Bytes(_)) => mean(&numbers).map(|mean| Value::Bytes(mean.round() as u64)),
            _ => None,
        }
    }
}
