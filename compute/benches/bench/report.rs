//! What was measured, as JSON and as Markdown.

use crate::floor;
use crate::parts::{Cadence, Part};
use crate::resume::Resumed;
use crate::setting::Setting;
use anyhow::Result;
use runboard::data::{Images, Split};
use runboard::files::write_atomic;
use runboard::measure::Timed;
use runboard::run::Provenance;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::Path;

#[derive(Debug, Serialize)]
pub struct Report {
    provenance: Provenance,
    cpu: String,
    device: String,
    threads: usize,
    batch_size: usize,
    test_images: usize,
    /// Of the machine before the measurement, in the last minute: processes that want to run. More than 0.5 and
    /// somebody else's work was measured too.
    load_average: Option<f64>,
    /// Arithmetic of a training step.
    gflop: f64,
    pub parts: Option<Vec<Part>>,
    pub training: Option<Vec<Timed>>,
    pub evaluation: Option<Vec<Timed>>,
    pub sizes: Option<Vec<(usize, Timed)>>,
    pub rules: Option<Vec<Timed>>,
    pub scaling: Option<Vec<Timed>>,
    pub all_reduce: Option<Vec<Timed>>,
    pub resume: Option<Vec<Resumed>>,
}

impl Report {
    pub fn new(setting: &Setting) -> Result<Self> {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(Report {
            provenance: setting.provenance(),
            cpu: cpu(),
            device: setting.spec.compute.device.clone(),
            threads: setting.threads,
            batch_size: setting.spec.train.batch_size,
            test_images: Images::read(&setting.images()?, Split::Test)?.len(),
            load_average: load.split(' ').next().and_then(|text| text.parse().ok()),
            gflop: floor::operations(&setting.spec) / 1e9,
            parts: None,
            training: None,
            evaluation: None,
            sizes: None,
            rules: None,
            scaling: None,
            all_reduce: None,
            resume: None,
        })
    }

    /// Write `bench.json` and `bench.md` into `directory`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomic(&directory.join("bench.json"), &json)?;
        write_atomic(&directory.join("bench.md"), self.to_string().as_bytes())
    }
}

/// The processor's name.
fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or("unknown processor", |(_, name)| name.trim())
        .to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self
            .load_average
            .map_or("unknown".into(), |load| format!("{load:.2}"));
        writeln!(
            f,
            "{}: {} threads, device {}, load average before {load}. Steps of {} images, {:.2} GFLOP. \
             Medians (and quartiles).",
            self.cpu, self.threads, self.device, self.batch_size, self.gflop
        )?;
        if let Some(parts) = &self.parts {
            list(f, parts, self.batch_size)?;
        }
        if let Some(training) = &self.training {
            compare(f, "training step", self.batch_size, training)?;
        }
        if let Some(evaluation) = &self.evaluation {
            compare(f, "evaluation", self.test_images, evaluation)?;
        }
        if let Some(sizes) = &self.sizes {
            writeln!(
                f,
                "\n| batch size | images/s | ms a step | peak memory, MiB |"
            )?;
            writeln!(f, "|---|---|---|---|")?;
            for (size, timed) in sizes {
                let rate = *size as f64 / timed.seconds.median;
                let (step, memory) = (timed.seconds.times(1e3), timed.peak_memory_mib);
                writeln!(f, "| {size} | {rate:.0} | {step:.1} | {memory:.0} |")?;
            }
        }
        if let Some(rules) = &self.rules {
            beside_first(f, "update rule", "sgd", self.batch_size, rules)?;
        }
        if let Some(scaling) = &self.scaling {
            beside_first(f, "training step", "one process", self.batch_size, scaling)?;
        }
        if let Some(all_reduce) = &self.all_reduce {
            let what = "sum of a step's gradients over two processes";
            writeln!(f, "\n| {what} | ms | runboard's time in it |")?;
            writeln!(f, "|---|---|---|")?;
            for timed in all_reduce {
                let (name, sum, ratio) = (&timed.name, timed.seconds.times(1e3), timed.ratio);
                writeln!(f, "| {name} | {sum:.2} | {ratio:.3} |")?;
            }
        }
        if let Some(resume) = &self.resume {
            writeln!(
                f,
                "\n| steps before | checkpoints | events, MiB | resumed within, s |"
            )?;
            writeln!(f, "|---|---|---|---|")?;
            for run in resume {
                let (steps, checkpoints) = (run.steps, run.checkpoints);
                let (events, seconds) = (run.event_mib, run.seconds);
                writeln!(
                    f,
                    "| {steps} | {checkpoints} | {events:.0} | {seconds:.2} |"
                )?;
            }
        }
        Ok(())
    }
}

/// What makes up a step, its sum, then what does not.
fn list(f: &mut fmt::Formatter<'_>, parts: &[Part], batch_size: usize) -> fmt::Result {
    writeln!(f, "\n| part | ms | in a step, ms | images/s |")?;
    writeln!(f, "|---|---|---|---|")?;
    let rate = |seconds: f64| format!("{:.0}", batch_size as f64 / seconds);
    let mut sum = 0.0;
    for part in parts {
        let Some(seconds) = part.cadence.amortised(part.seconds.median) else {
            continue;
        };
        sum += seconds;
        let often = match part.cadence {
            Cadence::Every(steps) => format!(", once in {steps}"),
            _ => String::new(),
        };
        let (name, spread, step) = (part.name, part.seconds.times(1e3), 1e3 * seconds);
        writeln!(f, "| {name} | {spread:.2} | {step:.2}{often} | |")?;
    }
    writeln!(
        f,
        "| a step, the sum of these | | {:.2} | {} |",
        1e3 * sum,
        rate(sum)
    )?;
    for part in parts {
        let rate = match part.cadence {
            Cadence::Batch => rate(part.seconds.median),
            Cadence::Start => String::new(),
            Cadence::Step | Cadence::Every(_) => continue,
        };
        writeln!(
            f,
            "| {} | {:.2} | | {rate} |",
            part.name,
            part.seconds.times(1e3)
        )?;
    }
    Ok(())
}

fn compare(f: &mut fmt::Formatter<'_>, what: &str, images: usize, timed: &[Timed]) -> fmt::Result {
    writeln!(
        f,
        "\n| {what} | ms | images/s | runboard's time in it | peak memory, MiB |"
    )?;
    writeln!(f, "|---|---|---|---|---|")?;
    for timed in timed {
        let rate = images as f64 / timed.seconds.median;
        let (step, memory) = (timed.seconds.times(1e3), timed.peak_memory_mib);
        let (name, ratio) = (&timed.name, timed.ratio);
        writeln!(
            f,
            "| {name} | {step:.1} | {rate:.0} | {ratio:.3} | {memory:.0} |"
        )?;
    }
    Ok(())
}

/// Steps of runboard in several ways, of which the first is `first`.
fn beside_first(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    first: &str,
    images: usize,
    timed: &[Timed],
) -> fmt::Result {
    writeln!(f, "\n| {what} | ms | images/s | {first}'s time in it |")?;
    writeln!(f, "|---|---|---|---|")?;
    for timed in timed {
        let rate = images as f64 / timed.seconds.median;
        let (name, step, ratio) = (&timed.name, timed.seconds.times(1e3), timed.ratio);
        writeln!(f, "| {name} | {step:.1} | {rate:.0} | {ratio:.3} |")?;
    }
    Ok(())
}
