//! Constraints between the fields of a spec, each of which is in its own range.

use super::Spec;

/// Weights of a network: 1 GiB, as much again for their moving average and for the gradients.
pub const MAX_WEIGHTS: u64 = 1 << 28;
/// Values that the convolutions make of a batch: 16 GiB, and as much again on the way back.
const MAX_ACTIVATIONS: u64 = 1 << 32;

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
    // The convolutions keep the side, each of the two pools divides it by the stride and rounds up. A
    // window larger than what it slides over would pool padding only.
    let (crop, pool) = (spec.input.crop, &spec.network.pool);
    let pooled = crop.div_ceil(pool.stride);
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
}

/// A network, or a batch on its way through, that no memory holds.
fn too_large(spec: &Spec) -> Option<Violation> {
    let [crop, stride, kernel1, kernel2] = [
        spec.input.crop,
        spec.network.pool.stride,
        spec.network.conv1.kernel,
        spec.network.conv2.kernel,
    ]
    .map(|number| number as u64);
    let [conv1, conv2, local3, local4] = [
        spec.network.conv1.channels,
        spec.network.conv2.channels,
        spec.network.local3.units,
        spec.network.local4.units,
    ]
    .map(|number| number as u64);
    let pooled = crop.div_ceil(stride);
    let flat = pooled.div_ceil(stride).pow(2) * conv2;
    let layers = [
        3 * kernel1.pow(2) * conv1,
        conv1 * kernel2.pow(2) * conv2,
        flat * local3,
        local3 * local4,
    ];
    let weights: u64 = layers.iter().sum();
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
    let image = crop.pow(2) * conv1 + pooled.pow(2) * conv2;
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
