//! The functions of gpu.cpp, safe to call: CUDA graphs and pinned memory.

use super::guarded::{RawError, call};
use anyhow::{Result, bail};
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use tch::Tensor;

/// gpu.cpp's `Graph`.
#[repr(C)]
struct RawGraph {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn runboard_graph_begin(gpu: c_int, graph: *mut *mut RawGraph, error: RawError) -> bool;
    fn runboard_graph_end(graph: *mut RawGraph, error: RawError) -> bool;
    fn runboard_graph_replay(graph: *mut RawGraph, error: RawError) -> bool;
    fn runboard_graph_free(graph: *mut RawGraph);
    fn runboard_pinned(values: *const c_void) -> *mut c_void;
}

/// Operations on a GPU that were recorded, and the memory of what they made.
#[derive(Debug)]
pub(super) struct Graph(NonNull<RawGraph>);

// SAFETY: libtorch's graph is of no thread's own: any may replay it, and `&mut` keeps them from doing so at once.
unsafe impl Send for Graph {}

impl Graph {
    /// Record what `operations` issues on this GPU, which is not done by this.
    ///
    /// # Errors
    /// Those of `operations`; libtorch's, such as of operations that cannot be recorded or of a libtorch without GPUs.
    pub fn record<T>(gpu: usize, operations: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let mut graph = ptr::null_mut();
        let gpu = c_int::try_from(gpu)?;
        // SAFETY: the graph's place and the text's live until the call returns.
        call(|error| unsafe { runboard_graph_begin(gpu, &mut graph, error) })?;
        let Some(graph) = NonNull::new(graph) else {
            bail!("libtorch made no graph");
        };
        let outputs = operations();
        // SAFETY: a graph that began and has not ended; the text's place lives until the call returns.
        let ended = call(|error| unsafe { runboard_graph_end(graph.as_ptr(), error) });
        // What the operations say is the reason of what libtorch says at the end. A graph that has not ended well is left where it is.
        let outputs = outputs?;
        ended?;
        Ok((Graph(graph), outputs))
    }

    /// Issue what was recorded, on the same memory. Nobody waits for it.
    ///
    /// # Errors
    /// libtorch's.
    pub fn replay(&mut self) -> Result<()> {
        // SAFETY: a graph that has ended, see `record`; the text's place lives until the call returns.
        call(|error| unsafe { runboard_graph_replay(self.0.as_ptr(), error) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `runboard_graph_begin`, and freed here alone.
        unsafe { runboard_graph_free(self.0.as_ptr()) }
    }
}

/// A copy in memory that a GPU reads by itself; none where the system gives none.
pub(super) fn pinned(values: &Tensor) -> Option<Tensor> {
    // SAFETY: a tensor that lives until the call returns, which makes another one.
    let copy = unsafe { runboard_pinned(values.as_ptr().cast()) };
    // SAFETY: a tensor on the heap that nobody else has, which is how tch has its own.
    (!copy.is_null()).then(|| unsafe { Tensor::from_ptr(copy.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_says_what_is_missing_where_no_gpu_is() {
        if tch::Cuda::is_available() {
            return;
        }
        let recorded = Graph::record(0, || Ok(()));
        let error = recorded.unwrap_err().to_string();
        let want = ["libtorch has no _ZN2at4cuda9CUDAGraph", "CUDA", "NVIDIA"];
        assert!(want.iter().any(|want| error.contains(want)), "{error}");
    }
}
