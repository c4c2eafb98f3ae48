//! Random values of fields. Draw `i` of a sweep follows from the sweep's seed and `i` alone, so that more draws leave the
//! first ones as they are.

use super::definition::{Choice, Parameter};
use crate::data::random::{SWEEP, stream};
use crate::spec::Seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_yaml::Value;

/// How a number is distributed between two bounds, both of which may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Uniform {
        min: f64,
        max: f64,
    },
    /// Its logarithm is uniform.
    LogUniformValues {
        min: f64,
        max: f64,
    },
    /// Whole numbers, all of the same chance.
    IntUniform {
        min: u64,
        max: u64,
    },
    /// Multiples of `q`, all of the same chance.
    QUniform {
        min: f64,
        max: f64,
        q: f64,
    },
}

impl Distribution {
    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Distribution::Uniform { .. } => "uniform",
            Distribution::LogUniformValues { .. } => "log_uniform_values",
            Distribution::IntUniform { .. } => "int_uniform",
            Distribution::QUniform { .. } => "q_uniform",
        }
    }

    /// Draws a value. One of a continuous distribution is rounded to as few digits as leave a thousand values at least, so
    /// that people can read it and type it.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Value {
        match *self {
            Distribution::Uniform { min, max } => {
                let drawn = min + (max - min) * rng.random::<f64>();
                let step = (max - min) / 1_000.0;
                let largest = min.abs().max(max.abs());
                value(rounded(drawn, digits(largest / step)).clamp(min, max))
            }
            Distribution::LogUniformValues { min, max } => {
                let (low, high) = (min.ln(), max.ln());
                let drawn = (low + (high - low) * rng.random::<f64>()).exp();
                value(rounded(drawn, digits(1_000.0 / (high - low))).clamp(min, max))
            }
            Distribution::IntUniform { min, max } => rng.random_range(min..=max).into(),
            Distribution::QUniform { min, max, q } => {
                let [first, last] = multiples(min, max, q);
                multiple(rng.random_range(first..=last), q)
            }
        }
    }
}

/// How many digits tell values apart of which there are so many; a float has 17.
fn digits(values: f64) -> usize {
    values.log10().ceil().clamp(2.0, 16.0) as usize + 1
}

/// The first and the last whole number whose multiple of `q` is within the bounds; the first is above the last if there is
/// none.
pub(super) fn multiples(min: f64, max: f64, q: f64) -> [i64; 2] {
    // 0.3 / 0.1 is 2.9999999999999996.
    let slack = 1e-9;
    [
        (min / q - slack).ceil() as i64,
        (max / q + slack).floor() as i64,
    ]
}

/// So many times `q`, without the last digits that a product of binary fractions has.
pub(super) fn multiple(times: i64, q: f64) -> Value {
    value(rounded(times as f64 * q, 12))
}

/// A number as a file has it: whole ones without a point.
pub(super) fn value(number: f64) -> Value {
    match number >= 0.0 && number.fract() == 0.0 && number < 1e15 {
        true => Value::from(number as u64),
        false => Value::from(number),
    }
}

/// The number nearest to this one with so many significant digits.
fn rounded(number: f64, digits: usize) -> f64 {
    let text = format!("{number:.*e}", digits - 1);
    text.parse().unwrap_or(number) // it is a number's text
}

/// The random choices of one draw.
pub(super) struct Draws {
    rng: ChaCha8Rng,
}

impl Draws {
    /// Those of draw number `index` of a sweep with this seed.
    pub fn new(seed: u64, index: u64) -> Self {
        Draws {
            rng: stream(Seed(seed), SWEEP, index),
        }
    }

    /// One of so many.
    pub fn index(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count as u64) as usize
    }

    /// A value of a parameter.
    pub fn value(&mut self, parameter: &Parameter) -> Value {
        match &parameter.choice {
            Choice::Values(values) => values[self.index(values.len())].clone(),
            Choice::Distribution(distribution) => distribution.draw(&mut self.rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_within_bounds_that_are_hardly_apart() {
        let next = 2.0_f64.next_up();
        for distribution in [
            Distribution::Uniform {
                min: 0.0,
                max: 4e-322,
            },
            Distribution::Uniform {
                min: 2.0,
                max: next,
            },
            Distribution::LogUniformValues {
                min: 2.0,
                max: next,
            },
            Distribution::LogUniformValues {
                min: 5e-324,
                max: f64::MAX,
            },
        ] {
            let (Distribution::Uniform { min, max } | Distribution::LogUniformValues { min, max }) =
                distribution
            else {
                panic!("none of those above");
            };
            let drawn = distribution
                .draw(&mut Draws::new(1, 1).rng)
                .as_f64()
                .unwrap();
            assert!((min..=max).contains(&drawn), "{distribution:?}: {drawn}");
        }
    }
}
