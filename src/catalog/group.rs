//! Runs of one experiment that differ in nothing but fields such as the seed, as one row of a table: the mean of their scores.

use serde_json::Value as Json;

use super::table::Row;
use super::{Entry, Key, Value};
use crate::run::RunState;
use crate::spec::Field;
use crate::sweep::{deviation, mean};

/// Runs that are told as one.
pub struct Group {
    /// At least one.
    runs: Vec<Entry>,
}

impl Group {
    /// The groups of these runs, in the order of the first run of each. Together are runs of the same name with the same values of
    /// `fields`, which began with the weights of the same run, if of any.
    pub fn of(runs: Vec<Entry>, fields: &[&'static Field]) -> Vec<Self> {
        let key = |run: &Entry| {
            let value = |field: &&Field| field.value(run.spec()?).cloned();
            let values: Vec<Option<Json>> = fields.iter().map(value).collect();
            (run.name().to_owned(), weights_from(run), values)
        };
        let mut groups: Vec<(_, Group)> = Vec::new();
        for run in runs {
            let key = key(&run);
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, group)) => group.runs.push(run),
                None => groups.push((key, Group { runs: vec![run] })),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// Its runs, at least one.
    pub fn runs(&self) -> &[Entry] {
        &self.runs
    }

    /// How many of its runs have not trained as far as they were to, whatever the reason; their scores so far count.
    pub fn unfinished(&self) -> usize {
        let has_ended = |run: &&Entry| {
            let ended = [RunState::Finished, RunState::StoppedEarly];
            run.run_state().is_some_and(|state| ended.contains(&state))
        };
        self.runs.len() - self.runs.iter().filter(has_ended).count()
    }

    /// The standard deviation of what its runs have in a column; none where fewer than two have a number there.
    pub fn deviation(&self, key: Key) -> Option<f64> {
        deviation(&self.numbers(key))
    }

    fn numbers(&self, key: Key) -> Vec<f64> {
        let values = self.runs.iter().filter_map(|run| key.value(run));
        let numbers = values.filter_map(|value| value.number());
        numbers.filter(|number| number.is_finite()).collect()
    }
}

/// Of scores the mean and its deviation, over the runs that have one; of all else what is the same in all runs, or the mean of a
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

/// The run whose weights a run began with.
fn weights_from(run: &Entry) -> Option<String> {
    let from = run.sessions().first()?.weights_from.as_ref()?;
    Some(format!("{} {}", from.run, from.step))
}
