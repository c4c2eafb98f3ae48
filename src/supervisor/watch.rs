//! Looking on at a run that another process supervises: the same display, and nothing is touched.

use std::time::Duration;

use super::display::Display;
use super::log::Log;
use crate::run::{Role, RunDir, RunState, Statuses};
use crate::shutdown::Shutdown;

/// How often logs and statuses are looked at.
const POLL: Duration = Duration::from_millis(200);

/// Shows `run` until no process of it is at work, or until `shutdown` is asked for. A pause that it is asked for is none of
/// the run's.
pub fn watch(run: &RunDir, shutdown: &Shutdown, display: &mut Display) {
    let log = |role| (role, Log::follow(run.log(role)));
    let mut logs = [Role::TRAIN, Role::Eval].map(log);
    loop {
        let statuses = Statuses::read(run);
        let is_under_way = statuses.state(run).is_some_and(RunState::is_under_way);
        // After the statuses: what a process that ended wrote last is in its log by now.
        for (role, log) in &mut logs {
            for line in log.lines(!is_under_way) {
                display.line(*role, &line);
            }
        }
        display.update(statuses);
        if !is_under_way || shutdown.sleep(POLL) {
            break;
        }
    }
    display.finish();
}
