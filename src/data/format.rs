//! CIFAR-10's binary layout: its files, their records, its classes.

pub use crate::spec::{CHANNELS, CLASS_COUNT, SIDE};

// A file is a sequence of records without header or padding (https://www.cs.toronto.edu/~kriz/cifar.html,
// "Binary version"):
//
//   byte 0          label, 0 to 9
//   bytes 1..1025   red plane, 32 rows of 32, from the top left
//   then            green plane, blue plane

/// CIFAR-10's classes in the order of their labels.
pub const CLASSES: [&str; CLASS_COUNT] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];
/// Bytes of a stored image.
pub const PIXEL_BYTES: usize = CHANNELS * SIDE * SIDE;
/// Bytes of a record: label and image.
pub const RECORD_BYTES: usize = 1 + PIXEL_BYTES;

/// The directory that the official archive unpacks to.
pub(super) const BATCHES_DIR: &str = "cifar-10-batches-bin";
/// Class names, one a line, in the order of the labels.
pub(super) const META_FILE: &str = "batches.meta.txt";
pub(super) const TRAIN_FILES: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
pub(super) const TEST_FILE: &str = "test_batch.bin";

/// Images of a split; more are refused before memory is allocated, which would be more than 15 GB.
pub(super) const MAX_IMAGES: usize = 5_000_000;

/// The two parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `data_batch_1.bin` to `data_batch_5.bin`, in this order.
    Train,
    /// `test_batch.bin`.
    Test,
}

impl Split {
    /// Names of the files that hold the split.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Split::Train => &TRAIN_FILES,
            Split::Test => &[TEST_FILE],
        }
    }
}
