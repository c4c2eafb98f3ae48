//! The JSON Schema beside the check: what the check accepts the schema accepts, so what the schema refuses the check
//! refuses too.

use super::*;
use crate::testing::fuzz::pick;
use serde_json::{Value, json};
use std::process::Command;

/// Says which of the cases in the file `argv[2]` the schema in the file `argv[1]` accepts.
const VALIDATE: &str = "
import json, jsonschema, sys
schema, cases = (json.load(open(path)) for path in sys.argv[1:])
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
print(json.dumps([validator.is_valid(case) for case in cases]))";

/// The Python of `make test`, which has the validator.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv-tensorboard/bin/python");
    let imported = Command::new(&python)
        .args(["-c", "import jsonschema"])
        .output();
    imported.ok()?.status.success().then_some(python)
}

/// Values at the ends of the field's range and beyond, and of all kinds.
fn values(field: &fields::Field) -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!("x"),
        json!(""),
        json!("a\nb"),
        json!("caf\u{e9}"),
        json!("../x"),
        json!("a".repeat(101)),
        json!([]),
        json!({}),
        json!({"x": 1}),
    ];
    values.extend((-1..20).map(|number| json!(number)));
    values.extend([0.5, 1.5, 1e-9, 0.99, 0.9999, -1e-9].map(|number| json!(number)));
    let words = [
        "auto", "cpu", "cuda", "cuda:0", "cuda:127", "cuda:128", "cuda:007", "cuda:", "CPU",
    ];
    values.extend(words.map(|word| json!(word)));
    // The words and numbers that the rule names.
    for word in field.rule.to_string().split([' ', ',']) {
        match word.parse::<i128>() {
            Ok(bound) => {
                let near = [-5, -1, 0, 1, 5].map(|by| u64::try_from(bound + by));
                values.extend(near.into_iter().flatten().map(|number| json!(number)));
            }
            Err(_) => values.push(json!(word)),
        }
        // A whole number that is written as 5.0 is an integer for a schema, but not for the check.
        if let Ok(bound) = word.parse::<f64>() {
            let near = [bound - 1e-3, bound, bound + 1e-3].into_iter();
            values.extend(near.filter(|it| it.fract() != 0.0).map(|it| json!(it)));
        }
    }
    values
}

fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.')
        .fold(value, |value, key| json!({key: value}))
}

fn cases() -> Vec<Value> {
    let mut cases = vec![json!(null), json!({}), json!([]), json!("x"), json!(1)];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for field in fields::all() {
        cases.extend(
            values(field)
                .into_iter()
                .map(|value| nested(field.path, value)),
        );
        cases.push(nested(&format!("{}x", field.path), json!(1)));
        cases.push(nested(&format!("{}.x", field.path), json!(1)));
        // Beside a field of another section.
        let other = pick(&mut rng, &["seed", "description", "fidelity"]);
        let mut both = nested(field.path, pick(&mut rng, &values(field)));
        both[other] = pick(&mut rng, &[json!(1), json!("exact"), json!(-1)]);
        cases.push(both);
    }
    cases
}

#[test]
fn schema_accepts_what_the_check_accepts() {
    let Some(python) = python() else {
        return eprintln!(
            "skipped: no jsonschema in .venv-tensorboard, which `make test` installs"
        );
    };
    let directory = Directory::new(&[("x.yaml", b"")]);
    let cases = cases();
    let accepted: Vec<bool> = (cases.iter())
        .map(|case| {
            let text = match case {
                Value::Null => String::new(),
                case => case.to_string(),
            };
            fs::write(directory.path("case.yaml"), text).unwrap();
            directory.load("case", &[]).is_ok()
        })
        .collect();
    fs::write(directory.path("schema.json"), schema().unwrap()).unwrap();
    fs::write(directory.path("cases.json"), json!(cases).to_string()).unwrap();
    let output = Command::new(python)
        .args(["-c", VALIDATE])
        .args(["schema.json", "cases.json"].map(|name| directory.path(name)))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let valid: Vec<bool> = serde_json::from_slice(&output.stdout).expect(&errors);
    assert_eq!(valid.len(), cases.len());
    let mut refused = 0;
    for ((case, accepted), valid) in cases.iter().zip(accepted).zip(valid) {
        assert!(valid || !accepted, "the schema refuses {case}");
        // All but bounds that another field sets.
        let loose = accepted || violates_a_constraint(case);
        assert!(loose || !valid, "the schema accepts {case}");
        refused += usize::from(!valid);
    }
    assert!(refused > cases.len() / 4, "{refused} of {}", cases.len());
}

#[test]
fn schema_accepts_sweeps_and_refuses_what_is_none() {
    let Some(python) = python() else {
        return eprintln!(
            "skipped: no jsonschema in .venv-tensorboard, which `make test` installs"
        );
    };
    let good = [
        "seeds: 3",
        "seeds: [1, 4..5]\n  parallel: 2\n  devices: [cpu, cuda:0]",
        "parameters: {optimizer.learning_rate: [0.1, 1], train.batch_size: 1..3, input.flip: {values: [true]}}",
        "parameters: {optimizer.betas: [[0.9, 0.99]], optimizer.momentum: 0.9, input.standardize: {value: true}}",
        "method: random\n  runs: 3\n  seed: 2\n  parameters: {optimizer.momentum: {min: 0, max: 0.5}}",
        "method: points\n  points: [{train.steps: 5}]\n  metric: {name: loss, goal: minimize, of: last}",
        "seeds: 3\n  launcher: {slurm: {partition: gpu, time: 30, gpus_per_task: 1, options: [--exclusive]}}",
        "seeds: 3\n  launcher: slurm",
        "cases: [{input.pad: 4}, {}]\n  on_failure: stop\n  target: 0.5\n  early_terminate: {type: halving, min_iter: 5}",
    ];
    let none = [
        "seeds: 0",
        "parameter: {}",
        "parameters: {seed: [1]}",
        "parameters: {lr: [1]}",
        "parameters: {train.steps: []}",
        "parameters: {train.steps: [0]}",
        "parameters: {optimizer.momentum: {distribution: normal}}",
        "method: bayes",
        "metric: {name: f1}",
        "devices: [gpu]",
        "launcher: pbs",
        "launcher: {slurm: {options: [x]}}",
        "early_terminate: {type: hyperband, min_iter: 5}",
    ];
    let mut cases: Vec<Value> = good
        .iter()
        .chain(&none)
        .map(|text| serde_yaml::from_str(&format!("sweep:\n  {text}\n")).unwrap())
        .collect();
    for name in available(&shipped()).unwrap() {
        let text = fs::read_to_string(shipped().join(format!("{name}.yaml"))).unwrap();
        cases.push(serde_yaml::from_str(&text).unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let files = ["schema.json", "cases.json"].map(|name| directory.path().join(name));
    fs::write(&files[0], schema().unwrap()).unwrap();
    fs::write(&files[1], json!(cases).to_string()).unwrap();
    let output = Command::new(python)
        .args(["-c", VALIDATE])
        .args(&files)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let valid: Vec<bool> = serde_json::from_slice(&output.stdout).expect(&errors);
    for (index, (case, valid)) in cases.iter().zip(valid).enumerate() {
        let is_none = (good.len()..good.len() + none.len()).contains(&index);
        assert_eq!(valid, !is_none, "{case}");
    }
}

/// Whether the fields of a case are each in range, but not together.
fn violates_a_constraint(case: &Value) -> bool {
    let message = bad(&case.to_string());
    [
        "got lower ",
        "got crop ",
        "got pad ",
        "got cutout ",
        "got cutmix ",
        "got ten_crop ",
        " validation images of ",
        ": no effect with ",
        "got a network ",
        " images a batch",
        "no experiment",
        "cyclic",
        "got no knots",
    ]
    .iter()
    .any(|constraint| message.contains(constraint))
}
