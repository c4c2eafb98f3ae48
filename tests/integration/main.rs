//! The real binary, from the command line to what it leaves on disk.

#[path = "../../src/testing/fuzz.rs"]
mod cases;
mod catalog;
mod changes;
mod check;
mod checkpoints;
mod commands;
mod data;
mod devices;
mod divergence;
mod early_stop;
mod environment;
mod evaluations;
mod export;
mod faults;
mod fuzz;
mod home;
mod hosts;
mod input;
mod locks;
mod make;
mod paths;
mod predict;
mod rerun;
mod resume;
mod runs;
mod supervision;
mod support;
mod sweep;
mod tensorboard;
mod terminal;
mod tour;
mod trash;
mod until;
mod warm_start;
mod watch;
