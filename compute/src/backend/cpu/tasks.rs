//! Work in pieces of different sizes, spread over the threads.

use std::sync::{Mutex, PoisonError};

/// A piece of work, which no other one waits for.
pub type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Do all tasks: each thread takes the next one when it is done with its last. With the smallest ones at the end, all
/// threads are done at about the same time.
pub fn run(tasks: Vec<Task>) {
    share(tasks.into_iter(), || (), |(), task| task());
}

/// Do some work with each item, as [`run`] does. Each thread has a state of its own, which is made for its first item.
pub fn share<T: Send, W>(
    items: impl Iterator<Item = T> + Send,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, T) + Sync,
) {
    let queue = Mutex::new(items);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut own = None;
        while let Some(item) = next() {
            work(own.get_or_insert_with(&state), item);
        }
    };
    rayon::scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| work());
        }
        work();
    });
}
