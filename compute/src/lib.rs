//! All of runboard that computes, on burn and libtorch: a program of its own, which `runboard` starts.
//!
//! - the network: [`model`], and its native twin in [`backend`], the only user of libtorch
//! - what a step does, what it shows in TensorBoard, what happens when it diverges: [`trainer`]
//! - how checkpoints are scored, and what is shown of it: [`evaluator`]
//! - what is there on this machine: [`examination`]
//!
//! Everything else is in the library `runboard`.

pub mod backend;
pub mod evaluator;
pub mod examination;
pub mod model;
#[cfg(test)]
mod testing;
pub mod trainer;
