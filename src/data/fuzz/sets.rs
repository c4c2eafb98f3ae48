//! Random data sets in CIFAR-10's layout.

use crate::data::class_names;
use crate::data::format::{
    BATCHES_DIR, CLASS_COUNT, META_FILE, PIXEL_BYTES, RECORD_BYTES, Split, TEST_FILE, TRAIN_FILES,
};
use crate::data::images::Images;
use crate::error::is_user_error;
use crate::testing::fuzz::{check, edited, pick};
use crate::testing::heap::within;
use anyhow::Result;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const NAMES: &[u8] = b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

const WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b" ",
    b"\0",
    b"\xff",
    b"\x1b[2J",
    b"cat\n",
    b"\xe2\x80\xa8",
    &[9; RECORD_BYTES],
];

/// Put an edited file at `path`, or a directory, or a link, or nothing.
fn write_edited(rng: &mut ChaCha8Rng, path: &Path, file: &[u8]) {
    match rng.random_range(0..24) {
        0 => fs::create_dir(path),
        1 => {
            let targets = [
                "data_batch_1.bin",
                "nowhere",
                ".",
                "/dev/zero",
                "/etc/passwd",
            ];
            symlink(pick(rng, &targets), path)
        }
        2 => Ok(()),
        _ => fs::write(path, edited(rng, file, WORDS)),
    }
    .unwrap();
}

/// The value; an error must be a user error that names something in the directory.
fn value_or_user_error<T>(directory: &Path, result: Result<T>) -> Option<T> {
    result
        .map_err(|error| {
            let message = format!("{error:#}");
            assert!(is_user_error(&error), "{message}");
            assert!(
                message.contains(&directory.display().to_string()),
                "{message}"
            );
        })
        .ok()
}

#[test]
fn datasets_are_read_or_refused() {
    let records = |count: u8| -> Vec<u8> {
        let record = |label: u8| [[label].as_slice(), &[100; PIXEL_BYTES]].concat();
        (0..count).flat_map(record).collect()
    };
    check(150, |rng| {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(pick(rng, &["", BATCHES_DIR]));
        fs::create_dir_all(&directory).unwrap();
        for name in TRAIN_FILES.into_iter().chain([TEST_FILE]) {
            let file = records(rng.random_range(1..4));
            // Most are whole, or no data set would be read.
            match rng.random_bool(0.8) {
                true => fs::write(directory.join(name), file).unwrap(),
                false => write_edited(rng, &directory.join(name), &file),
            }
        }
        write_edited(rng, &directory.join(META_FILE), NAMES);

        for split in [Split::Train, Split::Test] {
            let read = within(1 << 20, || Images::read(home.path(), split));
            let Some(images) = value_or_user_error(home.path(), read) else {
                continue;
            };
            let size = |name: &&str| fs::metadata(directory.join(name)).unwrap().len();
            let bytes: u64 = split.files().iter().map(size).sum();
            assert_eq!((images.len() * RECORD_BYTES) as u64, bytes);
            assert!((0..images.len()).all(|index| usize::from(images.label(index)) < CLASS_COUNT));
        }
        let names = within(1 << 20, || class_names(home.path()));
        if let Some(mut names) = value_or_user_error(home.path(), names) {
            names.sort();
            names.dedup();
            assert_eq!(names.len(), CLASS_COUNT);
            assert!(
                !names
                    .iter()
                    .any(|name| name.is_empty() || name.contains(char::is_control))
            );
        }
    });
}
