//! Loading as users meet it: files in, a spec or a message to the letter out.

mod frozen;
mod fuzz;
mod hostile;
mod layers;
mod messages;
mod reference;
mod schema;
mod values;

use super::*;
use crate::error::is_user_error;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;

/// The experiments that this repository ships.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

/// A directory of experiments; its path is cut from messages.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("experiments")).unwrap();
        for (name, bytes) in files {
            fs::write(directory.path().join("experiments").join(name), bytes).unwrap();
        }
        Directory(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("experiments").join(name)
    }

    fn load(&self, name: &str, set: &[&str]) -> Result<Spec, String> {
        let set: Result<Vec<_>, _> = set.iter().map(Override::parse).collect();
        set.and_then(|set| load(name, &self.path(""), &set))
            .map(|experiment| experiment.spec)
            .map_err(|error| self.message(&error))
    }

    fn message(&self, error: &anyhow::Error) -> String {
        assert!(is_user_error(error), "{error:#}");
        format!("{error:#}").replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn bad(text: &str) -> String {
    bad_bytes(text.as_bytes())
}

fn bad_bytes(bytes: &[u8]) -> String {
    Directory::new(&[("bad.yaml", bytes)])
        .load("bad", &[])
        .unwrap_err()
}

fn bad_set(set: &str) -> String {
    Directory::new(&[("empty.yaml", b"")])
        .load("empty", &[set])
        .unwrap_err()
}
