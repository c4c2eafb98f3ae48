//! What a user of a spec trips over, of docs/fidelity.md.

use crate::schedule::{Schedule, in_steps};
use crate::spec::{AverageName, Init, Normalize, ScheduleName, Spec, Unit};

/// Initial deviation of a convolution's weights up to which training looks dead at first; the tutorial's is 1e-4.
const SMALL_STDDEV: f64 = 1e-3;

/// Decay of lookahead's average from which on training hardly moves. Zhang et al. (arXiv 1907.08610) use 0.2 to 0.5; airbench94's
/// rises to 0.774.
const FAST_DECAY: f64 = 0.98;

/// A share of the initial weights in the average from which on its scores say little of what was learnt.
const MUCH_INITIAL: f64 = 0.1;

/// What applies to a run of this spec on so many training images.
pub fn notes(spec: &Spec, images: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if spec.input.normalize == Normalize::Image && spec.input.brightness > 0.0 {
        notes.push(
            "input.brightness has no effect with input.normalize image, which subtracts it again"
                .to_owned(),
        );
    }
    let (cutout, crop) = (spec.input.cutout, spec.input.crop);
    if cutout == crop {
        notes.push(format!(
            "with input.cutout {cutout} and input.crop {crop} nothing is left of a training image"
        ));
    }
    let factors = &spec.schedule.factors;
    if spec.schedule.name == ScheduleName::Piecewise && factors.iter().all(|it| *it == 0.0) {
        notes.push("with schedule.factors all 0 nothing is learnt".to_owned());
    }
    let network = &spec.network;
    let small: Vec<&str> = [("conv1", &network.conv1), ("conv2", &network.conv2)]
        .iter()
        .filter(|(_, layer)| layer.init == Init::TruncatedNormal && layer.stddev <= SMALL_STDDEV)
        .map(|(name, _)| *name)
        .collect();
    if !small.is_empty() {
        notes.push(format!(
            "the initial weights of {} are so small that the loss hardly moves for thousands of steps; fast-start has \
             network.{}.stddev 0.05",
            small.join(" and "),
            small[0]
        ));
    }
    let steps = spec.train.total_steps(images);
    let accumulation = spec.optimizer.gradient_accumulation;
    let period = accumulation * spec.average.every;
    if accumulation > steps {
        notes.push(format!(
            "the weights are never updated: optimizer.gradient_accumulation {accumulation} is more than the run's {steps} \
             steps"
        ));
    } else if spec.average.name != AverageName::None && period > steps {
        notes.push(format!(
            "the average is not updated by average.every {}: the updates of the weights after which it would be take \
             {period} steps, more than the run's {steps}",
            spec.average.every
        ));
    }
    if spec.average.name == AverageName::Lookahead
        && spec.optimizer.ema_decay > FAST_DECAY
        && spec.average.power == 0.0
    {
        notes.push(format!(
            "with average.name lookahead and optimizer.ema_decay {} the weights keep {} of their way each time that the average \
             is updated; 0.5 is usual, with average.every 5",
            spec.optimizer.ema_decay,
            (1.0 - spec.optimizer.ema_decay) as f32
        ));
    }
    if let Some(kept) = initial_share(spec, steps).filter(|share| *share > MUCH_INITIAL) {
        notes.push(format!(
            "the average still is {:.0} % initial weights after the run's {steps} steps, and it is what is evaluated: \
             optimizer.ema_decay {} is for longer runs; a lower one, average.warmup or average.start_epoch helps",
            100.0 * kept,
            spec.optimizer.ema_decay
        ));
    }
    notes.extend(never_reached(spec, images));
    let schedule = Schedule::new(spec, images);
    let rate = |step| schedule.learning_rate(step);
    let drops = spec.schedule.name == ScheduleName::Exponential;
    // In a run that is far shorter nobody expects a drop.
    if drops && rate(0) == rate(steps.saturating_sub(1)) && rate(0) > rate(2 * steps) {
        notes.push(format!(
            "the learning rate never drops: {} epochs, after which it would, are more than the run's {steps} steps",
            spec.optimizer.epochs_per_decay
        ));
    }
    if spec.stop.needs_scores() && spec.data.validation_images == 0 {
        notes.push(
            "stop.accuracy and stop.patience go by the test images, which so have a say in the weights that they score; \
             data.validation_images holds out images of the training files for it"
                .to_owned(),
        );
    }
    notes
}

/// The share of the initial weights in the average at the end of a run of so many steps; none where the average does not begin with them,
/// or forgets them faster than by its decay.
fn initial_share(spec: &Spec, steps: u64) -> Option<f64> {
    let average = &spec.average;
    let is_plain = average.name == AverageName::Ema
        && !average.warmup
        && average.start_epoch == 0.0
        && average.power == 0.0;
    let updates = steps / (spec.optimizer.gradient_accumulation * average.every);
    (is_plain && updates > 0).then(|| spec.optimizer.ema_decay.powf(updates as f64))
}

/// What the spec wants at a time that the run does not reach.
fn never_reached(spec: &Spec, images: usize) -> impl Iterator<Item = String> {
    let steps = spec.train.total_steps(images) as f64;
    let epoch = spec.train.steps_per_epoch(images);
    let schedule = &spec.schedule;
    let last_knot = schedule.knots.last().filter(|_| schedule.has_knots());
    let times = [
        (
            "schedule.knots",
            last_knot.copied().unwrap_or(0.0),
            schedule.unit,
            "the rate does not come to its last one",
        ),
        (
            "schedule.warmup",
            schedule.warmup,
            schedule.unit,
            "the rate does not come to its full height",
        ),
        (
            "average.start_epoch",
            match spec.average.name {
                AverageName::None => 0.0,
                AverageName::Ema | AverageName::Lookahead => spec.average.start_epoch,
            },
            Unit::Epochs,
            "the weights are never averaged",
        ),
    ];
    times.into_iter().filter_map(move |(field, time, unit, effect)| {
        let step = in_steps(time, unit, steps, epoch);
        let word = match unit {
            Unit::Steps => "steps",
            Unit::Epochs => "epochs",
            Unit::Percent => "percent",
        };
        // A warm-up or a knot may end with the run, and so may what comes before an average.
        (step > steps).then(|| {
            format!(
                "{field} {time} {word} is after the run's end, {steps} steps or {:.3} epochs: {effect}",
                steps / epoch
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_apply_to_the_tutorials_values_and_not_to_others() {
        let mut spec = Spec::default();
        let found = notes(&spec, 50_000);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("input.brightness "));
        assert!(found[1].contains(" conv1 and conv2 "));
        assert!(found[2].contains(" 350 epochs, "));
        spec.input.brightness = 0.0;
        spec.network.conv1.stddev = 0.05;
        spec.network.conv2.stddev = 0.05;
        spec.optimizer.epochs_per_decay = 100.0;
        assert_eq!(notes(&spec, 50_000), [""; 0]);
        spec.stop.patience = 5;
        assert!(notes(&spec, 50_000)[0].contains(" go by the test images"));
        spec.data.validation_images = 5_000;
        assert_eq!(notes(&spec, 50_000), [""; 0]);
    }

    #[test]
    fn notes_tell_of_times_that_the_run_does_not_reach() {
        let found = |set: &dyn Fn(&mut Spec)| {
            let mut spec = Spec::default();
            spec.train.steps = Some(100);
            set(&mut spec);
            notes(&spec, 12_800).join("\n") // 100 steps an epoch
        };
        let set = |name, knots: &[f64], warmup, unit| {
            let knots = knots.to_vec();
            found(&|spec| {
                spec.schedule.name = name;
                (spec.schedule.knots, spec.schedule.factors) =
                    (knots.clone(), vec![1.0; knots.len()]);
                (spec.schedule.warmup, spec.schedule.unit) = (warmup, unit);
            })
        };
        let knots = set(ScheduleName::Multistep, &[0.5, 30_000.0], 0.0, Unit::Epochs);
        let want =
            "schedule.knots 30000 epochs is after the run's end, 100 steps or 1.000 epochs: ";
        assert!(knots.contains(want), "{knots}");
        let warmup = set(ScheduleName::Constant, &[7.0], 101.0, Unit::Steps);
        assert!(
            warmup.contains("schedule.warmup 101 steps is after"),
            "{warmup}"
        );
        assert!(!warmup.contains("schedule.knots"), "{warmup}");
        let in_time = set(ScheduleName::Piecewise, &[0.0, 100.0], 100.0, Unit::Percent);
        assert!(!in_time.contains("is after the run's end"), "{in_time}");
        let average = found(&|spec| spec.average.start_epoch = 1.5);
        assert!(
            average.contains("average.start_epoch 1.5 epochs is after"),
            "{average}"
        );
        let none = found(&|spec| {
            spec.average.start_epoch = 1.5;
            spec.average.name = AverageName::None;
        });
        assert!(!none.contains("average."), "{none}");
        let lookahead = |decay| {
            found(&|spec| {
                spec.average.name = AverageName::Lookahead;
                spec.optimizer.ema_decay = decay;
            })
        };
        assert!(lookahead(0.9999).contains(" the weights keep 0.0001 of their way "));
        assert!(!lookahead(0.95).contains("lookahead"));
        let average = |warmup, decay| {
            found(&|spec| {
                spec.average.warmup = warmup;
                spec.optimizer.ema_decay = decay;
            })
        };
        assert!(
            average(false, 0.9999)
                .contains(" still is 99 % initial weights after the run's 100 steps")
        );
        assert!(!average(true, 0.9999).contains("initial weights after"));
        assert!(!average(false, 0.97).contains("initial weights after"));
        let cutout = |side| found(&|spec| spec.input.cutout = side);
        assert!(cutout(24).contains("nothing is left of a training image"));
        assert!(!cutout(23).contains("nothing is left"));
        let rate = |factor| {
            found(&|spec| {
                spec.schedule.name = ScheduleName::Piecewise;
                (spec.schedule.knots, spec.schedule.factors) = (vec![0.0], vec![factor]);
            })
        };
        assert!(rate(0.0).contains("nothing is learnt"));
        assert!(!rate(0.1).contains("nothing is learnt"));
    }

    #[test]
    fn notes_tell_of_weights_and_averages_that_are_never_updated() {
        let mut spec = Spec::default();
        let mut found = |steps, accumulation, every| {
            spec.train.steps = Some(steps);
            spec.optimizer.gradient_accumulation = accumulation;
            spec.average.every = every;
            let text = notes(&spec, 50_000).join("\n");
            [
                "the weights are never updated: ",
                "the average is not updated ",
            ]
            .map(|note| text.contains(note))
        };
        assert_eq!(found(10, 10, 1), [false, false]);
        assert_eq!(found(10, 11, 1), [true, false]);
        assert_eq!(found(10, 5, 2), [false, false]);
        assert_eq!(found(10, 5, 3), [false, true]);
    }
}
