//! A thread that makes calls which may never return, so that who asked for them waits so long and no longer.

use anyhow::{Context, Result};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns a state, which is made and dropped there.
pub struct Worker<S>(Sender<Job<S>>);

impl<S: Default + 'static> Worker<S> {
    /// Start the thread.
    ///
    /// # Errors
    /// The system's, if there is no thread to have.
    pub fn start() -> Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job<S>>();
        let work = move || {
            let mut state = S::default();
            for job in jobs {
                job(&mut state);
            }
        };
        let thread = thread::Builder::new().name("group".into());
        thread
            .spawn(work)
            .context("failed to start the group's thread")?;
        Ok(Worker(sender))
    }

    /// Make a call. `None` if it has not returned within the limit: then the thread is lost, and so is every later call.
    pub fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = mpsc::sync_channel(1);
        let job = move |state: &mut S| {
            // Who asked may be gone.
            let _ = sender.send(call(state));
        };
        self.0.send(Box::new(job)).ok()?;
        result.recv_timeout(limit).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_keeps_its_state_and_gives_up_a_call_that_does_not_return() {
        let worker = Worker::<u32>::start().unwrap();
        let long = Duration::from_secs(60);
        let add = |state: &mut u32| {
            *state += 1;
            *state
        };
        assert_eq!(worker.call(long, add), Some(1));
        assert_eq!(worker.call(long, add), Some(2));
        let (_open, never) = mpsc::channel::<()>();
        let hang = move |_: &mut u32| never.recv().is_ok();
        assert_eq!(worker.call(Duration::from_millis(10), hang), None);
        assert_eq!(worker.call(Duration::from_millis(10), add), None);
    }
}
