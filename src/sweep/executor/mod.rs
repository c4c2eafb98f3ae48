//! What runs the supervisors of a sweep's points: this machine, as children of the sweep's process, or Slurm, as jobs.
//!
//! A point is known by its index among those of the sweep.

mod local;
mod slurm;
mod submission;

use std::ffi::OsString;

use anyhow::Result;

pub use self::local::Local;
pub use self::slurm::Slurm;
use super::slot::Slot;
use crate::run::{Lock, RunDir, SupervisorStatus};
use crate::spec::Spec;

/// How many lines of a supervisor's log are shown at most of a point that failed: they have the end of the others.
const TAIL: usize = 60;

/// What a point computes on.
pub struct Room {
    /// Its `compute.device`.
    pub device: String,
    /// Its `compute.threads`.
    pub threads: usize,
    /// What it has of this machine.
    slot: Option<Slot>,
}

/// How the supervisor of a point has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, without an error.
    Well,
    /// It was asked to stop.
    Stopped,
    /// It was killed, or its machine was: it may go on.
    Killed,
    /// By an error.
    Failed,
}

impl Ended {
    /// By its exit code; none of one that a signal has killed.
    fn of(code: Option<i32>) -> Self {
        match code {
            Some(0) => Ended::Well,
            Some(129 | 130 | 143) => Ended::Stopped,
            // 128 + SIGUSR1: its time was up.
            None | Some(138) => Ended::Killed,
            Some(_) => Ended::Failed,
        }
    }
}

/// The end of a point's supervisor.
pub struct End {
    /// Its index.
    pub point: usize,
    pub how: Ended,
    /// How, for people: `its supervisor ended (exit code 1)`.
    pub text: String,
    /// The end of its log.
    pub log: Vec<String>,
}

/// See the module.
pub trait Executor {
    /// Room for a point of this spec; none if there is none now: [`Executor::waits`] then tells for what it waits.
    ///
    /// # Errors
    /// If it cannot be told.
    fn reserve(&mut self, spec: &Spec) -> Result<Option<Room>>;

    /// Starts `runboard resume RUN ARGUMENTS`, with the lock if the run is a new one. Returns where, for people: `on cpu
    /// with 2 threads`, `as job 77`; none if there is no room after all.
    ///
    /// # Errors
    /// If it cannot be started, nor later.
    fn start(
        &mut self,
        point: usize,
        run: &RunDir,
        lock: Option<Lock>,
        arguments: &[OsString],
        room: Room,
    ) -> Result<Option<String>>;

    /// Looks which have ended. What cannot be told now, and passes, is told to `notice`.
    ///
    /// # Errors
    /// If that can never be told.
    fn poll(&mut self, notice: &mut dyn FnMut(&str)) -> Result<Vec<End>>;

    /// Whether a point has been started and has not ended.
    fn is_running(&self, point: usize) -> bool;

    /// Whether the supervisor of a point that runs has written this status.
    fn has_written(&self, point: usize, status: &SupervisorStatus) -> bool;

    /// What points wait for, for people.
    fn waits(&self) -> Option<String>;

    /// Waits no longer for room.
    fn leave(&mut self);

    /// Asks all to stop after a last checkpoint, and waits no longer for room. It may be asked again.
    fn stop(&mut self);

    /// Ends all at once.
    fn kill(&mut self);

    /// Pauses all, if that can be. Returns whether it can.
    fn pause(&mut self) -> bool;

    /// Lets all go on.
    fn go_on(&mut self);
}
