//! Files, names, `extends` and overrides.

use super::*;

#[test]
fn empty_file_means_all_defaults() {
    let with_bom = [
        "\u{feff}seed: 1\r\n",
        "\u{feff}# nothing\nseed: 1\n",
        "\u{feff}\n---\nseed: 1\n",
    ];
    for text in ["", "\n", "# nothing\n", "{}"].into_iter().chain(with_bom) {
        let directory = Directory::new(&[("empty.yaml", text.as_bytes())]);
        assert_eq!(
            directory.load("empty", &[]).unwrap(),
            Spec::default(),
            "{text:?}"
        );
    }
}

#[test]
fn byte_order_mark_shifts_no_column() {
    let directory = Directory::new(&[("bom.yaml", "\u{feff}sed: 1\n".as_bytes())]);
    let error = directory.load("bom", &[]).unwrap_err();
    assert!(
        error.starts_with("experiments/bom.yaml:1:1: sed: "),
        "{error}"
    );
}

#[test]
fn unreadable_file_is_named() {
    let directory = Directory::new(&[]);
    fs::create_dir(directory.path("directory.yaml")).unwrap();
    assert_eq!(
        directory.load("directory", &[]).unwrap_err(),
        "experiments/directory.yaml: got a directory, want a YAML file"
    );
    let pipe = directory.path("pipe.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = "experiments/pipe.yaml: got no regular file, want a YAML file";
    assert_eq!(directory.load("pipe", &[]).unwrap_err(), refused);
    let error = Spec::read_frozen(&pipe).unwrap_err();
    assert_eq!(directory.message(&error), refused);
    let gone = directory.path("gone.yaml");
    assert_eq!(
        directory.load(gone.to_str().unwrap(), &[]).unwrap_err(),
        "failed to read experiments/gone.yaml: No such file or directory (os error 2)"
    );
    let empty = Directory::new(&[]);
    assert_eq!(
        empty.load("baseline", &[]).unwrap_err(),
        "no experiment 'baseline' in experiments/; there are none"
    );
    let error = load("baseline", Path::new("no-such-directory"), &[]).unwrap_err();
    assert_eq!(
        directory.message(&error),
        "failed to list the directory no-such-directory: No such file or directory (os error 2)"
    );
}

#[test]
fn experiment_name_is_looked_up_in_its_directory_only() {
    let directory = Directory::new(&[
        ("baseline.yaml", b""),
        ("other.yaml", b"seed: 7"),
        ("notes.txt", b""),
    ]);
    assert_eq!(
        available(&directory.path("")).unwrap(),
        ["baseline", "other"]
    );
    let path = directory.path("other.yaml");
    let experiment = load(path.to_str().unwrap(), &directory.path(""), &[]).unwrap();
    assert_eq!(
        (experiment.name.as_str(), experiment.spec.seed),
        ("other", Seed(7))
    );
    assert_eq!(
        directory.load("baselin", &[]).unwrap_err(),
        "no experiment 'baselin' in experiments/; did you mean 'baseline'? there are: baseline, other"
    );
    assert_eq!(
        directory.load("xyz", &[]).unwrap_err(),
        "no experiment 'xyz' in experiments/; there are: baseline, other"
    );
    assert_eq!(
        directory
            .load("no-such-directory/other.yaml", &[])
            .unwrap_err(),
        "no file 'no-such-directory/other.yaml'; did you mean the experiment 'other'?"
    );
    for name in [
        "../other", "a/b", "", ".", "..", ".hidden", "-x", "a b", "a\0b", ".yaml",
    ] {
        assert_eq!(
            directory.load(name, &[]).unwrap_err(),
            format!(
                "got {name:?} for an experiment's name, want at most 100 letters of a to z, digits, '-', '_' and '.', \
                 or the path of a file NAME.yaml"
            )
        );
    }
}

#[test]
fn file_extends_another_by_name() {
    let directory = Directory::new(&[
        ("base.yaml", b"seed: 3\ntrain: {steps: 10, log_every: 2}"),
        ("middle.yaml", b"extends: base\ntrain: {steps: 20}"),
        ("top.yaml", b"extends: middle\ndescription: top"),
        ("self.yaml", b"extends: self"),
        ("a.yaml", b"extends: b"),
        ("b.yaml", b"seed: 1\nextends: a"),
        ("lost.yaml", b"extends: bse"),
        ("escape.yaml", b"extends: ../../etc/passwd"),
        ("broken.yaml", b"extends: worse"),
        ("worse.yaml", b"seed: x"),
    ]);
    let spec = directory
        .load("top", &["train.log_every=5", "train={keep_checkpoints: 2}"])
        .unwrap();
    let mut want = Spec {
        description: "top".into(),
        seed: Seed(3),
        ..Spec::default()
    };
    (
        want.train.steps,
        want.train.log_every,
        want.train.keep_checkpoints,
    ) = (Some(20), 5, 2);
    assert_eq!(spec, want);
    for (name, message) in [
        (
            "self",
            "experiments/self.yaml:1:10: cyclic extends: self -> self",
        ),
        ("a", "experiments/b.yaml:2:10: cyclic extends: a -> b -> a"),
        (
            "lost",
            "experiments/lost.yaml:1:10: extends: no experiment 'bse' in experiments/; did you mean 'base'? \
                  there are: a, b, base, broken, escape, lost, middle, self, top, worse",
        ),
        (
            "escape",
            "experiments/escape.yaml:1:10: extends: got \"../../etc/passwd\", \
                    want the bare name of an experiment, such as baseline, or a list of such names",
        ),
        (
            "broken",
            "experiments/worse.yaml:1:7: seed: got \"x\", want a whole number from 0 to 18446744073709551615",
        ),
    ] {
        assert_eq!(directory.load(name, &[]).unwrap_err(), message);
    }
    for depth in 0..9 {
        fs::write(
            directory.path(&format!("c{depth}.yaml")),
            format!("extends: c{}", depth + 1),
        )
        .unwrap();
    }
    assert_eq!(
        directory.load("c0", &[]).unwrap_err(),
        "experiments/c7.yaml:1:10: extends: got more than 8 files that extend one another, want at most 8"
    );
}

#[test]
fn later_one_of_several_bases_takes_precedence_and_what_they_share_counts_once_before_them() {
    let directory = Directory::new(&[
        ("base.yaml", b"seed: 3\ntrain: {steps: 10, log_every: 2}"),
        ("long.yaml", b"extends: base\ntrain: {steps: 500}\nseed: 4"),
        (
            "loud.yaml",
            b"extends: base\ntrain: {log_every: 1}\nseed: 5",
        ),
        ("both.yaml", b"extends: [long, loud]\ndescription: both"),
        ("turned.yaml", b"extends: [loud, long]"),
        ("shared.yaml", b"extends: [long, base]"),
        ("one.yaml", b"extends: [long]\nseed: 6"),
        ("none.yaml", b"extends: []"),
        ("number.yaml", b"extends: [base, 3]"),
        ("lost.yaml", b"extends:\n  - base\n  - lng"),
        ("cyclic.yaml", b"extends: [base, round]"),
        ("round.yaml", b"extends: cyclic"),
        ("grid.yaml", b"sweep: {parameters: {seed: [1, 2]}}"),
        ("upon.yaml", b"extends: [base, grid]"),
    ]);
    for (name, (seed, steps, log_every)) in [
        ("both", (5, 500, 1)),
        ("turned", (4, 500, 1)),
        ("shared", (4, 500, 2)),
        ("one", (6, 500, 2)),
    ] {
        let spec = directory.load(name, &[]).unwrap();
        let found = (spec.seed, spec.train.steps, spec.train.log_every);
        assert_eq!(found, (Seed(seed), Some(steps), log_every), "{name}");
    }
    let names = "want the bare name of an experiment, such as baseline";
    for (name, message) in [
        ("none", format!("none.yaml:1:10: extends: got a list of 0, {names}, or a list of such names")),
        ("number", format!("number.yaml:1:17: extends: got 3, {names}; quote it: \"3\"")),
        ("cyclic", "round.yaml:1:10: cyclic extends: cyclic -> round -> cyclic".into()),
        (
            "upon",
            "upon.yaml:1:10: extends: got grid, which is a sweep (experiments/grid.yaml:1:1), want an experiment \
             without one; what both need may be a third experiment that both extend"
                .into(),
        ),
    ] {
        assert_eq!(directory.load(name, &[]).unwrap_err(), format!("experiments/{message}"));
    }
    let lost = directory.load("lost", &[]).unwrap_err();
    let wanted = "experiments/lost.yaml:2:3: extends: no experiment 'lng' in experiments/; did you mean 'long'?";
    assert!(lost.starts_with(wanted), "{lost}");
}

#[test]
fn base_is_looked_for_beside_the_file_that_extends_it_and_then_among_the_experiments() {
    let directory = Directory::new(&[
        ("base.yaml", b"seed: 3\ntrain: {steps: 10}"),
        ("named.yaml", b"seed: 4"),
    ]);
    let beside = directory.0.path().join("beside");
    fs::create_dir(&beside).unwrap();
    for (name, text) in [
        ("near.yaml", "extends: base"),
        ("top.yaml", "extends: near\ntrain: {log_every: 7}"),
        ("named.yaml", "extends: named"),
        ("lost.yaml", "extends: nera"),
        ("far.yaml", "extends: bsae"),
        ("misnamed.yaml", "extends: old"),
        ("old.yml", ""),
        ("itself.yaml", "extends: itself"),
    ] {
        fs::write(beside.join(name), text).unwrap();
    }
    let load = |name: &str| directory.load(beside.join(name).to_str().unwrap(), &[]);
    let spec = load("top.yaml").unwrap();
    let found = (spec.seed, spec.train.steps, spec.train.log_every);
    assert_eq!(found, (Seed(3), Some(10), 7));
    // Its namesake, not itself.
    assert_eq!(load("named.yaml").unwrap().seed, Seed(4));
    // Nearer than the experiment of this name.
    fs::write(beside.join("base.yaml"), "seed: 5").unwrap();
    assert_eq!(load("near.yaml").unwrap().seed, Seed(5));

    let all = "there are: base, far, itself, lost, misnamed, named, near, top";
    for (name, message) in [
        (
            "lost",
            format!("no experiment 'nera' beside this file, in beside/, nor in experiments/; did you mean 'near'? {all}"),
        ),
        (
            "far",
            format!("no experiment 'bsae' beside this file, in beside/, nor in experiments/; did you mean 'base'? {all}"),
        ),
        (
            "misnamed",
            "no experiment 'old' beside this file, in beside/, nor in experiments/; there is beside/old.yml: rename it \
             to old.yaml"
                .to_owned(),
        ),
    ] {
        let want = format!("beside/{name}.yaml:1:10: extends: {message}");
        assert_eq!(load(&format!("{name}.yaml")).unwrap_err(), want);
    }
    assert_eq!(
        load("itself.yaml").unwrap_err(),
        "beside/itself.yaml:1:10: cyclic extends: itself -> itself"
    );
    // Where there are no experiments at all.
    fs::remove_dir_all(directory.path("")).unwrap();
    assert_eq!(load("near.yaml").unwrap().seed, Seed(5));
    assert_eq!(
        load("far.yaml").unwrap_err(),
        format!(
            "beside/far.yaml:1:10: extends: no experiment 'bsae' beside this file, in beside/, nor in experiments/; \
                 did you mean 'base'? {all}"
        )
    );
}

#[test]
fn override_error_names_the_override() {
    for (set, message) in [
        (
            "train.batch_size=0",
            ": got 0, want a whole number from 1 to 65536",
        ),
        (
            "train={steps: 0}",
            ": train.steps: got 0, want a whole number from 1 to 1000000000",
        ),
        (
            "train.steps.x=1",
            ": train.steps: got a mapping, want a whole number from 1 to 1000000000",
        ),
        (
            "train.steps=[1",
            ": got a list, want a whole number from 1 to 1000000000",
        ),
        (
            "train.steps=\"1",
            ": not valid YAML: found unexpected end of stream, while scanning a quoted scalar",
        ),
        (
            "train.steps=",
            ": got null, want a whole number from 1 to 1000000000",
        ),
        (
            "trian.steps=1",
            ": trian: unknown key, want one of extends, version, description, seed, fidelity, compute, data, input, \
                           network, loss, optimizer, schedule, average, train, stop, eval, sweep; did you mean 'train'?",
        ),
        (
            "input.contrast.lo=1",
            ": unknown key, want one of lower, upper",
        ),
        ("extends=x", ": got an override, want it in a file"),
        ("train.steps", ": want PATH=VALUE, such as train.steps=500"),
    ] {
        assert_eq!(bad_set(set), format!("--set {set}{message}"));
    }
    assert!(bad_set("=1").starts_with("--set =1: unknown key, want one of extends,"));
    assert!(bad_set("a..b=1").starts_with("--set a..b=1: a: unknown key"));
}

#[test]
fn text_override_is_not_yaml() {
    let directory = Directory::new(&[("empty.yaml", b"")]);
    for text in ["5", "null", "a: b", "[x", " # no comment", "~/x"] {
        let set = [Override::text("data.folder", text)];
        let spec = load("empty", &directory.path(""), &set).unwrap().spec;
        assert_eq!(spec.data.folder, Path::new(text));
    }
    let error = load(
        "empty",
        &directory.path(""),
        &[Override::text("data.folder", "")],
    )
    .unwrap_err();
    assert_eq!(
        directory.message(&error),
        "data.folder=: got \"\", want the path of a directory"
    );
}

#[test]
fn home_and_variables_in_paths_are_expanded_in_the_topmost_layer() {
    let home = std::env::home_dir().unwrap();
    let manifest = env!("CARGO_MANIFEST_DIR"); // cargo sets it for tests, too
    let directory = Directory::new(&[
        ("home.yaml", b"data: {folder: ~/images}"),
        (
            "variable.yaml",
            b"data: {folder: '${CARGO_MANIFEST_DIR}/a$$b'}",
        ),
        ("unset.yaml", b"data:\n  folder: $RUNBOARD_NOT_SET/images"),
        ("upper.yaml", b"extends: unset\ndata: {folder: plain}"),
    ]);
    let folder = |name: &str, set: &[&str]| directory.load(name, set).map(|spec| spec.data.folder);
    assert_eq!(folder("home", &[]), Ok(home.join("images")));
    assert_eq!(folder("variable", &[]), Ok(Path::new(manifest).join("a$b")));
    assert_eq!(folder("unset", &["data.folder=~/"]), Ok(home));
    assert_eq!(folder("upper", &[]), Ok("plain".into()));
    let problem = "got \"$RUNBOARD_NOT_SET/images\": the variable RUNBOARD_NOT_SET is not set or empty; \
        want it set, or $$ for a plain $";
    assert_eq!(
        folder("unset", &[]),
        Err(format!(
            "experiments/unset.yaml:2:11: data.folder: {problem}"
        ))
    );
    assert_eq!(
        folder("home", &["data.folder=$RUNBOARD_NOT_SET/images"]),
        Err(format!(
            "--set data.folder=$RUNBOARD_NOT_SET/images: {problem}"
        ))
    );
}

#[test]
fn frozen_path_is_taken_as_it_stands() {
    let directory = Directory::new(&[("empty.yaml", b"")]);
    let set = [Override::text("data.folder", "/a$b/~")];
    let spec = load("empty", &directory.path(""), &set).unwrap().spec;
    let path = directory.path("frozen.yaml");
    fs::write(&path, spec.to_frozen_yaml().unwrap()).unwrap();
    assert_eq!(
        Spec::read_frozen(&path).unwrap().data.folder,
        Path::new("/a$b/~")
    );
}

#[test]
fn misnamed_file_is_told_with_its_right_name() {
    let directory = Directory::new(&[
        ("base.yaml", b"seed: 3"),
        ("old.yml", b"seed: 4"),
        ("LOUD.YAML", b""),
        ("one.yaml", b"extends: base.yaml"),
        ("two.yaml", b"extends: base.yml"),
        ("three.yaml", b"extends: old"),
    ]);
    for (name, message) in [
        (
            "old",
            "no experiment 'old' in experiments/; there is old.yml: rename it to old.yaml",
        ),
        (
            "LOUD",
            "no experiment 'LOUD' in experiments/; there is LOUD.YAML: rename it to LOUD.yaml",
        ),
        (
            "old.yml",
            "no file 'old.yml'; did you mean 'experiments/old.yml'?",
        ),
        (
            "one",
            "experiments/one.yaml:1:10: extends: no experiment 'base.yaml' in experiments/; want its bare name: base",
        ),
        (
            "two",
            "experiments/two.yaml:1:10: extends: no experiment 'base.yml' in experiments/; want its bare name: base",
        ),
        (
            "three",
            "experiments/three.yaml:1:10: extends: no experiment 'old' in experiments/; there is old.yml: rename it to \
             old.yaml",
        ),
    ] {
        assert_eq!(directory.load(name, &[]).unwrap_err(), message);
    }
    let path = directory.path("old.yml");
    assert_eq!(
        directory.load(path.to_str().unwrap(), &[]).unwrap().seed,
        Seed(4)
    );
    let path = path.with_file_name("base");
    assert_eq!(
        directory.load(path.to_str().unwrap(), &[]).unwrap_err(),
        "no experiment 'experiments/base'; did you mean the file 'experiments/base.yaml'?"
    );
}

#[test]
fn anchors_of_values_are_read() {
    let directory = Directory::new(&[("a.yaml", b"seed: &n 5\neval: {batch_size: *n}")]);
    let spec = directory.load("a", &[]).unwrap();
    assert_eq!((spec.seed, spec.eval.batch_size), (Seed(5), 5));
}

#[test]
fn epochs_and_steps_replace_each_other_and_exclude_each_other_in_one_layer() {
    let directory = Directory::new(&[
        ("steps.yaml", b"train: {steps: 10}"),
        ("epochs.yaml", b"extends: steps\ntrain: {epochs: 2.5}"),
        ("again.yaml", b"extends: epochs\ntrain: {steps: 20}"),
        ("both.yaml", b"train:\n  epochs: 2.5\n  steps: 20"),
    ]);
    let length = |name: &str, set: &[&str]| {
        let spec = directory.load(name, set);
        spec.map(|spec| (spec.train.steps, spec.train.epochs))
    };
    assert_eq!(length("epochs", &[]), Ok((None, Some(2.5))));
    assert_eq!(length("again", &[]), Ok((Some(20), None)));
    assert_eq!(length("again", &["train.epochs=3"]), Ok((None, Some(3.0))));
    let error = |name: &str, set: &[&str]| length(name, set).unwrap_err();
    assert_eq!(
        error("both", &[]),
        "experiments/both.yaml:3:10: train.steps: got train.epochs (2:11) as well, want one of the two"
    );
    assert_eq!(
        error("steps", &["train.steps=5", "train.epochs=3"]),
        "--set train.epochs=3: got --set train.steps=5 as well, want one of the two"
    );
    assert_eq!(
        error("steps", &["train={steps: 5, epochs: 3}"]),
        "--set train={steps: 5, epochs: 3}: train.steps: got train.epochs (--set train={steps: 5, epochs: 3}) as well, \
         want one of the two"
    );
}

#[test]
fn older_names_and_values_mean_todays() {
    let directory = Directory::new(&[
        ("old.yaml", b"input: {flip: false, standardize: false}"),
        (
            "new.yaml",
            b"extends: old\ninput: {flip: true, normalize: dataset}",
        ),
        (
            "both.yaml",
            b"input:\n  standardize: true\n  normalize: none",
        ),
    ]);
    let input = |name: &str, set: &[&str]| {
        let spec = directory.load(name, set);
        spec.map(|spec| (spec.input.flip, spec.input.normalize))
    };
    assert_eq!(input("old", &[]), Ok((Flip::None, Normalize::None)));
    assert_eq!(input("new", &[]), Ok((Flip::Random, Normalize::Dataset)));
    let set = ["input.standardize=true"];
    assert_eq!(input("new", &set), Ok((Flip::Random, Normalize::Image)));
    assert_eq!(
        input("both", &[]).unwrap_err(),
        "experiments/both.yaml:3:3: input.normalize: got this key twice, want it once"
    );
    assert_eq!(
        input("old", &["input.standardize=channel"]).unwrap_err(),
        "--set input.standardize=channel: input.normalize: got \"channel\", want image or dataset or none"
    );
}

#[test]
fn field_without_effect_is_an_error_where_it_is_set() {
    let directory = Directory::new(&[
        ("mode.yaml", b"input: {pad_mode: reflect}"),
        ("padded.yaml", b"input: {pad: 4, pad_mode: reflect}"),
        ("plain.yaml", b"extends: padded\ninput: {pad: 0}"),
        ("again.yaml", b"extends: plain\ninput:\n  pad_mode: zero"),
    ]);
    let message = "no effect with input.pad 0, want input.pad of at least 1";
    let error = |name: &str, set: &[&str]| directory.load(name, set).unwrap_err();
    assert_eq!(
        error("mode", &[]),
        format!("experiments/mode.yaml:1:19: input.pad_mode: {message}")
    );
    assert_eq!(
        error("again", &[]),
        format!("experiments/again.yaml:3:13: input.pad_mode: {message}")
    );
    let set = "input.pad_mode=zero";
    assert_eq!(error("plain", &[set]), format!("--set {set}: {message}"));
    // Switched off above, where pad_mode need not be unset.
    assert_eq!(directory.load("plain", &[]).unwrap().input.pad, 0);
    assert!(directory.load("padded", &[]).is_ok());
    assert!(directory.load("mode", &["input.pad=1"]).is_ok());
    // A copy of a run's spec sets every field.
    let frozen = Spec::default().to_frozen_yaml().unwrap();
    let copy = Directory::new(&[("copy.yaml", frozen.as_bytes())]);
    assert_eq!(copy.load("copy", &[]), Ok(Spec::default()));
}
