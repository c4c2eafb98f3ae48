//! Writes a data set in CIFAR-10's layout from a function that fills each record.

use super::progress::{self, Unit};
use super::staging::StagingDirectory;
use crate::bail_user;
use crate::data::format::{CLASS_COUNT, MAX_IMAGES, META_FILE, RECORD_BYTES, Split};
use anyhow::Result;
use indicatif::ProgressBar;

/// Images filled before they are written: 31 MB.
const CHUNK_IMAGES: usize = 10_000;

/// A data set to write.
pub(in crate::data) struct Dataset<'a> {
    /// Names in the order of the labels.
    pub(in crate::data) classes: [&'a str; CLASS_COUNT],
    /// Images in the training files, spread evenly over the five of them.
    pub(in crate::data) train_images: usize,
    /// Images in the test file.
    pub(in crate::data) test_images: usize,
    /// Heads the progress bar.
    pub(in crate::data) message: String,
}

impl Dataset<'_> {
    /// Fills `staging` with the batches and the class names. `record` writes image i of a split into
    /// [`RECORD_BYTES`] bytes; it is called from several threads, in no order.
    ///
    /// # Errors
    /// A user error if a file would be empty or a split larger than can be read; the first that `record`
    /// returns.
    pub(in crate::data) fn write(
        &self,
        staging: &StagingDirectory,
        record: impl Fn(Split, usize, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<()> {
        let splits = [
            (Split::Train, self.train_images),
            (Split::Test, self.test_images),
        ];
        for (split, images) in splits {
            let min_images = split.files().len();
            if !(min_images..=MAX_IMAGES).contains(&images) {
                bail_user!(
                    "{split:?} images: got {images}, want at least {min_images}, one a file, and at most {MAX_IMAGES}"
                );
            }
        }
        let total = (self.train_images + self.test_images) as u64;
        let bar = progress::bar(total, self.message.clone(), Unit::Images);
        for (split, images) in splits {
            let files = split.files();
            let mut first = 0;
            for (index, name) in files.iter().enumerate() {
                // Whole images: the first files take the remainder.
                let count = images / files.len() + usize::from(index < images % files.len());
                let chunks = (first..first + count).step_by(CHUNK_IMAGES).map(|from| {
                    let count = CHUNK_IMAGES.min(first + count - from);
                    let mut records = vec![0; count * RECORD_BYTES];
                    fill_records(&mut records, &bar, &|index, bytes| {
                        record(split, from + index, bytes)
                    })?;
                    Ok(records)
                });
                staging.write_chunks(name, chunks)?;
                first += count;
            }
        }
        bar.finish_and_clear();
        let names: String = self.classes.map(|name| format!("{name}\n")).concat();
        staging.write(META_FILE, names.as_bytes())
    }
}

/// Calls `record` for each record, on all cores.
fn fill_records(
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
    use crate::data::files::class_names;
    use crate::data::format::CLASSES;
    use crate::data::images::Images;
    use crate::data::sources::staging::DirectoryLock;
    use crate::error::is_user_error;

    fn dataset(train_images: usize, test_images: usize) -> Dataset<'static> {
        let mut classes = CLASSES;
        classes[0] = "zero";
        Dataset {
            classes,
            train_images,
            test_images,
            message: "writing".into(),
        }
    }

    #[test]
    fn records_are_written_in_order_with_the_remainder_in_the_first_files() {
        let home = tempfile::tempdir().unwrap();
        let staging = DirectoryLock::acquire(home.path()).unwrap();
        let staging = staging.stage(&home.path().join("set")).unwrap();
        let record = |split, index: usize, bytes: &mut [u8]| {
            bytes.fill(index as u8 + if split == Split::Test { 100 } else { 0 });
            bytes[0] = index as u8 % 10;
            Ok(())
        };
        dataset(12, 3).write(&staging, record).unwrap();
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
    fn large_files_are_written_in_chunks() {
        let home = tempfile::tempdir().unwrap();
        let staging = DirectoryLock::acquire(home.path()).unwrap();
        let staging = staging.stage(&home.path().join("set")).unwrap();
        let record = |_, index: usize, bytes: &mut [u8]| {
            bytes[1..9].copy_from_slice(&index.to_le_bytes());
            Ok(())
        };
        let write = || dataset(5, 2 * CHUNK_IMAGES + 3).write(&staging, record);
        crate::testing::heap::within(CHUNK_IMAGES * RECORD_BYTES + (1 << 20), write).unwrap();
        let test = Images::read(&staging.commit().unwrap(), Split::Test).unwrap();
        assert_eq!(test.len(), 2 * CHUNK_IMAGES + 3);
        for index in 0..test.len() {
            assert_eq!(test.pixels(index)[..8], index.to_le_bytes());
        }
    }

    #[test]
    fn empty_files_and_failed_records_are_errors() {
        let home = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(home.path()).unwrap();
        let staging = lock.stage(&home.path().join("set")).unwrap();
        for (train, test) in [(4, 1), (5, 0), (usize::MAX, 1), (5, 5_000_001)] {
            let wrong = dataset(train, test).write(&staging, |_, _, _| Ok(()));
            assert!(is_user_error(&wrong.unwrap_err()));
        }
        let fail = |_, index, _: &mut [u8]| {
            anyhow::ensure!(index != 1, "no record {index}");
            Ok(())
        };
        let failed = dataset(10, 1).write(&staging, fail).unwrap_err();
        assert_eq!(failed.to_string(), "no record 1");
    }
}
