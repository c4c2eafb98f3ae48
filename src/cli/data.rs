//! `runboard data`: images by hand.

use super::path;
use crate::spec::{Data, Seed, Source, Synthetic};
use crate::{console, data};
use anyhow::Result;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch and verify the official CIFAR-10 archive
    Fetch {
        #[arg(default_value = "data/cifar10", value_parser = path())]
        directory: PathBuf,
    },
    /// Convert PNG or JPEG images from FROM/train/CLASS/ and FROM/test/CLASS/, ten classes
    ///
    /// The central square of each is scaled to 32x32; transparent images are composed on white. Hidden files and
    /// what systems leave in directories are passed over.
    Import {
        #[arg(value_parser = path())]
        from: PathBuf,
        /// Directory to write the binary files to
        #[arg(long, default_value = "data/imported", value_parser = path())]
        into: PathBuf,
    },
    /// Generate synthetic images
    Synthesize {
        #[arg(default_value = "data/synthetic", value_parser = path())]
        directory: PathBuf,
        #[arg(long, default_value_t = 50_000)]
        train_images: usize,
        #[arg(long, default_value_t = 10_000)]
        test_images: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Read a directory's files and count what is in them
    Check {
        #[arg(default_value = "data/cifar10", value_parser = path())]
        directory: PathBuf,
    },
}

pub fn run(command: &Command) -> Result<i32> {
    match command {
        Command::Fetch { directory } => {
            let spec = Data {
                source: Source::Cifar10,
                folder: directory.clone(),
                download: true,
                ..Data::default()
            };
            report(data::prepare(&spec)?)
        }
        Command::Import { from, into } => report(data::import(from, into)?),
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
            report(data::synthesize(&synthetic, directory)?)
        }
        Command::Check { directory } => report(directory.clone()),
    }
}

fn report(directory: PathBuf) -> Result<i32> {
    console::output(data::check(&directory)?)?;
    Ok(0)
}
