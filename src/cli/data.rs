//! `runboard data`: images by hand.

use super::form::print_json;
use super::path;
use crate::data::Fetch;
use crate::home::Home;
use crate::spec::{Data, Seed, Source, Synthetic};
use crate::{console, data};
use anyhow::{Error, Result};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch and verify the official CIFAR-10 archive
    Fetch {
        /// Directory of the archive's files [default: data/cifar10, where `run` looks]
        #[arg(value_parser = path())]
        directory: Option<PathBuf>,
    },
    /// Convert PNG or JPEG images from FROM/train/CLASS/ and FROM/test/CLASS/, ten classes
    ///
    /// The central square of each is scaled to 32x32; transparent images are composed on white. Hidden files and
    /// what systems leave in directories are passed over.
    Import {
        /// Directory that has train/ and test/
        #[arg(value_parser = path())]
        from: PathBuf,
        /// Directory to write the binary files to [default: data/imported]
        #[arg(long, value_name = "DIR", value_parser = path())]
        into: Option<PathBuf>,
    },
    /// Generate synthetic images
    Synthesize {
        /// Directory to write the binary files to [default: data/synthetic]
        #[arg(value_parser = path())]
        directory: Option<PathBuf>,
        /// Training images
        #[arg(long, value_name = "N", default_value_t = 50_000)]
        train_images: usize,
        /// Test images
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        test_images: usize,
        /// Seed of the images: the same one makes the same images
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Read a directory's files and count what is in them
    Check {
        /// Directory of the files [default: data/cifar10]
        #[arg(value_parser = path())]
        directory: Option<PathBuf>,
        /// Write JSON, whose names docs/json.md explains
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: &Command) -> Result<i32> {
    let or = |given: &Option<PathBuf>, default: &str| match given {
        Some(directory) => Ok(directory.clone()),
        None => Ok::<_, Error>(Home::find()?.path().join(default)),
    };
    match command {
        Command::Fetch { directory } => {
            let spec = Data {
                source: Source::Cifar10,
                folder: or(directory, "data/cifar10")?,
                download: true,
                ..Data::default()
            };
            report(data::prepare(&spec, Fetch::Allowed)?)
        }
        Command::Import { from, into } => report(data::import(from, &or(into, "data/imported")?)?),
        Command::Synthesize {
            directory,
            train_images,
            test_images,
            seed,
        } => {
            let synthetic = Synthetic {
                train_images: *train_images,
                test_images: *test_images,
                seed: Seed(*seed),
            };
            let directory = or(directory, "data/synthetic")?;
            report(data::synthesize(&synthetic, &directory)?)
        }
        Command::Check {
            directory,
            json: false,
        } => report(or(directory, "data/cifar10")?),
        Command::Check { directory, .. } => {
            let directory = or(directory, "data/cifar10")?;
            let summary = data::check(&directory)?;
            let classes = summary.classes.iter().zip(summary.train).zip(summary.test);
            let classes = classes.map(
                |((class, train), test)| json!({"class": class, "train": train, "test": test}),
            );
            let all = json!({
                "folder": directory.display().to_string(),
                "train": summary.train.iter().sum::<usize>(),
                "test": summary.test.iter().sum::<usize>(),
                "classes": classes.collect::<Vec<_>>(),
            });
            print_json(&all)?;
            Ok(0)
        }
    }
}

fn report(directory: PathBuf) -> Result<i32> {
    console::output(data::check(&directory)?)?;
    Ok(0)
}
