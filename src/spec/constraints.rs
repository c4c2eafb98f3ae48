//! Constraints between the fields of a spec, each of which is in its own range.

use super::{
    CHANNELS, Init, Optimizer, OptimizerName, Schedule, ScheduleName, Source, Spec, Tta, Unit,
};

/// Weights of a network: 1 GiB, as much again for their moving average and for the gradients.
pub const MAX_WEIGHTS: u64 = 1 << 28;
/// Values that the convolutions make of a batch: 16 GiB, and as much again on the way back.
const MAX_ACTIVATIONS: u64 = 1 << 32;

/// Side of the data set's images, in pixels.
pub const SIDE: usize = 32;

/// A constraint that a spec violates.
pub(super) struct Violation {
    /// The fields involved; the error names the one that was set last.
    pub fields: &'static [&'static str],
    pub message: String,
}

/// The first constraint that a spec violates whose fields are each in range.
pub(super) fn violation(spec: &Spec) -> Option<Violation> {
    let contrast = &spec.input.contrast;
    if contrast.lower > contrast.upper {
        return Some(Violation {
            fields: &["input.contrast.lower", "input.contrast.upper"],
            message: format!(
                "got lower {} with upper {}, want lower <= upper",
                contrast.lower, contrast.upper
            ),
        });
    }
    let crop = spec.input.crop;
    if spec.input.pad >= crop {
        let pad = spec.input.pad;
        return Some(Violation {
            fields: &["input.pad", "input.crop"],
            message: format!(
                "got pad {pad} with crop {crop}, want pad < crop, so that no crop misses the image"
            ),
        });
    }
    if spec.input.cutout > crop {
        let cutout = spec.input.cutout;
        return Some(Violation {
            fields: &["input.cutout", "input.crop"],
            message: format!("got cutout {cutout} with crop {crop}, want cutout <= crop"),
        });
    }
    if spec.input.cutmix >= crop {
        let cutmix = spec.input.cutmix;
        return Some(Violation {
            fields: &["input.cutmix", "input.crop"],
            message: format!("got cutmix {cutmix} with crop {crop}, want cutmix < crop"),
        });
    }
    if spec.eval.tta == Tta::TenCrop && crop == SIDE {
        return Some(Violation {
            fields: &["eval.tta", "input.crop"],
            message: format!(
                "got ten_crop with crop {crop}, where all crops are the whole image, want crop < {SIDE}"
            ),
        });
    }
    let (batch, ranks) = (spec.train.batch_size, spec.compute.ranks());
    if let Some(near) = uneven(batch, ranks, "devices") {
        return Some(Violation {
            fields: &["train.batch_size", "compute.devices"],
            message: format!(
                "got a batch of {batch} images for {ranks} devices, want an equal part for each: {near}"
            ),
        });
    }
    let (held_out, synthetic) = (spec.data.validation_images, &spec.data.synthetic);
    if spec.data.source == Source::Synthetic && held_out >= synthetic.train_images {
        return Some(Violation {
            fields: &["data.validation_images", "data.synthetic.train_images"],
            message: format!(
                "got {held_out} validation images of {} in the training files, want less",
                synthetic.train_images
            ),
        });
    }
    let batch = spec.train.batch_size;
    let left = synthetic.train_images.saturating_sub(held_out);
    if spec.data.source == Source::Synthetic && spec.train.drop_last && batch > left {
        return Some(Violation {
            fields: &[
                "train.batch_size",
                "train.drop_last",
                "data.synthetic.train_images",
                "data.validation_images",
            ],
            message: format!(
                "got a batch of {batch} images with drop_last, want at most {}",
                spec.data.left_to_train_on(synthetic.train_images)
            ),
        });
    }
    // A window larger than what it slides over would pool padding only.
    let (crop, pool) = (spec.input.crop, &spec.network.pool);
    let [pooled, _] = spec.network.pooled_sides(crop);
    if pool.size > crop.min(pooled) {
        return Some(Violation {
            fields: &["input.crop", "network.pool.size", "network.pool.stride"],
            message: format!(
                "got crop {crop} with pool.size {} and pool.stride {}: the two pools see {crop} and {pooled} \
                 pixels a side, want at least pool.size",
                pool.size, pool.stride
            ),
        });
    }
    too_large(spec)
        .or_else(|| whitening(spec))
        .or_else(|| update(&spec.optimizer))
        .or_else(|| schedule(&spec.schedule))
}

/// What would do if so many ranks cannot share a batch evenly, which are called `noun`: `126 or 129 images, or 2 or 4 ranks, say`.
pub fn uneven(batch: usize, ranks: usize, noun: &str) -> Option<String> {
    if batch.is_multiple_of(ranks) {
        return None;
    }
    let more = batch.next_multiple_of(ranks);
    let images = match more - ranks {
        0 => more.to_string(),
        less => format!("{less} or {more}"),
    };
    let fits = |count: &usize| batch.is_multiple_of(*count);
    let counts = [(2..ranks).rfind(fits), (ranks..2 * ranks).find(fits)];
    let counts: Vec<String> = counts.iter().flatten().map(usize::to_string).collect();
    let counts = match counts.is_empty() {
        true => String::new(),
        false => format!(", or {} {noun}", counts.join(" or ")),
    };
    Some(format!("{images} images{counts}, say"))
}

/// A first convolution that cannot be made of the images' principal components and their negatives.
fn whitening(spec: &Spec) -> Option<Violation> {
    let (layer, crop) = (&spec.network.conv1, spec.input.crop);
    let (channels, kernel) = (layer.channels, layer.kernel);
    if layer.init != Init::Whitening {
        return None;
    }
    if kernel > crop {
        return Some(Violation {
            fields: &["network.conv1.init", "network.conv1.kernel", "input.crop"],
            message: format!(
                "got kernel {kernel} with init whitening and crop {crop}, want kernel <= crop"
            ),
        });
    }
    let most = 2 * CHANNELS * kernel * kernel;
    (channels > most || channels % 2 != 0).then(|| Violation {
        fields: &[
            "network.conv1.init",
            "network.conv1.channels",
            "network.conv1.kernel",
        ],
        message: format!(
            "got {channels} channels with init whitening and kernel {kernel}, want an even number of at most {most}: \
             principal components and their negatives"
        ),
    })
}

/// Options of the optimizer that do not go together.
fn update(optimizer: &Optimizer) -> Option<Violation> {
    let dampening = optimizer.dampening;
    let together = optimizer.nesterov && dampening != 0.0;
    (together && optimizer.name == OptimizerName::Sgd).then(|| Violation {
        fields: &["optimizer.nesterov", "optimizer.dampening"],
        message: format!("got nesterov true with dampening {dampening}, want dampening 0"),
    })
}

/// Knots that make no function of the step.
fn schedule(schedule: &Schedule) -> Option<Violation> {
    let (knots, factors) = (&schedule.knots[..], &schedule.factors);
    let knots = if schedule.has_knots() { knots } else { &[] };
    let violation = |fields, message| Some(Violation { fields, message });
    if schedule.has_knots() && knots.is_empty() {
        let message = "got no knots for this schedule.name, want one at least".to_owned();
        return violation(&["schedule.knots", "schedule.name"], message);
    }
    if !knots.is_sorted_by(|one, next| one < next) {
        let message = "got knots out of order, want each above the one before".to_owned();
        return violation(&["schedule.knots"], message);
    }
    if schedule.name == ScheduleName::Piecewise && knots.len() != factors.len() {
        let message = format!(
            "got factors for {} of {} knots, want one for each",
            factors.len(),
            knots.len()
        );
        return violation(&["schedule.factors", "schedule.knots"], message);
    }
    let times = knots.iter().chain([&schedule.warmup]);
    let latest = times.fold(0.0, |latest, &time| f64::max(latest, time));
    if schedule.unit == Unit::Percent && latest > 100.0 {
        let message = format!("got {latest} percent of the run, want at most 100");
        return violation(
            &["schedule.knots", "schedule.warmup", "schedule.unit"],
            message,
        );
    }
    None
}

/// A network, or a batch on its way through, that no memory holds.
fn too_large(spec: &Spec) -> Option<Violation> {
    let crop = spec.input.crop;
    let product = |sizes: &[usize]| sizes.iter().map(|&size| size as u64).product::<u64>();
    let layers = spec.network.layers(crop);
    let weights: u64 = layers.iter().map(|layer| product(&layer.weights)).sum();
    if weights > MAX_WEIGHTS {
        return Some(Violation {
            fields: &[
                "network.local3.units",
                "network.conv2.channels",
                "network.conv2.kernel",
                "network.conv1.channels",
                "network.pool.stride",
                "input.crop",
            ],
            message: format!("got a network of {weights} weights, want at most {MAX_WEIGHTS}"),
        });
    }
    let [pooled, _] = spec.network.pooled_sides(crop);
    let [conv1, conv2, ..] = layers.map(|layer| layer.biases);
    let image = product(&[crop, crop, conv1]) + product(&[pooled, pooled, conv2]);
    let batches: [(usize, &'static [&'static str]); 2] = [
        (
            spec.train.batch_size,
            &[
                "train.batch_size",
                "network.conv1.channels",
                "network.conv2.channels",
            ],
        ),
        (
            spec.eval.batch_size,
            &[
                "eval.batch_size",
                "network.conv1.channels",
                "network.conv2.channels",
            ],
        ),
    ];
    batches.into_iter().find_map(|(batch, fields)| {
        let values = batch as u64 * image;
        (values > MAX_ACTIVATIONS).then(|| Violation {
            fields,
            message: format!(
                "got {batch} images a batch, of which the convolutions make {values} values, want at most \
                 {MAX_ACTIVATIONS}"
            ),
        })
    })
}
