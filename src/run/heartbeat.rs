//! A process's signs of life while it is at something long that has no steps.

use super::{RunDir, Status};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How often the status is written.
const INTERVAL: Duration = Duration::from_secs(1);

/// Does `work`, such as a download of the data, which may take minutes, while a thread keeps the heartbeat of
/// `status` fresh.
pub fn with_heartbeat<S, T>(status: &mut S, run: &RunDir, work: impl FnOnce() -> T) -> T
where
    S: Status + Send,
{
    with_heartbeat_every(INTERVAL, status, run, work)
}

fn with_heartbeat_every<S, T>(
    interval: Duration,
    status: &mut S,
    run: &RunDir,
    work: impl FnOnce() -> T,
) -> T
where
    S: Status + Send,
{
    thread::scope(|scope| {
        // Dropped when the work is done, also by a panic: that ends the thread.
        let (_working, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                status.save_heartbeat(run);
            }
        });
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, TrainStatus, provenance};

    #[test]
    fn heartbeat_is_renewed_until_the_work_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let mut status = TrainStatus {
            steps: 9,
            ..TrainStatus::new(Process::current())
        };
        let heartbeat = || Some(TrainStatus::load(&run).unwrap()?.process.heartbeat);
        let result = with_heartbeat_every(Duration::from_millis(1), &mut status, &run, || {
            // Ends only by heartbeats.
            let mut before = None;
            for _ in 0..3 {
                let mut now = heartbeat();
                while now == before {
                    thread::yield_now();
                    now = heartbeat();
                }
                before = now;
            }
            7
        });
        assert_eq!(result, 7);
        assert_eq!(heartbeat(), Some(status.process.heartbeat));
    }
}
