//! What a user of a spec trips over, of docs/fidelity.md.

use crate::schedule::Schedule;
use crate::spec::{AverageName, Init, Normalize, ScheduleName, Spec};

/// Initial deviation of a convolution's weights up to which training looks dead at first; the tutorial's is 1e-4.
const SMALL_STDDEV: f64 = 1e-3;

/// What applies to a run of this spec on so many training images.
pub fn notes(spec: &Spec, images: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if spec.input.normalize == Normalize::Image && spec.input.brightness > 0.0 {
        notes.push(
            "input.brightness has no effect with input.normalize image, which subtracts it again"
                .to_owned(),
        );
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
