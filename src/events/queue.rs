//! The bounded queue between training and the disk, and the thread that empties it.
//!
//! Training never waits for the disk. While the disk refuses (full, say), the thread keeps the rest of the
//! record it was writing and tries again every second; what the queue cannot hold meanwhile is counted and
//! given up. Bytes already in the file are never taken back: a reader may have seen them.

use anyhow::{Result, bail};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two tries to write what the disk refused.
const RETRY: Duration = Duration::from_secs(1);
/// How long a flush, and the end, wait for a disk that neither takes nor refuses.
const PATIENCE: Duration = Duration::from_secs(30);

/// Records on their way into one file.
pub(super) struct RecordQueue {
    shared: Arc<Shared>,
    capacity: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Of the waiting records and the one being written.
    bytes: usize,
    accepted: u64,
    written: u64,
    dropped: u64,
    failures: u64,
    last_error: String,
    retry_now: bool,
    closing: bool,
    ended: bool,
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned state is a whole one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait while `condition` holds, at most for `limit`.
    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout_while(state, limit, condition)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl RecordQueue {
    /// Start the thread that writes to `out`, one `write` call a record. `capacity` in bytes.
    pub fn start(out: impl Write + Send + 'static, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                empty(out, &theirs);
                theirs.lock().ended = true;
                theirs.changed.notify_all();
            })?;
        Ok(RecordQueue { shared, capacity })
    }

    /// Queue a record without waiting, or give it up if the queue is full. An empty queue takes a record of
    /// any size.
    pub fn push(&self, record: Vec<u8>) {
        let mut state = self.shared.lock();
        if state.bytes > 0 && state.bytes + record.len() > self.capacity {
            state.dropped += 1;
            return;
        }
        state.bytes += record.len();
        state.accepted += 1;
        state.waiting.push_back(record);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Wait until all records accepted so far are in the file. Fails as soon as a write fails, even if the
    /// thread will try again.
    pub fn flush(&self) -> Result<()> {
        let mut state = self.shared.lock();
        let (wanted, failures) = (state.accepted, state.failures);
        state.retry_now = true;
        self.shared.changed.notify_all();
        let state = self.shared.wait_while(state, PATIENCE, |state| {
            state.written < wanted && state.failures == failures && !state.ended
        });
        let left = wanted.saturating_sub(state.written);
        if left == 0 {
            Ok(())
        } else if state.failures > failures {
            bail!("{} ({left} events wait for the next try)", state.last_error)
        } else {
            bail!(
                "{left} events are not written after {} s",
                PATIENCE.as_secs()
            )
        }
    }

    /// Records given up so far.
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }
}

impl Drop for RecordQueue {
    /// Write what is left; on a disk that refuses, try once and leave.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        drop(
            self.shared
                .wait_while(state, PATIENCE, |state| !state.ended),
        );
    }
}

/// The thread: write record after record until the queue is closed.
fn empty(mut out: impl Write, shared: &Shared) {
    let mut state = shared.lock();
    loop {
        let Some(record) = state.waiting.pop_front() else {
            if state.closing {
                return;
            }
            state = shared.wait(state);
            continue;
        };
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            drop(state);
            let result = out.write(rest);
            state = shared.lock();
            match result {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                refused => {
                    let error = refused.err().unwrap_or(io::ErrorKind::WriteZero.into());
                    state.last_error = error.to_string();
                    state.failures += 1;
                    state.retry_now = false;
                    shared.changed.notify_all();
                    if state.closing {
                        return;
                    }
                    state =
                        shared.wait_while(state, RETRY, |state| !state.retry_now && !state.closing);
                }
            }
        }
        state.bytes -= record.len();
        state.written += 1;
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// A disk with some room left, and what is on it.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn free(&self, bytes: usize) {
            self.0.lock().unwrap().0 += bytes;
        }

        fn content(&self) -> Vec<u8> {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl Write for Disk {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let (room, content) = &mut *self.0.lock().unwrap();
            let count = data.len().min(*room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= count;
            content.extend_from_slice(&data[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_whole_records_only_and_counts_them() {
        let disk = Disk::default();
        // Room for a part of the third record.
        disk.free(25);
        let queue = RecordQueue::start(disk.clone(), 100).unwrap();
        for n in 0..50u8 {
            queue.push(vec![n; 10]);
        }
        let error = queue.flush().unwrap_err().to_string();
        assert!(error.contains("events wait for the next try"), "{error}");
        assert_eq!(disk.content().len(), 25);
        // At most what was written and what the queue holds could be taken.
        let dropped = queue.dropped();
        assert!((38..50).contains(&dropped), "{dropped}");

        disk.free(10_000);
        queue.flush().unwrap();
        queue.push(vec![99; 10]);
        queue.flush().unwrap();
        let content = disk.content();
        assert!(
            content
                .chunks(10)
                .all(|record| record.iter().all(|byte| *byte == record[0]))
        );
        let records: Vec<u8> = content.chunks(10).map(|record| record[0]).collect();
        assert!(records.is_sorted());
        assert_eq!(records.len() as u64, 51 - dropped);
        assert_eq!(queue.dropped(), dropped);
    }

    #[test]
    fn a_disk_that_is_full_for_ever_neither_blocks_nor_panics() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let queue = RecordQueue::start(full, 100).unwrap();
        for _ in 0..1000 {
            queue.push(vec![0; 60]);
        }
        let error = queue.flush().unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(queue.dropped(), 999);
    }

    #[test]
    fn the_disk_is_tried_again_without_being_asked() {
        let disk = Disk::default();
        let queue = RecordQueue::start(disk.clone(), 100).unwrap();
        queue.push(vec![7; 10]);
        queue.flush().unwrap_err();
        disk.free(10);
        // A minute is no limit on the retry, only an end for a test that fails.
        for _ in 0..6000 {
            if disk.content().len() == 10 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("got no second try");
    }

    #[test]
    fn the_end_writes_what_is_left() {
        let disk = Disk::default();
        disk.free(1_000_000);
        let queue = RecordQueue::start(disk.clone(), 1_000_000).unwrap();
        for _ in 0..1000 {
            queue.push(vec![1; 100]);
        }
        drop(queue);
        assert_eq!(disk.content().len(), 100_000);
    }
}
