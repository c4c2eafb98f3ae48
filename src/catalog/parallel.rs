//! Many files at once: reading them waits for the disk, and parsing them for a core.

use rayon::prelude::*;

/// What `work` makes of each item, in their order, by as many threads as there are cores.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    items.par_iter().map(work).collect()
}
