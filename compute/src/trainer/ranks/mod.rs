//! Training in several processes, on this host and others. The trainer is rank 0 and starts those of its host, which take
//! their part of each batch and make the same steps; a supervisor on each other host starts its own
//! (`supervisor::node`). All that people and other processes see is the trainer's.
//!
//! What travels, in this order; each sum begins when all ranks have come to it:
//!
//! | when | rank 0 | the others |
//! |---|---|---|
//! | training begins | sends `Beginning` and shapes, then the weights and what the update rule remembers | receive them |
//! | a step, while its forward pass is computed | sum of `Notes`: checksum, wait, a request to stop | the same |
//! | rank 0 waits for a score, once a second | notes with `Turn::Later` | answer with their notes, and wait for the next |
//! | the dense layers' gradients are there | mean of them, unless GPUs sum | the same |
//! | all gradients are there | mean of the others and the losses | the same |
//! | rank 0 makes no more steps | notes with `Turn::Over`, if there were to be more | end their step |
//! | training ends | sends `Ending`; all wait for one another | receive it |

mod meeting;
mod notes;
mod processes;
mod rank;
mod session;

pub use rank::{RankFiles, train_rank};

pub(super) use processes::RankProcesses;
pub(super) use session::{Beginning, Ending};

use super::reporter::RankTimes;
use crate::backend::group::{Fewer, Group, Lost, Member};
use crate::backend::{self, CALLS_TO_RECORD, Labels, Optimizer, PartGradients, Recorder};
use crate::model::Network;
use anyhow::{Error, Result, ensure};
use burn::tensor::Tensor;
use meeting::{connect, meet_on_gpus, timeout};
use notes::{Notes, Turn, compare};
use runboard::console;
use runboard::error::{ExitError, FAILURE, LOST_RANK, NOT_MET, exit_code};
use runboard::launch::Launch;
use runboard::run::RunDir;
use runboard::shutdown::Shutdown;
use runboard::spec::Spec;
use session::shapes;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The ranks compare their weights every so many steps, and after each checkpoint.
const COMPARE_EVERY: u64 = 100;

/// How often rank 0 gives a sign of life while the others wait for it, and hears what they say.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// And so many times at least before they lose patience.
const SIGNS_OF_LIFE: u32 = 4;

/// The ranks, as one of them sees them.
pub(super) struct Ranks {
    /// On rank 0, which ends the others of its host when it drops them: first, so that they do not report the group's end
    /// as an error.
    _processes: Option<RankProcesses>,
    group: Group,
    /// Where they meet. A group that fails says so there, so this is dropped after it.
    _meeting_place: Option<TempDir>,
    recorder: Recorder,
    /// The step whose gradients are summed next.
    next: u64,
    /// Whether this rank has begun to tell the others that it makes it, and has not yet all sums of it.
    is_summing: bool,
    /// The first step before which all operations are recorded. To record them is to wait for the GPU without an end, so until
    /// then nothing is left that it might be at for ever.
    recorded_from: u64,
    /// The first step not to make.
    end: u64,
    /// Between two checkpoints.
    checkpoint_every: u64,
    /// How long the others wait for rank 0.
    patience: Duration,
    /// When they last heard of it.
    heard: Instant,
}

/// The gradients and losses of a whole batch, and what the ranks said of its step.
pub(super) struct Mean {
    pub batch: PartGradients,
    pub times: RankTimes,
    /// Whether a rank asks for training to stop.
    pub asks_to_stop: bool,
}

/// See [`Ranks`]: gradients are recorded by their [`CALLS_TO_RECORD`]th pass, Muon's products by so many updates.
fn recorded_from(beginning: &Beginning, spec: &Spec) -> u64 {
    beginning.first + CALLS_TO_RECORD * spec.optimizer.gradient_accumulation
}

/// The error of a rank that cannot go on because another one does not: an operation of the group failed by this one.
fn lost(error: Error) -> Error {
    ExitError::new(LOST_RANK, format!("{error:#}")).into()
}

/// The same, if the ranks have met before, of one that says that they have not met again: they are lost, and may come back.
pub(super) fn lost_if(have_met: bool, error: Error) -> Error {
    match have_met && exit_code(&error) == NOT_MET {
        true => lost(error),
        false => error,
    }
}

/// The same, unless the error says by its exit code that it is something else, such as bad input.
fn lost_unless_told(error: Error) -> Error {
    match exit_code(&error) {
        FAILURE => lost(error),
        _ => error,
    }
}

impl Ranks {
    /// Meet the ranks that were started, and tell them what training begins with. Where one of them was lost before and has not come
    /// back, the spec may let training begin with fewer.
    ///
    /// # Errors
    /// A rank that has died or differs; a request to stop while this one waits for the others.
    pub fn lead(
        mut processes: RankProcesses,
        run: &RunDir,
        spec: &Spec,
        launch: &Launch,
        beginning: &Beginning,
        optimizer: &Optimizer,
        stop: &Shutdown,
    ) -> Result<Self> {
        let fewer = (spec.compute.elastic && processes.was_lost()).then_some(Fewer {
            wait: Duration::from_secs(spec.compute.timeout_secs),
            batch: spec.train.batch_size,
        });
        let (ended, stop) = (processes.ended(), stop.clone());
        let lost = move || {
            if stop.requested().is_some() {
                return Some("training was asked to stop before all ranks had come".to_owned());
            }
            // With fewer it is waited for as one of another host.
            ended().filter(|_| fewer.is_none())
        };
        let store = processes.store();
        let lost = Some(Box::new(lost) as Lost);
        let mut group = connect(run, spec, launch, store.as_deref(), lost, fewer)?;
        if group.members().len() < launch.world {
            let members: Vec<String> = group.members().iter().map(Member::to_string).collect();
            console::warning(format_args!(
                "training goes on with {} of {} ranks, as compute.elastic says: {}",
                members.len(),
                launch.world,
                members.join(", ")
            ));
        }
        meet_on_gpus(&mut group, spec, optimizer.network())?;
        let state = optimizer.state();
        group.broadcast(serde_json::to_vec(&(beginning, shapes(&state)))?)?;
        let values = state.values().flatten().flat_map(|tensor| &tensor.values);
        group.broadcast(values.flat_map(|value| value.to_le_bytes()).collect())?;
        Ok(Ranks {
            group,
            _meeting_place: processes.take_directory(),
            _processes: Some(processes),
            recorder: Recorder::default(),
            next: beginning.first,
            recorded_from: recorded_from(beginning, spec),
            is_summing: false,
            end: beginning.end,
            checkpoint_every: spec.train.checkpoint_every,
            patience: timeout(spec, launch),
            heard: Instant::now(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.group.members().len()
    }

    /// Wait until the GPUs' sums have come, before anything of them is read.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn settle(&mut self) -> Result<()> {
        self.group.settle()
    }

    /// Whether one of them was lost.
    pub fn has_lost(&self) -> bool {
        self.group.has_ended()
    }

    /// The gradients and losses of the whole batch of the next step, of which this rank computes those of its part, `images`
    /// and `labels`, for which it `waited` so long. Every now and then, compare the weights. `None` if rank 0 makes no more
    /// steps.
    ///
    /// `asked` says whether this rank's supervisor was asked to stop, each time that the ranks tell one another.
    ///
    /// # Errors
    /// A rank that is lost, weights that differ, and libtorch's.
    pub fn gradients(
        &mut self,
        weights: &Network,
        spec: &Spec,
        (images, labels): (Tensor<4>, Labels),
        waited: Duration,
        mut asked: impl FnMut() -> bool + Send,
    ) -> Result<Option<Mean>> {
        let (step, rank) = (self.next, self.group.rank());
        let after_checkpoint = step % self.checkpoint_every == 1 % self.checkpoint_every;
        let mut checksum = 0.0;
        if after_checkpoint || step.is_multiple_of(COMPARE_EVERY) {
            let settled = self.group.settle();
            settled.map_err(|error| if rank == 0 { error } else { lost(error) })?;
            checksum = f32::from(backend::checksum(weights)?);
        }
        let own = (rank, checksum, waited.as_secs_f32());
        let mut tell = move |group: &mut Group| {
            let notes = Notes {
                stop: asked(),
                ..Notes::default()
            };
            group.start_sum(notes.to_sum(group.members().len(), Some(own)))
        };
        self.is_summing = true;
        let mut told = Some(tell(&mut self.group));
        let (mut stop, mut waits) = (false, Vec::new());
        let begins = |group: &mut Group| {
            while let Some(sum) = told.take() {
                let sums = group.finish_sum(sum)?;
                let (notes, checksums, all_waits) = Notes::of_sums(&sums);
                match notes.turn {
                    Turn::Over => return Ok(false),
                    Turn::Later => {
                        told = Some(tell(group));
                        continue;
                    }
                    Turn::Now => {}
                }
                compare(step, checksums, group.members())?;
                stop = notes.stop;
                let all_waits = all_waits.iter().copied().map(Duration::from_secs_f32);
                let ranks = group.members().iter().map(|member| member.rank);
                waits = ranks.zip(all_waits).collect();
            }
            Ok(true)
        };
        let batch = (images, labels);
        let (group, recorder) = (&mut self.group, &mut self.recorder);
        let batch = backend::batch_gradients(group, weights, spec, step, batch, recorder, begins);
        let batch = batch.and_then(|batch| {
            if step < self.recorded_from {
                group.settle()?;
            }
            Ok(batch)
        });
        if batch.is_err()
            && let Some(told) = told
        {
            // So that the others can hear next why this rank leaves.
            let _ = self.group.finish_sum(told);
        }
        let batch = batch.map_err(|error| match rank {
            1.. if self.group.has_ended() => lost(error),
            _ => error,
        })?;
        self.is_summing = false;
        self.heard = Instant::now();
        let Some((batch, all_reduce)) = batch else {
            return Ok(None);
        };
        self.next += 1;
        Ok(Some(Mean {
            batch,
            times: RankTimes {
                all_reduce,
                waited: waits,
            },
            asks_to_stop: stop,
        }))
    }

    /// On rank 0, in the place of a step: tell the others what it does. Returns what all of them say.
    fn tell(&mut self, turn: Turn) -> Result<Notes> {
        let notes = Notes { stop: false, turn };
        let sums = notes.to_sum(self.group.members().len(), None);
        let sums = self.group.all_reduce(sums)?;
        Ok(Notes::of_sums(&sums).0)
    }

    /// On rank 0: let the others know now and then that it is alive, while it waits for something else than a step. Returns
    /// whether a rank asks for training to stop. That one of them is lost is for the next step to say.
    pub fn keep_alive(&mut self) -> bool {
        let pause = SIGN_OF_LIFE.min(self.patience / SIGNS_OF_LIFE);
        if self.next >= self.end || self.heard.elapsed() < pause {
            return false;
        }
        let told = self.tell(Turn::Later);
        self.heard = Instant::now();
        told.is_ok_and(|said| said.stop)
    }

    /// On rank 0: tell the others how training ends, and let them go. What one of them cannot hear any more changes
    /// nothing: its supervisor finds out.
    pub fn end(mut self, ending: &Ending) {
        let mut tell = || {
            ensure!(!self.is_summing, "the others wait for the sums of a step");
            if self.next < self.end {
                // They are in the next step, or about to begin it.
                self.tell(Turn::Over)?;
            }
            self.group.broadcast(serde_json::to_vec(ending)?)
        };
        match (tell(), ending) {
            (Ok(_), _) => drop(self.group.close()),
            (Err(_), Ending::Failed(why, _)) => self.group.leave(why),
            (Err(_), _) => {} // the group has ended, and said why
        }
    }

    /// On the other ranks: how training ends.
    fn ending(mut self) -> Result<Ending> {
        let ending = self.group.broadcast(Vec::new()).map_err(lost)?;
        // They have all heard it, or are lost.
        let _ = self.group.close();
        Ok(serde_json::from_slice(&ending)?)
    }
}
