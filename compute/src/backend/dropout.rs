//! Dropout: which outputs of the dense layers a training step leaves out.
//!
//! Srivastava et al. 2014, in the form of torch.nn.Dropout: what is left is scaled up in training, so that nothing
//! happens in evaluation.

use rand::Rng;
use runboard::data::random::{self, DROPOUT};
use runboard::spec::Spec;
use std::ops::Range;

/// Layers whose outputs may be left out: local3 and local4.
const LAYERS: usize = 2;

/// What the outputs of a step are multiplied by.
#[derive(Debug)]
pub(super) struct Dropout {
    /// Of each layer [n, units]: 0, or 1 / (1 - probability).
    factors: [Vec<f32>; LAYERS],
    scale: f32,
}

impl Dropout {
    /// Of the images at these places of the step's batch; none if the spec leaves nothing out. It follows from seed, step and
    /// place alone.
    pub fn new(spec: &Spec, step: u64, places: Range<usize>) -> Option<Self> {
        let probability = spec.network.dropout;
        if probability == 0.0 {
            return None;
        }
        let scale = 1.0 / (1.0 - probability);
        let units = [spec.network.local3.units, spec.network.local4.units];
        let mut layer = 0;
        let factors = units.map(|units| {
            let stream = step * LAYERS as u64 + layer;
            layer += 1;
            let mut rng = random::stream(spec.seed, DROPOUT, stream);
            let mut factor = |_| match rng.random::<f32>() < probability {
                true => 0.0,
                false => scale,
            };
            let all = (0..places.end * units).map(&mut factor);
            all.skip(places.start * units).collect()
        });
        Some(Dropout { factors, scale })
    }

    /// Of a layer, counted from the first that has it: [n, units].
    pub fn factors(&self, layer: usize) -> &[f32] {
        &self.factors[layer]
    }

    /// The factors of each layer that has it, the first one first.
    pub fn layers(&self) -> impl Iterator<Item = &[f32]> {
        self.factors.iter().map(Vec::as_slice)
    }

    /// The factor of what is not left out.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runboard::spec::Seed;

    fn spec(probability: f32, seed: u64) -> Spec {
        let mut spec = Spec::default();
        spec.network.dropout = probability;
        spec.seed = Seed(seed);
        spec
    }

    #[test]
    fn dropout_leaves_out_its_share_and_keeps_the_mean() {
        assert!(Dropout::new(&spec(0.0, 1), 0, 0..128).is_none());
        for probability in [0.2, 0.5, 0.75] {
            let dropout = Dropout::new(&spec(probability, 1), 7, 0..128).unwrap();
            for layer in 0..LAYERS {
                let factors = dropout.factors(layer);
                let n = factors.len() as f64;
                assert_eq!(factors.len(), 128 * [384, 192][layer]);
                let left_out = factors.iter().filter(|factor| **factor == 0.0).count() as f64;
                // Five standard deviations of a count.
                let p = f64::from(probability);
                let off = (left_out - n * p).abs();
                assert!(off < 5.0 * (n * p * (1.0 - p)).sqrt(), "{left_out} of {n}");
                assert!(
                    factors
                        .iter()
                        .all(|factor| [0.0, dropout.scale()].contains(factor))
                );
            }
        }
    }

    #[test]
    fn dropout_follows_from_seed_step_and_place() {
        let of = |seed, step| Dropout::new(&spec(0.5, seed), step, 0..16).unwrap().factors;
        assert_eq!(of(1, 3), of(1, 3));
        assert_ne!(of(1, 3), of(2, 3));
        assert_ne!(of(1, 3), of(1, 4));
        assert_ne!(of(1, 3)[0][..100], of(1, 3)[1][..100]);
        // An image's places do not depend on how many images follow it.
        let fewer = Dropout::new(&spec(0.5, 1), 3, 0..4).unwrap().factors;
        assert_eq!(fewer[1][..], of(1, 3)[1][..4 * 192]);
        let later = Dropout::new(&spec(0.5, 1), 3, 4..16).unwrap().factors;
        assert_eq!(later[1][..], of(1, 3)[1][4 * 192..]);
    }
}
