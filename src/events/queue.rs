//! The bounded queue between training and the disk, and the thread that empties it.
//!
//! Training never waits for the disk. While writes fail (the disk is full, say), the thread keeps the rest of the
//! record it was writing and tries again every second; records that the queue cannot hold meanwhile are counted and
//! dropped. The user is warned when that begins and told how it ended, not once an event. Bytes already in the
//! file are never taken back: a reader may have seen them.

use anyhow::Result;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two tries of a write that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a flush, and the end, wait for a disk that does not answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The file that records go into.
pub(super) trait RecordFile: Send + 'static {
    /// Called before each record: if the file was removed, begin a new one. Returns whether that was so.
    fn replace_if_removed(&mut self) -> Result<bool>;

    /// As [`io::Write::write`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Records on their way into one file.
pub(super) struct RecordQueue {
    shared: Arc<Shared>,
    capacity: usize,
}

struct Shared {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// Warns the user.
    warn: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Vec<u8>>,
    /// Of the waiting records and the one being written.
    bytes: usize,
    accepted: u64,
    written: u64,
    /// Records that the queue had no room for.
    dropped: u64,
    failures: u64,
    /// Of the last write, unless it was reported or a write has succeeded since.
    error: Option<anyhow::Error>,
    retry_now: bool,
    closing: bool,
    ended: bool,
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned state is a whole one.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait while `condition` holds, at most for `limit`.
    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, QueueState>,
        limit: Duration,
        condition: impl FnMut(&mut QueueState) -> bool,
    ) -> MutexGuard<'a, QueueState> {
        self.changed
            .wait_timeout_while(state, limit, condition)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// The next record, waited for; `None` if the queue is closed and empty.
    fn next_record(&self) -> Option<Vec<u8>> {
        let more = |state: &mut QueueState| state.waiting.is_empty() && !state.closing;
        let mut state = self
            .changed
            .wait_while(self.lock(), more)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front()
    }

    /// Count a record that is in the file.
    fn mark_written(&self, record: &[u8]) {
        let mut state = self.lock();
        state.bytes -= record.len();
        state.written += 1;
        state.error = None;
        self.changed.notify_all();
    }

    /// Note that a write failed, and wait until the next try is due. Returns whether there is to be one.
    fn wait_to_retry(&self, error: anyhow::Error) -> bool {
        let mut state = self.lock();
        state.failures += 1;
        state.error = Some(error);
        state.retry_now = false;
        self.changed.notify_all();
        if state.closing {
            return false;
        }
        drop(self.wait_while(state, RETRY_INTERVAL, |state| {
            !state.retry_now && !state.closing
        }));
        true
    }
}

impl RecordQueue {
    /// Start the thread that writes to `file`, one `write` call a record. `capacity` in bytes; `warn` is called with
    /// what the user should know.
    pub fn start(
        file: impl RecordFile,
        capacity: usize,
        warn: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            warn: Box::new(warn),
        });
        let threads_own = Arc::clone(&shared);
        thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                write_records(file, &threads_own);
                threads_own.lock().ended = true;
                threads_own.changed.notify_all();
            })?;
        Ok(RecordQueue { shared, capacity })
    }

    /// Queue a record without waiting, or drop it if the queue is full. An empty queue takes a record of
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

    /// Wait until all records accepted so far are in the file.
    ///
    /// # Errors
    /// That of a write that failed meanwhile, which the thread will try again; [`io::ErrorKind::TimedOut`] if
    /// the disk does not answer.
    pub fn flush(&self) -> Result<()> {
        let mut state = self.shared.lock();
        let (accepted, failures) = (state.accepted, state.failures);
        state.retry_now = true;
        self.shared.changed.notify_all();
        let mut state = self.shared.wait_while(state, TIMEOUT, |state| {
            state.written < accepted && state.failures == failures && !state.ended
        });
        if state.written >= accepted {
            return Ok(());
        }
        let timed_out = || io::Error::from(io::ErrorKind::TimedOut).into();
        Err(state.error.take().unwrap_or_else(timed_out))
    }
}

impl Drop for RecordQueue {
    /// Write what is left; where that fails, try no more than once.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let state = self.shared.wait_while(state, TIMEOUT, |state| !state.ended);
        let lost = state.dropped + state.accepted - state.written;
        drop(state);
        if lost > 0 {
            (self.shared.warn)(&format!("{lost} could not be written and are lost"));
        }
    }
}

/// The thread: write record after record until the queue is closed.
fn write_records(mut file: impl RecordFile, shared: &Shared) {
    let mut failure = Failure::default();
    while let Some(record) = shared.next_record() {
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            let first = rest.len() == record.len();
            match write_some(&mut file, first, rest, shared) {
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    failure.report(&error, shared);
                    if !shared.wait_to_retry(error) {
                        return;
                    }
                }
            }
        }
        failure.report_end(shared);
        shared.mark_written(&record);
    }
}

/// Try once to write a record, or the rest of it. Returns how much was written, at least a byte.
fn write_some(
    file: &mut impl RecordFile,
    first: bool,
    bytes: &[u8],
    shared: &Shared,
) -> Result<usize> {
    if first && file.replace_if_removed()? {
        (shared.warn)("their file was removed; they go on in a new one");
    }
    loop {
        match file.write(bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Ok(result?),
        }
    }
}

/// What the user has been told about writes that fail.
#[derive(Default)]
struct Failure {
    /// That they do.
    reported: bool,
    /// That records are dropped meanwhile.
    drops_reported: bool,
    /// Records dropped before this failure.
    dropped_before: u64,
}

impl Failure {
    fn report(&mut self, error: &anyhow::Error, shared: &Shared) {
        if !self.reported {
            (shared.warn)(&format!(
                "{error:#}; they wait in memory and are tried again every second"
            ));
            self.reported = true;
        }
        if !self.drops_reported && shared.lock().dropped > self.dropped_before {
            (shared.warn)("the memory for them is full: new ones are given up");
            self.drops_reported = true;
        }
    }

    fn report_end(&mut self, shared: &Shared) {
        if self.reported {
            let dropped = shared.lock().dropped;
            let lost = dropped - self.dropped_before;
            (shared.warn)(&format!("they are written again; {lost} were given up"));
            *self = Failure {
                dropped_before: dropped,
                ..Failure::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a disk with so many bytes of room left, and what is in it.
    #[derive(Clone, Default)]
    struct LimitedFile(Arc<Mutex<(usize, Vec<u8>)>>);

    impl LimitedFile {
        fn free(&self, bytes: usize) {
            self.0.lock().unwrap().0 += bytes;
        }

        fn content(&self) -> Vec<u8> {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl RecordFile for LimitedFile {
        fn replace_if_removed(&mut self) -> Result<bool> {
            Ok(false)
        }

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
    }

    /// The warnings of a queue.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<String>>>);

    impl Warnings {
        fn start(&self, file: impl RecordFile, capacity: usize) -> RecordQueue {
            let warnings = self.clone();
            let warn = move |text: &str| warnings.0.lock().unwrap().push(text.into());
            RecordQueue::start(file, capacity, warn).unwrap()
        }

        fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    #[test]
    fn full_disk_costs_whole_records_only_and_counts_them() {
        let (file, warnings) = (LimitedFile::default(), Warnings::default());
        // Room for a part of the third record.
        file.free(25);
        let queue = warnings.start(file.clone(), 100);
        for n in 0..50u8 {
            queue.push(vec![n; 10]);
        }
        for _ in 0..3 {
            let error = queue.flush().unwrap_err();
            assert_eq!(error.to_string(), "no storage space");
        }
        assert_eq!(file.content().len(), 25);
        // At most what was written and what the queue holds could be taken.
        let dropped = queue.shared.lock().dropped;
        assert!((38..50).contains(&dropped), "{dropped}");

        file.free(10_000);
        // A try that began before there was room may still fail, one.
        queue.flush().or_else(|_| queue.flush()).unwrap();
        queue.push(vec![99; 10]);
        queue.flush().unwrap();
        let content = file.content();
        assert!(
            content
                .chunks(10)
                .all(|record| record.iter().all(|byte| *byte == record[0]))
        );
        let records: Vec<u8> = content.chunks(10).map(|record| record[0]).collect();
        assert!(records.is_sorted());
        assert_eq!(records.len() as u64, 51 - dropped);

        // Once each, however many events and tries there were.
        let waits = "no storage space; they wait in memory and are tried again every second";
        let full = "the memory for them is full: new ones are given up";
        let again = format!("they are written again; {dropped} were given up");
        assert_eq!(warnings.lines(), [waits, full, &again]);
        drop(queue);
        let end = format!("{dropped} could not be written and are lost");
        assert_eq!(warnings.lines().last(), Some(&end));
    }

    #[test]
    fn disk_that_stays_full_neither_blocks_nor_panics() {
        let warnings = Warnings::default();
        let queue = warnings.start(LimitedFile::default(), 100);
        for _ in 0..1000 {
            queue.push(vec![0; 60]);
        }
        queue.flush().unwrap_err();
        drop(queue);
        let lines = warnings.lines();
        let end = "1000 could not be written and are lost";
        assert_eq!((lines.len(), lines[2].as_str()), (3, end));
    }

    #[test]
    fn failed_write_is_tried_again_without_a_flush() {
        let file = LimitedFile::default();
        let queue = Warnings::default().start(file.clone(), 100);
        queue.push(vec![7; 10]);
        queue.flush().unwrap_err();
        file.free(10);
        // A minute is no limit on the retry, only an end for a test that fails.
        for _ in 0..6000 {
            if file.content().len() == 10 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("got no second try");
    }

    #[test]
    fn drop_writes_what_is_left_without_a_warning() {
        let (file, warnings) = (LimitedFile::default(), Warnings::default());
        file.free(1_000_000);
        let queue = warnings.start(file.clone(), 1_000_000);
        for _ in 0..1000 {
            queue.push(vec![1; 100]);
        }
        drop(queue);
        assert_eq!(file.content().len(), 100_000);
        assert_eq!(warnings.lines(), [""; 0]);
    }
}
