//! An experiment runner: a YAML spec in, TensorBoard curves out.
//!
//! ```text
//! experiments/NAME.yaml -> spec -> data -> model -> trainer -> events      -> TensorBoard
//!                                                      |-----> checkpoint -> evaluator -> events
//! runboard run = supervisor of the two processes (trainer, evaluator), same binary
//! ```
//!
//! Trainer and evaluator meet only in the run directory ([`run`]). Where to change what:
//!
//! - a field of a spec, its default, its range: [`spec`]
//! - where images come from, augmentation, batches: [`data`]
//! - the network: [`model`], and its native twin in [`backend`], the only user of libtorch
//! - learning rate, moving averages: [`schedule`]
//! - what a step does, what it shows in TensorBoard, what happens when it diverges: [`trainer`]
//! - which checkpoints are scored: [`checkpoint::queue`]; how, and what is shown of it: [`evaluator`]
//! - what lies on disk: [`checkpoint`], [`events`], [`run`]
//! - what people are told of a run: [`overview`]
//! - how the two processes are started, watched, displayed and stopped: [`supervisor`]
//! - sweeps of many runs: [`sweep`]
//! - commands: [`cli`]
//!
//! No module imports one that stands above it in docs/ARCHITECTURE.md; a test holds that.

pub mod backend;
pub mod checkpoint;
pub mod cli;
pub mod console;
pub mod data;
pub mod error;
pub mod evaluator;
pub mod events;
pub mod files;
pub mod hint;
pub mod home;
pub mod hparams;
pub mod model;
pub mod overview;
pub mod paths;
pub mod pictures;
pub mod run;
pub mod schedule;
pub mod shutdown;
pub mod spec;
pub mod supervisor;
pub mod sweep;
#[cfg(test)]
mod testing;
pub mod trainer;
