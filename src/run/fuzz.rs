//! Random statuses, as `runboard list` and both processes read them.

use super::{EvalStatus, Process, Role, RunDir, Score, Status, TrainStatus, list, provenance};
use crate::fuzz::{check, edited_text};
use crate::heap::within;
use std::fs;

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
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path(), "a", "", &provenance()).unwrap();
    let score = Some(Score {
        step: 10,
        precision: 0.5,
    });
    let mut train = TrainStatus {
        process: Process::current(),
        step: 11,
        steps: 500,
        loss: Some(4.64),
        examples_per_sec: Some(1e3),
    };
    let mut eval = EvalStatus {
        process: Process::current(),
        last: score,
        best: score,
        lowest_loss: Some(1.5),
    };
    eval.process.error = Some("an error".into());
    train.save(&run).unwrap();
    eval.save(&run).unwrap();
    let [train, eval] = [Role::Train, Role::Eval].map(|role| fs::read(run.status(role)).unwrap());
    check(300, |rng| {
        fs::write(run.status(Role::Train), edited_text(rng, &train, WORDS)).unwrap();
        fs::write(run.status(Role::Eval), edited_text(rng, &eval, WORDS)).unwrap();
        is_read_or_named(&run, within(1 << 20, || TrainStatus::load(&run)));
        is_read_or_named(&run, within(1 << 20, || EvalStatus::load(&run)));
        assert_eq!(within(1 << 20, || list(folder.path())).len(), 1);
    });
}

fn is_read_or_named<S: Status>(run: &RunDir, loaded: anyhow::Result<Option<S>>) {
    match loaded {
        Ok(status) => {
            let _ = status.unwrap().process().observed();
        }
        Err(error) => {
            let named = format!("failed to read {}", run.status(S::ROLE).display());
            assert!(format!("{error:#}").starts_with(&named), "{error:#}");
        }
    }
}
