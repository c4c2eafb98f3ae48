//! `runboard predict`: what a run's network makes of pictures.

use crate::json::assert_documented;
use crate::support::{Done, Project, copy_programs_that_tell_starts, journal, with_sets};
use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};
use runboard::checkpoint;
use serde_json::Value;
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

/// Side of a stored image, and the bytes of one with its label.
const SIDE: usize = 32;
const RECORD_BYTES: usize = 1 + 3 * SIDE * SIDE;

/// Writes the first test images of a project's data set as PNG files into `folder`, and returns their labels in the order of
/// the files' names.
pub fn write_test_images(project: &Project, folder: &str, count: usize) -> Vec<u64> {
    let files = WalkDir::new(project.path("data")).into_iter().flatten();
    let mut files = files.filter(|file| file.file_name() == "test_batch.bin");
    let records = fs::read(files.next().expect("a test file").path()).unwrap();
    fs::create_dir_all(project.path(folder)).unwrap();
    let records = records.chunks_exact(RECORD_BYTES).take(count).enumerate();
    let write = |(index, record): (usize, &[u8])| {
        let image = RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            let at = |channel| 1 + (channel * SIDE + y as usize) * SIDE + x as usize;
            Rgb([0, 1, 2].map(|channel| record[at(channel)]))
        });
        let path = project.path(folder).join(format!("{index:05}.png"));
        image.save(path).unwrap();
        record[0].into()
    };
    records.map(write).collect()
}

/// What `predict --json` prints.
fn predicted(project: &Project, arguments: &[&str]) -> Value {
    let words = [&["predict"], arguments, &["--json"]].concat();
    serde_json::from_str(&project.succeed(&words).out).unwrap()
}

fn accuracy(predicted: &Value, labels: &[u64]) -> f64 {
    let images = predicted["images"].as_array().unwrap();
    assert_eq!(images.len(), labels.len());
    let hits = images
        .iter()
        .zip(labels)
        .filter(|(image, label)| image["predictions"][0]["label"] == **label);
    hits.count() as f64 / labels.len() as f64
}

#[test]
fn predictions_of_test_images_are_those_of_the_evaluator() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "optimizer.learning_rate=0.02"]);
    let labels = write_test_images(&project, "pictures", 200);
    let run = project.run("small");
    let journal = journal(&run);
    let scored = |step: &Value| journal.iter().find(|line| &line["step"] == step).unwrap();
    for (arguments, shown) in [
        (&["--checkpoint", "last"][..], "at step 24, the last;"),
        (&["--checkpoint", "10"], "at step 10;"),
        (&["--checkpoint", "best"], ", the best;"),
        (&[], ", the best;"),
    ] {
        let arguments = [&["small", "pictures"], arguments].concat();
        let answer = predicted(&project, &arguments);
        let want = scored(&answer["step"])["accuracy"].as_f64().unwrap();
        assert_eq!(accuracy(&answer, &labels), want, "{arguments:?}");
        assert_eq!(answer["weights"], "ema");
        let err = project
            .succeed(&[&["predict"], &arguments[..]].concat())
            .err;
        assert!(err.contains(shown), "{err}");
        assert!(err.contains("averaged weights, on cpu\n"), "{err}");
    }
    // In turns of 64, as evaluation does it, or one by one.
    let one = predicted(&project, &["small", "pictures/00150.png", "--top", "10"]);
    let all = predicted(&project, &["small", "pictures", "--top", "10"]);
    let probability = |answer: &Value, index: usize| {
        answer["images"][index]["predictions"][0]["probability"]
            .as_f64()
            .unwrap()
    };
    assert!((probability(&one, 0) - probability(&all, 150)).abs() < 1e-6);
    let sum = one["images"][0]["predictions"].as_array().unwrap().iter();
    let sum: f64 = sum.map(|it| it["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
}

/// What `score --json` prints.
fn scored(project: &Project, arguments: &[&str]) -> Value {
    let words = [&["score"], arguments, &["--json"]].concat();
    let done = project.succeed(&words);
    assert_eq!(done.err, "");
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn scores_are_those_of_the_evaluator_of_any_checkpoint_images_and_views() {
    let project = Project::new();
    let held_out = ["--set", "data.validation_images=100"];
    project.succeed(&[&["run", "small"], &held_out[..]].concat());
    let run = project.run("small");
    let before = fs::read(run.join("evaluations.jsonl")).unwrap();
    let of_step = |journal: &[Value], step: &Value| -> Value {
        let found = journal.iter().find(|line| &line["step"] == step);
        found.unwrap().clone()
    };
    let evaluated = journal(&run);
    for checkpoint in ["last", "best", "10"] {
        let answer = scored(&project, &["small", "--checkpoint", checkpoint]);
        let want = of_step(&evaluated, &answer["step"]);
        assert_eq!(answer["accuracy"], want["accuracy"], "{checkpoint}");
        assert_eq!(answer["loss"], want["loss"], "{checkpoint}");
        assert_eq!(answer["tta_accuracy"], Value::Null);
        let classes = answer["classes"].as_array().unwrap();
        let images: u64 = classes
            .iter()
            .map(|it| it["images"].as_u64().unwrap())
            .sum();
        assert_eq!((classes.len(), images), (10, 200));
        // The classes' hits are those of the accuracy: these synthetic images have no two equal logits.
        let hits = classes.iter().enumerate();
        let hits: u64 = hits
            .map(|(label, it)| it["predicted_as"][label].as_u64().unwrap())
            .sum();
        assert_eq!(hits as f64 / 200.0, answer["accuracy"].as_f64().unwrap());
    }
    let last = of_step(&evaluated, &24.into());
    let validation = scored(
        &project,
        &["small", "--checkpoint", "last", "--on", "validation"],
    );
    assert_eq!(validation["accuracy"], last["validation_accuracy"]);
    assert_eq!(validation["images"], 100);
    let training = scored(&project, &["small", "--on", "training"]);
    assert_eq!(
        (&training["images"], &training["on"]),
        (&900.into(), &"training".into())
    );

    // Views that the run was not evaluated by, as one that was.
    project.succeed(&[&["run", "small", "--set", "eval.tta=mirror"], &held_out[..]].concat());
    let with_views = journal(&project.newest("small").unwrap());
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    let answer = scored(&project, &[&id, "--checkpoint", "last", "--tta", "mirror"]);
    let want = of_step(&with_views, &24.into());
    assert_eq!(answer["tta_accuracy"], want["tta_accuracy"]);
    assert_eq!(answer["tta_loss"], want["tta_loss"]);
    assert_eq!(
        (&answer["views"], &answer["accuracy"]),
        (&2.into(), &last["accuracy"])
    );
    assert_documented("score", &[&answer]);
    let done = project.succeed(&["score", &id, "--tta", "mirror"]);
    assert!(
        done.out.starts_with("200 test images: accuracy 0."),
        "{}",
        done.out
    );
    assert!(
        done.out.contains("\nby 2 views of each: accuracy 0."),
        "{}",
        done.out
    );
    assert!(
        done.err
            .contains("averaged weights, on cpu; 2 views of each image"),
        "{}",
        done.err
    );
    assert_eq!(fs::read(run.join("evaluations.jsonl")).unwrap(), before);
}

#[test]
fn scores_are_of_other_images_with_the_same_classes_and_of_no_others() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "eval.interval_secs=1"]);
    let synthesize = [
        "data",
        "synthesize",
        "other",
        "--seed",
        "9",
        "--train-images",
        "100",
        "--test-images",
        "100",
    ];
    project.succeed(&synthesize);
    let made = WalkDir::new(project.path("other")).into_iter().flatten();
    let mut made = made.filter(|file| file.file_name() == "test_batch.bin");
    let folder = made.next().unwrap().path().parent().unwrap().to_owned();
    let folder = folder.to_str().unwrap();
    let own = scored(&project, &["small"]);
    let other = scored(&project, &["small", "--data", folder]);
    assert_ne!(own["loss"], other["loss"]);
    let meta = Path::new(folder).join("batches.meta.txt");
    let names = fs::read_to_string(&meta).unwrap();
    // The same classes by other numbers.
    let mut order: Vec<&str> = names.lines().filter(|name| !name.is_empty()).collect();
    order.swap(0, 1);
    fs::write(&meta, order.join("\n")).unwrap();
    let file = Path::new(folder).join("test_batch.bin");
    let mut records = fs::read(&file).unwrap();
    for record in records.chunks_exact_mut(RECORD_BYTES) {
        record[0] = [1, 0, 2, 3, 4, 5, 6, 7, 8, 9][usize::from(record[0])];
    }
    fs::write(&file, records).unwrap();
    assert_eq!(scored(&project, &["small", "--data", folder]), other);
    fs::write(&meta, names.replacen("disc", "coin", 1)).unwrap();
    for (arguments, want) in [
        (&["--data", folder][..], ": got the classes "),
        (&["--data", "nowhere"], "nowhere"),
        (&["--on", "validation"], "--on validation: small/"),
        (
            &["--on", "validation", "--data", folder],
            " has not the training files of small/",
        ),
        (&["--tta", "mirrored"], "'mirrored' for '--tta <VIEWS>'"),
        (&["--tta", "ten_crop", "--data", folder], "got the classes"),
        (&["--checkpoint", "7"], "no checkpoint of step 7"),
    ] {
        let error = project.refused(&[&["score", "small"], arguments].concat());
        assert!(error.contains(want), "{arguments:?}: {error}");
    }
}

#[test]
fn predictions_are_by_the_views_and_the_statistics_of_the_runs_evaluation() {
    let project = Project::new();
    project.succeed(&[
        "run",
        "small",
        "--set",
        "eval.tta=mirror_translate",
        "--set",
        "input.crop=32",
        "--set",
        "input.normalize=dataset",
        "--set",
        "data.validation_images=100",
        "--set",
        "average.name=none",
    ]);
    let labels = write_test_images(&project, "pictures", 200);
    let answer = predicted(&project, &["small", "pictures", "--checkpoint", "last"]);
    let journal = journal(&project.run("small"));
    let want = journal.last().unwrap()["tta_accuracy"].as_f64().unwrap();
    assert_eq!(accuracy(&answer, &labels), want);
    assert_eq!(
        (&answer["views"], &answer["tta"]),
        (&6.into(), &"mirror_translate".into())
    );
    assert_eq!(answer["weights"], "weights");
    let done = project.succeed(&["predict", "small", "pictures/00000.png"]);
    assert!(
        done.err
            .contains("6 views of each image (eval.tta: mirror_translate)"),
        "{}",
        done.err
    );
}

#[test]
fn pictures_of_every_kind_are_predicted_and_those_that_cannot_be_read_are_told() {
    let project = Project::new();
    project.succeed(&["run", "small", "--until", "1"]);
    let folder = project.path("pictures");
    fs::create_dir_all(folder.join("more")).unwrap();
    fs::create_dir_all(project.path("empty")).unwrap();
    let picture = RgbImage::from_fn(48, 40, |x, y| Rgb([5 * x as u8, 6 * y as u8, 90]));
    let save = |name: &str, image: DynamicImage| image.save(folder.join(name)).unwrap();
    save("rgb.png", picture.clone().into());
    save("rgb.jpg", picture.clone().into());
    save(
        "more/grey.jpeg",
        DynamicImage::from(picture.clone()).to_luma8().into(),
    );
    save(
        "deep.png",
        DynamicImage::from(picture.clone()).to_rgb16().into(),
    );
    save(
        "grey-deep.png",
        DynamicImage::from(picture.clone()).to_luma16().into(),
    );
    save(
        "clear.png",
        RgbaImage::from_pixel(32, 32, Rgba([9, 8, 7, 100])).into(),
    );
    let cmyk = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/cmyk.jpg");
    fs::copy(cmyk, folder.join("cmyk.jpg")).unwrap();
    fs::write(folder.join("notes.txt"), "no picture").unwrap();
    let all = [
        "clear.png",
        "cmyk.jpg",
        "deep.png",
        "grey-deep.png",
        "more/grey.jpeg",
        "rgb.jpg",
        "rgb.png",
    ];
    let names = |answer: &Value| -> Vec<String> {
        let images = answer["images"].as_array().unwrap().iter();
        images
            .map(|it| it["image"].as_str().unwrap().to_owned())
            .collect()
    };
    let answer = predicted(&project, &["small", "pictures"]);
    assert_eq!(names(&answer), all.map(|name| format!("pictures/{name}")));
    let done = project.succeed(&["predict", "small", "pictures", "--top", "1"]);
    assert_eq!(done.out.lines().count(), 7);
    for line in [
        "5 pictures were not square: cut to the central square",
        "5 pictures were of another size: scaled to 32x32",
        "1 picture was transparent: composed on white",
        "passed over, as no .png, .jpg or .jpeg: 1 file",
    ] {
        assert!(
            done.err.lines().any(|it| it == line),
            "{line}: {}",
            done.err
        );
    }
    assert_eq!(
        project
            .succeed(&["predict", "small", "pictures", "--quiet"])
            .err,
        ""
    );

    // One after the other, whatever is wrong with some.
    let png = fs::read(folder.join("rgb.png")).unwrap();
    project.write("cut.png", &png[..png.len() / 2]);
    project.write("text.png", "text");
    let named: [&str; 6] = [
        "pictures/rgb.png",
        "cut.png",
        "empty",
        "nothing.png",
        "text.png",
        "pictures/cmyk.jpg",
    ];
    let words = [&["predict", "small"], &named[..]].concat();
    let done = project.runboard(&words);
    assert_eq!(done.code, Some(2), "{}", done.err);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", done.out);
    assert!(lines[0].starts_with("pictures/rgb.png") && lines[1].starts_with("pictures/cmyk.jpg"));
    for want in [
        "error: cut.png is damaged: ",
        "error: empty has no .png, .jpg or .jpeg file\n",
        "error: nothing.png cannot be read: No such file",
        "error: text.png is no PNG or JPEG image\n",
    ] {
        assert!(done.err.contains(want), "{want}: {}", done.err);
    }
    let done = project.runboard(&[&words[..], &["--json"]].concat());
    assert_eq!(done.code, Some(2));
    let answer: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(names(&answer), named);
    assert_eq!(
        answer["images"][2]["error"],
        "has no .png, .jpg or .jpeg file"
    );
    // Also where none is left.
    let done = project.runboard(&["predict", "small", "empty"]);
    assert_eq!((done.code, &*done.out), (Some(2), ""));
}

#[test]
fn predict_starts_the_program_that_computes_once() {
    let project = Project::new();
    let run = project.fresh("one", &[]);
    let run = run.to_str().unwrap();
    project.succeed(&["train", "--run", run, "--until", "1"]);
    let program = copy_programs_that_tell_starts(&project);
    RgbImage::new(32, 32).save(project.path("a.png")).unwrap();
    let words = ["predict", run, "a.png"];
    let done = Done::of(project.command_of(&program, &words).output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.starts_with("a.png "), "{}", done.out);
    let starts = fs::read_to_string(project.path("starts")).unwrap();
    assert_eq!(starts, "predict\n");
}

#[test]
fn network_that_normalises_by_all_training_images_predicts_where_they_are_not() {
    let project = Project::new();
    let images = ["--train-images", "200", "--test-images", "50"];
    project.succeed(&[&["data", "synthesize", "images"], &images[..]].concat());
    let made = WalkDir::new(project.path("images")).into_iter().flatten();
    let mut made = made.filter(|file| file.file_name() == "test_batch.bin");
    let folder = made.next().unwrap().path().parent().unwrap().to_owned();
    RgbImage::from_fn(32, 32, |x, y| Rgb([x as u8 * 8, y as u8 * 8, 90]))
        .save(project.path("a.png"))
        .unwrap();
    let sets = [
        "data.source=cifar10",
        "data.validation_images=20",
        "input.normalize=dataset",
    ];
    let run = [
        "run",
        "small",
        "--quiet",
        "--data",
        folder.to_str().unwrap(),
    ];
    project.succeed(&with_sets(&run, &sets));
    let run = project.run("small");
    let predict = || predicted(&project, &["small", "a.png"]);
    let (picture, held_out) = (
        predict(),
        scored(&project, &["small", "--on", "validation"]),
    );

    let moved = project.path("moved");
    fs::rename(&folder, &moved).unwrap();
    assert_eq!(predict(), picture);
    project.succeed(&["export", "small", "-o", "exported"]);
    let lost = project.runboard(&["score", "small"]);
    assert_eq!(lost.code, Some(2), "{}", lost.err);
    assert!(lost.err.contains("runboard score "), "{}", lost.err);
    assert!(lost.err.contains(" --data DIR"), "{}", lost.err);
    let found = ["small", "--data", moved.to_str().unwrap(), "--on"];
    let validation = scored(&project, &[&found[..], &["validation"]].concat());
    assert_eq!(validation, held_out);
    let training = scored(&project, &[&found[..], &["training"]].concat());
    assert_eq!(training["images"], 180);

    // A checkpoint of an earlier version has no statistics.
    let checkpoints = run.join("checkpoints");
    let best = fs::canonicalize(checkpoints.join("best")).unwrap();
    let mut earlier = checkpoint::load(&best).unwrap();
    assert!(earlier.state.statistics.take().is_some());
    checkpoint::save(&checkpoints, &earlier).unwrap();
    let lost = project.runboard(&["predict", "small", "a.png"]);
    assert_eq!(lost.code, Some(2), "{}", lost.err);
    assert!(lost.err.contains("the data of small/"), "{}", lost.err);
    let validation = scored(&project, &[&found[..], &["validation"]].concat());
    assert_eq!(validation, held_out);
    // The run's training files beside another test file.
    let mut test = fs::read(moved.join("test_batch.bin")).unwrap();
    test[7] ^= 1;
    fs::write(moved.join("test_batch.bin"), test).unwrap();
    let validation = scored(&project, &[&found[..], &["validation"]].concat());
    assert_eq!(validation, held_out);
    fs::rename(&moved, &folder).unwrap();
    assert_eq!(predict(), picture);
}

#[test]
fn predict_says_which_checkpoints_there_are() {
    let project = Project::new();
    let run = project.fresh("one", &[]);
    RgbImage::new(32, 32).save(project.path("a.png")).unwrap();
    let run_name = run.to_str().unwrap();
    let error = |arguments: &[&str]| {
        let done = project.runboard(&[&["predict", run_name, "a.png"], arguments].concat());
        assert_eq!(done.code, Some(2), "{}", done.out);
        done.err
    };
    let none = error(&[]);
    let want = "error: one/20260101-000000 has no checkpoint in ";
    assert!(
        none.starts_with(want) && none.ends_with(": train it first\n"),
        "{none}"
    );
    project.succeed(&["train", "--run", run_name, "--until", "11"]);
    let missing = error(&["--checkpoint", "5"]);
    assert!(missing.contains("no checkpoint of step 5 in "), "{missing}");
    assert!(missing.ends_with("there are those of 0, 10\n"), "{missing}");
    assert!(error(&["--checkpoint", "first"]).contains("want a checkpoint's step, best or last"));
    assert!(error(&["--checkpoint", "best"]).contains("no checkpoint is evaluated yet"));
    assert!(error(&["--device", "cuda:7"]).contains("--device: got 'cuda:7', but libtorch sees "));
    let done = project.succeed(&["predict", run_name, "a.png"]);
    assert!(
        done.err
            .contains("at step 10, the last, as no checkpoint that is there is scored;"),
        "{}",
        done.err
    );
    damage(&run.join("checkpoints/step-00000010/ema.safetensors"));
    let damaged = error(&[]);
    assert!(
        damaged.contains("failed to load checkpoint ") && damaged.contains("ema.safetensors"),
        "{damaged}"
    );
    assert!(
        damaged.ends_with("; for another one: --checkpoint STEP; there are those of 0\n"),
        "{damaged}"
    );
    project.succeed(&["predict", run_name, "a.png", "--checkpoint", "0"]);
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}
