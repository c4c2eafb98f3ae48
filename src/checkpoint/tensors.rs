//! What a checkpoint carries without knowing it: named tensors on the host, in groups.

use crate::spec::Spec;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// A parameter's value on the host. `name` is `layer/weights` or `layer/biases`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Tensors in groups, such as "weights", "ema", or what an optimizer remembers: a checkpoint keeps a file for each.
pub type TensorGroups = BTreeMap<String, Vec<NamedTensor>>;

/// The group of the weights after a step.
pub const WEIGHTS: &str = "weights";

/// The group of the weights' moving average.
pub const EMA: &str = "ema";

/// The group of lookahead's average, which the weights begin anew from at each of its updates.
pub const LOOKAHEAD: &str = "lookahead";

/// The group that is evaluated: the averaged weights, or the weights themselves where a checkpoint has no others.
pub fn averaged(groups: &TensorGroups) -> &'static str {
    let averages = [EMA, LOOKAHEAD].into_iter();
    let mut there = averages.filter(|group| groups.contains_key(*group));
    there.next().unwrap_or(WEIGHTS)
}

/// The first parameter of the network of `spec` that these weights have not, or of another shape: `conv1/weights: got shape [..],
/// want [..]`; none if they are all there.
pub fn misfit(weights: &[NamedTensor], spec: &Spec) -> Option<String> {
    let parameters = spec.network.parameter_shapes(spec.input.crop);
    parameters.into_iter().find_map(|(name, want)| {
        let found = weights.iter().find(|tensor| tensor.name == name);
        if found.is_some_and(|it| it.shape == want) {
            return None;
        }
        let found = found.map_or("nothing".to_owned(), |it| format!("{:?}", it.shape));
        Some(format!("{name}: got shape {found}, want {want:?}"))
    })
}

/// The tensors of the group `name`.
///
/// # Errors
/// If there is no such group.
pub fn group<'a>(groups: &'a TensorGroups, name: &str) -> Result<&'a [NamedTensor]> {
    let tensors = groups.get(name).with_context(|| {
        let found: Vec<&str> = groups.keys().map(String::as_str).collect();
        format!(
            "got the tensors of {}, want those of {name}",
            found.join(", ")
        )
    })?;
    Ok(tensors)
}
