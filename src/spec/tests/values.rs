//! Defaults, ranges, shipped experiments and frozen specs.

use super::*;

#[test]
fn range_ends_where_it_says() {
    let directory = Directory::new(&[("empty.yaml", b"")]);
    for (field, allowed, refused) in [
        (
            "train.steps",
            vec!["1", "1000000000"],
            vec!["0", "1000000001"],
        ),
        ("train.epochs", vec!["0.01", "1e6"], vec!["0", "1e7"]),
        ("seed", vec!["0", "18446744073709551615"], vec!["-1"]),
        (
            "compute.device",
            vec!["cpu", "cuda", "cuda:0", "cuda:127"],
            vec!["cuda:", "cuda:128", "cuda:+1", "CPU"],
        ),
        ("network.conv1.kernel", vec!["1", "15"], vec!["2", "17"]),
        (
            "network.conv1.stddev",
            vec!["0", "1e-300"],
            vec!["-1e-300", ".nan", "-.inf"],
        ),
        ("network.norm.beta", vec!["5", "1e-3"], vec!["0", "5.1"]),
        ("optimizer.decay_factor", vec!["1"], vec!["0", "1.1"]),
        ("optimizer.ema_decay", vec!["0", "0.999999"], vec!["1"]),
        ("optimizer.momentum", vec!["0", "0.999"], vec!["1", "-0.1"]),
        ("network.dropout", vec!["0", "0.999"], vec!["1"]),
        (
            "eval.interval_secs",
            vec!["0.01", "86400"],
            vec!["0", "86401"],
        ),
        (
            "data.synthetic.train_images",
            vec!["10", "5000000"],
            vec!["5", "11"],
        ),
        ("input.crop", vec!["5", "32"], vec!["4", "33"]),
        ("input.pad", vec!["0", "23"], vec!["-1", "24", "32"]),
        ("input.cutout", vec!["0", "24"], vec!["25", "33"]),
        ("input.cutmix", vec!["0", "23"], vec!["24", "32"]),
        (
            "input.flip",
            vec!["true", "false", "alternating"],
            vec!["both", "1"],
        ),
        ("input.normalize", vec!["dataset", "none"], vec!["channel"]),
        ("input.standardize", vec!["true", "false"], vec!["channel"]),
    ] {
        // Without it these images are not used.
        let source = match field.starts_with("data.synthetic.") {
            true => "data.source=synthetic",
            false => "data.source=cifar10",
        };
        for value in allowed {
            let set = format!("{field}={value}");
            assert!(directory.load("empty", &[source, &set]).is_ok(), "{set}");
        }
        for value in refused {
            let set = format!("{field}={value}");
            assert!(directory.load("empty", &[source, &set]).is_err(), "{set}");
        }
    }
}

#[test]
fn field_table_matches_the_struct() {
    fn leaves(path: &str, value: &serde_yaml::Value, found: &mut Vec<String>) {
        match value {
            serde_yaml::Value::Mapping(mapping) => mapping.iter().for_each(|(key, value)| {
                leaves(&fields::join(path, key.as_str().unwrap()), value, found)
            }),
            leaf => {
                assert_eq!(
                    fields::check(path, leaf.clone()),
                    Ok(leaf.clone()),
                    "the default of {path}"
                );
                found.push(path.to_owned());
            }
        }
    }
    let mut found = vec!["extends".to_owned(), "version".to_owned()];
    leaves(
        "",
        &serde_yaml::to_value(Spec::default()).unwrap(),
        &mut found,
    );
    // A spec has steps or epochs, by default steps.
    let fields = fields::paths().filter(|path| *path != "train.epochs");
    assert_eq!(found, fields.collect::<Vec<_>>());
    assert!(constraints::violation(&Spec::default()).is_none());
}

#[test]
fn defaults_are_the_tutorials() {
    let tutorial = "
        input: {crop: 24, flip: true, brightness: 63, contrast: {lower: 0.2, upper: 1.8}, standardize: true}
        network:
          conv1: {channels: 64, kernel: 5, stddev: 1e-4, bias: 0, weight_decay: 0}
          conv2: {channels: 64, kernel: 5, stddev: 1e-4, bias: 0.1, weight_decay: 0}
          pool: {size: 3, stride: 2}
          norm: {radius: 4, bias: 1, alpha: 0.00011111111111111112, beta: 0.75}
          local3: {units: 384, stddev: 0.04, bias: 0.1, weight_decay: 0.004}
          local4: {units: 192, stddev: 0.04, bias: 0.1, weight_decay: 0.004}
          softmax_linear: {stddev: 0.005208333333333333, bias: 0, weight_decay: 0}
        optimizer: {learning_rate: 0.1, decay_factor: 0.1, epochs_per_decay: 350, staircase: true, ema_decay: 0.9999}
        train: {steps: 100000, batch_size: 128, log_every: 10, scalars_every: 100, checkpoint_every: 1000}
        eval: {interval_secs: 300}
        data: {source: cifar10}";
    let directory = Directory::new(&[("tutorial.yaml", tutorial.as_bytes())]);
    assert_eq!(directory.load("tutorial", &[]).unwrap(), Spec::default());
}

#[test]
fn tutorials_cadences_are_the_defaults_with_its_fidelity() {
    let cadences = |text: &str| {
        let directory = Directory::new(&[("a.yaml", text.as_bytes())]);
        let train = directory.load("a", &[]).unwrap().train;
        [train.histograms_every, train.images_every]
    };
    assert_eq!(cadences("fidelity: exact"), [1000; 2]);
    assert_eq!(cadences("fidelity: tutorial"), [100; 2]);
    let set = "{fidelity: tutorial, train: {images_every: 7}}";
    assert_eq!(cadences(set), [100, 7]);
}

#[test]
fn epochs_are_rounded_up_to_whole_steps() {
    let train = |epochs: f64, batch_size: usize, drop_last: bool| Train {
        steps: None,
        epochs: Some(epochs),
        batch_size,
        drop_last,
        ..Train::default()
    };
    for (epochs, batch_size, drop_last, steps) in [
        (1.0, 100, false, 500),
        (1.1, 100, false, 550),  // in floats 550.0000000000001
        (9.9, 1024, false, 484), // 483.4
        (9.9, 1024, true, 476),  // of 48 whole batches each: 475.2, as airbench94 has it
        (3.0, 128, false, 1172), // 1171.9: the third epoch's images and the fourth's first
        (3.0, 128, true, 1170),
        (1e-6, 128, true, 1),
    ] {
        let train = train(epochs, batch_size, drop_last);
        assert_eq!(train.total_steps(50_000), steps, "{epochs} of {batch_size}");
    }
    assert_eq!(Train::default().total_steps(7), 100_000);
    assert_eq!(train(1.0, 128, true).steps_per_epoch(50_000), 390.0);
    assert_eq!(train(1.0, 128, false).steps_per_epoch(50_000), 390.625);
}

#[test]
fn training_images_are_those_that_are_not_held_out_and_fill_a_batch() {
    let mut spec = Spec::default();
    spec.data.validation_images = 4;
    (spec.train.batch_size, spec.train.drop_last) = (6, true);
    assert_eq!(spec.training_images(10).unwrap(), 6);
    for (images, message) in [
        (
            9,
            "train.batch_size: got 6 with train.drop_last, want at most 5: the 9 training images less the 4 of \
             data.validation_images",
        ),
        (
            4,
            "data.validation_images: got 4, want less than 4, the number of images in the training files",
        ),
    ] {
        let error = spec.training_images(images).unwrap_err();
        assert!(is_user_error(&error));
        assert_eq!(error.to_string(), message);
    }
    spec.train.drop_last = false;
    assert_eq!(spec.training_images(9).unwrap(), 5);
}

#[test]
fn shipped_experiments_load() {
    let spec = |name: &str| load(name, &shipped(), &[]).unwrap().spec;
    for name in available(&shipped()).unwrap() {
        assert!(!spec(&name).description.is_empty(), "{name}");
    }
    let mut baseline = spec("baseline");
    baseline.description.clear();
    assert_eq!(baseline, Spec::default());
    let mut fast = spec("fast-start");
    fast.description.clear();
    assert_eq!(
        (fast.network.conv1.stddev, fast.network.conv2.stddev),
        (5e-2, 5e-2)
    );
    (fast.network.conv1.stddev, fast.network.conv2.stddev) = (1e-4, 1e-4);
    assert_eq!(fast, Spec::default());
    assert_eq!(spec("quickstart").data.source, Source::Synthetic);
}

#[test]
fn optimizers_are_those_of_the_field() {
    let names = OptimizerName::ALL.map(|name| serde_json::to_value(name).unwrap());
    let choices = Field::find("optimizer.name").unwrap().choices();
    assert_eq!(
        names.to_vec(),
        choices
            .into_iter()
            .map(serde_json::Value::from)
            .collect::<Vec<_>>()
    );
}
