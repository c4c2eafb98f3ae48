//! `runboard verify`: tests of a machine, measured in one go by real runs of the real programs, each answer written
//! as soon as it is there. What is compared and timed is what tests and `make bench` compare and time.

mod answer;
mod programs;
mod questions;
mod report;

use crate::compute::{Machine, examine};
use crate::parent::end_children_on;
use crate::run::Provenance;
use crate::shutdown::Shutdown;
use crate::{bail_user, console};
use answer::Answer;
pub use answer::Outcome;
use anyhow::{Context, Result};
use programs::Programs;
use report::Report;
use std::fs;
use std::io::ErrorKind;
use std::path::{self, Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the signal that has ended a program, such as Ctrl-C, may take to come here as well.
const SIGNAL: Duration = Duration::from_millis(200);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is other than it should be.
    Passed,
    Failed,
    /// By this signal, before every question was come to.
    Stopped(i32),
}

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

/// Answers all questions that fit into the time, or until a signal asks to stop.
///
/// # Errors
/// A user error for a device or images that are not there and for a directory that cannot be one or has answers already; others
/// if an answer cannot be written.
pub fn verify(options: &Options) -> Result<End> {
    let until = Instant::now() + options.time;
    let shutdown = Shutdown::on_signals()?;
    end_children_on(shutdown.clone())?;
    let examined = examine(&options.device, None);
    if examined.is_err()
        && shutdown.sleep(SIGNAL)
        && let Some(signal) = shutdown.requested()
    {
        return Ok(End::Stopped(signal));
    }
    let examined = examined?;
    let machine = &examined.machine;
    let device = machine.device("--device", &options.device)?;
    if let Some(data) = &options.data
        && !data.is_dir()
    {
        bail_user!("--data: no directory {}", data.display());
    }
    make_out(&options.out)?;
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
    let mut stopped = None;
    report.write(&options.out)?;
    for (name, title, question) in questions::ALL {
        let begin = Instant::now();
        bench.programs.say(&format!("{name}: {title}"))?;
        let answer = questions::answer(*question, &bench, &mut state);
        // What it ends is no answer.
        let interrupted = match &answer {
            Ok(answer) if answer.outcome != Outcome::Failed => shutdown.requested().is_some(),
            _ => shutdown.sleep(SIGNAL),
        };
        if interrupted {
            stopped = shutdown.requested();
            break;
        }
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
    let end = match stopped {
        Some(signal) => End::Stopped(signal),
        None if report.has_failed() => End::Failed,
        None => End::Passed,
    };
    if stopped.is_none() {
        report.finish();
        report.write(&options.out)?;
    }
    let came = report.came_to();
    let end_line = match stopped {
        Some(_) => format!("stopped after {came}"),
        None => came,
    };
    let page = options.out.join(report::MARKDOWN);
    console::line(format_args!("{end_line}; {} has all of it", page.display()));
    bench.programs.say(&end_line)?;
    Ok(end)
}

/// Makes the directory of the answers.
fn make_out(out: &Path) -> Result<()> {
    let shown = out.display();
    if path::absolute(out)?.to_str().is_none() {
        bail_user!("--out: {shown}: want a place whose name is UTF-8, as specs are");
    }
    for name in [report::JSON, report::MARKDOWN, programs::LOG] {
        let found = out.join(name);
        if found.exists() {
            let found = found.display();
            bail_user!("--out: {found} has the answers of another time; want another directory");
        }
    }
    match fs::create_dir_all(out) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory
            ) =>
        {
            bail_user!(
                "--out: no directory can be made at {shown}: a file is in the way; want another place"
            )
        }
        made => made.with_context(|| format!("--out: failed to create {shown}")),
    }
}
