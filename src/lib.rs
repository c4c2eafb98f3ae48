//! An experiment runner: a YAML spec in, TensorBoard curves out.
//!
//! ```text
//! experiments/NAME.yaml -> spec -> data -> model -> trainer -> events      -> TensorBoard
//!                                                      |-----> checkpoint -> evaluator -> events
//! runboard run = supervisor of the two processes (trainer, evaluator), which are of the program runboard-compute
//! ```
//!
//! Here is all that needs no libtorch. What does, network, trainer and evaluator, is the package `compute/`, which depends on
//! this one and is [`compute`] to it.
//!
//! Trainer and evaluator meet only in the run directory ([`run`]). Where to change what:
//!
//! - a field of a spec, its default, its range: [`spec`]
//! - where images come from, augmentation, batches: [`data`]
//! - learning rate, moving averages: [`schedule`]
//! - which checkpoints are scored: [`checkpoint::queue`]
//! - what lies on disk: [`checkpoint`], [`events`], [`run`]
//! - what people are told of a run: [`overview`]
//! - how the two processes are started, watched, displayed and stopped: [`supervisor`]
//! - which ranks a process has, of those on several hosts: [`launch`]
//! - sweeps of many runs: [`sweep`]
//! - runs as a table, to be listed, chosen, compared and removed: [`catalog`]
//! - what a machine makes of it, measured: [`verify`], [`measure`]
//! - commands: [`cli`]
//!
//! No module imports one that stands above it in docs/ARCHITECTURE.md; a test holds that.

pub mod bundle;
pub mod catalog;
pub mod checkpoint;
pub mod cli;
pub mod compute;
pub mod console;
pub mod data;
pub mod error;
pub mod events;
pub mod files;
pub mod hint;
pub mod home;
pub mod hparams;
pub mod launch;
pub mod measure;
pub mod overview;
pub mod parent;
pub mod paths;
pub mod pictures;
mod proc_stat;
pub mod reference;
pub mod report;
pub mod run;
pub mod schedule;
pub mod shutdown;
pub mod slurm;
pub mod spec;
pub mod supervisor;
pub mod sweep;
#[cfg(test)]
mod testing;
pub mod verify;
