//! Median and quartiles: on a shared machine a mean tells of the neighbours.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where the middle of some measurements lies, and where the middle half of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of them are not larger.
    pub median: f64,
    /// A quarter of them are not larger.
    pub lower_quartile: f64,
    /// Three quarters of them are not larger.
    pub upper_quartile: f64,
    /// How many there are.
    pub samples: usize,
}

impl Spread {
    /// NaN where there are no samples.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Spread {
            median: quantile(&sorted, 0.5),
            lower_quartile: quantile(&sorted, 0.25),
            upper_quartile: quantile(&sorted, 0.75),
            samples: sorted.len(),
        }
    }

    /// The same in another unit.
    pub fn times(self, factor: f64) -> Self {
        Spread {
            median: self.median * factor,
            lower_quartile: self.lower_quartile * factor,
            upper_quartile: self.upper_quartile * factor,
            samples: self.samples,
        }
    }
}

/// `81.3 (80.9 to 83.0)`, to the precision asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (median, lower, upper) = (self.median, self.lower_quartile, self.upper_quartile);
        write!(
            f,
            "{median:.digits$} ({lower:.digits$} to {upper:.digits$})"
        )
    }
}

/// Between neighbours the value is interpolated.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}
