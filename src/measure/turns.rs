//! Programs that work in steps, a few steps each in turn.

use super::process::SteppedProcess;
use super::statistics::Spread;
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// How long a process took.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    /// What it is called.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// Seconds a step (a pass, for evaluation), turn by turn.
    pub turns: Vec<f64>,
    /// Seconds a step over the turns of each ratio.
    pub seconds: Spread,
    /// The first process's time over this one's.
    pub ratio: Spread,
    /// Of its resident memory.
    pub peak_memory_mib: f64,
}

/// A command to be timed, and how.
#[derive(Debug)]
pub struct TimedCommand {
    /// What it is called.
    pub name: String,
    /// It prints its steps, as [`SteppedProcess`] wants them.
    pub command: Command,
    /// What its seconds are multiplied by.
    pub scale: f64,
    /// Steps a turn.
    pub slice: u64,
}

/// How often each has its turn.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Turns that are not measured, at first.
    pub warm_up: u64,
    /// Turns that are, at most.
    pub rounds: u64,
    /// Over how many of them a ratio is formed.
    pub per_ratio: u64,
    /// No round begins after that, but for those of the first ratio. A program has half of the time that is left to warm up.
    pub until: Option<Instant>,
    /// Where the programs' standard errors go.
    pub logs: PathBuf,
}

/// Start all, then let them take turns; a ratio to the first is formed of the sums of so many turns. `say` is told how far
/// it is. Programs for whose warm-up there is no time are left out, and with the first one all.
///
/// # Errors
/// A program cannot be started, or ends.
pub fn compare(
    turns: &Turns,
    commands: Vec<TimedCommand>,
    mut say: impl FnMut(&str),
) -> Result<Vec<Timed>> {
    let mut processes = Vec::new();
    for TimedCommand {
        name,
        command,
        scale,
        slice,
    } in commands
    {
        say(&format!("warming up {name}"));
        let timed = Timed {
            command: format!("{command:?}"),
            turns: Vec::new(),
            seconds: Spread::of([]),
            ratio: Spread::of([]),
            peak_memory_mib: 0.0,
            name,
        };
        let warm_up = turns.warm_up * slice;
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let patience = turns.until.map(|until| left(until) / 2);
        let started = SteppedProcess::start(&timed.name, command, warm_up, patience, &turns.logs)?;
        match started {
            Some(process) => processes.push((process, timed, scale, slice)),
            None if processes.is_empty() => return Ok(Vec::new()),
            None => say(&format!("{} is left out: no time to warm up", timed.name)),
        }
    }
    let rounds = turns.rounds.next_multiple_of(turns.per_ratio);
    for round in 1..=rounds {
        let is_late = turns.until.is_some_and(|until| Instant::now() >= until);
        if is_late && round > turns.per_ratio && (round - 1).is_multiple_of(turns.per_ratio) {
            break;
        }
        let mut line = format!("round {round} of {rounds}:");
        for (process, timed, scale, slice) in &mut processes {
            let seconds = process.turn(*slice)? * *scale;
            timed.turns.push(seconds);
            line += &format!(" {} {:.1} ms", timed.name, 1e3 * seconds);
        }
        say(&line);
    }
    let mut first = Vec::new();
    let mut all = Vec::new();
    for (process, mut timed, ..) in processes {
        let groups = timed.turns.chunks(turns.per_ratio as usize);
        let seconds: Vec<f64> = groups
            .map(|g| g.iter().sum::<f64>() / g.len() as f64)
            .collect();
        if first.is_empty() {
            first.clone_from(&seconds);
        }
        timed.ratio = Spread::of(first.iter().zip(&seconds).map(|(f, s)| f / s));
        timed.seconds = Spread::of(seconds);
        timed.peak_memory_mib = process.peak_memory()?;
        all.push(timed);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shell(name: &str, script: &str) -> TimedCommand {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        TimedCommand {
            name: name.to_owned(),
            command,
            scale: 1.0,
            slice: 1,
        }
    }

    #[test]
    fn program_that_is_not_warm_in_time_is_left_out_unless_it_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let turns = |seconds| Turns {
            warm_up: 1,
            rounds: 2,
            per_ratio: 1,
            until: Some(Instant::now() + Duration::from_secs(seconds)),
            logs: directory.path().to_owned(),
        };
        let steps = "while :; do step=$((step + 1)); echo \"step $step, \"; sleep 0.001; done";
        let slow = "sleep 600";
        let mut said = Vec::new();
        let commands = vec![
            shell("one", steps),
            shell("slow", slow),
            shell("two", steps),
        ];
        let timed = compare(&turns(6), commands, |line| said.push(line.to_owned())).unwrap();
        let names: Vec<&str> = timed.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(
            said.contains(&"slow is left out: no time to warm up".to_owned()),
            "{said:?}"
        );
        let commands = vec![shell("slow", slow), shell("one", steps)];
        assert!(compare(&turns(1), commands, |_| {}).unwrap().is_empty());
    }
}
