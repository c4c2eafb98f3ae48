//! A run on disk: its directory, what it was started from, how its processes are doing, that there is one
//! of each, and how to find it again.

pub mod commands;
mod completion;
pub mod data;
mod directory;
mod early_stop;
mod evaluation;
#[cfg(test)]
mod fuzz;
mod heartbeat;
mod job;
mod journal;
mod labels;
mod lock;
mod point;
mod process;
mod process_dir;
mod provenance;
mod registry;
mod score;
mod smoothed_loss;
mod spec;
mod state;
mod status;
pub(crate) mod stop_request;
mod timestamp;

pub use completion::{Completion, FormerStatus, TrainerDied, record_completion};
pub(crate) use directory::lock as lock_directory;
pub use directory::{Role, RunDir, claim};
pub use early_stop::EarlyStop;
pub use evaluation::{Evaluation, EvaluationProgress, Quality, Scores};
pub use heartbeat::with_heartbeat;
pub use job::Job;
pub use journal::Journal;
pub use labels::{Labels, Note, check_tag};
pub use lock::Lock;
pub(crate) use lock::{Holder, LockState};
pub use point::{record_swept_fields, swept_fields};
pub use process::{Process, ProcessState, boot};
pub use process_dir::{ProcessDir, SWEEP};
pub use provenance::{Git, Provenance, RESUMED, Repetition, SWEPT, Software, WeightsOrigin};
pub use registry::{Found, check_directory, list, list_of_name, points, resolve, resolve_any};
pub use score::Score;
pub use smoothed_loss::{SmoothedLoss, Trend};
pub use spec::{SpecChange, has_new_spec, read_spec};
pub use state::{RunState, Statuses, state};
pub use status::{
    Activity, EvalStatus, Restarts, Status, SupervisorStatus, SweepStatus, TrainStatus,
    is_started_again,
};
pub use stop_request::{StopRequests, request_stop};

#[cfg(test)]
pub(crate) use provenance::tests::provenance;
