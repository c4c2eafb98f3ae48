//! Random statuses and journals, as `runboard list` and both processes read them.

use super::{
    EvalStatus, Evaluation, EvaluationProgress, Journal, Process, Quality, Role, RunDir, Score,
    Scores, Status, TrainStatus, list, provenance,
};
use crate::error::is_user_error;
use crate::testing::fuzz::{check, edited_text};
use crate::testing::heap::within;
use std::fs;
use std::time::Duration;

const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\x1b[2J",
    b"\xff",
    b"\"step\": 1,",
    b"\"state\": \"running\",",
    b"failed",
    b"2026-99-99T99:99:99Z",
    b"-262143-01-01T00:00:00Z",
    b"+262142-12-31T23:59:60.999999999+23:59",
    &[b'['; 1_000],
];

#[test]
fn statuses_are_read_or_named() {
    let directory = tempfile::tempdir().unwrap();
    let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
    let score = Some(Score {
        step: 10,
        accuracy: 0.5,
        validation: Some(0.5),
    });
    let mut train = TrainStatus {
        step: 11,
        steps: 500,
        loss: Some(4.64),
        examples_per_sec: Some(1e3),
        ..TrainStatus::new(Process::current())
    };
    let mut eval = EvalStatus {
        last: score,
        best: score,
        lowest_loss: Some(1.5),
        ..EvalStatus::new(Process::current())
    };
    eval.process.error = Some("an error".into());
    train.save(&run).unwrap();
    eval.save(&run).unwrap();
    let [train, eval] = [Role::TRAIN, Role::Eval].map(|role| fs::read(run.status(role)).unwrap());
    check(300, |rng| {
        fs::write(run.status(Role::TRAIN), edited_text(rng, &train, WORDS)).unwrap();
        fs::write(run.status(Role::Eval), edited_text(rng, &eval, WORDS)).unwrap();
        is_read_or_named(&run, within(1 << 20, || TrainStatus::load(&run)));
        is_read_or_named(&run, within(1 << 20, || EvalStatus::load(&run)));
        assert_eq!(within(1 << 20, || list(directory.path())).len(), 1);
    });
}

#[test]
fn journals_are_read_or_point_at_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evaluations.jsonl");
    let scores = Scores {
        accuracy: 0.5,
        raw_accuracy: 0.25,
        loss: 1.5,
        validation: Some(Quality::default()),
        tta: Some(Quality::default()),
    };
    let mut journal = Journal::open(&path).unwrap().0;
    for (step, found) in [
        (10, Ok(scores)),
        (20, Err("damage".into())),
        (30, Ok(scores)),
    ] {
        let now = Some(chrono::Local::now());
        let took = Duration::from_millis(250);
        let evaluation = Evaluation::new(step, Some("ab12".into()), now, found, took);
        journal.add(evaluation).unwrap();
    }
    let file = fs::read(&path).unwrap();
    check(300, |rng| {
        let edited = edited_text(rng, &file, WORDS);
        fs::write(&path, &edited).unwrap();
        let memory = (1 << 20) + 10 * edited.len();
        match within(memory, || Journal::open(&path)) {
            Ok((journal, torn)) => {
                let steps: Vec<u64> = journal.evaluations().iter().map(|e| e.step).collect();
                assert!(
                    steps.is_sorted_by(|a, b| a < b && *b < u64::MAX),
                    "{steps:?}"
                );
                let left = fs::metadata(&path).unwrap().len();
                assert_eq!(left + torn, edited.len() as u64);
                assert_eq!(Journal::read(&path).unwrap(), journal.evaluations());
                let _ = EvaluationProgress::of(journal.evaluations());
            }
            Err(error) => {
                let named = format!("{}:", path.display());
                assert!(is_user_error(&error), "{error:#}");
                assert!(format!("{error:#}").starts_with(&named), "{error:#}");
                assert_eq!(fs::read(&path).unwrap(), edited);
            }
        }
    });
}

fn is_read_or_named<S: Status>(run: &RunDir, loaded: anyhow::Result<Option<S>>) {
    match loaded {
        Ok(status) => {
            let _ = status.unwrap().observed(run);
        }
        Err(error) => {
            let named = format!("{}: ", run.status(S::ROLE).display());
            assert!(format!("{error:#}").starts_with(&named), "{error:#}");
        }
    }
}
