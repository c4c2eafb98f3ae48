//! Pure functions of the step: the learning rate and the moving averages' decay.

use crate::spec::{Fidelity, Optimizer};

/// Learning rate of the step that is the `step`-th, counted from 0.
///
/// initial * factor^(step / steps per drop), the exponent rounded down for a staircase, as in
/// tf.train.exponential_decay; a drop comes every int(images / batch_size * epochs_per_decay) steps, as
/// in the tutorial.
pub fn learning_rate(spec: &Optimizer, step: u64, images: usize, batch_size: usize) -> f64 {
    let batches_per_epoch = images as f64 / batch_size as f64;
    let steps_per_drop = (batches_per_epoch * spec.epochs_per_decay).floor().max(1.0);
    let drops = step as f64 / steps_per_drop;
    let drops = if spec.staircase { drops.floor() } else { drops };
    spec.learning_rate * spec.decay_factor.powf(drops)
}

/// Decay of the weights' moving average after `updates` steps: min(limit, (1 + n) / (10 + n)), as in
/// tf.train.ExponentialMovingAverage with num_updates.
pub fn ema_decay(limit: f64, updates: u64) -> f64 {
    let n = updates as f64;
    limit.min((1.0 + n) / (10.0 + n))
}

/// A moving average of a scalar: the newest value weighs most.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Average {
    sum: f64,
    weight: f64,
}

impl Average {
    /// Decay of the tutorial's averages of the losses.
    const DECAY: f64 = 0.9;

    /// Add a value.
    pub fn update(&mut self, value: f64) {
        self.sum = Self::DECAY * self.sum + (1.0 - Self::DECAY) * value;
        self.weight = Self::DECAY * self.weight + (1.0 - Self::DECAY);
    }

    /// The average: the weighted mean of what it was updated with or, as in the tutorial, that mean as if
    /// there had been zeros before.
    pub fn value(&self, fidelity: Fidelity) -> f64 {
        match fidelity {
            Fidelity::Exact => self.sum / self.weight,
            Fidelity::Tutorial => self.sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rate_drops_every_350_epochs() {
        let spec = Optimizer::default();
        let rate = |step| learning_rate(&spec, step, 50_000, 128);
        let drop = 136_718; // int(50000 / 128 * 350)
        assert_eq!(rate(0), 0.1);
        assert_eq!(rate(drop - 1), 0.1);
        assert!((rate(drop) - 0.01).abs() < 1e-15);
        assert!((rate(2 * drop) - 0.001).abs() < 1e-15);
        let smooth = Optimizer {
            staircase: false,
            ..spec
        };
        let half = learning_rate(&smooth, drop / 2, 50_000, 128);
        assert!((half - 0.1 * 0.1f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn ema_decay_grows_to_its_limit() {
        for (updates, want) in [
            (0, 0.1),
            (1, 2.0 / 11.0),
            (100, 101.0 / 110.0),
            (1_000_000, 0.9999),
        ] {
            assert_eq!(ema_decay(0.9999, updates), want);
        }
    }

    #[test]
    fn average_is_a_mean_or_the_tutorials_that_starts_at_zero() {
        let mut average = Average::default();
        for n in 1..=5 {
            average.update(4.5);
            assert!((average.value(Fidelity::Exact) - 4.5).abs() < 1e-12);
            let biased = 4.5 * (1.0 - 0.9f64.powi(n));
            assert!((average.value(Fidelity::Tutorial) - biased).abs() < 1e-12);
        }
        average.update(0.0);
        let weight = 0.1 / (1.0 - 0.9f64.powi(6));
        assert!((average.value(Fidelity::Exact) - 4.5 * (1.0 - weight)).abs() < 1e-12);
    }
}
