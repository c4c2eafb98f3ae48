//! What people say of a run or a sweep: `labels.yaml` in its directory, which they may edit by hand.
//!
//! ```yaml
//! version: 1
//! tags: [best-so-far]
//! notes:
//! - time: 2026-11-26T08:00:00+00:00
//!   text: the loss still falls at the end
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chrono::{DateTime, FixedOffset, Local, SubsecRound};
use serde::{Deserialize, Serialize};

use super::ProcessDir;
use super::directory::{A_MOMENT, lock};
use crate::files::{read_if_there, write_atomic};
use crate::{bail_user, user_error};

/// Version of the file.
const VERSION: u32 = 1;
/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The longest tag, in characters.
const MAX_TAG: usize = 40;

/// Contents of the file; empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    version: u32,
    /// Each once, in the order in which they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// What somebody wrote, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// To the second.
    pub time: DateTime<FixedOffset>,
    /// Of any number of lines.
    pub text: String,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Default for Labels {
    fn default() -> Self {
        Labels {
            version: VERSION,
            tags: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Labels {
    /// Where those of a run or a sweep are.
    pub fn path(directory: &ProcessDir) -> PathBuf {
        directory.path().join("labels.yaml")
    }

    /// Those of a run or a sweep.
    ///
    /// # Errors
    /// A user error for a file that holds none, or of a later version.
    pub fn read(directory: &ProcessDir) -> Result<Self> {
        let path = Self::path(directory);
        match read_if_there(&path, MAX_BYTES)? {
            None => Ok(Labels::default()),
            Some(bytes) => parse(&path, &bytes),
        }
    }

    /// Changes those of a run or a sweep, and returns them. Of two processes that do so at once the second waits.
    ///
    /// # Errors
    /// That of `change`, and if the file cannot be read or written; it then stays as it was.
    pub fn change(
        directory: &ProcessDir,
        change: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Self> {
        let _lock = lock(directory.path(), A_MOMENT);
        let before = Self::read(directory)?;
        let mut labels = before.clone();
        change(&mut labels)?;
        if labels != before {
            let text = serde_yaml::to_string(&labels).context("failed to write the labels")?;
            if text.len() as u64 > MAX_BYTES {
                bail_user!(
                    "{}: tags and notes would have {} bytes, want at most {MAX_BYTES}; longer texts belong into a file of \
                     their own",
                    Self::path(directory).display(),
                    text.len()
                );
            }
            write_atomic(&Self::path(directory), text.as_bytes())?;
        }
        Ok(labels)
    }

    /// Adds a tag, unless it is there.
    pub fn tag(&mut self, tag: &str) {
        if !self.tags.iter().any(|it| it == tag) {
            self.tags.push(tag.to_owned());
        }
    }

    /// Adds a note of now.
    pub fn note(&mut self, text: &str) {
        self.notes.push(Note {
            time: Local::now().fixed_offset().trunc_subsecs(0),
            text: text.to_owned(),
        });
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Labels> {
    let shown = path.display();
    let version = serde_yaml::from_slice(bytes).map(|Versioned { version }| version);
    if let Some(version) = version.ok().filter(|version| *version != VERSION) {
        bail_user!("{shown}: got version {version}, want {VERSION}");
    }
    let labels: Labels = serde_yaml::from_slice(bytes).map_err(|error| {
        user_error!("{shown}: {error}; want what `runboard tag` and `runboard note` write")
    })?;
    for tag in &labels.tags {
        check_tag(tag).map_err(|problem| user_error!("{shown}: {problem}"))?;
    }
    Ok(labels)
}

/// Makes sure that a text can be a tag: a word of a shell, of a filter and of a table.
///
/// # Errors
/// What was found and is wanted.
pub fn check_tag(tag: &str) -> Result<(), String> {
    let plain = |c: char| c.is_alphanumeric() || "-_.:/+@".contains(c);
    let is_one = tag.chars().all(plain)
        && tag.starts_with(char::is_alphanumeric)
        && tag.chars().count() <= MAX_TAG;
    match is_one {
        true => Ok(()),
        false => Err(format!(
            "got the tag {tag:?}, want a word of up to {MAX_TAG} letters, digits and -_.:/+@ that begins with a letter or a \
             digit"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use std::fs;

    fn directory() -> (tempfile::TempDir, ProcessDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        (directory, ProcessDir::new(path))
    }

    #[test]
    fn labels_come_back_as_they_were_written() {
        let (_directory, run) = directory();
        assert_eq!(Labels::read(&run).unwrap(), Labels::default());
        let written = Labels::change(&run, |labels| {
            labels.tag("best-so-far");
            labels.tag("best-so-far");
            labels.note("two\nlines: of text");
            Ok(())
        });
        let written = written.unwrap();
        assert_eq!(Labels::read(&run).unwrap(), written);
        assert_eq!(written.tags, ["best-so-far"]);
        let text = fs::read_to_string(Labels::path(&run)).unwrap();
        assert!(
            text.starts_with("version: 1\ntags:\n- best-so-far\nnotes:\n- time: "),
            "{text}"
        );
        // A change that fails changes nothing.
        Labels::change(&run, |labels| {
            labels.tags.clear();
            bail_user!("no")
        })
        .unwrap_err();
        assert_eq!(Labels::read(&run).unwrap(), written);
    }

    #[test]
    fn labels_that_could_not_be_read_again_are_refused() {
        let (_directory, run) = directory();
        let note = |text: &str| {
            Labels::change(&run, |labels| {
                labels.note(text);
                Ok(())
            })
        };
        note("short").unwrap();
        let error = note(&"long ".repeat(1 << 18)).unwrap_err();
        assert!(is_user_error(&error));
        assert!(
            error.to_string().contains("want at most 1048576"),
            "{error}"
        );
        assert_eq!(Labels::read(&run).unwrap().notes.len(), 1);
    }

    #[test]
    fn labels_that_are_none_are_named_and_stay() {
        let (_directory, run) = directory();
        let path = Labels::path(&run);
        for (text, problem) in [
            ("version: 2\n", ": got version 2, want 1"),
            ("tags: [a]\n", ": missing field `version`"),
            ("version: 1\ntag: [a]\n", ": unknown field `tag`"),
            (
                "version: 1\ntags: [a b]\n",
                ": got the tag \"a b\", want a word of",
            ),
            ("", ": missing field"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Labels::change(&run, |labels| {
                labels.tag("x");
                Ok(())
            });
            let error = error.unwrap_err();
            assert!(is_user_error(&error), "{text}");
            let message = error.to_string();
            assert!(
                message.starts_with(&path.display().to_string()),
                "{message}"
            );
            assert!(message.contains(problem), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn tag_is_a_word() {
        for tag in ["a", "best-so-far", "v1.0", "lr:0.1", "größe", "a/b"] {
            assert_eq!(check_tag(tag), Ok(()), "{tag}");
        }
        for tag in ["", "-a", "a b", "a,b", "a=b", "a\n", &"x".repeat(41)] {
            assert!(check_tag(tag).is_err(), "{tag}");
        }
    }
}
