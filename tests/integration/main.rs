//! The real binary, from the command line to what it leaves on disk.

mod checkpoints;
mod divergence;
mod evaluations;
mod faults;
mod input;
mod locks;
mod resume;
mod runs;
mod supervision;
mod support;
mod tensorboard;
mod terminal;
