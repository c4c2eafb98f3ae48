//! A thread that makes calls which may never return, so that who asked for them waits so long and no longer.

use anyhow::{Context, Result};
use std::sync::mpsc::{self, Receiver, Sender};
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

    /// Make a call. `None` if it has not returned within the limit: then the thread is lost, which the process's end has to know
    /// ([`super::end_if_lost`]), and so is every later call.
    pub fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Option<T> {
        let result = self.start_call(call).wait(limit);
        if result.is_none() {
            super::lose_thread();
        }
        result
    }

    /// Make a call after those before it, while this thread goes on.
    pub fn start_call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Pending<T> {
        let (sender, result) = mpsc::sync_channel(1);
        let job = move |state: &mut S| {
            // Who asked may be gone.
            let _ = sender.send(call(state));
        };
        // If the thread is gone, so is the sender, and the wait ends at once.
        let _ = self.0.send(Box::new(job));
        Pending(result)
    }
}

/// A call that is being made.
pub struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// What it returns; `None` if it has not within the limit, or the thread is lost.
    pub fn wait(&self, limit: Duration) -> Option<T> {
        self.0.recv_timeout(limit).ok()
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
        let [second, third] = [worker.start_call(add), worker.start_call(add)];
        assert_eq!(third.wait(long), Some(3));
        assert_eq!(second.wait(long), Some(2));
        let (_open, never) = mpsc::channel::<()>();
        let hang = move |_: &mut u32| never.recv().is_ok();
        assert_eq!(worker.call(Duration::from_millis(10), hang), None);
        assert_eq!(worker.call(Duration::from_millis(10), add), None);
    }
}
