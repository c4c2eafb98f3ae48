//! Takes the known files, and nothing else, out of the official archive.

use super::staging::StagingDirectory;
use crate::data::format::{BATCHES_DIR, META_FILE, TEST_FILE, TRAIN_FILES};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Component, Path};

/// Limit of what is decompressed in all. The official archive holds 184 MB.
const MAX_UNPACKED: u64 = 1 << 30;
/// Limit of one file. The official ones have 30,730,000 bytes.
const MAX_FILE: u64 = 100 << 20;

/// Writes the archive's batches and class names into `staging`, by their bare names.
///
/// # Errors
/// No gzip or tar; an entry that leaves the directory; a known file twice, too large, not a regular file or
/// missing.
pub(in crate::data) fn unpack(archive: impl Read, staging: &StagingDirectory) -> Result<()> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive).take(MAX_UNPACKED));
    let mut missing: Vec<&str> = TRAIN_FILES.into_iter().chain([TEST_FILE]).collect();
    // Raw, as the library would hold long names and extensions of any size in memory; the known files need
    // neither.
    for entry in tar.entries().context("no tar archive")?.raw(true) {
        let entry = entry.context("damaged tar archive")?;
        let path = entry.path().context("damaged tar archive")?.into_owned();
        let Some(name) = known_name(&path)? else {
            continue;
        };
        ensure!(
            entry.header().entry_type().is_file(),
            "entry {} is no regular file",
            path.display()
        );
        let size = entry.size();
        ensure!(
            size <= MAX_FILE,
            "entry {}: got {size} bytes, want at most {MAX_FILE}",
            path.display()
        );
        let mut bytes = Vec::new();
        entry
            .take(size)
            .read_to_end(&mut bytes)
            .with_context(|| format!("failed to unpack {}", path.display()))?;
        ensure!(
            bytes.len() as u64 == size,
            "entry {}: got {} bytes, want {size}",
            path.display(),
            bytes.len()
        );
        staging.write(name, &bytes)?;
        missing.retain(|&file| file != name);
    }
    ensure!(
        missing.is_empty(),
        "the archive lacks {}",
        missing.join(", ")
    );
    Ok(())
}

/// The known file that an entry holds: by its bare name or in the archive's own directory.
fn known_name(path: &Path) -> Result<Option<&'static str>> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(inside) {
        bail!("entry {} leaves the directory", path.display());
    }
    let known = TRAIN_FILES.into_iter().chain([TEST_FILE, META_FILE]);
    let bare = path.strip_prefix(".").unwrap_or(path);
    let bare = bare.strip_prefix(BATCHES_DIR).unwrap_or(bare);
    Ok(known.into_iter().find(|name| bare == Path::new(name)))
}

#[cfg(test)]
pub(in crate::data) mod tests {
    use super::*;
    use crate::data::format::RECORD_BYTES;
    use crate::data::sources::staging::DirectoryLock;
    use flate2::write::GzEncoder;
    use std::fs;

    /// A tar.gz of (path, contents).
    pub(in crate::data) fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Default::default()));
        for (path, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            // `set_path` would refuse the paths that the tests are about.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, bytes.as_slice()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// The official archive's layout with one image a file; pixels that do not compress well.
    pub(in crate::data) fn official() -> Vec<(&'static str, Vec<u8>)> {
        use rand::RngCore;
        let mut rng = crate::data::random::stream(crate::spec::Seed(1), b"testing ", 9);
        let mut batch = |path| {
            let mut record = vec![0; RECORD_BYTES];
            rng.fill_bytes(&mut record[1..]);
            (path, record)
        };
        vec![
            ("cifar-10-batches-bin/", Vec::new()),
            batch("cifar-10-batches-bin/data_batch_1.bin"),
            (
                "cifar-10-batches-bin/batches.meta.txt",
                b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n".to_vec(),
            ),
            batch("cifar-10-batches-bin/data_batch_3.bin"),
            batch("cifar-10-batches-bin/data_batch_4.bin"),
            batch("cifar-10-batches-bin/test_batch.bin"),
            ("cifar-10-batches-bin/readme.html", b"<html>".to_vec()),
            batch("cifar-10-batches-bin/data_batch_5.bin"),
            batch("cifar-10-batches-bin/data_batch_2.bin"),
        ]
    }

    /// Unpacks into a directory of its own: the error, or the names of the files.
    fn unpacked(bytes: &[u8]) -> Result<Vec<String>, String> {
        let home = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(home.path()).unwrap();
        let staging = lock.stage(&home.path().join("set")).unwrap();
        let result = unpack(bytes, &staging);
        let outside = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(outside, 2, "only the lock and the staging directory");
        result.map_err(|error| format!("{error:#}"))?;
        let mut names: Vec<String> = fs::read_dir(staging.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn unpack_takes_the_known_files_alone() {
        let names = unpacked(&archive(&official())).unwrap();
        let mut known = TRAIN_FILES.to_vec();
        known.extend([TEST_FILE, META_FILE]);
        known.sort();
        assert_eq!(names, known);
    }

    #[test]
    fn entries_that_leave_the_directory_are_refused() {
        for evil in [
            "../evil",
            "/tmp/evil",
            "cifar-10-batches-bin/../../test_batch.bin",
        ] {
            let mut entries = official();
            entries.push((evil, b"evil".to_vec()));
            let error = unpacked(&archive(&entries)).unwrap_err();
            assert_eq!(error, format!("entry {evil} leaves the directory"));
        }
    }

    #[test]
    fn damaged_and_foreign_archives_are_refused() {
        let whole = archive(&official());
        assert!(unpacked(&whole[..whole.len() / 2]).is_err());
        assert!(unpacked(b"<html>not found</html>").is_err());
        assert_eq!(
            unpacked(&archive(&official()[..3])).unwrap_err(),
            "the archive lacks data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, \
             data_batch_5.bin, test_batch.bin"
        );
        let twice = [official(), official()].concat();
        assert!(
            unpacked(&archive(&twice))
                .unwrap_err()
                .contains("failed to write")
        );
    }

    #[test]
    fn long_names_are_not_held_in_memory() {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Default::default()));
        let size = 64 << 20;
        let mut header = tar::Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(size);
        header.set_cksum();
        tar.append(&header, std::io::repeat(b'a').take(size))
            .unwrap();
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let error = crate::testing::heap::within(1 << 20, || unpacked(&bytes)).unwrap_err();
        assert!(error.starts_with("the archive lacks "), "{error}");
    }

    #[test]
    fn entry_sizes_are_bounded() {
        // Only the header claims the size: nothing of it is read.
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Default::default()));
        let mut header = tar::Header::new_gnu();
        header.set_path("test_batch.bin").unwrap();
        header.set_size(MAX_FILE + 1);
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let error = unpacked(&bytes).unwrap_err();
        assert!(error.contains("want at most"), "{error}");
    }
}
