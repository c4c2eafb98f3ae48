//! The functions of gpu.cpp, safe to call: CUDA graphs, streams and pinned memory.

use super::guarded::{RawError, call};
use anyhow::{Result, bail};
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use tch::{Device, Tensor};

/// gpu.cpp's `Graph`.
#[repr(C)]
struct RawGraph {
    _opaque: [u8; 0],
}

/// gpu.cpp's `Streams`.
#[repr(C)]
struct RawStreams {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn runboard_graph_begin(gpu: c_int, graph: *mut *mut RawGraph, error: RawError) -> bool;
    fn runboard_graph_end(graph: *mut RawGraph, error: RawError) -> bool;
    fn runboard_graph_replay(graph: *mut RawGraph, error: RawError) -> bool;
    fn runboard_graph_free(graph: *mut RawGraph);
    fn runboard_streams_make(
        gpu: c_int,
        count: c_int,
        streams: *mut *mut RawStreams,
        error: RawError,
    ) -> bool;
    fn runboard_streams_fork(streams: *mut RawStreams, error: RawError) -> bool;
    fn runboard_streams_enter(streams: *mut RawStreams, number: c_int, error: RawError) -> bool;
    fn runboard_streams_join(streams: *mut RawStreams, error: RawError) -> bool;
    fn runboard_streams_free(streams: *mut RawStreams);
    fn runboard_pinned(values: *const c_void, copy: *mut *mut c_void, error: RawError) -> bool;
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

/// Streams of a GPU: what is issued on one does not wait for what is issued on another. Of a CPU there are none.
#[derive(Debug)]
pub(super) struct Streams(Option<NonNull<RawStreams>>);

// SAFETY: streams are of no thread's own: any may issue on them, and `&mut` keeps two from doing so at once.
unsafe impl Send for Streams {}

impl Streams {
    /// So many of a device.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(device: Device, count: usize) -> Result<Self> {
        let Device::Cuda(gpu) = device else {
            return Ok(Streams(None));
        };
        let (gpu, count) = (c_int::try_from(gpu)?, c_int::try_from(count)?);
        let mut streams = ptr::null_mut();
        // SAFETY: the streams' place and the text's live until the call returns.
        call(|error| unsafe { runboard_streams_make(gpu, count, &mut streams, error) })?;
        Ok(Streams(NonNull::new(streams)))
    }

    /// Issue the operations on each of these on a stream of its own: all after what was issued before, and before what is
    /// issued afterwards. On a CPU one after the other.
    ///
    /// # Errors
    /// Those of `operations`, and libtorch's, such as of more than there are streams.
    pub fn issue<T>(
        &mut self,
        each: impl IntoIterator<Item = T>,
        mut operations: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let Some(streams) = self.0.map(NonNull::as_ptr) else {
            return each.into_iter().try_for_each(operations);
        };
        // SAFETY, of the three calls: made by `of` and not freed; the text's place lives until the call returns.
        call(|error| unsafe { runboard_streams_fork(streams, error) })?;
        let issued = each.into_iter().enumerate().try_for_each(|(number, one)| {
            let number = c_int::try_from(number)?;
            call(|error| unsafe { runboard_streams_enter(streams, number, error) })?;
            operations(one)
        });
        let joined = call(|error| unsafe { runboard_streams_join(streams, error) });
        issued.and(joined)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(streams) = self.0 {
            // SAFETY: made by `of`, and freed here alone.
            unsafe { runboard_streams_free(streams.as_ptr()) }
        }
    }
}

/// A copy in memory that a GPU reads by itself; none where the system gives none.
pub(super) fn pinned(values: &Tensor) -> Option<Tensor> {
    let (values, mut copy) = (values.as_ptr().cast(), ptr::null_mut());
    // SAFETY: the tensor, the copy's place and the text's live until the call returns.
    call(|error| unsafe { runboard_pinned(values, &mut copy, error) }).ok()?;
    // SAFETY: a tensor on the heap that nobody else has, which is how tch has its own.
    Some(unsafe { Tensor::from_ptr(copy.cast()) })
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
