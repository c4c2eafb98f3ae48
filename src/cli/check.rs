//! `runboard check`: what a spec resolves to.

use super::ExperimentArgs;
use crate::home::Home;
use crate::{backend, console};
use anyhow::Result;

pub fn check(args: &ExperimentArgs) -> Result<i32> {
    let home = Home::find()?;
    let experiment = args.load(&home)?;
    let (_, device) = backend::device(&experiment.spec.compute.device)?;
    console::output(format_args!("# {}: ok, device {device}", experiment.name))?;
    console::output(experiment.spec.to_yaml()?.trim_end())?;
    Ok(0)
}
