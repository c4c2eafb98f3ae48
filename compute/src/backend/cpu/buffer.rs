//! Memory whose vectors lie each in one line of the cache: one that lies in two takes twice as long to read or write. A step takes it
//! over from the step before, instead of having it cleared anew: that would be 50 MB a step of which everything is about to
//! be written.

use super::LANES;
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Those that nobody uses, by their number of lines.
static IDLE: LazyLock<Mutex<HashMap<usize, Vec<Vec<Line>>>>> = LazyLock::new(Mutex::default);

/// A line of the cache, which is one of the widest vectors.
#[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Values that go back to where they are taken from when it is dropped.
#[derive(Debug)]
pub struct Buffer<T = f32> {
    lines: Vec<Line>,
    len: usize,
    values: PhantomData<T>,
}

/// A value that begins with a line of the cache: for arrays of vectors on the stack.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Aligned<T>(pub T);

impl Buffer {
    /// `len` values, which are what somebody left there: for what is written before it is read.
    pub fn stale(len: usize) -> Self {
        Self::taken(len)
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Buffer<u8> {
    /// As [`Buffer::stale`], of bytes.
    pub fn stale_bytes(len: usize) -> Self {
        Self::taken(len)
    }
}

impl<T> Buffer<T> {
    fn taken(len: usize) -> Self {
        let count = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = idle.get_mut(&count).and_then(Vec::pop);
        drop(idle);
        Buffer {
            lines: lines.unwrap_or_else(|| vec![Line::zeroed(); count]),
            len,
            values: PhantomData,
        }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let lines = mem::take(&mut self.lines);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(lines.len()).or_default().push(lines);
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
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
        let len = 12_361; // 773 lines, of which no other test has a buffer
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
        for len in [0, 1, LANES, LANES + 1, 9_999] {
            let (buffer, bytes) = (Buffer::stale(len), Buffer::stale_bytes(len));
            assert_eq!((buffer.len(), bytes.len()), (len, len));
            assert!(buffer.as_ptr().addr().is_multiple_of(64), "{len}");
        }
    }
}
