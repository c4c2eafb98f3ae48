//! The section `sweep` of an experiment, checked entry by entry.

use super::MAX_PARALLEL;
use super::definition::{
    Case, Choice, Definition, Goal, Halving, Launcher, Method, Metric, MetricName, OnFailure,
    Parameter, Score, SlurmOptions,
};
use super::enumerate::MAX_POINTS;
use super::hints;
use super::random::{Distribution, multiple, multiples, value};
use crate::spec::{
    DISTRIBUTIONS, DeviceName, Field, Node, Numbers, Section, Seed, describe, did_you_mean,
    meant_by, nearest, sweep_keys, sweep_refusal,
};
use anyhow::Result;
use serde_yaml::Value;
use std::ops::RangeInclusive;

impl Definition {
    /// Read the section of a sweep over a spec with this seed, `parallel` of whose points run at once by default.
    ///
    /// # Errors
    /// A user error with its place for whatever is not allowed.
    pub fn read(section: &Section, seed: Seed, parallel: usize) -> Result<Self> {
        let root = section.root();
        check_keys(&root, &sweep_keys(), "a sweep")?;
        let method = method(&root)?;
        let parameters = match root.get("parameters") {
            Some(node) => parameters(&node, method)?,
            None => Vec::new(),
        };
        let cases = match root.get("cases").or(root.get("points")) {
            Some(node) => cases(&node, method, &parameters)?,
            None if method == Method::Points => {
                let message = "got no points, want points: [{FIELD: VALUE}, ...] beside it";
                return Err(root.error_at("method", message));
            }
            None => Vec::new(),
        };
        let devices = root.get("devices").as_ref().map(devices).transpose()?;
        let launcher = match root.get("launcher") {
            Some(node) => launcher(&node)?,
            None => Launcher::Local,
        };
        if launcher != Launcher::Local
            && let Some(node) = root.get("devices")
        {
            let message = "no effect with launcher slurm, which gives each job its own; want gpus_per_task there";
            return Err(node.key_error(message));
        }
        let parallel = match (root.get("parallel"), &devices) {
            (Some(node), _) => whole(&node, 1, MAX_PARALLEL as u64)? as usize,
            (None, Some(devices)) => devices.len(),
            (None, None) => parallel,
        };
        let seeds = match root.get("seeds") {
            Some(node) => seeds(&node, seed.0)?,
            None => vec![seed.0],
        };
        let metric = metric(root.get("metric"))?;
        let policies = [("continue", OnFailure::Continue), ("stop", OnFailure::Stop)];
        let definition = Definition {
            method,
            metric,
            parameters,
            cases,
            seeds,
            parallel,
            devices,
            launcher,
            on_failure: match root.get("on_failure") {
                Some(node) => word(&node, &policies)?,
                None => OnFailure::Continue,
            },
            target: match root.get("target") {
                Some(node) => Some(target(&node, metric)?),
                None => None,
            },
            early_terminate: root
                .get("early_terminate")
                .as_ref()
                .map(halving)
                .transpose()?,
        };
        let differs = !definition.fields().is_empty() || root.get("seeds").is_some();
        match differs {
            true => Ok(definition),
            false => Err(root.error(
                "got nothing that differs from point to point, want parameters, cases or seeds",
            )),
        }
    }
}

/// The methods by their names, and the keys that only others have.
const METHODS: &[(&str, &[&str])] = &[
    ("grid", &["runs", "seed", "points"]),
    ("random", &["points"]),
    ("points", &["parameters", "cases", "runs", "seed"]),
];

fn method(root: &Node) -> Result<Method> {
    let name = match root.get("method") {
        Some(node) => match node.value.as_str().and_then(hints::method) {
            Some(hint) => {
                return Err(node.error(format!("got {}: {hint}", describe(node.value))));
            }
            None => {
                let names: Vec<_> = METHODS.iter().map(|(name, _)| (*name, *name)).collect();
                word(&node, &names)?
            }
        },
        None => "grid",
    };
    let others = METHODS.iter().filter(|(it, _)| *it == name);
    for key in others.flat_map(|(_, keys)| *keys) {
        if let Some(node) = root.get(key) {
            let message = match (*key, name) {
                ("points", _) => "want method: points, or cases beside parameters",
                ("runs", "grid") => "it runs all combinations; want method: random",
                ("seed", "grid") => {
                    "it is the seed of random's draws; want seeds: [1, 2, 3] for those of the runs"
                }
                _ => "it runs what points lists; want method: grid or random",
            };
            return Err(node.key_error(format!("no effect with method {name}: {message}")));
        }
    }
    Ok(match name {
        "grid" => Method::Grid,
        "random" => Method::Random {
            runs: match root.get("runs") {
                Some(node) => whole(&node, 1, MAX_POINTS as u64)? as usize,
                None => {
                    let message = "random draws without end, want runs: NUMBER beside it";
                    return Err(root.error_at("method", message));
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
    if let Some(target) = node.get("target") {
        let value = describe(target.value);
        return Err(target.key_error(format!("want target: {value} in sweep, beside metric")));
    }
    check_keys(&node, &["name", "goal", "of"], "a metric")?;
    let name = match node.get("name") {
        Some(node) => metric_name(&node)?,
        None => default.name,
    };
    let (plain, wanted, goal) = match name {
        MetricName::Accuracy => ("accuracy", "maximize", Goal::Maximize),
        MetricName::Loss => ("loss", "minimize", Goal::Minimize),
    };
    if let Some(node) = node.get("goal") {
        let goals = [("maximize", Goal::Maximize), ("minimize", Goal::Minimize)];
        if word(&node, &goals)? != goal {
            let found = describe(node.value);
            return Err(node.error(format!("got {found} with {plain}, want {wanted}")));
        }
    }
    Ok(Metric {
        name,
        goal,
        of: match node.get("of") {
            Some(of) => word(&of, &[("best", Score::Best), ("last", Score::Last)])?,
            None => default.of,
        },
    })
}

fn metric_name(node: &Node) -> Result<MetricName> {
    let names = [
        ("accuracy", MetricName::Accuracy),
        ("loss", MetricName::Loss),
    ];
    word(node, &names).map_err(|error| {
        // `val_accuracy`, `eval/loss`.
        let text = node.value.as_str().unwrap_or_default();
        let inside = names.iter().find(|(name, _)| text.contains(name));
        inside.map_or(error, |(name, _)| {
            node.error(format!(
                "got {text:?}, want {name}: it is of the validation images where data.validation_images is set, else of \
                 the test images"
            ))
        })
    })
}

fn target(node: &Node, metric: Metric) -> Result<f64> {
    let target = number(node)?;
    if metric.name == MetricName::Accuracy && !(0.0..=1.0).contains(&target) {
        let wanted = "want an accuracy from 0 to 1, such as 0.86";
        return Err(node.error(format!("got {target}, {wanted}")));
    }
    Ok(target)
}

fn launcher(node: &Node) -> Result<Launcher> {
    if !node.value.is_mapping() {
        return Ok(match word(node, &[("local", false), ("slurm", true)])? {
            true => Launcher::Slurm(SlurmOptions::default()),
            false => Launcher::Local,
        });
    }
    check_keys(node, &["slurm"], "launcher")?;
    let Some(node) = node.get("slurm") else {
        return Err(node.error("got nothing in it, want slurm: {partition: ..., time: ...}"));
    };
    let others = ["gpus_per_task", "cpus_per_task", "options"];
    let keys = [&SlurmOptions::TEXTS[..], &others].concat();
    check_keys(&node, &keys, "slurm")?;
    let texts = SlurmOptions::TEXTS.into_iter();
    let texts = texts.filter_map(|key| Some((key, node.get(key)?)));
    let texts: Result<_> = texts.map(|(key, it)| Ok((key, option(&it)?))).collect();
    let number = |key: &str, low| {
        let number = node.get(key).map(|it| whole(&it, low, 1_024));
        number.transpose().map(|it| it.map(|it| it as usize))
    };
    let options = match node.get("options") {
        Some(node) => {
            let items = node.items().unwrap_or_default();
            let options: Result<Vec<String>> = items.iter().map(option).collect();
            let options = options?;
            if options.is_empty() || options.iter().any(|it| !it.starts_with('-')) {
                let found = describe(node.value);
                return Err(node.error(format!(
                    "got {found}, want a list of options of sbatch, such as [--exclusive, --nice=10]"
                )));
            }
            options
        }
        None => Vec::new(),
    };
    Ok(Launcher::Slurm(SlurmOptions {
        texts: texts?,
        gpus_per_task: number("gpus_per_task", 0)?,
        cpus_per_task: number("cpus_per_task", 1)?,
        options,
    }))
}

/// The value of an option of `sbatch`, a text or a number.
fn option(node: &Node) -> Result<String> {
    let text = match node.value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if text.is_empty() || text.contains(char::is_control) {
        let found = describe(node.value);
        return Err(node.error(format!("got {found}, want a text, as sbatch takes it")));
    }
    Ok(text)
}

fn halving(node: &Node) -> Result<Halving> {
    let others = ["hyperband", "asha", "successive_halving"];
    if let Some(kind) = node.get("type") {
        let text = kind.value.as_str().unwrap_or_default();
        if others.contains(&text) {
            return Err(kind.error(format!(
                "got {text:?}, want halving: it compares all points of a rung, of which the best 1/eta go on; it takes \
                 min_iter, in steps, and eta"
            )));
        }
        word(&kind, &[("halving", ())])?;
    } else if node.value.is_mapping() {
        return Err(node.error("got no type, want type: halving"));
    }
    let hints = [
        (
            "max_iter",
            "points go on to the end of the run; want train.steps in the spec",
        ),
        ("s", "want min_iter, the steps of the first rung"),
        ("strict", "all points of a rung are compared anyway"),
        ("reduction_factor", "want eta"),
        ("grace_period", "want min_iter, in steps"),
    ];
    for (key, hint) in hints {
        if let Some(node) = node.get(key) {
            return Err(node.key_error(format!("unknown key of early_terminate: {hint}")));
        }
    }
    check_keys(node, &["type", "min_iter", "eta"], "early_terminate")?;
    Ok(Halving {
        min_iter: match node.get("min_iter") {
            Some(steps) => whole(&steps, 1, 1_000_000_000)?,
            None => {
                return Err(node.error("got no min_iter, want the steps of the first rung"));
            }
        },
        eta: match node.get("eta") {
            Some(eta) => whole(&eta, 2, 100)?,
            None => 3,
        },
    })
}

fn parameters(node: &Node, method: Method) -> Result<Vec<Parameter>> {
    let Some(entries) = node.entries() else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a mapping of fields to their values"
        )));
    };
    let mut found: Vec<Parameter> = Vec::new();
    for (name, node) in entries {
        let field = field(name, &node)?;
        if found.iter().any(|parameter| parameter.field == field.path) {
            return Err(node.key_error("got this field twice, want it once"));
        }
        found.push(Parameter {
            field: field.path.to_owned(),
            choice: choice(field, &node, method)?,
        });
    }
    Ok(found)
}

/// The field of this name, if it is one that may differ from point to point.
fn field(name: &str, node: &Node) -> Result<&'static Field> {
    let field = Field::find(name).map_err(|message| {
        // Nested as W&B's or as a spec.
        let inner = node.get("parameters").unwrap_or(node.clone());
        let entries = inner.entries().unwrap_or_default();
        let inside = entries.first().map(|(key, _)| format!("{name}.{key}"));
        match (
            inside.filter(|path| Field::find(path).is_ok()),
            meant_by(name),
        ) {
            (Some(path), _) => {
                node.key_error(format!("fields have dotted names here, want {path}: ..."))
            }
            (None, [usual]) => node.key_error(format!("unknown field, want {usual}")),
            (None, _) => node.key_error(message),
        }
    })?;
    match sweep_refusal(field.path) {
        Some(refusal) => Err(node.key_error(refusal)),
        None => Ok(field),
    }
}

fn choice(field: &'static Field, node: &Node, method: Method) -> Result<Choice> {
    match node.value {
        Value::Mapping(_) => (),
        // One value of a field that holds a list, or several of another.
        Value::Sequence(items) if field.is_list() && !items.iter().all(Value::is_sequence) => {
            return Ok(Choice::Values(vec![checked(field, node)?]));
        }
        Value::Sequence(_) => return Ok(Choice::Values(list(field, node)?)),
        _ => return Ok(Choice::Values(scalar(field, node)?)),
    }
    if let Some(values) = node.get("values") {
        for key in ["distribution", "probabilities", "value"] {
            if let Some(other) = node.get(key) {
                let shown: Vec<String> = values
                    .items()
                    .unwrap_or_default()
                    .iter()
                    .map(|item| describe(item.value))
                    .collect();
                let shown = match shown.len() {
                    1..=8 => shown.join(", "),
                    _ => "...".to_owned(),
                };
                return Err(other.key_error(format!(
                    "want {{values: [{shown}]}} alone, of which each has the same chance"
                )));
            }
        }
        check_keys(node, &["values"], "a parameter with values")?;
        return Ok(Choice::Values(list(field, &values)?));
    }
    if let Some(value) = node.get("value") {
        check_keys(node, &["value"], "a parameter with one value")?;
        return Ok(Choice::Values(vec![checked(field, &value)?]));
    }
    // First: the other keys are those of this distribution.
    if let Some(kind) = node.get("distribution") {
        let text = kind.value.as_str().unwrap_or_default();
        if let Some(hint) = hints::distribution(text) {
            return Err(kind.error(format!("got {text:?}: {hint}")));
        }
    }
    for key in ["mu", "sigma"] {
        if let Some(other) = node.get(key) {
            return Err(other.key_error("want min and max, the bounds of the values"));
        }
    }
    let known = ["values", "value", "distribution", "min", "max", "q"];
    check_keys(node, &known, "a parameter")?;
    let distribution = distribution(field, node)?;
    match method {
        Method::Random { .. } => Ok(Choice::Distribution(distribution)),
        _ => Err(node.error(format!(
            "got a distribution with method {}, want a list of values, or method: random with runs: NUMBER (--set \
             sweep.method=random --set sweep.runs=NUMBER)",
            method.name()
        ))),
    }
}

fn distribution(field: &'static Field, node: &Node) -> Result<Distribution> {
    let Some(numbers) = field.numbers() else {
        return Err(node.error("got bounds for a field that holds no number, want values: [...]"));
    };
    let kind = match node.get("distribution") {
        Some(kind) => word(&kind, &DISTRIBUTIONS.map(|name| (name, name)))?,
        None if node.get("q").is_some() => "q_uniform",
        None if numbers == Numbers::Whole => "int_uniform",
        None => "uniform",
    };
    if let Some(q) = node.get("q").filter(|_| kind != "q_uniform") {
        return Err(q.key_error(format!("no effect with {kind}, want q_uniform")));
    }
    let bound = |key: &str| match node.get(key) {
        Some(bound) => Ok((number(&bound)?, bound)),
        None => Err(node.error(format!("got no {key}, want min and max, or values: [...]"))),
    };
    let ((min, low), (max, high)) = (bound("min")?, bound("max")?);
    if min >= max {
        return Err(low.error(format!("got min {min} with max {max}, want min < max")));
    }
    if kind != "int_uniform" && kind != "q_uniform" && numbers == Numbers::Whole {
        return Err(node.error(format!(
            "got {kind} for a field of whole numbers, want int_uniform, q_uniform or values: [...]"
        )));
    }
    let (found, [first, last]) = match kind {
        "uniform" => (Distribution::Uniform { min, max }, [value(min), value(max)]),
        "log_uniform_values" => {
            if min <= 0.0 {
                let message = format!("got {min}, which has no logarithm, want min above 0");
                return Err(low.error(message));
            }
            let found = Distribution::LogUniformValues { min, max };
            (found, [value(min), value(max)])
        }
        "int_uniform" => {
            let (min, max) = (whole(&low, 0, u64::MAX)?, whole(&high, 0, u64::MAX)?);
            // One of them is odd, the other even.
            for next in [min, min + 1] {
                let checked = field.check(next.into());
                checked.map_err(|message| {
                    node.error(format!(
                        "{message}; of these int_uniform draws all, q_uniform the multiples of q, values what is listed"
                    ))
                })?;
            }
            let found = Distribution::IntUniform { min, max };
            (found, [min.into(), max.into()])
        }
        _ => {
            let q = quantum(node, numbers)?;
            let [first, last] = multiples(min, max, q);
            if first >= last {
                return Err(node.error(format!(
                    "got q {q} with min {min} and max {max}, want at least two multiples of q between them"
                )));
            }
            let ends = [multiple(first, q), multiple(last, q)];
            (Distribution::QUniform { min, max, q }, ends)
        }
    };
    for (end, node) in [(first, low), (last, high)] {
        let checked = field.check(end);
        checked.map_err(|message| node.error(message))?;
    }
    Ok(found)
}

fn quantum(node: &Node, numbers: Numbers) -> Result<f64> {
    let Some(node) = node.get("q") else {
        return Ok(1.0);
    };
    let q = number(&node)?;
    match numbers {
        Numbers::Whole if q < 1.0 || q.fract() != 0.0 => {
            Err(node.error(format!("got {q}, want a whole number above 0")))
        }
        _ if q <= 0.0 => Err(node.error(format!("got {q}, want a number above 0"))),
        _ => Ok(q),
    }
}

fn list(field: &'static Field, node: &Node) -> Result<Vec<Value>> {
    let Some(items) = node.items() else {
        let found = describe(node.value);
        return Err(node.error(format!("got {found}, want a list of values")));
    };
    if items.is_empty() {
        return Err(node.error("got an empty list, want one value at least"));
    }
    let values: Result<Vec<Vec<Value>>> = items.iter().map(|item| scalar(field, item)).collect();
    Ok(values?.concat())
}

/// One value, or the whole numbers of a range.
fn scalar(field: &'static Field, node: &Node) -> Result<Vec<Value>> {
    match (field.numbers(), node.value.as_str().and_then(range)) {
        (Some(Numbers::Whole), Some((first, last))) => {
            let checked = |number: u64| field.check(number.into());
            let values: Result<Vec<Value>, String> =
                numbers(node, first, last)?.map(checked).collect();
            values.map_err(|message| node.error(message))
        }
        _ => Ok(vec![checked(field, node)?]),
    }
}

fn checked(field: &'static Field, node: &Node) -> Result<Value> {
    let value = match (field.numbers(), whole_number(node.value)) {
        (Some(Numbers::Whole), Some(number)) => number.into(),
        _ => node.value.clone(),
    };
    field.check(value).map_err(|message| {
        let hint = match node.value.as_str().and_then(hints::text) {
            Some(hint) => format!("; {hint}"),
            None if field.numbers().is_some() => hints::unquoted(node),
            None => String::new(),
        };
        node.error(format!("{message}{hint}"))
    })
}

/// The ends of `1..3`.
fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once("..")?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// The numbers of a range, to which both ends belong.
fn numbers(node: &Node, first: u64, last: u64) -> Result<RangeInclusive<u64>> {
    if first > last {
        return Err(node.error(format!(
            "got {first}..{last}, want the lower end first: {last}..{first}"
        )));
    }
    match last - first < MAX_POINTS as u64 {
        true => Ok(first..=last),
        false => Err(node.error(format!(
            "got {first}..{last}, want at most {MAX_POINTS} numbers"
        ))),
    }
}

fn cases(node: &Node, method: Method, others: &[Parameter]) -> Result<Vec<Case>> {
    let Some(items) = node.items().filter(|items| !items.is_empty()) else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a list of mappings of fields to values, one at least"
        )));
    };
    let mut cases = Vec::new();
    for item in items {
        let case = parameters(&item, method)?;
        let mut fields = case.iter().map(|parameter| &parameter.field);
        if let Some(both) = fields.find(|field| others.iter().any(|it| it.field == **field)) {
            let message = "got it in parameters as well, want it once";
            return Err(item.error_at(both, message));
        }
        if method == Method::Points
            && let Some(many) = case.iter().find(|it| it.constant().is_none())
        {
            return Err(item.error_at(&many.field, "got several values, want one a point"));
        }
        cases.push(case);
    }
    Ok(cases)
}

fn devices(node: &Node) -> Result<Vec<String>> {
    let Some(items) = node.items().filter(|items| !items.is_empty()) else {
        let found = describe(node.value);
        return Err(node.error(format!(
            "got {found}, want a list of devices, such as [cuda:0, cuda:1]"
        )));
    };
    let mut devices = Vec::new();
    for item in items {
        let text = item.value.as_str().unwrap_or_default();
        let device = match text.parse() {
            Ok(DeviceName::Cpu) => text.to_owned(),
            Ok(DeviceName::Gpu(index)) => format!("cuda:{index}"),
            Ok(DeviceName::Auto) | Err(_) => {
                let found = describe(item.value);
                return Err(item.error(format!("got {found}, want cpu or cuda:N")));
            }
        };
        if devices.contains(&device) {
            return Err(item.error(format!(
                "got {device} twice, want it once: it is given to one run at a time"
            )));
        }
        devices.push(device);
    }
    Ok(devices)
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
                "got {count} seeds from the spec's {first} on, want them below 2^64"
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

/// Refuse other keys than these.
fn check_keys(node: &Node, known: &[&str], what: &str) -> Result<()> {
    let Some(entries) = node.entries() else {
        let found = describe(node.value);
        let known = known.join(", ");
        return Err(node.error(format!("got {found}, want a mapping of {known}")));
    };
    for (key, inside) in entries {
        if known.contains(&key) {
            continue;
        }
        let message = match hints::key(key) {
            Some(hint) => hint.to_owned(),
            None if what == "a sweep" && Field::find(key).is_ok() => {
                format!("want it in parameters: {{{key}: ...}}")
            }
            None => {
                let near = nearest(key, known.iter().copied());
                format!("want one of {}{}", known.join(", "), did_you_mean(near))
            }
        };
        return Err(inside.key_error(format!("unknown key of {what}: {message}")));
    }
    Ok(())
}

fn whole(node: &Node, low: u64, high: u64) -> Result<u64> {
    let number = whole_number(node.value);
    let number = number.filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| {
        let (found, hint) = (describe(node.value), hints::unquoted(node));
        node.error(format!(
            "got {found}, want a whole number from {low} to {high}{hint}"
        ))
    })
}

/// A whole number, also one that is written as 3e6.
fn whole_number(value: &Value) -> Option<u64> {
    const EXACT: f64 = (1_u64 << 53) as f64; // up to which each whole number is an f64
    let float = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (0.0..=EXACT).contains(number));
    value.as_u64().or(float.map(|number| number as u64))
}

fn number(node: &Node) -> Result<f64> {
    let number = node.value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| {
        let (found, hint) = (describe(node.value), hints::unquoted(node));
        node.error(format!("got {found}, want a number{hint}"))
    })
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
