//! How a device's arithmetic compares with the golden values.

use super::program::Asked;
use crate::spec::Precision;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// A tensor, or a number, held to what TensorFlow or PyTorch made of the same input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was compared, and after each `/` where: `gradients/tutorial/conv1/weights`.
    pub name: String,
    /// The largest difference, relative to the largest value; none if a value is no finite number.
    pub deviation: Option<f64>,
    /// How large it may be.
    pub tolerance: f64,
    /// Whether it is not larger.
    pub passed: bool,
}

impl Comparison {
    /// With this deviation, which may be NaN.
    pub fn new(name: String, deviation: f64, tolerance: f64) -> Self {
        Comparison {
            name,
            deviation: deviation.is_finite().then_some(deviation),
            tolerance,
            passed: deviation <= tolerance,
        }
    }

    /// What was compared: the name up to the first `/`.
    pub fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The share of its tolerance that the deviation takes.
    fn share(&self) -> f64 {
        self.deviation.unwrap_or(f64::INFINITY) / self.tolerance
    }
}

/// The one whose deviation takes the largest share of its tolerance; none of none.
pub fn worst<'a>(comparisons: impl IntoIterator<Item = &'a Comparison>) -> Option<&'a Comparison> {
    let comparisons = comparisons.into_iter();
    comparisons.max_by(|a, b| a.share().total_cmp(&b.share()))
}

/// All of them, on a device as a spec's `compute.device` names it.
///
/// # Errors
/// A user error for a device that is not there; the program's.
pub fn goldens(device: &str, precision: Precision) -> Result<Vec<Comparison>> {
    let precision = precision.name();
    let words = ["golden", "--device", device, "--precision", precision];
    Asked::start(&words)?.answer(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_named_as_in_specs() {
        use Precision::{Bf16, Float32, Tf32, Tf32Conv};
        for precision in [Float32, Tf32, Tf32Conv, Bf16] {
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
        }
    }

    #[test]
    fn comparison_of_what_is_no_number_fails_and_survives_json() {
        for (deviation, passed) in [
            (0.5, true),
            (1.5, false),
            (f64::NAN, false),
            (f64::INFINITY, false),
        ] {
            let comparison = Comparison::new("layers/a/conv1".into(), deviation, 1.0);
            assert_eq!(comparison.passed, passed, "{deviation}");
            assert_eq!(comparison.group(), "layers");
            let json = serde_json::to_string(&comparison).unwrap();
            assert_eq!(
                serde_json::from_str::<Comparison>(&json).unwrap(),
                comparison
            );
        }
    }
}
