//! One split of a data set in memory.

use super::files::require_dataset;
use super::format::{CLASS_COUNT, MAX_IMAGES, RECORD_BYTES, Split};
use super::random;
use crate::bail_user;
use crate::files::{open_regular, sha256};
use crate::spec::Seed;
use anyhow::{Context, Result, ensure};
use rand::RngCore;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes of a split's files at most.
const MAX_SPLIT_BYTES: u64 = (MAX_IMAGES * RECORD_BYTES) as u64;

/// One split, resident in memory as the bytes of its files. Never empty.
#[derive(Debug)]
pub struct Images {
    /// Whole records, every label below [`CLASS_COUNT`].
    records: Vec<u8>,
    /// Of the files that they were read from.
    digests: Vec<FileDigest>,
}

/// What tells a file of images from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDigest {
    pub name: String,
    pub bytes: u64,
    /// In lower-case hexadecimal.
    pub sha256: String,
}

impl Images {
    /// Reads a split. `directory` holds the files or `cifar-10-batches-bin/` with them.
    ///
    /// # Errors
    /// User errors that name the file and the byte: a missing or empty file, one that ends within a
    /// record, a label over 9. Others: files that cannot be read.
    pub fn read(directory: &Path, split: Split) -> Result<Images> {
        let directory = require_dataset(directory)?;
        let files: Vec<SizedFile> = split
            .files()
            .iter()
            .map(|name| SizedFile::open(directory.join(name)))
            .collect::<Result<_>>()?;
        let total: u64 = files.iter().map(|file| file.bytes as u64).sum();
        if total > MAX_SPLIT_BYTES {
            bail_user!(
                "{}: got {total} bytes of images, want at most {MAX_SPLIT_BYTES}",
                directory.display()
            );
        }
        let total = total as usize;
        let mut records = Vec::new();
        records
            .try_reserve_exact(total)
            .with_context(|| format!("failed to hold {total} bytes of images in memory"))?;
        records.resize(total, 0);
        let mut rest = records.as_mut_slice();
        let digests = std::thread::scope(|scope| {
            let mut readers = Vec::new();
            for file in files {
                let (part, after) = rest.split_at_mut(file.bytes);
                rest = after;
                readers.push(scope.spawn(move || file.read(part)));
            }
            let digests = readers.into_iter().map(|reader| {
                let result = reader.join();
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            digests.collect::<Result<_>>()
        })?;
        Ok(Images { records, digests })
    }

    /// Takes out `count` images, which `seed` chooses at random; both parts keep the order of the files.
    ///
    /// # Panics
    /// If none would be left in one of the parts.
    pub fn hold_out(&mut self, count: usize, seed: Seed) -> Images {
        assert!(0 < count && count < self.len(), "{count} images held out");
        let mut indices: Vec<usize> = (0..self.len()).collect();
        let mut rng = random::stream(seed, random::VALIDATION, 0);
        let (chosen, _) = indices.partial_shuffle(&mut rng, count);
        let mut is_chosen = vec![false; self.len()];
        for &mut index in chosen {
            is_chosen[index] = true;
        }
        let mut held_out = Vec::with_capacity(count * RECORD_BYTES);
        let mut kept = 0;
        for (index, chosen) in is_chosen.into_iter().enumerate() {
            let record = index * RECORD_BYTES..(index + 1) * RECORD_BYTES;
            if chosen {
                held_out.extend_from_slice(&self.records[record]);
            } else {
                self.records.copy_within(record, kept);
                kept += RECORD_BYTES;
            }
        }
        self.records.truncate(kept);
        self.records.shrink_to_fit();
        Images {
            records: held_out,
            digests: Vec::new(),
        }
    }

    /// Number of images, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a split is never empty")]
    pub fn len(&self) -> usize {
        self.records.len() / RECORD_BYTES
    }

    /// Image `index` as [channel, row, column] bytes: 3 * 32 * 32 of them.
    pub fn pixels(&self, index: usize) -> &[u8] {
        &self.record(index)[1..]
    }

    /// Label of image `index`, 0 to 9.
    pub fn label(&self, index: usize) -> u8 {
        self.record(index)[0]
    }

    /// All images, each its label and its pixels: [n, 1 + 3 * 32 * 32] bytes.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// Of the files that the images were read from, in their order.
    pub(super) fn digests(&self) -> &[FileDigest] {
        &self.digests
    }

    /// As [`Images::digests`].
    pub(super) fn into_digests(self) -> Vec<FileDigest> {
        self.digests
    }

    /// Images of noise, of all classes, to time what images are needed for.
    pub fn noise(seed: Seed, count: usize) -> Images {
        let mut records = vec![0; count.max(1) * RECORD_BYTES];
        random::stream(seed, random::NOISE, 0).fill_bytes(&mut records);
        for record in records.chunks_exact_mut(RECORD_BYTES) {
            record[0] %= CLASS_COUNT as u8;
        }
        Self::from_records(records)
    }

    fn record(&self, index: usize) -> &[u8] {
        &self.records[index * RECORD_BYTES..][..RECORD_BYTES]
    }

    /// Images that are in no file: the bytes of CIFAR-10's records, of one image or more.
    pub fn from_records(records: Vec<u8>) -> Images {
        assert!(!records.is_empty() && records.len().is_multiple_of(RECORD_BYTES));
        let digests = Vec::new();
        Images { records, digests }
    }
}

/// A file whose size is known to be a whole number of records.
struct SizedFile {
    path: PathBuf,
    file: File,
    bytes: usize,
}

impl SizedFile {
    fn open(path: PathBuf) -> Result<SizedFile> {
        let failed = || format!("failed to open {}", path.display());
        let file = match open_regular(&path) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                bail_user!("{} is no regular file", path.display())
            }
            file => file.with_context(failed)?,
        };
        let metadata = file.metadata().with_context(failed)?;
        let bytes = usize::try_from(metadata.len())
            .with_context(|| format!("{} is too large", path.display()))?;
        if bytes == 0 {
            bail_user!("{} is empty", path.display());
        }
        let (whole, remainder) = (bytes / RECORD_BYTES, bytes % RECORD_BYTES);
        if remainder != 0 {
            bail_user!(
                "{} is truncated: record {whole} at byte {} has {remainder} bytes, want {RECORD_BYTES}",
                path.display(),
                whole * RECORD_BYTES
            );
        }
        Ok(SizedFile { path, file, bytes })
    }

    /// Fills `records` from the file and checks the labels.
    fn read(mut self, records: &mut [u8]) -> Result<FileDigest> {
        ensure!(records.len() == self.bytes, "a buffer of another size");
        self.file
            .read_exact(records)
            .with_context(|| format!("failed to read {}", self.path.display()))?;
        let labels = records.iter().step_by(RECORD_BYTES);
        for (index, &label) in labels.enumerate() {
            if usize::from(label) >= CLASS_COUNT {
                bail_user!(
                    "{}: record {index} at byte {} has label {label}, want 0 to 9",
                    self.path.display(),
                    index * RECORD_BYTES
                );
            }
        }
        let name = self.path.file_name().unwrap_or_default();
        Ok(FileDigest {
            name: name.to_string_lossy().into_owned(),
            bytes: self.bytes as u64,
            sha256: sha256(records),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{BATCHES_DIR, PIXEL_BYTES, TEST_FILE, TRAIN_FILES};
    use super::*;
    use crate::error::is_user_error;
    use crate::testing::golden::assert_uniform;
    use std::fs;

    #[test]
    fn held_out_images_are_a_random_choice_of_the_seed_and_the_others_stay_in_order() {
        let records = |count: usize| -> Vec<u8> {
            (0..count as u8)
                .flat_map(|value| [value % 10, value].repeat(RECORD_BYTES)[..RECORD_BYTES].to_vec())
                .collect()
        };
        let split = |seed: u64| {
            let mut images = Images::from_records(records(200));
            let held_out = images.hold_out(50, Seed(seed));
            let numbers = |images: &Images| -> Vec<u8> {
                (0..images.len())
                    .map(|index| images.pixels(index)[0])
                    .collect()
            };
            (numbers(&images), numbers(&held_out))
        };
        let (kept, held_out) = split(1);
        assert_eq!((kept.len(), held_out.len()), (150, 50));
        assert!(kept.is_sorted() && held_out.is_sorted());
        let mut all = [kept, held_out.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<u8>>());
        assert_eq!(split(1).1, held_out);
        assert_ne!(split(2).1, held_out);
        let mut counts = vec![0; 200];
        for seed in 0..1000 {
            split(seed)
                .1
                .iter()
                .for_each(|&number| counts[usize::from(number)] += 1);
        }
        // Each image is held out in a quarter of the draws, whose counts vary less than those of independent ones: by 3/4.
        assert_uniform("image", &counts, 199.0, 4.0 / 3.0);
    }

    /// Two records a training file, one test record; labels and pixels tell the position.
    fn write_dataset(directory: &Path) {
        let record = |value: u8| {
            let mut record = vec![value; RECORD_BYTES];
            record[0] = value % 10;
            record
        };
        for (file, name) in TRAIN_FILES.iter().enumerate() {
            let first = 2 * file as u8;
            fs::write(
                directory.join(name),
                [record(first), record(first + 1)].concat(),
            )
            .unwrap();
        }
        fs::write(directory.join(TEST_FILE), record(99)).unwrap();
    }

    fn dataset() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        write_dataset(directory.path());
        directory
    }

    fn user_message(result: Result<Images>) -> String {
        let error = result.unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn images_are_read_in_the_order_of_the_files() {
        let directory = dataset();
        let train = Images::read(directory.path(), Split::Train).unwrap();
        assert_eq!(train.len(), 10);
        for index in 0..10 {
            assert_eq!(train.label(index), index as u8);
            assert_eq!(train.pixels(index), [index as u8; PIXEL_BYTES]);
        }
        let test = Images::read(directory.path(), Split::Test).unwrap();
        assert_eq!((test.len(), test.label(0), test.pixels(0)[0]), (1, 9, 99));
    }

    #[test]
    fn images_are_found_in_the_archives_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(BATCHES_DIR)).unwrap();
        write_dataset(&directory.path().join(BATCHES_DIR));
        assert_eq!(
            Images::read(directory.path(), Split::Test).unwrap().len(),
            1
        );
    }

    #[test]
    fn truncated_files_are_refused_with_record_and_byte() {
        let directory = dataset();
        let path = directory.path().join("data_batch_3.bin");
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(3073 + 100)
            .unwrap();
        assert_eq!(
            user_message(Images::read(directory.path(), Split::Train)),
            format!(
                "{} is truncated: record 1 at byte 3073 has 100 bytes, want 3073",
                path.display()
            )
        );
        fs::write(&path, []).unwrap();
        assert_eq!(
            user_message(Images::read(directory.path(), Split::Train)),
            format!("{} is empty", path.display())
        );
    }

    #[test]
    fn labels_over_9_are_refused_with_file_record_and_byte() {
        let directory = dataset();
        let path = directory.path().join("data_batch_5.bin");
        let mut bytes = fs::read(&path).unwrap();
        bytes[RECORD_BYTES] = 10;
        fs::write(&path, bytes).unwrap();
        assert_eq!(
            user_message(Images::read(directory.path(), Split::Train)),
            format!(
                "{}: record 1 at byte 3073 has label 10, want 0 to 9",
                path.display()
            )
        );
    }

    #[test]
    fn named_pipes_are_refused_without_waiting_for_a_writer() {
        let directory = dataset();
        let path = directory.path().join("data_batch_2.bin");
        fs::remove_file(&path).unwrap();
        let created = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(created.unwrap().success());
        assert_eq!(
            user_message(Images::read(directory.path(), Split::Train)),
            format!("{} is no regular file", path.display())
        );
    }

    #[test]
    fn excessive_sizes_are_refused_before_allocation() {
        let directory = dataset();
        let path = directory.path().join("data_batch_1.bin");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(3073 * 10_000_000).unwrap();
        assert!(
            user_message(Images::read(directory.path(), Split::Train)).contains("want at most")
        );
    }
}
