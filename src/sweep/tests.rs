//! Sweeps as users meet them: a file in, points or a message to the letter out.

use super::*;
use crate::error::is_user_error;
use crate::spec;
use std::fs;

/// The sweep in the file `experiments/sweep.yaml` with this text, with overrides.
fn sweep_with(text: &str, overrides: &[Override]) -> Result<Sweep, String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sweep.yaml"), text).unwrap();
    let experiment = spec::load("sweep", directory.path(), overrides);
    let found = experiment.and_then(|it| Sweep::of(&it, 0));
    found.map(Option::unwrap).map_err(|error| {
        assert!(is_user_error(&error), "{error:#}");
        format!("{error:#}").replace(&format!("{}/", directory.path().display()), "")
    })
}

fn sweep(text: &str) -> Sweep {
    sweep_with(text, &[]).unwrap()
}

fn bad(text: &str) -> String {
    sweep_with(text, &[]).unwrap_err()
}

fn names(sweep: &Sweep) -> Vec<&str> {
    sweep.points.iter().map(|it| it.name.as_str()).collect()
}

const GRID: &str = "\
sweep:
  parameters:
    optimizer.learning_rate: [0.05, 0.1]
    train.batch_size: {values: [128, 256]}
  seeds: 2
";

#[test]
fn grid_has_all_combinations_the_last_field_fastest_and_seeds_last() {
    let found = sweep(GRID);
    assert_eq!(
        names(&found),
        [
            "001-learning_rate=0.05-batch_size=128-seed=1",
            "002-learning_rate=0.05-batch_size=256-seed=1",
            "003-learning_rate=0.1-batch_size=128-seed=1",
            "004-learning_rate=0.1-batch_size=256-seed=1",
            "005-learning_rate=0.05-batch_size=128-seed=2",
            "006-learning_rate=0.05-batch_size=256-seed=2",
            "007-learning_rate=0.1-batch_size=128-seed=2",
            "008-learning_rate=0.1-batch_size=256-seed=2",
        ]
    );
    let spec = found.points[6].spec(&found.base).unwrap();
    assert_eq!(spec.optimizer.learning_rate, 0.1);
    assert_eq!((spec.train.batch_size, spec.seed.0), (128, 2));
    assert_eq!(found.points[6].setting, found.points[2].setting);
}

#[test]
fn value_that_a_field_does_not_allow_is_refused_at_its_place() {
    assert_eq!(
        bad("sweep:\n  parameters:\n    optimizer.learning_rate: [0.05, -1]\n"),
        "sweep.yaml:3:37: sweep.parameters.optimizer.learning_rate: got -1, want a number above 0, at most 1000000"
    );
}

#[test]
fn command_line_sweeps_as_a_file_does() {
    let set: Vec<Override> = [
        "optimizer.learning_rate=0.05,0.1",
        "train.batch_size=128,256",
        "seed=1..2",
    ]
    .iter()
    .map(|it| Override::parse_sweep(it).unwrap())
    .collect();
    assert_eq!(sweep_with("", &set).unwrap(), sweep(GRID));
}

#[test]
fn definition_and_points_are_read_back_from_yaml_as_written() {
    let found = sweep(GRID);
    let text = serde_yaml::to_string(&found.definition).unwrap();
    let read: Definition = serde_yaml::from_str(&text).unwrap();
    assert_eq!(read, found.definition, "{text}");
    let text = serde_yaml::to_string(&found.points).unwrap();
    let read: Vec<Point> = serde_yaml::from_str(&text).unwrap();
    assert_eq!(read, found.points, "{text}");
}
