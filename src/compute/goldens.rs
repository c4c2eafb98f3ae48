//! How a device's arithmetic compares with the golden values.

use super::program::Asked;
use crate::spec::Precision;
use anyhow::{Context, Result};
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

/// All of them, on a device as a spec's `compute.device` names it, in each of these precisions. One process compares them, as it
/// takes its time to start on a GPU, and each is there as soon as it is done. The first error is the last of them: a user error for
/// a device that is not there; the program's.
pub fn goldens(device: &str, precisions: &[Precision]) -> Goldens {
    let mut words = vec!["golden", "--device", device];
    for precision in precisions {
        words.extend(["--precision", precision.name()]);
    }
    Goldens {
        program: (!precisions.is_empty()).then(|| Asked::start(&words)),
        left: precisions.len(),
    }
}

/// The comparisons in one precision after the other.
#[derive(Debug)]
pub struct Goldens {
    /// None when it has nothing more to say.
    program: Option<Result<Asked>>,
    left: usize,
}

impl Iterator for Goldens {
    type Item = Result<Vec<Comparison>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.program.take().map(|program| {
            let mut program = program?;
            self.left -= 1;
            if self.left == 0 {
                return program.answer(&[]);
            }
            let line = program.line()?;
            if line.is_empty() {
                return program.answer(&[]); // it has ended, and says why
            }
            self.program = Some(Ok(program));
            serde_json::from_slice(&line).context("failed to read what runboard-compute compares")
        })
    }
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
    fn goldens_are_told_one_by_one_until_the_program_fails() {
        let goldens = |script, left| {
            let program = Some(Ok(Asked::fake(script)));
            let goldens = Goldens { program, left };
            let counts = goldens.map(|it| it.map(|all| all.len()).map_err(|it| it.to_string()));
            counts.collect::<Vec<_>>()
        };
        let one = r#"[{"name":"lrn","deviation":0.5,"tolerance":1.0,"passed":true}]"#;
        let both = format!("echo '[]'; echo '{one}'");
        assert_eq!(goldens(&both, 2), [Ok(0), Ok(1)]);
        let fails = format!("{both}; echo 'error: no memory' >&2; exit 1");
        let failed = Err("no memory".to_owned());
        assert_eq!(goldens(&fails, 4), [Ok(0), Ok(1), failed]);
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
