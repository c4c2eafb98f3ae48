//! The evaluator's journal, `evaluations.jsonl`: one line for each checkpoint that it has evaluated.
//!
//! ```text
//! {"step":20,"manifest":"5ca1...","written":"...","time":"...","seconds":1.5,"accuracy":0.7,"raw_accuracy":0.6,"loss":0.9}
//! {"step":30,"manifest":"ab1e...","written":"...","time":"...","seconds":0.1,"damage":"failed to load checkpoint ..."}
//! ```
//!
//! Lines are only ever added. A line takes back those of its own and of later steps that stand before it, as a
//! curve does that is written again from a step on; what is left is in force and in the order of steps.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;

use super::{Evaluation, EvaluationProgress};
use crate::files::{open_regular, sync_dir};
use crate::user_error;

/// No line is longer, in bytes; what is read of a longer one is no evaluation.
const MAX_LINE: u64 = 1 << 20;

/// How much of a line that is no evaluation an error shows, in characters.
const SHOWN: usize = 60;

/// What the user may do about a journal that is refused.
const WITHOUT: &str = "without the file, all checkpoints are evaluated again";

/// The journal of the run's one evaluator.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    evaluations: Vec<Evaluation>,
    progress: EvaluationProgress,
}

impl Journal {
    /// The evaluations in force in the file `path`, in the order of steps; none where there is no such file. A
    /// line that is being written at this moment does not count yet.
    ///
    /// # Errors
    /// If the file cannot be read, and a user error for a line that is no evaluation and for what is no
    /// regular file.
    pub fn read(path: &Path) -> Result<Vec<Evaluation>> {
        Ok(parse(path)?.0)
    }

    /// Open the journal to write, and make it where there is none. A last line that a crash left unfinished is
    /// removed; the number of its bytes is returned beside the journal, 0 for none.
    ///
    /// # Errors
    /// As [`Journal::read`], and if it cannot be written.
    pub fn open(path: &Path) -> Result<(Self, u64)> {
        let (evaluations, unfinished) = parse(path)?;
        let file = File::options()
            .create(true)
            .append(true)
            .custom_flags(OFlag::O_NONBLOCK.bits()) // for a named pipe that took its place just now
            .open(path)
            .with_context(|| format!("failed to open {}", path.display()))?;
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            progress: EvaluationProgress::of(&evaluations),
            evaluations,
        };
        if unfinished > 0 {
            let finished = journal.length()? - unfinished;
            journal.truncate(finished)?;
        }
        path.parent().map_or(Ok(()), sync_dir)?;
        Ok((journal, unfinished))
    }

    /// The evaluations in force, in the order of steps.
    pub fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    /// What the evaluations in force come to.
    pub fn progress(&self) -> EvaluationProgress {
        self.progress
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
            let _ = self.truncate(before);
            return Err(error).with_context(|| format!("failed to write {}", self.path.display()));
        }
        self.progress.add(&evaluation);
        if put(&mut self.evaluations, evaluation, |earlier| earlier.step) > 0 {
            self.progress = EvaluationProgress::of(&self.evaluations);
        }
        Ok(())
    }

    /// Of the file, in bytes.
    fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        let metadata = metadata.with_context(|| format!("failed to read {}", self.path.display()));
        Ok(metadata?.len())
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        self.file
            .set_len(length)
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("failed to shorten {}", self.path.display()))
    }
}

/// Put `new` in force, in the place of those of its step and later ones, whose number is returned. Those in force
/// are in the order of their steps.
fn put<T>(in_force: &mut Vec<T>, new: T, step: impl Fn(&T) -> u64) -> usize {
    // Not by looking at each: a journal is read line by line, and may be long.
    let kept = in_force.partition_point(|earlier| step(earlier) < step(&new));
    let replaced = in_force.len() - kept;
    in_force.truncate(kept);
    in_force.push(new);
    replaced
}

/// The evaluations in force, and the bytes of an unfinished line at the end.
fn parse(path: &Path) -> Result<(Vec<Evaluation>, u64)> {
    let failed = || format!("failed to read {}", path.display());
    let file = match open_regular(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(user_error!(
                "{}: {error}, want the evaluator's journal; {WITHOUT}",
                path.display()
            ));
        }
        file => file.with_context(failed)?,
    };
    let mut reader = BufReader::new(file);
    let (mut evaluations, mut line) = (Vec::new(), Vec::new());
    for number in 1.. {
        line.clear();
        let limited = &mut (&mut reader).take(MAX_LINE + 1);
        limited.read_until(b'\n', &mut line).with_context(failed)?;
        let evaluation = match line.last() {
            _ if line.len() as u64 > MAX_LINE => Err(format!("it has more than {MAX_LINE} bytes")),
            Some(b'\n') => evaluation(&line),
            _ => break,
        };
        match evaluation {
            Ok(evaluation) => put(&mut evaluations, evaluation, |earlier| earlier.step),
            Err(problem) => {
                // A character has four bytes at most.
                let begin = String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN)]);
                let found: String = begin.trim_end().chars().take(SHOWN).collect();
                return Err(user_error!(
                    "{}:{number}: got {found:?}, want an evaluation as `runboard eval` writes it: {problem}; \
                     {WITHOUT}",
                    path.display(),
                ));
            }
        };
    }
    Ok((evaluations, line.len() as u64))
}

/// The evaluation in a line, or what is wrong with it.
fn evaluation(line: &[u8]) -> Result<Evaluation, String> {
    let parsed: Evaluation = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if parsed.score().is_none() && parsed.damage.is_none() {
        return Err("neither accuracy nor damage".to_owned());
    }
    // The event files' steps are signed, and the next one must be a number too.
    if parsed.step >= i64::MAX as u64 {
        return Err("no run has so many steps".to_owned());
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::evaluation::tests::{damaged, scored};
    use crate::testing::heap::within;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::cell::Cell;
    use std::fs;

    fn steps(evaluations: &[Evaluation]) -> Vec<u64> {
        evaluations.iter().map(|e| e.step).collect()
    }

    /// A journal's file in a directory of its own, with these evaluations.
    fn journal(evaluations: &[Evaluation]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evaluations.jsonl");
        let (mut journal, unfinished) = Journal::open(&path).unwrap();
        assert_eq!(unfinished, 0);
        for evaluation in evaluations {
            journal.add(evaluation.clone()).unwrap();
        }
        (directory, path)
    }

    #[test]
    fn journal_comes_back_as_it_was_written() {
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
    fn journal_has_the_scores_of_validation_images_and_of_several_views() {
        let line = r#"{"step":20,"manifest":"5c","written":null,"time":"2026-11-26T00:00:00+00:00","seconds":1.5,"accuracy":0.7,"raw_accuracy":0.6,"loss":0.9,"validation_accuracy":0.71,"validation_loss":0.8,"tta_accuracy":0.72,"tta_loss":0.85}"#;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evaluations.jsonl");
        fs::write(&path, format!("{line}\n")).unwrap();
        let [evaluation] = &Journal::read(&path).unwrap()[..] else {
            panic!("one line");
        };
        let found = [
            evaluation.validation_accuracy,
            evaluation.validation_loss,
            evaluation.tta_accuracy,
            evaluation.tta_loss,
        ];
        assert_eq!(found, [0.71, 0.8, 0.72, 0.85].map(Some));
        assert_eq!(evaluation.score().unwrap().validation, Some(0.71));
        let written: serde_json::Value = serde_json::to_value(evaluation).unwrap();
        assert_eq!(written["tta_accuracy"], 0.72);
    }

    #[test]
    fn line_replaces_those_of_its_own_and_later_steps() {
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
    fn unfinished_last_line_is_removed_wherever_it_ends() {
        let (_directory, path) = journal(&[scored(0, 0.1), scored(10, 0.2)]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for length in first + 1..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(steps(&Journal::read(&path).unwrap()), [0]);
            let (mut journal, unfinished) = Journal::open(&path).unwrap();
            assert_eq!(unfinished as usize, length - first);
            journal.add(scored(20, 0.3)).unwrap();
            assert_eq!(steps(&Journal::read(&path).unwrap()), [0, 20]);
        }
    }

    #[test]
    fn foreign_line_is_refused_by_its_number() {
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
                 without the file, all checkpoints are evaluated again",
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
    fn journal_stays_as_it_was_when_the_disk_refuses_a_line() {
        let (_directory, path) = journal(&[scored(0, 0.1)]);
        let (mut journal, _) = Journal::open(&path).unwrap();
        // Not open for writing, as a disk that takes nothing.
        journal.file = File::open(&path).unwrap();
        let error = format!("{:#}", journal.add(scored(10, 0.2)).unwrap_err());
        assert!(error.starts_with("failed to write "), "{error}");
        assert_eq!(steps(journal.evaluations()), [0]);
        assert_eq!(steps(&Journal::read(&path).unwrap()), [0]);
    }

    #[test]
    fn reading_a_long_journal_compares_few_steps_a_line() {
        let compared = Cell::new(0);
        let step = |step: &u64| {
            compared.set(compared.get() + 1);
            *step
        };
        let mut in_force = Vec::new();
        for line in 0..100_000 {
            assert_eq!(put(&mut in_force, line, step), 0);
        }
        assert_eq!(put(&mut in_force, 10, step), 99_990);
        assert_eq!(in_force, Vec::from_iter(0..=10));
        // Two for each halving of at most 2^17 lines.
        assert!(compared.get() <= 100_001 * 2 * 18, "{}", compared.get());
    }

    #[test]
    fn progress_is_that_of_the_evaluations_in_force() {
        let (_directory, path) = journal(&[scored(0, 0.9), scored(10, 0.2)]);
        let mut journal = Journal::open(&path).unwrap().0;
        for next in [
            damaged(20),
            scored(30, 0.3),
            scored(0, 0.1),
            scored(10, 0.4),
        ] {
            journal.add(next).unwrap();
            let want = EvaluationProgress::of(journal.evaluations());
            assert_eq!(journal.progress(), want);
        }
        assert_eq!(journal.progress().best.unwrap().step, 10);
    }

    #[test]
    fn line_of_any_length_is_refused_in_little_memory() {
        let (_directory, path) = journal(&[scored(0, 0.1)]);
        let length = fs::metadata(&path).unwrap().len();
        let file = File::options().append(true).open(&path).unwrap();
        file.set_len(length + (1 << 30)).unwrap();
        let error = within(4 << 20, || Journal::open(&path)).unwrap_err();
        assert!(is_user_error(&error));
        let message = error.to_string();
        let begin = format!("{}:2: got \"\\0\\0", path.display());
        assert!(message.starts_with(&begin), "{message}");
        let end = ": it has more than 1048576 bytes; \
                   without the file, all checkpoints are evaluated again";
        assert!(message.ends_with(end), "{message}");
        assert_eq!(fs::metadata(&path).unwrap().len(), length + (1 << 30));
    }

    #[test]
    fn named_pipe_in_place_of_the_journal_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evaluations.jsonl");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        for refused in [
            Journal::read(&path).unwrap_err(),
            Journal::open(&path).unwrap_err(),
        ] {
            assert!(is_user_error(&refused));
            let message = format!(
                "{}: it is no regular file, want the evaluator's journal; \
                 without the file, all checkpoints are evaluated again",
                path.display()
            );
            assert_eq!(refused.to_string(), message);
        }
    }
}
