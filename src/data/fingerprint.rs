//! What tells one data set from another: the bytes of its files and the names of its classes.

use super::files::class_names;
use super::format::{RECORD_BYTES, Split};
use super::images::{FileDigest, Images};
use crate::files::sha256;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The contents of a data set: two that are equal have the same images and labels in the same order, and the same
/// names of classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    train: Vec<FileDigest>,
    test: Vec<FileDigest>,
    /// Names in the order of the labels.
    classes: Vec<String>,
}

impl Fingerprint {
    /// Of the data set in `directory`, which is as for [`Images::read`]. Reads all of it.
    ///
    /// # Errors
    /// As [`Images::read`] and [`class_names`].
    pub fn of(directory: &Path) -> Result<Fingerprint> {
        Ok(Fingerprint {
            train: Images::read(directory, Split::Train)?.into_digests(),
            test: Images::read(directory, Split::Test)?.into_digests(),
            classes: class_names(directory)?,
        })
    }

    /// Names of the classes in the order of the labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of training images.
    pub fn train_images(&self) -> usize {
        let bytes: u64 = self.train.iter().map(|file| file.bytes).sum();
        bytes as usize / RECORD_BYTES
    }

    /// Eight hexadecimal digits that stand for the data set where people compare runs.
    ///
    /// # Errors
    /// None that a fingerprint of this program has.
    pub fn digits(&self) -> Result<String> {
        Ok(sha256(serde_json::to_vec(self)?).split_off(64 - 8))
    }

    /// How the data set `found` differs from this one, as in "FILE has ..., want ...".
    pub fn difference(&self, found: &Fingerprint) -> Option<String> {
        file_difference(&self.train, &found.train)
            .or_else(|| file_difference(&self.test, &found.test))
            .or_else(|| self.class_difference(&found.classes))
    }

    /// As [`Fingerprint::difference`], of the images of one split.
    pub fn image_difference(&self, split: Split, found: &Images) -> Option<String> {
        let want = match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        };
        file_difference(want, found.digests())
    }

    /// As [`Fingerprint::difference`], of the names of the classes.
    pub fn class_difference(&self, found: &[String]) -> Option<String> {
        if self.classes.len() != found.len() {
            let (found, want) = (found.len(), self.classes.len());
            return Some(format!("{found} names of classes, want {want}"));
        }
        let mut names = self.classes.iter().zip(found).zip(0..);
        let ((want, found), label) = names.find(|((want, found), _)| want != found)?;
        // Letters by their codes: names that look the same may differ.
        let shown = |name: &str| match name.is_ascii() {
            true => format!("{name:?}"),
            false => format!("{name:?} (\"{}\")", name.escape_default()),
        };
        Some(format!(
            "class {label} is named {}, want {}",
            shown(found),
            shown(want)
        ))
    }
}

fn file_difference(want: &[FileDigest], found: &[FileDigest]) -> Option<String> {
    if want.len() != found.len() {
        let (found, want) = (found.len(), want.len());
        return Some(format!("{found} files of images, want {want}"));
    }
    let (want, found) = want.iter().zip(found).find(|(want, found)| want != found)?;
    let shown = |file: &FileDigest| format!("{} bytes with SHA-256 {}", file.bytes, file.sha256);
    Some(format!(
        "{} has {}, want {}",
        found.name,
        shown(found),
        shown(want)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{CLASSES, META_FILE, RECORD_BYTES, TEST_FILE, TRAIN_FILES};
    use std::fs;

    fn dataset() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, label) in TRAIN_FILES.into_iter().chain([TEST_FILE]).zip(0..) {
            let record = vec![label; RECORD_BYTES];
            fs::write(directory.path().join(name), record.repeat(2)).unwrap();
        }
        directory
    }

    fn change(directory: &Path, name: &str, edit: impl Fn(&mut Vec<u8>)) {
        let path = directory.join(name);
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// The difference that `edit` of a data set makes.
    fn difference(edit: impl Fn(&Path)) -> Option<String> {
        let directory = dataset();
        let before = Fingerprint::of(directory.path()).unwrap();
        edit(directory.path());
        before.difference(&Fingerprint::of(directory.path()).unwrap())
    }

    #[test]
    fn fingerprint_tells_labels_images_and_their_order() {
        let label = difference(|set| change(set, "data_batch_3.bin", |bytes| bytes[0] = 9));
        let text = label.unwrap();
        assert!(
            text.starts_with("data_batch_3.bin has 6146 bytes with SHA-256 "),
            "{text}"
        );
        assert!(text.contains(", want 6146 bytes with SHA-256 "), "{text}");
        let pixel = difference(|set| change(set, TEST_FILE, |bytes| bytes[6145] += 1));
        assert!(pixel.unwrap().starts_with("test_batch.bin has "));
        let order = difference(|set| {
            fs::rename(set.join("data_batch_1.bin"), set.join("x")).unwrap();
            fs::rename(set.join("data_batch_2.bin"), set.join("data_batch_1.bin")).unwrap();
            fs::rename(set.join("x"), set.join("data_batch_2.bin")).unwrap();
        });
        assert!(order.unwrap().starts_with("data_batch_1.bin has "));
        let more = difference(|set| {
            change(set, "data_batch_5.bin", |bytes| {
                bytes.extend_from_within(..RECORD_BYTES);
            });
        });
        assert!(more.unwrap().starts_with("data_batch_5.bin has 9219 bytes"));
        assert_eq!(difference(|_| ()), None);
    }

    #[test]
    fn digits_are_those_of_equal_data_sets_alone() {
        let directory = dataset();
        let digits = |set: &Path| Fingerprint::of(set).unwrap().digits().unwrap();
        let before = digits(directory.path());
        assert_eq!(before.len(), 8);
        assert!(before.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(digits(dataset().path()), before);
        change(directory.path(), TEST_FILE, |bytes| bytes[1] += 1);
        assert_ne!(digits(directory.path()), before);
    }

    #[test]
    fn fingerprint_tells_class_names_but_not_how_their_file_is_written() {
        let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
        let written =
            |text: String| difference(|set| fs::write(set.join(META_FILE), &text).unwrap());
        assert_eq!(written(format!("\u{feff}{names}\r\n")), None);
        assert_eq!(
            written(names.replace("cat", "lion")).unwrap(),
            "class 3 is named \"lion\", want \"cat\""
        );
        assert_eq!(
            written(names.replace("cat", "c\u{e4}t")).unwrap(),
            "class 3 is named \"c\u{e4}t\" (\"c\\u{e4}t\"), want \"cat\""
        );
        let mut nameless = Fingerprint::of(dataset().path()).unwrap();
        nameless.classes.clear(); // as somebody may have edited the record
        let message = nameless.class_difference(&CLASSES.map(String::from));
        assert_eq!(message.unwrap(), "10 names of classes, want 0");
    }
}
