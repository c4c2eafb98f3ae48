//! Muon's orthogonalisation of a matrix by Newton and Schulz's iteration.
//!
//! Source: Keller Jordan, <https://kellerjordan.github.io/posts/muon/> and the function `zeropower_via_newtonschulz5`
//! of <https://github.com/KellerJordan/Muon>. His is in bfloat16; this is in float32, in the form of Zhang, Amsel, Chen
//! and Dao, <https://dao-lab.ai/blog/2026/gram-newton-schulz>.

use anyhow::Result;
use std::mem;
use tch::{Device, Tensor};

/// The polynomial a x + b x^3 + c x^5, which drives every singular value towards 1.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// How often it is applied: after so many steps on G the matrix is brought up to date, and G with it. Errors in small
/// eigenvalues of G grow with each step, and TF32, which a GPU may multiply in, begins with larger ones. Once after the
/// second step is what Zhang et al. found to do for half precision.
const STEPS: &[usize] = &[5];
const STEPS_ON_GPU: &[usize] = &[2, 3];

/// Added to the norm that divides.
const EPSILON: f64 = 1e-7;

/// Orthogonalises the weights of a layer; it holds the memory of its products.
///
/// With G = X X^T a step is X' = P X, P = a I + b G + c G^2, and G' = P G P. All of them are polynomials of the first
/// G, so the steps need X only at their beginning and at their end: X becomes Q X, Q the product of all P. For local3,
/// six times as wide as high, these are 0.44 of the operations of the iteration on X itself.
#[derive(Debug)]
pub(super) struct Orthogonalizer {
    /// G: [short, short]
    gram: Tensor,
    /// P: [short, short]
    step: Tensor,
    /// Q: [short, short]
    steps: Tensor,
    /// [short, short]
    spare: Tensor,
    /// [short, long], laid out as the matrix is
    product: Tensor,
    /// sqrt(max(1, outputs / inputs))
    scale: f64,
    /// What the update is multiplied by, a scalar on the device: a graph has its place, and not its value.
    factor: Tensor,
    /// How many steps are made at a time.
    counts: &'static [usize],
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
        let product = matrix(&weights.f_empty_like()?)?;
        let short = product.size()[0];
        let square = || Tensor::f_zeros([short, short], (weights.kind(), weights.device()));
        let size = weights.size();
        let outputs = if weights.dim() == 4 { size[0] } else { size[1] };
        let inputs = weights.numel() as f64 / outputs as f64;
        Ok(Orthogonalizer {
            gram: square()?,
            step: square()?,
            steps: square()?,
            spare: square()?,
            product,
            scale: (outputs as f64 / inputs).max(1.0).sqrt(),
            factor: Tensor::f_zeros([], (weights.kind(), weights.device()))?,
            counts: match weights.device() {
                Device::Cpu => STEPS,
                _ => STEPS_ON_GPU,
            },
        })
    }

    /// The rate by which [`Orthogonalizer::apply`] multiplies from now on.
    ///
    /// # Errors
    /// libtorch's.
    pub fn set_rate(&mut self, rate: f64) -> Result<()> {
        let _ = self.factor.f_fill_(self.scale * rate)?;
        Ok(())
    }

    /// Replace U S V^T by about U V^T times the rate times sqrt(max(1, outputs / inputs)), in place.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(&mut self, update: &Tensor) -> Result<()> {
        let (a, b, c) = COEFFICIENTS;
        let Orthogonalizer {
            gram,
            step,
            steps,
            spare,
            product,
            scale: _,
            factor,
            counts,
        } = self;
        let mut x = matrix(update)?;
        let norm = x.f_norm()?.f_add_scalar_(EPSILON)?;
        for (round, count) in counts.iter().enumerate() {
            let _ = x.f_mm_out(gram, &x.f_tr()?)?;
            if round == 0 {
                // Of X over its norm.
                let _ = gram.f_div_(&norm)?.f_div_(&norm)?;
            }
            for number in 0..*count {
                let _ = gram.f_mm_out(step, gram)?;
                let _ = step.f_mul_scalar_(c)?;
                let _ = gram.f_mul_scalar_out(spare, b)?;
                let _ = step.f_add_(spare)?;
                let _ = step.f_diagonal(0, 0, 1)?.f_add_scalar_(a)?;
                if number == 0 {
                    steps.f_copy_(step)?;
                } else {
                    let _ = step.f_mm_out(spare, steps)?;
                    mem::swap(steps, spare);
                }
                if number + 1 < *count {
                    let _ = step.f_mm_out(spare, gram)?;
                    let _ = spare.f_mm_out(gram, step)?;
                }
            }
            if round == 0 {
                let _ = steps.f_div_(&norm)?;
            }
            if round + 1 == counts.len() {
                let _ = steps.f_mul_(factor)?;
            }
            let _ = steps.f_mm_out(product, &x)?;
            x.f_copy_(product)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// The iteration on the matrix itself, in float64.
    fn iterated(weights: &Tensor) -> Tensor {
        let (a, b, c) = COEFFICIENTS;
        let weights = weights.to_kind(Kind::Double);
        let mut x = matrix(&weights).unwrap();
        x /= x.norm() + EPSILON;
        for _ in 0..STEPS.iter().sum() {
            let gram = x.mm(&x.tr());
            let polynomial = &gram * b + gram.mm(&gram) * c;
            x = &x * a + polynomial.mm(&x);
        }
        x
    }

    #[test]
    fn orthogonalizer_follows_newton_and_schulz_on_wide_high_thin_and_empty_matrices() {
        tch::manual_seed(1);
        let options = (Kind::Float, Device::Cpu);
        // Of rank 5: 59 of its singular values are 0.
        let thin = Tensor::randn([64, 5], options).mm(&Tensor::randn([5, 300], options));
        let convolution = Tensor::randn([16, 4, 5, 5], options) * 1e-6;
        let matrices = [
            Tensor::randn([300, 64], options),
            Tensor::randn([64, 64], options),
            Tensor::zeros([64, 300], options),
            thin,
            convolution,
        ];
        for (number, weights) in matrices.iter().enumerate() {
            for counts in [STEPS, STEPS_ON_GPU] {
                let mut orthogonalizer = Orthogonalizer::of(weights).unwrap();
                orthogonalizer.counts = counts;
                let update = weights.copy();
                orthogonalizer.set_rate(0.5).unwrap();
                orthogonalizer.apply(&update).unwrap();
                let found = matrix(&update).unwrap() / (0.5 * orthogonalizer.scale);
                let difference = (found - iterated(weights)).abs().max().double_value(&[]);
                assert!(difference < 2e-5, "{number}, {counts:?}: {difference}");
            }
        }
    }
}
