//! `runboard score`: how good a run's network is on images with labels.

use super::form::print_json;
use super::network::{ChosenNetwork, NetworkArgs};
use super::path;
use crate::catalog::{Form, Head, Kind, Table, Value};
use crate::compute::{self, Measurement};
use crate::data::{self, Images, RECORD_BYTES, Split};
use crate::overview::count;
use crate::run::data::{RunData, TrainingData};
use crate::run::{commands, data as run_data};
use crate::spec::{Field, Override};
use crate::{bail_user, console};
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

/// Which network, and on which images.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing of the run is changed: what the evaluator has scored, and which checkpoint is the best, stays as it is.")]
pub struct Arguments {
    #[command(flatten)]
    network: NetworkArgs,
    /// Average the logits of several views of each image, as eval.tta of a spec says [default: as the run]
    #[arg(long, value_name = "VIEWS", value_parser = views())]
    tta: Option<String>,
    /// Which images of the data set
    #[arg(long, value_name = "IMAGES", value_enum, default_value_t = Set::Test)]
    on: Set,
    /// A directory that has the images, where they are other ones than the run's, or were moved: one that `runboard data import` or
    /// `fetch` has made
    #[arg(long, value_name = "DIR", value_parser = path())]
    data: Option<PathBuf>,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
}

/// What `eval.tta` may be.
fn views() -> PossibleValuesParser {
    let choices = Field::find("eval.tta").map(Field::choices);
    PossibleValuesParser::new(choices.unwrap_or_default())
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Set {
    /// Those of the test file
    Test,
    /// Those that the run has held out of its training files
    Validation,
    /// Those that it trains on
    Training,
}

impl Set {
    fn word(self) -> &'static str {
        match self {
            Set::Test => "test",
            Set::Validation => "validation",
            Set::Training => "training",
        }
    }
}

/// Scores a network, and prints accuracy, loss and the classes.
pub fn score(arguments: &Arguments) -> Result<i32> {
    let tta = arguments.tta.iter();
    let tta = tta.map(|tta| Override::text("eval.tta", tta).with_origin("--tta"));
    let (elsewhere, hint) = (arguments.data.as_deref(), commands::score_with_data);
    let network = arguments
        .network
        .find(&tta.collect::<Vec<_>>(), elsewhere, hint)?;
    let images = match elsewhere {
        Some(directory) => in_directory(&network, directory, arguments.on)?,
        None => recorded(&network, arguments.on)?,
    };
    let scored = compute::score(
        &network.spec,
        network.statistics,
        &network.checkpoint.path,
        &images,
    )?;
    let (plain, augmented) = (&scored.plain, scored.augmented.as_ref());
    let classes = &augmented.unwrap_or(plain).classes;
    if arguments.json {
        let classes = network.classes.iter().zip(classes).enumerate();
        let classes = classes.map(|(label, (name, class))| {
            json!({
                "class": name,
                "label": label,
                "images": class.images,
                "recall": class.recall,
                "precision": class.precision,
                "predicted_as": class.predicted_as,
            })
        });
        print_json(&json!({
            "run": network.run.id(),
            "step": network.checkpoint.step,
            "weights": scored.viewer.weights,
            "device": scored.viewer.device,
            "on": arguments.on.word(),
            "images": scored.images,
            "accuracy": plain.accuracy,
            "loss": plain.loss,
            "tta": network.spec.eval.tta,
            "views": scored.viewer.views,
            "tta_accuracy": augmented.map(|it| it.accuracy),
            "tta_loss": augmented.map(|it| it.loss),
            "classes": classes.collect::<Vec<Json>>(),
        }))?;
        return Ok(0);
    }
    console::stderr_line(network.headline(&scored.viewer));
    let images = count(scored.images, &format!("{} image", arguments.on.word()));
    console::output(format!("{images}: {}", line(plain)))?;
    if let Some(augmented) = augmented {
        let views = count(scored.viewer.views, "view");
        console::output(format!("by {views} of each: {}", line(augmented)))?;
    }
    let form = Form::Text(console::columns(), super::form::paint());
    console::output(table(&network.classes, augmented.unwrap_or(plain)).write(form))?;
    Ok(0)
}

/// Images of the run's own data set, where it was last.
fn recorded(network: &ChosenNetwork, set: Set) -> Result<Images> {
    let (run, spec, hint) = (&network.run, &network.spec, commands::score_with_data);
    match set {
        Set::Test => Ok(run_data::read(run, &spec.data, Split::Test, hint)?.images),
        Set::Training | Set::Validation => {
            trained_on(network, run_data::read_training(run, spec, hint)?, set)
        }
    }
}

/// Images in another directory: the run's own, if they were moved there, or others of the same classes.
fn in_directory(network: &ChosenNetwork, directory: &Path, set: Set) -> Result<Images> {
    let split = match set {
        Set::Test => Split::Test,
        Set::Training | Set::Validation => Split::Train,
    };
    let images = Images::read(directory, split).context("--data")?;
    let classes = data::class_names(directory).context("--data")?;
    let is_own = run_data::is_recorded(&network.run, split, &images, &classes)?;
    match set {
        Set::Training | Set::Validation if is_own => {
            let data = RunData { images, classes };
            trained_on(network, run_data::held_out(data, &network.spec)?, set)
        }
        Set::Validation => bail_user!(
            "--on validation: {} has not the training files of {}, of which images are held out; want --data with a directory \
             that has them, no --data, or --on test or training",
            directory.display(),
            network.run.id()
        ),
        Set::Test | Set::Training => of_classes(network, directory, images, &classes),
    }
}

/// Of a run's training files the images that it trains on, or those that it has held out.
fn trained_on(network: &ChosenNetwork, data: TrainingData, set: Set) -> Result<Images> {
    match (set, data.validation) {
        (Set::Validation, Some(images)) => Ok(images),
        (Set::Validation, None) => bail_user!(
            "--on validation: {} has held out none (data.validation_images); want test or training",
            network.run.id()
        ),
        (Set::Test | Set::Training, _) => Ok(data.images),
    }
}

/// These images with the labels that the network has for their classes.
fn of_classes(
    network: &ChosenNetwork,
    directory: &Path,
    images: Images,
    classes: &[String],
) -> Result<Images> {
    let label = |class| network.classes.iter().position(|it| it == class);
    let labels: Option<Vec<usize>> = classes.iter().map(label).collect();
    let Some(labels) = labels else {
        bail_user!(
            "--data {}: got the classes {}, want those of {}: {}",
            directory.display(),
            classes.join(", "),
            network.run.id(),
            network.classes.join(", ")
        );
    };
    let mut records = images.records().to_vec();
    for record in records.chunks_exact_mut(RECORD_BYTES) {
        record[0] = labels[usize::from(record[0])] as u8; // by its name, whatever its number there
    }
    Ok(Images::from_records(records))
}

fn line(measured: &Measurement) -> String {
    let loss = measured.loss.map(Value::Loss);
    let loss = loss.map_or_else(|| "no finite number".to_owned(), |loss| loss.text());
    format!("accuracy {:.4}, loss {loss}", measured.accuracy)
}

/// A row for each class: how many of its images are found, and what the others are taken for.
fn table(names: &[String], measured: &Measurement) -> Table {
    let head = |name: &str, kind| Head::new(name, &name.to_uppercase(), kind);
    let text = |text: String| Some(Value::Text(text));
    let row = |(label, class): (usize, &compute::ClassScore)| {
        let mistakes = class.predicted_as.iter().zip(names).enumerate();
        let mistakes = mistakes.filter(|(other, (times, _))| *other != label && **times > 0);
        let (_, most) = mistakes
            .max_by_key(|(other, (times, _))| (**times, usize::MAX - other))
            .unzip();
        vec![
            text(names.get(label).cloned().unwrap_or_default()),
            Some(Value::Count(class.images as u64)),
            class.recall.map(Value::Accuracy),
            class.precision.map(Value::Accuracy),
            most.and_then(|(times, name)| text(format!("{name} {times}"))),
        ]
    };
    Table {
        heads: vec![
            head("class", Kind::Text),
            head("images", Kind::Number),
            head("recall", Kind::Number),
            head("precision", Kind::Number),
            head("most often taken for", Kind::Text),
        ],
        rows: measured.classes.iter().enumerate().map(row).collect(),
    }
}
