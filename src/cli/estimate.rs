//! What a run will keep on disk, and times for people.

use crate::checkpoint::MAX_WAITING;
use crate::compute::Pace;
use crate::data;
use crate::overview::bytes;
use crate::spec::{Policy, Source, Spec};
use crate::sweep::Sweep;
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
        let checkpoints = latest + every + best;
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

/// About how long the points of a sweep, which train so many steps each, take one after the other, in seconds: their steps,
/// their evaluations, and the start of their processes. `pace` is that of the base.
pub fn sweep_seconds(sweep: &Sweep, steps: &[u64], pace: &Pace) -> [f64; 3] {
    let per_image = pace.step_seconds / sweep.base.train.batch_size as f64;
    let [mut training, mut evaluation] = [0.0; 2];
    for (spec, &steps) in sweep.specs.iter().zip(steps) {
        training += steps as f64 * per_image * spec.train.batch_size as f64;
        let images = saved(spec, steps) as f64 * evaluated_images(spec) as f64;
        evaluation += images * per_image * FORWARD;
    }
    // What halving leaves of it.
    let definition = &sweep.definition;
    let share = definition.steps(steps) as f64 / steps.iter().sum::<u64>().max(1) as f64;
    let starts = definition.starts(steps) as f64 * START_SECONDS;
    [training * share, evaluation * share, starts]
}

/// Images that the network computes in an evaluation.
fn evaluated_images(spec: &Spec) -> usize {
    let test = match spec.data.source {
        Source::Synthetic => spec.data.synthetic.test_images,
        Source::Cifar10 => CIFAR10_TEST_IMAGES,
    };
    let views = data::views(spec.eval.tta, &spec.input).len();
    // Of the averaged weights and of the raw ones.
    test * (views + 1) + spec.data.validation_images
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
        few if few < 100.0 => format!("{few:.0} seconds"),
        more if more < 6_000.0 => format!("{:.0} minutes", more / 60.0),
        many if many < 48.0 * 3_600.0 => format!("{:.1} hours", many / 3_600.0),
        many => format!("{:.1} days", many / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn times_are_told_in_units_that_people_read() {
        let told = [9.6, 600.0, 20_880.0, 259_200.0].map(duration);
        assert_eq!(told, ["10 seconds", "10 minutes", "5.8 hours", "3.0 days"]);
    }
}
