//! A sweep on disk, `RUNS/NAME/TIMESTAMP/`:
//!
//! ```text
//! sweep.yaml          the frozen base, the definition and the points; it makes the directory a sweep
//! initial/            the weights that all points begin with, if another run's: it is there before sweep.yaml
//! decisions.jsonl     what was decided, a line each, in the order in which it was
//! sweep.lock, sweep.status.json, sweep.log, results.csv, results.md
//! 007-learning_rate=0.05-seed=2/   a point: a run as any other
//! ```
//!
//! How a point stands, its own run tells; nothing of it is written here a second time, which a crash could tear from it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schedule::{self, Decision};
use super::{Definition, Point, Sweep};
use crate::checkpoint;
use crate::files::{read_if_there, read_small, sync_dir, write_atomic};
use crate::hint::shell;
use crate::run::{self, Lock, ProcessDir, Role, RunDir, SWEEP, WeightsOrigin};
use crate::spec::Spec;
use crate::{bail_user, user_error};

/// Version of `sweep.yaml`. A sweep without `weights_from` is of version 1, as earlier builds read it.
const VERSION: u32 = 2;

/// The largest `sweep.yaml`, in bytes: of 10,000 points it has a few megabytes.
const MAX_BYTES: u64 = 64 << 20;

/// The largest `decisions.jsonl`, in bytes. A decision names every point once.
const MAX_DECISIONS: u64 = 64 << 20;

/// A handle of a directory known to hold a sweep.
#[derive(Clone, Debug)]
pub struct SweepDir {
    directory: ProcessDir,
}

/// What each of its processes has there.
impl Deref for SweepDir {
    type Target = ProcessDir;

    fn deref(&self) -> &ProcessDir {
        &self.directory
    }
}

/// Contents of `sweep.yaml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frozen {
    version: u32,
    /// With its own version.
    base: Value,
    sweep: Definition,
    points: Vec<Point>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights_from: Option<WeightsOrigin>,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl SweepDir {
    /// Claims a new directory `runs/name/TIMESTAMP` and freezes the sweep in it, whose lock is held from then on. `prepare` writes what has
    /// to be there before it is one.
    ///
    /// # Errors
    /// A user error for a name that cannot be one directory's; otherwise if the files cannot be written.
    /// Nothing is left behind then.
    pub fn create(
        runs: &Path,
        name: &str,
        sweep: &Sweep,
        prepare: impl FnOnce(&ProcessDir) -> Result<()>,
    ) -> Result<(Self, Lock)> {
        let sweep_dir = SweepDir {
            directory: ProcessDir::new(run::claim(runs, name)?),
        };
        // Before anybody can find the sweep and stop it.
        let freeze = || {
            let lock = Lock::take(&sweep_dir, Role::Sweep)?;
            prepare(&sweep_dir)?;
            sweep_dir.write(sweep)?;
            Ok(lock)
        };
        match freeze() {
            Ok(lock) => Ok((sweep_dir, lock)),
            Err(error) => {
                // Ours alone, and useless; that it cannot be removed is not what the user must hear about.
                let _ = fs::remove_dir_all(sweep_dir.path());
                Err(error)
            }
        }
    }

    /// That of the sweep in `directory`.
    pub fn new(directory: ProcessDir) -> Self {
        SweepDir { directory }
    }

    /// The sweep as it was frozen, or extended since.
    ///
    /// # Errors
    /// A user error if the file is none of this version, or was edited so that it is none.
    pub fn read(&self) -> Result<Sweep> {
        let path = self.path().join(SWEEP);
        let shown = path.display();
        let bytes = match read_small(&path, MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                bail_user!("{shown}: {error}")
            }
            bytes => bytes.with_context(|| format!("failed to read {shown}"))?,
        };
        let version = serde_yaml::from_slice(&bytes).map(|Versioned { version }| version);
        if let Some(version) = version
            .ok()
            .filter(|version| !(1..=VERSION).contains(version))
        {
            bail_user!("{shown}: got version {version}, want {VERSION} or an earlier one");
        }
        let frozen: Frozen = serde_yaml::from_slice(&bytes)
            .map_err(|error| user_error!("{shown}: {error}; want what `runboard run` wrote"))?;
        if let Some(damage) = damage(&frozen.points) {
            bail_user!("{shown}: {damage}; want what `runboard run` wrote");
        }
        let base = Spec::parse_frozen(&path, frozen.base.to_string())?;
        let sweep = Sweep::with_points(base, frozen.sweep, frozen.points)
            .map_err(|error| user_error!("{shown}: {error:#}; want what `runboard run` wrote"))?;
        Ok(Sweep {
            weights_from: frozen.weights_from,
            ..sweep
        })
    }

    /// Makes sure that the weights are there with which points begin, and are of the network of each of them.
    ///
    /// # Errors
    /// A user error for weights that are missing or damaged, which says what to do, and for a point of another network.
    pub fn check_initial_weights(&self, sweep: &Sweep) -> Result<()> {
        if sweep.weights_from.is_none() {
            return Ok(());
        }
        let begun = sweep.points.iter().filter_map(|it| self.run(it)).next();
        let path = self.initial_weights();
        let loaded = checkpoint::load(&path).map_err(|error| {
            let copy = begun.map_or(String::new(), |run| {
                let copy = run.initial_weights();
                format!(
                    "; a point has a copy: {}",
                    shell(&[
                        "cp".as_ref(),
                        "-a".as_ref(),
                        copy.as_os_str(),
                        self.path().as_os_str()
                    ])
                )
            });
            user_error!("the weights that each point begins with cannot be read: {error:#}{copy}")
        })?;
        let weights = checkpoint::group(&loaded.tensors, checkpoint::WEIGHTS)?;
        let mut points = sweep.points.iter().zip(&sweep.specs);
        let misfit = points.find_map(|(point, spec)| {
            let misfit = checkpoint::misfit(weights, spec)?;
            Some((point, misfit))
        });
        match misfit {
            None => Ok(()),
            Some((point, misfit)) => bail_user!(
                "point {}: the weights that each point begins with are of another network: {misfit}",
                point.name
            ),
        }
    }

    /// Freezes the sweep, in the place of one that it extends. Whoever does so holds the sweep's lock.
    ///
    /// # Errors
    /// If the file cannot be written; that of before then stays.
    pub fn write(&self, sweep: &Sweep) -> Result<()> {
        let frozen = Frozen {
            version: match sweep.weights_from {
                Some(_) => VERSION,
                None => 1,
            },
            base: sweep.base.to_frozen_json()?,
            sweep: sweep.definition.clone(),
            points: sweep.points.clone(),
            weights_from: sweep.weights_from.clone(),
        };
        let text = serde_yaml::to_string(&frozen).context("failed to write the sweep as YAML")?;
        write_atomic(&self.path().join(SWEEP), text.as_bytes())
    }

    /// Where the run of a point is, or will be.
    pub fn point(&self, point: &Point) -> PathBuf {
        self.path().join(&point.name)
    }

    /// The run of a point, once it has begun.
    pub fn run(&self, point: &Point) -> Option<RunDir> {
        RunDir::open(&self.point(point)).ok()
    }

    fn decisions_path(&self) -> PathBuf {
        self.path().join("decisions.jsonl")
    }

    /// What was decided of `sweep`, in that order. A line that a crash left unfinished was not acted on and does not count.
    ///
    /// # Errors
    /// If the file cannot be read, and a user error for a line that is no decision, or none that follows on those before.
    pub fn decisions(&self, sweep: &Sweep) -> Result<Vec<Decision>> {
        let path = self.decisions_path();
        let Some(bytes) = read_if_there(&path, MAX_DECISIONS)? else {
            return Ok(Vec::new());
        };
        let lines = bytes[..whole_lines(&bytes)].split_inclusive(|&byte| byte == b'\n');
        let parse = |(index, line): (usize, &[u8])| {
            serde_json::from_slice(line).map_err(|error| {
                user_error!(
                    "{}:{}: no decision of a sweep: {error}; want what `runboard run` wrote",
                    path.display(),
                    index + 1
                )
            })
        };
        let decisions: Vec<Decision> = lines.enumerate().map(parse).collect::<Result<_>>()?;
        if let Some((index, problem)) = schedule::misplaced(sweep, &decisions) {
            bail_user!(
                "{}:{}: {problem}; want what `runboard run` wrote",
                path.display(),
                index + 1
            );
        }
        Ok(decisions)
    }

    /// Writes a decision down, durably, before it is acted on. Whoever does so holds the sweep's lock.
    ///
    /// # Errors
    /// If it cannot be written; what a full disk took of it does not count.
    pub fn decide(&self, decision: &Decision) -> Result<()> {
        let path = self.decisions_path();
        let append = || -> Result<()> {
            let mut line = serde_json::to_vec(decision)?;
            line.push(b'\n');
            let mut file = File::options()
                .create(true)
                .append(true)
                .read(true)
                .open(&path)?;
            let before = read_small(&path, MAX_DECISIONS)?;
            // What an earlier one left that was cut short.
            file.set_len(whole_lines(&before) as u64)?;
            file.write_all(&line)?;
            file.sync_data()?;
            sync_dir(self.path())
        };
        append().with_context(|| format!("failed to write {}", path.display()))
    }
}

/// What is not as it was made: what points are called decides which directories are written and removed.
fn damage(points: &[Point]) -> Option<String> {
    if points.is_empty() {
        return Some("got no points".to_owned());
    }
    let mut numbers = HashSet::new();
    let mut ids = HashSet::new();
    points.iter().find_map(|point| {
        let is_new = numbers.insert(point.number) && ids.insert(&point.id);
        let twice = || format!("got point {} twice", point.number);
        point.damage().or_else(|| (!is_new).then(twice))
    })
}

/// How many bytes the lines have that are finished.
fn whole_lines(bytes: &[u8]) -> usize {
    let end = bytes.iter().rposition(|&byte| byte == b'\n');
    end.map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::sweep::definition::Halving;
    use crate::sweep::point::labels;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn sweep() -> Sweep {
        let mut base = Spec::default();
        base.network.conv1.stddev = 1e-300;
        let section = "{parameters: {optimizer.learning_rate: [0.05, 1e-7]}, seeds: 2}";
        let labels = labels(&["optimizer.learning_rate"]);
        let point = |number, rate: f64| {
            let set = BTreeMap::from([("optimizer.learning_rate".to_owned(), json!(rate))]);
            Point::new(number, u64::MAX, set, &labels, false)
        };
        let points = vec![point(1, 0.05), point(2, 1e-7)];
        Sweep::with_points(base, serde_yaml::from_str(section).unwrap(), points).unwrap()
    }

    #[test]
    fn sweep_is_read_as_it_was_frozen_and_extended() {
        let runs = tempfile::tempdir().unwrap();
        let mut sweep = sweep();
        let (directory, lock) = SweepDir::create(runs.path(), "a", &sweep, |_| Ok(())).unwrap();
        assert!(directory.is_sweep());
        assert_eq!(directory.read().unwrap(), sweep);
        let text = || fs::read_to_string(directory.path().join(SWEEP)).unwrap();
        assert!(text().starts_with("version: 1\n") && !text().contains("weights_from"));
        sweep.weights_from = Some(WeightsOrigin {
            run: "b/20261128-120000".to_owned(),
            step: 10,
            group: "ema".to_owned(),
            manifest: None,
        });
        directory.write(&sweep).unwrap();
        assert!(text().starts_with("version: 2\n"), "{}", text());
        assert_eq!(directory.read().unwrap(), sweep);
        let error = Lock::take(&directory, Role::Sweep).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(" is already running (sweep, pid "),
            "{error}"
        );
        drop(lock);
        sweep.points.pop();
        sweep.specs.pop();
        directory.write(&sweep).unwrap();
        assert_eq!(directory.read().unwrap(), sweep);
        SweepDir::create(runs.path(), "a/b", &sweep, |_| Ok(())).unwrap_err();
        assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 1);
    }

    #[test]
    fn read_names_a_file_that_is_no_sweep() {
        let runs = tempfile::tempdir().unwrap();
        let (directory, _lock) = SweepDir::create(runs.path(), "a", &sweep(), |_| Ok(())).unwrap();
        let path = directory.path().join(SWEEP);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to, want) in [
            (
                "version: 1\n",
                "version: 3\n",
                ": got version 3, want 2 or an earlier one",
            ),
            ("points:\n", "point:\n", ": unknown field `point`"),
            ("  seeds:", "  seed_s:", "seed_s"),
            (
                "name: 001-learning_rate=0.05",
                "name: ''",
                ": point 1: got name \"\", want one that begins with \"001\"",
            ),
            (
                "name: 001-learning_rate=0.05",
                "name: 001-/../../victim",
                ": point 1: got name ",
            ),
            (
                "learning_rate: 0.05",
                "learning_rate: 0.3",
                "that of its values",
            ),
            ("number: 2", "number: 1", ": point 1: got name "),
        ] {
            assert!(text.contains(from), "{text}");
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = directory.read().unwrap_err();
            assert!(is_user_error(&error));
            let message = format!("{error:#}");
            assert!(
                message.starts_with(&path.display().to_string()),
                "{message}"
            );
            assert!(message.contains(want), "{message}");
        }
    }

    #[test]
    fn decisions_follow_on_each_other() {
        let runs = tempfile::tempdir().unwrap();
        let mut sweep = sweep();
        sweep.definition.early_terminate = Some(Halving {
            min_iter: 10,
            eta: 2,
        });
        let (directory, _lock) = SweepDir::create(runs.path(), "a", &sweep, |_| Ok(())).unwrap();
        let rung = |steps, go_on: &[usize], stop: &[usize]| Decision::Halving {
            steps,
            go_on: go_on.to_vec(),
            stop: stop.to_vec(),
            scores: BTreeMap::new(),
        };
        let first = rung(10, &[2], &[1]);
        for decisions in [
            vec![rung(20, &[2], &[1])],
            vec![first.clone(), first.clone()],
            vec![first.clone(), rung(20, &[1], &[])],
            vec![rung(10, &[], &[1, 2])],
            vec![rung(10, &[3], &[1])],
            vec![rung(10, &[2, 2], &[1])],
        ] {
            fs::remove_file(directory.decisions_path()).ok();
            for decision in &decisions {
                directory.decide(decision).unwrap();
            }
            let error = directory.decisions(&sweep).unwrap_err();
            assert!(is_user_error(&error), "{decisions:?}");
        }
        fs::remove_file(directory.decisions_path()).unwrap();
        for decision in [&first, &rung(20, &[2], &[])] {
            directory.decide(decision).unwrap();
        }
        assert_eq!(directory.decisions(&sweep).unwrap().len(), 2);
    }

    #[test]
    fn decision_that_a_crash_cut_short_does_not_count() {
        let runs = tempfile::tempdir().unwrap();
        let (directory, _lock) = SweepDir::create(runs.path(), "a", &sweep(), |_| Ok(())).unwrap();
        assert_eq!(directory.decisions(&sweep()).unwrap(), []);
        let target = |point| Decision::Target {
            point,
            step: 7,
            score: 0.75,
            target: 0.7,
            metric: None,
        };
        directory.decide(&target(1)).unwrap();
        let path = directory.decisions_path();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"target\":{\"poi"].concat()).unwrap();
        assert_eq!(directory.decisions(&sweep()).unwrap(), [target(1)]);
        directory.decide(&target(2)).unwrap();
        assert_eq!(
            directory.decisions(&sweep()).unwrap(),
            [target(1), target(2)]
        );
        fs::write(&path, [&whole[..], b"{}\n"].concat()).unwrap();
        let error = directory.decisions(&sweep()).unwrap_err();
        assert!(is_user_error(&error));
        let begin = format!("{}:2: no decision of a sweep: ", path.display());
        assert!(error.to_string().starts_with(&begin), "{error}");
    }
}
