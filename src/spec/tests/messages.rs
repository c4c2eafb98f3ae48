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
        "experiments/bad.yaml:1:38: network.norm.deep: unknown key, want one of radius, bias, alpha, beta"
    );
    let top = "want one of extends, version, description, seed, fidelity, compute, data, input, network, optimizer, train, eval";
    assert_eq!(
        bad("seed: 1\nbatch_size: 64\n"),
        format!(
            "experiments/bad.yaml:2:1: batch_size: unknown key, {top}; \
             did you mean 'train.batch_size' or 'eval.batch_size'?"
        )
    );
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
fn file_that_is_no_yaml_mapping_is_refused() {
    let top = "want a mapping of extends, version, description, seed, fidelity, compute, data, input, network, optimizer, train, eval";
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
