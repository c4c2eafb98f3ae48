//! `runboard predict`: what a run's network makes of pictures.

use super::form::print_json;
use super::network::NetworkArgs;
use super::path;
use crate::catalog::map;
use crate::compute::{self, Predictions};
use crate::data::{
    ChangeCounts, Changes, ChannelStatistics, Images, Picture, RECORD_BYTES, find_pictures,
};
use crate::error::BAD_INPUT;
use crate::overview::{count, table};
use crate::run::commands;
use crate::spec::Spec;
use crate::{console, user_error};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value as Json, json};
use std::mem;
use std::path::{Path, PathBuf};

/// Pictures that are read before the network looks at them: 31 MB.
const CHUNK: usize = 10_000;

/// What to look at.
#[derive(Args, Debug)]
#[command(after_help = "\
A picture that is not 32x32 is made so as `runboard data import` does it: its central square, scaled (Lanczos), \
transparent parts on white, turned as its camera says. One that cannot be read is told and the others are predicted; \
the exit code is 2 then.")]
pub struct Arguments {
    #[command(flatten)]
    network: NetworkArgs,
    /// PNG or JPEG files, or folders, of which all .png, .jpg and .jpeg files are taken
    #[arg(value_name = "IMAGE", required = true, value_parser = path())]
    images: Vec<PathBuf>,
    /// Show so many classes, the most probable first
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
    /// Show only predictions and what cannot be read
    #[arg(long, short)]
    quiet: bool,
}

/// A picture, or what is wrong with it: as in "PATH {error}".
type Found = Result<PathBuf, (PathBuf, String)>;

/// What is told of a picture.
struct Told {
    path: PathBuf,
    /// What was done to make it fit, and the probability of each class.
    predicted: Result<(Changes, Vec<f64>), String>,
}

/// Shows the most probable classes of each picture.
pub fn predict(arguments: &Arguments) -> Result<i32> {
    let network = arguments
        .network
        .find(&[], None, commands::resume_with_data)?;
    let (spec, classes) = (&network.spec, &network.classes);

    let mut found: Vec<Found> = Vec::new();
    let mut passed_over = 0;
    for path in &arguments.images {
        let pictures = find_pictures(path);
        passed_over += pictures.passed_over;
        found.extend(pictures.files.into_iter().map(Ok));
        found.extend(pictures.problems.into_iter().map(Err));
    }
    let top = usize::from(arguments.top);
    let (mut all, mut looked) = (Vec::new(), None);
    for found in found.chunks(CHUNK) {
        let (told, predictions) = look(spec, network.statistics, &network.checkpoint.path, found)?;
        if let Some(predictions) = predictions
            && looked.is_none()
        {
            if !arguments.quiet {
                console::stderr_line(network.headline(&predictions.viewer));
            }
            looked = Some(predictions.viewer);
        }
        if !arguments.json {
            let rows = told.iter().filter_map(|told| row(told, classes, top));
            let rows = table(rows.collect(), &[], console::columns());
            if !rows.is_empty() {
                console::output(rows.join("\n"))?;
            }
        }
        for told in &told {
            if let Err(problem) = &told.predicted {
                let error = user_error!("{} {problem}", told.path.display());
                console::stderr_line(format_args!("error: {error}"));
            }
        }
        all.extend(told);
    }
    if arguments.json {
        let images: Vec<Json> = all.iter().map(|told| as_json(told, classes, top)).collect();
        let answer = json!({
            "run": network.run.id(),
            "step": network.checkpoint.step,
            "weights": looked.as_ref().map(|it| &it.weights),
            "device": looked.as_ref().map(|it| &it.device),
            "tta": spec.eval.tta,
            "views": looked.as_ref().map(|it| it.views),
            "images": images,
        });
        print_json(&answer)?;
    }
    if !arguments.quiet {
        changes(&all, passed_over)
            .iter()
            .for_each(console::stderr_line);
    }
    let failures = all.iter().filter(|told| told.predicted.is_err()).count();
    Ok(if failures > 0 { BAD_INPUT } else { 0 })
}

/// Reads these pictures, and has the network look at those that can be read.
fn look(
    spec: &Spec,
    statistics: Option<ChannelStatistics>,
    checkpoint: &Path,
    found: &[Found],
) -> Result<(Vec<Told>, Option<Predictions>)> {
    let pictures = map(found, |found| match found {
        Ok(path) => (path.clone(), Picture::read(path)),
        Err((path, problem)) => (path.clone(), Err(problem.clone())),
    });
    let mut records = Vec::new();
    for picture in pictures
        .iter()
        .filter_map(|(_, picture)| picture.as_ref().ok())
    {
        records.push(0); // a label, which has no say
        records.extend_from_slice(&picture.pixels);
    }
    let count = records.len() / RECORD_BYTES;
    let mut predictions = match count {
        0 => None,
        _ => Some(compute::predict(
            spec,
            statistics,
            checkpoint,
            &Images::from_records(records),
        )?),
    };
    let images = predictions.as_mut().map(|it| mem::take(&mut it.images));
    let images = images.unwrap_or_default();
    ensure!(
        images.len() == count,
        "got predictions of {} images, want {count}",
        images.len()
    );
    let mut images = images.into_iter();
    let told = pictures.into_iter().map(|(path, picture)| {
        let predicted = picture.and_then(|picture| {
            let probabilities = images.next().flatten();
            let probabilities = probabilities
                .ok_or("has no prediction: the network's output is no finite number")?;
            Ok((picture.changes, probabilities))
        });
        Told { path, predicted }
    });
    Ok((told.collect(), predictions))
}

/// The most probable classes, with their labels; of equal ones the first.
fn most_probable(probabilities: &[f64], top: usize) -> Vec<(usize, f64)> {
    let mut sorted: Vec<(usize, f64)> = probabilities.iter().copied().enumerate().collect();
    sorted.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    sorted.truncate(top);
    sorted
}

/// A line of the table; none for a picture that failed.
fn row(told: &Told, classes: &[String], top: usize) -> Option<Vec<String>> {
    let (_, probabilities) = told.predicted.as_ref().ok()?;
    let shown = |text: String| text.replace(char::is_control, "?");
    let mut row = vec![shown(told.path.display().to_string())];
    for (label, probability) in most_probable(probabilities, top) {
        row.push(format!(
            "{} {probability:.3}",
            shown(classes[label].clone())
        ));
    }
    Some(row)
}

fn as_json(told: &Told, classes: &[String], top: usize) -> Json {
    let image = told.path.to_string_lossy();
    match &told.predicted {
        Err(problem) => json!({ "image": image, "error": problem }),
        Ok((changes, probabilities)) => {
            let predictions = most_probable(probabilities, top).into_iter();
            let predictions = predictions.map(|(label, probability)| {
                json!({ "class": classes[label], "label": label, "probability": probability })
            });
            json!({
                "image": image,
                "predictions": predictions.collect::<Vec<_>>(),
                "cropped": changes.cropped,
                "scaled": changes.scaled,
                "transparent": changes.transparent,
            })
        }
    }
}

/// What was done to how many pictures, in lines.
fn changes(all: &[Told], passed_over: usize) -> Vec<String> {
    let mut counts = ChangeCounts::default();
    for (changes, _) in all.iter().flat_map(|told| &told.predicted) {
        counts.add(*changes);
    }
    let mut lines = counts.lines("picture");
    if passed_over > 0 {
        let files = count(passed_over, "file");
        lines.push(format!("passed over, as no .png, .jpg or .jpeg: {files}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_probable_classes_come_first_and_of_equal_ones_the_first() {
        let all = [0.1, 0.3, 0.2, 0.3, 0.1];
        assert_eq!(most_probable(&all, 3), [(1, 0.3), (3, 0.3), (2, 0.2)]);
        assert_eq!(most_probable(&all, 9).len(), 5);
    }

    #[test]
    fn changes_of_pictures_are_counted() {
        let told = |cropped, scaled| Told {
            path: PathBuf::new(),
            predicted: Ok((
                Changes {
                    cropped,
                    scaled,
                    transparent: false,
                },
                Vec::new(),
            )),
        };
        let all = [told(true, true), told(false, true), told(false, false)];
        assert_eq!(
            changes(&all, 1),
            [
                "1 picture was not square: cut to the central square",
                "2 pictures were of another size: scaled to 32x32",
                "passed over, as no .png, .jpg or .jpeg: 1 file"
            ]
        );
        assert!(changes(&all[2..], 0).is_empty());
    }
}
