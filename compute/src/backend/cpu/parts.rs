//! The parts of a batch whose sums are added up in a fixed tree.

use super::GROUP;

/// Parts of a batch, each the work of one thread: enough for many threads, and few enough that to add up their sums
/// costs little.
pub const PARTS: usize = 8;

/// The images of a part are a multiple of this: the sums of a batch, and so the last bits of the gradients, depend on it, and for which
/// batches several processes end with the bytes of one. Whole groups, as a group that is not full takes as long.
const PART_IMAGES: usize = 4;
const _: () = assert!(PART_IMAGES.is_multiple_of(GROUP));

/// The images of a part of a batch, of which there are [`PARTS`] or fewer. The sums over images, and so the gradients' last
/// bits, depend on the parts, and therefore the parts on nothing but the number of images in the whole batch: each of two,
/// four or eight processes has as many parts of it, where all parts are full, and their sums are those of one process.
pub fn part_size(batch: usize) -> usize {
    batch.div_ceil(PARTS).next_multiple_of(PART_IMAGES)
}

/// Whether the last bits of a step do not depend on the number of processes either that share its batch.
pub(in crate::backend) fn is_same_in_ranks(batch: usize, ranks: usize) -> bool {
    ranks.is_power_of_two() && ranks <= PARTS && batch.is_multiple_of(PARTS * PART_IMAGES)
}
