//! A run on disk: its directory, what it was started from, how its processes are doing, that there is one
//! of each, and how to find it again.

mod directory;
#[cfg(test)]
mod fuzz;
mod journal;
mod lock;
mod provenance;
mod registry;
mod status;

pub use directory::{Role, RunDir};
pub use journal::{Evaluation, Journal, Scores, Standing};
pub use lock::Lock;
pub use provenance::{Provenance, Software};
pub use registry::{Entry, latest, list, resolve, state};
pub use status::{
    EvalStatus, Process, Restarts, Score, State, Status, SupervisorStatus, TrainStatus,
};

#[cfg(test)]
pub(crate) use provenance::tests::provenance;
