//! What the sessions of a run were started from: the code, the libraries, the machine and the command.
//!
//! `provenance.json` holds a version and a list of sessions, the oldest first. A file of version 1, which says no
//! version, is the one session that began the run. What a session's checkout differed in from its commit is in a
//! file of its own, which the session names; sessions with the same differences share it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, FixedOffset, Local};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::RunDir;
use crate::files::{read_small, write_atomic};
use crate::spec::{Change, Field, Spec};

/// The format's version. A session with other fields needs a new one: what this one does not know it would lose.
/// Version 2 has no spec, no changes and no origin of the weights, version 3 no origins of the spec's fields, version 4 no
/// digest of the program and no repetitions.
const VERSION: u32 = 5;

/// A record is no longer than this: it takes about a kilobyte a session.
const MAX_BYTES: u64 = 16 << 20;

/// The option that sets a field.
const SET: &str = "--set";

/// What set a field that a sweep sets.
pub const SWEPT: &str = "the sweep";

/// What set a field that a later session changed, before the number of the session.
pub const RESUMED: &str = "resume --set";

/// The first session's differences, which version 1 did not name.
const FIRST_DIFF: &str = "provenance.diff";

/// A larger diff is cut here: it is generated files then, not somebody's edits.
const DIFF_LIMIT: u64 = 1 << 20; // bytes

/// The provenance of one session of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// When it began.
    pub started: DateTime<FixedOffset>,
    /// The first step it had to train, by the checkpoints that were there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_step: Option<u64>,
    /// The command line.
    pub command: Vec<String>,
    /// This program's version.
    pub runboard: String,
    /// Other versions, and the device.
    pub software: Software,
    /// The checkout in the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// The machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The processor's name.
    pub cpu: String,
    /// What this process may use, which a container or `taskset` makes fewer than the machine has.
    pub cores: usize,
    /// The file in the run directory with the checkout's differences from its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// The weights that a run with `--from` begins with; in its first session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_from: Option<WeightsOrigin>,
    /// The run that this one repeats; in its first session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repetition>,
    /// What `resume --set` changed of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Where the experiment set the fields that it set, by their dotted paths: `experiments/small.yaml:5:11`, `--set`; in
    /// the first session.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, String>,
    /// The spec, with its version, in a session that has another one than those before it: spec.yaml is held to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Value>,
    /// The differences, in git's own format.
    #[serde(skip)]
    diff_text: Option<Vec<u8>>,
}

/// The versions and the device that only the caller knows, as they should be shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Software {
    /// burn's version.
    pub burn: String,
    /// libtorch's version.
    pub libtorch: String,
    /// The device trained on.
    pub device: String,
    /// The first 16 hexadecimal digits of the SHA-256 of the program that computes, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// What a run repeats that `rerun` has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repetition {
    /// `NAME/TIMESTAMP` of the other run.
    pub run: String,
    /// Its directory then.
    pub directory: String,
    /// What differed from its sessions when this one began, a line each.
    pub differences: Vec<String>,
    /// Why its checkpoints may have other bytes than the other run's; none if they are expected to have the same.
    pub doubts: Vec<String>,
}

/// Where weights come from that a run begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsOrigin {
    /// `NAME/TIMESTAMP` of the run.
    pub run: String,
    /// The step of its checkpoint.
    pub step: u64,
    /// The group of tensors: ema, or weights where the checkpoint has no averages.
    pub group: String,
    /// SHA-256 of the checkpoint's manifest, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

impl fmt::Display for WeightsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.group.as_str() {
            "ema" => "averaged weights",
            other => other,
        };
        write!(f, "the {kind} of {} after step {}", self.run, self.step)
    }
}

/// A run's spec as its sessions recorded it.
pub(super) struct RecordedSpec {
    pub spec: Spec,
    /// What the session that recorded it changed of the one before.
    pub changes: Vec<Change>,
    /// The first step of that session, if it was known.
    pub first_step: Option<u64>,
    /// What each session changed, the newest first.
    pub history: Vec<Vec<Change>>,
}

/// A checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// Its commit.
    pub commit: String,
    /// Whether anything differs from the commit, untracked files included.
    pub dirty: bool,
}

/// All sessions of a run, as `provenance.json` holds them.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    sessions: Vec<Provenance>,
}

impl Provenance {
    /// Looks around for a session that begins at `first_step`, if that is known, with `checkout` as the directory to
    /// ask git about. What cannot be found out (no git, no repository) is left out, and never keeps a run from
    /// starting.
    pub fn collect(checkout: &Path, software: Software, first_step: Option<u64>) -> Self {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let git = Git::of(checkout);
        Provenance {
            started: Local::now().fixed_offset(),
            first_step,
            command: env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            runboard: env!("CARGO_PKG_VERSION").to_owned(),
            software,
            host: System::host_name(),
            cpu: system
                .cpus()
                .first()
                .map(|cpu| cpu.brand().trim().to_owned())
                .unwrap_or_default(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            diff: None,
            weights_from: None,
            repeats: None,
            changes: Vec::new(),
            origins: BTreeMap::new(),
            spec: None,
            diff_text: git
                .as_ref()
                .filter(|git| git.dirty)
                .and_then(|_| diff(checkout)),
            git,
        }
    }

    /// The sessions of `run`, the oldest first.
    ///
    /// # Errors
    /// If the record cannot be read, or is of a later version.
    pub fn read(run: &RunDir) -> Result<Vec<Self>> {
        let record = Record::read(run);
        let record = record.with_context(|| format!("{}", run.provenance().display()))?;
        Ok(record.sessions)
    }

    /// This session, of a run with this spec.
    ///
    /// # Errors
    /// If the data directory's path is not Unicode.
    pub fn with_spec(self, spec: &Spec) -> Result<Self> {
        let spec = Some(spec.to_frozen_json()?);
        Ok(Provenance { spec, ..self })
    }

    /// This session, which changes the run's spec.
    #[must_use]
    pub fn with_changes(self, changes: Vec<Change>) -> Self {
        Provenance { changes, ..self }
    }

    /// This session, the first one of a run that begins with these weights.
    #[must_use]
    pub fn with_weights_from(self, origin: WeightsOrigin) -> Self {
        Provenance {
            weights_from: Some(origin),
            ..self
        }
    }

    /// This session, the first one of a run that repeats another one.
    #[must_use]
    pub fn with_repetition(self, repetition: Repetition) -> Self {
        Provenance {
            repeats: Some(repetition),
            ..self
        }
    }

    /// This session, the first one of a run whose experiment set these fields there.
    #[must_use]
    pub fn with_origins(self, origins: BTreeMap<String, String>) -> Self {
        Provenance { origins, ..self }
    }

    /// The fields of the spec that its command line set, or what the run that it repeats had changed; those that lie below it of
    /// a section.
    pub fn set_fields(&self) -> Vec<&'static Field> {
        let is_command =
            |origin: &String| [SET, SWEPT].contains(&&**origin) || origin.starts_with(RESUMED);
        let is_set = |field: &&Field| match self.origins.is_empty() {
            false => self.origins.get(field.path).is_some_and(is_command),
            // Of a run of an earlier version.
            true => self.set_paths().any(|path| {
                let below = field.path.strip_prefix(path);
                below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }),
        };
        Field::all().filter(is_set).collect()
    }

    /// What stands before the `=` of each `--set`.
    fn set_paths(&self) -> impl Iterator<Item = &str> {
        let words = self.command.iter().zip(self.command.iter().skip(1));
        let apart = words.filter(|(option, _)| *option == SET).map(|it| it.1);
        let joined = self
            .command
            .iter()
            .filter_map(|word| word.strip_prefix("--set="));
        let settings = apart.map(String::as_str).chain(joined);
        settings.filter_map(|setting| Some(setting.split_once('=')?.0))
    }

    /// Adds this session to those of `run`. Whoever does so holds the supervisor's lock, or has just made the
    /// directory.
    ///
    /// # Errors
    /// If the record cannot be read or is of another version, or the disk refuses it; the record then stays as it
    /// was.
    pub fn record(&self, run: &RunDir) -> Result<()> {
        let path = run.provenance();
        let mut record = Record::read(run).with_context(|| {
            format!(
                "failed to add this session to {}, and to see whether {} was edited since the last one",
                path.display(),
                run.spec().display()
            )
        })?;
        let diff = self.diff_text.as_deref();
        let diff = diff.map(|diff| save_diff(run.path(), diff));
        let recorded = record.sessions.iter().rev();
        let recorded = recorded.filter_map(|session| session.spec.as_ref()).next();
        let spec = self.spec.clone().filter(|spec| recorded != Some(spec));
        record.sessions.push(Provenance {
            diff: diff.transpose()?,
            spec,
            ..self.clone()
        });
        let mut json =
            serde_json::to_vec_pretty(&record).context("failed to encode the provenance")?;
        json.push(b'\n');
        write_atomic(&path, &json)
    }

    /// The text of the record of `run`, without specs; empty if there is none that can be read.
    pub fn text(run: &RunDir) -> String {
        let text = Record::read(run).and_then(|mut record| {
            record
                .sessions
                .iter_mut()
                .for_each(|session| session.spec = None);
            Ok(serde_json::to_string_pretty(&record)?)
        });
        text.unwrap_or_default()
    }

    /// What `run` repeats; `None` if nothing, and if the record cannot be read.
    pub fn repetition(run: &RunDir) -> Option<Repetition> {
        let record = Record::read(run).ok()?;
        record.sessions.into_iter().next()?.repeats
    }

    /// Where the weights come from that `run` begins with; `None` if it draws them, and if the record cannot be read.
    pub fn weights_origin(run: &RunDir) -> Option<WeightsOrigin> {
        let record = Record::read(run).ok()?;
        record.sessions.into_iter().next()?.weights_from
    }

    /// The spec of `run` by its record; none in a run of an earlier version, and if the record cannot be read.
    ///
    /// # Errors
    /// A user error for one that is no spec.
    pub(super) fn recorded_spec(run: &RunDir) -> Result<Option<RecordedSpec>> {
        let Ok(record) = Record::read(run) else {
            return Ok(None); // which is said when the next session is recorded
        };
        let mut sessions = record.sessions.into_iter().rev();
        let history = sessions.clone().map(|session| session.changes).collect();
        let Some(session) = sessions.find(|session| session.spec.is_some()) else {
            return Ok(None);
        };
        let text = serde_json::to_string(&session.spec)?;
        Ok(Some(RecordedSpec {
            spec: Spec::parse_frozen(&run.provenance(), text)?,
            changes: session.changes,
            first_step: session.first_step,
            history,
        }))
    }
}

impl Record {
    /// The record of `run`, of any version up to this one; an empty one where there is none yet.
    fn read(run: &RunDir) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: Option<u32>,
        }
        let bytes = match read_small(&run.provenance(), MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let sessions = Vec::new();
                return Ok(Record {
                    version: VERSION,
                    sessions,
                });
            }
            bytes => bytes?,
        };
        match serde_json::from_slice::<Versioned>(&bytes)?.version {
            None => {
                let mut first: Provenance = serde_json::from_slice(&bytes)?;
                let has_diff = run.path().join(FIRST_DIFF).is_file();
                first.diff = has_diff.then(|| FIRST_DIFF.to_owned());
                let sessions = vec![first];
                Ok(Record {
                    version: VERSION,
                    sessions,
                })
            }
            Some(version) => {
                ensure!(
                    version <= VERSION,
                    "got version {version}, want at most {VERSION}"
                );
                let record: Record = serde_json::from_slice(&bytes)?;
                Ok(Record {
                    version: VERSION,
                    ..record
                })
            }
        }
    }
}

/// Writes `diff` into a file of its own in `directory`, unless there is one that holds it, and returns its name.
fn save_diff(directory: &Path, diff: &[u8]) -> Result<String> {
    let mut number = 1;
    loop {
        let name = match number {
            1 => FIRST_DIFF.to_owned(),
            number => format!("provenance-{number}.diff"),
        };
        let path = directory.join(&name);
        match read_small(&path, 2 * DIFF_LIMIT) {
            Ok(bytes) if bytes == diff => return Ok(name),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return write_atomic(&path, diff).map(|()| name);
            }
            _ => number += 1, // another session's
        }
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
            program: None,
        }
    }

    /// A provenance for the tests of others.
    pub(crate) fn provenance() -> Provenance {
        Provenance::collect(Path::new("/"), software(), Some(0))
    }

    /// The record of a new run with a session of `checkout`.
    fn recorded(checkout: &Path) -> (tempfile::TempDir, RunDir, Value) {
        let directory = tempfile::tempdir().unwrap();
        let session = Provenance::collect(checkout, software(), Some(0));
        let run = RunDir::create(directory.path(), "a", "", &session).unwrap();
        let record = record(&run);
        (directory, run, record)
    }

    fn record(run: &RunDir) -> Value {
        serde_json::from_slice(&fs::read(run.provenance()).unwrap()).unwrap()
    }

    #[test]
    fn record_tells_commit_and_changes_of_each_sessions_checkout() {
        let directory = tempfile::tempdir().unwrap();
        let (_outside, run, record) = recorded(directory.path());
        assert_eq!(record["version"], 5);
        let outside = &record["sessions"][0];
        assert_eq!(outside["software"]["burn"], "0.22.1");
        assert_eq!(outside["software"]["device"], "cpu");
        assert_eq!(outside["first_step"], 0);
        assert!(outside["cores"].as_u64().unwrap() >= 1);
        assert!(!outside["command"].as_array().unwrap().is_empty());
        assert!(outside.get("git").is_none() && outside.get("diff").is_none());

        let git = |arguments: &[&str]| {
            Command::new("git")
                .arg("-C")
                .arg(directory.path())
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(arguments)
                .output()
                .is_ok_and(|output| output.status.success())
        };
        if !git(&["init"]) {
            return; // a machine without git: the absence was tested above
        }
        let edit = |text: &str| fs::write(directory.path().join("a"), text).unwrap();
        let resume = |step| {
            let session = Provenance::collect(directory.path(), software(), Some(step));
            session.record(&run).unwrap();
            let mut record = self::record(&run);
            record["sessions"].as_array_mut().unwrap().pop().unwrap()
        };
        edit("one\n");
        assert!(git(&["add", "a"]) && git(&["commit", "-m", "first"]));
        let clean = resume(10);
        assert_eq!(clean["git"]["commit"].as_str().unwrap().len(), 40);
        assert_eq!(clean["git"]["dirty"], false);
        assert_eq!(clean["first_step"], 10);
        assert!(clean.get("diff").is_none());

        // Each dirty session keeps its own changes, and those of the others.
        let diff = |session: &Value| {
            fs::read_to_string(run.path().join(session["diff"].as_str().unwrap())).unwrap()
        };
        edit("two\n");
        let second = resume(20);
        assert_eq!(second["git"]["dirty"], true);
        edit("three\n");
        let third = resume(30);
        assert_eq!(resume(40)["diff"], third["diff"]);
        assert_eq!(second["diff"], "provenance.diff");
        assert_eq!(third["diff"], "provenance-2.diff");
        assert!(diff(&second).ends_with("-one\n+two\n"));
        assert!(diff(&third).ends_with("-one\n+three\n"));

        edit(&"a long line\n".repeat(200_000));
        let cut = diff(&resume(50));
        assert!(cut.ends_with("[cut: the diff is longer than 1 MiB]\n"));
        assert!((cut.len() as u64) < DIFF_LIMIT + 100);
        assert_eq!(self::record(&run)["sessions"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn record_of_version_1_is_its_first_session() {
        let (_directory, run, _) = recorded(Path::new("/"));
        let old = r#"{
            "started": "2026-11-23T03:10:00.123456789+01:00",
            "command": ["runboard", "run", "baseline"],
            "runboard": "0.1.0",
            "software": {"burn": "0.22.1", "libtorch": "2.11.0", "device": "cpu"},
            "git": {"commit": "8736e9c", "dirty": true},
            "cpu": "a cpu",
            "cores": 2
        }"#;
        fs::write(run.provenance(), old).unwrap();
        fs::write(run.path().join("provenance.diff"), "its changes").unwrap();
        provenance().record(&run).unwrap();
        let record = record(&run);
        assert_eq!(record["version"], 5);
        let mut first: Value = serde_json::from_str(old).unwrap();
        first["diff"] = "provenance.diff".into();
        assert_eq!(record["sessions"][0], first);
        assert_eq!(record["sessions"].as_array().unwrap().len(), 2);
        let diff = fs::read(run.path().join("provenance.diff")).unwrap();
        assert_eq!(diff, b"its changes");
    }

    #[test]
    fn record_that_is_not_understood_stays_as_it_is() {
        let (_directory, run, _) = recorded(Path::new("/"));
        for (text, error) in [
            ("{\"version\": 6}", "got version 6, want at most 5"),
            ("{}", "missing field `started` at line 1 column 2"),
            ("", "EOF while parsing a value at line 1 column 0"),
        ] {
            fs::write(run.provenance(), text).unwrap();
            let found = format!("{:#}", provenance().record(&run).unwrap_err());
            let path = run.provenance();
            let wanted = format!(
                "failed to add this session to {}, and to see whether {} was edited since the last one: {error}",
                path.display(),
                run.spec().display()
            );
            assert_eq!(found, wanted);
            assert_eq!(fs::read_to_string(run.provenance()).unwrap(), text);
        }
        fs::remove_file(run.provenance()).unwrap();
        provenance().record(&run).unwrap();
        assert_eq!(record(&run)["sessions"].as_array().unwrap().len(), 1);
    }
}
