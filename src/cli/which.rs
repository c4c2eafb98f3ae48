//! Which checkpoint of a run a user means.

use crate::checkpoint::{self, Checkpoint, CheckpointEntry};
use crate::run::{Evaluation, EvaluationProgress, Journal, RunDir, Score};
use crate::{bail_user, user_error};
use anyhow::{Context, Result};
use clap::Args;
use std::str::FromStr;

/// A checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The last one.
    Newest,
    /// The best one by evaluation.
    Best,
    /// That of this step.
    Step(u64),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "best" => Ok(Which::Best),
            "last" => Ok(Which::Newest),
            step => step
                .parse()
                .map(Which::Step)
                .map_err(|_| "want a checkpoint's step, best or last".to_owned()),
        }
    }
}

impl Which {
    /// This checkpoint of `run`.
    ///
    /// # Errors
    /// A user error if there is none, which names those that there are.
    pub fn find(self, run: &RunDir) -> Result<CheckpointEntry> {
        let directory = run.checkpoints();
        let mut there = there(run)?;
        let step = match self {
            Which::Newest => there.last().map_or(0, |newest| newest.step),
            Which::Step(step) => step,
            Which::Best => {
                let evaluations = Journal::read(&run.evaluations())?;
                let best = EvaluationProgress::of(&evaluations).best;
                let best =
                    best.with_context(|| format!("{}: no checkpoint is evaluated yet", run.id()));
                best.map_err(|error| user_error!("{error:#}"))?.step
            }
        };
        match there.iter().position(|entry| entry.step == step) {
            Some(found) => Ok(there.swap_remove(found)),
            None => {
                let steps = steps_of(&there.iter().collect::<Vec<_>>());
                let is_best = if self == Which::Best {
                    ", the best one,"
                } else {
                    ""
                };
                Err(user_error!(
                    "{}: no checkpoint of step {step}{is_best} in {}; there are {steps}",
                    run.id(),
                    directory.display()
                ))
            }
        }
    }
}

/// Which checkpoints there are, the oldest first, in a few words.
fn steps_of(there: &[&CheckpointEntry]) -> String {
    match there {
        [first, .., last] if there.len() > 6 => {
            let (first, last) = (first.step, last.step);
            format!("{} of steps {first} to {last}, the newest", there.len())
        }
        _ => {
            let steps: Vec<String> = there.iter().map(|entry| entry.step.to_string()).collect();
            format!("those of {}", steps.join(", "))
        }
    }
}

/// The checkpoints of a run, the oldest first; one at least.
fn there(run: &RunDir) -> Result<Vec<CheckpointEntry>> {
    let directory = run.checkpoints();
    let there = checkpoint::list(&directory)?;
    if there.is_empty() {
        bail_user!(
            "{} has no checkpoint in {}: train it first",
            run.id(),
            directory.display()
        );
    }
    Ok(there)
}

/// The checkpoint that a command takes.
#[derive(Args, Clone, Copy, Debug)]
pub struct CheckpointArg {
    /// The checkpoint of this step, or the best or the last one [default: the best one that is there]
    #[arg(long, value_name = "STEP|best|last")]
    checkpoint: Option<Which>,
}

/// A checkpoint that was chosen, and why.
pub struct Chosen {
    /// The checkpoint.
    pub entry: CheckpointEntry,
    /// As in "step 59, REASON"; empty for one that the user names.
    pub reason: String,
}

impl Chosen {
    /// The checkpoint, read and verified.
    ///
    /// # Errors
    /// A user error for one that is damaged, which names the others.
    pub fn load(&self, run: &RunDir) -> Result<Checkpoint> {
        checkpoint::load(&self.entry.path).map_err(|error| {
            let others = checkpoint::list(&run.checkpoints()).unwrap_or_default();
            let others = others.iter().filter(|it| it.step != self.entry.step);
            let others: Vec<&CheckpointEntry> = others.collect();
            match others.is_empty() {
                true => user_error!("{error:#}"),
                false => user_error!(
                    "{error:#}; for another one: --checkpoint STEP; there are {}",
                    steps_of(&others)
                ),
            }
        })
    }
}

impl CheckpointArg {
    /// The checkpoint of `run` that the user means. Without one the best of those that are there; where none of them is
    /// scored, the last.
    ///
    /// # Errors
    /// As [`Which::find`]; a journal that cannot be read.
    pub fn find(self, run: &RunDir) -> Result<Chosen> {
        let (entry, reason) = match self.checkpoint {
            Some(which) => {
                let reason = match which {
                    Which::Newest => ", the last",
                    Which::Best => ", the best",
                    Which::Step(_) => "",
                };
                (which.find(run)?, reason.to_owned())
            }
            None => {
                let mut there = there(run)?;
                let evaluations = Journal::read(&run.evaluations())?;
                let best = EvaluationProgress::of(&evaluations).best;
                let is_there = |score: &Score| there.iter().any(|entry| entry.step == score.step);
                let scores = evaluations.iter().filter_map(Evaluation::score);
                let chosen = scores.filter(is_there).reduce(Score::better);
                let reason = match (chosen, best) {
                    (None, _) => ", the last, as no checkpoint that is there is scored".to_owned(),
                    (Some(chosen), Some(best)) if chosen.step != best.step => format!(
                        ", the best of those that are there: the best of all, step {}, was removed",
                        best.step
                    ),
                    _ => ", the best".to_owned(),
                };
                let at = there
                    .iter()
                    .position(|entry| chosen.is_some_and(|score| score.step == entry.step));
                (there.swap_remove(at.unwrap_or(there.len() - 1)), reason)
            }
        };
        Ok(Chosen { entry, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_is_a_step_or_the_best_or_the_last() {
        assert_eq!("best".parse(), Ok(Which::Best));
        assert_eq!("last".parse(), Ok(Which::Newest));
        assert_eq!("120".parse(), Ok(Which::Step(120)));
        let want = "want a checkpoint's step, best or last";
        assert_eq!("newest".parse::<Which>(), Err(want.to_owned()));
    }
}
