//! All answers, as JSON (docs/json.md) and as a section for docs/performance.md.

use super::Options;
use super::answer::{Answer, Outcome};
use super::questions;
use crate::compute::Examination;
use crate::files::write_atomic;
use crate::run::Provenance;
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

/// The files' names.
pub(super) const JSON: &str = "verify.json";
pub(super) const MARKDOWN: &str = "verify.md";

/// Version of the JSON.
const VERSION: u32 = 1;

/// What was asked, of what, and what is answered so far.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: u32,
    device: String,
    /// Its name, or the processor's.
    device_name: String,
    seconds: f64,
    quick: bool,
    /// Whether every question was come to.
    finished: bool,
    provenance: Provenance,
    answers: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    question: &'static str,
    title: &'static str,
    outcome: Outcome,
    summary: String,
    /// How long it took.
    seconds: f64,
    values: Value,
    #[serde(skip)]
    table: Vec<Vec<String>>,
}

impl Report {
    pub fn new(
        provenance: Provenance,
        options: &Options,
        device: &str,
        examined: &Examination,
    ) -> Self {
        Report {
            version: VERSION,
            device: device.to_owned(),
            device_name: match device {
                "cpu" => provenance.cpu.clone(),
                gpu => gpu_name(gpu, examined),
            },
            seconds: options.time.as_secs_f64(),
            quick: options.quick,
            finished: false,
            provenance,
            answers: Vec::new(),
        }
    }

    pub fn add(
        &mut self,
        question: &'static str,
        title: &'static str,
        answer: Answer,
        took: Duration,
    ) {
        self.answers.push(Entry {
            question,
            title,
            outcome: answer.outcome,
            summary: answer.summary,
            seconds: took.as_secs_f64(),
            values: answer.values,
            table: answer.table,
        });
    }

    pub fn finish(&mut self) {
        self.finished = true;
    }

    pub fn has_failed(&self) -> bool {
        let failed = |answer: &Entry| answer.outcome == Outcome::Failed;
        self.answers.iter().any(failed)
    }

    /// What came of how many questions: `3 passed, 1 left out`.
    pub fn came_to(&self) -> String {
        let outcomes = [
            Outcome::Passed,
            Outcome::Failed,
            Outcome::Measured,
            Outcome::LeftOut,
        ];
        let number = |outcome| {
            self.answers
                .iter()
                .filter(|it| it.outcome == outcome)
                .count()
        };
        let counts = outcomes.map(|outcome| (number(outcome), outcome.word()));
        let told: Vec<_> = counts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, word)| format!("{number} {word}"))
            .collect();
        match told.is_empty() {
            true => "no answer".to_owned(),
            false => told.join(", "),
        }
    }

    /// Writes both files, each whole at any moment.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomic(&directory.join(JSON), &json)?;
        write_atomic(&directory.join(MARKDOWN), self.to_string().as_bytes())
    }
}

/// A GPU's name and its driver, where that tells them.
fn gpu_name(device: &str, examined: &Examination) -> String {
    match (examined.gpu(device), &examined.driver) {
        (Some(gpu), Ok(driver)) => format!("{}, driver {}", gpu.name, driver.version),
        (Some(gpu), Err(_)) => gpu.name.clone(),
        (None, _) => device.to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provenance = &self.provenance;
        let software = &provenance.software;
        writeln!(f, "## On {}\n", self.device_name)?;
        let when = provenance.started.format("%Y-%m-%d");
        writeln!(
            f,
            "`{}`, {when}: runboard {}, burn {}, libtorch {}; {} cores of {}. Medians (and quartiles).",
            provenance.command.join(" "),
            provenance.runboard,
            software.burn,
            software.libtorch,
            provenance.cores,
            provenance.cpu
        )?;
        if !self.finished {
            let (answered, all) = (self.answers.len(), questions::ALL.len());
            writeln!(
                f,
                "\nNot finished: {answered} of {all} questions are answered."
            )?;
        }
        let rows = self.answers.iter().map(|answer| {
            let cells = [answer.title, answer.outcome.word(), &answer.summary];
            cells.map(str::to_owned).to_vec()
        });
        let head = ["question", "outcome", ""].map(str::to_owned).to_vec();
        write_table(f, [head].into_iter().chain(rows))?;
        for answer in self.answers.iter().filter(|it| !it.table.is_empty()) {
            writeln!(f, "\n{}:", capitalised(answer.title))?;
            write_table(f, answer.table.iter().cloned())?;
        }
        Ok(())
    }
}

/// A table of Markdown, whose first row is the head.
fn write_table(
    f: &mut fmt::Formatter<'_>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> fmt::Result {
    writeln!(f)?;
    for (index, row) in rows.into_iter().enumerate() {
        for cell in &row {
            write!(f, "| {} ", cell.replace('|', "\\|").replace('\n', " "))?;
        }
        writeln!(f, "|")?;
        if index == 0 {
            writeln!(f, "{}|", "|---".repeat(row.len()))?;
        }
    }
    Ok(())
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase());
    let mut capitalised = String::new();
    let _ = match first {
        Some(first) => write!(capitalised, "{first}{}", letters.as_str()),
        None => Ok(()), // to a String all can be written
    };
    capitalised
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Driver, Gpu, Machine};

    #[test]
    fn gpu_has_its_name_and_its_drivers_version_where_the_driver_tells_them() {
        let gpu = |name: &str| Gpu {
            name: name.to_owned(),
            memory: None,
            memory_used: None,
            compute_capability: None,
            processes: None,
        };
        let mut examined = Examination {
            machine: Machine {
                burn: String::new(),
                libtorch: String::new(),
                target_features: Vec::new(),
                gpus: 2,
                cuda_failure: None,
            },
            libtorch: None,
            libraries: None,
            driver: Ok(Driver {
                version: "580.1".to_owned(),
                cuda: None,
            }),
            gpus: vec![gpu("NVIDIA A"), gpu("NVIDIA B")],
            checkpoint: None,
            nccl: None,
        };
        assert_eq!(gpu_name("cuda:1", &examined), "NVIDIA B, driver 580.1");
        examined.driver = Err("no answer".to_owned());
        assert_eq!(gpu_name("cuda:1", &examined), "NVIDIA B");
        examined.gpus.clear();
        assert_eq!(gpu_name("cuda:1", &examined), "cuda:1");
    }
}
