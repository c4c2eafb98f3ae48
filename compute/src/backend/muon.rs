//! Muon's orthogonalisation of the layers' updates: on a CPU with vector instructions by the network's own products, elsewhere
//! by libtorch's operations. `newton_schulz` has the formula and its source.

use super::cpu;
use super::gpu::Streams;
use super::newton_schulz::{COEFFICIENTS, EPSILON, STEPS};
use super::parameters::FlatParameters;
use super::recorder::Recorder;
use crate::model::{LAYERS, PER_LAYER};
use anyhow::Result;
use std::mem;
use tch::Tensor;

/// The layers whose weights Muon takes, from the first one on.
pub(super) const MUON_LAYERS: usize = LAYERS.len() - 1;

/// How many of the steps libtorch's operations make at a time: after so many on G the matrix is brought up to date, and G with
/// it. Errors in small eigenvalues of G grow with each step, and TF32, which a GPU may multiply in, begins with larger ones.
/// Once after the second step is what Zhang et al. found to do for half precision.
const STEPS_AT_A_TIME: [usize; 2] = [2, STEPS - 2];

/// Orthogonalises the updates of the layers that Muon takes.
#[derive(Debug)]
pub(super) enum Orthogonalizers {
    Host,
    Device {
        /// One for each layer.
        layers: Vec<Orthogonalizer>,
        /// One for each layer: they do not wait for one another.
        streams: Streams,
        /// Issues what they do.
        recorder: Recorder,
    },
}

impl Orthogonalizers {
    /// Of updates like these parameters.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(like: &mut FlatParameters) -> Result<Self> {
        match cpu::has_vectors() && like.is_on_host() {
            true => Ok(Orthogonalizers::Host),
            false => Self::on_device(like),
        }
    }

    fn on_device(like: &mut FlatParameters) -> Result<Self> {
        let streams = Streams::of(like.values().device(), MUON_LAYERS)?;
        let weights = like.weights().take(MUON_LAYERS);
        let layers = weights.map(|weights| Orthogonalizer::of(weights));
        Ok(Orthogonalizers::Device {
            layers: layers.collect::<Result<_>>()?,
            streams,
            recorder: Recorder::default(),
        })
    }

    /// Replace each layer's U S V^T by about U V^T times the rate times sqrt(max(1, outputs / inputs)), in place.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(&mut self, updates: &mut FlatParameters, rate: f64) -> Result<()> {
        match self {
            Orthogonalizers::Host => {
                let shape = |weights: &mut Tensor| (weights.size()[0] as usize, scale(weights));
                let shapes: Vec<_> = updates.weights().take(MUON_LAYERS).map(shape).collect();
                let weights = updates.host_values()?.into_iter().step_by(PER_LAYER);
                let updates = weights
                    .zip(shapes)
                    .map(|(values, (rows, scale))| cpu::Update {
                        values,
                        rows,
                        factor: (scale * rate) as f32,
                    });
                cpu::orthogonalize(updates.collect());
            }
            Orthogonalizers::Device {
                layers,
                streams,
                recorder,
            } => {
                for layer in layers.iter_mut() {
                    layer.set_rate(rate)?;
                }
                let updates = updates.weights().take(MUON_LAYERS);
                let updates: Vec<&Tensor> = updates.map(|weights| &*weights).collect();
                recorder.run(&updates, &[], |_| {
                    let layers = layers.iter_mut().zip(&updates);
                    streams.issue(layers, |(layer, update)| layer.apply(update))?;
                    Ok(Vec::new())
                })?;
            }
        }
        Ok(())
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
    /// b / sqrt(c), a scalar on the device
    linear: Tensor,
    /// Of the layer, over c^(1/4)
    scale: f64,
    /// What c^(1/4) U V^T is multiplied by, a scalar on the device: a graph has its place, and not its value.
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
        let (_, b, c) = COEFFICIENTS;
        let options = (weights.kind(), weights.device());
        let square = || Tensor::f_zeros([short, short], options);
        Ok(Orthogonalizer {
            gram: square()?,
            step: square()?,
            steps: square()?,
            spare: square()?,
            product,
            linear: Tensor::f_full([], b / c.sqrt(), options)?,
            scale: scale(weights) * c.powf(-0.25),
            factor: Tensor::f_zeros([], options)?,
        })
    }

    /// The rate by which [`Orthogonalizer::apply`] multiplies from now on.
    fn set_rate(&mut self, rate: f64) -> Result<()> {
        let _ = self.factor.f_fill_(self.scale * rate)?;
        Ok(())
    }

    /// Newton and Schulz's steps on c^(1/4) X in X's place, whose G is sqrt(c) times that of X and P = a I + b / sqrt(c) G + G^2:
    /// on a GPU each operation is a kernel of its own, and this takes fewer of them. G' = P G P keeps the factor to the end.
    fn apply(&mut self, update: &Tensor) -> Result<()> {
        let (a, _, c) = COEFFICIENTS;
        let mut x = matrix(update)?;
        let mut norm = x.f_norm()?.f_add_scalar_(EPSILON)?;
        let _ = x.f_div_(&norm.f_mul_scalar_(c.powf(-0.25))?)?;
        let Orthogonalizer {
            gram,
            step,
            steps,
            spare,
            product,
            linear,
            scale: _,
            factor,
        } = self;
        for (count, before, after) in [
            (STEPS_AT_A_TIME[0], &x, &*product),
            (STEPS_AT_A_TIME[1], &*product, &x),
        ] {
            let _ = before.f_mm_out(gram, &before.f_tr()?)?;
            for number in 0..count {
                let _ = gram.f_mm_out(step, gram)?.f_addcmul_(gram, linear)?;
                let _ = step.f_diagonal(0, 0, 1)?.f_add_scalar_(a)?;
                if number + 1 < count {
                    let _ = step.f_mm_out(spare, gram)?;
                    let _ = spare.f_mm_out(gram, step)?;
                }
                if number > 0 {
                    let _ = step.f_mm_out(spare, steps)?;
                    mem::swap(step, spare);
                }
                mem::swap(step, steps);
            }
            let _ = steps.f_mm_out(after, before)?;
        }
        let _ = x.f_mul_(factor)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::native::tests::small;
    use super::*;
    use crate::model::Network;
    use runboard::spec;
    use tch::{Device, Kind};

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

    /// What the host's products make of each with a rate of 0.5, or libtorch's operations.
    fn orthogonalized(matrices: &[Tensor], on_host: bool) -> Vec<Tensor> {
        matrices
            .iter()
            .map(|matrix| {
                let found = matrix.copy();
                match on_host {
                    true => {
                        let mut values = Vec::<f32>::try_from(found.flatten(0, -1)).unwrap();
                        cpu::orthogonalize(vec![cpu::Update {
                            values: &mut values,
                            rows: matrix.size()[0] as usize,
                            factor: (scale(matrix) * 0.5) as f32,
                        }]);
                        Tensor::from_slice(&values).view(&matrix.size()[..])
                    }
                    false => {
                        let mut layer = Orthogonalizer::of(matrix).unwrap();
                        layer.set_rate(0.5).unwrap();
                        layer.apply(&found).unwrap();
                        found
                    }
                }
            })
            .collect()
    }

    /// Wide, high, square, empty, thin, as long as local3 is, of sizes that are no multiples, and with more outputs than inputs.
    fn matrices() -> Vec<Tensor> {
        tch::manual_seed(1);
        let options = (Kind::Float, Device::Cpu);
        // Of rank 5, so that the other singular values are 0.
        let thin = |rows, columns| {
            Tensor::randn([rows, 5], options).mm(&Tensor::randn([5, columns], options))
        };
        vec![
            Tensor::randn([300, 64], options),
            Tensor::randn([64, 64], options),
            Tensor::zeros([64, 300], options),
            thin(64, 300),
            Tensor::randn([16, 4, 5, 5], options) * 1e-6,
            Tensor::randn([130, 3, 5, 5], options),
            Tensor::randn([500, 192], options) * 1e3,
            Tensor::randn([50, 200], options),
            Tensor::randn([2304, 384], options),
            thin(2304, 128),
        ]
    }

    #[test]
    fn orthogonalizers_follow_newton_and_schulz_on_matrices_of_all_shapes() {
        for on_host in [true, false] {
            let found = orthogonalized(&matrices(), on_host);
            for (number, (found, update)) in found.iter().zip(matrices()).enumerate() {
                let found = matrix(found).unwrap() / (0.5 * scale(found));
                let difference = (found - iterated(&update)).abs().max().double_value(&[]);
                assert!(difference < 2e-5, "{number}, {on_host}: {difference}");
            }
        }
    }

    #[test]
    fn orthogonalizers_of_both_routes_make_the_same_of_a_network() {
        let (spec, crop) = small();
        let device = burn::tensor::Device::libtorch();
        let network = Network::init(&spec.network, crop, spec::Seed(3), &device);
        let of = |make: fn(&mut FlatParameters) -> Result<Orthogonalizers>| {
            let mut updates = FlatParameters::of(&network).unwrap();
            let mut orthogonalizers = make(&mut updates).unwrap();
            orthogonalizers.apply(&mut updates, 0.5).unwrap();
            let is_host = matches!(orthogonalizers, Orthogonalizers::Host);
            (updates.network().named(), is_host)
        };
        let ((host, true), (other, false)) =
            (of(Orthogonalizers::of), of(Orthogonalizers::on_device))
        else {
            panic!("not the routes that were asked for");
        };
        let before = network.named();
        let muons = MUON_LAYERS * PER_LAYER;
        for (index, (host, other)) in host.iter().zip(&other).enumerate() {
            let is_taken = index < muons && index.is_multiple_of(PER_LAYER);
            assert_eq!(
                host.values != before[index].values,
                is_taken,
                "{}",
                host.name
            );
            for (host, other) in host.values.iter().zip(&other.values) {
                assert!((host - other).abs() < 1e-4, "{index}: {host} and {other}");
            }
        }
    }

    #[test]
    fn orthogonalizer_makes_a_layer_of_one_nan_nan_and_no_other() {
        let fine = Tensor::randn([70, 130], (Kind::Float, Device::Cpu));
        let broken = fine.copy();
        let _ = broken.get(3).get(7).fill_(f64::NAN);
        let found = orthogonalized(&[broken, fine], true);
        assert!(found[0].isnan().all().int64_value(&[]) == 1);
        assert!(found[1].isfinite().all().int64_value(&[]) == 1);
    }
}
