//! What fidelity is tested with: the golden files, which hold what TensorFlow and PyTorch make of small inputs
//! (`tests/reference/make_golden.py` and `make_torch_golden.py` write them), and chi-square tests for what is random.

// Each package that includes this file uses a part of it.
#![allow(dead_code)]

use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensors of one file, by name.
pub struct Golden(BTreeMap<String, Tensor>);

/// Values of any type, exact in 64 bits.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Golden {
    /// The file `name.safetensors`.
    pub fn read(name: &str) -> Golden {
        let bytes = std::fs::read(path(&format!("{name}.safetensors"))).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
            let values = match view.dtype() {
                Dtype::F32 => numbers(view.data(), |b| f32::from_le_bytes(b).into()),
                Dtype::F64 => numbers(view.data(), f64::from_le_bytes),
                Dtype::I64 => numbers(view.data(), |b| i64::from_le_bytes(b) as f64),
                Dtype::U8 => numbers(view.data(), |[b]| b.into()),
                other => panic!("{name}: unsupported type {other:?}"),
            };
            let shape = view.shape().to_vec();
            (name, Tensor { shape, values })
        };
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
        Golden(tensors.into_iter().map(tensor).collect())
    }

    /// The tensor of this name, which must be there.
    pub fn get(&self, name: &str) -> &Tensor {
        let tensor = self.0.get(name);
        tensor.unwrap_or_else(|| panic!("no {name} in the golden file"))
    }

    /// The tensors below `directory/`, by the rest of their names.
    pub fn below(&self, directory: &str) -> Vec<(&str, &Tensor)> {
        let found: Vec<_> = (self.0.iter())
            .filter_map(|(name, tensor)| {
                Some((name.strip_prefix(directory)?.strip_prefix('/')?, tensor))
            })
            .collect();
        assert!(
            !found.is_empty(),
            "nothing below {directory} in the golden file"
        );
        found
    }

    /// The directories `directory/0`, `directory/1` and so on, in order.
    pub fn numbered(&self, directory: &str) -> Vec<String> {
        let found: Vec<_> = (0..)
            .map(|index| format!("{directory}/{index}"))
            .take_while(|name| self.0.keys().any(|k| k.starts_with(&format!("{name}/"))))
            .collect();
        assert!(!found.is_empty(), "no {directory}/0 in the golden file");
        found
    }
}

impl Tensor {
    /// The values as the network takes them.
    pub fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|&x| x as f32).collect()
    }
}

/// The file beside the script.
pub fn path(name: &str) -> PathBuf {
    // Of the one package or the other.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = package.ancestors().map(|it| it.join("tests/reference"));
    let mut directory = directory.filter(|it| it.is_dir());
    directory.next().expect("tests/reference").join(name)
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let (chunks, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    chunks.iter().map(|&chunk| number(chunk)).collect()
}

/// Largest difference, relative to the largest magnitude wanted; of zeros, as it is.
pub fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want
        .iter()
        .fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let scale = if largest == 0.0 { 1.0 } else { largest };
    let differences = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs());
    // Not `f64::max`, which passes over NaN.
    let larger = |largest: f64, d: f64| {
        if largest.is_nan() || d <= largest {
            largest
        } else {
            d
        }
    };
    differences.fold(0.0, larger) / scale
}

/// Holds `got` to `want` within `bound`; `--nocapture` shows how near it is.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], bound: f64) {
    let error = error(got, want);
    println!("{what:<48} {error:.1e}");
    assert!(
        error <= bound,
        "{what}: {error:.1e} from the golden values, want at most {bound:.0e}"
    );
}

/// Holds counts of equally likely cells to a uniform distribution; see [`assert_chi_square`].
#[track_caller]
pub fn assert_uniform(what: &str, counts: &[usize], degrees: f64, factor: f64) {
    let share = 1.0 / counts.len() as f64;
    let cells: Vec<_> = counts.iter().map(|&count| (count, share)).collect();
    assert_chi_square(what, &cells, degrees, factor);
}

/// Pearson's chi-square of (count, probability) cells, times `factor`, lies between the 0.1 % and the
/// 99.9 % quantile for so many degrees of freedom: neither uneven nor evener than chance.
#[track_caller]
pub fn assert_chi_square(what: &str, cells: &[(usize, f64)], degrees: f64, factor: f64) {
    let total = cells.iter().map(|cell| cell.0).sum::<usize>() as f64;
    let term =
        |&(count, share): &(usize, f64)| (count as f64 - total * share).powi(2) / (total * share);
    let statistic = factor * cells.iter().map(term).sum::<f64>();
    // Wilson and Hilferty's approximation of the quantiles; 3.09 is the normal's.
    let spread = 2.0 / (9.0 * degrees);
    let quantile = |z: f64| degrees * (1.0 - spread + z * spread.sqrt()).powi(3);
    let (low, high) = (quantile(-3.09), quantile(3.09));
    println!("{what:<48} {statistic:.1} of {low:.1} to {high:.1}");
    assert!(
        (low..high).contains(&statistic),
        "{what}: chi-square {statistic:.1}, want {low:.1} to {high:.1}"
    );
}
