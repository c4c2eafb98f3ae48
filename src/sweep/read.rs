//! The section `sweep` of an experiment, checked entry by entry.

use super::definition::{
    Case, Choice, Definition, Goal, Halving, Method, Metric, MetricName, OnFailure, Parameter,
    Score,
};
use super::enumerate::MAX_POINTS;
use crate::spec::{Field, Node, Numbers, Section, Seed, describe, nearest};
use anyhow::Result;
use serde_yaml::Value;

const KEYS: &[&str] = &[
    "method",
    "metric",
    "parameters",
    "cases",
    "points",
    "runs",
    "seed",
    "seeds",
    "parallel",
    "devices",
    "on_failure",
    "target",
    "early_terminate",
];

impl Definition {
    /// Read the section of a sweep over a spec with this seed, `parallel` of whose points run at once by default.
    ///
    /// # Errors
    /// A user error with its place for whatever is not allowed.
    pub fn read(section: &Section, seed: Seed, parallel: usize) -> Result<Self> {
        let root = section.root();
        check_keys(&root, KEYS, "a sweep")?;
        let method = method(&root)?;
        let parameters = match root.get("parameters") {
            Some(node) => parameters(&node)?,
            None => Vec::new(),
        };
        let key = if method == Method::Points {
            "points"
        } else {
            "cases"
        };
        let cases = match root.get(key) {
            Some(node) => cases(&node)?,
            None => Vec::new(),
        };
        let devices = root.get("devices").as_ref().map(devices).transpose()?;
        let parallel = match (root.get("parallel"), &devices) {
            (Some(node), _) => whole(&node, 1, 1_024)? as usize,
            (None, Some(devices)) => devices.len(),
            (None, None) => parallel,
        };
        let seeds = match root.get("seeds") {
            Some(node) => seeds(&node, seed.0)?,
            None => vec![seed.0],
        };
        if parameters.is_empty() && cases.is_empty() && root.get("seeds").is_none() {
            return Err(root.error(
                "got nothing that differs from point to point, want parameters, cases or seeds",
            ));
        }
        Ok(Definition {
            method,
            metric: metric(root.get("metric"))?,
            parameters,
            cases,
            seeds,
            parallel,
            devices,
            on_failure: match root.get("on_failure") {
                Some(node) => word(
                    &node,
                    &[("continue", OnFailure::Continue), ("stop", OnFailure::Stop)],
                )?,
                None => OnFailure::Continue,
            },
            target: root.get("target").as_ref().map(number).transpose()?,
            early_terminate: root
                .get("early_terminate")
                .as_ref()
                .map(halving)
                .transpose()?,
        })
    }
}

fn method(root: &Node) -> Result<Method> {
    let name = match root.get("method") {
        Some(node) => word(&node, &[("grid", 0), ("random", 1), ("points", 2)])?,
        None => 0,
    };
    Ok(match name {
        0 => Method::Grid,
        1 => Method::Random {
            runs: match root.get("runs") {
                Some(node) => whole(&node, 1, MAX_POINTS as u64)? as usize,
                None => {
                    return Err(root.error_at(
                        "method",
                        "random draws without end, want runs: NUMBER beside it",
                    ));
                }
            },
            seed: match root.get("seed") {
                Some(node) => whole(&node, 0, u64::MAX)?,
                None => 1,
            },
        },
        _ => Method::Points,
    })
}

fn metric(node: Option<Node>) -> Result<Metric> {
    let default = Metric {
        name: MetricName::Accuracy,
        goal: Goal::Maximize,
        of: Score::Best,
    };
    let Some(node) = node else {
        return Ok(default);
    };
    check_keys(&node, &["name", "goal", "of"], "a metric")?;
    let name = match node.get("name") {
        Some(name) => word(
            &name,
            &[
                ("accuracy", MetricName::Accuracy),
                ("loss", MetricName::Loss),
            ],
        )?,
        None => default.name,
    };
    let (sense, better) = match name {
        MetricName::Accuracy => ("maximize", Goal::Maximize),
        MetricName::Loss => ("minimize", Goal::Minimize),
    };
    if let Some(goal) = node.get("goal") {
        let goals = [("maximize", Goal::Maximize), ("minimize", Goal::Minimize)];
        if word(&goal, &goals)? != better {
            return Err(goal.error(format!("got {}, want {sense}", describe(goal.value))));
        }
    }
    Ok(Metric {
        name,
        goal: better,
        of: match node.get("of") {
            Some(of) => word(&of, &[("best", Score::Best), ("last", Score::Last)])?,
            None => default.of,
        },
    })
}

fn halving(node: &Node) -> Result<Halving> {
    check_keys(node, &["type", "min_iter", "eta"], "early_terminate")?;
    match node.get("type") {
        Some(kind) => word(&kind, &[("halving", ())])?,
        None => return Err(node.error("got no type, want type: halving")),
    }
    Ok(Halving {
        min_iter: match node.get("min_iter") {
            Some(steps) => whole(&steps, 1, 1_000_000_000)?,
            None => return Err(node.error("got no min_iter, want the steps of the first rung")),
        },
        eta: match node.get("eta") {
            Some(eta) => whole(&eta, 2, 100)?,
            None => 3,
        },
    })
}

fn parameters(node: &Node) -> Result<Vec<Parameter>> {
    let Some(entries) = node.entries() else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a mapping of fields to their values"
        )));
    };
    let mut found: Vec<Parameter> = Vec::new();
    for (name, node) in entries {
        let field = Field::find(name).map_err(|message| node.key_error(message))?;
        check_field(field, &node)?;
        if found.iter().any(|parameter| parameter.field == field.path) {
            return Err(node.key_error("got this field twice, want it once"));
        }
        found.push(Parameter {
            field: field.path.to_owned(),
            choice: choice(field, &node)?,
        });
    }
    Ok(found)
}

/// Fields that are the sweep's, or the same for all of its points.
fn check_field(field: &Field, node: &Node) -> Result<()> {
    match field.path {
        "seed" => Err(node.key_error(
            "want seeds: [1, 2, 3] beside parameters: points that differ by it alone are averaged",
        )),
        "compute.device" => Err(node.key_error("want devices: [cuda:0, cuda:1] beside parameters")),
        path if path.starts_with("data.") && !["data.prefetch", "data.workers"].contains(&path) => {
            Err(node.key_error("points are compared on the same images, want it in the spec"))
        }
        _ => Ok(()),
    }
}

fn choice(field: &'static Field, node: &Node) -> Result<Choice> {
    let values = match node.value {
        Value::Mapping(_) => {
            check_keys(node, &["values", "value"], "a parameter")?;
            match (node.get("values"), node.get("value")) {
                (Some(values), None) => list(field, &values)?,
                (None, Some(value)) => vec![checked(field, &value)?],
                _ => return Err(node.error("got no values, want values: [...]")),
            }
        }
        // One value of a field that holds a list, or several of another.
        Value::Sequence(items) if field.is_list() && !items.iter().all(Value::is_sequence) => {
            vec![checked(field, node)?]
        }
        Value::Sequence(_) => list(field, node)?,
        _ => vec![checked(field, node)?],
    };
    Ok(Choice::Values(values))
}

fn list(field: &'static Field, node: &Node) -> Result<Vec<Value>> {
    let Some(items) = node.items() else {
        let found = describe(node.value);
        return Err(node.error(format!("got {found}, want a list of values")));
    };
    if items.is_empty() {
        return Err(node.error("got an empty list, want one value at least"));
    }
    let mut values = Vec::new();
    for item in items {
        match (field.numbers(), item.value.as_str().map(range)) {
            (Some(Numbers::Whole), Some(Some((first, last)))) => {
                for number in numbers(&item, first, last)? {
                    let checked = field.check(number.into());
                    values.push(checked.map_err(|message| item.error(message))?);
                }
            }
            _ => values.push(checked(field, &item)?),
        }
    }
    Ok(values)
}

/// The ends of `1..3`.
fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once("..")?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// The numbers of a range, both ends of which belong to it.
fn numbers(node: &Node, first: u64, last: u64) -> Result<std::ops::RangeInclusive<u64>> {
    match first <= last && last - first < MAX_POINTS as u64 {
        true => Ok(first..=last),
        false => Err(node.error(format!(
            "got {first}..{last}, want at most {MAX_POINTS} numbers, the lowest first"
        ))),
    }
}

fn checked(field: &'static Field, node: &Node) -> Result<Value> {
    let checked = field.check(node.value.clone());
    checked.map_err(|message| node.error(message))
}

fn cases(node: &Node) -> Result<Vec<Case>> {
    let items = node.items().filter(|items| !items.is_empty());
    let Some(items) = items else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a list of mappings of fields to values"
        )));
    };
    items.iter().map(parameters).collect()
}

fn devices(node: &Node) -> Result<Vec<String>> {
    let items = node.items().filter(|items| !items.is_empty());
    let Some(items) = items else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a list of devices, such as [cuda:0, cuda:1]"
        )));
    };
    let mut found = Vec::new();
    for item in items {
        let name = item.value.as_str().unwrap_or_default();
        let gpu = name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<i8>().ok());
        let name = match (name, gpu) {
            ("cpu", _) => "cpu".to_owned(),
            (_, Some(index)) if index >= 0 => format!("cuda:{index}"),
            _ => {
                let found = describe(item.value);
                return Err(item.error(format!("got {found}, want cpu or cuda:N")));
            }
        };
        if found.contains(&name) {
            return Err(item.error(format!(
                "got {name} twice, want it once: it is given to one run at a time"
            )));
        }
        found.push(name);
    }
    Ok(found)
}

fn seeds(node: &Node, first: u64) -> Result<Vec<u64>> {
    if let Some((first, last)) = node.value.as_str().and_then(range) {
        return Ok(numbers(node, first, last)?.collect());
    }
    let Some(items) = node.items() else {
        let count = whole(node, 1, MAX_POINTS as u64)?;
        return match first.checked_add(count - 1) {
            Some(last) => Ok((first..=last).collect()),
            None => Err(node.error(format!(
                "got {count} seeds from {first} on, want them below 2^64"
            ))),
        };
    };
    let mut found = Vec::new();
    for item in &items {
        let seeds = match item.value.as_str().and_then(range) {
            Some((first, last)) => numbers(item, first, last)?,
            None => {
                let seed = whole(item, 0, u64::MAX)?;
                seed..=seed
            }
        };
        for seed in seeds {
            if found.contains(&seed) {
                return Err(item.error(format!("got seed {seed} twice, want it once")));
            }
            found.push(seed);
        }
    }
    match found.is_empty() {
        true => Err(node.error("got an empty list, want one seed at least")),
        false => Ok(found),
    }
}

/// The mapping has these keys alone.
fn check_keys(node: &Node, known: &[&str], what: &str) -> Result<()> {
    let Some(entries) = node.entries() else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a mapping of {}",
            known.join(", ")
        )));
    };
    for (key, inside) in entries {
        if !known.contains(&key) {
            let near = nearest(key, known.iter().copied());
            let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
            let known = known.join(", ");
            return Err(
                inside.key_error(format!("unknown key of {what}, want one of {known}{near}"))
            );
        }
    }
    Ok(())
}

fn whole(node: &Node, low: u64, high: u64) -> Result<u64> {
    let number = node
        .value
        .as_u64()
        .filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| {
        let found = describe(node.value);
        node.error(format!(
            "got {found}, want a whole number from {low} to {high}"
        ))
    })
}

fn number(node: &Node) -> Result<f64> {
    let number = node.value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| node.error(format!("got {}, want a number", describe(node.value))))
}

fn word<T: Copy>(node: &Node, words: &[(&str, T)]) -> Result<T> {
    let found = words
        .iter()
        .find(|(word, _)| node.value.as_str() == Some(word));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let found = describe(node.value);
        node.error(format!("got {found}, want {}", words.join(" or ")))
    })
}
