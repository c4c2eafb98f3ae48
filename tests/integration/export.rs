//! `runboard export`: a run's network as files that PyTorch reads.

use crate::predict::write_test_images;
use crate::support::{Project, json, names, pytorchs_python, with_sets};
use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::Value;
use std::fs;
use std::process::Command;

/// The probabilities of all classes of each image, as `predict --json --top 10` has them.
fn probabilities(answer: &Value) -> Vec<[f64; 10]> {
    let images = answer["images"].as_array().unwrap().iter();
    let of = |image: &Value| {
        let mut all = [-1.0; 10];
        for found in image["predictions"].as_array().unwrap() {
            let label = found["label"].as_u64().unwrap() as usize;
            all[label] = found["probability"].as_f64().unwrap();
        }
        all
    };
    images.map(of).collect()
}

/// Trains an experiment with these settings, exports it, and has PyTorch predict with what was exported, where PyTorch is installed:
/// the same as `predict`, for test images and for others that have to be scaled.
fn check_with_pytorch(sets: &[&str]) {
    let project = Project::new();
    project.succeed(&with_sets(&["run", "small"], sets));
    project.succeed(&["export", "small", "-o", "exported", "--quiet"]);
    write_test_images(&project, "pictures", 30);
    let folder = project.path("pictures");
    let smooth = RgbImage::from_fn(75, 50, |x, y| {
        Rgb([3 * x as u8, 5 * y as u8, (x * y % 256) as u8])
    });
    smooth.save(folder.join("wide.png")).unwrap();
    let small = RgbImage::from_fn(9, 13, |x, y| Rgb([20 * x as u8, 15 * y as u8, 7]));
    small.save(folder.join("small.png")).unwrap();
    DynamicImage::from(smooth.clone())
        .to_luma16()
        .save(folder.join("deep.png"))
        .unwrap();
    let clear = RgbaImage::from_fn(64, 48, |x, y| {
        Rgba([4 * x as u8, 200, 5 * y as u8, 3 * x as u8])
    });
    clear.save(folder.join("clear.png")).unwrap();
    let words = ["predict", "small", "pictures", "--top", "10", "--json"];
    let answer: Value = serde_json::from_str(&project.succeed(&words).out).unwrap();
    let script = project.path("exported/network.py");
    let Some(mut python) = pytorchs_python(script.to_str().unwrap()) else {
        return;
    };
    let files = names(&folder);
    let files = files.iter().map(|name| format!("pictures/{name}"));
    python.args(["--json", "--top", "10"]).args(files);
    let output = python.current_dir(project.path("")).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    if err.contains("No module named") {
        eprintln!("not checked with network.py: {err}");
        return;
    }
    assert!(output.status.success(), "{err}");
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&theirs["run"], &theirs["step"]),
        (&answer["run"], &answer["step"])
    );
    let (ours, theirs) = (probabilities(&answer), probabilities(&theirs));
    assert_eq!((ours.len(), theirs.len()), (34, 34));
    let largest = ours.iter().flatten().zip(theirs.iter().flatten());
    let largest = largest
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f64::max);
    assert!(largest < 1e-4, "{largest}");
    // Not for want of a difference: these networks tell the images apart.
    let spread = ours
        .iter()
        .map(|it| (it[0] - ours[0][0]).abs())
        .fold(0.0, f64::max);
    assert!(spread > 1e-3, "{spread}");
}

#[test]
fn pytorch_predicts_the_same_with_the_exported_network_of_the_tutorial() {
    // Large weights, so that few steps tell images apart.
    check_with_pytorch(&[
        "network.conv1.channels=64",
        "network.conv2.channels=64",
        "network.local3.units=384",
        "network.local4.units=192",
        "network.conv1.stddev=0.1",
        "network.conv2.stddev=0.1",
        "train.steps=5",
        "optimizer.learning_rate=0.02",
    ]);
}

#[test]
fn pytorch_predicts_the_same_with_the_exported_network_of_another_kind() {
    check_with_pytorch(&[
        "network.conv1={channels: 12, kernel: 3, init: whitening}",
        "network.conv2={channels: 10, kernel: 7, init: he_normal}",
        "network.pool={size: 2, stride: 3}",
        "network.norm={name: none}",
        "network.softmax_linear.init=xavier",
        "network.local3={units: 20, init: he_normal}",
        "network.local4={units: 30, init: he_normal}",
        "input.crop=29",
        "input.normalize=dataset",
        "eval.tta=ten_crop",
        "average.name=none",
    ]);
}

#[test]
fn pytorch_predicts_the_same_with_other_normalisations_and_views_beyond_the_image() {
    check_with_pytorch(&[
        "network.norm={radius: 2, bias: 2, alpha: 0.01, beta: 0.5}",
        "network.pool={size: 4, stride: 2}",
        "input.crop=32",
        "network.conv1.stddev=0.01",
        "network.conv2.init=he_normal",
        "network.local3.init=he_normal",
        "network.local4.init=he_normal",
        "network.softmax_linear.init=xavier",
        "input.normalize=none",
        "optimizer.learning_rate=0.0001",
        "eval.tta=mirror_translate",
    ]);
}

#[test]
fn export_is_three_files_and_never_replaces_any() {
    let project = Project::new();
    project.succeed(&["run", "small", "--until", "1"]);
    let run = project.run("small");
    let timestamp = run.file_name().unwrap().to_str().unwrap().to_owned();
    let done = project.succeed(&["export", "small"]);
    let name = format!("small-{timestamp}-step-0");
    let first = format!("exported small/{timestamp} at step 0, the best, to {name}\n");
    assert!(done.out.starts_with(&first), "{}", done.out);
    let files = ["network.json", "network.py", "weights.safetensors"];
    assert_eq!(names(&project.path(&name)), files);
    let network = json(&project.path(&name).join("network.json"));
    assert_eq!(
        (&network["version"], &network["step"]),
        (&1.into(), &0.into())
    );
    assert_eq!(network["labels"].as_array().unwrap().len(), 10);
    assert_eq!(network["input"]["views"].as_array().unwrap().len(), 1);
    let python = Command::new("python3")
        .args(["-m", "py_compile", "network.py"])
        .current_dir(project.path(&name))
        .output()
        .unwrap();
    assert!(
        python.status.success(),
        "{}",
        String::from_utf8_lossy(&python.stderr)
    );
    let before = fs::read(project.path(&name).join("network.json")).unwrap();
    let refused = project.runboard(&["export", "small"]);
    assert_eq!(refused.code, Some(2));
    assert_eq!(
        refused.err,
        format!("error: {name} is there already; want another place: -o DIR\n")
    );
    assert_eq!(
        fs::read(project.path(&name).join("network.json")).unwrap(),
        before
    );
    let refused = project.runboard(&["export", "small", "-o", "no/where"]);
    assert_eq!(
        refused.err,
        "error: -o no/where: there is no directory no\n"
    );
    let refused = project.runboard(&["export", "small", "-o", ""]);
    assert_eq!(
        refused.err,
        "error: -o: got nothing, want a directory to make\n"
    );
    let refused = project.runboard(&["export", "small", "-o", "out", "--checkpoint", "7"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(!project.path("out").exists());
    // Nothing is left of what was refused.
    let left = names(&project.path(""));
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
}
