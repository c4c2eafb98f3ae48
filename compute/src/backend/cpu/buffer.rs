//! Memory that a step takes over from the step before, instead of having it cleared anew: that would be 50 MB a step of
//! which everything is about to be written.

use std::collections::HashMap;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Those that nobody uses, by length.
static IDLE: LazyLock<Mutex<HashMap<usize, Vec<Vec<f32>>>>> = LazyLock::new(Mutex::default);

/// Values that go back to where they are taken from when it is dropped.
#[derive(Debug, PartialEq)]
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// `len` values, which are what somebody left there: for what is written before it is read.
    pub fn stale(len: usize) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let values = idle.get_mut(&len).and_then(Vec::pop);
        drop(idle);
        Buffer(values.unwrap_or_else(|| vec![0.0; len]))
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
        let values = mem::take(&mut self.0);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(values.len()).or_default().push(values);
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Buffer(values)
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
}
