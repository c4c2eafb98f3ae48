//! Background threads that produce numbered items ahead of their use: delivered in order, bounded in memory,
//! stopped with their owner.

use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Items first, first + 1, ... without end, each produced by one of several threads.
///
/// Worker w of W produces every W-th item and has a queue of its own; reading the queues in turn gives the
/// order back. At most `prefetch` items queue and each worker holds one more.
#[derive(Debug)]
pub(super) struct Prefetch<T> {
    workers: Vec<Worker<T>>,
    /// Index of the worker that has the next item.
    next_worker: usize,
    /// Items produced and not yet taken.
    produced: Arc<AtomicUsize>,
    prefetch: usize,
}

#[derive(Debug)]
struct Worker<T> {
    /// None once the worker is told to stop.
    queue: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts `workers` threads, at least one, on items `first` and up. Each has its own copy of `produce`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(
        first: u64,
        prefetch: usize,
        workers: usize,
        produce: impl FnMut(u64) -> T + Clone + Send + 'static,
    ) -> Result<Prefetch<T>> {
        let count = workers.max(1);
        let produced = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::with_capacity(count);
        for worker in 0..count {
            let capacity = prefetch / count + usize::from(worker < prefetch % count);
            let (sender, queue) = sync_channel(capacity);
            let (mut produce, produced) = (produce.clone(), Arc::clone(&produced));
            let work = move || {
                for index in (first + worker as u64..).step_by(count) {
                    let item = produce(index);
                    produced.fetch_add(1, Ordering::Relaxed);
                    // The receiver is gone: the owner has stopped.
                    if sender.send(item).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("prefetch-{worker}"))
                .spawn(work)
                .context("failed to start a data thread")?;
            workers.push(Worker {
                queue: Some(queue),
                thread: Some(thread),
            });
        }
        Ok(Prefetch {
            workers,
            next_worker: 0,
            produced,
            prefetch,
        })
    }

    /// The next item; waits until it is produced.
    ///
    /// # Errors
    /// If the worker that had to produce it has panicked.
    pub(super) fn next(&mut self) -> Result<T> {
        let worker = &mut self.workers[self.next_worker];
        let item = worker.queue.as_ref().and_then(|queue| queue.recv().ok());
        let Some(item) = item else {
            return Err(worker.failure());
        };
        self.produced.fetch_sub(1, Ordering::Relaxed);
        self.next_worker = (self.next_worker + 1) % self.workers.len();
        Ok(item)
    }

    /// Items that are produced and not yet taken, at most `prefetch`.
    pub(super) fn ready(&self) -> usize {
        // Workers that wait for their queue to have room hold an item beyond the queue's.
        self.produced.load(Ordering::Relaxed).min(self.prefetch)
    }
}

impl<T> Worker<T> {
    /// Why the queue ended.
    fn failure(&mut self) -> anyhow::Error {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                anyhow!("a data thread panicked: {}", text.unwrap_or("no message"))
            }
            _ => anyhow!("a data thread has ended"),
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // All queues close before the first join, so that the threads stop side by side.
        for worker in &mut self.workers {
            worker.queue = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A panic that no call of `next` has met is of no consequence any more.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_for_any_number_of_workers_and_places() {
        for workers in [0, 1, 2, 5] {
            for prefetch in [0, 1, 2, 7] {
                let mut items = Prefetch::start(10, prefetch, workers, |index| index).unwrap();
                let got: Vec<u64> = (0..50).map(|_| items.next().unwrap()).collect();
                assert_eq!(got, (10..60).collect::<Vec<_>>());
            }
        }
    }

    /// An item that counts how many of its kind are alive, and the most there ever were.
    #[derive(Debug)]
    struct Tracked(Arc<[AtomicUsize; 2]>);

    impl Tracked {
        fn new(counts: &Arc<[AtomicUsize; 2]>) -> Tracked {
            let alive = counts[0].fetch_add(1, Ordering::SeqCst) + 1;
            counts[1].fetch_max(alive, Ordering::SeqCst);
            Tracked(Arc::clone(counts))
        }
    }

    impl Drop for Tracked {
        fn drop(&mut self) {
            self.0[0].fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn items_are_bounded_in_number_and_freed_on_drop() {
        for (prefetch, workers) in [(0, 1), (4, 1), (1, 3), (4, 3)] {
            let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let counted = Arc::clone(&counts);
            let mut items =
                Prefetch::start(0, prefetch, workers, move |_| Tracked::new(&counted)).unwrap();
            for _ in 0..100 {
                drop(items.next().unwrap());
                assert!(items.ready() <= prefetch);
            }
            // Full queues hold every worker at the bound; wait for that state, then drop in it.
            while counts[0].load(Ordering::SeqCst) < prefetch + workers {
                std::thread::yield_now();
            }
            assert_eq!(items.ready(), prefetch);
            drop(items);
            assert_eq!(counts[0].load(Ordering::SeqCst), 0);
            // One more than waits may live for a moment: the one that `next` has just handed over.
            assert!(counts[1].load(Ordering::SeqCst) <= prefetch + workers + 1);
        }
    }

    #[test]
    fn panics_become_errors_at_their_place() {
        let produce = |index: u64| {
            assert!(index != 4, "item {index} fails");
            index
        };
        let mut items = Prefetch::start(0, 2, 3, produce).unwrap();
        for index in 0..4 {
            assert_eq!(items.next().unwrap(), index);
        }
        let error = items.next().unwrap_err().to_string();
        assert_eq!(error, "a data thread panicked: item 4 fails");
        assert_eq!(
            items.next().unwrap_err().to_string(),
            "a data thread has ended"
        );
    }
}
