//! What `runboard check` says of a run that is to come.

use crate::support::{Done, Project, copy_programs_that_tell_starts, with_sets};
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

/// Bytes of the files below a directory.
fn size(directory: &Path) -> u64 {
    let entries = WalkDir::new(directory).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|file| file.metadata().unwrap().len()).sum()
}

/// Bytes in `8.6 MB`, after `label` in a text.
fn told(text: &str, label: &str) -> u64 {
    let rest = text
        .split(label)
        .nth(1)
        .unwrap_or_else(|| panic!("no {label:?} in {text}"));
    let mut words = rest.split([' ', ',', '\n']);
    let number: f64 = words.next().unwrap().parse().unwrap();
    match words.next().unwrap() {
        "kB" => (number * 1e3) as u64,
        "MB" => (number * 1e6) as u64,
        unit => panic!("{unit} in {text}"),
    }
}

#[test]
fn check_tells_what_a_run_keeps_on_disk_within_a_factor_of_two() {
    let project = Project::new();
    for sets in [
        &["train.checkpoint_every=2", "train.keep_checkpoints=3"][..],
        &["train.histograms_every=1", "train.scalars_every=1"],
    ] {
        let out = project.succeed(&with_sets(&["check", "small"], sets)).out;
        project.succeed(&with_sets(&["run", "small"], sets));
        let run = project.newest("small").unwrap();
        for (label, found) in [
            ("disk: about ", size(&run)),
            ("evaluations ", size(&run.join("eval"))),
        ] {
            let told = told(&out, label);
            assert!(
                (told / 2..=told * 2).contains(&found),
                "{label}: {found} bytes, told {told}\n{out}"
            );
        }
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn check_tells_differences_data_and_what_a_user_trips_over() {
    let project = Project::new();
    project.write(
        "experiments/mine.yaml",
        "extends: small\ninput:\n  crop: 20\n",
    );
    let check = ["check", "mine", "--set", "seed=8"];
    let out = project.succeed(&check).out;
    for line in [
        "# mine: ok, device cpu\n",
        "\n# differs from the defaults:\n",
        "\n#   seed: 8 ",
        " --set\n",
        " experiments/mine.yaml:3:9\n",
        " experiments/small.yaml:3:19\n",
        "\n# note: input.brightness has no effect ",
        "\n# time: about ",
    ] {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
    let data = format!(
        "\n# data: to be generated in {}\n",
        project.path("data").display()
    );
    assert!(out.contains(&data), "{out}");
    assert!(!project.path("data").exists());
    project.succeed(&[
        "data",
        "synthesize",
        "real",
        "--train-images",
        "10",
        "--test-images",
        "10",
    ]);
    let real = project.path("real/synthetic-v1-10-10-seed1");
    let real = real.to_str().unwrap();
    let sets = ["--set", "data.source=cifar10", "--data", real];
    let out = project.succeed(&[&check[..], &sets].concat()).out;
    let data = format!("\n# data: {real}, 10 training images\n");
    assert!(out.contains(&data), "{out}");
    let sets = ["--set", "data.source=cifar10", "--set", "data.folder=typo"];
    let done = project.runboard(&[&check[..], &sets].concat());
    let wanted = "error: --set data.folder: no CIFAR-10 binary files in ";
    assert!(done.err.starts_with(wanted), "{}", done.err);
    let done = project.runboard(
        &[
            &check[..],
            &["--set", "data.source=cifar10", "--data", "typo"],
        ]
        .concat(),
    );
    assert_eq!(done.code, Some(2), "{}", done.out);
    let first = "# mine: data missing, device cpu\n";
    assert!(done.out.starts_with(first), "{}", done.out);
    let data = "\n# data: missing; data.download is for the default folder alone\n";
    assert!(done.out.contains(data), "{}", done.out);
    assert!(
        done.err
            .starts_with("error: --data: no CIFAR-10 binary files in "),
        "{}",
        done.err
    );
}

#[test]
fn check_starts_the_program_that_computes_once() {
    let project = Project::new();
    let program = copy_programs_that_tell_starts(&project);
    for sweep in [&[][..], &["--sweep", "network.local3.units=8,16"]] {
        let arguments = [&["check", "small"], sweep].concat();
        let done = project.command_of(&program, &arguments).output().unwrap();
        let done = Done::of(done);
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert!(done.out.contains("\n# time: about "), "{}", done.out);
        let starts = project.path("starts");
        assert_eq!(fs::read_to_string(&starts).unwrap(), "pace\n");
        fs::remove_file(starts).unwrap();
    }
}

#[test]
fn check_counts_the_images_that_are_held_out_once() {
    let project = Project::new();
    let sets = [
        "data.synthetic.train_images=100",
        "data.validation_images=60",
        "train.batch_size=10",
        "train.epochs=2",
    ];
    let out = project.succeed(&with_sets(&["check", "small"], &sets)).out;
    assert!(out.contains(" for 8 steps at "), "{out}");
}

#[test]
fn check_prints_the_points_of_a_sweep_and_creates_nothing() {
    let project = Project::new();
    project.write(
        "experiments/rates.yaml",
        "extends: small\nsweep:\n  parameters: {optimizer.learning_rate: [0.1, 0.25]}\n  seeds: 2\n",
    );
    let points = |arguments: &[&str]| {
        let out = project.succeed(arguments).out;
        let end = out.split_once("\n# sweep: ").unwrap().1.to_owned();
        end.split_once("\n# ranked by ").unwrap().0.to_owned()
    };
    let file = points(&["check", "rates"]);
    let lines: Vec<&str> = file.lines().collect();
    assert_eq!(
        lines[0],
        "grid of 2 settings with 2 seeds each: 4 points, 1 at once"
    );
    assert_eq!(lines[1], "#   point  learning_rate  seed  steps");
    assert_eq!(lines[5], "#   004    0.25           8     25");
    let rates = ["--sweep", "optimizer.learning_rate=0.1,0.25"];
    let line = [&["check", "small"], &rates[..], &["--sweep", "seed=7..8"]].concat();
    assert_eq!(points(&line), file);
    // Of many the first ones, and no field of the spec that has its default.
    let many = ["check", "small", "--sweep", "seed=1..30"];
    let out = project.succeed(&many).out;
    assert!(
        out.contains("\n#   and 10 more; with -v all are shown\n"),
        "{out}"
    );
    assert!(out.lines().all(|line| line.starts_with('#')), "{out}");
    let out = project.succeed(&[&many[..], &["-v"]].concat()).out;
    assert!(!out.contains(" more;") && out.contains("\nseed: "), "{out}");
    // Points that are not as fast as one another are timed each; of many, some.
    let time = |sweep: &str| {
        let out = project.succeed(&["check", "small", "--sweep", sweep]).out;
        let (_, time) = out.split_once("\n# time: about ").unwrap();
        time.lines().next().unwrap().to_owned()
    };
    let told = time("network.conv1.channels=8,16");
    let want = " 50 steps in all, as a few steps of each of 2 different networks or optimizers just now on cpu; ";
    assert!(told.contains(want), "{told}");
    let told = time("network.local3.units=8,16,24,32,40");
    let want = ", as a few steps of 4 of 5 different networks or optimizers, and the others by their multiplications, just now on ";
    assert!(told.contains(want), "{told}");
    // One bad value: nothing begins.
    let bad = [
        "run",
        "rates",
        "--set",
        "input.crop=32",
        "--sweep",
        "input.pad=1,40",
    ];
    let done = project.runboard(&bad);
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(
        done.err.contains("--sweep input.pad=1,40: "),
        "{}",
        done.err
    );
    assert!(!project.path("runs").exists() && !project.path("data").exists());
}

#[test]
fn endless_description_is_cut_for_people_alone() {
    let project = Project::new();
    let text = "word ".repeat(12_000);
    project.write(
        "experiments/long.yaml",
        format!("extends: small\ndescription: '{text}'\n"),
    );
    let shown = project.succeed(&["check", "long"]).out;
    assert!(shown.len() < 10_000, "{} bytes", shown.len());
    let begin = &text[..300];
    assert!(shown.contains(&format!("{begin}...")), "{shown}");
    let json = project.succeed(&["check", "long", "--json"]).out;
    assert!(json.contains(&text), "{} bytes", json.len());

    let run = project.fresh("described", &[]);
    let set = format!("description={text}");
    let resumed = project.succeed(&[
        "resume",
        run.to_str().unwrap(),
        "--set",
        &set,
        "--until",
        "5",
    ]);
    let change = format!("description is \"{begin}...\" and was ");
    assert!(resumed.out.contains(&change), "{}", resumed.out);
}
