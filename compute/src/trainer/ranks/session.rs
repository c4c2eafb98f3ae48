//! What rank 0 tells the others when training begins and when it ends.

use anyhow::{Error, Result};
use runboard::checkpoint::{NamedTensor, Rollback, TensorGroups};
use runboard::error;
use runboard::run::Completion;
use serde::{Deserialize, Serialize};

/// Which steps to train, and how.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// The first step to make.
    pub first: u64,
    /// The first one not to make.
    pub end: u64,
    /// Those of the run, which lowered the learning rate.
    pub rollbacks: Vec<Rollback>,
}

/// How training ends, as rank 0 tells the others.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Ending {
    /// All that is to be trained is trained.
    Finished,
    /// It was stopped by this signal, or by whatever counts as one.
    Stopped(i32),
    /// It goes on from an earlier checkpoint, when all have met again.
    Again,
    /// By this error of rank 0's, and its exit code.
    Failed(String, i32),
}

impl Ending {
    pub fn of(result: &Result<Completion>) -> Self {
        match result {
            Ok(Completion::Finished) => Ending::Finished,
            Ok(Completion::Stopped(signal)) => Ending::Stopped(*signal),
            Err(error) => Ending::of_error(error),
        }
    }

    /// That it ended by this error.
    pub fn of_error(error: &Error) -> Self {
        Ending::Failed(format!("{error:#}"), error::exit_code(error))
    }
}

/// The names and shapes of groups of tensors.
pub type Shapes = Vec<(String, Vec<(String, Vec<usize>)>)>;

/// Those of groups.
pub fn shapes(groups: &TensorGroups) -> Shapes {
    let shapes = groups.iter().map(|(group, tensors)| {
        let shapes = tensors.iter().map(|it| (it.name.clone(), it.shape.clone()));
        (group.clone(), shapes.collect())
    });
    shapes.collect()
}

/// The groups of these shapes, with the values of all tensors one after the other.
pub fn tensors(shapes: Shapes, values: &[u8]) -> TensorGroups {
    let mut values = (values.chunks_exact(4))
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let mut group = |shapes: Vec<(String, Vec<usize>)>| {
        let tensors = shapes.into_iter().map(|(name, shape)| NamedTensor {
            name,
            values: values.by_ref().take(shape.iter().product()).collect(),
            shape,
        });
        tensors.collect()
    };
    let groups = shapes.into_iter();
    groups.map(|(name, shapes)| (name, group(shapes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_from_their_shapes_and_values() {
        let tensor = |name: &str, shape: &[usize], first: f32| NamedTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: (0..shape.iter().product())
                .map(|at| first + at as f32)
                .collect(),
        };
        let groups = TensorGroups::from([
            (
                "weights".to_owned(),
                vec![tensor("a", &[2, 3], 0.5), tensor("b", &[1], -7.0)],
            ),
            ("momentum".to_owned(), vec![tensor("a", &[], f32::MIN)]),
        ]);
        let values = groups.values().flatten().flat_map(|tensor| &tensor.values);
        let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        assert!(tensors(shapes(&groups), &bytes) == groups);
    }
}
