//! What is wrong in a file, to the letter.

use super::*;

#[test]
fn unknown_key_is_placed_and_the_nearest_known_one_named() {
    assert_eq!(
        bad("# a comment\n\ntrain:\n  batch_sise: 5\n"),
        "experiments/bad.yaml:4:3: train.batch_sise: unknown key, want one of steps, epochs, batch_size, drop_last, log_every, \
         scalars_every, histograms_every, images_every, checkpoint_every, keep_checkpoints, keep_every, keep_best, \
         divergence_factor, on_divergence, max_rollbacks, rollback_factor, restarts; did you mean 'batch_size'?"
    );
    assert_eq!(
        bad("network: {conv1: {kernel: 3}, norm: {deep: 1}}\n"),
        "experiments/bad.yaml:1:38: network.norm.deep: unknown key, want one of name, radius, bias, alpha, beta"
    );
    let top = "want one of extends, version, description, seed, fidelity, compute, data, input, network, loss, optimizer, schedule, average, train, stop, eval, sweep";
    assert_eq!(
        bad("seed: 1\nbatch_size: 64\n"),
        format!(
            "experiments/bad.yaml:2:1: batch_size: unknown key, {top}; \
             did you mean 'train.batch_size' or 'eval.batch_size'?"
        )
    );
    // What others call so, in this section where it has it, and all that they may mean.
    for (text, end) in [
        ("average: {warmup_steps: 5}\n", "average.warmup"),
        ("optimizer: {warmup_steps: 5}\n", "schedule.warmup"),
        ("eval: {bs: 5}\n", "eval.batch_size"),
        ("dataset: cifar\n", "data.source' or 'data.folder"),
    ] {
        let message = bad(text);
        assert!(
            message.ends_with(&format!("; did you mean '{end}'?")),
            "{message}"
        );
    }
    // Dotted paths are for --set; a file nests.
    assert_eq!(
        bad("train.steps: 5\n"),
        "experiments/bad.yaml:1:1: train.steps: a dotted key is for --set; want train: {steps: ...} in a file"
    );
    assert_eq!(
        bad("network: {conv1.kernel: 3}\n"),
        "experiments/bad.yaml:1:11: network.conv1.kernel: a dotted key is for --set; want conv1: {kernel: ...} in a file"
    );
    assert_eq!(
        bad("network.norm: {}\n"),
        "experiments/bad.yaml:1:1: network.norm: a dotted key is for --set; want network: {norm: ...} in a file"
    );
    assert_eq!(
        bad("network.conv1.kernel: 3\n"),
        "experiments/bad.yaml:1:1: network.conv1.kernel: a dotted key is for --set; \
         want network: {conv1: {kernel: ...}} in a file"
    );
    for (text, path, want) in [
        (
            "train: {train.steps: 5}",
            "train.train.steps",
            "steps: ... in train",
        ),
        (
            "train: {eval.threads: 5}",
            "train.eval.threads",
            "eval: {threads: ...} at the top level",
        ),
        (
            "train: {network.norm: {}}",
            "train.network.norm",
            "network: {norm: ...} at the top level",
        ),
        (
            "data: {data.synthetic.train_images: 5}",
            "data.data.synthetic.train_images",
            "synthetic: {train_images: ...} in data",
        ),
    ] {
        let column = text.find('{').unwrap() + 2;
        let message = format!(
            "experiments/bad.yaml:1:{column}: {path}: a dotted key is for --set; want {want}"
        );
        assert_eq!(bad(text), message);
    }
    for key in ["network.conv1.kernel", "conv1.kernel"] {
        assert_eq!(
            bad(&format!("network: {{conv1: {{{key}: 3}}}}\n")),
            format!(
                "experiments/bad.yaml:1:19: network.conv1.{key}: a dotted key is for --set; want kernel: ... in network.conv1"
            )
        );
    }
    assert_eq!(
        bad("train.stepz: 5\n"),
        format!("experiments/bad.yaml:1:1: train.stepz: unknown key, {top}")
    );
    assert_eq!(
        bad("common: &c {batch_size: 64}\ntrain: *c\n"),
        format!(
            "experiments/bad.yaml:1:1: common: unknown key, {top}; a key only to hold an anchor has no place: share \
             values by 'extends: NAME'"
        )
    );
    assert_eq!(
        bad("7: 5\n"),
        format!("experiments/bad.yaml:1:1: 7: unknown key, {top}")
    );
    assert_eq!(
        bad("<<: {seed: 5}\n"),
        "experiments/bad.yaml:1:1: <<: YAML's merge key has no meaning here; want 'extends: NAME' at the top level \
         to start from another experiment"
    );
}

#[test]
fn error_in_what_an_alias_repeats_is_placed_at_the_alias() {
    let keys = "want one of tta, policy, interval_secs, batch_size, device, threads";
    for (text, place, alias) in [
        ("train: &t {steps: 5}\neval: *t\n", "2:7", "1:8"),
        (
            "train: &t\n  steps: 5\neval:   *t # the same\n",
            "3:9",
            "1:8",
        ),
    ] {
        let message = bad(text);
        let begin = format!("experiments/bad.yaml:{place}: eval.steps: unknown key, {keys}");
        assert!(message.starts_with(&begin), "{message}");
        let end = format!(
            "; it comes from {alias} by the alias *t: share single values, or whole files by 'extends: NAME'"
        );
        assert!(message.ends_with(&end), "{message}");
    }
    assert_eq!(
        bad("train: {log_every: &n 100000}\neval: {batch_size: *n}\n"),
        "experiments/bad.yaml:2:20: eval.batch_size: got 100000, want a whole number from 1 to 65536; it comes from 1:20 by \
         the alias *n: share single values, or whole files by 'extends: NAME'"
    );
    // No alias: the error is after the key, or of another one.
    assert!(
        bad("train: &t {steps: 5}\neval: {stepz: 5} # eval: *t\n")
            .starts_with("experiments/bad.yaml:2:8: eval.stepz: unknown key")
    );
}

#[test]
fn tab_as_indentation_is_named() {
    for (text, line) in [
        ("train:\n\tsteps: 5\n", 2),
        ("train:\n  steps: 5\n\tlog_every: 3\n", 3),
        ("train:\n  steps: 5\n  \tlog_every: 3\n", 3),
        ("seed: 1\ntrain:\n\tsteps: 5\n\tlog_every: 3\n", 3),
    ] {
        let message = bad(text);
        assert!(message.contains("not valid YAML: "), "{message}");
        let end = format!("; line {line} begins with a tab, want spaces");
        assert!(message.ends_with(&end), "{message}");
    }
    assert!(!bad("train:\n\t\n  steps: [\n").contains("tab, want"));
}

#[test]
fn value_error_says_what_was_found_and_what_is_wanted() {
    let whole = "want a whole number from 1 to 65536";
    for (value, column, found) in [
        ("many", 15, "\"many\""),
        ("\"12\"", 15, "\"12\""),
        ("0", 15, "0"),
        ("-3", 15, "-3"),
        ("2.5", 15, "2.5"),
        ("65537", 15, "65537"),
        ("99999999999999999999", 15, "1e20"),
        ("-99999999999999999999", 15, "-1e20"),
        ("1_000", 15, "\"1_000\""),
        (".inf", 15, ".inf"),
        (".nan", 15, ".nan"),
        ("true", 15, "true"),
        ("", 14, "null"),
        ("~", 15, "null"),
        ("[1, 2]", 15, "a list"),
        ("{a: 1}", 15, "a mapping"),
        ("!much 5", 15, "a value with a tag"),
    ] {
        assert_eq!(
            bad(&format!(
                "# a comment\n\nseed: 2\n\ntrain:\n  # more\n  batch_size: {value}\n"
            )),
            format!("experiments/bad.yaml:7:{column}: train.batch_size: got {found}, {whole}"),
        );
    }
    for (text, message) in [
        (
            "description: 5",
            "1:14: description: got 5, want one line of text; quote it: \"5\"",
        ),
        (
            "description: \"a\\nb\"",
            "1:14: description: got \"a\\nb\", want one line of text",
        ),
        (
            "description: [",
            "1:14: description: got a list, want one line of text",
        ),
        (
            "train:",
            "1:7: train: got null, want a mapping of steps, epochs, batch_size, drop_last, log_every, scalars_every, \
                    histograms_every, images_every, \
                    checkpoint_every, keep_checkpoints, keep_every, keep_best, \
                     divergence_factor, on_divergence, max_rollbacks, rollback_factor, restarts",
        ),
        (
            "input: {contrast: 3}",
            "1:19: input.contrast: got 3, want a mapping of lower, upper",
        ),
        (
            "compute: {device: gpu}",
            "1:19: compute.device: got \"gpu\", want auto, cpu, cuda or cuda:N",
        ),
        (
            "data: {source: mnist}",
            "1:16: data.source: got \"mnist\", want cifar10 or synthetic",
        ),
        (
            "data: {folder: ''}",
            "1:16: data.folder: got \"\", want the path of a directory",
        ),
        (
            "data: {folder: ~}",
            "1:16: data.folder: got null, want the path of a directory; YAML takes a lone ~ for null: write ~/ for the \
             home directory",
        ),
        (
            "data: {download: yes}",
            "1:18: data.download: got \"yes\", want true or false",
        ),
        (
            "data: {synthetic: {train_images: 12}}",
            "1:34: data.synthetic.train_images: got 12, want a multiple of 5 from 10 to 5000000",
        ),
        (
            "network: {conv2: {kernel: 4}}",
            "1:27: network.conv2.kernel: got 4, want an odd whole number from 1 to 15",
        ),
        (
            "optimizer: {learning_rate: 0}",
            "1:28: optimizer.learning_rate: got 0, want a number above 0, at most 1000000",
        ),
        (
            "optimizer: {learning_rate: 1e400}",
            "1:28: optimizer.learning_rate: got \"1e400\", want a number above 0, at most 1000000",
        ),
        (
            "optimizer: {ema_decay: 1}",
            "1:24: optimizer.ema_decay: got 1, want a number from 0 to below 1",
        ),
        (
            // It would be 1 in 32 bits.
            "network: {dropout: 0.99999999}",
            "1:20: network.dropout: got 0.99999999, want a number from 0 to below 1",
        ),
        (
            "optimizer: {betas: 0.9}",
            "1:20: optimizer.betas: got 0.9, want a list of 2, each a number from 0 to below 1",
        ),
        (
            "optimizer: {betas: [0.9]}",
            "1:20: optimizer.betas: got a list of 1, want a list of 2, each a number from 0 to below 1",
        ),
        (
            "optimizer: {betas: [0.9, 1]}",
            "1:26: optimizer.betas: got 1, want a number from 0 to below 1",
        ),
        (
            "optimizer: {betas: [0.9, [1]]}",
            "1:26: optimizer.betas: got a list, want a list of 2, each a number from 0 to below 1",
        ),
        (
            "input: {brightness: 1e39}",
            "1:21: input.brightness: got 1e39, want a number from 0 to 255",
        ),
        (
            "seed: 18446744073709551616",
            "1:7: seed: got 1.8446744073709552e19, \
                                       want a whole number from 0 to 18446744073709551615",
        ),
    ] {
        assert_eq!(
            bad(&format!("{text}\n")),
            format!("experiments/bad.yaml:{message}"),
            "{text}"
        );
    }
}

#[test]
fn field_without_effect_is_refused_whatever_the_order_of_overrides() {
    let directory = Directory::new(&[
        ("empty.yaml", b""),
        ("adamw.yaml", b"optimizer: {name: adamw, betas: [0.8, 0.9]}"),
    ]);
    let (name, betas) = ("optimizer.name=sgd", "optimizer.betas=[0.8, 0.9]");
    for sets in [[name, betas], [betas, name]] {
        let error = directory.load("empty", &sets).unwrap_err().to_string();
        let want = format!("--set {betas}: no effect with optimizer.name sgd, want adamw");
        assert_eq!(error, want, "{sets:?}");
    }
    // Whoever switches something off on the command line need not unset what a file sets of it.
    directory.load("adamw", &[name]).unwrap();
    for (sets, want) in [
        (
            &[
                "schedule.name=one_cycle",
                "schedule.peak=0",
                "schedule.initial_factor=0.5",
            ][..],
            "schedule.initial_factor=0.5: no effect with schedule.peak 0, before which there is nothing, want one above 0",
        ),
        (
            &[
                "schedule.name=one_cycle",
                "schedule.peak=100",
                "schedule.final_factor=0.5",
            ],
            "schedule.final_factor=0.5: no effect with schedule.peak 100, after which there is nothing, want one below 100",
        ),
        (
            &["optimizer.ema_decay=0", "average.start_epoch=2"],
            "average.start_epoch=2: no effect with optimizer.ema_decay 0, where the average is the weights, want one above 0",
        ),
        (
            &["optimizer.name=adamw", "optimizer.nesterov=true"],
            "optimizer.nesterov=true: no effect with optimizer.name adamw, want sgd or muon",
        ),
        (
            &[
                "data.source=synthetic",
                "data.synthetic.train_images=100",
                "data.validation_images=20",
                "train.drop_last=true",
            ],
            "train.drop_last=true: got a batch of 128 images with drop_last, want at most 80: the 100 training \
             images less the 20 of data.validation_images",
        ),
    ] {
        let error = directory.load("empty", sets).unwrap_err().to_string();
        assert_eq!(error, format!("--set {want}"), "{sets:?}");
    }
}

#[test]
fn violation_is_reported_at_the_field_set_last() {
    assert_eq!(
        bad("input:\n  contrast:\n    upper: 0.1\n"),
        "experiments/bad.yaml:3:12: input.contrast.upper: got lower 0.2 with upper 0.1, want lower <= upper"
    );
    assert_eq!(
        bad("input: {crop: 8, pad: 8}"),
        "experiments/bad.yaml:1:23: input.pad: got pad 8 with crop 8, want pad < crop, so that no crop misses the image"
    );
    assert_eq!(
        bad("input: {crop: 8, cutout: 9}"),
        "experiments/bad.yaml:1:26: input.cutout: got cutout 9 with crop 8, want cutout <= crop"
    );
    assert_eq!(
        bad("input: {cutmix: 24}"),
        "experiments/bad.yaml:1:17: input.cutmix: got cutmix 24 with crop 24, want cutmix < crop"
    );
    assert_eq!(
        bad("input: {crop: 32}\neval: {tta: ten_crop}"),
        "experiments/bad.yaml:2:13: eval.tta: got ten_crop with crop 32, where all crops are the whole image, want crop < 32"
    );
    assert_eq!(
        bad("data: {source: synthetic, validation_images: 50000}"),
        "experiments/bad.yaml:1:46: data.validation_images: got 50000 validation images of 50000 in the training files, \
         want less"
    );
    assert_eq!(
        bad("input: {crop: 4}"),
        "experiments/bad.yaml:1:15: input.crop: got crop 4 with pool.size 3 and pool.stride 2: the two pools see \
         4 and 2 pixels a side, want at least pool.size"
    );
    assert_eq!(
        bad("network: {pool: {stride: 1}, conv2: {channels: 4096}, local3: {units: 4096}}"),
        "experiments/bad.yaml:1:71: network.local3.units: got a network of 9671023168 weights, want at most 268435456"
    );
    assert_eq!(
        bad("network: {conv1: {channels: 512}}\ntrain: {batch_size: 65536}"),
        "experiments/bad.yaml:2:21: train.batch_size: got 65536 images a batch, of which the convolutions make \
         19931332608 values, want at most 4294967296"
    );
    let directory = Directory::new(&[("high.yaml", b"input: {contrast: {lower: 1, upper: 1}}")]);
    assert_eq!(
        directory
            .load("high", &["input.contrast.upper=0.5"])
            .unwrap_err(),
        "--set input.contrast.upper=0.5: got lower 1 with upper 0.5, want lower <= upper"
    );
}

#[test]
fn field_that_the_others_do_not_use_is_refused() {
    for (text, message) in [
        (
            "optimizer: {name: adamw, momentum: 0.9}",
            "1:36: optimizer.momentum: no effect with optimizer.name adamw, want sgd or muon",
        ),
        (
            "data: {synthetic: {train_images: 100}}",
            "1:34: data.synthetic.train_images: no effect with data.source cifar10, want synthetic",
        ),
        (
            "data: {source: synthetic, download: false}",
            "1:37: data.download: no effect with data.source synthetic, want cifar10",
        ),
        (
            "optimizer: {betas: [0.8, 0.9]}",
            "1:20: optimizer.betas: no effect with optimizer.name sgd, want adamw",
        ),
        (
            "optimizer: {nesterov: true}",
            "1:23: optimizer.nesterov: no effect with optimizer.momentum 0, want one above 0",
        ),
        (
            "optimizer: {dampening: 0.1}",
            "1:24: optimizer.dampening: no effect with optimizer.momentum 0, want one above 0",
        ),
        (
            "schedule: {name: cosine}\noptimizer: {staircase: false}",
            "2:24: optimizer.staircase: no effect with schedule.name cosine, want exponential",
        ),
        (
            "train: {max_rollbacks: 2}",
            "1:24: train.max_rollbacks: no effect with train.on_divergence stop, want rollback",
        ),
        (
            "train: {rollback_factor: 0.2}",
            "1:26: train.rollback_factor: no effect with train.on_divergence stop, want rollback",
        ),
        (
            "input: {cutmix: 4}\ntrain: {batch_size: 1}",
            "1:17: input.cutmix: no effect with train.batch_size 1, want at least 2: the squares are of the batch's \
             other images",
        ),
        (
            "schedule: {name: cosine, unit: percent}",
            "1:32: schedule.unit: no effect with no knots and no warm-up, which are counted in it",
        ),
        (
            "schedule: {warmup_factor: 0.1}",
            "1:27: schedule.warmup_factor: no effect with schedule.warmup 0, want one above 0",
        ),
    ] {
        assert_eq!(bad(text), format!("experiments/bad.yaml:{message}"));
    }
    for text in [
        "network: {conv1: {init: he_normal, stddev: 0.1}}",
        "network: {conv1: {init: whitening, stddev: 0.1}}",
        "network: {conv1: {frozen: true, weight_decay: 0.1}}",
        "network: {norm: {name: none, radius: 3}}",
        "average: {name: none, every: 5}",
        "average: {power: 3}",
        "optimizer: {sgd_learning_rate: 0.1}",
        "schedule: {name: constant, knots: [1]}",
    ] {
        assert!(bad(text).contains(": no effect with "), "{}", bad(text));
    }
    let directory = Directory::new(&[("x.yaml", b"optimizer: {momentum: 0.9, nesterov: true}")]);
    // Another optimizer above need not unset what belongs to the one below.
    assert!(directory.load("x", &["optimizer.name=adamw"]).is_ok());
    let set = ["optimizer.name=adamw", "optimizer.momentum=0.5"];
    assert_eq!(
        directory.load("x", &set).unwrap_err(),
        "--set optimizer.momentum=0.5: no effect with optimizer.name adamw, want sgd or muon"
    );
}

#[test]
fn convolution_that_cannot_be_made_of_principal_components_is_refused() {
    for (text, message) in [
        (
            "network: {conv1: {init: whitening, kernel: 3}}",
            "1:25: network.conv1.init: got 64 channels with init whitening and kernel 3, want an even number of at \
             most 54: principal components and their negatives",
        ),
        (
            "network: {conv1: {init: whitening, channels: 33}}",
            "1:25: network.conv1.init: got 33 channels with init whitening and kernel 5, want an even number of at \
             most 150: principal components and their negatives",
        ),
        (
            "{input: {crop: 6}, network: {conv1: {init: whitening, kernel: 7}}}",
            "1:44: network.conv1.init: got kernel 7 with init whitening and crop 6, want kernel <= crop",
        ),
        (
            "network: {conv2: {init: whitening}}",
            "1:25: network.conv2.init: got \"whitening\", want truncated_normal or he_normal or xavier",
        ),
    ] {
        assert_eq!(bad(text), format!("experiments/bad.yaml:{message}"));
    }
}

#[test]
fn options_of_optimizer_and_schedule_that_do_not_go_together_are_refused() {
    for (text, message) in [
        (
            "optimizer: {momentum: 0.9, dampening: 0.1, nesterov: true}",
            "1:54: optimizer.nesterov: got nesterov true with dampening 0.1, want dampening 0",
        ),
        (
            "schedule: {name: piecewise, knots: [0, 5, 5], factors: [1, 1, 0]}",
            "1:36: schedule.knots: got knots out of order, want each above the one before",
        ),
        (
            "schedule: {name: piecewise, knots: [0, 5], factors: [1]}",
            "1:53: schedule.factors: got factors for 1 of 2 knots, want one for each",
        ),
        (
            "schedule: {name: piecewise, unit: percent, knots: [0, 101], factors: [1, 0]}",
            "1:51: schedule.knots: got 101 percent of the run, want at most 100",
        ),
        (
            "schedule: {name: multistep}",
            "1:18: schedule.name: got no knots for this schedule.name, want one at least",
        ),
    ] {
        assert_eq!(bad(text), format!("experiments/bad.yaml:{message}"));
    }
}

#[test]
fn file_that_is_no_yaml_mapping_is_refused() {
    let top = "want a mapping of extends, version, description, seed, fidelity, compute, data, input, network, loss, optimizer, schedule, average, train, stop, eval";
    assert_eq!(
        bad("- a\n- b\n"),
        format!("experiments/bad.yaml:1:1: got a list, {top}")
    );
    assert_eq!(
        bad("\njust text\n"),
        format!("experiments/bad.yaml:2:1: got \"just text\", {top}")
    );
    assert_eq!(
        bad("train:\n  steps: 5\n seed: 1\n"),
        "experiments/bad.yaml:3:2: not valid YAML: did not find expected key, while parsing a block mapping"
    );
    assert_eq!(
        bad("train:\n  steps: 5\n  log_every: 2\n  steps: 6\n"),
        "experiments/bad.yaml:4:3: train.steps: got this key twice, want it once"
    );
    assert_eq!(
        bad("seed: 1\n---\nseed: 2\n"),
        "experiments/bad.yaml: not valid YAML: deserializing from YAML containing more than one document is not \
         supported"
    );
    assert_eq!(
        bad_bytes(b"seed: 1\ndescription: caf\xe9\n"),
        "experiments/bad.yaml:2:17: got a byte that is not UTF-8, want a YAML file in UTF-8"
    );
    assert_eq!(
        bad_bytes(&[b'#'; 65_537]),
        "experiments/bad.yaml: got more than 65536 bytes, want a YAML file of at most that"
    );
}
