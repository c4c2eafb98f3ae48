//! Checkpoints on disk: damaged, foreign, kept, and read from Python.

use crate::support::{Done, Project, json, last_weights, names, python, respecify};
use serde_json::json;
use std::fs;
use std::path::Path;

const FILES: [&str; 4] = [
    "weights.safetensors",
    "ema.safetensors",
    "state.json",
    "manifest.json",
];

type Damage = fn(&Path);

/// What can happen to a file.
const DAMAGES: [(&str, Damage); 4] = [
    ("cut short", |file| {
        let length = fs::metadata(file).unwrap().len();
        let open = fs::File::options().write(true).open(file).unwrap();
        open.set_len(length / 2).unwrap();
    }),
    ("emptied", |file| fs::write(file, "").unwrap()),
    ("deleted", |file| fs::remove_file(file).unwrap()),
    ("flipped", |file| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }),
];

/// `small` with a checkpoint at every step, none of which waits for an evaluator.
fn project() -> Project {
    let project = Project::new();
    let train = "train: {checkpoint_every: 1, keep_checkpoints: 100}\neval: {policy: latest}";
    project.write(
        "experiments/saving.yaml",
        format!("extends: small\n{train}\n"),
    );
    project
}

fn train(project: &Project, run: &Path) -> Done {
    project.runboard(&["train", "--run", run.to_str().unwrap()])
}

fn checkpoint(run: &Path, step: usize) -> std::path::PathBuf {
    run.join(format!("checkpoints/step-{step:08}"))
}

#[test]
fn damaged_checkpoints_are_named_and_quarantined_and_their_steps_trained_again() {
    let project = project();
    let run = project.prepare("saving", "saving/20260101-000000", &[]);
    assert_eq!(train(&project, &run).code, Some(0));
    let (want, kept) = (last_weights(&run), names(&run.join("checkpoints")));
    assert_eq!(kept.len(), 25);

    // Each kind of damage to each kind of file, one a checkpoint, from the newest one down.
    let damages = FILES
        .iter()
        .flat_map(|file| DAMAGES.map(|damage| (*file, damage)));
    let damaged: Vec<_> = damages.zip((0..25).rev()).collect();
    for ((file, (_, damage)), step) in &damaged {
        damage(&checkpoint(&run, *step).join(file));
    }
    let done = train(&project, &run);
    assert_eq!(done.code, Some(0), "{}", done.err);
    for ((file, (kind, _)), step) in &damaged {
        let path = checkpoint(&run, *step);
        let begin = format!("warning: failed to load checkpoint {}: ", path.display());
        let line = done.out.lines().find_map(|line| line.strip_prefix(&begin));
        let line = line.unwrap_or_else(|| panic!("nothing of {file} {kind}: {}", done.out));
        let (what, damaged_path) = line.split_once("; it is quarantined as ").unwrap();
        assert!(what.contains(file), "{file} {kind}: {what}");
        assert_eq!(damaged_path, format!("{}.damaged", path.display()));
        assert!(Path::new(damaged_path).is_dir());
        let told = match (*kind, *file) {
            ("deleted", _) => "No such file or directory",
            (_, "manifest.json") => "manifest.json: ",
            ("flipped", _) => ": checksum mismatch: got ",
            _ => " bytes, want ",
        };
        assert!(what.contains(told), "{file} {kind}: {what}");
    }
    assert!(done.out.contains(", steps 9 to 24\n"), "{}", done.out);
    assert!(last_weights(&run) == want);
    let whole = names(&run.join("checkpoints"));
    let whole: Vec<_> = whole.iter().filter(|name| !name.contains('.')).collect();
    assert_eq!(whole, kept.iter().collect::<Vec<_>>());
}

#[test]
fn training_does_not_begin_anew_without_a_whole_checkpoint() {
    let project = project();
    let run = project.prepare("saving", "saving/20260101-000000", &[]);
    assert_eq!(train(&project, &run).code, Some(0));
    let curves = fs::metadata(run.join("train").join(&names(&run.join("train"))[0])).unwrap();
    for step in 0..25 {
        let manifest = checkpoint(&run, step).join("manifest.json");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 7")).unwrap();
    }
    let done = train(&project, &run);
    assert_eq!(done.code, Some(2), "{}", done.err);
    let directory = run.join("checkpoints");
    let begin = format!(
        "error: no whole checkpoint in {}: put one there from a copy, or, to train from the beginning, \
         remove the directory\n  failed to load checkpoint {}: manifest.json: got format 7, want 1\n",
        directory.display(),
        checkpoint(&run, 24).display()
    );
    assert!(done.err.starts_with(&begin), "{}", done.err);
    // All is as it was: another version can go on.
    assert_eq!(names(&directory).len(), 25);
    let after = fs::metadata(run.join("train").join(&names(&run.join("train"))[0])).unwrap();
    assert_eq!(after.len(), curves.len());

    fs::remove_dir_all(&directory).unwrap();
    let done = train(&project, &run);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains(", steps 0 to 24\n"), "{}", done.out);
}

#[test]
fn checkpoint_is_recovered_after_a_crash_while_it_was_replaced() {
    let project = project();
    let run = project.prepare("saving", "saving/20260101-000000", &[]);
    assert_eq!(train(&project, &run).code, Some(0));
    let (want, kept) = (last_weights(&run), names(&run.join("checkpoints")));
    // Between two renames of a file system that cannot exchange names.
    let last = checkpoint(&run, 24);
    fs::rename(&last, last.with_extension("old")).unwrap();
    fs::create_dir(last.with_extension("tmp")).unwrap();
    let done = train(&project, &run);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let trained = " is trained already, all 25 steps\n";
    assert!(done.out.contains(trained), "{}", done.out);
    assert!(last_weights(&run) == want);
    assert_eq!(names(&run.join("checkpoints")), kept);
}

#[test]
fn checkpoint_of_another_network_is_refused() {
    let project = project();
    let run = project.prepare("saving", "saving/20260101-000000", &[]);
    assert_eq!(train(&project, &run).code, Some(0));
    respecify(&run, "units: 32", "units: 31");
    let done = train(&project, &run);
    assert_eq!(done.code, Some(2), "{}", done.err);
    let want = format!(
        "error: {} does not fit the network of {}: parameter local3/weights: got shape [288, 32], want [288, 31]\n",
        checkpoint(&run, 24).display(),
        run.join("spec.yaml").display()
    );
    assert_eq!(done.err, want);
    assert_eq!(names(&run.join("checkpoints")).len(), 25);
}

#[test]
fn best_checkpoint_by_evaluation_stays_and_is_linked() {
    let project = project();
    let run = project.prepare("saving", "saving/20260101-000000", &[]);
    respecify(&run, "keep_checkpoints: 100", "keep_checkpoints: 1");
    respecify(&run, "steps: 25", "steps: 3");
    assert_eq!(train(&project, &run).code, Some(0));
    let path = run.to_str().unwrap();
    project.succeed(&["eval", "--run", path]);
    let best = "step-00000002";
    let directory = run.join("checkpoints");

    // Steps further, which nobody has evaluated yet.
    respecify(&run, "steps: 3", "steps: 25");
    assert_eq!(train(&project, &run).code, Some(0));
    assert_eq!(names(&directory), ["best", best, "step-00000024"]);
    assert_eq!(
        fs::read_link(directory.join("best")).unwrap(),
        Path::new(best)
    );
    // Nobody trips over the link, which follows what evaluation finds.
    let eval = project.succeed(&["eval", "--run", path]).out;
    assert!(eval.contains("precision @ 1 = "), "{eval}");
    assert_eq!(train(&project, &run).code, Some(0));
    let best = json(&run.join("eval.status.json"))["best"]["step"].clone();
    let linked = json(&directory.join("best/state.json"))["step"].clone();
    assert_eq!(linked, best);
}

#[test]
fn checkpoint_that_another_process_reads_is_not_removed() {
    let project = project();
    let run = project.prepare("saving", "saving/20260101-000000", &[]);
    respecify(&run, "keep_checkpoints: 100", "keep_checkpoints: 1");
    let train_to = |from: u64, to: u64| {
        respecify(&run, &format!("steps: {from}"), &format!("steps: {to}"));
        assert_eq!(train(&project, &run).code, Some(0));
        names(&run.join("checkpoints"))
    };
    assert_eq!(train_to(25, 3), ["step-00000002"]);
    let manifest = fs::File::open(checkpoint(&run, 2).join("manifest.json")).unwrap();
    manifest.lock_shared().unwrap();
    assert_eq!(train_to(3, 6), ["step-00000002", "step-00000005"]);
    drop(manifest);
    // Nothing is left to train: what stays is decided by what is there.
    assert_eq!(train_to(6, 6), ["step-00000005"]);
}

#[test]
fn checkpoint_is_read_from_python_by_the_same_names() {
    let project = Project::new();
    project.succeed(&["run", "small"]);
    let checkpoint = project.run("small").join("checkpoints/step-00000024");
    for file in ["weights.safetensors", "ema.safetensors"] {
        let Some(read) = python("tests/read_checkpoint.py", &checkpoint.join(file)) else {
            return;
        };
        let shapes = json!({
            "conv1/weights": [8, 3, 5, 5],
            "conv1/biases": [8],
            "conv2/weights": [8, 8, 5, 5],
            "conv2/biases": [8],
            "local3/weights": [288, 32],
            "local3/biases": [32],
            "local4/weights": [32, 16],
            "local4/biases": [16],
            "softmax_linear/weights": [16, 10],
            "softmax_linear/biases": [10],
        });
        let read = read.as_object().unwrap();
        assert_eq!(read.len(), shapes.as_object().unwrap().len());
        for (name, tensor) in read {
            assert_eq!(tensor["shape"], shapes[name], "{name}");
            assert_eq!(tensor["dtype"], "float32", "{name}");
        }
        let bytes = fs::read(checkpoint.join(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, tensor) in tensors.tensors() {
            let values = tensor.data().chunks_exact(4);
            let values = values.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
            let sum = values.sum::<f64>();
            let got = read[&name]["sum"].as_f64().unwrap();
            assert!((got - sum).abs() < 1e-9, "{name}: got {got}, want {sum}");
        }
    }
}

#[test]
fn checkpoint_that_is_removed_without_an_evaluation_is_named() {
    let project = Project::new();
    let sets = [
        "train={steps: 104, checkpoint_every: 1, keep_checkpoints: 1, batch_size: 4}",
        "input.crop=8",
    ];
    let run = project.fresh("alone", &sets);
    let done = project.succeed(&["train", "--run", "alone"]);
    let told = done.out.lines().chain(done.err.lines());
    let told: Vec<&str> = told.filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for (step, line) in told.iter().enumerate() {
        let want = format!(
            "checkpoints/step-{step:08} is removed without an evaluation: more than 100 wait for theirs"
        );
        assert!(line.ends_with(&want), "{line}");
    }
    assert_eq!(names(&run.join("checkpoints")).len(), 100);
}
