//! The update rules against PyTorch's and Keller Jordan's (`tests/reference/make_torch_golden.py`).

use super::cpu::cross_entropy;
use super::{DeviceLosses, Optimizer, native};
use crate::model::Network;
use crate::testing::golden::{Golden, assert_close, path};
use burn::tensor::Device;
use runboard::checkpoint::{NamedTensor, WEIGHTS};
use runboard::schedule::StepRates;
use runboard::spec::{self, Spec};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Relative to the largest value of a parameter, after 20 steps.
const BOUND: f64 = 1e-5;
const STEPS: u64 = 20;

/// The parameters below a directory of the golden file, in the network's order.
fn parameters(golden: &Golden, directory: &str, like: &Network) -> Vec<NamedTensor> {
    let mut named = like.named();
    for parameter in &mut named {
        let want = golden.get(&format!("{directory}/{}", parameter.name));
        assert_eq!(want.shape, parameter.shape, "{}", parameter.name);
        parameter.values = want.floats();
    }
    named
}

/// A network of the golden file's shapes.
fn network() -> Network {
    let mut spec = Spec::default().network;
    (spec.conv1.channels, spec.conv1.kernel) = (4, 3);
    (spec.conv2.channels, spec.conv2.kernel) = (6, 3);
    (spec.local3.units, spec.local4.units) = (8, 12);
    Network::init(&spec, 5, spec::Seed(1), &Device::libtorch())
}

/// The optimizer of a case, defaults where it says nothing, and the layers' own weight decay.
fn settings(case: &Map<String, Value>) -> (Spec, f32) {
    let mut fields = serde_json::to_value(spec::Optimizer::default()).unwrap();
    let mut l2 = 0.0;
    for (field, value) in case {
        match field.as_str() {
            "l2" => l2 = value.as_f64().unwrap() as f32,
            field => fields[field] = value.clone(),
        }
    }
    let spec = Spec {
        optimizer: serde_json::from_value(fields).unwrap(),
        ..Spec::default()
    };
    (spec, l2)
}

/// curvature * (w - target), and the layers' weight decay as `native` adds it.
fn gradient(
    weights: &[NamedTensor],
    target: &[NamedTensor],
    curvature: &[NamedTensor],
    l2: f32,
) -> Vec<NamedTensor> {
    let mut gradient = weights.to_vec();
    for (index, parameter) in gradient.iter_mut().enumerate() {
        let l2 = if parameter.name.ends_with("/weights") {
            l2
        } else {
            0.0
        };
        let (target, curvature) = (&target[index].values, &curvature[index].values);
        for (at, w) in parameter.values.iter_mut().enumerate() {
            *w = curvature[at] * (*w - target[at]) + l2 * *w;
        }
    }
    gradient
}

#[test]
fn weights_are_pytorchs_after_twenty_steps_of_every_rule_and_option() {
    let golden = Golden::read("optimizer");
    let text = std::fs::read_to_string(path("optimizer.json")).unwrap();
    let cases: BTreeMap<String, Map<String, Value>> = serde_json::from_str(&text).unwrap();
    let like = network();
    let of = |directory: &str| parameters(&golden, directory, &like);
    let (initial, target, curvature) = (of("initial"), of("target"), of("curvature"));
    let loss = DeviceLosses::new(tch::Tensor::from(1f32), tch::Tensor::from(0f32), vec![]).unwrap();
    let mut compared = 0;
    for (name, case) in &cases {
        let (spec, l2) = settings(case);
        let network = like.clone().with_tensors(&initial).unwrap();
        let mut optimizer = Optimizer::new(&spec, &network).unwrap();
        for step in 0..STEPS {
            let weights = optimizer.network().named();
            let gradient = gradient(&weights, &target, &curvature, l2);
            let gradient = like.clone().with_tensors(&gradient).unwrap();
            let rates = StepRates {
                learning_rate: spec.optimizer.learning_rate * (1.0 - step as f64 / 40.0),
                average_decay: None,
            };
            optimizer.step(step, &gradient, &loss, rates).unwrap();
            if ![1, 2, 5, 20].contains(&(step + 1)) {
                continue;
            }
            // As a resumed run would go on.
            let state = optimizer.state();
            for parameter in &state[WEIGHTS] {
                let what = format!("{name}/{}/{}", step + 1, parameter.name);
                let want = &golden.get(&what).values;
                assert_close(&what, &parameter.values, want, BOUND);
                compared += 1;
            }
            optimizer = Optimizer::restore(&spec, &like, &state).unwrap();
        }
    }
    assert_eq!(compared, cases.len() * 4 * 10);
}

#[test]
fn smoothed_cross_entropy_and_its_gradient_are_pytorchs() {
    let golden = Golden::read("optimizer");
    let (logits, labels) = (
        golden.get("smoothing/logits"),
        golden.get("smoothing/labels"),
    );
    let labels: Vec<i64> = labels.values.iter().map(|&label| label as i64).collect();
    let (n, classes) = (labels.len(), logits.shape[1]);
    for (name, smoothing) in [("0.0", 0.0), ("0.1", 0.1), ("0.25", 0.25)] {
        let want = |what: &str| &golden.get(&format!("smoothing/{name}/{what}")).values;
        // The kernels', with padding.
        let mut rows = Vec::new();
        for row in logits.floats().chunks_exact(classes) {
            rows.extend_from_slice(row);
            rows.extend([7.0; 6]);
        }
        let (loss, _) = cross_entropy(
            &mut rows,
            classes + 6,
            classes,
            (&labels[..]).into(),
            smoothing,
        )
        .unwrap();
        let gradient = rows
            .chunks_exact(classes + 6)
            .flat_map(|row| &row[..classes]);
        let gradient: Vec<f32> = gradient.copied().collect();
        assert_close(name, &[loss], want("loss"), 1e-6);
        assert_close(name, &gradient, want("gradient"), BOUND);
        // libtorch's.
        let logits = tch::Tensor::from_slice(&logits.floats()).view([n as i64, -1]);
        let logits = logits.set_requires_grad(true);
        let loss = native::cross_entropy(&logits, &tch::Tensor::from_slice(&labels), smoothing);
        let loss = loss.unwrap();
        let gradient = &tch::Tensor::run_backward(&[&loss], &[&logits], false, false)[0];
        assert_close(name, &[loss.double_value(&[]) as f32], want("loss"), 1e-6);
        let gradient = Vec::<f32>::try_from(gradient.flatten(0, -1)).unwrap();
        assert_close(name, &gradient, want("gradient"), BOUND);
    }
}
