//! Work in pieces of different sizes, spread over the threads.

use std::sync::{Mutex, PoisonError};

/// A piece of work, which no other one waits for.
pub type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Do all tasks: each thread takes the next one when it is done with its last. With the smallest ones at the end, all
/// threads are done at about the same time.
pub fn run(tasks: Vec<Task>) {
    let queue = Mutex::new(tasks.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(task) = next() {
            task();
        }
    };
    rayon::scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| work());
        }
        work();
    });
}
