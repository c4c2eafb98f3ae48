//! What people are told of a run: all that is known of it at a moment ([`RunSnapshot`]), and the texts that show it, the
//! [`block`] of lines while it is under way and the [`closing`] lines when it has ended.
//!
//! Both texts are pure functions of a snapshot. Whoever has a terminal paints them.

mod block;
mod closing;
mod disk;
mod plot;
pub(crate) mod table;
pub(crate) mod text;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};

pub use self::block::block;
pub use self::closing::closing;
pub use self::disk::{DiskUse, size};
pub use self::plot::{Series, plot};
pub use self::table::table;
pub use self::text::{Paint, bytes, count, wrap};
use crate::checkpoint;
use crate::checkpoint::queue::EvaluationQueue;
use crate::run::{
    self, EarlyStop, Journal, Provenance, Role, RunDir, RunState, Statuses, TrainStatus, commands,
};
use crate::spec::OnDivergence;

/// How often a reader looks at more than the statuses: the journal, the checkpoints, the disk.
const LOOK: Duration = Duration::from_secs(2);

/// What lets a run that diverged go on.
const ROLL_BACK: &str = "train.on_divergence=rollback";

/// All that is shown of a run, as it is at a moment.
#[derive(Clone, Debug, Default)]
pub struct RunSnapshot {
    /// `NAME/TIMESTAMP`.
    pub id: String,
    /// Whether it is a point of a sweep.
    pub is_point: bool,
    /// When it was taken.
    pub now: DateTime<Local>,
    /// How the run stands; `None` before any process of it has started.
    pub state: Option<RunState>,
    /// What its processes said last.
    pub statuses: Statuses,
    /// What the trainer says while it prepares.
    pub preparation: Option<String>,
    /// How often the run was started or resumed.
    pub sessions: usize,
    /// The weights of another run that it began with.
    pub weights_origin: Option<String>,
    /// Images a step.
    pub batch_size: Option<usize>,
    /// What a rollback multiplies the learning rate by.
    pub rollback_factor: Option<f64>,
    /// Steps a second.
    pub speed: Option<f64>,
    /// The accuracies of the checkpoints scored, in 0..=1, in the order of their steps.
    pub accuracies: Vec<f64>,
    /// The newest checkpoint's step.
    pub saved: Option<u64>,
    /// How many checkpoints are to be scored and are not, the one under way among them.
    pub unscored: usize,
    /// What the run takes on the disk.
    pub disk: DiskUse,
    /// Where its event files are, the trainer's and the evaluator's.
    pub curves: [PathBuf; 2],
    /// What the user may type.
    pub commands: Commands,
}

/// Commands that mean the run of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    /// To see the curves.
    pub curves: String,
    /// To score what is not scored.
    pub score: String,
    /// To go on.
    pub resume: String,
    /// To stop it.
    pub stop: String,
    /// To go on after a divergence, where the run has no rollbacks yet.
    pub roll_back: Option<String>,
    /// To start a new run at a lower rate.
    pub lower_rate: Option<String>,
}

impl RunSnapshot {
    /// What is to be known of `run` now. What cannot be read is left out.
    pub fn read(run: &RunDir) -> Self {
        SnapshotReader::new(run).read(Statuses::read(run))
    }

    /// Steps done, and steps to do in all.
    fn progress(&self) -> Option<(u64, u64)> {
        let train = self.statuses.train.as_ref()?;
        // One that failed before it knew where to begin has done what its checkpoints say.
        let known = train.first.is_some() || train.step > 0;
        (known && train.steps > 0).then_some((train.step, train.steps))
    }

    /// So many steps were to be done in this session, of more in all.
    fn until(&self) -> Option<u64> {
        self.statuses.train.as_ref()?.until
    }

    /// What ended training before its last step.
    fn stopped_early(&self) -> Option<&EarlyStop> {
        self.statuses.train.as_ref()?.stopped_early.as_ref()
    }

    /// Whether nothing is left to train in this session.
    fn is_trained(&self) -> bool {
        let done = |(done, all)| done >= self.until().unwrap_or(all);
        self.stopped_early().is_some() || self.progress().is_some_and(done)
    }

    /// How often training was rolled back, and what became of the rate; none if it never was.
    pub fn rollbacks(&self) -> Option<String> {
        let count = self.statuses.train.as_ref()?.rollbacks;
        let factor = self.rollback_factor?.powi(count as i32) as f32;
        (count > 0).then(|| format!("{count}, the rate is now {factor} of the spec's"))
    }

    /// How many steps are done since the newest checkpoint, and would be done again by a resume.
    fn unsaved(&self) -> u64 {
        let done = self.statuses.train.as_ref().map_or(0, |train| train.step);
        done.saturating_sub(self.saved.map_or(0, |saved| saved + 1))
    }

    /// How long all sessions took, and this one.
    fn time(&self) -> Option<(Duration, Duration)> {
        let supervisor = self.statuses.supervisor.as_ref()?;
        let (all, before) = (supervisor.seconds(), supervisor.seconds_before);
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Some((duration(all), duration(all - before)))
    }

    /// How long training takes still, or after its end the evaluation.
    fn time_left(&self) -> Option<Duration> {
        let (done, _) = self.progress()?;
        let target = self.statuses.train.as_ref()?.target();
        let seconds = match self.is_trained() {
            true => self.statuses.eval.as_ref()?.seconds_left()?,
            false => target.saturating_sub(done) as f64 / self.speed?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// How training has ended, to follow "training".
pub fn how_trained(train: &TrainStatus) -> String {
    match (&train.stopped_early, train.until) {
        (Some(_), _) => "has stopped early".to_owned(),
        (None, Some(until)) => format!("is done until {until} steps"),
        (None, None) => "is complete".to_owned(),
    }
}

/// How many checkpoints of `run` are to be scored and are not; none where that cannot be told.
pub fn unscored(run: &RunDir) -> usize {
    let count = || {
        let evaluations = Journal::read(&run.evaluations())?;
        // To read the spec takes longest by far, and hardly any run has checkpoints without a score.
        if EvaluationQueue::of_all(run).next(&evaluations)?.is_none() {
            return Ok(0);
        }
        let mut queue = EvaluationQueue::new(run, &run::read_spec(run)?);
        anyhow::Ok(queue.waiting(&evaluations)?.count())
    };
    count().unwrap_or(0)
}

/// Reads snapshots of a run again and again. The statuses are given; what costs more is looked at every [`LOOK`].
pub struct SnapshotReader {
    run: RunDir,
    queue: Option<EvaluationQueue>,
    latest: RunSnapshot,
    looked: Option<Instant>,
}

impl SnapshotReader {
    /// For `run`.
    pub fn new(run: &RunDir) -> Self {
        // A spec that cannot be read is for the processes to report.
        let spec = run::read_spec(run).ok();
        let sessions = Provenance::read(run).unwrap_or_default();
        let first = sessions.first();
        let latest = RunSnapshot {
            id: run.id(),
            is_point: run.sweep().is_some(),
            sessions: sessions.len(),
            weights_origin: first
                .and_then(|session| session.weights_from.as_ref())
                .map(ToString::to_string),
            batch_size: spec.as_ref().map(|spec| spec.train.batch_size),
            rollback_factor: spec.as_ref().map(|spec| spec.train.rollback_factor),
            curves: [Role::TRAIN, Role::Eval].map(|role| run.events(role)),
            commands: Commands {
                curves: commands::curves(run),
                score: commands::score(run),
                resume: commands::resume(run),
                stop: commands::stop(run),
                roll_back: spec
                    .as_ref()
                    .filter(|spec| spec.train.on_divergence == OnDivergence::Stop)
                    .map(|_| commands::resume_with_sets(run, &[ROLL_BACK.to_owned()])),
                // A point's rate is of its sweep.
                lower_rate: spec.as_ref().filter(|_| run.sweep().is_none()).map(|spec| {
                    let rate = (0.1 * spec.optimizer.learning_rate) as f32;
                    let set = format!("optimizer.learning_rate={rate}");
                    let command = first.map_or(&[][..], |session| &session.command);
                    commands::start_again_with_sets(run, command, &[set])
                }),
            },
            ..RunSnapshot::default()
        };
        SnapshotReader {
            queue: spec.as_ref().map(|spec| EvaluationQueue::new(run, spec)),
            run: run.clone(),
            latest,
            looked: None,
        }
    }

    /// The run as it is now, by these statuses.
    pub fn read(&mut self, statuses: Statuses) -> RunSnapshot {
        let scored = |statuses: &Statuses| statuses.eval.as_ref().and_then(|eval| eval.last);
        let changed = scored(&statuses) != scored(&self.latest.statuses);
        if changed || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            self.look();
        }
        let latest = &mut self.latest;
        let early = |statuses: &Statuses| statuses.train.as_ref()?.stopped_early.clone();
        let stopped_early = early(&statuses);
        if stopped_early != early(&latest.statuses) {
            latest.commands.resume = match stopped_early {
                Some(early) => commands::resume_with_sets(&self.run, &[early.higher_limit]),
                None => commands::resume(&self.run),
            };
        }
        latest.now = Local::now();
        latest.state = statuses.state(&self.run);
        let rate = statuses
            .train
            .as_ref()
            .and_then(|train| train.examples_per_sec);
        let batch_size = latest.batch_size.map(|images| images as f64);
        latest.speed = rate.zip(batch_size).map(|(rate, images)| rate / images);
        latest.statuses = statuses;
        latest.clone()
    }

    /// Looks at the journal, the checkpoints and the disk.
    fn look(&mut self) {
        let (run, latest) = (&self.run, &mut self.latest);
        let newest = checkpoint::latest(&run.checkpoints()).ok().flatten();
        latest.saved = newest.map(|entry| entry.step);
        latest.disk = DiskUse::of(run);
        let Ok(evaluations) = Journal::read(&run.evaluations()) else {
            return;
        };
        let accuracies = evaluations
            .iter()
            .filter_map(|evaluation| evaluation.accuracy);
        latest.accuracies = accuracies.collect();
        if let Some(queue) = &mut self.queue {
            let waiting = queue.waiting(&evaluations).map(Iterator::count);
            latest.unscored = waiting.unwrap_or(0);
        }
    }
}
