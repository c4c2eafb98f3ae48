//! The bounded queue between training and the disk, and the thread that empties it.
//!
//! Training never waits for the disk. While the disk refuses (full, say), the thread keeps the rest of the
//! record it was writing and tries again every second; what the queue cannot hold meanwhile is counted and
//! given up. The user is told when that begins and how it ended, not once an event. Bytes already in the
//! file are never taken back: a reader may have seen them.

use anyhow::Result;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two tries to write what the disk refused.
const RETRY: Duration = Duration::from_secs(1);
/// How long a flush, and the end, wait for a disk that neither takes nor refuses.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where records go.
pub(super) trait Sink: Send + 'static {
    /// Called before each record: if the place of the ones before was removed, make a new one for those to
    /// come. Returns whether that was so.
    fn renew(&mut self) -> Result<bool>;

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
    /// How the user is told what goes wrong.
    say: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Vec<u8>>,
    /// Of the waiting records and the one being written.
    bytes: usize,
    accepted: u64,
    written: u64,
    /// Records given up.
    dropped: u64,
    failures: u64,
    /// Why the last write failed, unless that was reported or one has succeeded since.
    refusal: Option<anyhow::Error>,
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
    fn next(&self) -> Option<Vec<u8>> {
        let more = |state: &mut QueueState| state.waiting.is_empty() && !state.closing;
        let mut state = self
            .changed
            .wait_while(self.lock(), more)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front()
    }

    /// A record is in the file.
    fn wrote(&self, record: &[u8]) {
        let mut state = self.lock();
        state.bytes -= record.len();
        state.written += 1;
        state.refusal = None;
        self.changed.notify_all();
    }

    /// A write was refused: wait until the next try is due. Returns whether there is to be one.
    fn refused(&self, error: anyhow::Error) -> bool {
        let mut state = self.lock();
        state.failures += 1;
        state.refusal = Some(error);
        state.retry_now = false;
        self.changed.notify_all();
        if state.closing {
            return false;
        }
        drop(self.wait_while(state, RETRY, |state| !state.retry_now && !state.closing));
        true
    }
}

impl RecordQueue {
    /// Start the thread that writes to `out`, one `write` call a record. `capacity` in bytes; `say` is told
    /// what goes wrong, in words for the user.
    pub fn start(
        out: impl Sink,
        capacity: usize,
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            say: Box::new(say),
        });
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

    /// Wait until all records accepted so far are in the file.
    ///
    /// # Errors
    /// That of a write that failed meanwhile, which the thread will try again; [`io::ErrorKind::TimedOut`] if
    /// the disk neither took nor refused them.
    pub fn flush(&self) -> Result<()> {
        let mut state = self.shared.lock();
        let (wanted, failures) = (state.accepted, state.failures);
        state.retry_now = true;
        self.shared.changed.notify_all();
        let mut state = self.shared.wait_while(state, PATIENCE, |state| {
            state.written < wanted && state.failures == failures && !state.ended
        });
        if state.written >= wanted {
            return Ok(());
        }
        let silent = || io::Error::from(io::ErrorKind::TimedOut).into();
        Err(state.refusal.take().unwrap_or_else(silent))
    }
}

impl Drop for RecordQueue {
    /// Write what is left; on a disk that refuses, try once and leave.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let state = self
            .shared
            .wait_while(state, PATIENCE, |state| !state.ended);
        let lost = state.dropped + state.accepted - state.written;
        drop(state);
        if lost > 0 {
            (self.shared.say)(&format!("{lost} could not be written and are lost"));
        }
    }
}

/// The thread: write record after record until the queue is closed.
fn empty(mut out: impl Sink, shared: &Shared) {
    let mut trouble = Trouble::default();
    while let Some(record) = shared.next() {
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            let first = rest.len() == record.len();
            match put(&mut out, first, rest, shared) {
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    trouble.tell(&error, shared);
                    if !shared.refused(error) {
                        return;
                    }
                }
            }
        }
        trouble.end(shared);
        shared.wrote(&record);
    }
}

/// One try to write a record, or the rest of it. Returns how much was written, at least a byte.
fn put(out: &mut impl Sink, first: bool, bytes: &[u8], shared: &Shared) -> Result<usize> {
    if first && out.renew()? {
        (shared.say)("their file was removed; they go on in a new one");
    }
    loop {
        match out.write(bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Ok(result?),
        }
    }
}

/// What the user knows of a disk that refuses.
#[derive(Default)]
struct Trouble {
    /// That it does.
    told: bool,
    /// That records are given up meanwhile.
    told_of_loss: bool,
    /// Records given up in earlier troubles.
    before: u64,
}

impl Trouble {
    fn tell(&mut self, error: &anyhow::Error, shared: &Shared) {
        if !self.told {
            (shared.say)(&format!(
                "{error:#}; they wait in memory and are tried again every second"
            ));
            self.told = true;
        }
        if !self.told_of_loss && shared.lock().dropped > self.before {
            (shared.say)("the memory for them is full: new ones are given up");
            self.told_of_loss = true;
        }
    }

    fn end(&mut self, shared: &Shared) {
        if self.told {
            let dropped = shared.lock().dropped;
            let lost = dropped - self.before;
            (shared.say)(&format!("they are written again; {lost} were given up"));
            *self = Trouble {
                before: dropped,
                ..Trouble::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    impl Sink for Disk {
        fn renew(&mut self) -> Result<bool> {
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

    /// What the user was told.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<String>>>);

    impl Said {
        fn start(&self, out: impl Sink, capacity: usize) -> RecordQueue {
            let said = self.clone();
            let say = move |text: &str| said.0.lock().unwrap().push(text.into());
            RecordQueue::start(out, capacity, say).unwrap()
        }

        fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    #[test]
    fn a_full_disk_costs_whole_records_only_and_counts_them() {
        let (disk, said) = (Disk::default(), Said::default());
        // Room for a part of the third record.
        disk.free(25);
        let queue = said.start(disk.clone(), 100);
        for n in 0..50u8 {
            queue.push(vec![n; 10]);
        }
        for _ in 0..3 {
            let error = queue.flush().unwrap_err();
            assert_eq!(error.to_string(), "no storage space");
        }
        assert_eq!(disk.content().len(), 25);
        // At most what was written and what the queue holds could be taken.
        let dropped = queue.shared.lock().dropped;
        assert!((38..50).contains(&dropped), "{dropped}");

        disk.free(10_000);
        // A try that began before there was room may still fail, one.
        queue.flush().or_else(|_| queue.flush()).unwrap();
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

        // Once each, however many events and tries there were.
        let waits = "no storage space; they wait in memory and are tried again every second";
        let full = "the memory for them is full: new ones are given up";
        let again = format!("they are written again; {dropped} were given up");
        assert_eq!(said.lines(), [waits, full, &again]);
        drop(queue);
        let end = format!("{dropped} could not be written and are lost");
        assert_eq!(said.lines().last(), Some(&end));
    }

    #[test]
    fn a_disk_that_is_full_for_ever_neither_blocks_nor_panics() {
        let said = Said::default();
        let queue = said.start(Disk::default(), 100);
        for _ in 0..1000 {
            queue.push(vec![0; 60]);
        }
        queue.flush().unwrap_err();
        drop(queue);
        let lines = said.lines();
        let end = "1000 could not be written and are lost";
        assert_eq!((lines.len(), lines[2].as_str()), (3, end));
    }

    #[test]
    fn the_disk_is_tried_again_without_being_asked() {
        let disk = Disk::default();
        let queue = Said::default().start(disk.clone(), 100);
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
    fn the_end_writes_what_is_left_and_says_nothing() {
        let (disk, said) = (Disk::default(), Said::default());
        disk.free(1_000_000);
        let queue = said.start(disk.clone(), 1_000_000);
        for _ in 0..1000 {
            queue.push(vec![1; 100]);
        }
        drop(queue);
        assert_eq!(disk.content().len(), 100_000);
        assert_eq!(said.lines(), [""; 0]);
    }
}
