//! How long programs take that work in steps: `make bench` and `runboard verify` time runboard so beside others.

mod process;
mod reference;
mod statistics;
mod turns;

pub use process::{SteppedProcess, peak_memory_mib};
pub use reference::{Reference, pytorch, pytorch_fast};
pub use statistics::Spread;
pub use turns::{Timed, TimedCommand, Turns, compare};
