//! Writes a set in CIFAR-10's layout from a function that makes each record.

use super::progress::{self, Unit};
use super::staging::Staging;
use crate::bail_user;
use crate::data::cifar::{CLASS_COUNT, MAX_IMAGES, META_FILE, RECORD_BYTES, Split};
use anyhow::Result;
use indicatif::ProgressBar;

/// Images made before they are written: 31 MB.
const PIECE: usize = 10_000;

/// What the set is.
pub(in crate::data) struct Set<'a> {
    /// Names in the order of the labels.
    pub(in crate::data) classes: [&'a str; CLASS_COUNT],
    /// Images in the training files, spread evenly over the five of them.
    pub(in crate::data) train_images: usize,
    /// Images in the test file.
    pub(in crate::data) test_images: usize,
    /// Heads the progress bar.
    pub(in crate::data) message: String,
}

impl Set<'_> {
    /// Fills `staging` with the batches and the class names. `record` writes image i of a split into
    /// [`RECORD_BYTES`] bytes; it is called from several threads, in no order.
    ///
    /// # Errors
    /// A user error if a file would be empty or a split larger than can be read; the first that `record`
    /// returns.
    pub(in crate::data) fn write(
        &self,
        staging: &Staging,
        record: impl Fn(Split, usize, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<()> {
        let splits = [
            (Split::Train, self.train_images),
            (Split::Test, self.test_images),
        ];
        for (split, images) in splits {
            let least = split.files().len();
            if !(least..=MAX_IMAGES).contains(&images) {
                bail_user!(
                    "{split:?} images: got {images}, want at least {least}, one a file, and at most {MAX_IMAGES}"
                );
            }
        }
        let total = (self.train_images + self.test_images) as u64;
        let bar = progress::bar(total, self.message.clone(), Unit::Images);
        for (split, images) in splits {
            let files = split.files();
            let mut first = 0;
            for (place, name) in files.iter().enumerate() {
                // Whole images: the first files take the remainder.
                let count = images / files.len() + usize::from(place < images % files.len());
                let pieces = (first..first + count).step_by(PIECE).map(|from| {
                    let piece = PIECE.min(first + count - from);
                    let mut records = vec![0; piece * RECORD_BYTES];
                    fill(&mut records, &bar, &|index, bytes| {
                        record(split, from + index, bytes)
                    })?;
                    Ok(records)
                });
                staging.write_pieces(name, pieces)?;
                first += count;
            }
        }
        bar.finish_and_clear();
        let names: String = self.classes.map(|name| format!("{name}\n")).concat();
        staging.write(META_FILE, names.as_bytes())
    }
}

/// Calls `record` for each record, on all cores.
fn fill(
    records: &mut [u8],
    bar: &ProgressBar,
    record: &(impl Fn(usize, &mut [u8]) -> Result<()> + Sync),
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (records.len() / RECORD_BYTES).div_ceil(threads);
    std::thread::scope(|scope| {
        let work = |part: usize, records: &mut [u8]| -> Result<()> {
            for (index, bytes) in records.chunks_exact_mut(RECORD_BYTES).enumerate() {
                record(part * share + index, bytes)?;
                bar.inc(1);
            }
            Ok(())
        };
        let parts: Vec<_> = records
            .chunks_mut(share * RECORD_BYTES)
            .enumerate()
            .map(|(part, records)| scope.spawn(move || work(part, records)))
            .collect();
        for part in parts {
            part.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cifar::{CLASSES, Images};
    use crate::data::files::class_names;
    use crate::data::sources::staging::Turn;
    use crate::error::is_user_error;

    fn set(train_images: usize, test_images: usize) -> Set<'static> {
        let mut classes = CLASSES;
        classes[0] = "zero";
        Set {
            classes,
            train_images,
            test_images,
            message: "writing".into(),
        }
    }

    #[test]
    fn records_land_in_order_with_the_remainder_in_the_first_files() {
        let home = tempfile::tempdir().unwrap();
        let staging = Turn::take(home.path()).unwrap();
        let staging = staging.stage(&home.path().join("set")).unwrap();
        let record = |split, index: usize, bytes: &mut [u8]| {
            bytes.fill(index as u8 + if split == Split::Test { 100 } else { 0 });
            bytes[0] = index as u8 % 10;
            Ok(())
        };
        set(12, 3).write(&staging, record).unwrap();
        let directory = staging.commit().unwrap();
        let size = |name| std::fs::metadata(directory.join(name)).unwrap().len() / 3073;
        assert_eq!(size("data_batch_2.bin"), 3);
        assert_eq!(size("data_batch_3.bin"), 2);
        let train = Images::read(&directory, Split::Train).unwrap();
        let order: Vec<u8> = (0..train.len())
            .map(|index| train.pixels(index)[0])
            .collect();
        assert_eq!(order, (0..12).collect::<Vec<_>>());
        let test = Images::read(&directory, Split::Test).unwrap();
        assert_eq!((test.len(), test.pixels(2)[0]), (3, 102));
        assert_eq!(class_names(&directory).unwrap()[0], "zero");
    }

    #[test]
    fn a_large_file_is_written_in_pieces() {
        let home = tempfile::tempdir().unwrap();
        let staging = Turn::take(home.path()).unwrap();
        let staging = staging.stage(&home.path().join("set")).unwrap();
        let record = |_, index: usize, bytes: &mut [u8]| {
            bytes[1..9].copy_from_slice(&index.to_le_bytes());
            Ok(())
        };
        let write = || set(5, 2 * PIECE + 3).write(&staging, record);
        crate::testing::heap::within(PIECE * RECORD_BYTES + (1 << 20), write).unwrap();
        let test = Images::read(&staging.commit().unwrap(), Split::Test).unwrap();
        assert_eq!(test.len(), 2 * PIECE + 3);
        for index in 0..test.len() {
            assert_eq!(test.pixels(index)[..8], index.to_le_bytes());
        }
    }

    #[test]
    fn empty_files_and_failed_records_are_errors() {
        let home = tempfile::tempdir().unwrap();
        let turn = Turn::take(home.path()).unwrap();
        let staging = turn.stage(&home.path().join("set")).unwrap();
        for (train, test) in [(4, 1), (5, 0), (usize::MAX, 1), (5, 5_000_001)] {
            let wrong = set(train, test).write(&staging, |_, _, _| Ok(()));
            assert!(is_user_error(&wrong.unwrap_err()));
        }
        let fail = |_, index, _: &mut [u8]| {
            anyhow::ensure!(index != 1, "no record {index}");
            Ok(())
        };
        let failed = set(10, 1).write(&staging, fail).unwrap_err();
        assert_eq!(failed.to_string(), "no record 1");
    }
}
