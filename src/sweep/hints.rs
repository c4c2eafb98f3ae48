//! What users of other programs write, and what to write here.

use crate::spec::Node;
use serde_yaml::Value;

/// Keys of a sweep in other programs.
const KEYS: &[(&str, &str)] = &[
    ("run_cap", "want runs: NUMBER, of method random"),
    ("count", "want runs: NUMBER, of method random"),
    ("n_trials", "want runs: NUMBER, of method random"),
    ("num_samples", "want runs: NUMBER, of method random"),
    ("params", "want parameters"),
    ("space", "want parameters"),
    ("parameter", "want parameters"),
    ("early_stopping", "want early_terminate"),
    ("n_jobs", "want parallel: NUMBER"),
    ("max_concurrent", "want parallel: NUMBER"),
    ("agents", "want parallel: NUMBER"),
    ("gpus", "want devices: [cuda:0, cuda:1]"),
    ("device", "want devices: [cuda:0, cuda:1]"),
    ("on_error", "want on_failure: continue or stop"),
    (
        "program",
        "runboard is the program, which needs no name here",
    ),
    (
        "command",
        "what a point runs is the experiment; values are set by parameters",
    ),
    (
        "project",
        "runs are in runs/NAME/, where NAME is that of this file",
    ),
    ("entity", "nothing is sent anywhere; it has no meaning here"),
    (
        "controller",
        "the sweep is run by `runboard run` itself; it has no meaning here",
    ),
    ("name", "a sweep is called as its file is"),
    (
        "description",
        "want description at the top level of the file",
    ),
    (
        "direction",
        "want metric: {name: ..., goal: maximize or minimize}",
    ),
    (
        "goal",
        "want metric: {name: ..., goal: maximize or minimize}",
    ),
];

/// Methods and types of early termination in other programs.
const METHODS: &[(&str, &str)] = &[
    (
        "bayes",
        "there is no such search here; want random, and early_terminate to spend less on bad points",
    ),
    (
        "tpe",
        "there is no such search here; want random, and early_terminate to spend less on bad points",
    ),
    (
        "hyperband",
        "want early_terminate: {type: halving, min_iter: STEPS, eta: 3} with method random",
    ),
    ("list", "want points"),
    ("custom", "want points, with a list of them in points"),
];

/// Distributions of other programs, and what they need there.
const DISTRIBUTIONS: &[(&str, &str)] = &[
    (
        "log_uniform",
        "there min and max are exponents; want log_uniform_values, with the bounds themselves",
    ),
    ("loguniform", "want log_uniform_values"),
    ("inv_log_uniform_values", "want log_uniform_values"),
    (
        "inv_log_uniform",
        "want log_uniform_values, with the bounds themselves",
    ),
    (
        "q_log_uniform_values",
        "want values: [...], the multiples to choose from",
    ),
    (
        "q_log_uniform",
        "want values: [...], the multiples to choose from",
    ),
    ("categorical", "want values: [...] alone"),
    ("choice", "want values: [...] alone"),
    ("constant", "want value: ... alone"),
    ("quniform", "want q_uniform"),
    ("int", "want int_uniform"),
    ("randint", "want int_uniform"),
    ("float", "want uniform"),
    (
        "normal",
        "want uniform with min and max, which cannot leave the field's range",
    ),
    (
        "q_normal",
        "want q_uniform with min and max, which cannot leave the field's range",
    ),
    ("log_normal", "want log_uniform_values with min and max"),
    ("beta", "want uniform with min and max"),
];

fn find(table: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    let found = table.iter().find(|(theirs, _)| *theirs == key);
    found.map(|(_, ours)| *ours)
}

/// Of an unknown key of a sweep.
pub(super) fn key(key: &str) -> Option<&'static str> {
    find(KEYS, key)
}

/// Of an unknown method.
pub(super) fn method(name: &str) -> Option<&'static str> {
    find(METHODS, name)
}

/// Of an unknown distribution.
pub(super) fn distribution(name: &str) -> Option<&'static str> {
    find(DISTRIBUTIONS, name)
}

/// What of runboard's does what this text does in Hydra or Optuna: `choice(a,b)`, `range(a,b)`, `interval(a,b)`,
/// `tag(log, interval(a,b))`, `uniform(a,b)`, `loguniform(a,b)`, or values with commas between them.
pub(super) fn text(text: &str) -> Option<String> {
    let call = |text: &str| -> Option<(String, String)> {
        let (name, arguments) = text.trim().strip_suffix(')')?.split_once('(')?;
        Some((name.trim().to_owned(), arguments.trim().to_owned()))
    };
    let Some((name, arguments)) = call(text) else {
        return text
            .contains(',')
            .then(|| format!("want [{}]", text.trim()));
    };
    let list: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let random = |distribution: &str, min: &str, max: &str| {
        let (min, max) = (min.trim(), max.trim());
        format!("want {{distribution: {distribution}, min: {min}, max: {max}}} with method random")
    };
    match (name.as_str(), &list[..]) {
        ("choice" | "shuffle" | "sort", _) => Some(format!("want [{}]", list.join(", "))),
        ("range", [..]) => {
            let ends: Option<Vec<f64>> = list.iter().map(|it| it.parse().ok()).collect();
            let (first, last, step) = match *ends.as_deref()? {
                [last] => (0.0, last, 1.0),
                [first, last] => (first, last, 1.0),
                [first, last, step] => (first, last, step),
                _ => return Some("want a list of the values".to_owned()),
            };
            // Rounded, so that 0.1 + 2 * 0.1 is 0.3.
            let rounded = |value: f64| (value * 1e9).round() / 1e9;
            let values = (0..13).map(|index| rounded(first + f64::from(index) * step));
            let values = values.take_while(|value| *value < last);
            let values: Vec<String> = values.map(|value| value.to_string()).collect();
            match values.len() {
                0 | 13.. => Some("want a list of the values".to_owned()),
                _ => Some(format!("want [{}]", values.join(", "))),
            }
        }
        ("log" | "loguniform" | "log_uniform", [min, max]) => {
            Some(random("log_uniform_values", min, max))
        }
        ("uniform" | "interval", [min, max]) => Some(format!(
            "want {{min: {min}, max: {max}}} with method random"
        )),
        ("tag", ["log", ..]) => {
            let (_, inner) = arguments.split_once(',')?;
            let (_, bounds) = call(inner)?;
            let (min, max) = bounds.split_once(',')?;
            Some(random("log_uniform_values", min, max))
        }
        ("int", _) => {
            let (_, bounds) = call(&arguments)?;
            let (min, max) = bounds.split_once(',')?;
            Some(random("int_uniform", min, max))
        }
        ("glob", _) => Some("want the values themselves in a list".to_owned()),
        _ => None,
    }
}

/// What a quoted number is without quotes, to follow a message that wants a number.
pub(super) fn unquoted(node: &Node) -> String {
    match node.value {
        Value::String(text) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
            format!("; without quotes {} is one", text.trim())
        }
        _ => String::new(),
    }
}
