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
    let found = experiment.and_then(|it| Sweep::of(&it, Some(0)));
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
    let spec = &found.specs[6];
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
    // How many seeds, or which, as in a file.
    for (seeds, want) in [
        ("seeds=3", &[1, 2, 3][..]),
        ("seeds=3,5", &[3, 5]),
        ("seeds=4..5", &[4, 5]),
        ("seed=3", &[3]),
    ] {
        let found = sweep_with("", &[Override::parse_sweep(seeds).unwrap()]);
        assert_eq!(found.unwrap().definition.seeds, want, "{seeds}");
    }
    let twice = ["seeds=3", "seed=4,5"].map(|it| Override::parse_sweep(it).unwrap());
    assert_eq!(
        sweep_with("", &twice).unwrap_err(),
        "--sweep seed=4,5: got --sweep seeds=3 as well, want one --sweep of a field, with all of its values"
    );
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
    let slurm = "{partition: a, time: 30, mem: 8G, gpus_per_task: 2, options: [--exclusive]}";
    let found = sweep(&format!(
        "sweep:\n  seeds: 5\n  launcher: {{slurm: {slurm}}}\n"
    ));
    let Launcher::Slurm(options) = &found.definition.launcher else {
        panic!("{:?}", found.definition);
    };
    assert_eq!(
        options.arguments().join(" "),
        "--partition=a --time=30 --mem=8G --gpus-per-task=2 --ntasks=1 --exclusive"
    );
    // All of them, whatever this machine has, and those that are added.
    assert_eq!(found.at_once(), 5);
    for (settings, parallel) in [
        (&["sweep.seeds=8"][..], 8),
        (&["sweep.seeds=8", "sweep.parallel=3"], 3),
    ] {
        let settings: Vec<_> = settings
            .iter()
            .map(|it| Override::parse(it).unwrap())
            .collect();
        let extended = found.extended(&settings, 0).unwrap();
        assert_eq!(extended.at_once(), parallel, "{settings:?}");
    }
    let text = serde_yaml::to_string(&found.definition).unwrap();
    let read: Definition = serde_yaml::from_str(&text).unwrap();
    assert_eq!(read, found.definition, "{text}");
}

const RANDOM: &str = "\
sweep:
  method: random
  runs: 30
  parameters:
    optimizer.learning_rate: {distribution: log_uniform_values, min: 1e-3, max: 1}
    optimizer.momentum: {min: 0.5, max: 0.99}
    network.local3.units: {distribution: q_uniform, min: 128, max: 512, q: 64}
    train.batch_size: {values: [64, 128, 256]}
    network.conv1.channels: {min: 8, max: 64}
";

fn number(point: &Point, field: &str) -> f64 {
    point.set[field].as_f64().unwrap()
}

#[test]
fn random_draws_within_bounds_in_few_digits_and_of_all_values() {
    let found = sweep(&RANDOM.replace("runs: 30", "runs: 1000"));
    let all =
        |field: &str| -> Vec<f64> { found.points.iter().map(|it| number(it, field)).collect() };
    let share = |field: &str, below: f64| {
        let values = all(field);
        values.iter().filter(|value| **value < below).count() as f64 / values.len() as f64
    };
    for (field, min, max) in [
        ("optimizer.learning_rate", 1e-3, 1.0),
        ("optimizer.momentum", 0.5, 0.99),
        ("network.local3.units", 128.0, 512.0),
        ("network.conv1.channels", 8.0, 64.0),
    ] {
        let values = all(field);
        assert!(
            values.iter().all(|value| (min..=max).contains(value)),
            "{field}"
        );
        assert!(
            values.iter().all(|value| value.to_string().len() <= 8),
            "{field}: {values:?}"
        );
    }
    assert!(
        all("network.local3.units")
            .iter()
            .all(|units| units % 64.0 == 0.0)
    );
    // Medians, and the two ends of what is listed.
    assert!((share("optimizer.learning_rate", 0.0316) - 0.5).abs() < 0.05);
    assert!((share("optimizer.momentum", 0.745) - 0.5).abs() < 0.05);
    assert!((share("network.local3.units", 320.0) - 3.0 / 7.0).abs() < 0.05);
    assert!((share("network.conv1.channels", 36.5) - 29.0 / 57.0).abs() < 0.05);
    assert!((share("train.batch_size", 100.0) - 1.0 / 3.0).abs() < 0.05);
    assert!((share("train.batch_size", 200.0) - 2.0 / 3.0).abs() < 0.05);
}

#[test]
fn random_draws_stay_what_they_were() {
    // Other values would make other points of a sweep that is resumed.
    let found = sweep(RANDOM);
    let first: Vec<String> = found.points[..2]
        .iter()
        .map(|it| serde_json::to_string(&it.set).unwrap())
        .collect();
    assert_eq!(
        first,
        [
            r#"{"network.conv1.channels":23,"network.local3.units":384,"optimizer.learning_rate":0.001966,"optimizer.momentum":0.91893,"train.batch_size":128}"#,
            r#"{"network.conv1.channels":63,"network.local3.units":192,"optimizer.learning_rate":0.001631,"optimizer.momentum":0.54806,"train.batch_size":64}"#,
        ]
    );
}

#[test]
fn more_random_runs_and_seeds_keep_the_first_points() {
    let found = sweep(RANDOM);
    let set = |text: &str| Override::parse(text).unwrap();
    let more = found.extended(&[set("sweep.runs=50")], 0).unwrap();
    assert_eq!(more.points[..30], found.points[..]);
    assert_eq!(more.points.len(), 50);
    assert_eq!(more.points[49].number, 50);
    let afresh = sweep(&RANDOM.replace("runs: 30", "runs: 50"));
    let ids =
        |sweep: &Sweep| -> Vec<String> { sweep.points.iter().map(|it| it.id.clone()).collect() };
    assert_eq!(ids(&more), ids(&afresh));
    // Another seed of each comes after all that there are.
    let seeds = more.extended(&[set("sweep.seeds=2")], 0).unwrap();
    assert_eq!(seeds.points[..50], more.points[..]);
    let new = &seeds.points[50];
    assert_eq!((new.number, new.seed), (51, 2));
    assert_eq!(new.setting, seeds.points[0].setting);
    assert!(
        new.name.starts_with("051-") && new.name.ends_with("-seed=2"),
        "{}",
        new.name
    );
    assert_eq!(seeds.points.len(), 100);
}

#[test]
fn values_in_the_middle_of_a_grid_are_numbered_after_all_that_there_are() {
    let found = sweep(GRID);
    let set =
        Override::parse("sweep.parameters.optimizer.learning_rate=[0.05, 0.07, 0.1]").unwrap();
    let more = found.extended(&[set], 0).unwrap();
    assert_eq!(more.points[..8], found.points[..]);
    assert_eq!(
        names(&more)[8..],
        [
            "009-learning_rate=0.07-batch_size=128-seed=1",
            "010-learning_rate=0.07-batch_size=256-seed=1",
            "011-learning_rate=0.07-batch_size=128-seed=2",
            "012-learning_rate=0.07-batch_size=256-seed=2",
        ]
    );
}

#[test]
fn extension_that_does_not_only_add_is_refused() {
    let refused = |text: &str, set: &str| {
        let set = Override::parse(set).unwrap();
        let error = sweep(text).extended(&[set], 0).unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
        error.to_string()
    };
    assert_eq!(
        refused(RANDOM, "sweep.runs=29"),
        format!(
            "--set sweep.runs=29: the sweep would lose {}; want what only adds points, or a new sweep",
            sweep(RANDOM).points[29].name
        )
    );
    assert_eq!(
        refused(GRID, "sweep.seeds=[1]"),
        "--set sweep.seeds=[1]: the sweep would lose 005-learning_rate=0.05-batch_size=128-seed=2 and 3 more; want what \
         only adds points, or a new sweep"
    );
    assert!(refused(RANDOM, "sweep.seed=2").contains("would lose"));
    let halving = "  early_terminate: {type: halving, min_iter: 100}\n";
    assert_eq!(
        refused(&format!("{RANDOM}{halving}"), "sweep.runs=50"),
        "--set sweep.runs=50: halving has compared the points of a rung with one another; want a new sweep for others"
    );
    assert!(
        refused(&format!("{RANDOM}{halving}"), "sweep.metric={name: loss}").contains("halving")
    );
    // How it is run may change.
    let set = Override::parse("sweep.on_failure=stop").unwrap();
    let other = sweep(&format!("{RANDOM}{halving}"))
        .extended(&[set], 0)
        .unwrap();
    assert_eq!(other.definition.on_failure, OnFailure::Stop);
}

#[test]
fn case_goes_with_all_combinations_and_lists_of_a_list_field_are_values() {
    let found = sweep(
        "sweep:\n  cases:\n    - {input.flip: true, optimizer.momentum: [0, 0.9]}\n    \
         - {input.flip: false, input.brightness: 0}\n  parameters:\n    train.batch_size: [64, 128]\n",
    );
    assert_eq!(
        names(&found),
        [
            "001-flip=random-momentum=0-batch_size=64",
            "002-flip=random-momentum=0-batch_size=128",
            "003-flip=random-momentum=0.9-batch_size=64",
            "004-flip=random-momentum=0.9-batch_size=128",
            "005-flip=none-brightness=0-batch_size=64",
            "006-flip=none-brightness=0-batch_size=128",
        ]
    );
    let adamw = "optimizer: {name: adamw}\nsweep:\n  ";
    for text in [
        "parameters: {optimizer.betas: [[0.9, 0.99], [0.8, 0.9]]}",
        "method: points\n  points: [{optimizer.betas: [0.9, 0.99]}, {optimizer.betas: [0.8, 0.9]}]",
    ] {
        let found = sweep(&format!("{adamw}{text}\n"));
        assert_eq!(names(&found), ["001-betas=0.9,0.99", "002-betas=0.8,0.9"]);
    }
}

#[test]
fn names_tell_fields_of_one_last_key_apart_and_stay_short() {
    let found = sweep(
        "sweep:\n  parameters:\n    network.conv1.stddev: [0.01, 0.1]\n    network.conv2.stddev: [0.01]\n    \
         optimizer.learning_rate: {value: 0.1}\n    description: [a b, a/b\u{e9}]\n",
    );
    assert_eq!(
        names(&found),
        [
            "001-conv1.stddev=0.01-description=a_b",
            "002-conv1.stddev=0.01-description=a_b_",
            "003-conv1.stddev=0.1-description=a_b",
            "004-conv1.stddev=0.1-description=a_b_",
        ]
    );
    let names = "sweep:\n  parameters:\n    optimizer.learning_rate: [0.012345, 0.1]\n    optimizer.ema_decay: [0.9123456789, 0.99]\n    \
                 network.local3.weight_decay: [0.123456789, 0.1]\n  seeds: [18446744073709551615, 1]\n";
    for point in sweep(names).points {
        assert!(point.label().len() <= 60, "{}", point.name);
        assert!(point.name.contains("-seed="));
    }
}

#[test]
fn id_is_of_values_and_seed_however_they_are_written() {
    let id = |text: &str| sweep(&format!("sweep:\n  {text}\n")).points[0].id.clone();
    let plain = id("parameters: {optimizer.learning_rate: [300000, 1], optimizer.momentum: [0.5]}");
    for same in [
        "parameters: {optimizer.momentum: 0.50, optimizer.learning_rate: [3e5]}",
        "parameters: {optimizer.momentum: {value: 5e-1}, optimizer.learning_rate: {values: [300000.0]}}",
        "cases: [{optimizer.learning_rate: 300000}]\n  parameters: {optimizer.momentum: 0.5}",
        "method: points\n  points: [{optimizer.learning_rate: 300000, optimizer.momentum: 0.5}]\n  seeds: [1, 2]",
    ] {
        assert_eq!(id(same), plain, "{same}");
    }
    for other in [
        "parameters: {optimizer.learning_rate: [300000, 1], optimizer.momentum: [0.25]}",
        "parameters: {optimizer.learning_rate: [300000, 1], optimizer.momentum: [0.5]}\n  seeds: [2]",
    ] {
        assert_ne!(id(other), plain, "{other}");
    }
    let found = sweep("sweep: {parameters: {input.standardize: [true, false]}}");
    assert_eq!(names(&found), ["001-normalize=image", "002-normalize=none"]);
}

#[test]
fn seeds_begin_at_the_specs() {
    let seeds = |text: &str| {
        let found = sweep(text);
        found.definition.seeds
    };
    assert_eq!(seeds("sweep: {seeds: 3}"), [1, 2, 3]);
    assert_eq!(seeds("seed: 7\nsweep: {seeds: 2}"), [7, 8]);
    assert_eq!(seeds("sweep: {seeds: 2..4}"), [2, 3, 4]);
    assert_eq!(seeds("sweep: {seeds: [5, 1..2]}"), [5, 1, 2]);
    assert_eq!(
        seeds("seed: 7\nsweep: {parameters: {train.steps: [1, 2]}}"),
        [7]
    );
    assert_eq!(
        names(&sweep("sweep: {seeds: 2}")),
        ["001-seed=1", "002-seed=2"]
    );
}

#[test]
fn mistake_in_a_sweep_is_told_with_its_place_and_what_to_write() {
    for (text, want) in [
        // Keys.
        (
            "{}",
            "1:8: sweep: got nothing that differs from point to point, want parameters, cases or seeds",
        ),
        (
            "5",
            "1:8: sweep: got 5, want a mapping of method, metric, parameters, cases, points, runs, seed, seeds, parallel, \
               devices, launcher, on_failure, target, early_terminate",
        ),
        (
            "{paralel: 2}",
            "1:9: sweep.paralel: unknown key of a sweep: want one of method, metric, parameters, cases, points, \
                          runs, seed, seeds, parallel, devices, launcher, on_failure, target, early_terminate; did you mean 'parallel'?",
        ),
        (
            "{run_cap: 3}",
            "1:9: sweep.run_cap: unknown key of a sweep: want runs: NUMBER, of method random",
        ),
        (
            "{optimizer.learning_rate: [1]}",
            "1:9: sweep.optimizer.learning_rate: unknown key of a sweep: want it in \
                                            parameters: {optimizer.learning_rate: ...}",
        ),
        // Methods.
        (
            "{method: bayes}",
            "1:17: sweep.method: got \"bayes\": there is no such search here; want random, and \
                             early_terminate to spend less on bad points",
        ),
        (
            "{method: girl}",
            "1:17: sweep.method: got \"girl\", want grid or random or points",
        ),
        (
            "{method: random}",
            "1:17: sweep.method: random draws without end, want runs: NUMBER beside it",
        ),
        (
            "{method: points}",
            "1:17: sweep.method: got no points, want points: [{FIELD: VALUE}, ...] beside it",
        ),
        (
            "{runs: 3}",
            "1:9: sweep.runs: no effect with method grid: it runs all combinations; want method: random",
        ),
        (
            "{seed: 3}",
            "1:9: sweep.seed: no effect with method grid: it is the seed of random's draws; want seeds: [1, 2, 3] \
                       for those of the runs",
        ),
        (
            "{method: random, runs: \"3\"}",
            "1:31: sweep.runs: got \"3\", want a whole number from 1 to 10000; without \
                                           quotes 3 is one",
        ),
        (
            "{method: points, points: [{train.steps: [1, 2]}]}",
            "1:48: sweep.points.train.steps: got several values, want \
                                                               one a point",
        ),
        // Metric and what follows from it.
        (
            "{metric: {name: val_loss}}",
            "1:24: sweep.metric.name: got \"val_loss\", want loss: it is of the validation images \
                                        where data.validation_images is set, else of the test images",
        ),
        (
            "{metric: {name: f1}}",
            "1:24: sweep.metric.name: got \"f1\", want accuracy or loss",
        ),
        (
            "{metric: {name: loss, goal: maximize}}",
            "1:36: sweep.metric.goal: got \"maximize\" with loss, want minimize",
        ),
        (
            "{metric: {target: 0.9}}",
            "1:18: sweep.metric.target: want target: 0.9 in sweep, beside metric",
        ),
        (
            "{metric: {of: all}}",
            "1:22: sweep.metric.of: got \"all\", want best or last",
        ),
        (
            "{target: 86}",
            "1:17: sweep.target: got 86, want an accuracy from 0 to 1, such as 0.86",
        ),
        (
            "{early_terminate: {type: hyperband, min_iter: 3}}",
            "1:33: sweep.early_terminate.type: got \"hyperband\", want halving: it compares all points of a rung, of which the \
          best 1/eta go on; it takes min_iter, in steps, and eta",
        ),
        (
            "{early_terminate: {type: halving, max_iter: 3}}",
            "1:42: sweep.early_terminate.max_iter: unknown key of early_terminate: points go on to the end of the run; want \
          train.steps in the spec",
        ),
        (
            "{early_terminate: {type: halving}}",
            "1:26: sweep.early_terminate: got no min_iter, want the steps of the first \
                                                rung",
        ),
        // Parameters.
        (
            "{parameters: [1]}",
            "1:21: sweep.parameters: got a list of 1, want a mapping of fields to their values",
        ),
        (
            "{parameters: {lr: [1]}}",
            "1:22: sweep.parameters.lr: unknown field, want optimizer.learning_rate",
        ),
        (
            "{parameters: {learning_rate: [1]}}",
            "1:22: sweep.parameters.learning_rate: unknown field; did you mean \
                                                optimizer.learning_rate? `runboard fields` lists them all",
        ),
        (
            "{parameters: {optimizer: {learning_rate: [1]}}}",
            "1:22: sweep.parameters.optimizer: fields have dotted names here, \
                                                             want optimizer.learning_rate: ...",
        ),
        (
            "{parameters: {optimizer: {parameters: {learning_rate: {values: [1]}}}}}",
            "1:22: sweep.parameters.optimizer: fields have dotted names here, want optimizer.learning_rate: ...",
        ),
        (
            "{parameters: {optimizer: [sgd]}}",
            "1:22: sweep.parameters.optimizer: unknown field, want optimizer.name",
        ),
        (
            "{parameters: {seed: [1]}}",
            "1:22: sweep.parameters.seed: want seeds: [1, 2, 3] in sweep itself, for every setting: points \
                                       that differ by the seed alone are averaged",
        ),
        (
            "{parameters: {compute.device: [cpu]}}",
            "1:22: sweep.parameters.compute.device: want devices: [cuda:0, cuda:1] in \
                                                   sweep, beside parameters",
        ),
        (
            "{parameters: {data.validation_images: [1]}}",
            "1:22: sweep.parameters.data.validation_images: points are compared on \
                                                         the same images; want it in the spec",
        ),
        (
            "{parameters: {extends: [x]}}",
            "1:22: sweep.parameters.extends: this is for files, no field of a run",
        ),
        (
            "{parameters: {train.steps: []}}",
            "1:35: sweep.parameters.train.steps: got an empty list, want one value at least",
        ),
        (
            "{parameters: {train.steps: {values: []}}}",
            "1:44: sweep.parameters.train.steps.values: got an empty list, want one \
                                                       value at least",
        ),
        (
            "{parameters: {train.steps: [5, 0]}}",
            "1:39: sweep.parameters.train.steps: got 0, want a whole number from 1 to \
                                                 1000000000",
        ),
        (
            "{parameters: {train.steps: 3..1}}",
            "1:35: sweep.parameters.train.steps: got 3..1, want the lower end first: 1..3",
        ),
        (
            "{parameters: {train.steps: 1..10001}}",
            "1:35: sweep.parameters.train.steps: got 1..10001, want at most 10000 numbers",
        ),
        (
            "{parameters: {optimizer.learning_rate: \"0.1, 0.2\"}}",
            "1:47: sweep.parameters.optimizer.learning_rate: got \"0.1, 0.2\", want a number above 0, at most 1000000; want \
          [0.1, 0.2]",
        ),
        (
            "{parameters: {optimizer.learning_rate: [\"1e-4\"]}}",
            "1:48: sweep.parameters.optimizer.learning_rate: got \"1e-4\", want a number above 0, at most 1000000; without \
          quotes 1e-4 is one",
        ),
        (
            "{parameters: {train.batch_size: \"range(1, 4)\"}}",
            "1:40: sweep.parameters.train.batch_size: got \"range(1, 4)\", want a whole number from 1 to 65536; want [1, 2, 3]",
        ),
        // Distributions.
        (
            "{parameters: {optimizer.momentum: {min: 0, max: 0.9}}}",
            "1:42: sweep.parameters.optimizer.momentum: got a distribution with method grid, want a list of values, or \
          method: random with runs: NUMBER (--set sweep.method=random --set sweep.runs=NUMBER)",
        ),
        (
            "{parameters: {optimizer.momentum: {distribution: log_uniform, min: -9, max: 0}}}",
            "1:57: sweep.parameters.optimizer.momentum.distribution: got \"log_uniform\": there min and max are exponents; want \
          log_uniform_values, with the bounds themselves",
        ),
        (
            "{parameters: {optimizer.momentum: {distribution: log_uniform_values, min: 0, max: 0.9}}}",
            "1:82: sweep.parameters.optimizer.momentum.min: got 0, which has no logarithm, want min above 0",
        ),
        (
            "{parameters: {optimizer.learning_rate: {min: \"1e-4\", max: 1}}}",
            "1:53: sweep.parameters.optimizer.learning_rate.min: got \"1e-4\", want a number; without quotes 1e-4 is one",
        ),
        (
            "{parameters: {optimizer.momentum: {min: 0.5, max: 1}}}",
            "1:58: sweep.parameters.optimizer.momentum.max: got 1, want a number from 0 to below 1",
        ),
        (
            "{parameters: {optimizer.momentum: {min: 0.5}}}",
            "1:42: sweep.parameters.optimizer.momentum: got no max, want min and max, or values: [...]",
        ),
        (
            "{parameters: {optimizer.momentum: {min: 0.5, max: 0.2}}}",
            "1:48: sweep.parameters.optimizer.momentum.min: got min 0.5 with max 0.2, want min < max",
        ),
        (
            "{parameters: {optimizer.momentum: {min: 0.5, max: 0.9, q: 1}}}",
            "1:42: sweep.parameters.optimizer.momentum: got q 1 with min 0.5 and max 0.9, want at least two multiples of q \
          between them",
        ),
        (
            "{parameters: {optimizer.momentum: {mu: 0.5, sigma: 1}}}",
            "1:43: sweep.parameters.optimizer.momentum.mu: want min and max, the bounds of the values",
        ),
        (
            "{parameters: {optimizer.momentum: {distribution: normal, mu: 0.5, sigma: 1}}}",
            "1:57: sweep.parameters.optimizer.momentum.distribution: got \"normal\": want uniform with min and max, which \
          cannot leave the field's range",
        ),
        (
            "{parameters: {train.batch_size: {distribution: categorical, values: [16, 32]}}}",
            "1:41: sweep.parameters.train.batch_size.distribution: want {values: [16, 32]} alone, of which each has the \
          same chance",
        ),
        (
            "{parameters: {optimizer.name: {min: 0, max: 1}}}",
            "1:38: sweep.parameters.optimizer.name: got bounds for a field that holds no number, want values: [...]",
        ),
        (
            "{parameters: {train.batch_size: {distribution: uniform, min: 1, max: 9}}}",
            "1:40: sweep.parameters.train.batch_size: got uniform for a field of whole numbers, want int_uniform, q_uniform or \
          values: [...]",
        ),
        (
            "{parameters: {network.conv1.kernel: {min: 3, max: 9}}}",
            "1:44: sweep.parameters.network.conv1.kernel: got 4, want an odd whole number from 1 to 15; of these int_uniform \
          draws all, q_uniform the multiples of q, values what is listed",
        ),
        // Cases, seeds, devices.
        (
            "{cases: []}",
            "1:16: sweep.cases: got a list of 0, want a list of mappings of fields to values, one at least",
        ),
        (
            "{parameters: {train.steps: [1]}, cases: [{train.steps: 2}]}",
            "1:63: sweep.cases.train.steps: got it in parameters as well, want it once",
        ),
        (
            "{seeds: []}",
            "1:16: sweep.seeds: got an empty list, want one seed at least",
        ),
        (
            "{seeds: [1, 1]}",
            "1:20: sweep.seeds: got seed 1 twice, want it once",
        ),
        (
            "{seeds: 2, devices: [gpu]}",
            "1:29: sweep.devices: got \"gpu\", want cpu or cuda:N",
        ),
        (
            "{seeds: 2, devices: ['cuda:+1']}",
            "1:29: sweep.devices: got \"cuda:+1\", want cpu or cuda:N",
        ),
        (
            "{seeds: 2, devices: [cuda, 'cuda:0']}",
            "1:35: sweep.devices: got cuda:0 twice, want it once: it is given to one run at a \
                                             time",
        ),
        (
            "{seeds: 2, devices: [cpu, cpu]}",
            "1:34: sweep.devices: got cpu twice, want it once: it is given to one run at a \
                                             time",
        ),
        (
            "{seeds: 2, devices: [cuda:1]}",
            "1:28: sweep.devices: got cuda:1, but libtorch sees no GPU",
        ),
        (
            "{seeds: 2, parallel: 0}",
            "1:29: sweep.parallel: got 0, want a whole number from 1 to 1024",
        ),
        (
            "{seeds: 2, on_failure: raise}",
            "1:31: sweep.on_failure: got \"raise\", want continue or stop",
        ),
    ] {
        assert_eq!(
            bad(&format!("sweep: {text}\n")),
            format!("sweep.yaml:{want}"),
            "{text}"
        );
    }
    let cores = std::thread::available_parallelism().unwrap();
    assert_eq!(
        bad("sweep: {seeds: 2, parallel: 1000}"),
        format!(
            "sweep.yaml:1:29: sweep.parallel: got 1000 at once, want at most {cores}, the number of cores of the CPU"
        )
    );
}

#[test]
fn points_that_are_one_run_or_too_many_or_invalid_together_are_refused() {
    for (text, want) in [
        (
            "sweep:\n  parameters:\n    optimizer.learning_rate: [0.5, 5e-1]\n",
            "3:30: sweep.parameters.optimizer.learning_rate: got optimizer.learning_rate=0.5 twice, want it once",
        ),
        (
            "sweep:\n  cases:\n    - {input.crop: 20}\n    - {}\n    - {input.crop: 24}\n",
            "5:20: sweep.cases.input.crop: got without a value and input.crop=24, which are the same run; want one of them",
        ),
        (
            "sweep:\n  parameters:\n    optimizer.learning_rate: [0.5, 0.1]\n    train.steps: 1..5000\n  seeds: 2\n",
            "3:5: sweep.parameters: got 20000 points: 10000 settings with 2 seeds; want at most 10000",
        ),
        (
            "sweep:\n  method: random\n  runs: 5000\n  seeds: 3\n  parameters: {optimizer.momentum: {min: 0, max: 0.9}}\n",
            "3:9: sweep.runs: got 15000 points: 5000 settings with 3 seeds; want at most 10000",
        ),
        (
            "sweep:\n  method: random\n  runs: 3\n  parameters: {optimizer.momentum: [0, 0.9]}\n",
            "3:9: sweep.runs: got 3, but after 2 different points 1000 draws in a row were none of another; want at most 2, \
             or method: grid",
        ),
        (
            "sweep:\n  parameters:\n    input.crop: [32, 24]\n    input.pad: [4, 28]\n",
            "4:16: sweep.parameters.input.pad: got pad 28 with crop 24, want pad < crop, so that no crop misses the image, in \
             the point input.crop=24 input.pad=28",
        ),
        (
            "sweep:\n  parameters:\n    optimizer.momentum: [0.9, 0]\n    optimizer.nesterov: [true]\n",
            "4:25: sweep.parameters.optimizer.nesterov: no effect with optimizer.momentum 0, want one above 0, in the point \
             optimizer.momentum=0 optimizer.nesterov=true",
        ),
        (
            "sweep:\n  cases:\n    - {train.steps: 5, train.epochs: 1}\n",
            "3:21: sweep.cases.train.steps: got train.epochs (3:38) as well, want one of the two, in the point train.epochs=1 \
             train.steps=5",
        ),
    ] {
        assert_eq!(bad(text), format!("sweep.yaml:{want}"), "{text}");
    }
}

#[test]
fn sweep_that_another_extends_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("base.yaml", GRID);
    write("sweep.yaml", &format!("extends: base\n{GRID}"));
    let error = spec::load("sweep", directory.path(), &[]).unwrap_err();
    let message = format!("{error:#}").replace(&format!("{}/", directory.path().display()), "");
    assert_eq!(
        message,
        "sweep.yaml:1:10: extends: got base, which is a sweep (base.yaml:1:1), want an experiment without one; what both \
         need may be a third experiment that both extend"
    );
}

#[test]
fn command_line_is_named_in_errors_and_takes_precedence_over_the_file() {
    let parse = |text: &str| Override::parse_sweep(text).unwrap();
    let message = |text: &str| sweep_with(GRID, &[parse(text)]).unwrap_err();
    assert_eq!(
        message("lr=0.1,0.2"),
        "--sweep lr=0.1,0.2: unknown field, want optimizer.learning_rate"
    );
    assert_eq!(
        message("optimizer.learning_rate=0.1,-1"),
        "--sweep optimizer.learning_rate=0.1,-1: got -1, want a number above 0, at most 1000000"
    );
    for (hydra, want) in [
        ("range(0.1,0.5,0.1)", "want [0.1, 0.2, 0.3, 0.4]"),
        ("range(3)", "want [0, 1, 2]"),
        (
            "range(20000001,20000004)",
            "want [20000001, 20000002, 20000003]",
        ),
        (
            "log(0.01,0.1)",
            "want {distribution: log_uniform_values, min: 0.01, max: 0.1} with method random",
        ),
    ] {
        let told = message(&format!("optimizer.learning_rate={hydra}"));
        assert!(told.ends_with(want), "{told}");
    }
    assert_eq!(
        message("optimizer.learning_rate=choice(0.1, 0.2)"),
        "--sweep optimizer.learning_rate=choice(0.1, 0.2): got \"choice(0.1, 0.2)\", want a number above 0, at most \
         1000000; want [0.1, 0.2]"
    );
    assert_eq!(
        message("train.batch_size="),
        "--sweep train.batch_size=: got an empty list, want one value at least"
    );
    let set = [parse("seed=3"), parse("train.batch_size=[32,64]")];
    let found = sweep_with(GRID, &set).unwrap();
    assert_eq!(found.definition.seeds, [3]);
    assert_eq!(
        names(&found),
        [
            "001-learning_rate=0.05-batch_size=32",
            "002-learning_rate=0.05-batch_size=64",
            "003-learning_rate=0.1-batch_size=32",
            "004-learning_rate=0.1-batch_size=64",
        ]
    );
    let set = Override::parse("sweep.parallel=0").unwrap();
    assert_eq!(
        sweep_with(GRID, &[set]).unwrap_err(),
        "--set sweep.parallel=0: got 0, want a whole number from 1 to 1024"
    );
    let set = Override::parse("sweep.metric.name=loss").unwrap();
    let found = sweep_with(GRID, &[set]).unwrap();
    assert_eq!(found.definition.metric.goal, Goal::Minimize);
}

#[test]
fn value_on_the_command_line_that_no_point_takes_is_refused() {
    let set = |text: &str| Override::parse(text).unwrap();
    let values = |text: &str| Override::parse_sweep(text).unwrap();
    let message = |settings: &[Override]| sweep_with(GRID, settings).unwrap_err();
    assert_eq!(
        message(&[set("optimizer.learning_rate=0.3")]),
        "--set optimizer.learning_rate: no effect in a sweep each of whose points sets it; want --sweep \
         optimizer.learning_rate=VALUE,VALUE for other values of it"
    );
    assert_eq!(
        message(&[set("optimizer={learning_rate: 0.3}")]),
        "--set optimizer.learning_rate: no effect in a sweep each of whose points sets it; want --sweep \
         optimizer.learning_rate=VALUE,VALUE for other values of it"
    );
    assert_eq!(
        message(&[set("seed=5"), values("seed=1..2")]),
        "--set seed: no effect in a sweep that lists its seeds; want --sweep seed=5"
    );
    let [first, second] = ["0.1,0.2", "0.3"].map(|it| format!("optimizer.learning_rate={it}"));
    assert_eq!(
        message(&[values(&first), values(&second)]),
        "--sweep optimizer.learning_rate=0.3: got --sweep optimizer.learning_rate=0.1,0.2 as well, want one --sweep of a \
         field, with all of its values"
    );
    // The first of so many seeds is the spec's.
    let found = sweep_with(GRID, &[set("seed=5"), set("train.epochs=2")]).unwrap();
    assert_eq!(found.definition.seeds, [5, 6]);
}

#[test]
fn halving_without_a_rung_is_refused_at_its_place() {
    let text = "train: {steps: 400}\nsweep:\n  seeds: 3\n  early_terminate: {type: halving, min_iter: 400}\n";
    assert_eq!(
        bad(text),
        "sweep.yaml:4:46: sweep.early_terminate.min_iter: got 400, want less than 400, the steps of a point"
    );
    let different = text.replace("seeds: 3", "parameters: {train.steps: [500, 600]}");
    assert_eq!(
        bad(&different),
        "sweep.yaml:4:20: sweep.early_terminate: got points of 500 and of 600 steps, want the same number, at whose rungs \
         halving compares them"
    );
}

#[test]
fn whole_number_may_be_written_with_an_exponent() {
    let found = sweep("sweep:\n  parameters: {train.steps: [3e6]}\n  seeds: 1e1\n");
    assert_eq!(found.points.len(), 10);
    assert_eq!(
        found.points[0].set["train.steps"],
        serde_json::json!(3_000_000)
    );
}

#[test]
fn values_given_to_set_are_told_how_to_be_swept() {
    let set = Override::parse("optimizer.momentum=0.5,0.9").unwrap();
    assert_eq!(
        sweep_with("", &[set]).unwrap_err(),
        "--set optimizer.momentum=0.5,0.9: got \"0.5,0.9\", want a number from 0 to below 1; for a run of each of them: \
         runboard run NAME --sweep optimizer.momentum=0.5,0.9"
    );
}

#[test]
fn halving_trains_each_rung_with_a_share_of_the_points_before() {
    let text = "train: {steps: 900}\nsweep:\n  parameters: {optimizer.learning_rate: [1, 2, 3, 4, 5, 6, 7]}\n  \
                early_terminate: {type: halving, min_iter: 100}\n";
    let found = sweep(text);
    assert_eq!(found.definition.rungs(900), [100, 300]);
    let steps = found.steps(50_000).unwrap();
    assert_eq!(steps, [900; 7]);
    assert_eq!(found.definition.steps(&steps), 7 * 100 + 3 * 200 + 600);
    // How many steps there are in epochs the images tell.
    let epochs = text.replace("steps: 900", "epochs: 1");
    let error = sweep(&epochs.replace("min_iter: 100", "min_iter: 391")).steps(50_000);
    assert_eq!(
        error.unwrap_err().to_string(),
        "sweep.early_terminate.min_iter: got 391, want less than 391, the steps of a point"
    );
    let few = sweep(&text.replace("train: {", "data: {validation_images: 100}\ntrain: {"));
    let error = format!("{:#}", few.steps(100).unwrap_err());
    assert!(
        error.starts_with("point 001-learning_rate=1: data.validation_images: got 100"),
        "{error}"
    );
}

#[test]
fn ten_thousand_points_are_allowed() {
    let text = "sweep:\n  parameters:\n    train.steps: 1..100\n    train.batch_size: 1..100\n";
    assert_eq!(sweep(text).points.len(), 10_000);
}

#[test]
fn shipped_sweeps_are_valid() {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let points = |name| {
        let found = Sweep::of(&spec::load(name, &shipped, &[]).unwrap(), Some(0))
            .unwrap()
            .unwrap();
        let steps = found.steps(50_000).unwrap();
        (found.points.len(), found.definition.steps(&steps))
    };
    assert_eq!(points("learning-rate"), (15, 15_000));
    assert_eq!(points("hyperband"), (81, 72_900));
}
