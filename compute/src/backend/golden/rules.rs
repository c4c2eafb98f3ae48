//! The update rules against PyTorch's and Keller Jordan's, and the smoothed cross-entropy against PyTorch's.

use super::{Comparisons, OPTIMIZER, OPTIMIZER_CASES, native as native_device};
use crate::backend::cpu::cross_entropy;
use crate::backend::{DeviceLosses, Optimizer, native, to_host};
use crate::model::Network;
use anyhow::{Context, Result};
use runboard::checkpoint::{NamedTensor, WEIGHTS};
use runboard::reference::Golden;
use runboard::schedule::StepRates;
use runboard::spec::{self, OptimizerName, Spec};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tch::Tensor;

const STEPS: u64 = 20;

/// The rows of logits are longer than there are classes, as the kernels have them.
const PADDING: usize = 6;

impl Comparisons {
    /// Weights after twenty steps of every rule and option.
    pub fn rules(&mut self) -> Result<()> {
        let golden = Golden::parse(OPTIMIZER)?;
        let cases: BTreeMap<String, Map<String, Value>> = serde_json::from_str(OPTIMIZER_CASES)?;
        let device = native_device(&self.device)?;
        let like = self.small_network();
        let of = |directory: &str| parameters(&golden, directory, &like);
        let (initial, target, curvature) = (of("initial")?, of("target")?, of("curvature")?);
        let scalar = |value: f32| Tensor::from(value).f_to_device(device);
        let loss = DeviceLosses::new(scalar(1.0)?, scalar(0.0)?, vec![])?;
        for (name, case) in &cases {
            let (spec, l2) = settings(case)?;
            let tolerance = match spec.optimizer.name {
                OptimizerName::Muon => self.tolerances.products,
                _ => self.tolerances.updates,
            };
            let network = like.clone().with_tensors(&initial)?;
            let mut optimizer = Optimizer::new(&spec, &network)?;
            for step in 0..STEPS {
                let weights = optimizer.network().named();
                let gradient = gradient(&weights, &target, &curvature, l2);
                let gradient = like.clone().with_tensors(&gradient)?;
                let rates = StepRates {
                    learning_rate: spec.optimizer.learning_rate * (1.0 - step as f64 / 40.0),
                    average_decay: None,
                };
                optimizer.step(step, &gradient, &loss, rates)?;
                if ![1, 2, 5, STEPS].contains(&(step + 1)) {
                    continue;
                }
                // As a resumed run would go on.
                let state = optimizer.state();
                for parameter in &state[WEIGHTS] {
                    let what = format!("{name}/{}/{}", step + 1, parameter.name);
                    let want = &golden.get(&what)?.values;
                    self.add(format!("rules/{what}"), &parameter.values, want, tolerance);
                }
                optimizer = Optimizer::restore(&spec, &like, &state)?;
            }
        }
        Ok(())
    }

    /// Of the golden file's shapes.
    fn small_network(&self) -> Network {
        let mut spec = Spec::default().network;
        (spec.conv1.channels, spec.conv1.kernel) = (4, 3);
        (spec.conv2.channels, spec.conv2.kernel) = (6, 3);
        (spec.local3.units, spec.local4.units) = (8, 12);
        Network::init(&spec, 5, spec::Seed(1), &self.device)
    }

    /// The cross-entropy with label smoothing and its gradient: libtorch's, and on the CPU the kernels'.
    pub fn smoothing(&mut self) -> Result<()> {
        const LOSS: f64 = 1e-6;
        const GRADIENT: f64 = 1e-4;
        let golden = Golden::parse(OPTIMIZER)?;
        let device = native_device(&self.device)?;
        let logits = golden.get("smoothing/logits")?;
        let labels = golden.get("smoothing/labels")?.values.iter();
        let labels: Vec<i64> = labels.map(|&label| label as i64).collect();
        let (n, classes) = (labels.len(), logits.shape[1]);
        for (name, smoothing) in [("0.0", 0.0), ("0.1", 0.1), ("0.25", 0.25)] {
            let want = |what: &str| golden.get(&format!("smoothing/{name}/{what}"));
            let (want_loss, want_gradient) = (&want("loss")?.values, &want("gradient")?.values);
            if device == tch::Device::Cpu {
                let mut rows = Vec::new();
                for row in logits.floats().chunks_exact(classes) {
                    rows.extend_from_slice(row);
                    rows.extend([7.0; PADDING]);
                }
                let own = (&labels[..]).into();
                let (loss, _) =
                    cross_entropy(&mut rows, classes + PADDING, classes, own, smoothing)?;
                let gradient = rows.chunks_exact(classes + PADDING);
                let gradient: Vec<f32> =
                    gradient.flat_map(|row| &row[..classes]).copied().collect();
                self.add(format!("smoothing/{name}/loss"), &[loss], want_loss, LOSS);
                let what = format!("smoothing/{name}/gradient");
                self.add(what, &gradient, want_gradient, GRADIENT);
            }
            let logits = Tensor::f_from_slice(&logits.floats())?.f_view([n as i64, -1])?;
            let logits = logits.f_to_device(device)?.f_set_requires_grad(true)?;
            let labels = Tensor::f_from_slice(&labels)?.f_to_device(device)?;
            let loss = native::cross_entropy(&logits, &labels, smoothing)?;
            let gradient = &Tensor::f_run_backward(&[&loss], &[&logits], false, false)?[0];
            let what = format!("libtorch-smoothing/{name}/loss");
            self.add(what, &to_host(&loss.f_detach()?)?, want_loss, LOSS);
            let what = format!("libtorch-smoothing/{name}/gradient");
            self.add(what, &to_host(gradient)?, want_gradient, GRADIENT);
        }
        Ok(())
    }
}

/// The parameters below a directory of the golden file, in the network's order.
fn parameters(golden: &Golden, directory: &str, like: &Network) -> Result<Vec<NamedTensor>> {
    let mut named = like.named();
    for parameter in &mut named {
        let want = golden.get(&format!("{directory}/{}", parameter.name))?;
        parameter.shape.clone_from(&want.shape); // another one is refused where it is used
        parameter.values = want.floats();
    }
    Ok(named)
}

/// The optimizer of a case, defaults where it says nothing, and the layers' own weight decay.
fn settings(case: &Map<String, Value>) -> Result<(Spec, f32)> {
    let mut fields = serde_json::to_value(spec::Optimizer::default())?;
    let mut l2 = 0.0;
    for (field, value) in case {
        match field.as_str() {
            "l2" => l2 = value.as_f64().context("l2 is no number")? as f32,
            field => fields[field] = value.clone(),
        }
    }
    let spec = Spec {
        optimizer: serde_json::from_value(fields)?,
        ..Spec::default()
    };
    Ok((spec, l2))
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
