//! The evaluator's journal, `evaluations.jsonl`: one line for each checkpoint that it has judged.
//!
//! ```text
//! {"step":20,"manifest":"5ca1...","written":"...","time":"...","seconds":1.5,"accuracy":0.7,"raw_accuracy":0.6,"loss":0.9}
//! {"step":30,"manifest":"ab1e...","written":"...","time":"...","seconds":0.1,"damage":"failed to load checkpoint ..."}
//! ```
//!
//! Lines are only ever added. A line takes back those of its own and of later steps that stand before it, as a
//! curve does that is written again from a step on; what is left is in force and in the order of steps.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Evaluation;
use crate::files::sync_dir;
use crate::user_error;

/// The journal of the run's one evaluator.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    evaluations: Vec<Evaluation>,
}

impl Journal {
    /// The evaluations in force in the file `path`, in the order of steps; none where there is no such file. A
    /// line that is being written at this moment does not count yet.
    ///
    /// # Errors
    /// If the file cannot be read, and a user error for a line that is no evaluation.
    pub fn read(path: &Path) -> Result<Vec<Evaluation>> {
        Ok(parse(path)?.0)
    }

    /// Open the journal to write, and make it where there is none. A last line that a crash left unfinished is
    /// removed; the number of its bytes is returned beside the journal, 0 for none.
    ///
    /// # Errors
    /// As [`Journal::read`], and if it cannot be written.
    pub fn open(path: &Path) -> Result<(Self, u64)> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("failed to open {}", path.display()))?;
        let (evaluations, torn) = parse(path)?;
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            evaluations,
        };
        if torn > 0 {
            let whole = journal.length()? - torn;
            journal.cut(whole)?;
        }
        path.parent().map_or(Ok(()), sync_dir)?;
        Ok((journal, torn))
    }

    /// The evaluations in force, in the order of steps.
    pub fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    /// Add an evaluation, durably: after an `Ok` it survives a power cut.
    ///
    /// # Errors
    /// If it cannot be written; the journal then stays as it was.
    pub fn add(&mut self, evaluation: Evaluation) -> Result<()> {
        let mut line = serde_json::to_vec(&evaluation).context("failed to encode an evaluation")?;
        line.push(b'\n');
        let before = self.length()?;
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What a full disk took of the line; should that fail as well, the next to open it does it.
            let _ = self.cut(before);
            return Err(error).with_context(|| format!("failed to write {}", self.path.display()));
        }
        put(&mut self.evaluations, evaluation);
        Ok(())
    }

    fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        let metadata = metadata.with_context(|| format!("failed to read {}", self.path.display()));
        Ok(metadata?.len())
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        self.file
            .set_len(length)
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("failed to shorten {}", self.path.display()))
    }
}

/// Put an evaluation in force, in the place of those of its step and later ones.
fn put(evaluations: &mut Vec<Evaluation>, evaluation: Evaluation) {
    evaluations.retain(|earlier| earlier.step < evaluation.step);
    evaluations.push(evaluation);
}

/// The evaluations in force, and the bytes of an unfinished line at the end.
fn parse(path: &Path) -> Result<(Vec<Evaluation>, u64)> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.with_context(|| format!("failed to read {}", path.display()))?,
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n');
    let (lines, torn) = bytes.split_at(whole.map_or(0, |end| end + 1));
    let mut evaluations = Vec::new();
    for (number, line) in lines.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let parsed = serde_json::from_slice(line).map_err(|error| error.to_string());
        let evaluation = parsed.and_then(|parsed: Evaluation| match parsed.score() {
            None if parsed.damage.is_none() => Err("neither accuracy nor damage".to_owned()),
            // The event files' steps are signed, and the next one must be a number too.
            _ if parsed.step >= i64::MAX as u64 => Err("no run has so many steps".to_owned()),
            _ => Ok(parsed),
        });
        match evaluation {
            Ok(evaluation) => put(&mut evaluations, evaluation),
            Err(problem) => {
                let line = String::from_utf8_lossy(line);
                let found: String = line.trim_end().chars().take(SHOWN).collect();
                return Err(user_error!(
                    "{}:{}: got {found:?}, want an evaluation as `runboard eval` writes it: {problem}; \
                     without the file, all checkpoints there are would be scored anew",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    Ok((evaluations, torn.len() as u64))
}

/// How much of a foreign line is shown, in characters.
const SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::evaluation::tests::{damaged, scored};

    fn steps(evaluations: &[Evaluation]) -> Vec<u64> {
        evaluations.iter().map(|e| e.step).collect()
    }

    /// A journal's file in a directory of its own, with these evaluations.
    fn journal(evaluations: &[Evaluation]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evaluations.jsonl");
        let (mut journal, torn) = Journal::open(&path).unwrap();
        assert_eq!(torn, 0);
        for evaluation in evaluations {
            journal.add(evaluation.clone()).unwrap();
        }
        (directory, path)
    }

    #[test]
    fn comes_back_as_it_was_written() {
        let evaluations = [scored(0, 0.1), damaged(10), scored(20, 1.0 / 3.0)];
        let (_directory, path) = journal(&evaluations);
        assert_eq!(Journal::read(&path).unwrap(), evaluations);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains("null"), "{text}");
        assert_eq!(Journal::read(&path.with_extension("x")).unwrap(), []);
    }

    #[test]
    fn journal_of_an_earlier_version_is_read() {
        let (_directory, path) = journal(&[scored(0, 0.1), scored(10, 0.2)]);
        let want = Journal::read(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"accuracy\":0.1,\"raw_accuracy\":0.1,"));
        fs::write(&path, text.replace("accuracy\"", "precision\"")).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), want);
    }

    #[test]
    fn a_line_takes_back_its_own_step_and_later_ones() {
        let again = scored(10, 0.5);
        let (_directory, path) = journal(&[
            scored(0, 0.1),
            scored(10, 0.2),
            scored(20, 0.3),
            again.clone(),
        ]);
        let read = Journal::read(&path).unwrap();
        assert_eq!(steps(&read), [0, 10]);
        assert_eq!(read[1], again);
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(scored(10, 0.6)).unwrap();
        assert_eq!(steps(journal.evaluations()), [0, 10]);
        assert_eq!(journal.evaluations(), Journal::read(&path).unwrap());
    }

    #[test]
    fn a_torn_last_line_is_cut_wherever_it_is_torn() {
        let (_directory, path) = journal(&[scored(0, 0.1), scored(10, 0.2)]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for length in first + 1..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(steps(&Journal::read(&path).unwrap()), [0]);
            let (mut journal, torn) = Journal::open(&path).unwrap();
            assert_eq!(torn as usize, length - first);
            journal.add(scored(20, 0.3)).unwrap();
            assert_eq!(steps(&Journal::read(&path).unwrap()), [0, 20]);
        }
    }

    #[test]
    fn a_foreign_line_is_refused_by_its_number() {
        let (_directory, path) = journal(&[scored(0, 0.1)]);
        let whole = fs::read_to_string(&path).unwrap();
        for (foreign, problem) in [
            ("notes", "expected ident at line 1 column 2"),
            ("", "EOF while parsing a value at line 2 column 0"),
            ("{}", "missing field `step` at line 1 column 2"),
        ] {
            fs::write(&path, format!("{whole}{foreign}\n{whole}")).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert!(is_user_error(&error));
            let wanted = "want an evaluation as `runboard eval` writes it";
            let message = format!(
                "{}:2: got {foreign:?}, {wanted}: {problem}; \
                 without the file, all checkpoints there are would be scored anew",
                path.display()
            );
            assert_eq!(error.to_string(), message);
        }
        let empty = whole.replace("accuracy", "position");
        fs::write(&path, empty).unwrap();
        let error = Journal::read(&path).unwrap_err().to_string();
        assert!(error.contains(": neither accuracy nor damage;"), "{error}");
    }

    #[test]
    fn a_disk_that_refuses_leaves_the_journal_as_it_was() {
        let (_directory, path) = journal(&[scored(0, 0.1)]);
        let (mut journal, _) = Journal::open(&path).unwrap();
        // Not open for writing, as a disk that takes nothing.
        journal.file = File::open(&path).unwrap();
        let error = format!("{:#}", journal.add(scored(10, 0.2)).unwrap_err());
        assert!(error.starts_with("failed to write "), "{error}");
        assert_eq!(steps(journal.evaluations()), [0]);
        assert_eq!(steps(&Journal::read(&path).unwrap()), [0]);
    }
}
