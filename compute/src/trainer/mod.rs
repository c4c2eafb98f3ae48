//! The training process: batches in; weights, curves and checkpoints out.

mod divergence;
mod early_stop;
mod graph;
mod input;
pub mod pace;
mod ranks;
pub mod reporter;
mod restore;
mod round_trip;
pub mod steps;
pub mod system_metrics;
mod timer;

use crate::backend::{self, DeviceLosses, Losses, Optimizer, Recorder};
use crate::model::Network;
use anyhow::{Context, Error, Result};
pub use input::HostBatch;
pub use ranks::{RankFiles, train_rank};
pub use round_trip::round_trip;
use runboard::checkpoint::queue::EvaluationQueue;
use runboard::checkpoint::{self, Checkpoint, Rollback};
use runboard::console;
use runboard::data::{ChannelStatistics, Images, Share};
use runboard::files;
use runboard::launch::Launch;
use runboard::run::data::TrainingData;
use runboard::run::{
    self, Completion, EarlyStop, FormerStatus, Lock, Process, ProcessState, Provenance, Role,
    RunDir, SmoothedLoss, Status, StopRequests, TrainStatus, commands,
};
use runboard::schedule::{Schedule, StepRates};
use runboard::shutdown::Shutdown;
use runboard::spec::{DeviceName, ReducePrecision, Spec, Train};

use divergence::{Divergence, LossLimit};
use input::{BatchSource, StepInput, batches};
use ranks::{Beginning, Ending, RankProcesses, Ranks};
use reporter::{RankTimes, Reporter, StepOutput};
use restore::{Restored, restore};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timer::StepTimer;

/// How often the status file tells the supervisor and the evaluator that training is alive.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The losses of so many steps are pending on a GPU at most: they are then read, whatever the cadences are. A CPU has
/// nothing to wait for.
const MAX_PENDING: usize = 100;

/// Train `run` from its newest checkpoint, or from fresh weights, to the spec's last step, or until `until` steps are
/// done. What a step does depends on all steps there are, and not on `until`.
///
/// `launch` says which other processes train with this one.
///
/// A disk that refuses does not end it, as long as the last checkpoint can be written.
///
/// # Errors
/// Another trainer at work, bad data, a [`Divergence`], a last checkpoint that cannot be written, a run
/// directory that vanished; the status file then holds the message.
pub fn train(
    run: &RunDir,
    until: Option<u64>,
    launch: &Launch,
    stop: &Shutdown,
) -> Result<Completion> {
    let lock = Lock::take(run, Role::TRAIN)?;
    let _requests = StopRequests::watch(&lock, stop)?;
    let former = FormerStatus::read::<TrainStatus>(run);
    // One that cannot be read is about to be replaced.
    let before = TrainStatus::load(run).ok().flatten();
    let lost_rank = before.as_ref().is_some_and(has_lost_rank);
    let before = before.unwrap_or_else(|| TrainStatus::new(Process::current()));
    // Until it is restored: who looks meanwhile sees how far the run is.
    let newest = checkpoint::latest(&run.checkpoints()).ok().flatten();
    let mut status = TrainStatus {
        step: newest.map_or(0, |newest| newest.step + 1),
        steps: before.steps,
        seconds: before.seconds,
        threads: before.threads,
        ranks: before.ranks,
        lost_rank,
        until,
        // What was shown last stays so where nothing is left to train.
        loss: before.loss,
        smoothed_loss: before.smoothed_loss,
        examples_per_sec: before.examples_per_sec,
        learning_rate: before.learning_rate,
        ..TrainStatus::new(Process::current())
    };
    let result = train_with_rollbacks(run, launch, &mut status, stop);
    if former.restore_if_refused(run, &result) {
        return result;
    }
    run::record_completion(&mut status, run, result)
}

/// Whether the trainer before this one has lost a rank: another one, or itself, which died at its work and could not say so.
fn has_lost_rank(before: &TrainStatus) -> bool {
    before.lost_rank || before.process.state == ProcessState::Running
}

/// Train, and again from an earlier checkpoint each time that training diverges and the spec wants it.
fn train_with_rollbacks(
    run: &RunDir,
    launch: &Launch,
    status: &mut TrainStatus,
    stop: &Shutdown,
) -> Result<Completion> {
    let spec = run::read_spec(run)?;
    let mut rollbacks = None;
    loop {
        let have_met = rollbacks.is_some();
        let mut trainer = match Trainer::start(run, &spec, launch, rollbacks, status, stop) {
            Ok(trainer) => trainer,
            Err(error) => {
                // Whatever it was: if those that were there before have not all come again, a restart goes on with who comes.
                status.lost_rank |= have_met;
                let error = match error.downcast() {
                    Ok(StoppedAtStart(signal)) => return Ok(Completion::Stopped(signal)),
                    Err(error) => error,
                };
                return Err(ranks::lost_if(have_met, error));
            }
        };
        let result = trainer.run(stop);
        let result = match result.map_err(Error::downcast::<Divergence>) {
            Ok(ended) => Ok(ended),
            Err(Ok(divergence)) => match divergence.roll_back(run, &spec.train) {
                Ok(all) => {
                    rollbacks = Some(all);
                    trainer.end_ranks(&Ending::Again);
                    continue;
                }
                Err(error) => Err(error),
            },
            Err(Err(error)) => Err(error),
        };
        let ranks = trainer.ranks.as_ref();
        trainer.status.lost_rank |= ranks.is_some_and(Ranks::has_lost);
        trainer.end_ranks(&Ending::of(&result));
        return result;
    }
}

/// The error of a trainer that this signal stopped while it waited for the other ranks.
#[derive(Debug)]
struct StoppedAtStart(i32);

impl fmt::Display for StoppedAtStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for StoppedAtStart {}

struct Trainer<'a> {
    run: &'a RunDir,
    spec: &'a Spec,
    images: Arc<Images>,
    /// What they are normalised by, if it is of all of them.
    statistics: Option<ChannelStatistics>,
    input: BatchSource,
    /// Where others train with this process.
    ranks: Option<Ranks>,
    schedule: Schedule,
    /// The first step of this session.
    first: u64,
    optimizer: Optimizer,
    recorder: Recorder,
    /// Losses that nobody has read yet: to read them is to wait for the device.
    pending: Vec<PendingLosses>,
    /// How many of them there may be.
    max_pending: usize,
    /// The losses read last.
    losses: Losses,
    loss_limit: LossLimit,
    /// All of the run; each has lowered the learning rate.
    rollbacks: Vec<Rollback>,
    /// What waits for the evaluator and therefore stays.
    queue: EvaluationQueue,
    reporter: Reporter,
    status: &'a mut TrainStatus,
    timer: StepTimer,
    /// When the status was last saved.
    last_heartbeat: Instant,
    /// Until when the time of training is counted.
    counted: Instant,
    /// Whether it was said that nobody scores the checkpoints that decide when to stop.
    misses_scores: bool,
}

/// A step whose losses are still on the device.
struct PendingLosses {
    step: u64,
    learning_rate: f64,
    losses: DeviceLosses,
}

impl<'a> Trainer<'a> {
    /// Go on from the newest checkpoint; `rollbacks` are those of the run, if one was just decided.
    fn start(
        run: &'a RunDir,
        spec: &'a Spec,
        launch: &Launch,
        rollbacks: Option<Vec<Rollback>>,
        status: &'a mut TrainStatus,
        stop: &Shutdown,
    ) -> Result<Self> {
        // The images tell how many steps epochs are.
        status.steps = spec.train.steps.unwrap_or(status.steps);
        status.save(run)?;
        let (device, device_name) = backend::training_device(&spec.compute, launch)?;
        let device_names = backend::machine().training_devices(&spec.compute, launch)?;
        status.lost_rank &= run::is_started_again(run); // a resume waits for all
        let processes = RankProcesses::start(run, launch, status.lost_rank)?;
        let threads = backend::prepare(&spec.compute, launch.threads(&spec.compute))?;
        let TrainingData {
            images, classes, ..
        } = run::with_heartbeat(status, run, || {
            run::data::read_training(run, spec, run::commands::resume_with_data)
        })?;
        let images = Arc::new(images);
        let statistics = ChannelStatistics::wanted(&spec.input, &images);
        status.steps = spec.train.total_steps(images.len());

        let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
        let Restored {
            optimizer,
            state,
            first,
        } = run::with_heartbeat(status, run, || restore(run, spec, network, &images))?;
        let gpu = DeviceName::is_gpu(&device_name);
        let part = |&until: &u64| until < status.steps && first < status.steps;
        status.until = status.until.filter(part);
        let mut queue = EvaluationQueue::new(run, spec);
        if first > 0 {
            retain(run, spec, &mut queue); // which an earlier session may not have come to
            if !gpu {
                warn_of_threads(run, spec, status.threads, threads);
            }
        }
        status.threads = Some(threads);
        status.device = Some(device_names.clone());
        status.first = Some(first);
        status.rollbacks = rollbacks.as_ref().unwrap_or(&state.rollbacks).len();
        announce(run, status, first, images.len(), &device_names);
        let loss_limit = LossLimit::new(&spec.train, &state);
        let beginning = Beginning {
            first,
            end: status.target(),
            rollbacks: rollbacks.as_ref().unwrap_or(&state.rollbacks).clone(),
        };
        let lead =
            |processes| Ranks::lead(processes, run, spec, launch, &beginning, &optimizer, stop);
        let ranks = run::with_heartbeat(status, run, || processes.map(lead).transpose());
        let ranks = match (ranks, stop.requested()) {
            (Err(error), Some(signal)) => {
                console::timed(format_args!("{error:#}"));
                return Err(StoppedAtStart(signal).into());
            }
            (ranks, _) => ranks?,
        };
        let world = ranks.as_ref().map_or(1, Ranks::count);
        let share = Share {
            rank: 0,
            ranks: world,
        };
        let begin = || {
            note_ranks(status, spec, launch, first, world)?;
            let input = BatchSource::start(&images, spec, share, first, &device, gpu)?;
            let events = run.events(Role::TRAIN);
            let reporter = Reporter::start(&events, spec, first, state.averages, &classes, gpu)?;
            if first == 0 {
                reporter.write_run(optimizer.network(), &device)?;
            } else if run::has_new_spec(run, first) {
                reporter.write_spec(first)?;
            }
            reporter.write_session(first, &Provenance::text(run));
            if let Some(rollbacks) = &rollbacks {
                reporter.show_rollbacks(first, rollbacks);
            }
            status.process.state = ProcessState::Running;
            status.step = first;
            status.save(run)?;
            Ok((input, reporter))
        };
        let (input, reporter) = match begin() {
            Ok(begun) => begun,
            Err(error) => {
                // The others have met this one, and wait for its first step.
                if let Some(ranks) = ranks {
                    ranks.end(&Ending::of_error(&error));
                }
                return Err(error);
            }
        };
        Ok(Trainer {
            run,
            spec,
            schedule: Schedule::new(spec, images.len()),
            statistics,
            images,
            input,
            ranks,
            first,
            optimizer,
            recorder: Recorder::default(),
            pending: Vec::new(),
            max_pending: if gpu { MAX_PENDING } else { 1 },
            losses: Losses::default(),
            loss_limit,
            rollbacks: rollbacks.unwrap_or(state.rollbacks),
            queue,
            reporter,
            status,
            timer: StepTimer::start(first),
            last_heartbeat: Instant::now(),
            counted: Instant::now(),
            misses_scores: false,
        })
    }

    fn run(&mut self, stop: &Shutdown) -> Result<Completion> {
        let train = &self.spec.train;
        let target = self.status.target();
        // As the session that saved the checkpoint has decided, or would have.
        if (1..target).contains(&self.first)
            && let Some(ended) = self.end_at(self.first - 1, stop)?
        {
            return Ok(ended);
        }
        if self.first < target {
            // Those of a session, or from a rollback on.
            (self.status.loss, self.status.smoothed_loss) = (None, None);
            (self.status.examples_per_sec, self.status.learning_rate) = (None, None);
        }
        for step in self.first..target {
            let last = step + 1 == target;
            let logged = step.is_multiple_of(train.log_every);
            let saved = step.is_multiple_of(train.checkpoint_every);
            let read = logged || saved || last || self.reporter.shows(step);
            let output = self.step(step, read, stop)?;
            if logged {
                self.log_step(step);
            }
            let ready = self.input.ready();
            self.reporter.report(&output, &self.optimizer, ready)?;
            self.status.step = step + 1;
            let stopped = stop.requested().filter(|_| !last);
            let out_of_time = EarlyStop::by_time(self.spec, self.status.seconds);
            let out_of_time = out_of_time.filter(|_| !last);
            if last || stopped.is_some() || out_of_time.is_some() {
                self.read_losses()?;
                self.save_last(&self.checkpoint(&output)?)?;
            }
            let is_saved = saved && !last && stopped.is_none() && out_of_time.is_none();
            let is_saved = is_saved && self.save(&self.checkpoint(&output)?)?;
            self.save_heartbeat()?;
            if let Some(signal) = stopped {
                return Ok(self.stopped(step, signal));
            }
            if let Some(early) = out_of_time {
                return Ok(self.stopped_early(step, early));
            }
            if is_saved && let Some(ended) = self.end_at(step, stop)? {
                return Ok(ended);
            }
        }
        Ok(Completion::Finished)
    }

    /// Let the other ranks go, if there are any.
    fn end_ranks(&mut self, ending: &Ending) {
        if let Some(ranks) = self.ranks.take() {
            ranks.end(ending);
        }
    }

    /// That this signal ends the session with this step, whose checkpoint is saved.
    fn stopped(&self, step: u64, signal: i32) -> Completion {
        console::timed(format_args!("stopped after step {step}, which is saved"));
        Completion::Stopped(signal)
    }

    /// One training step; `read` says whether to read its losses, and those before it, now.
    fn step(&mut self, step: u64, read: bool, stop: &Shutdown) -> Result<StepOutput> {
        let begin = Instant::now();
        let StepInput {
            images,
            labels,
            waited,
        } = self.input.next()?;
        let own = labels.own.clone();
        let weights = self.optimizer.network();
        let part = (images.clone(), labels);
        let (batch, times) = match &mut self.ranks {
            Some(ranks) => {
                let mean = ranks.gradients(weights, self.spec, part, waited, || false)?;
                let mean = mean.context("rank 0 alone says when training is over")?;
                if mean.asks_to_stop {
                    run::request_stop(self.run, stop);
                }
                (mean.batch, mean.times)
            }
            None => {
                let (images, labels) = part;
                let recorder = &mut self.recorder;
                let batch =
                    backend::part_gradients(weights, self.spec, step, images, labels, recorder)?;
                (batch, RankTimes::default())
            }
        };
        let (losses, gradients) = batch.add_decay(weights, self.spec)?;
        let rates = self.rates(step);
        let learning_rate = rates.learning_rate;
        self.optimizer.step(step, &gradients, &losses, rates)?;
        self.status.learning_rate = Some(learning_rate);
        self.timer.waited(waited);
        self.pending.push(PendingLosses {
            step,
            learning_rate,
            losses,
        });
        if read || self.pending.len() >= self.max_pending {
            self.read_losses()?;
        }
        Ok(StepOutput {
            step,
            gradients,
            learning_rate,
            images,
            labels: own,
            waited,
            computed: begin.elapsed().saturating_sub(waited + times.all_reduce),
            ranks: times,
        })
    }

    /// Read the losses that are still on the device. If one is not finite, the weights are still those before its step;
    /// if they explode, those after the last step.
    fn read_losses(&mut self) -> Result<()> {
        if let Some(ranks) = &mut self.ranks {
            ranks.settle()?;
        }
        let pending = mem::take(&mut self.pending);
        let losses: Vec<&DeviceLosses> = pending.iter().map(|pending| &pending.losses).collect();
        for (pending, losses) in pending.iter().zip(DeviceLosses::read(&losses)?) {
            let (step, learning_rate) = (pending.step, pending.learning_rate);
            if let Some((cause, began)) = self.loss_limit.check(step, &losses) {
                self.reporter.show_divergence(step, losses);
                self.status.step = step;
                return Err(self.divergence_at(step, began, cause, losses, learning_rate));
            }
            self.reporter.record_losses(losses);
            self.losses = losses;
            self.status.loss = Some(losses.total);
            self.status.smoothed_loss = SmoothedLoss::add(self.status.smoothed_loss, losses.total);
        }
        Ok(())
    }

    fn rates(&self, step: u64) -> StepRates {
        step_rates(&self.schedule, &self.spec.train, &self.rollbacks, step)
    }

    /// The error of training that diverges: it was found at `step`, before a checkpoint of that one, and began with `began`.
    /// Its evidence is saved in the run directory.
    fn divergence_at(
        &self,
        step: u64,
        began: u64,
        cause: String,
        losses: Losses,
        learning_rate: f64,
    ) -> anyhow::Error {
        let mut divergence = Divergence {
            step,
            began,
            cause,
            losses,
            learning_rate,
            rollbacks: self.rollbacks.clone(),
            evidence: None,
        };
        // The batch of any step can be made again: it follows from the seed.
        let batch = batches(&self.images, self.spec, Share::WHOLE, step.max(began))
            .and_then(|mut batches| batches.next());
        let weights = self.optimizer.network().named();
        if let Err(error) =
            batch.and_then(|batch| divergence.save_evidence(self.run, &weights, &batch))
        {
            console::warning(format_args!("{error:#}"));
        }
        divergence.into()
    }

    /// The tutorial's console line, timed over the steps since the last one.
    fn log_step(&mut self, step: u64) {
        let (sec_per_batch, input_wait) = self.timer.lap(step);
        let examples_per_sec = self.spec.train.batch_size as f64 / sec_per_batch;
        console::timed(format_args!(
            "step {step}, loss = {} ({examples_per_sec:.1} examples/sec; {sec_per_batch:.3} sec/batch)",
            console::loss(self.losses.total)
        ));
        self.status.examples_per_sec = Some(examples_per_sec);
        self.status.input_wait = Some(input_wait);
    }

    /// The checkpoint after a step, if all its values are finite.
    fn checkpoint(&self, output: &StepOutput) -> Result<Checkpoint> {
        let (first_loss, steps_above_limit) = self.loss_limit.state();
        let checkpoint = Checkpoint {
            state: checkpoint::CheckpointState {
                step: output.step,
                averages: self.reporter.averages().clone(),
                first_loss,
                steps_above_limit,
                rollbacks: self.rollbacks.clone(),
                statistics: self.statistics,
            },
            tensors: self.optimizer.state(),
        };
        match divergence::check_checkpoint(&checkpoint) {
            None => Ok(checkpoint),
            // The next step could not be done.
            Some(cause) => {
                let (step, rate) = (output.step, output.learning_rate);
                Err(self.divergence_at(step, step + 1, cause, self.losses, rate))
            }
        }
    }

    /// Save a checkpoint on the way. If the disk refuses, the older ones stay, and the next one is another
    /// try. Returns whether it is saved.
    fn save(&mut self, checkpoint: &Checkpoint) -> Result<bool> {
        self.run.check_present()?; // or saving would make its directory again
        // Curves first: a resumed run purges what is newer than its checkpoint and misses nothing older.
        self.reporter.flush();
        let directory = self.run.checkpoints();
        // A slow disk takes its time, in which others must not take this process for frozen.
        let save = || checkpoint::save(&directory, checkpoint);
        let saved = run::with_heartbeat(self.status, self.run, save);
        match &saved {
            Ok(_) => retain(self.run, self.spec, &mut self.queue),
            Err(error) => console::warning(format_args!(
                "{error:#}; training goes on, the next checkpoint is due in {} steps",
                self.spec.train.checkpoint_every
            )),
        }
        Ok(saved.is_ok())
    }

    /// Save the checkpoint that ends a session: without it, what was trained since the one before is lost.
    fn save_last(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.run.check_present()?;
        self.reporter.flush();
        let directory = self.run.checkpoints();
        let save = || files::retry_io(|| checkpoint::save(&directory, checkpoint));
        run::with_heartbeat(self.status, self.run, save).with_context(|| {
            let newest = match checkpoint::latest(&directory) {
                Ok(Some(entry)) => format!("the newest one is of step {}", entry.step),
                _ => "there is no other one".to_owned(),
            };
            let step = checkpoint.state.step;
            format!("the last checkpoint, of step {step}, is not saved, {newest}; free the disk and resume")
        })?;
        retain(self.run, self.spec, &mut self.queue);
        Ok(())
    }

    /// Count the time up to now as that of training.
    fn count_time(&mut self) {
        let now = Instant::now();
        self.status.seconds += now.duration_since(self.counted).as_secs_f64();
        self.counted = now;
    }

    /// Save the status, if the last heartbeat is long enough ago.
    fn save_heartbeat(&mut self) -> Result<()> {
        self.count_time();
        if self.last_heartbeat.elapsed() >= HEARTBEAT {
            self.last_heartbeat = Instant::now();
            self.run.check_present()?;
            self.status.save_heartbeat(self.run);
        }
        Ok(())
    }
}

/// Warn that another number of threads than `before` changes the last bits of the weights, where it does.
fn warn_of_threads(run: &RunDir, spec: &Spec, before: Option<usize>, threads: usize) {
    let other = before.filter(|&before| before != threads && backend::depends_on_threads(spec));
    if let Some(before) = other {
        let set = [format!("compute.threads={before}")];
        console::warning(format_args!(
            "{threads} threads, but {before} before: with this network and precision the last bits of the \
             weights depend on the number; to go on with {before}: {}",
            commands::resume_with_sets(run, &set)
        ));
    }
}

/// Say what this session trains, from step `first` on.
fn announce(run: &RunDir, status: &TrainStatus, first: u64, images: usize, devices: &str) {
    let (id, steps, target) = (run.id(), status.steps, status.target());
    let asked = match target < steps {
        true => format!(" (--until {target} of {steps})"),
        false => String::new(),
    };
    if first < target {
        let last = target - 1;
        console::timed(format_args!(
            "training {id} on {devices}: {images} images, steps {first} to {last}{asked}"
        ));
    } else if asked.is_empty() {
        console::timed(format_args!("{id} is trained already, all {steps} steps"));
    } else {
        console::timed(format_args!(
            "{id} is trained that far already, {first} steps{asked}"
        ));
    }
}

/// Note that so many ranks train from step `first` on, and warn if another number before them makes a difference.
fn note_ranks(
    status: &mut TrainStatus,
    spec: &Spec,
    launch: &Launch,
    first: u64,
    world: usize,
) -> Result<()> {
    let machine = backend::machine();
    if let Some(before) = status.ranks.filter(|&before| first > 0 && before != world) {
        let on_cpus = machine.trains_on_cpus(&spec.compute, launch)?;
        let same = |ranks| backend::is_same_in_ranks(spec, ranks);
        if !(on_cpus && same(world) && same(before)) {
            let bits = match spec.compute.reduce_precision {
                ReducePrecision::Float32 => "the last bits of the weights",
                ReducePrecision::Bf16 => "with compute.reduce_precision: bf16 the weights",
            };
            console::warning(format_args!(
                "{} now, {before} before: {bits} depend on the number",
                match world {
                    1 => "1 device trains".to_owned(),
                    world => format!("{world} devices train"),
                }
            ));
        }
    }
    status.ranks = Some(world);
    status.lost_rank = world < launch.world;
    if world < launch.world {
        let there = Launch {
            world: world.max(launch.count),
            ..launch.clone()
        };
        status.device = Some(machine.training_devices(&spec.compute, &there)?);
    }
    Ok(())
}

/// The schedule's rates of a step, the learning rate lowered by every rollback.
fn step_rates(schedule: &Schedule, train: &Train, rollbacks: &[Rollback], step: u64) -> StepRates {
    let rates = schedule.rates(step);
    let lowered = |rate, _: &Rollback| rate * train.rollback_factor;
    StepRates {
        learning_rate: rollbacks.iter().fold(rates.learning_rate, lowered),
        ..rates
    }
}

/// Remove the checkpoints that the spec does not keep. That they cannot be removed now is no reason to end: the
/// next time may do.
fn retain(run: &RunDir, spec: &Spec, queue: &mut EvaluationQueue) {
    if let Err(error) = checkpoint::retain(run, spec, queue) {
        console::warning(format_args!("{error:#}"));
    }
}
