//! Muon's orthogonalisation of the layers' updates: by the network's own products on a CPU, by libtorch's operations on other
//! devices. `newton_schulz` has the formula and its source.

use super::cpu;
use super::memory::host_mut;
use super::newton_schulz::{COEFFICIENTS, EPSILON, STEPS};
use super::recorder::Recorder;
use anyhow::Result;
use std::mem;
use tch::{Device, Tensor};

/// How many of the steps libtorch's operations make at a time: after so many on G the matrix is brought up to date, and G with
/// it. Errors in small eigenvalues of G grow with each step, and TF32, which a GPU may multiply in, begins with larger ones.
/// Once after the second step is what Zhang et al. found to do for half precision.
const STEPS_AT_A_TIME: [usize; 2] = [2, STEPS - 2];

/// Orthogonalises the updates of some layers.
#[derive(Debug)]
pub(super) enum Orthogonalizers {
    Host,
    Device {
        /// One for each layer.
        layers: Vec<Orthogonalizer>,
        /// Issues what they do.
        recorder: Recorder,
    },
}

impl Orthogonalizers {
    /// Of layers with these weights.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(weights: &[&mut Tensor]) -> Result<Self> {
        let on_host = |weights: &&mut Tensor| weights.device() == Device::Cpu;
        if cpu::has_vectors() && weights.iter().all(on_host) {
            return Ok(Orthogonalizers::Host);
        }
        let layers = weights.iter().map(|weights| Orthogonalizer::of(weights));
        Ok(Orthogonalizers::Device {
            layers: layers.collect::<Result<_>>()?,
            recorder: Recorder::default(),
        })
    }

    /// Replace each update U S V^T by about U V^T times the rate times sqrt(max(1, outputs / inputs)), in place.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(&mut self, updates: &mut [&mut Tensor], rate: f64) -> Result<()> {
        match self {
            Orthogonalizers::Host => {
                let updates = updates.iter_mut().map(|update| -> Result<_> {
                    Ok(cpu::Update {
                        rows: update.size()[0] as usize,
                        factor: (scale(update) * rate) as f32,
                        values: host_mut(update)?,
                    })
                });
                cpu::orthogonalize(updates.collect::<Result<_>>()?);
                Ok(())
            }
            Orthogonalizers::Device { layers, recorder } => {
                for layer in layers.iter_mut() {
                    layer.set_rate(rate)?;
                }
                let updates: Vec<&Tensor> = updates.iter().map(|update| &**update).collect();
                recorder.run(&updates, &[], |_| {
                    for (layer, update) in layers.iter_mut().zip(&updates) {
                        layer.apply(update)?;
                    }
                    Ok(Vec::new())
                })?;
                Ok(())
            }
        }
    }
}

/// Orthogonalises the update of a layer by libtorch's operations; it holds the memory of its products.
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
    scale: f64,
    /// What the update is multiplied by, a scalar on the device: a graph has its place, and not its value.
    factor: Tensor,
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

/// sqrt(max(1, outputs / inputs))
fn scale(weights: &Tensor) -> f64 {
    let size = weights.size();
    let outputs = if weights.dim() == 4 { size[0] } else { size[1] } as f64;
    let inputs = weights.numel() as f64 / outputs;
    (outputs / inputs).max(1.0).sqrt()
}

impl Orthogonalizer {
    fn of(weights: &Tensor) -> Result<Self> {
        let product = matrix(&weights.f_empty_like()?)?;
        let short = product.size()[0];
        let square = || Tensor::f_zeros([short, short], (weights.kind(), weights.device()));
        Ok(Orthogonalizer {
            gram: square()?,
            step: square()?,
            steps: square()?,
            spare: square()?,
            product,
            scale: scale(weights),
            factor: Tensor::f_zeros([], (weights.kind(), weights.device()))?,
        })
    }

    /// The rate by which [`Orthogonalizer::apply`] multiplies from now on.
    fn set_rate(&mut self, rate: f64) -> Result<()> {
        let _ = self.factor.f_fill_(self.scale * rate)?;
        Ok(())
    }

    fn apply(&mut self, update: &Tensor) -> Result<()> {
        let (a, b, c) = COEFFICIENTS;
        let Orthogonalizer {
            gram,
            step,
            steps,
            spare,
            product,
            scale: _,
            factor,
        } = self;
        let mut x = matrix(update)?;
        let norm = x.f_norm()?.f_add_scalar_(EPSILON)?;
        for (round, count) in STEPS_AT_A_TIME.iter().enumerate() {
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
            if round + 1 == STEPS_AT_A_TIME.len() {
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
        for _ in 0..STEPS {
            let gram = x.mm(&x.tr());
            let polynomial = &gram * b + gram.mm(&gram) * c;
            x = &x * a + polynomial.mm(&x);
        }
        x
    }

    /// Wide, high, square, empty, thin, of sizes that are no multiples, and with more outputs than inputs.
    fn updates() -> Vec<Tensor> {
        tch::manual_seed(1);
        let options = (Kind::Float, Device::Cpu);
        // Of rank 5: 59 of its singular values are 0.
        let thin = Tensor::randn([64, 5], options).mm(&Tensor::randn([5, 300], options));
        vec![
            Tensor::randn([300, 64], options),
            Tensor::randn([64, 64], options),
            Tensor::zeros([64, 300], options),
            thin,
            Tensor::randn([16, 4, 5, 5], options) * 1e-6,
            Tensor::randn([130, 3, 5, 5], options),
            Tensor::randn([500, 192], options) * 1e3,
            Tensor::randn([50, 200], options),
        ]
    }

    #[test]
    fn orthogonalizers_follow_newton_and_schulz_on_matrices_of_all_shapes() {
        let on_device = |updates: &[&mut Tensor]| Orthogonalizers::Device {
            layers: updates
                .iter()
                .map(|it| Orthogonalizer::of(it).unwrap())
                .collect(),
            recorder: Recorder::default(),
        };
        for is_host in [true, false] {
            let mut found = updates();
            let mut places: Vec<&mut Tensor> = found.iter_mut().collect();
            let mut orthogonalizers = match is_host {
                true => Orthogonalizers::of(&places).unwrap(),
                false => on_device(&places),
            };
            assert_eq!(matches!(orthogonalizers, Orthogonalizers::Host), is_host);
            orthogonalizers.apply(&mut places, 0.5).unwrap();
            for (number, (found, update)) in found.iter().zip(updates()).enumerate() {
                let found = matrix(found).unwrap() / (0.5 * scale(found));
                let difference = (found - iterated(&update)).abs().max().double_value(&[]);
                assert!(difference < 2e-5, "{number}, {is_host}: {difference}");
            }
        }
    }
}
