//! `make bench`: how long a training step takes, where its time goes, what others need for it, and how long a resume takes
//! (docs/performance.md).

mod all_reduce;
mod floor;
mod paired;
mod parts;
mod report;
mod resume;
mod setting;

use anyhow::Result;
use clap::Parser;
use report::Report;
use runboard::data::{Images, Preprocessor, Split};
use runboard::spec::Fidelity;
use runboard::{console, data};
use runboard_compute::backend;
use runboard_compute::evaluator::images::EvaluationImages;
use runboard_compute::evaluator::metrics::Metrics;
use runboard_compute::model::Network;
use setting::{Options, Section, Setting, Work};
use std::{env, fs};

fn main() -> Result<()> {
    // Cargo starts a benchmark in its package; paths are those of the clone, as make is given them.
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    let options = Options::parse();
    let (work, only) = (options.work.clone(), options.only.clone());
    let setting = options.resolve()?;
    match work {
        Some(Work::Multiply) => multiply(&setting),
        Some(Work::Evaluate) => evaluate(&setting),
        Some(Work::AllReduce { store }) => all_reduce::work(&setting, store),
        None => measure(&setting, &only),
    }
}

fn measure(setting: &Setting, only: &[Section]) -> Result<()> {
    let wanted = |part| only.is_empty() || only.contains(&part);
    let mut report = Report::new(setting)?;
    // Written after each part: all of them may take an hour.
    if wanted(Section::Parts) {
        report.parts = Some(parts::measure(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::Training) {
        report.training = Some(paired::training(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::Evaluation) {
        report.evaluation = Some(paired::evaluation(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::Sizes) {
        report.sizes = Some(paired::sizes(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::Rules) {
        report.rules = Some(paired::rules(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::Scaling) {
        report.scaling = Some(paired::scaling(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::AllReduce) {
        report.all_reduce = Some(paired::all_reduce(setting)?);
        report.write(&setting.out)?;
    }
    if wanted(Section::Resume) {
        report.resume = Some(resume::measure(setting)?);
        report.write(&setting.out)?;
    }
    fs::remove_dir_all(setting.runs()).ok();
    print!("{report}");
    Ok(())
}

/// Matrix products, each as much arithmetic as a step, for ever.
fn multiply(setting: &Setting) -> Result<()> {
    let (device, _) = backend::device("compute.device", &setting.device)?;
    backend::prepare(&setting.spec.compute, setting.spec.compute.threads)?;
    let product = floor::Product::new(&setting.spec, &device);
    for step in 0u64.. {
        product.multiply()?;
        if step.is_multiple_of(10) {
            console::timed(format_args!("step {step}, a matrix product"));
        }
    }
    Ok(())
}

/// Passes over the test images as the evaluator makes them, less its drawing and writing, for ever.
fn evaluate(setting: &Setting) -> Result<()> {
    let spec = &setting.spec;
    let (device, name) = backend::device("compute.device", &setting.device)?;
    backend::prepare(&spec.compute, spec.compute.threads)?;
    let directory = setting.images()?;
    let images = Images::read(&directory, Split::Test)?;
    let classes = data::class_names(&directory)?;
    let preprocessor = Preprocessor::new(&spec.input, None);
    let (count, gpu) = (images.len(), name != "cpu");
    let mut images = EvaluationImages::new(images, spec, &preprocessor, &device, gpu)?;
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    for step in 0u64.. {
        let mut metrics = Metrics::new(classes.len(), 16, Fidelity::Exact);
        for first in (0..count).step_by(spec.eval.batch_size) {
            let batch = first..count.min(first + spec.eval.batch_size);
            let labels = batch.clone().map(|at| images.images.label(at).into());
            let labels: Vec<i64> = labels.collect();
            let logits = backend::logits(&network, spec, images.inputs(0, batch)?)?;
            metrics.add(&logits, &labels, first)?;
        }
        let accuracy = metrics.accuracy();
        console::timed(format_args!("step {step}, precision @ 1 = {accuracy:.3}"));
    }
    Ok(())
}
