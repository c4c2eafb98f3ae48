//! Where a data set's files come from: the official archive, directories of PNG and JPEG images, or a generator.
//!
//! [`prepare`] makes sure that the files which a spec names are there. Each source fills a staging directory
//! ([`staging`]) and renames it, so that a directory which has the files has all of them.

mod canvas;
pub(in crate::data) mod decode;
pub(in crate::data) mod download;
pub(in crate::data) mod fetch;
mod figures;
mod import;
mod jpeg;
mod pictures;
mod progress;
pub(in crate::data) mod staging;
mod synthetic;
pub(in crate::data) mod unpack;
mod write;

pub use decode::{ChangeCounts, Changes};
pub use import::import;
pub use pictures::{Picture, find_pictures};
pub use synthetic::synthesize;

use crate::data::files;
use crate::hint::runboard;
use crate::paths::unexpanded;
use crate::spec::{Data, Source};
use crate::{bail_user, user_error};
use anyhow::Result;
use fetch::Archive;
use std::path::{Path, PathBuf};

/// What a user can do where the archive cannot be fetched.
fn alternatives() -> String {
    format!(
        "alternatives:
  a directory with the files:      --data DIR, RUNBOARD_DATA, or data.folder in the spec
{}",
        other_images()
    )
}

/// How to have other images than the archive's.
fn other_images() -> String {
    format!(
        "  images in class directories:     {}
  synthetic images:                data.source: synthetic in the spec",
        runboard(&["data", "import", "DIR"])
    )
}

/// Whether the archive may be fetched into `data.folder` if that holds no images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The folder is the default one, or the user asked for a download into it.
    Allowed,
    /// The user named the folder as one that has images: a typo must not start a download.
    Refused,
}

/// Makes sure that the images which `data` asks for are there, and returns the directory that holds the files.
///
/// `source: cifar10` takes what `data.folder` holds, else fetches the official archive into it (or the mirror
/// named by the environment variable `RUNBOARD_CIFAR10_URL`). `source: synthetic` generates its images in
/// a directory of its own in `data.folder` and never touches other files. Several processes may prepare at once.
///
/// # Errors
/// A user error if images are missing and not to be fetched, or if the directory holds part of a data set. Others:
/// the download fails, the directory cannot be written.
pub fn prepare(data: &Data, fetch: Fetch) -> Result<PathBuf> {
    prepare_from(data, fetch, &Archive::official())
}

/// The directory in `directory`, or `directory` itself, that holds the data set which `data` asks for; None if there
/// is none. Nothing is fetched or generated.
///
/// # Errors
/// A user error if `directory` holds part of a data set. Others: it cannot be read.
pub fn find(data: &Data, directory: &Path) -> Result<Option<PathBuf>> {
    match data.source {
        Source::Synthetic => synthetic::find(&data.synthetic, directory),
        Source::Cifar10 => files::find_dataset(directory),
    }
}

fn prepare_from(data: &Data, fetch: Fetch, archive: &Archive) -> Result<PathBuf> {
    match plan(data, fetch)? {
        Plan::Take(dataset) => Ok(dataset),
        Plan::Download => archive.fetch(&data.folder),
        Plan::Generate => synthesize(&data.synthetic, &data.folder),
    }
}

/// What [`prepare`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The files are in this directory.
    Take(PathBuf),
    /// The archive is downloaded.
    Download,
    /// The images are generated.
    Generate,
}

/// Says what [`prepare`] will do, and does nothing.
///
/// # Errors
/// As [`prepare`], but for downloading and writing.
pub fn plan(data: &Data, fetch: Fetch) -> Result<Plan> {
    let directory = data.folder.as_path();
    if files::is_there(directory)? && !directory.is_dir() {
        bail_user!("data.folder: {} is no directory", directory.display());
    }
    match (find(data, directory)?, data.source) {
        (Some(dataset), _) => Ok(Plan::Take(dataset)),
        (None, Source::Synthetic) => Ok(Plan::Generate),
        (None, Source::Cifar10) if data.download && fetch == Fetch::Allowed => Ok(Plan::Download),
        (None, Source::Cifar10) => Err(missing(data)),
    }
}

/// The error of a folder without images, into which none are fetched.
fn missing(data: &Data) -> anyhow::Error {
    let problem = files::dataset_not_found(&data.folder);
    if !data.download {
        return user_error!("{problem}; data.download is off\n{}", alternatives());
    }
    let download = runboard(&[
        "data".as_ref(),
        "fetch".as_ref(),
        unexpanded(&data.folder).as_os_str(),
    ]);
    user_error!(
        "{problem}; nothing is downloaded into a directory that was named
  to download the archive there:   {download}
{}",
        other_images()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::spec::Synthetic;
    use download::Download;
    use download::server::{answer, serve, whole};
    use std::time::Duration;

    fn archive(answers: Vec<Vec<u8>>) -> Archive {
        Archive {
            download: Download {
                url: serve(answers).0,
                retry_delay: Duration::from_millis(1),
                timeout: Duration::from_secs(600),
                max_bytes: 1 << 20,
            },
            md5: "0".repeat(32),
        }
    }

    fn data(source: Source, directory: &Path) -> Data {
        let synthetic = Synthetic {
            train_images: 10,
            test_images: 10,
            ..Synthetic::default()
        };
        Data {
            source,
            folder: directory.to_path_buf(),
            synthetic,
            ..Data::default()
        }
    }

    #[test]
    fn directory_that_holds_the_files_needs_no_server() {
        let home = tempfile::tempdir().unwrap();
        let dataset = prepare(&data(Source::Synthetic, home.path()), Fetch::Refused).unwrap();
        let given = data(Source::Cifar10, &dataset);
        assert_eq!(
            prepare_from(&given, Fetch::Allowed, &archive(vec![])).unwrap(),
            dataset
        );
    }

    #[test]
    fn synthetic_images_are_not_taken_for_real_ones() {
        let home = tempfile::tempdir().unwrap();
        prepare(&data(Source::Synthetic, home.path()), Fetch::Refused).unwrap();
        let mut real = data(Source::Cifar10, home.path());
        real.download = false;
        assert!(is_user_error(&prepare(&real, Fetch::Allowed).unwrap_err()));
    }

    #[test]
    fn missing_images_are_reported_with_alternatives() {
        let home = tempfile::tempdir().unwrap();
        let mut given = data(Source::Cifar10, home.path());
        given.download = false;
        let error = prepare(&given, Fetch::Allowed).unwrap_err();
        assert!(is_user_error(&error));
        let text = error.to_string();
        assert!(text.contains("data.download is off\n"), "{text}");
        assert!(text.ends_with(&alternatives()), "{text}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);

        given.download = true;
        let gone = answer("404 Not Found\r\nContent-Length: 0", b"");
        let error = prepare_from(&given, Fetch::Allowed, &archive(vec![gone])).unwrap_err();
        assert!(!is_user_error(&error));
        let text = error.to_string();
        assert!(
            text.starts_with("failed to download http://127.0.0.1"),
            "{text}"
        );
        assert!(text.ends_with(&alternatives()), "{text}");
        let error =
            prepare_from(&given, Fetch::Allowed, &archive(vec![whole(b"portal")])).unwrap_err();
        assert!(error.to_string().contains("MD5 mismatch"));
    }

    #[test]
    fn plan_says_what_preparing_does_and_does_nothing() {
        let home = tempfile::tempdir().unwrap();
        let synthetic = data(Source::Synthetic, home.path());
        let real = data(Source::Cifar10, home.path());
        let planned = |data, fetch| plan(data, fetch).unwrap();
        assert_eq!(planned(&synthetic, Fetch::Refused), Plan::Generate);
        assert_eq!(planned(&real, Fetch::Allowed), Plan::Download);
        plan(&real, Fetch::Refused).unwrap_err();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        let dataset = prepare(&synthetic, Fetch::Refused).unwrap();
        assert_eq!(planned(&synthetic, Fetch::Refused), Plan::Take(dataset));
    }

    #[test]
    fn folder_that_the_user_named_is_never_fetched_into() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("typo");
        let given = data(Source::Cifar10, &folder);
        let error = prepare_from(&given, Fetch::Refused, &archive(vec![])).unwrap_err();
        assert!(is_user_error(&error));
        let text = error.to_string();
        let shown = folder.display();
        assert!(
            text.starts_with(&format!("no CIFAR-10 binary files in {shown}: want ")),
            "{text}"
        );
        assert!(text.contains(&format!(" data fetch {shown}\n")), "{text}");
        assert!(!folder.exists());
    }

    #[test]
    fn file_in_place_of_the_directory_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(is_user_error(
            &prepare(&data(Source::Cifar10, file.path()), Fetch::Allowed).unwrap_err()
        ));
    }
}
