//! The JSON Schema of an experiment's file, with which editors complete and check it.
//!
//! Draft 7, the newest that the YAML language server reads in all its versions. It refuses nothing that
//! [`load`](super::load()) accepts; what it cannot say, such as a bound that another field sets, is left to the check.

use super::fields::{self, Field};
use super::frozen;
use super::reference::defaults;
use super::rule::{Numbers, Rule};
use super::section::SWEEP;
use super::sweep_reference::{self, DISTRIBUTIONS, sweep_refusal};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Text without control characters, in the terms of regular expressions.
const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The schema as JSON, with a line break at its end: experiments/schema.json.
///
/// # Errors
/// None that a test does not show.
pub fn schema() -> Result<String> {
    let defaults = defaults()?;
    let mut schema = section("", &defaults)?;
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("experiment");
    schema["properties"][SWEEP] = sweep();
    schema["definitions"] = json!({
        "parameters": parameters(),
        "parameter": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "values": {"type": "array", "minItems": 1},
                "value": {},
                "distribution": {"enum": DISTRIBUTIONS},
                "min": {"type": "number"},
                "max": {"type": "number"},
                "q": {"type": "number", "exclusiveMinimum": 0},
            },
        },
    });
    // An empty file means all defaults.
    schema["type"] = json!(["object", "null"]);
    let text = serde_json::to_string_pretty(&schema).context("failed to write the schema")?;
    Ok(text + "\n")
}

fn section(path: &str, defaults: &serde_yaml::Value) -> Result<Value> {
    let mut properties = serde_json::Map::new();
    for key in fields::keys(path) {
        let inner = fields::join(path, key);
        let schema = match fields::field(&inner) {
            Some(field) => scalar(field, defaults)?,
            None => section(&inner, defaults)?,
        };
        for old in frozen::synonyms(&inner) {
            properties.insert(old.to_owned(), schema.clone());
        }
        properties.insert(key.to_owned(), schema);
    }
    let about = fields::sections()
        .iter()
        .find(|(section, _)| *section == path);
    Ok(json!({
        "type": "object",
        "title": path,
        "description": about.map(|(_, about)| about),
        "additionalProperties": false,
        "properties": properties,
    }))
}

/// The section of a sweep.
fn sweep() -> Value {
    let whole = |low: u64, high: u64| json!({"type": "integer", "minimum": low, "maximum": high});
    let seed = json!({"anyOf": [whole(0, u64::MAX), numbers()]});
    let list = |items: Value| json!({"type": "array", "minItems": 1, "items": items});
    let object = |properties: Value, required: &[&str]| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
            "required": required,
        })
    };
    let text = json!({"type": ["string", "number"]});
    let parameters = json!({"$ref": "#/definitions/parameters"});
    let mut properties = serde_json::Map::new();
    for entry in sweep_reference::ENTRIES {
        let mut schema = match entry.key {
            "method" => json!({"enum": ["grid", "random", "points"]}),
            "metric" => object(
                json!({
                    "name": {"enum": ["accuracy", "loss"]},
                    "goal": {"enum": ["maximize", "minimize"]},
                    "of": {"enum": ["best", "last"]},
                }),
                &[],
            ),
            "parameters" => json!({"allOf": [parameters]}),
            "cases" | "points" => list(parameters.clone()),
            "runs" => whole(1, 10_000),
            "seed" => whole(0, u64::MAX),
            "seeds" => json!({"anyOf": [whole(1, 10_000), numbers(), list(seed.clone())]}),
            "parallel" => whole(1, 1_024),
            "devices" => list(json!({"type": "string", "pattern": "^(cpu|cuda:[0-9]+)$"})),
            "launcher" => json!({"anyOf": [
                {"enum": ["local", "slurm"]},
                object(
                    json!({"slurm": object(
                        json!({
                            "partition": text, "account": text, "qos": text, "time": text, "mem": text,
                            "gpus_per_task": whole(0, 1_024),
                            "cpus_per_task": whole(1, 1_024),
                            "options": list(json!({"type": "string", "pattern": "^-"})),
                        }),
                        &[],
                    )}),
                    &["slurm"],
                ),
            ]}),
            "on_failure" => json!({"enum": ["continue", "stop"]}),
            "target" => json!({"type": "number"}),
            "early_terminate" => object(
                json!({
                    "type": {"enum": ["halving"]},
                    "min_iter": whole(1, 1_000_000_000),
                    "eta": whole(2, 100),
                }),
                &["type", "min_iter"],
            ),
            _ => json!({}),
        };
        schema["title"] = json!(entry.path());
        schema["description"] = json!(entry.meaning);
        properties.insert(entry.key.to_owned(), schema);
    }
    let mut schema = object(Value::Object(properties), &[]);
    schema["title"] = json!(SWEEP);
    schema["description"] = json!(sweep_reference::ABOUT);
    schema
}

/// Whole numbers as `1..3`.
fn numbers() -> Value {
    json!({"type": "string", "pattern": r"^ *[0-9]+ *\.\. *[0-9]+ *$"})
}

/// The fields that may differ between points, by their dotted paths, and what their values are chosen from.
fn parameters() -> Value {
    let mut properties = serde_json::Map::new();
    let fields = fields::all()
        .iter()
        .filter(|field| fields::is_in_spec(field.path) && sweep_refusal(field.path).is_none());
    for field in fields {
        let one = range(&field.rule);
        let mut of_list = vec![one.clone()];
        if field.numbers() == Some(Numbers::Whole) {
            of_list.push(numbers());
        }
        let mut any = of_list.clone();
        any.push(json!({"type": "array", "minItems": 1, "items": {"anyOf": of_list}}));
        any.push(json!({"$ref": "#/definitions/parameter"}));
        let schema = json!({"anyOf": any, "description": field.meaning});
        let section = field.path.rsplit_once('.').map_or("", |it| it.0);
        for old in frozen::synonyms(field.path) {
            properties.insert(fields::join(section, old), schema.clone());
        }
        properties.insert(field.path.to_owned(), schema);
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn scalar(field: &Field, defaults: &serde_yaml::Value) -> Result<Value> {
    let mut schema = range(&field.rule);
    schema["title"] = json!(field.path);
    schema["description"] = json!(field.meaning);
    if let Some(value) = fields::value(defaults, field.path) {
        schema["default"] = serde_json::to_value(value)
            .with_context(|| format!("failed to write the default of {}", field.path))?;
    }
    Ok(schema)
}

/// What a rule allows.
fn range(rule: &Rule) -> Value {
    match *rule {
        Rule::Bool => json!({"type": "boolean"}),
        Rule::Text => json!({"type": "string", "pattern": PRINTABLE}),
        Rule::Directory => json!({"type": "string", "pattern": PRINTABLE, "minLength": 1}),
        Rule::Device => json!({"anyOf": [
            {"enum": ["auto", "cpu", "cuda"]},
            {"type": "string", "pattern": "^cuda:0*([0-9]|[1-9][0-9]|1[01][0-9]|12[0-7])$"},
        ]}),
        Rule::Name => json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
            "maxLength": 100,
        }),
        Rule::Names => json!({"anyOf": [
            range(&Rule::Name),
            {"type": "array", "minItems": 1, "items": range(&Rule::Name)},
        ]}),
        Rule::OneOf(choices) => json!({"enum": choices}),
        Rule::Switch(choices) => json!({"anyOf": [{"enum": choices}, {"type": "boolean"}]}),
        Rule::Version(newest) => json!({"type": "integer", "minimum": 1, "maximum": newest}),
        Rule::Int(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Rule::Odd(low, high) => {
            let odd = (low..=high).filter(|number| number % 2 == 1);
            json!({"enum": odd.collect::<Vec<u64>>()})
        }
        Rule::MultipleOf(factor, low, high) => json!({
            "type": "integer",
            "multipleOf": factor,
            "minimum": low,
            "maximum": high,
        }),
        Rule::List(each, least, most) => json!({
            "type": "array",
            "items": range(each),
            "minItems": least,
            "maxItems": most,
        }),
        Rule::Within(low, high) => json!({"type": "number", "minimum": low, "maximum": high}),
        Rule::Above(low, high) => {
            json!({"type": "number", "exclusiveMinimum": low, "maximum": high})
        }
        Rule::Below(low, high) => {
            json!({"type": "number", "minimum": low, "exclusiveMaximum": high})
        }
    }
}
