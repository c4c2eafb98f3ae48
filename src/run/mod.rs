//! A run on disk: its directory, what it was started from, how its two processes are doing, and how to
//! find it again.

mod directory;
mod provenance;
mod registry;
mod status;

pub use directory::{Role, RunDir};
pub use provenance::{Provenance, Software};
pub use registry::{Entry, latest, list, resolve};
pub use status::{EvalStatus, Process, Score, State, Status, TrainStatus};

#[cfg(test)]
pub(crate) use provenance::tests::provenance;
