//! Independent random streams: one for each (seed, purpose, index), so that no value depends on the order
//! in which threads ask for it.

use crate::spec::Seed;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

// The letters are part of the keys: others would change every batch and every generated image.

/// Augmentation of one image.
pub(super) const AUGMENTATION: &[u8; 8] = b"distort ";
/// Which training images are mirrored in the first epoch, where they alternate.
pub(super) const ALTERNATION: &[u8; 8] = b"altflip ";
/// Outputs of a dense layer that a training step leaves out.
pub const DROPOUT: &[u8; 8] = b"dropout ";
/// Of which others of its batch images get their squares, and where.
pub(super) const MIXING: &[u8; 8] = b"cutmix  ";
/// Permutation of one epoch.
pub(super) const SHUFFLING: &[u8; 8] = b"shuffle ";
/// The training images that are held out for validation.
pub(super) const VALIDATION: &[u8; 8] = b"validate";
/// Order of imported images.
pub(super) const IMPORT: &[u8; 8] = b"import  ";
/// Images of noise.
pub(super) const NOISE: &[u8; 8] = b"noise   ";
/// A draw of a random sweep.
pub const SWEEP: &[u8; 8] = b"sweep   ";
/// A synthetic training image.
pub(super) const SYNTHETIC_TRAIN: &[u8; 8] = b"drawtrai";
/// A synthetic test image.
pub(super) const SYNTHETIC_TEST: &[u8; 8] = b"drawtest";

/// The stream `index` of `purpose` under `seed`. Streams of different purposes have different keys;
/// those of one purpose are ChaCha's own 2^64 streams of a key.
pub fn stream(seed: Seed, purpose: &[u8; 8], index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.0.to_le_bytes());
    key[8..16].copy_from_slice(purpose);
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_repeat_and_differ_by_seed_purpose_and_index() {
        let first = |seed, purpose, index| stream(Seed(seed), purpose, index).random::<u64>();
        let reference = first(1, AUGMENTATION, 7);
        assert_eq!(reference, first(1, AUGMENTATION, 7));
        assert_ne!(reference, first(2, AUGMENTATION, 7));
        assert_ne!(reference, first(1, SHUFFLING, 7));
        assert_ne!(reference, first(1, AUGMENTATION, 8));
    }
}
