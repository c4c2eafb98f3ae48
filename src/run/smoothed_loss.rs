//! The smoothed loss of training, and where it goes.

use serde::{Deserialize, Serialize};

/// Moving averages of the loss over many steps and over more, which together tell where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmoothedLoss {
    /// Over about the last 50 steps.
    pub value: f64,
    /// Over about the last 500.
    pub longer: f64,
    /// How many steps there were.
    steps: u64,
}

/// Where the loss goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// It falls.
    Down,
    /// It changes by less than a hundredth.
    Level,
    /// It rises.
    Up,
}

impl SmoothedLoss {
    /// Takes in the loss of a step. One that is not finite has no average.
    pub fn add(before: Option<Self>, loss: f64) -> Option<Self> {
        if !loss.is_finite() {
            return before;
        }
        let (value, longer, steps) = match before {
            Some(before) => (before.value, before.longer, before.steps + 1),
            None => (loss, loss, 1),
        };
        // The first steps count alike: an average of two is the mean of both.
        let average = |old: f64, window: u64| old + (loss - old) / steps.min(window) as f64;
        Some(SmoothedLoss {
            value: average(value, 50),
            longer: average(longer, 500),
            steps,
        })
    }

    /// Where the loss goes, from the longer average to the shorter one.
    pub fn trend(&self) -> Trend {
        let change = self.value - self.longer;
        let little = 0.01 * self.longer.abs();
        match change {
            change if change < -little => Trend::Down,
            change if change > little => Trend::Up,
            _ => Trend::Level,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, TrainStatus};

    #[test]
    fn smoothed_loss_is_a_mean_at_first_and_tells_where_the_loss_goes() {
        let of = |losses: &[f64]| {
            let add = |before, &loss: &f64| SmoothedLoss::add(before, loss);
            losses.iter().fold(None, add).unwrap()
        };
        assert_eq!(of(&[1.0, 2.0, 6.0]).value, 3.0);
        assert_eq!(of(&[1.0, f64::NAN, 3.0]).value, 2.0);
        let steady = vec![2.0; 1000];
        assert_eq!(of(&steady).trend(), Trend::Level);
        assert_eq!(
            of(&[&steady[..], &[1.0; 100]].concat()).trend(),
            Trend::Down
        );
        assert_eq!(of(&[&steady[..], &[3.0; 100]].concat()).trend(), Trend::Up);
        let mut status = TrainStatus::new(Process::current());
        status.smoothed_loss = Some(of(&steady));
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<TrainStatus>(&json).unwrap(), status);
    }
}
