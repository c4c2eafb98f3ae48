//! Where a bundle's program finds libtorch. In a clone and where `make install` has put it, it knows since it was built.

use crate::bundle::Bundle;
use crate::files::read_small;
use crate::{bail_user, paths};
use anyhow::Result;
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{self, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Names the directory of a libtorch, as it does when runboard is built.
const VARIABLE: &str = "LIBTORCH";

/// Where the loader looks for a bundle's libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Of libtorch's libraries the one that the program cannot do without.
const LIBRARY: &str = "lib/libtorch_cpu.so";

/// Prints where a python3 has the package torch, without importing it, which takes seconds. A directory `torch` in the current
/// one is none.
const ASK_PYTHON: &str = "
import os, sys
sys.path = [place for place in sys.path if place]
from importlib.util import find_spec
torch = find_spec('torch')
if torch and torch.origin:
    sys.stdout.buffer.write(os.fsencode(os.path.dirname(torch.origin)))
";

/// Files of which one says a libtorch's version between quotes or as its first word: of a Python package, of libtorch's own
/// archive and of the headers.
const VERSION_FILES: [&str; 3] = [
    "version.py",
    "build-version",
    "include/torch/headeronly/version.h",
];
const MAX_BYTES: u64 = 1 << 20;

/// How long a python3 may take to answer: on a network's file system the first one takes seconds to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The directory of the libtorch that was found, once it was looked for; none inside where the program knows it itself.
static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();

/// A libtorch that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Libtorch {
    directory: PathBuf,
    version: String,
}

/// The variable that lets the loader find libtorch, where the program does not know its place; none where it does.
///
/// # Errors
/// A user error if there is none, or none of the right version.
pub(super) fn variable() -> Result<Option<(&'static str, OsString)>> {
    let libtorch = match FOUND.get() {
        Some(found) => found,
        None => {
            let bundle = Bundle::find()?;
            let found = bundle.map(|bundle| find(&bundle)).transpose()?;
            FOUND.get_or_init(|| found)
        }
    };
    let Some(libtorch) = libtorch else {
        return Ok(None);
    };
    let mut value = libtorch.join("lib").into_os_string();
    if value.as_bytes().iter().any(|byte| b":;".contains(byte)) {
        bail_user!(
            "libtorch is in {}; want it in a directory without ':' and ';', at which the loader splits names",
            libtorch.display()
        );
    }
    if let Some(others) = env::var_os(LIBRARY_PATH).filter(|others| !others.is_empty()) {
        value.push(":");
        value.push(others);
    }
    Ok(Some((LIBRARY_PATH, value)))
}

/// The directory of the libtorch that [`variable`] has found.
pub(super) fn found() -> Option<&'static Path> {
    FOUND.get()?.as_deref()
}

/// The directory of the libtorch for a bundle: what `LIBTORCH` names, or else the package torch of a python3 on the PATH, or else what
/// was packed with it.
fn find(bundle: &Bundle) -> Result<PathBuf> {
    let wanted = release(&bundle.libtorch);
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let directory = path::absolute(paths::expand(&named)?)?;
        if !directory.join(LIBRARY).is_file() {
            bail_user!(
                "{VARIABLE}: no {LIBRARY} in {}; want the directory of a libtorch {wanted}, or the variable unset",
                directory.display()
            );
        }
        return match version(&directory) {
            Some(version) if release(&version) == wanted => Ok(directory),
            found => bail_user!(
                "{VARIABLE}: {} has libtorch {}; want {wanted}, for which this runboard was built, or the variable unset",
                directory.display(),
                found
                    .as_deref()
                    .unwrap_or("of a version that no file tells"),
            ),
        };
    }
    let mut others = Vec::new();
    let path = env::var_os("PATH").unwrap_or_default();
    for python in pythons(env::split_paths(&path)) {
        let said = match package(&python, PATIENCE) {
            Ok(torch) if release(&torch.version) == wanted => return Ok(torch.directory),
            Ok(torch) => format!("has torch {}", torch.version),
            Err(why) => why.to_owned(),
        };
        others.push(format!("{} {said}", python.display()));
    }
    let packed = bundle.directory.join("libtorch");
    if packed.join(LIBRARY).is_file() {
        return Ok(packed);
    }
    bail_user!(
        "no libtorch {wanted}, which training and evaluation need{}{}; want one of these: the variable {VARIABLE} set to the \
         directory of one, a python3 on the PATH with its package (`pip install torch=={}`), or {}, which \
         `make bundle BUNDLE=full` packs",
        if others.is_empty() { "" } else { ": " },
        others.join(", "),
        bundle.libtorch,
        packed.display()
    )
}

/// The python3 of each of these directories; once, of those that are the same by a link, as `/bin` and `/usr/bin` are.
fn pythons(directories: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut known = Vec::new();
    let is_new = |directory: &PathBuf| {
        let real = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.clone());
        let new = !known.contains(&real);
        known.push(real);
        new
    };
    let pythons = directories.filter(is_new).map(|it| it.join("python3"));
    pythons.filter(|python| python.is_file()).collect()
}

/// The package torch of a python3, or why it has none with libtorch in it.
fn package(python: &Path, patience: Duration) -> Result<Libtorch, &'static str> {
    let mut ask = Command::new(python);
    ask.args(["-c", ASK_PYTHON])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let child = ask.spawn().map_err(|_| "cannot be started")?;
    let answer = answer(child, patience)?;
    if answer.is_empty() {
        return Err("has no torch");
    }
    let directory = PathBuf::from(OsString::from_vec(answer));
    if !directory.join(LIBRARY).is_file() {
        return Err("has a torch without lib/libtorch_cpu.so");
    }
    let version = version(&directory).unwrap_or_else(|| "of an unknown version".to_owned());
    Ok(Libtorch { directory, version })
}

/// What a child prints, which is a path and fits into a pipe, within this time.
fn answer(mut child: Child, patience: Duration) -> Result<Vec<u8>, &'static str> {
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
            _ => {
                // It may have ended at last.
                let _ = child.kill();
                let _ = child.wait();
                return Err("does not answer");
            }
        }
    }
    let output = child.wait_with_output();
    let output = output.ok().filter(|output| output.status.success());
    output
        .map(|output| output.stdout)
        .ok_or("fails when it is asked for torch")
}

/// The version of the libtorch in a directory, such as `2.11.0+cu130`, if a file there tells it.
pub fn version(directory: &Path) -> Option<String> {
    let text = |file: &str| read_small(&directory.join(file), MAX_BYTES).ok();
    let texts = VERSION_FILES.into_iter().filter_map(text);
    let mut versions = texts.filter_map(|text| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let words = text.split(|letter: char| letter.is_whitespace() || "'\"".contains(letter));
        let is_version = |word: &&str| {
            let mut parts = word.split('.');
            let is_number = |part: Option<&str>| part.is_some_and(|it| it.parse::<u32>().is_ok());
            is_number(parts.next()) && is_number(parts.next())
        };
        words
            .filter(|word| !word.is_empty())
            .find(is_version)
            .map(str::to_owned)
    });
    versions.next()
}

/// What two versions have in common whose libraries stand for one another: `2.11` of `2.11.0+cu130`.
fn release(version: &str) -> &str {
    let end = version.match_indices('.').nth(1);
    end.map_or(version, |(end, _)| &version[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn version_is_that_of_a_package_an_archive_or_the_headers() {
        let place = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = place.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(version(place.path()), None);
        write(
            VERSION_FILES[2],
            "#pragma once\n#define TORCH_VERSION \\\n  \"2.11.0\"\n",
        );
        assert_eq!(version(place.path()).as_deref(), Some("2.11.0"));
        write("build-version", "2.11.1+cu126\n");
        assert_eq!(version(place.path()).as_deref(), Some("2.11.1+cu126"));
        write(
            "version.py",
            "from typing import Optional\n\n__all__ = ['__version__']\n__version__ = '2.9.1+cpu'\ncuda: Optional[str] = '13.0'\n",
        );
        assert_eq!(version(place.path()).as_deref(), Some("2.9.1+cpu"));
    }

    #[test]
    fn python_without_a_torch_says_why() {
        let place = tempfile::tempdir().unwrap();
        let python = place.path().join("python3");
        let ask = |script: &str, patience: u64| {
            fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
            package(&python, Duration::from_millis(patience)).unwrap_err()
        };
        const LONG: u64 = 600_000;
        assert_eq!(ask("exec sleep 3600", 20), "does not answer");
        assert_eq!(ask("exit 1", LONG), "fails when it is asked for torch");
        assert_eq!(ask("exit 0", LONG), "has no torch");
        let without = "has a torch without lib/libtorch_cpu.so";
        assert_eq!(ask("printf /nonexistent", LONG), without);
        fs::set_permissions(&python, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = package(&python, PATIENCE).unwrap_err();
        assert_eq!(refused, "cannot be started");
    }

    #[test]
    fn pythons_are_asked_once_each() {
        let place = tempfile::tempdir().unwrap();
        let [first, link, empty] = ["first", "link", "empty"].map(|it| place.path().join(it));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&empty).unwrap();
        symlink(&first, &link).unwrap();
        fs::write(first.join("python3"), "").unwrap();
        let found = pythons([empty, first.clone(), link, first.clone()].into_iter());
        assert_eq!(found, [first.join("python3")]);
    }

    #[test]
    fn release_is_major_and_minor_version() {
        for (version, want) in [("2.11.0+cu130", "2.11"), ("2.11", "2.11"), ("2", "2")] {
            assert_eq!(release(version), want);
        }
    }
}
