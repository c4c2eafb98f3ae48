//! Writes a set in CIFAR-10's layout from a function that makes each record.

use super::cifar::{CLASS_COUNT, META_FILE, RECORD_BYTES, Split};
use super::progress::{self, Unit};
use super::staging::Staging;
use crate::bail_user;
use anyhow::Result;
use indicatif::ProgressBar;

/// What the set is.
pub(super) struct Set<'a> {
    /// Names in the order of the labels.
    pub(super) classes: [&'a str; CLASS_COUNT],
    /// Images in the training files, spread evenly over the five of them.
    pub(super) train_images: usize,
    /// Images in the test file.
    pub(super) test_images: usize,
    /// Heads the progress bar.
    pub(super) message: String,
}

impl Set<'_> {
    /// Fills `staging` with the batches and the class names. `record` writes image i of a split into
    /// [`RECORD_BYTES`] bytes; it is called from several threads, in no order.
    ///
    /// # Errors
    /// A user error if a file would be empty; the first that `record` returns.
    pub(super) fn write(
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
            if images < least {
                bail_user!("{split:?} images: got {images}, want at least {least}, one a file");
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
                let mut records = vec![0; count * RECORD_BYTES];
                fill(&mut records, &bar, &|index, bytes| {
                    record(split, first + index, bytes)
                })?;
                staging.write(name, &records)?;
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
    use crate::data::staging::Turn;
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
        let folder = staging.commit().unwrap();
        let size = |name| std::fs::metadata(folder.join(name)).unwrap().len() / 3073;
        assert_eq!(size("data_batch_2.bin"), 3);
        assert_eq!(size("data_batch_3.bin"), 2);
        let train = Images::read(&folder, Split::Train).unwrap();
        let order: Vec<u8> = (0..train.len())
            .map(|index| train.pixels(index)[0])
            .collect();
        assert_eq!(order, (0..12).collect::<Vec<_>>());
        let test = Images::read(&folder, Split::Test).unwrap();
        assert_eq!((test.len(), test.pixels(2)[0]), (3, 102));
        assert_eq!(class_names(&folder).unwrap()[0], "zero");
    }

    #[test]
    fn empty_files_and_failed_records_are_errors() {
        let home = tempfile::tempdir().unwrap();
        let turn = Turn::take(home.path()).unwrap();
        let staging = turn.stage(&home.path().join("set")).unwrap();
        let few = set(4, 1).write(&staging, |_, _, _| Ok(())).unwrap_err();
        assert!(is_user_error(&few));
        let fail = |_, index, _: &mut [u8]| {
            anyhow::ensure!(index != 1, "no record {index}");
            Ok(())
        };
        let failed = set(10, 1).write(&staging, fail).unwrap_err();
        assert_eq!(failed.to_string(), "no record 1");
    }
}
