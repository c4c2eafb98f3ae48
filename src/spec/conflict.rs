//! What the fields of a spec demand of each other.

use super::Spec;

/// Fields that are each in range but do not go together.
pub(super) struct Conflict {
    /// The fields involved; the one that was set last is to blame.
    pub fields: &'static [&'static str],
    pub message: String,
}

/// The first conflict in a spec whose fields are each in range.
pub(super) fn conflict(spec: &Spec) -> Option<Conflict> {
    let contrast = &spec.input.contrast;
    if contrast.lower > contrast.upper {
        return Some(Conflict {
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
        return Some(Conflict {
            fields: &["input.crop", "network.pool.size", "network.pool.stride"],
            message: format!(
                "got crop {crop} with pool.size {} and pool.stride {}: the two pools see {crop} and {pooled} \
                 pixels a side, want at least pool.size",
                pool.size, pool.stride
            ),
        });
    }
    None
}
