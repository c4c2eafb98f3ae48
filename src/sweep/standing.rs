//! How a sweep stands, by its directory and those of its points.

use anyhow::Result;

use super::progress::Progress;
use super::results::Results;
use super::schedule::Decision;
use super::{Sweep, SweepDir};
use crate::run::{Status, SweepStatus};

/// A sweep, how far its points are, and what was decided of them.
#[derive(Clone, Debug)]
pub struct Standing {
    /// `NAME/TIMESTAMP`.
    pub id: String,
    /// What was frozen of it.
    pub sweep: Sweep,
    /// One for each point, in their order.
    pub progress: Vec<Progress>,
    /// In the order in which they were made.
    pub decisions: Vec<Decision>,
    /// How the sweep's process stands, in a word or two; none before it has begun.
    state: Option<String>,
    /// What a point waits for, and who has it, if one does.
    pub waiting: Option<String>,
    /// The error that ended its process, if one has.
    pub error: Option<String>,
}

impl Standing {
    /// That of the sweep in `directory` now.
    ///
    /// # Errors
    /// A user error if its files are not those of a sweep.
    pub fn read(directory: &SweepDir) -> Result<Self> {
        let sweep = directory.read()?;
        let progress = sweep.points.iter();
        let progress = progress
            .map(|point| {
                let run = directory.run(point);
                let steps = run.as_ref().and_then(|run| sweep.steps_of(point, run));
                Progress::of(&sweep, point, run.as_ref(), steps)
            })
            .collect();
        let status = SweepStatus::load(directory).ok().flatten();
        let waiting = status.as_ref().filter(|status| status.alive(directory));
        let waiting = waiting.and_then(|status| status.waiting.clone());
        let error = status.as_ref().filter(|status| !status.alive(directory));
        let error = error.and_then(|status| status.process.error.clone());
        let state = status.map(|status| {
            let alive = status.alive(directory);
            match status.vanished(directory) {
                _ if alive && status.stopping => "stopping".to_owned(),
                _ if alive => "running".to_owned(),
                true => "interrupted".to_owned(),
                false => status.process.state.to_string(),
            }
        });
        Ok(Standing {
            id: directory.id(),
            progress,
            decisions: directory.decisions(&sweep)?,
            sweep,
            state,
            waiting,
            error,
        })
    }

    /// What its points have come to.
    pub fn results(&self) -> Results<'_> {
        Results {
            id: &self.id,
            sweep: &self.sweep,
            progress: &self.progress,
            decisions: &self.decisions,
        }
    }

    /// Whether its process is at work.
    pub fn is_at_work(&self) -> bool {
        matches!(self.state.as_deref(), Some("running" | "stopping"))
    }

    /// How it stands, in a word or two; none before its process has begun.
    pub fn state(&self) -> Option<String> {
        let has_begun = self.state.is_some();
        match has_begun && !self.is_at_work() && self.results().winner().is_some() {
            true => Some("target reached".to_owned()),
            false => self.state.clone(),
        }
    }
}
