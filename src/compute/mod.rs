//! The other program, `runboard-compute`: the trainer and the evaluator are processes of it, and it says what the machine has
//! and how fast it trains. runboard itself needs no libtorch and does not load it, so that every command starts at once.

pub mod environment;
mod examination;
mod goldens;
mod libtorch;
mod machine;
mod pace;
mod predict;
mod program;
mod score;
mod steps;

pub use examination::{Driver, Examination, Gpu, GpuLibraries, RoundTrip, examine};
pub use goldens::{Comparison, Goldens, goldens, worst};
pub use libtorch::version as libtorch_version;
pub use machine::{Machine, machine};
pub use pace::{Pace, Trial};
pub use predict::{Predictions, Question, Viewer, predict};
pub use program::{BUILD, check_build, path, remedy, replace_this_process, supervised};
pub use score::{ClassScore, Measurement, Scored, score};
pub use steps::{Phase, StepTimes, steps};
