//! How long event files take to write, beside torch.utils.tensorboard:
//!
//!     cargo bench --package runboard --bench events -- --torch .venv-bench-torch/bin/python

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use runboard::events::{EventWriter, Summaries, Tag};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What is timed.
const KINDS: [&str; 2] = ["scalars", "histograms"];

/// Times event writing, in turns with torch.utils.tensorboard
#[derive(Debug, Parser)]
struct Options {
    /// A Python that has torch and tensorboard
    #[arg(long)]
    torch: Option<PathBuf>,
    /// Scalars, an event each
    #[arg(long, default_value_t = 10_000)]
    scalars: u64,
    /// Histograms, an event each
    #[arg(long, default_value_t = 20)]
    histograms: u64,
    /// Values of a histogram
    #[arg(long, default_value_t = 900_000)]
    values: usize,
    /// How often each is timed
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..options.values)
        .map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() * 0.04 - 0.24)
        .collect();
    // [kind][round]
    let (mut ours, mut theirs) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..options.rounds.max(1) {
        for (kind, seconds) in runboard(&options, &values)?.into_iter().enumerate() {
            ours[kind].push(seconds);
        }
        if let Some(python) = &options.torch {
            for (kind, seconds) in torch(&options, python)?.into_iter().enumerate() {
                theirs[kind].push(seconds);
            }
        }
    }
    println!(
        "| events | runboard, s | torch.utils.tensorboard, s | times as long |\n|---|--:|--:|--:|"
    );
    for (kind, name) in KINDS.into_iter().enumerate() {
        let what = match kind {
            0 => format!("{} {name}", options.scalars),
            _ => format!("{} {name} of {} values", options.histograms, options.values),
        };
        let ratios = theirs[kind].iter().zip(&ours[kind]);
        let ratios: Vec<f64> = ratios.map(|(theirs, ours)| theirs / ours).collect();
        let [ours, theirs] = [&ours[kind], &theirs[kind]].map(|times| shown(times, 3));
        println!("| {what} | {ours} | {theirs} | {} |", shown(&ratios, 1));
    }
    Ok(())
}

/// Seconds of each kind, from opening the writer to its end, when all is in the file.
fn runboard(options: &Options, values: &[f32]) -> Result<[f64; 2]> {
    let out = tempfile::tempdir()?;
    let timed = |name: &str, count: u64, add: &dyn Fn(&mut Summaries, u64)| -> Result<f64> {
        let begin = Instant::now();
        let events = EventWriter::open(&out.path().join(name))?;
        for step in 0..count {
            let mut summaries = Summaries::at(step);
            add(&mut summaries, step);
            events.write(&summaries);
        }
        events.flush();
        drop(events);
        Ok(begin.elapsed().as_secs_f64())
    };
    let (loss, weights) = (Tag::new("loss"), Tag::new("weights"));
    Ok([
        timed(KINDS[0], options.scalars, &|summaries, step| {
            summaries.scalar(&loss, 1.0 / (step + 1) as f64);
        })?,
        timed(KINDS[1], options.histograms, &|summaries, _| {
            summaries.histogram(&weights, values);
        })?,
    ])
}

fn torch(options: &Options, python: &Path) -> Result<[f64; 2]> {
    let out = tempfile::tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reference/torch_events.py");
    let output = Command::new(python)
        .arg(script)
        .arg("--out")
        .arg(out.path())
        .args(["--scalars", &options.scalars.to_string()])
        .args(["--histograms", &options.histograms.to_string()])
        .args(["--values", &options.values.to_string()])
        .output()
        .with_context(|| format!("failed to start {}", python.display()))?;
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "torch_events.py: {}: {err}",
        output.status
    );
    let out = String::from_utf8_lossy(&output.stdout);
    let seconds: Vec<f64> = out.lines().filter_map(|line| line.parse().ok()).collect();
    <[f64; 2]>::try_from(seconds)
        .map_err(|_| anyhow::anyhow!("torch_events.py: got {out:?}, want two lines"))
}

/// The median, and the least and the largest; a line for nothing.
fn shown(numbers: &[f64], decimals: usize) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted[..] {
        [] => "-".to_owned(),
        [least, .., most] => {
            let median = sorted[sorted.len() / 2];
            format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
        }
        [one] => format!("{one:.decimals$}"),
    }
}
