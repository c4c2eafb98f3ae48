//! A bound on the memory that a test's thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Run `work` and check that this thread never held more than `max_bytes` of memory that `work` asked for.
pub fn within<T>(max_bytes: usize, work: impl FnOnce() -> T) -> T {
    HEAP.set(EMPTY);
    let done = work();
    let highest = HEAP.get().highest;
    assert!(
        highest <= max_bytes as isize,
        "held {highest} bytes of memory, want at most {max_bytes}"
    );
    done
}

#[derive(Clone, Copy)]
struct Heap {
    bytes: isize,
    highest: isize,
}

const EMPTY: Heap = Heap {
    bytes: 0,
    highest: 0,
};

thread_local! {
    static HEAP: Cell<Heap> = const { Cell::new(EMPTY) };
}

fn count(more: usize, less: usize) {
    let mut heap = HEAP.get();
    heap.bytes += more as isize - less as isize;
    heap.highest = heap.highest.max(heap.bytes);
    HEAP.set(heap);
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(old, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::panic::catch_unwind;

    #[test]
    fn heap_bound_counts_memory_while_it_is_held() {
        within(3_000, || {
            drop(black_box(vec![0_u8; 2_000]));
            drop(black_box(vec![1_u8; 2_000]));
        });
        assert!(catch_unwind(|| within(3_000, || black_box(vec![0_u8; 4_000]))).is_err());
        let grows = || {
            let mut bytes = Vec::with_capacity(1);
            bytes.extend_from_slice(black_box(&[1_u8; 4_000]));
            bytes
        };
        assert!(catch_unwind(|| within(3_000, grows)).is_err());
    }
}
