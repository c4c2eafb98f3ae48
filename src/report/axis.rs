//! Where values lie along an edge of a chart, and what is written there.

use crate::overview::text::number;

/// From this ratio of the largest to the smallest value on a linear scale would hide the small ones.
const LOGARITHMIC: f64 = 300.0;

/// Labels of an axis at most, about.
const TICKS: f64 = 5.0;

/// Words on an axis of words at most; of more the first and the last are written.
const WORDS: usize = 10;

/// An axis: how values become places in 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    scale: Scale,
    /// The values at its ends; of a logarithmic one their logarithms.
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// One that has room for these values, of which those that are not finite do not count; none without any. With
    /// `may_be_logarithmic` it is if all are above 0 and the largest is far above the smallest.
    pub fn of(values: impl Iterator<Item = f64> + Clone, may_be_logarithmic: bool) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let least = finite.clone().reduce(f64::min)?;
        let most = finite.reduce(f64::max)?;
        let is_logarithmic = may_be_logarithmic && least > 0.0 && most / least >= LOGARITHMIC;
        let (scale, mut low, mut high) = match is_logarithmic {
            true => (Scale::Logarithmic, least.log10(), most.log10()),
            false => (Scale::Linear, least, most),
        };
        if low == high {
            let room = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - room, high + room);
        }
        Some(Axis { scale, low, high })
    }

    /// The same with some room at both ends, for the width of lines and dots.
    pub fn with_room(self, share: f64) -> Self {
        let room = share * (self.high - self.low);
        Axis {
            low: self.low - room,
            high: self.high + room,
            ..self
        }
    }

    /// Whether it is logarithmic.
    pub fn is_logarithmic(&self) -> bool {
        self.scale == Scale::Logarithmic
    }

    /// Where a value lies, in 0..=1 if it is within the axis.
    pub fn place(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        };
        (value - self.low) / (self.high - self.low)
    }

    /// The value at a place.
    pub fn value(&self, place: f64) -> f64 {
        let value = self.low + place * (self.high - self.low);
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => 10_f64.powf(value),
        }
    }

    /// Round values within the axis: their places and what is written there.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let step = match self.scale {
            Scale::Linear => round_step((self.high - self.low) / TICKS),
            Scale::Logarithmic => ((self.high - self.low) / TICKS).ceil().max(1.0),
        };
        if !(step.is_finite() && step > 0.0) {
            return Vec::new();
        }
        let first = (self.low / step).ceil();
        let count = ((self.high / step).floor() - first).clamp(-1.0, 4.0 * TICKS) as i64;
        let tick = |index: i64| {
            let at = (first + index as f64) * step;
            let label = match self.scale {
                Scale::Linear => decimal(at, step),
                Scale::Logarithmic => decimal(10_f64.powf(at), 10_f64.powf(at)),
            };
            ((at - self.low) / (self.high - self.low), label)
        };
        (0..=count).map(tick).collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is no less.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0].into_iter();
    let steps = factors.map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(least)
}

/// A number with as many decimals as a step of this size needs.
fn decimal(value: f64, step: f64) -> String {
    // What is left of a sum that should be 0.
    let value = if value.abs() < 1e-9 * step {
        0.0
    } else {
        value
    };
    let decimals = -step.abs().log10().floor();
    match (decimals, value.abs()) {
        (..=0.0, ..1e7) => grouped(value.round()),
        (1.0..=5.0, ..1e7) => format!("{value:.*}", decimals as usize),
        _ => format!("{value:e}")
            .split_once('e')
            .map_or_else(String::new, |(digits, power)| {
                let digits: f64 = digits.parse().unwrap_or(0.0);
                format!("{}e{power}", (digits * 1e3).round() / 1e3)
            }),
    }
}

/// A whole number with a comma before each three digits: `100,000`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    match value < 0.0 {
        true => format!("-{text}"),
        false => text,
    }
}

/// An axis of a field's values: numbers where they lie, words and few numbers side by side.
pub struct FieldAxis {
    /// Where each value lies, in the order in which they were given; none of what has no value.
    pub places: Vec<Option<f64>>,
    /// Places and what is written there.
    pub ticks: Vec<(f64, String)>,
}

impl FieldAxis {
    /// That of these values as people read them.
    pub fn of(values: &[Option<String>]) -> Self {
        let mut distinct: Vec<&String> = Vec::new();
        for value in values.iter().flatten() {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        let parsed = |value: &String| value.parse::<f64>().ok().filter(|it| it.is_finite());
        let numbers: Option<Vec<f64>> = distinct.iter().map(|value| parsed(value)).collect();
        match numbers {
            Some(numbers) if distinct.len() > WORDS => {
                let axis = Axis::of(numbers.into_iter(), true);
                let place = |value: &Option<String>| {
                    let value = value.as_ref().and_then(parsed)?;
                    Some(axis.as_ref()?.place(value))
                };
                FieldAxis {
                    places: values.iter().map(place).collect(),
                    ticks: axis.as_ref().map(Axis::ticks).unwrap_or_default(),
                }
            }
            _ => {
                distinct.sort_by(|a, b| match (parsed(a), parsed(b)) {
                    (Some(a), Some(b)) => a.total_cmp(&b),
                    // Words stay in their order.
                    (a, b) => b.is_some().cmp(&a.is_some()),
                });
                let last = distinct.len().saturating_sub(1);
                let at = |index: usize| match last {
                    0 => 0.5,
                    _ => index as f64 / last as f64,
                };
                let place = |value: &Option<String>| {
                    let value = value.as_ref()?;
                    distinct.iter().position(|it| *it == value).map(at)
                };
                let is_written = |index: &usize| last < WORDS || [0, last].contains(index);
                let indices = (0..distinct.len()).filter(is_written);
                FieldAxis {
                    places: values.iter().map(place).collect(),
                    ticks: indices
                        .map(|index| (at(index), distinct[index].clone()))
                        .collect(),
                }
            }
        }
    }
}

/// A value beside a curve: the fewest digits that tell it from its neighbours.
pub fn shown(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => "infinite".to_owned(),
        value if value.abs() >= 1e3 && value.abs() < 1e7 => grouped(value.round()),
        value => number(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    fn axis(values: &[f64]) -> Axis {
        Axis::of(values.iter().copied(), true).unwrap()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(
            labels(&axis(&[0.0, 99_999.0])),
            ["0", "20,000", "40,000", "60,000", "80,000"]
        );
        assert_eq!(
            labels(&axis(&[0.098, 0.2134])),
            ["0.100", "0.150", "0.200"].map(|label| &label[..4])
        );
        assert_eq!(
            labels(&axis(&[-1.0, 1.0])),
            ["-1.0", "-0.5", "0.0", "0.5", "1.0"]
        );
        assert_eq!(
            labels(&axis(&[1e-4, 1.0])),
            ["0.0001", "0.001", "0.01", "0.1", "1"]
        );
        assert_eq!(
            labels(&axis(&[1.0, 3e38])),
            ["1", "1e8", "1e16", "1e24", "1e32"]
        );
        assert_eq!(labels(&axis(&[2e-7, 4e-7])).first().unwrap(), "2e-7");
        for (place, _) in axis(&[0.098, 0.2134]).ticks() {
            assert!((0.0..=1.0).contains(&place));
        }
    }

    #[test]
    fn axis_of_one_value_has_it_in_the_middle_and_of_none_is_none() {
        for value in [0.0, 0.5, -3.0, 1e38] {
            let axis = axis(&[value, f64::NAN, f64::INFINITY]);
            assert!((axis.place(value) - 0.5).abs() < 1e-9, "{value}");
            assert!(!axis.ticks().is_empty(), "{value}");
        }
        assert_eq!(Axis::of([f64::NAN].into_iter(), true), None);
    }

    #[test]
    fn axis_is_logarithmic_where_small_values_would_not_be_seen() {
        assert!(axis(&[0.001, 1.0]).is_logarithmic());
        assert!(!axis(&[0.1, 1.0]).is_logarithmic());
        assert!(!axis(&[0.0, 1e9]).is_logarithmic());
        let axis = axis(&[0.01, 100.0]);
        assert!((axis.place(1.0) - 0.5).abs() < 1e-9 && (axis.value(0.5) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn field_axis_has_few_numbers_and_words_side_by_side_and_many_numbers_where_they_lie() {
        let values = |texts: &[&str]| -> Vec<Option<String>> {
            texts.iter().map(|text| Some((*text).to_owned())).collect()
        };
        let rates = FieldAxis::of(&values(&["0.4", "0.05", "0.1", "0.4"]));
        assert_eq!(rates.places, [1.0, 0.0, 0.5, 1.0].map(Some));
        let words = FieldAxis::of(&[Some("sgd".into()), None, Some("adamw".into())]);
        assert_eq!(words.places, [Some(0.0), None, Some(1.0)]);
        let many: Vec<String> = (0..=20).map(|number| number.to_string()).collect();
        let many = FieldAxis::of(&many.into_iter().map(Some).collect::<Vec<_>>());
        assert_eq!(many.places[5], Some(0.25));
    }
}
