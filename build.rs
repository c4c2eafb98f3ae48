//! Writes a digest of the library's sources into it, by which the two programs know that they are of one build.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// What is in the tests alone, and what no program has in it.
const TESTS: [&str; 5] = ["fuzz.rs", "golden.rs", "testdata", "testing", "tests"];

fn main() {
    let mut files = vec!["Cargo.lock".into(), "Cargo.toml".into(), "build.rs".into()];
    add_sources(Path::new("src"), &mut files);
    files.sort();
    let mut digest = DefaultHasher::new();
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        file.hash(&mut digest);
        fs::read(&file).unwrap_or_default().hash(&mut digest);
    }
    println!("cargo:rustc-env=RUNBOARD_BUILD={:016x}", digest.finish());
}

fn add_sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if TESTS.iter().any(|tests| *tests == name) {
            continue;
        }
        match path.is_dir() {
            true => add_sources(&path, files),
            false => files.push(path),
        }
    }
}
