//! Fetches the official archive: downloads, verifies and unpacks it.

use super::alternatives;
use super::download::Download;
use super::staging::{DirectoryLock, check_target};
use super::unpack::unpack;
use crate::data::files;
use crate::data::format::BATCHES_DIR;
use crate::error::is_user_error;
use anyhow::{Context, Result, anyhow, bail};
use md5::{Digest, Md5};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The official archive and its MD5 (<https://www.cs.toronto.edu/~kriz/cifar.html>, "CIFAR-10 binary version").
const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
const MD5: &str = "c32a1d4ab5d03f1284b67883e8d87530";
/// The official archive has 170,052,171 bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Names a mirror of the archive in place of [`URL`]. Its bytes have to be the same.
const URL_VARIABLE: &str = "RUNBOARD_CIFAR10_URL";

/// An archive to fetch.
#[derive(Clone, Debug)]
pub(in crate::data) struct Archive {
    pub(in crate::data) download: Download,
    /// In lower-case hexadecimal.
    pub(in crate::data) md5: String,
}

impl Archive {
    /// The official archive, or the mirror that the environment variable `RUNBOARD_CIFAR10_URL` names.
    pub(in crate::data) fn official() -> Archive {
        Archive {
            download: Download {
                url: std::env::var(URL_VARIABLE)
                    .ok()
                    .filter(|url| !url.is_empty())
                    .unwrap_or_else(|| URL.into()),
                retry_delay: Duration::from_secs(1),
                timeout: Duration::from_secs(30),
                max_bytes: MAX_BYTES,
            },
            md5: MD5.into(),
        }
    }

    /// Makes sure that `directory` holds the files and returns the directory that does.
    ///
    /// # Errors
    /// The archive cannot be fetched, or is not the one that the MD5 is of.
    pub(in crate::data) fn fetch(&self, directory: &Path) -> Result<PathBuf> {
        let lock = DirectoryLock::acquire(directory)?;
        // Another process may have fetched it while this one waited.
        if let Some(dataset) = files::find_dataset(directory)? {
            return Ok(dataset);
        }
        self.download_and_unpack(directory, &lock)
            .map_err(|error| match is_user_error(&error) {
                true => error,
                false => anyhow!("{error:#}\n{}", alternatives()),
            })
    }

    fn download_and_unpack(&self, directory: &Path, lock: &DirectoryLock) -> Result<PathBuf> {
        check_target(&directory.join(BATCHES_DIR))?;
        let part = directory.join("cifar-10-binary.tar.gz.part");
        self.download
            .run(&part)
            .with_context(|| format!("failed to download {}", self.download.url))?;
        self.verify(&part)?;
        let staging = lock.stage(&directory.join(BATCHES_DIR))?;
        let file =
            File::open(&part).with_context(|| format!("failed to open {}", part.display()))?;
        unpack(io::BufReader::new(file), &staging)
            .with_context(|| format!("failed to unpack {}", part.display()))?;
        let dataset = staging.commit()?;
        fs::remove_file(&part).with_context(|| format!("failed to remove {}", part.display()))?;
        Ok(dataset)
    }

    /// Checks the download's MD5, and removes it if it is another.
    fn verify(&self, part: &Path) -> Result<()> {
        let mut file =
            File::open(part).with_context(|| format!("failed to open {}", part.display()))?;
        let mut digest = Md5::new();
        io::copy(&mut file, &mut digest)
            .with_context(|| format!("failed to read {}", part.display()))?;
        let got: String = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if got != self.md5 {
            fs::remove_file(part)
                .with_context(|| format!("failed to remove {}", part.display()))?;
            bail!(
                "MD5 mismatch of {}: got {got}, want {}",
                self.download.url,
                self.md5
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sources::download::server::{answer, half, rest, serve, whole};
    use crate::data::sources::unpack::tests::{archive, official};
    use std::thread::JoinHandle;

    struct Case {
        home: tempfile::TempDir,
        archive: Archive,
        server: JoinHandle<Vec<String>>,
    }

    impl Case {
        fn new(bytes: &[u8], answers: Vec<Vec<u8>>) -> Case {
            let (url, server) = serve(answers);
            let md5 = Md5::digest(bytes);
            Case {
                home: tempfile::tempdir().unwrap(),
                archive: Archive {
                    download: Download {
                        url,
                        retry_delay: Duration::from_millis(1),
                        timeout: Duration::from_secs(600),
                        max_bytes: 1 << 20,
                    },
                    md5: format!("{md5:x}"),
                },
                server,
            }
        }

        fn part(&self) -> PathBuf {
            self.home.path().join("cifar-10-binary.tar.gz.part")
        }

        /// Fetches, and checks the directory. Returns the requests.
        fn succeeds(self) -> Vec<String> {
            let dataset = self.archive.fetch(self.home.path()).unwrap();
            assert_eq!(dataset, self.home.path().join(BATCHES_DIR));
            for (path, bytes) in official() {
                if path.ends_with(".bin") {
                    assert_eq!(fs::read(self.home.path().join(path)).unwrap(), bytes);
                }
            }
            assert!(!self.part().exists());
            self.server.join().unwrap()
        }

        /// Fetches in vain and checks that no files appeared. Returns the error and the requests.
        fn fails(self) -> (String, Vec<String>) {
            let error = self.archive.fetch(self.home.path()).unwrap_err();
            assert!(!self.home.path().join(BATCHES_DIR).exists());
            (format!("{error:#}"), self.server.join().unwrap())
        }
    }

    #[test]
    fn fetch_continues_an_interrupted_transfer() {
        let bytes = archive(&official());
        let middle = bytes.len() / 2;
        let requests = Case::new(&bytes, vec![half(&bytes), rest(&bytes, middle)]).succeeds();
        assert!(!requests[0].contains("range:"));
        assert!(requests[1].contains(&format!("range: bytes={middle}-")));
    }

    #[test]
    fn fetch_removes_a_part_with_another_md5() {
        let (bytes, other) = (archive(&official()), archive(&official()[..2]));
        let gone = answer("404 Not Found\r\nContent-Length: 0", b"");
        let case = Case::new(&bytes, vec![whole(&other), gone]);
        let (part, want) = (case.part(), case.archive.md5.clone());
        let error = format!("{:#}", case.archive.fetch(case.home.path()).unwrap_err());
        let got = format!("{:x}", Md5::digest(&other));
        assert!(
            error.contains(&format!("got {got}, want {want}\n")),
            "{error}"
        );
        assert!(!part.exists());
        assert!(case.fails().0.contains("failed to download"));
    }

    #[test]
    fn fetch_refuses_archives_that_leave_the_directory() {
        let bytes = archive(&[official(), vec![("../evil", b"evil".to_vec())]].concat());
        let (error, _) = Case::new(&bytes, vec![whole(&bytes)]).fails();
        assert!(
            error.contains("entry ../evil leaves the directory\n"),
            "{error}"
        );
    }

    #[test]
    fn fetch_by_two_at_once_downloads_once() {
        let bytes = archive(&official());
        let case = Case::new(&bytes, vec![whole(&bytes)]);
        std::thread::scope(|scope| {
            let fetch = || case.archive.fetch(case.home.path()).unwrap();
            let (one, two) = (scope.spawn(fetch), scope.spawn(fetch));
            assert_eq!(one.join().unwrap(), two.join().unwrap());
        });
    }
}
