//! Whether two checkpoints hold the same bytes, and if not, by how much their tensors differ.

use super::{NamedTensor, fingerprint, load};
use anyhow::Result;
use std::fmt;
use std::path::Path;

/// The tensor that differs most of those of two checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// As `ema: conv1/weights`.
    pub tensor: String,
    /// The largest difference of two values, and the largest value of the first; not numbers where the tensors are of
    /// other shapes, or one of them is not there.
    pub values: Option<(f64, f64)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.values {
            Some((largest, of)) => write!(f, "{} by up to {largest:.1e} of {of:.1e}", self.tensor),
            None => write!(
                f,
                "{} is there in one alone, or of another shape",
                self.tensor
            ),
        }
    }
}

/// What differs most between the tensors of two checkpoints; none if all have the same bits.
///
/// # Errors
/// As [`load`].
pub fn difference(one: &Path, other: &Path) -> Result<Option<Difference>> {
    let known = fingerprint(one);
    if known.is_some() && known == fingerprint(other) {
        return Ok(None); // the digests of all files are in it
    }
    let (one, other) = (load(one)?.tensors, load(other)?.tensors);
    let mut most: Option<Difference> = None;
    for group in one
        .keys()
        .chain(other.keys().filter(|it| !one.contains_key(*it)))
    {
        let (Some(one), Some(other)) = (one.get(group), other.get(group)) else {
            return Ok(Some(Difference {
                tensor: group.clone(),
                values: None,
            }));
        };
        for tensor in one {
            let found = other.iter().find(|it| it.name == tensor.name);
            if found.is_some_and(|found| has_bits_of(found, tensor)) {
                continue;
            }
            let values = found.and_then(|found| largest(tensor, found));
            let before = most.as_ref().and_then(|most| most.values);
            let is_less =
                matches!((values, before), (Some((this, _)), Some((before, _))) if this <= before);
            if !is_less {
                most = Some(Difference {
                    tensor: format!("{group}: {}", tensor.name),
                    values,
                });
            }
            if values.is_none() {
                return Ok(most);
            }
        }
    }
    Ok(most)
}

fn has_bits_of(one: &NamedTensor, other: &NamedTensor) -> bool {
    fn bits(tensor: &NamedTensor) -> impl Iterator<Item = u32> {
        tensor.values.iter().map(|it| it.to_bits())
    }
    one.shape == other.shape && bits(one).eq(bits(other))
}

/// The largest difference of two values, and the largest value of `one`; none where the shapes differ.
fn largest(one: &NamedTensor, other: &NamedTensor) -> Option<(f64, f64)> {
    if one.shape != other.shape {
        return None;
    }
    let pairs = one.values.iter().zip(&other.values);
    let pairs = pairs.map(|(&one, &other)| (f64::from(one), f64::from(other)));
    let most = |most: f64, this: f64| {
        if this > most || this.is_nan() {
            this
        } else {
            most
        }
    };
    let difference = pairs.clone().map(|(one, other)| (one - other).abs());
    let value = pairs.map(|(one, _)| one.abs());
    Some((difference.fold(0.0, most), value.fold(0.0, most)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{EMA, WEIGHTS, save};
    use super::*;

    #[test]
    fn difference_names_the_tensor_that_differs_most() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut checkpoint = sample(3);
        let first = save(one.path(), &checkpoint).unwrap();
        let second = |checkpoint: &_| save(other.path(), checkpoint).unwrap();
        assert_eq!(difference(&first, &second(&checkpoint)).unwrap(), None);
        // What is no tensor has no say.
        checkpoint.state.steps_above_limit = 1;
        assert_eq!(difference(&first, &second(&checkpoint)).unwrap(), None);
        let weights = checkpoint.tensors.get_mut(WEIGHTS).unwrap();
        weights[0].values[1] = 0.0; // and was -0
        let found = difference(&first, &second(&checkpoint)).unwrap().unwrap();
        assert_eq!(found.tensor, "weights: conv1/biases");
        let weights = checkpoint.tensors.get_mut(WEIGHTS).unwrap();
        weights[1].values[5] += 0.5;
        let found = difference(&first, &second(&checkpoint)).unwrap().unwrap();
        assert_eq!(found.tensor, "weights: conv1/weights");
        assert_eq!(found.values.unwrap().0, 0.5);
        checkpoint.tensors.remove(EMA);
        let found = difference(&first, &second(&checkpoint)).unwrap().unwrap();
        assert_eq!(
            found.to_string(),
            "ema is there in one alone, or of another shape"
        );
    }
}
