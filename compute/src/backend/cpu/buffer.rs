//! Memory whose vectors lie each in one line of the cache: one that lies in two takes twice as long to read or write. A step takes it
//! over from the step before, instead of having it cleared anew: that would be 50 MB a step of which everything is about to
//! be written.

use super::LANES;
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Those that nobody uses, by length.
static IDLE: LazyLock<Mutex<HashMap<usize, Vec<Vec<Line>>>>> = LazyLock::new(Mutex::default);

/// A line of the cache, which is one of the widest vectors.
#[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Values that go back to where they are taken from when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

/// A value that begins with a line of the cache: for arrays of vectors on the stack.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Aligned<T>(pub T);

impl Buffer {
    /// `len` values, which are what somebody left there: for what is written before it is read.
    pub fn stale(len: usize) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = idle.get_mut(&len).and_then(Vec::pop);
        drop(idle);
        let lines = lines.unwrap_or_else(|| vec![Line::zeroed(); len.div_ceil(LANES)]);
        Buffer { lines, len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = mem::take(&mut self.lines);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(self.len).or_default().push(lines);
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T> Deref for Aligned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_taken_over_by_the_next_one_of_its_length() {
        let len = 12_347; // of which no other test has one
        let mut first = Buffer::stale(len);
        first.fill(3.0);
        let place = first.as_ptr();
        let other = Buffer::stale(len);
        assert!(other.as_ptr() != place);
        drop(first);
        let next = Buffer::stale(len);
        assert!(next.as_ptr() == place && next.iter().all(|value| *value == 3.0));
        drop(next);
        assert!(Buffer::zeros(len).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn buffer_begins_with_a_line_of_the_cache_and_has_the_values_that_were_asked_for() {
        for len in [0, 1, LANES, LANES + 1, 12_349] {
            let buffer = Buffer::stale(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.as_ptr().addr().is_multiple_of(64), "{len}");
        }
    }
}
