//! Random archives in place of the official one.

use crate::data::format::{META_FILE, RECORD_BYTES, TEST_FILE, TRAIN_FILES};
use crate::data::sources::staging::DirectoryLock;
use crate::data::sources::unpack::{tests::official, unpack};
use crate::testing::fuzz::{check, edited, pick};
use crate::testing::heap::within;
use flate2::write::GzEncoder;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::io::Write;
use std::path::Path;

const NAMES: [&str; 14] = [
    "cifar-10-batches-bin/test_batch.bin",
    "test_batch.bin",
    "./data_batch_1.bin",
    "batches.meta.txt",
    "cifar-10-batches-bin",
    "../evil",
    "/tmp/evil",
    "cifar-10-batches-bin/../../test_batch.bin",
    "cifar-10-batches-bin/./test_batch.bin",
    "..",
    "",
    "././@LongLink",
    "\u{e9}",
    "a\\..\\b",
];

const WORDS: &[&[u8]] = &[
    &[0; 512],
    b"77777777777\0",
    b"ustar\x0000",
    b"ustar  \0",
    b"../",
    b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    b"19 path=../../evil\n",
    b"24 size=99999999999999\n",
    b"24 GNU.sparse.major=100\n",
    b"../../evil\0",
    b"test_batch.bin\0",
    b"\0",
];

/// An entry of an archive, whose header need not be true.
fn entry(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let data = match rng.random_bool(0.5) {
        true => vec![1; RECORD_BYTES],
        false => pick(rng, WORDS).to_vec(),
    };
    let sizes = [
        0,
        1,
        511,
        513,
        100 << 20,
        (1 << 33) - 1,
        1 << 40,
        u64::MAX - 511,
        u64::MAX,
    ];
    let size = match rng.random_bool(0.2) {
        true => pick(rng, &sizes),
        false => data.len() as u64,
    };
    let mut header = tar::Header::new_gnu();
    let name = pick(rng, &NAMES);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    let link = pick(rng, &["", "../evil", "/etc/passwd", "test_batch.bin"]);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(pick(rng, b"0000\x0012346789LKxgSDMV5")));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
    [header.as_bytes(), data.as_slice(), &padding].concat()
}

#[test]
fn archives_stay_in_their_directory() {
    let mut whole = tar::Builder::new(Vec::new());
    for (path, bytes) in official() {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        whole
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    let whole = whole.into_inner().unwrap();
    check(150, |rng| {
        let mut tar: Vec<u8> = (0..rng.random_range(0..4))
            .flat_map(|_| entry(rng))
            .collect();
        tar.extend(edited(rng, &whole, WORDS));
        if rng.random_bool(0.5) {
            seal(&mut tar);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(&tar).unwrap();
        let mut archive = gzip.finish().unwrap();
        if rng.random_bool(0.2) {
            archive = edited(rng, &archive, &[]);
        }

        let outside = tempfile::tempdir().unwrap();
        let home = outside.path().join("home");
        let lock = DirectoryLock::acquire(&home).unwrap();
        let staging = lock.stage(&home.join("set")).unwrap();
        let _ = within(16 << 20, || unpack(archive.as_slice(), &staging));
        let entries = |directory: &Path| -> Vec<fs::DirEntry> {
            fs::read_dir(directory)
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        assert_eq!(entries(outside.path()).len(), 1);
        assert_eq!(entries(&home).len(), 2, "the lock and the new directory");
        for entry in entries(staging.path()) {
            let name = entry.file_name();
            let mut known = TRAIN_FILES.into_iter().chain([TEST_FILE, META_FILE]);
            assert!(known.any(|known| name == *known), "{name:?}");
            assert!(entry.file_type().unwrap().is_file(), "{name:?}");
        }
    });
}

/// Make the checksum of every block right that looks like a header.
fn seal(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if block[257..].starts_with(b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
            block[154] = 0;
        }
    }
}
