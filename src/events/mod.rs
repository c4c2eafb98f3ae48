//! TensorBoard event files: what a process writes so that its curves can be watched.
//!
//! ```text
//! Summaries (one step's curves, pictures, texts), Graph, session -> record -> queue -> thread -> event file
//! ```
//!
//! A directory has one live [`EventWriter`]; each session of a run adds one file to it. The formats are
//! tensorboard-rs's messages and checksums; the file, the queue and the retry are our own, because that
//! crate's writers lose events and panic on a full disk.

mod file;
#[cfg(test)]
mod fuzz;
mod graph;
mod histogram;
mod hparams;
mod last;
mod layout;
mod pr_curve;
mod purge;
mod queue;
mod record;
mod scalars;
mod shown;
mod summaries;
mod tag;
pub mod tags;
mod tensor;
mod values;
mod writer;

pub use graph::{Attribute, Graph, Node};
pub use hparams::{SessionStatus, is_session_listed, list_session};
pub use last::last_scalar;
pub use layout::{Category, Chart};
pub use scalars::{Curve, Point, scalars};
pub use shown::{Shown, shown};
pub use summaries::Summaries;
pub use tag::Tag;
pub use writer::EventWriter;
