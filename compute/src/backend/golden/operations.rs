//! Local response normalisation and pooling against TensorFlow's.

use super::network::settings;
use super::{Comparisons, OPERATIONS, native as native_device};
use crate::backend::{native, normalisation, to_host};
use anyhow::Result;
use runboard::reference::Golden;
use runboard::spec::Precision;
use tch::{Kind, Tensor};

impl Comparisons {
    /// Both operations and their gradients, in all cases.
    pub fn operations(&mut self) -> Result<()> {
        let golden = Golden::parse(OPERATIONS)?;
        for case in golden.numbered("lrn")? {
            let norm = settings(golden.get(&format!("{case}/settings"))?)?.1;
            let kind = match self.precision {
                Precision::Bf16 => Kind::BFloat16,
                _ => Kind::Float,
            };
            let tolerance = self.tolerances.values;
            self.differentiate(&golden, &case, tolerance, |x| {
                normalisation::local_response_norm(&x.f_to_kind(kind)?, &norm)
            })?;
        }
        // Nothing of it is multiplied.
        for case in golden.numbered("pool")? {
            let pool = settings(golden.get(&format!("{case}/settings"))?)?.0;
            self.differentiate(&golden, &case, 1e-4, |x| native::pool(x, &pool))?;
        }
        Ok(())
    }

    /// Hold an operation's output and its gradient under the upstream one to TensorFlow's.
    fn differentiate(
        &mut self,
        golden: &Golden,
        case: &str,
        tolerance: f64,
        operation: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        let device = native_device(&self.device)?;
        let tensor = |name: &str| -> Result<Tensor> {
            let tensor = golden.get(&format!("{case}/{name}"))?;
            let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
            Ok(Tensor::f_from_slice(&tensor.floats())?
                .f_reshape(shape)?
                .f_to_device(device)?
                .f_permute([0, 3, 1, 2])?)
        };
        let input = tensor("input")?.f_set_requires_grad(true)?;
        let output = operation(&input)?.f_to_kind(Kind::Float)?;
        let downstream = output.f_mul(&tensor("upstream")?)?.f_sum(Kind::Float)?;
        let gradient = &Tensor::f_run_backward(&[&downstream], &[&input], false, false)?[0];
        for (name, got) in [("output", &output), ("gradient", gradient)] {
            let got = got.f_detach()?.f_permute([0, 2, 3, 1])?;
            let want = golden.get(&format!("{case}/{name}"))?;
            let shape: Vec<usize> = got.size().iter().map(|&size| size as usize).collect();
            let got = to_host(&got)?;
            // Of another shape nothing can be compared.
            let got = if shape == want.shape { &got[..] } else { &[] };
            self.add(format!("{case}/{name}"), got, &want.values, tolerance);
        }
        Ok(())
    }
}
