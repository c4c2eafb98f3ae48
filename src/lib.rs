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
//! - where images come from and what happens to them on the way in: [`data`]
//! - the network: [`model`], and its native twin in [`backend`], the only user of libtorch
//! - learning rate, moving averages: [`schedule`]
//! - what a step does: [`trainer`]; what happens when it diverges: [`divergence`]; what it shows in TensorBoard: [`reporter`], [`pictures`]
//! - which checkpoints are scored: [`backlog`], [`evaluator`]; how: [`metrics`]; what is shown of it: [`scoreboard`], [`comparison`]
//! - what lies on disk: [`checkpoint`], [`events`], [`run`]
//! - how the two processes are started, watched and stopped: [`supervisor`], [`progress`]
//! - what a process that computes needs in its environment: [`environment`]
//! - commands: [`cli`]

pub mod backend;
pub mod backlog;
pub mod checkpoint;
pub mod cli;
pub mod comparison;
pub mod console;
pub mod data;
pub mod divergence;
pub mod environment;
pub mod error;
pub mod evaluator;
pub mod events;
pub mod files;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
pub mod graph;
#[cfg(test)]
mod heap;
pub mod meter;
pub mod metrics;
pub mod model;
pub mod pictures;
pub mod progress;
pub mod reporter;
pub mod run;
pub mod schedule;
pub mod scoreboard;
pub mod session;
pub mod spec;
pub mod stop;
pub mod supervisor;
pub mod trainer;
