//! Muon's orthogonalisation of a matrix by Newton and Schulz's iteration.
//!
//! Source: Keller Jordan, <https://kellerjordan.github.io/posts/muon/> and the function `zeropower_via_newtonschulz5`
//! of <https://github.com/KellerJordan/Muon>. His is in bfloat16; this is in float32.

use anyhow::Result;
use tch::Tensor;

/// The polynomial a x + b x^3 + c x^5, which drives every singular value towards 1.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// How often it is applied.
const STEPS: usize = 5;

/// Added to the norm that divides.
const EPSILON: f64 = 1e-7;

/// Orthogonalises the weights of a layer; it holds the memory of its products.
#[derive(Debug)]
pub(super) struct Orthogonalizer {
    /// [short, short]
    gram: Tensor,
    /// [short, short]
    polynomial: Tensor,
    /// [short, long]
    product: Tensor,
    /// sqrt(max(1, outputs / inputs))
    scale: f64,
}

/// The weights as a matrix that is not higher than wide, on the same memory.
fn matrix(weights: &Tensor) -> Result<Tensor> {
    let matrix = match weights.dim() {
        4 => weights.f_view([weights.size()[0], -1])?, // [out, in, height, width]
        _ => weights.shallow_clone(),                  // [in, out]
    };
    let size = matrix.size();
    Ok(if size[0] > size[1] {
        matrix.f_tr()?
    } else {
        matrix
    })
}

impl Orthogonalizer {
    /// Of weights of this shape.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(weights: &Tensor) -> Result<Self> {
        let shape = matrix(weights)?.size();
        let (short, long) = (shape[0], shape[1]);
        let options = (weights.kind(), weights.device());
        let zeros = |rows, columns| Tensor::f_zeros([rows, columns], options);
        let size = weights.size();
        let outputs = if weights.dim() == 4 { size[0] } else { size[1] };
        let inputs = weights.numel() as f64 / outputs as f64;
        Ok(Orthogonalizer {
            gram: zeros(short, short)?,
            polynomial: zeros(short, short)?,
            product: zeros(short, long)?,
            scale: (outputs as f64 / inputs).max(1.0).sqrt(),
        })
    }

    /// Replace U S V^T by about U V^T times sqrt(max(1, outputs / inputs)), in place.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(&mut self, update: &mut Tensor) -> Result<()> {
        let (a, b, c) = COEFFICIENTS;
        let mut x = matrix(update)?;
        let norm = x.f_norm()?.f_add_scalar(EPSILON)?;
        let _ = x.f_div_(&norm)?;
        for _ in 0..STEPS {
            let _ = x.f_mm_out(&self.gram, &x.f_tr()?)?;
            let _ = self.gram.f_mm_out(&self.polynomial, &self.gram)?;
            let _ = self.polynomial.f_mul_scalar_(c)?;
            let _ = self.gram.f_mul_scalar_(b)?;
            let _ = self.polynomial.f_add_(&self.gram)?;
            let _ = self.polynomial.f_mm_out(&self.product, &x)?;
            let _ = x.f_mul_scalar_(a)?;
            let _ = x.f_add_(&self.product)?;
        }
        let _ = x.f_mul_scalar_(self.scale)?;
        Ok(())
    }
}
