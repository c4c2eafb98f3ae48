//! Pure functions of the step: the learning rate and the moving averages' decay.

use crate::spec::{self, Fidelity, Interpolation, ScheduleName, Spec, Unit};
use std::f64::consts::PI;

/// The learning rate of every step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    learning_rate: f64,
    factor: Piecewise,
    warmup: Piecewise,
    average: AverageSchedule,
}

/// What a step depends on beside its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRates {
    pub learning_rate: f64,
    /// Decay of the average of the weights, if the step updates it.
    pub average_decay: Option<f64>,
}

/// When the average of the weights is updated, and with which decay.
#[derive(Clone, Debug, PartialEq)]
struct AverageSchedule {
    spec: spec::Average,
    limit: f64,
    /// Steps of the run.
    steps: u64,
    /// Until this step the average is the weights.
    start: f64,
    /// Steps that make one update of the weights.
    accumulation: u64,
}

impl AverageSchedule {
    /// Decay in the step that is the `step`-th, counted from 0, if that one updates the average.
    fn decay(&self, step: u64) -> Option<f64> {
        let taken = step + 1;
        if (taken as f64) < self.start && self.spec.name != spec::AverageName::None {
            return Some(0.0);
        }
        let period = self.accumulation * self.spec.every;
        let is_update = taken.is_multiple_of(period);
        match self.spec.name {
            spec::AverageName::Ema if is_update && self.spec.warmup => {
                let updates = (taken as f64 - self.start) as u64 / period;
                Some(ema_decay(self.limit, updates))
            }
            spec::AverageName::Ema if is_update => Some(self.limit),
            spec::AverageName::Lookahead if is_update => {
                let over = taken as f64 / self.steps as f64;
                Some(self.limit * over.powf(self.spec.power))
            }
            // The steps after the last update count for nothing: the weights end as the average. One that was never updated
            // becomes the weights.
            spec::AverageName::Lookahead if taken == self.steps => {
                let last_update = taken - taken % period;
                let is_updated = last_update > 0 && last_update as f64 >= self.start;
                Some(if is_updated { 1.0 } else { 0.0 })
            }
            spec::AverageName::Ema | spec::AverageName::Lookahead | spec::AverageName::None => None,
        }
    }
}

/// A time of this unit in steps, of a run of `steps` steps, `epoch` to an epoch.
pub fn in_steps(time: f64, unit: Unit, steps: f64, epoch: f64) -> f64 {
    match unit {
        Unit::Steps => time,
        Unit::Epochs => time * epoch,
        Unit::Percent => time / 100.0 * steps,
    }
}

impl Schedule {
    /// Of a run on `images` training images.
    pub fn new(spec: &Spec, images: usize) -> Self {
        let (schedule, optimizer) = (&spec.schedule, &spec.optimizer);
        let (steps, epoch) = (
            spec.train.total_steps(images) as f64,
            spec.train.steps_per_epoch(images),
        );
        let step = |time: f64| in_steps(time, schedule.unit, steps, epoch);
        let knots = schedule.knots.iter().map(|&time| step(time));
        let smooth = schedule.interpolation;
        let factor = match schedule.name {
            ScheduleName::Constant => Piecewise::new([], Interpolation::Step),
            // A drop comes every int(images / batch_size * epochs_per_decay) steps, as in the tutorial.
            ScheduleName::Exponential => Piecewise::exponential(
                optimizer.decay_factor,
                (epoch * optimizer.epochs_per_decay).floor().max(1.0),
                optimizer.staircase,
            ),
            ScheduleName::Multistep => {
                let drops = (1..).map(|drops| schedule.factor.powi(drops));
                let knots = [(0.0, 1.0)].into_iter().chain(knots.zip(drops));
                Piecewise::new(knots, Interpolation::Step)
            }
            ScheduleName::Cosine => {
                let ends = [(0.0, 1.0), (steps, schedule.final_factor)];
                Piecewise::new(ends, Interpolation::Cosine)
            }
            // The last step is at the end, as in torch.optim.lr_scheduler.OneCycleLR; so a peak there has no way down,
            // and one up to the first step no way up.
            ScheduleName::OneCycle => {
                let (peak, last) = (schedule.peak / 100.0 * steps - 1.0, steps - 1.0);
                let up = (peak > 0.0).then_some((0.0, schedule.initial_factor));
                // A single step is at the peak: at the end it might learn nothing.
                let has_way_down = peak < last && last > 0.0;
                let down = has_way_down.then_some((last, schedule.final_factor));
                let knots = up.into_iter().chain([(peak, 1.0)]).chain(down);
                Piecewise::new(knots, smooth)
            }
            ScheduleName::Piecewise => {
                Piecewise::new(knots.zip(schedule.factors.iter().copied()), smooth)
            }
        };
        let rise = [(0.0, schedule.warmup_factor), (step(schedule.warmup), 1.0)];
        let warmup = rise.into_iter().filter(|_| schedule.warmup > 0.0);
        Schedule {
            learning_rate: optimizer.learning_rate,
            factor,
            warmup: Piecewise::new(warmup, Interpolation::Linear),
            average: AverageSchedule {
                limit: optimizer.ema_decay,
                steps: spec.train.total_steps(images),
                start: spec.average.start_epoch * epoch,
                accumulation: optimizer.gradient_accumulation,
                spec: spec.average.clone(),
            },
        }
    }

    /// The rates of the step that is the `step`-th, counted from 0.
    pub fn rates(&self, step: u64) -> StepRates {
        StepRates {
            learning_rate: self.learning_rate(step),
            average_decay: self.average.decay(step),
        }
    }

    /// Learning rate of the step that is the `step`-th, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let step = step as f64;
        self.learning_rate * self.factor.at(step) * self.warmup.at(step)
    }
}

/// A function of the step in pieces: all schedules are one.
#[derive(Clone, Debug, PartialEq)]
struct Piecewise(Vec<Knot>);

/// Where a piece begins, and how it goes on.
#[derive(Clone, Debug, PartialEq)]
struct Knot {
    step: f64,
    value: f64,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// To the next knot's value.
    To(Interpolation),
    /// factor^(steps / steps per drop), the exponent rounded down for a staircase, as in tf.train.exponential_decay.
    Exponential {
        factor: f64,
        steps_per_drop: f64,
        staircase: bool,
    },
}

impl Piecewise {
    /// Through these points of step and value, the steps ascending; 1 where there are none.
    fn new(points: impl IntoIterator<Item = (f64, f64)>, interpolation: Interpolation) -> Self {
        let knot = |(step, value)| Knot {
            step,
            value,
            shape: Shape::To(interpolation),
        };
        Piecewise(points.into_iter().map(knot).collect())
    }

    fn exponential(factor: f64, steps_per_drop: f64, staircase: bool) -> Self {
        Piecewise(vec![Knot {
            step: 0.0,
            value: 1.0,
            shape: Shape::Exponential {
                factor,
                steps_per_drop,
                staircase,
            },
        }])
    }

    /// Before the first knot it has the first one's value, and after the last one the last one's.
    fn at(&self, step: f64) -> f64 {
        let knots = &self.0;
        let after = knots.partition_point(|knot| knot.step <= step);
        let (before, next) = (after.checked_sub(1).map(|at| &knots[at]), knots.get(after));
        let (Some(knot), next) = (before, next) else {
            return next.map_or(1.0, |first| first.value);
        };
        let passed = step - knot.step;
        match (&knot.shape, next) {
            (
                Shape::Exponential {
                    factor,
                    steps_per_drop,
                    staircase,
                },
                _,
            ) => {
                let drops = passed / steps_per_drop;
                let drops = if *staircase { drops.floor() } else { drops };
                knot.value * factor.powf(drops)
            }
            (Shape::To(Interpolation::Step), _) | (_, None) => knot.value,
            (Shape::To(Interpolation::Linear), Some(next)) => {
                let progress = passed / (next.step - knot.step);
                knot.value + (next.value - knot.value) * progress
            }
            (Shape::To(Interpolation::Cosine), Some(next)) => {
                let progress = passed / (next.step - knot.step);
                let left = (1.0 + (PI * progress).cos()) / 2.0;
                next.value + (knot.value - next.value) * left
            }
        }
    }
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
    use crate::testing::golden::path;

    #[test]
    fn learning_rate_drops_every_350_epochs() {
        let mut spec = Spec::default();
        let rate = |spec: &Spec, step| Schedule::new(spec, 50_000).learning_rate(step);
        let drop = 136_718; // int(50000 / 128 * 350)
        assert_eq!(rate(&spec, 0), 0.1);
        assert_eq!(rate(&spec, drop - 1), 0.1);
        assert!((rate(&spec, drop) - 0.01).abs() < 1e-15);
        assert!((rate(&spec, 2 * drop) - 0.001).abs() < 1e-15);
        spec.optimizer.staircase = false;
        assert!((rate(&spec, drop / 2) - 0.1 * 0.1f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn exponential_schedule_has_the_bits_that_it_had_before_there_were_others() {
        let mut spec = Spec::default();
        spec.optimizer.epochs_per_decay = 0.013;
        spec.optimizer.decay_factor = 0.97;
        for (rate, staircase) in [(0.1, true), (0.017, false), (0.3, true)] {
            (spec.optimizer.learning_rate, spec.optimizer.staircase) = (rate, staircase);
            let schedule = Schedule::new(&spec, 1_999);
            for step in 0..200 {
                let steps_per_drop = (1_999.0 / 128.0 * 0.013f64).floor().max(1.0);
                let drops = step as f64 / steps_per_drop;
                let drops = if staircase { drops.floor() } else { drops };
                let want = rate * 0.97f64.powf(drops);
                assert_eq!(schedule.learning_rate(step).to_bits(), want.to_bits());
            }
        }
    }

    #[test]
    fn piecewise_schedule_counts_steps_epochs_or_percent() {
        let mut spec = Spec::default();
        spec.train.steps = Some(1_000);
        spec.train.batch_size = 100;
        spec.optimizer.learning_rate = 1.0;
        spec.schedule.name = ScheduleName::Piecewise;
        spec.schedule.factors = vec![0.2, 1.0, 0.0];
        let mut rates = |unit, knots: [f64; 3], interpolation| {
            let schedule = &mut spec.schedule;
            (schedule.unit, schedule.interpolation) = (unit, interpolation);
            schedule.knots = knots.to_vec();
            let schedule = Schedule::new(&spec, 20_000); // 200 steps an epoch
            [0, 50, 100, 199, 200, 600, 1_000, 5_000].map(|step| schedule.learning_rate(step))
        };
        let linear = [0.2, 0.4, 0.6, 0.996, 1.0, 0.5, 0.0, 0.0];
        for (unit, knots) in [
            (Unit::Steps, [0.0, 200.0, 1_000.0]),
            (Unit::Epochs, [0.0, 1.0, 5.0]),
            (Unit::Percent, [0.0, 20.0, 100.0]),
        ] {
            let got = rates(unit, knots, Interpolation::Linear);
            let near = got
                .iter()
                .zip(linear)
                .all(|(got, want)| (got - want).abs() < 1e-12);
            assert!(near, "{unit:?}: {got:?}");
        }
        assert_eq!(
            rates(Unit::Steps, [50.0, 200.0, 1_000.0], Interpolation::Step),
            [0.2, 0.2, 0.2, 0.2, 1.0, 1.0, 0.0, 0.0]
        );
    }

    #[test]
    fn one_cycle_schedule_of_few_steps_or_with_its_peak_at_an_end_has_knots_in_order() {
        let mut spec = Spec::default();
        spec.schedule.name = ScheduleName::OneCycle;
        spec.schedule.initial_factor = 0.5;
        spec.optimizer.learning_rate = 1.0;
        let mut rates = |peak, steps| {
            (spec.schedule.peak, spec.train.steps) = (peak, Some(steps));
            let schedule = Schedule::new(&spec, 50_000);
            let knots = &schedule.factor.0;
            assert!(knots.is_sorted_by(|one, next| one.step < next.step));
            let rates = (0..steps).map(|step| schedule.learning_rate(step));
            rates.collect::<Vec<f64>>()
        };
        for peak in [0.0, 30.0, 100.0] {
            assert_eq!(rates(peak, 1), [1.0]);
        }
        assert_eq!(rates(0.0, 4), [0.75, 0.5, 0.25, 0.0]); // PyTorch's
        assert_eq!(rates(20.0, 5), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(rates(100.0, 3), [0.5, 0.75, 1.0]); // PyTorch's
    }

    /// What PyTorch's schedulers say (tests/reference/make_torch_golden.py).
    #[test]
    fn schedules_are_pytorchs() {
        #[derive(serde::Deserialize)]
        struct Case {
            spec: serde_yaml::Value,
            images: usize,
            rates: Vec<f64>,
        }
        let text = std::fs::read_to_string(path("torch_schedules.json")).unwrap();
        let cases: std::collections::BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
        assert!(cases.len() > 8);
        for (name, case) in cases {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("x.yaml");
            std::fs::write(&file, serde_yaml::to_string(&case.spec).unwrap()).unwrap();
            let spec = crate::spec::load(&file, directory.path(), &[])
                .unwrap()
                .spec;
            let schedule = Schedule::new(&spec, case.images);
            for (step, want) in case.rates.iter().enumerate() {
                let got = schedule.learning_rate(step as u64);
                let off = (got - want).abs();
                assert!(off < 1e-9, "{name}: step {step}: got {got}, want {want}");
            }
        }
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
    fn average_of_the_weights_begins_and_is_updated_when_the_spec_says() {
        let mut spec = Spec::default();
        let decays = |spec: &Spec, steps: [u64; 5]| {
            let schedule = Schedule::new(spec, 12_800); // 100 steps an epoch
            steps.map(|step| schedule.rates(step).average_decay)
        };
        spec.train.steps = Some(1_000);
        // The tutorial's: at every step, min(0.9999, (1 + n) / (10 + n)).
        let want = [1u64, 2, 3, 100, 1_000].map(|n| Some(ema_decay(0.9999, n)));
        assert_eq!(decays(&spec, [0, 1, 2, 99, 999]), want);
        spec.average.start_epoch = 2.0;
        spec.average.every = 5;
        let want = [Some(0.0), Some(0.0), Some(0.1), None, Some(2.0 / 11.0)];
        assert_eq!(decays(&spec, [0, 198, 199, 200, 204]), want);
        spec.average.warmup = false;
        spec.optimizer.gradient_accumulation = 2;
        let want = [Some(0.0), None, Some(0.9999), None, Some(0.9999)];
        assert_eq!(decays(&spec, [0, 204, 209, 214, 999]), want);

        spec.average = spec::Average {
            name: spec::AverageName::Lookahead,
            every: 5,
            power: 3.0,
            ..spec::Average::default()
        };
        spec.optimizer.gradient_accumulation = 1;
        spec.optimizer.ema_decay = 0.8;
        let want = [None, Some(0.8 * 0.1f64.powf(3.0)), None, None, Some(0.8)];
        assert_eq!(decays(&spec, [0, 99, 100, 998, 999]), want);
        // Steps after the last update are taken back at the end, if there was an update.
        for (every, last) in [(7, Some(1.0)), (1_000, Some(0.8)), (1_001, Some(0.0))] {
            spec.average.every = every;
            assert_eq!(decays(&spec, [999; 5]), [last; 5], "every {every}");
        }
        spec.average.name = spec::AverageName::None;
        assert_eq!(decays(&spec, [0, 4, 99, 998, 999]), [None; 5]);
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
