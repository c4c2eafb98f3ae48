//! What a run will keep on disk, and times for people.

use crate::checkpoint::MAX_WAITING;
use crate::compute::{Pace, Trial};
use crate::data;
use crate::overview::bytes;
use crate::spec::{AverageName, Compute, OnDivergence, Policy, Source, Spec};
use crate::sweep::Sweep;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;

// Bytes in an event file, as runs of the tutorial's network have them; other networks' are much the same.

/// The curves of a step.
const SCALARS: u64 = 2_600;
/// The histograms of a step and the first layer's filters.
const HISTOGRAMS: u64 = 72_000;
/// The input images of a step.
const IMAGES: u64 = 9_000;
/// Curves and pictures of an evaluation.
const EVALUATION: u64 = 160_000;
/// Graph, spec and provenance in event files, and the files that are no event files.
const ONCE: u64 = 25_000;
/// What a checkpoint has beside its tensors.
const CHECKPOINT: u64 = 4_000;

/// Test images of CIFAR-10.
const CIFAR10_TEST_IMAGES: usize = 10_000;

/// The forward pass's share of a training step: the gradients of weights and of activations cost as much again, each.
const FORWARD: f64 = 1.0 / 3.0;

/// Points that are timed at most: each takes about a second.
const TIMED: usize = 4;

/// How much longer a session of a point takes than its steps and evaluations, in seconds: see docs/sweeps.md.
const START_SECONDS: f64 = 0.6;

/// Bytes that a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Number of checkpoints that stay.
    pub checkpoints: u64,
    /// So many more at most are there meanwhile, because they wait for their evaluation.
    pub waiting: u64,
    /// Bytes of one.
    pub checkpoint_bytes: u64,
    /// Histograms and filters, of all steps that show them.
    pub histograms: u64,
    /// Curves and pictures of all evaluations.
    pub evaluations: u64,
    /// The rest.
    pub rest: u64,
}

impl Disk {
    /// Of a run of `steps` steps whose checkpoints have `tensor_bytes` bytes of tensors each.
    pub fn of(spec: &Spec, steps: u64, tensor_bytes: u64) -> Disk {
        let train = &spec.train;
        let times = |every: u64| steps.div_ceil(every);
        let saved = saved(spec, steps);
        let latest = saved.min(train.keep_checkpoints as u64);
        let others = saved - latest;
        let every = match train.keep_every {
            0 => 0,
            every => times(every.max(train.checkpoint_every)).min(others),
        };
        let best = u64::from(train.keep_best).min(others - every);
        // The last one, where it is beside those of the cadence.
        let last = match train.on_divergence {
            OnDivergence::Stop => 0,
            OnDivergence::Rollback => {
                (saved - times(train.checkpoint_every)).min(others - every - best)
            }
        };
        let checkpoints = latest + every + best + last;
        let waiting = match spec.eval.policy {
            Policy::Every => (saved - checkpoints).min(MAX_WAITING as u64),
            Policy::Latest => 0,
        };
        Disk {
            checkpoints,
            waiting,
            checkpoint_bytes: tensor_bytes + CHECKPOINT,
            histograms: times(train.histograms_every) * HISTOGRAMS,
            evaluations: saved * EVALUATION,
            rest: times(train.scalars_every) * SCALARS + times(train.images_every) * IMAGES + ONCE,
        }
    }

    /// All that stays.
    pub fn bytes(&self) -> u64 {
        self.checkpoints * self.checkpoint_bytes + self.histograms + self.evaluations + self.rest
    }
}

/// Checkpoints that a run of `steps` steps saves.
fn saved(spec: &Spec, steps: u64) -> u64 {
    let every = spec.train.checkpoint_every;
    let last = steps.saturating_sub(1);
    steps.div_ceil(every) + u64::from(!last.is_multiple_of(every))
}

/// How fast the points of a sweep train.
#[derive(Clone, Debug)]
pub struct Paces {
    /// That of each point, in their order.
    of_points: Vec<Pace>,
    /// How many different ones there are to be expected, and how many were timed.
    kinds: usize,
    timed: usize,
    /// How many times as long a step takes where the checkpoints are scored.
    scoring: f64,
}

impl Paces {
    /// Times points whose networks, optimizers or precisions differ, but not more than [`TIMED`]: of more of them the smallest,
    /// the largest and some between. `scored` names the device that their checkpoints are scored on, if that is none of the kind
    /// that they train on. None if one is so large that it would take long.
    ///
    /// # Errors
    /// As [`Trial::paces`].
    pub fn measure(sweep: &Sweep, trial: Trial, scored: Option<&str>) -> Result<Option<Self>> {
        // From the least multiplications to the most.
        let mut kinds: BTreeMap<(u64, String), &Spec> = BTreeMap::new();
        for spec in &sweep.specs {
            kinds.entry(kind(spec)?).or_insert(spec);
        }
        let kinds: Vec<&Spec> = kinds.into_values().collect();
        let mut specs: Vec<Spec> = spread(&kinds, TIMED)
            .map(|spec| alone(spec, &sweep.base.compute))
            .collect();
        let elsewhere = scored.and_then(|device| Some(trained_on(specs.first()?, device)));
        specs.extend(elsewhere);
        let paces = trial.paces(&specs.iter().collect::<Vec<_>>())?;
        let Some(mut paces) = paces.into_iter().collect::<Option<Vec<Pace>>>() else {
            return Ok(None);
        };
        let elsewhere = scored.and_then(|_| paces.pop());
        let scoring = elsewhere.map_or(1.0, |pace| pace.step_seconds / paces[0].step_seconds);
        let timed: Vec<(&Spec, Pace)> = specs.iter().zip(paces).collect();
        let of_points = sweep.specs.iter().map(|spec| pace_like(spec, &timed));
        Ok(Some(Paces {
            of_points: of_points.collect::<Result<_>>()?,
            kinds: kinds.len(),
            timed: timed.len(),
            scoring,
        }))
    }

    /// Bytes that all points keep, which train so many steps each if halving does not stop them before.
    pub fn disk(&self, sweep: &Sweep, steps: &[u64]) -> u64 {
        let all = |steps: &[u64]| -> u64 {
            let points = sweep.specs.iter().zip(steps).zip(&self.of_points);
            let disks =
                points.map(|((spec, &steps), pace)| Disk::of(spec, steps, pace.checkpoint_bytes));
            disks.map(|disk| disk.bytes()).sum()
        };
        if sweep.definition.early_terminate.is_none() {
            return all(steps);
        }
        // Which points are stopped nobody knows: each stage's are told as a share of all.
        let stages = sweep.definition.stages(steps);
        let going_on = stages.iter().skip(1).map(|next| next.points).chain([0]);
        let bytes = stages.iter().zip(going_on).map(|(stage, going_on)| {
            let share = (stage.points - going_on) as f64 / steps.len() as f64;
            share * all(&vec![stage.until; steps.len()]) as f64
        });
        bytes.sum::<f64>() as u64
    }

    /// About how long the points, which train so many steps each, take one after the other, in seconds: their steps, their
    /// evaluations, and the start of their processes.
    pub fn seconds(&self, sweep: &Sweep, steps: &[u64]) -> [f64; 3] {
        let [mut training, mut evaluation] = [0.0; 2];
        for ((spec, &steps), pace) in sweep.specs.iter().zip(steps).zip(&self.of_points) {
            training += steps as f64 * pace.step_seconds;
            evaluation += evaluation_seconds(spec, steps, pace.step_seconds * self.scoring);
        }
        // What halving leaves of it.
        let definition = &sweep.definition;
        let share = definition.steps(steps) as f64 / steps.iter().sum::<u64>().max(1) as f64;
        let starts = definition.starts(steps) as f64 * START_SECONDS;
        [training * share, evaluation * share, starts]
    }
}

/// What was timed: `20 steps`, `a few steps of each of 3 networks or optimizers`.
impl fmt::Display for Paces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = "different networks or optimizers";
        match (self.timed, self.kinds) {
            (_, 1) => write!(f, "{} steps", self.of_points[0].steps),
            (timed, all) if timed < all => {
                write!(
                    f,
                    "a few steps of {timed} of {all} {kinds}, and the others by their multiplications,"
                )
            }
            (_, all) => write!(f, "a few steps of each of {all} {kinds}"),
        }
    }
}

/// A point as it trains where `base` says, on all of that. The cores are shared by the points that run at once, so that all
/// of them are told as one after the other.
fn alone(point: &Spec, base: &Compute) -> Spec {
    Spec {
        compute: Compute {
            precision: point.compute.precision,
            ..base.clone()
        },
        ..point.clone()
    }
}

/// The same on another device.
pub fn trained_on(spec: &Spec, device: &str) -> Spec {
    let mut spec = spec.clone();
    spec.compute.device = device.to_owned();
    spec
}

/// What the time of a step follows from beside the images in it: the multiplications, and what else makes a difference.
fn kind(spec: &Spec) -> Result<(u64, String)> {
    let (network, crop) = (&spec.network, spec.input.crop);
    let shapes = network.parameter_shapes(crop);
    let others = (
        network.norm.name,
        spec.optimizer.name,
        spec.compute.precision,
    );
    let named = serde_json::to_string(&(shapes, others))?;
    Ok((network.products(crop), named))
}

/// How fast a spec trains, by those that were timed: that of its kind, or else the nearest by its multiplications.
fn pace_like(spec: &Spec, timed: &[(&Spec, Pace)]) -> Result<Pace> {
    let (products, named) = kind(spec)?;
    let mut nearest: Option<(bool, f64, &(&Spec, Pace))> = None;
    for candidate in timed {
        let (its_products, its_name) = kind(candidate.0)?;
        let distance = (products as f64 / its_products as f64).ln().abs();
        let order = (its_name != named, distance);
        if nearest.is_none_or(|(other, distance, _)| order < (other, distance)) {
            nearest = Some((order.0, order.1, candidate));
        }
    }
    let (_, _, (like, pace)) = nearest.context("no point was timed")?;
    let ratio = |of: fn(&Spec) -> f64| of(spec) / of(like);
    let images = ratio(|spec| spec.train.batch_size as f64);
    let products = ratio(|spec| spec.network.products(spec.input.crop) as f64);
    let weights = ratio(|spec| {
        let shapes = spec.network.parameter_shapes(spec.input.crop);
        shapes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>() as f64)
            .sum()
    });
    Ok(Pace {
        step_seconds: pace.step_seconds * images * products,
        checkpoint_bytes: (pace.checkpoint_bytes as f64 * weights) as u64,
        ..*pace
    })
}

/// Not more than `most` of these, the first and the last, and others at even distances.
fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let taken = all.len().min(most);
    (0..taken).map(move |index| &all[index * (all.len() - 1) / (taken - 1).max(1)])
}

/// About how long the scores of all checkpoints of a run take where nothing else computes and a training step takes so long, in
/// seconds.
pub fn evaluation_seconds(spec: &Spec, steps: u64, step_seconds: f64) -> f64 {
    let images = saved(spec, steps) as f64 * evaluated_images(spec) as f64;
    images * step_seconds / spec.train.batch_size as f64 * FORWARD
}

/// Images that the network computes in an evaluation.
fn evaluated_images(spec: &Spec) -> usize {
    let test = match spec.data.source {
        Source::Synthetic => spec.data.synthetic.test_images,
        Source::Cifar10 => CIFAR10_TEST_IMAGES,
    };
    let views = data::views(spec.eval.tta, &spec.input).len();
    // Of an average and of the raw weights beside it.
    let raw = usize::from(spec.average.name != AverageName::None);
    test * (views + raw) + spec.data.validation_images
}

/// `81 MB kept: 6 checkpoints of 8.6 MB, ...; up to 810 MB more ...`
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kept: {} checkpoints of {}, histograms {}, evaluations {}, the rest {}",
            bytes(self.bytes()),
            self.checkpoints,
            bytes(self.checkpoint_bytes),
            bytes(self.histograms),
            bytes(self.evaluations),
            bytes(self.rest)
        )?;
        if self.waiting > 0 {
            write!(
                f,
                "; up to {} more while checkpoints wait for their evaluation",
                bytes(self.waiting * self.checkpoint_bytes)
            )?;
        }
        Ok(())
    }
}

/// A time, as `5.8 hours`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        one if one < 1.5 => "1 second".to_owned(),
        few if few < 100.0 => format!("{few:.0} seconds"),
        more if more < 6_000.0 => format!("{:.0} minutes", more / 60.0),
        many if many < 48.0 * 3_600.0 => format!("{:.1} hours", many / 3_600.0),
        many => format!("{:.1} days", many / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Precision;

    #[test]
    fn disk_counts_what_the_cadences_write_and_retention_keeps() {
        let mut spec = Spec::default();
        spec.train.histograms_every = 100;
        let disk = Disk::of(&spec, 100_000, 8_546_000);
        assert_eq!(disk.checkpoints, 6); // five latest, the best
        assert_eq!(disk.waiting, 95); // of 101 in all
        let told = disk.to_string();
        let end = "; up to 812 MB more while checkpoints wait for their evaluation";
        assert!(told.ends_with(end), "{told}");
        assert_eq!(disk.histograms, 1_000 * HISTOGRAMS);
        assert_eq!(disk.evaluations, 101 * EVALUATION);
        spec.train.keep_every = 10_000;
        assert_eq!(Disk::of(&spec, 100_000, 1).checkpoints, 16);
        spec.train.checkpoint_every = 100;
        assert_eq!(Disk::of(&spec, 100_000, 1).waiting, 100);
        spec.eval.policy = Policy::Latest;
        assert_eq!(Disk::of(&spec, 100_000, 1).waiting, 0);
        spec.train.checkpoint_every = 1_000;
        spec.train.keep_best = false;
        spec.train.keep_every = 0;
        assert_eq!(Disk::of(&spec, 1, 1).checkpoints, 1);
        assert_eq!(Disk::of(&spec, 1_001, 1).checkpoints, 2);
    }

    #[test]
    fn scores_take_a_share_of_the_steps_of_their_own_device() {
        let mut spec = Spec::default();
        spec.compute.device = "cuda:0".to_owned();
        assert_eq!(trained_on(&spec, "cpu").compute.device, "cpu");
        let on_cpu = evaluation_seconds(&spec, 1_000, 0.3);
        // Two checkpoints, each by its average and its raw weights.
        let batches = 2.0 * 20_000.0 / 128.0;
        assert!((on_cpu - batches * 0.3 * FORWARD).abs() < 1e-9, "{on_cpu}");
    }

    #[test]
    fn points_that_are_timed_are_spread_from_the_smallest_to_the_largest() {
        let spread = |count| {
            spread(&Vec::from_iter(1..=count), 4)
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(spread(1), [1]);
        assert_eq!(spread(4), [1, 2, 3, 4]);
        assert_eq!(spread(10), [1, 4, 7, 10]);
        assert_eq!(spread(5), [1, 2, 3, 5]);
    }

    #[test]
    fn point_is_timed_in_its_own_precision_with_the_threads_of_the_base() {
        let mut point = Spec::default();
        point.compute.precision = Precision::Bf16;
        point.compute.threads = 1;
        let base = Compute {
            threads: 4,
            ..Compute::default()
        };
        let timed = alone(&point, &base);
        assert_eq!(timed.compute.threads, 4);
        assert_eq!(kind(&timed).unwrap(), kind(&point).unwrap());
    }

    #[test]
    fn point_that_is_not_timed_takes_as_long_as_the_nearest_one_by_its_multiplications() {
        let with = |channels, batch_size| {
            let mut spec = Spec::default();
            spec.network.conv1.channels = channels;
            spec.train.batch_size = batch_size;
            spec
        };
        let pace = |seconds| Pace {
            steps: 20,
            step_seconds: seconds,
            threads: 2,
            checkpoint_bytes: 1_000_000,
        };
        let (small, large) = (with(8, 128), with(64, 128));
        let timed = [(&small, pace(0.01)), (&large, pace(0.05))];
        let like = |spec: &Spec| pace_like(spec, &timed).unwrap();
        assert_eq!(like(&small).step_seconds, 0.01);
        assert_eq!(like(&with(64, 256)).step_seconds, 0.1);
        assert_eq!(like(&with(64, 256)).checkpoint_bytes, 1_000_000);
        let between = like(&with(48, 128));
        let products = |spec: &Spec| spec.network.products(24) as f64;
        let want = 0.05 * products(&with(48, 128)) / products(&large);
        assert!((between.step_seconds - want).abs() < 1e-12, "{between:?}");
        assert!(between.checkpoint_bytes < 1_000_000);
        // Another optimizer of the same network is as fast, where it was not timed itself.
        let mut other = with(8, 128);
        other.optimizer.name = crate::spec::OptimizerName::Muon;
        assert_eq!(like(&other).step_seconds, 0.01);
        let timed = [(&small, pace(0.01)), (&other, pace(0.03))];
        assert_eq!(pace_like(&other, &timed).unwrap().step_seconds, 0.03);
    }

    #[test]
    fn times_are_told_in_units_that_people_read() {
        let told = [0.6, 9.6, 600.0, 20_880.0, 259_200.0].map(duration);
        let want = [
            "1 second",
            "10 seconds",
            "10 minutes",
            "5.8 hours",
            "3.0 days",
        ];
        assert_eq!(told, want);
    }
}
