//! `runboard verify`: tests of this machine by real runs, in one go.

use super::{data_from_environment, device, given, path};
use crate::verify::{self, End, Options};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// With fewer minutes than this not even a CPU's steps would be done.
const QUICK_BELOW: u64 = 3;

/// What to verify.
#[derive(Args, Debug)]
#[command(after_help = "\
Every answer is written as soon as it is there: DIR/verify.json (docs/json.md), DIR/verify.md, a section for \
docs/performance.md, and DIR/verify.log, what was done. What does not fit into the time is left out, and so is what needs \
images of CIFAR-10 or a python with torch where there are none. The exit code is 1 if something is not as it should be.")]
pub struct Arguments {
    /// Where the network is computed: cpu, cuda or cuda:N, or auto for the first GPU
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    device: String,
    /// How long it may take
    #[arg(long, value_name = "N", default_value_t = 8, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// Directory of the answers, which is made; one with answers of another time is refused
    #[arg(long, value_name = "DIR", value_parser = path())]
    out: PathBuf,
    /// Directory of CIFAR-10's files, to train fast-start on; also taken from RUNBOARD_DATA
    #[arg(long, value_name = "DIR", value_parser = path())]
    data: Option<PathBuf>,
    /// A python with torch and numpy, to time PyTorch beside runboard [default: python3]
    #[arg(long, value_name = "PYTHON", value_parser = path())]
    python: Option<PathBuf>,
    /// Take fewer steps, of smaller batches, as with fewer than 3 minutes
    #[arg(long)]
    quick: bool,
}

/// Answers all questions; the exit code says whether all is as it should be.
pub fn verify(arguments: &Arguments) -> Result<i32> {
    let data = match given(arguments.data.as_deref()) {
        Some(directory) => Some(directory.to_owned()),
        None => data_from_environment()?,
    };
    let end = verify::verify(&Options {
        device: arguments.device.clone(),
        time: Duration::from_secs(60 * arguments.minutes),
        out: arguments.out.clone(),
        data: data.map(std::path::absolute).transpose()?,
        python: arguments.python.clone(),
        quick: arguments.quick || arguments.minutes < QUICK_BELOW,
    })?;
    Ok(match end {
        End::Passed => 0,
        End::Failed => 1,
        End::Stopped(signal) => 128 + signal,
    })
}
