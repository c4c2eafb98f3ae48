//! `runboard doctor`: what this machine has, what is wrong with it, and what to do about that.

mod computing;
mod disk;
mod finding;
mod machine;

use self::computing::Asked;
use self::finding::{Finding, State};
use super::form::print_json;
use super::{RunsArg, device};
use crate::home::Home;
use crate::overview::{count, wrap};
use crate::parent::end_children_on;
use crate::shutdown::Shutdown;
use crate::{compute, console};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long the signal that has ended a child, such as Ctrl-C, may take to come here as well.
const SIGNAL: Duration = Duration::from_millis(200);

/// Columns of the findings where the output is no terminal, and at most.
const COLUMNS: usize = 120;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Device to test: cpu, cuda or cuda:N; auto is the first GPU, or else the CPU
    #[arg(long, default_value = "auto", value_parser = device)]
    device: String,
    #[command(flatten)]
    runs: RunsArg,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long)]
    json: bool,
}

/// Looks at all of it. Each finding is told when it is there. A signal ends it, and leaves nothing.
pub fn doctor(arguments: &Arguments) -> Result<i32> {
    let shutdown = Shutdown::on_signals()?;
    end_children_on(shutdown.clone())?;
    let mut report = Report {
        begin: Instant::now(),
        findings: Vec::new(),
        told: !arguments.json,
    };
    look(arguments, &shutdown, &mut report)?;
    match shutdown.requested() {
        Some(signal) => Ok(128 + signal),
        None => report.end(),
    }
}

fn look(arguments: &Arguments, shutdown: &Shutdown, report: &mut Report) -> Result<()> {
    report.add(machine::findings(&Home::find()?))?;
    let runs = arguments.runs.directory()?;
    let trial = disk::Trial::new(&runs);
    match &trial {
        Ok(trial) => report.add(disk::findings(trial.path()))?,
        Err(error) => report.add(vec![Finding::good("disk", format!("{error:#}")).fails_if(
            true,
            "want a directory that you may write in: name one by --runs or RUNBOARD_HOME",
        )])?,
    }
    if shutdown.requested().is_some() {
        return Ok(());
    }
    let asked = Asked {
        device: &arguments.device,
        on_bus: computing::gpu_on_bus(),
    };
    // Without a place for runs the device can be looked at all the same.
    let spare = tempfile::tempdir();
    let place = match (&trial, &spare) {
        (Ok(trial), _) => trial.path().join("checkpoints"),
        (Err(_), Ok(spare)) => spare.path().join("checkpoints"),
        (Err(_), Err(_)) => runs,
    };
    match compute::examine(asked.device, Some(&place)) {
        Err(_) if shutdown.sleep(SIGNAL) => {}
        Err(error) => report.add(computing::without_program(asked, &error))?,
        Ok(examined) => {
            report.add(computing::findings(asked, &examined))?;
            for finding in computing::self_tests(asked, &examined) {
                if finding.state != State::Good && shutdown.sleep(SIGNAL) {
                    break;
                }
                report.add(vec![finding])?;
            }
        }
    }
    Ok(())
}

/// What was found so far.
struct Report {
    begin: Instant,
    findings: Vec<Finding>,
    /// Whether it is told in lines, as it comes.
    told: bool,
}

impl Report {
    fn add(&mut self, findings: Vec<Finding>) -> Result<()> {
        for finding in &findings {
            if self.told {
                console::output(lines(finding))?;
            }
        }
        self.findings.extend(findings);
        Ok(())
    }

    /// Tells what came of it, and the exit code of that.
    fn end(self) -> Result<i32> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let number = |state| self.findings.iter().filter(|it| it.state == state).count();
        let failing = number(State::Fails);
        if self.told {
            let notes = number(State::Note);
            let notes = match notes {
                0 => String::new(),
                notes => format!(", {}", count(notes, "note")),
            };
            let result = match failing {
                0 => "runs work here".to_owned(),
                1 => "1 finding fails".to_owned(),
                failing => format!("{failing} findings fail"),
            };
            console::output(format_args!("{result}{notes}; looked at in {seconds:.0} s"))?;
        } else {
            print_json(&json!({
                "version": env!("CARGO_PKG_VERSION"),
                "passed": failing == 0,
                "seconds": seconds,
                "findings": self.findings,
            }))?;
        }
        Ok(i32::from(failing > 0))
    }
}

/// A finding for people: what is good in a line, what is not with what to do below it.
fn lines(finding: &Finding) -> String {
    const INDENT: usize = 26; // of the column of what was found
    let columns = console::columns().map_or(COLUMNS, |columns| columns.min(COLUMNS));
    let room = columns.saturating_sub(INDENT).max(INDENT);
    let below = |text: &str| wrap(text, room).replace('\n', &format!("\n{:INDENT$}", ""));
    let mut text = format!(
        "{:5} {:18}  {}",
        finding.state,
        finding.name,
        below(&finding.found)
    );
    if let Some(advice) = &finding.advice {
        text += &format!("\n{:INDENT$}{}", "", below(&format!("-> {advice}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_that_is_not_good_says_below_it_what_to_do() {
        let good = Finding::good("cores", "2 cores");
        assert_eq!(lines(&good), "good  cores               2 cores");
        let bad = good.fails_if(true, "buy more");
        assert_eq!(
            lines(&bad),
            format!("FAILS cores               2 cores\n{:26}-> buy more", "")
        );
    }
}
