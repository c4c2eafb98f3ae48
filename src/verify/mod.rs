//! `runboard verify`: what a machine makes of runboard, measured in one go by real runs of the real programs, each answer written
//! as soon as it is there. What is compared and timed is what tests and `make bench` compare and time.

mod answer;
mod programs;
mod questions;
mod report;

use crate::compute::{Machine, examine};
use crate::run::Provenance;
use crate::{bail_user, console, files};
use answer::Answer;
pub use answer::Outcome;
use anyhow::{Context, Result};
use programs::Programs;
use report::Report;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is asked, and where the answers go.
#[derive(Clone, Debug)]
pub struct Options {
    /// As a spec's `compute.device`.
    pub device: String,
    /// How long it may take.
    pub time: Duration,
    /// The directory of the answers, which is made.
    pub out: PathBuf,
    /// The directory of CIFAR-10's files; without it, images are generated.
    pub data: Option<PathBuf>,
    /// A python with torch and numpy; without it the one on the path is asked.
    pub python: Option<PathBuf>,
    /// Fewer steps of smaller batches.
    pub quick: bool,
}

/// What every question is asked about.
struct Bench<'a> {
    options: &'a Options,
    /// `cpu` or `cuda:N`.
    device: String,
    machine: &'a Machine,
    programs: Programs,
    scale: Scale,
}

/// How much is trained and timed.
struct Scale {
    steps: u64,
    batch_size: usize,
    /// Batch sizes whose steps are timed, the smallest first.
    sizes: &'static [usize],
    /// How long each of them is timed as a whole, and again phase by phase.
    timed: Duration,
    train_images: usize,
    test_images: usize,
}

impl Scale {
    fn of(quick: bool) -> Self {
        match quick {
            false => Scale {
                steps: 200,
                batch_size: 128,
                sizes: &[32, 128, 512, 2_048],
                timed: Duration::from_secs(1),
                train_images: 20_000,
                test_images: 10_000,
            },
            true => Scale {
                steps: 20,
                batch_size: 16,
                sizes: &[16, 32],
                timed: Duration::from_millis(50),
                train_images: 500,
                test_images: 100,
            },
        }
    }
}

/// Answers all questions that fit into the time. Returns whether none failed.
///
/// # Errors
/// A user error for a device or images that are not there and for a directory that has answers already; others if an answer
/// cannot be written.
pub fn verify(options: &Options) -> Result<bool> {
    let until = Instant::now() + options.time;
    let examined = examine(&options.device, None)?;
    let machine = &examined.machine;
    let device = machine.device("--device", &options.device)?;
    if let Some(data) = &options.data
        && !data.is_dir()
    {
        bail_user!("--data: no directory {}", data.display());
    }
    let json = options.out.join(report::JSON);
    if json.exists() {
        let found = json.display();
        bail_user!("--out: {found} has the answers of another time; want another directory");
    }
    files::make_dir(&options.out)?;
    let software = machine.software(device.clone());
    let provenance = Provenance::collect(Path::new("."), software, None);
    let mut report = Report::new(provenance, options, &device, &examined);
    let programs = Programs::new(&options.out, until)?;
    let bench = Bench {
        options,
        device,
        machine,
        programs,
        scale: Scale::of(options.quick),
    };
    let mut state = questions::State::default();
    report.write(&options.out)?;
    for (name, title, question) in questions::ALL {
        let begin = Instant::now();
        bench.programs.say(&format!("{name}: {title}"))?;
        let answer = question.answer(&bench, &mut state);
        let answer = answer.unwrap_or_else(|error| match programs::is_out_of_time(&error) {
            true => Answer::left_out("no time for all of it"),
            false => Answer::failed(format!("{error:#}")),
        });
        let line = format!("{:<10} {title}: {}", answer.outcome.word(), answer.summary);
        console::line(&line);
        bench.programs.say(&line)?;
        report.add(name, title, answer, begin.elapsed());
        report.write(&options.out)?;
    }
    report.finish();
    report.write(&options.out)?;
    let work = bench.programs.directory();
    fs::remove_dir_all(work).with_context(|| format!("failed to remove {}", work.display()))?;
    Ok(!report.has_failed())
}
