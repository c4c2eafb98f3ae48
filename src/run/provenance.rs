//! What a run was started from: the code, the libraries, the machine and the command.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use chrono::{DateTime, Local};
use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// A larger diff is cut here: it is generated files then, not somebody's edits.
const DIFF_LIMIT: u64 = 1 << 20; // bytes

/// The provenance of a run, saved as `provenance.json` and, for a changed checkout, `provenance.diff`.
#[derive(Debug, Serialize)]
pub struct Provenance {
    started: DateTime<Local>,
    command: Vec<String>,
    runboard: &'static str,
    software: Software,
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<Git>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    cpu: String,
    /// What this process may use, which a container or `taskset` makes fewer than the machine has.
    cores: usize,
    /// What the checkout differs in from its commit, in git's own format.
    #[serde(skip)]
    pub(super) diff: Option<Vec<u8>>,
}

/// The versions and the device that only the caller knows, as they should be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Software {
    /// burn's version.
    pub burn: String,
    /// libtorch's version.
    pub libtorch: String,
    /// The device trained on.
    pub device: String,
}

#[derive(Debug, Serialize)]
struct Git {
    commit: String,
    /// Whether anything differs from the commit, untracked files included.
    dirty: bool,
}

impl Provenance {
    /// Looks around, with `checkout` as the directory to ask git about. What cannot be found out (no git, no
    /// repository) is left out, and never keeps a run from starting.
    pub fn collect(checkout: &Path, software: Software) -> Self {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let git = Git::of(checkout);
        Provenance {
            started: Local::now(),
            command: env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            runboard: env!("CARGO_PKG_VERSION"),
            software,
            host: System::host_name(),
            cpu: system
                .cpus()
                .first()
                .map(|cpu| cpu.brand().trim().to_owned())
                .unwrap_or_default(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            diff: git
                .as_ref()
                .filter(|git| git.dirty)
                .and_then(|_| diff(checkout)),
            git,
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        let mut json =
            serde_json::to_vec_pretty(self).context("failed to encode the provenance")?;
        json.push(b'\n');
        Ok(json)
    }
}

impl Git {
    fn of(checkout: &Path) -> Option<Self> {
        let commit = output(&mut git(checkout, ["rev-parse", "--verify", "HEAD"]))?;
        let changes = output(&mut git(checkout, ["status", "--porcelain"]))?;
        Some(Git {
            commit: commit.trim().to_owned(),
            dirty: !changes.is_empty(),
        })
    }
}

fn diff(checkout: &Path) -> Option<Vec<u8>> {
    let mut child = git(checkout, ["diff", "--no-ext-diff", "--no-color", "HEAD"])
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut diff = Vec::new();
    let read = child
        .stdout
        .take()?
        .take(DIFF_LIMIT + 1)
        .read_to_end(&mut diff);
    // The pipe is closed by now, which ends a git that had more to say.
    let _ = child.wait();
    read.ok()?;
    if diff.len() as u64 > DIFF_LIMIT {
        diff.truncate(DIFF_LIMIT as usize);
        diff.extend_from_slice(b"\n[cut: the diff is longer than 1 MiB]\n");
    }
    (!diff.is_empty()).then_some(diff)
}

fn git<const N: usize>(checkout: &Path, arguments: [&str; N]) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(checkout)
        .args(arguments.map(OsStr::new))
        .env("GIT_OPTIONAL_LOCKS", "0") // only looking: no refreshed index, no lock in anybody's way
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    fn software() -> Software {
        Software {
            burn: "0.22.1".to_owned(),
            libtorch: "2.11.0".to_owned(),
            device: "cpu".to_owned(),
        }
    }

    /// A provenance for the tests of others.
    pub(crate) fn provenance() -> Provenance {
        Provenance::collect(Path::new("/"), software())
    }

    fn json(provenance: &Provenance) -> serde_json::Value {
        serde_json::from_slice(&provenance.to_json().unwrap()).unwrap()
    }

    #[test]
    fn tells_commit_and_changes_of_a_checkout() {
        let directory = tempfile::tempdir().unwrap();
        let outside = json(&Provenance::collect(directory.path(), software()));
        assert_eq!(outside["software"]["burn"], "0.22.1");
        assert_eq!(outside["software"]["device"], "cpu");
        assert!(outside["cores"].as_u64().unwrap() >= 1);
        assert!(!outside["command"].as_array().unwrap().is_empty());
        assert!(outside.get("git").is_none() && outside.get("diff").is_none());

        let run = |arguments: &[&str]| {
            Command::new("git")
                .arg("-C")
                .arg(directory.path())
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(arguments)
                .output()
                .is_ok_and(|output| output.status.success())
        };
        if !run(&["init"]) {
            return; // a machine without git: the absence was tested above
        }
        fs::write(directory.path().join("a"), "one\n").unwrap();
        assert!(run(&["add", "a"]) && run(&["commit", "-m", "first"]));
        let clean = Provenance::collect(directory.path(), software());
        assert_eq!(json(&clean)["git"]["commit"].as_str().unwrap().len(), 40);
        assert_eq!(json(&clean)["git"]["dirty"], false);
        assert!(clean.diff.is_none());

        fs::write(directory.path().join("a"), "two\n").unwrap();
        let dirty = Provenance::collect(directory.path(), software());
        assert_eq!(json(&dirty)["git"]["dirty"], true);
        let diff = String::from_utf8(dirty.diff.unwrap()).unwrap();
        assert!(diff.ends_with("-one\n+two\n"), "{diff}");

        fs::write(directory.path().join("a"), "a long line\n".repeat(200_000)).unwrap();
        let cut = Provenance::collect(directory.path(), software())
            .diff
            .unwrap();
        assert!(cut.ends_with(b"[cut: the diff is longer than 1 MiB]\n"));
        assert!((cut.len() as u64) < DIFF_LIMIT + 100);
    }
}
