//! Golden files: what TensorFlow and PyTorch make of small inputs. `tests/reference/make_golden.py` and
//! `make_torch_golden.py` write them; tests and `runboard-compute golden` hold runboard to them.

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

/// The tensors of one file, by name.
#[derive(Debug)]
pub struct Golden(BTreeMap<String, Tensor>);

/// Values of any type, exact in 64 bits.
#[derive(Debug)]
pub struct Tensor {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f64>,
}

impl Golden {
    /// The tensors of a safetensors file of these bytes.
    ///
    /// # Errors
    /// It is none, or has values of another type than float32, float64, int64 and uint8.
    pub fn parse(bytes: &[u8]) -> Result<Golden> {
        let tensor = |(name, view): (String, TensorView)| {
            let values = match view.dtype() {
                Dtype::F32 => numbers(view.data(), |b| f32::from_le_bytes(b).into())?,
                Dtype::F64 => numbers(view.data(), f64::from_le_bytes)?,
                Dtype::I64 => numbers(view.data(), |b| i64::from_le_bytes(b) as f64)?,
                Dtype::U8 => numbers(view.data(), |[b]| b.into())?,
                other => bail!("{name}: got type {other:?}, want F32, F64, I64 or U8"),
            };
            let shape = view.shape().to_vec();
            Ok((name, Tensor { shape, values }))
        };
        let file = SafeTensors::deserialize(bytes).context("failed to read a golden file")?;
        let tensors = file.tensors().into_iter().map(tensor);
        Ok(Golden(tensors.collect::<Result<_>>()?))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let tensor = self.0.get(name);
        tensor.with_context(|| format!("no {name} in the golden file"))
    }

    /// The tensors below `directory/`, by the rest of their names.
    ///
    /// # Errors
    /// There is none.
    pub fn below(&self, directory: &str) -> Result<Vec<(&str, &Tensor)>> {
        let found: Vec<_> = (self.0.iter())
            .filter_map(|(name, tensor)| {
                Some((name.strip_prefix(directory)?.strip_prefix('/')?, tensor))
            })
            .collect();
        ensure!(
            !found.is_empty(),
            "nothing below {directory} in the golden file"
        );
        Ok(found)
    }

    /// The directories `directory/0`, `directory/1` and so on, in order.
    ///
    /// # Errors
    /// There is none.
    pub fn numbered(&self, directory: &str) -> Result<Vec<String>> {
        let found: Vec<_> = (0..)
            .map(|index| format!("{directory}/{index}"))
            .take_while(|name| self.0.keys().any(|k| k.starts_with(&format!("{name}/"))))
            .collect();
        ensure!(!found.is_empty(), "no {directory}/0 in the golden file");
        Ok(found)
    }
}

impl Tensor {
    /// The values as the network takes them.
    pub fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|&x| x as f32).collect()
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Result<Vec<f64>> {
    let (chunks, rest) = bytes.as_chunks();
    ensure!(rest.is_empty(), "a golden file has half a number");
    Ok(chunks.iter().map(|&chunk| number(chunk)).collect())
}

/// Largest difference, relative to the largest magnitude wanted; of zeros, as it is. NaN where a value is, and where there
/// are not as many.
pub fn deviation(got: &[f32], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let magnitude = want
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let scale = if magnitude == 0.0 { 1.0 } else { magnitude };
    let differences = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs());
    largest(differences) / scale
}

/// The largest of these values, none of which is negative; 0 of none. Not `f64::max`, which passes over NaN.
pub fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |largest: f64, value| {
        match largest.is_nan() || value <= largest {
            true => largest,
            false => value,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_relative_to_the_largest_value_and_passes_over_no_nan() {
        assert_eq!(deviation(&[1.0, -3.0], &[1.0, -4.0]), 0.25);
        assert_eq!(deviation(&[0.5, 0.0], &[0.0, 0.0]), 0.5);
        assert!(deviation(&[f32::NAN, 1.0], &[1.0, 2.0]).is_nan());
        assert!(deviation(&[1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn golden_file_that_is_damaged_is_refused() {
        let error = Golden::parse(b"nothing").unwrap_err();
        assert_eq!(error.to_string(), "failed to read a golden file");
    }
}
