//! Sums over the ranks' GPUs by NCCL, between the GPUs themselves. It comes with libtorch's part for NVIDIA's GPUs.
//!
//! These are NCCL's own C functions, found by name where that part is loaded, and not c10d's ProcessGroupNCCL: its code is
//! in libtorch_cuda.so, with which a program that also serves a libtorch without that part cannot be linked (`libraries`).
//!
//! <https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html>,
//! <https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__EVENT.html>

use super::super::libraries;
use super::failure::End;
use anyhow::{Error, Result, anyhow, bail};
use runboard::console;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Between two looks at whether a sum is done, which takes about as long as this at least.
const POLL: Duration = Duration::from_micros(20);

/// Between two looks at whether the other ranks are there.
const LOOK: Duration = Duration::from_millis(50);

/// How long it may take until it is known which rank an error of NCCL's comes from.
const GRACE: Duration = Duration::from_secs(1);

/// How long NCCL may take on one GPU alone.
const ALONE: Duration = Duration::from_secs(30);

/// `ncclFloat32`, `ncclBfloat16` and `ncclSum` of nccl.h.
pub(super) const FLOAT32: c_int = 7;
pub(super) const BFLOAT16: c_int = 9;
const SUM: c_int = 0;

/// `ncclInProgress` of nccl.h: none of a communicator's operations has failed so far.
const IN_PROGRESS: c_int = 7;

/// `ncclRemoteError` of nccl.h: another process has failed, or the network to it.
const REMOTE: c_int = 6;

/// Communicators that are being aborted.
static ABORTING: AtomicUsize = AtomicUsize::new(0);

/// An error of NCCL's.
#[derive(Debug)]
struct NcclError {
    status: c_int,
    text: String,
}

impl fmt::Display for NcclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NCCL: {}", self.text)
    }
}

impl std::error::Error for NcclError {}

/// `cudaErrorNotReady` of driver_types.h: what was issued before an event is not done.
const NOT_READY: c_int = 600;

/// The stream that libtorch issues to. Only while a graph is recorded is it another one, and nothing is summed then.
const STREAM: *mut c_void = ptr::null_mut();

/// `ncclUniqueId`, by which the ranks of a communicator find one another.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub [u8; 128]);

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal: fn($($argument:ty),*) -> $result:ty;)*) => {
        /// Functions of NCCL and of CUDA's runtime.
        #[derive(Clone, Copy)]
        pub(super) struct Functions {
            $($(#[$doc])* pub $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Functions {
            /// Those that are loaded; the name of one that is not, if one is missing.
            fn loaded() -> Result<Self, &'static str> {
                Ok(Functions {
                    $($name: {
                        let function = libraries::loaded($symbol);
                        let function = function.ok_or($symbol.to_str().unwrap_or_default())?;
                        // SAFETY: the function of this name has these arguments and this result (nccl.h of NCCL 2,
                        // cuda_runtime_api.h of CUDA 12 and 13).
                        unsafe { mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> $result>(function) }
                    },)*
                })
            }
        }
    };
}

functions! {
    version = c"ncclGetVersion": fn(*mut c_int) -> c_int;
    unique_id = c"ncclGetUniqueId": fn(*mut UniqueId) -> c_int;
    init = c"ncclCommInitRank": fn(*mut *mut c_void, c_int, UniqueId, c_int) -> c_int;
    all_reduce = c"ncclAllReduce": fn(*const c_void, *mut c_void, usize, c_int, c_int, *mut c_void, *mut c_void) -> c_int;
    async_error = c"ncclCommGetAsyncError": fn(*mut c_void, *mut c_int) -> c_int;
    abort = c"ncclCommAbort": fn(*mut c_void) -> c_int;
    /// What a number of NCCL's means.
    nccl_error = c"ncclGetErrorString": fn(c_int) -> *const c_char;
    /// What NCCL says of the last error of this process.
    last_error = c"ncclGetLastError": fn(*mut c_void) -> *const c_char;
    set_device = c"cudaSetDevice": fn(c_int) -> c_int;
    bus_id = c"cudaDeviceGetPCIBusId": fn(*mut c_char, c_int, c_int) -> c_int;
    new_event = c"cudaEventCreateWithFlags": fn(*mut *mut c_void, c_uint) -> c_int;
    record = c"cudaEventRecord": fn(*mut c_void, *mut c_void) -> c_int;
    query = c"cudaEventQuery": fn(*mut c_void) -> c_int;
    elapsed = c"cudaEventElapsedTime": fn(*mut f32, *mut c_void, *mut c_void) -> c_int;
    destroy_event = c"cudaEventDestroy": fn(*mut c_void) -> c_int;
    /// What a number of CUDA's means.
    cuda_error = c"cudaGetErrorString": fn(c_int) -> *const c_char;
    /// Forgets this thread's last error.
    forget_error = c"cudaGetLastError": fn() -> c_int;
}

/// A GPU of this host, and the functions by which to use it.
#[derive(Clone, Copy)]
pub(super) struct Gpu {
    pub functions: Functions,
    /// libtorch's number of it.
    pub index: c_int,
    /// Where its memory is.
    pub device: Device,
}

/// A GPU as the ranks compare it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    /// Of NCCL, as `22809`.
    pub version: i32,
    /// The same for all ranks on one GPU: its host's boot, and its place on the bus there.
    pub place: String,
}

impl Gpu {
    /// That of a device.
    ///
    /// # Errors
    /// In a sentence's words, why NCCL cannot be used there.
    pub fn of(device: Device) -> Result<Self, String> {
        let Device::Cuda(index) = device else {
            return Err("computes on the CPU".to_owned());
        };
        libraries::load_cuda()?;
        let functions = Functions::loaded();
        let functions =
            functions.map_err(|missing| format!("has no NCCL, as it lacks {missing}"))?;
        let index = c_int::try_from(index).map_err(|error| error.to_string())?;
        Ok(Gpu {
            functions,
            index,
            device,
        })
    }

    /// As the ranks compare it.
    pub fn card(&self) -> Result<Card> {
        let (mut version, mut bus) = (0, [0_u8; 32]);
        // SAFETY: it writes a number.
        self.nccl(unsafe { (self.functions.version)(&mut version) })?;
        let length = c_int::try_from(bus.len())?;
        // SAFETY: it writes at most so many bytes, the last of which is 0.
        self.cuda(unsafe { (self.functions.bus_id)(bus.as_mut_ptr().cast(), length, self.index) })?;
        let bus = CStr::from_bytes_until_nul(&bus)?.to_string_lossy();
        let boot = runboard::run::boot().unwrap_or_default();
        let place = format!("{boot} {bus}");
        Ok(Card { version, place })
    }

    /// A name for a new communicator.
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: it writes an id of that length.
        self.nccl(unsafe { (self.functions.unique_id)(&mut id) })?;
        Ok(id)
    }

    /// The error of a number that NCCL returned, if it is one.
    fn nccl(&self, status: c_int) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: both return C strings that nobody frees, and the second one none at most; a communicator is not needed.
        let (kind, said) = unsafe {
            let said = (self.functions.last_error)(ptr::null_mut());
            (text((self.functions.nccl_error)(status)), text(said))
        };
        let said = said.lines().next().unwrap_or_default();
        let text = match said.is_empty() {
            true => kind,
            false => format!("{kind}: {said}"),
        };
        Err(NcclError { status, text }.into())
    }

    /// The error of a number that CUDA returned, if it is one.
    fn cuda(&self, status: c_int) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: it returns a C string that nobody frees.
        bail!("CUDA: {}", unsafe {
            text((self.functions.cuda_error)(status))
        });
    }
}

/// # Safety
/// `text` is a C string or none.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller says so.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// The ranks' GPUs, as one of them sees them. It is used on the thread that made it.
pub(super) struct Communicator {
    gpu: Gpu,
    raw: *mut c_void,
    /// Before and after a sum.
    events: [*mut c_void; 2],
    /// Whether all of this is to be freed.
    is_open: bool,
}

impl Communicator {
    /// One that is not connected yet.
    pub fn new(gpu: Gpu) -> Result<Self> {
        let functions = gpu.functions;
        // SAFETY: a plain number, and it is that of this thread alone.
        gpu.cuda(unsafe { (functions.set_device)(gpu.index) })?;
        let mut own = Communicator {
            gpu,
            raw: ptr::null_mut(),
            events: [ptr::null_mut(); 2],
            is_open: true,
        };
        for event in &mut own.events {
            // SAFETY: it writes a pointer. Without flags it takes the time.
            gpu.cuda(unsafe { (functions.new_event)(event, 0) })?;
        }
        Ok(own)
    }

    /// Where its memory is.
    pub fn device(&self) -> Device {
        self.gpu.device
    }

    /// Connect to `world` ranks, of which this is one; all do so at once. It may wait for them without end.
    pub fn connect(&mut self, id: UniqueId, rank: usize, world: usize) -> Result<()> {
        let (rank, ranks) = (c_int::try_from(rank)?, c_int::try_from(world)?);
        let functions = self.gpu.functions;
        // SAFETY: it writes a pointer.
        self.gpu
            .nccl(unsafe { (functions.init)(&mut self.raw, ranks, id, rank) })
    }

    /// Make a first sum, for which NCCL opens its connections; it may wait without end, too. `ones` becomes the number of ranks.
    pub fn try_sum(
        &self,
        ones: &Tensor,
        world: usize,
        limit: Duration,
        lost: impl Fn() -> Option<End>,
    ) -> Result<()> {
        self.sum(&[GpuNumbers::new(ones)?])?;
        self.wait(limit, lost)?;
        let [least, most] = [ones.f_min()?, ones.f_max()?];
        let [least, most] = [least.f_double_value(&[])?, most.f_double_value(&[])?];
        if least != world as f64 || most != least {
            bail!("NCCL: {world} ranks' ones add up to {least} to {most}");
        }
        Ok(())
    }

    /// End it while all ranks still answer.
    pub fn close(mut self) {
        let aborting = Aborting::begin();
        self.remains().abort();
        drop(aborting);
    }

    fn remains(&mut self) -> Remains {
        self.is_open = false;
        Remains {
            gpu: self.gpu,
            raw: self.raw,
            events: self.events,
        }
    }

    /// Issue the sums over the ranks, in place of the numbers; what is issued to the GPU later finds it done.
    pub fn sum(&self, values: &[GpuNumbers]) -> Result<()> {
        let (functions, [begin, end]) = (self.gpu.functions, self.events);
        // SAFETY: both events are this communicator's, and so is the stream's device that of this thread.
        self.gpu
            .cuda(unsafe { (functions.record)(begin, STREAM) })?;
        for GpuNumbers(numbers, kind) in values {
            let (place, length) = (numbers.data_ptr(), numbers.numel());
            // SAFETY: so many numbers of this kind in a row, of this GPU's memory, which libtorch gives to others only after what was
            // issued to this stream before (its allocator keeps that order).
            let status = unsafe {
                (functions.all_reduce)(place, place, length, *kind, SUM, self.raw, STREAM)
            };
            self.gpu.nccl(status)?;
        }
        // SAFETY: as above.
        self.gpu.cuda(unsafe { (functions.record)(end, STREAM) })
    }

    /// Wait for the last sums; how long the GPU was at it, with its waiting for the others. `lost` tells of a rank that is gone.
    ///
    /// # Errors
    /// Nothing ends a sum that a rank is missing from: whoever gets an error drops this.
    pub fn wait(&self, limit: Duration, lost: impl Fn() -> Option<End>) -> Result<Duration> {
        let (functions, [begin, end]) = (self.gpu.functions, self.events);
        let (start, mut looked) = (Instant::now(), Instant::now());
        loop {
            // SAFETY: the event is this communicator's.
            let status = unsafe { (functions.query)(end) };
            if status != NOT_READY {
                self.gpu.cuda(status)?;
                break;
            }
            // SAFETY: it takes nothing. That a sum is not done yet is no error that others should find.
            unsafe { (functions.forget_error)() };
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let mut failed = 0;
                // SAFETY: the communicator is there; it writes a number.
                self.gpu
                    .nccl(unsafe { (functions.async_error)(self.raw, &mut failed) })?;
                if let Some(end) = lost() {
                    return Err(end.into());
                }
                if failed != IN_PROGRESS {
                    self.gpu.nccl(failed)?;
                }
                if start.elapsed() >= limit {
                    return Err(End::TimedOut.into());
                }
            }
            thread::sleep(POLL);
        }
        let mut milliseconds = 0_f32;
        // SAFETY: both events are recorded and done; it writes a number.
        self.gpu
            .cuda(unsafe { (functions.elapsed)(&mut milliseconds, begin, end) })?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1e3))
    }
}

/// What an error of a communicator's means. Of NCCL's own another rank may be the reason, and the connection that tells which
/// one may close a little later.
pub(super) fn end_of(error: &Error, lost: impl Fn() -> Option<End>) -> End {
    if let Some(end) = error.downcast_ref::<End>() {
        return end.clone();
    }
    let Some(of_nccl) = error.downcast_ref::<NcclError>() else {
        return End::Failed(format!("{error:#}"));
    };
    console::warning(format_args!("{of_nccl}"));
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(end) = lost() {
            return end;
        }
        thread::sleep(LOOK);
    }
    match of_nccl.status {
        REMOTE => End::Closed(None),
        _ => End::Failed(of_nccl.to_string()),
    }
}

/// Whether an error of a communicator's says no more than that another rank has one.
pub(super) fn is_of_others(error: &Error) -> bool {
    let of_nccl = error.downcast_ref::<NcclError>();
    error.is::<End>() || of_nccl.is_some_and(|error| error.status == REMOTE)
}

/// Whether a communicator is being aborted, which may take for ever.
pub(super) fn is_aborting() -> bool {
    ABORTING.load(Ordering::SeqCst) > 0
}

/// What is left of a communicator that nobody uses any more.
struct Remains {
    gpu: Gpu,
    raw: *mut c_void,
    events: [*mut c_void; 2],
}

// SAFETY: NCCL may abort a communicator from any thread, and nobody else has it.
unsafe impl Send for Remains {}

impl Remains {
    /// What the GPU is still at ends, whatever the others do.
    fn abort(self) {
        let functions = self.gpu.functions;
        // SAFETY: communicator and events were made by these functions, and nobody uses them later. The device is that of this
        // thread alone.
        unsafe {
            (functions.set_device)(self.gpu.index);
            if !self.raw.is_null() {
                (functions.abort)(self.raw);
            }
            for event in self.events.into_iter().filter(|event| !event.is_null()) {
                (functions.destroy_event)(event);
            }
        }
    }
}

/// One of the communicators that are being aborted, from before that begins, so that a process which ends meanwhile knows.
struct Aborting;

impl Aborting {
    fn begin() -> Self {
        ABORTING.fetch_add(1, Ordering::SeqCst);
        Aborting
    }
}

impl Drop for Aborting {
    fn drop(&mut self) {
        ABORTING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Communicator {
    /// On a thread of its own, as NCCL may take long to abort, or for ever: who drops it goes on.
    fn drop(&mut self) {
        if self.is_open {
            let (remains, aborting) = (self.remains(), Aborting::begin());
            let abort = move || {
                remains.abort();
                drop(aborting);
            };
            // Without a thread it is left to the end of the process.
            let _ = thread::Builder::new().spawn(abort);
        }
    }
}

/// Floats or bfloat16 in a row in a GPU's memory, which a sum replaces, and NCCL's number of their kind.
pub(super) struct GpuNumbers(Tensor, c_int);

impl GpuNumbers {
    /// The tensor's, on the same memory.
    ///
    /// # Errors
    /// Values of another kind, or not in a row.
    pub fn new(values: &Tensor) -> Result<Self> {
        let kind = match values.kind() {
            Kind::Float => FLOAT32,
            Kind::BFloat16 => BFLOAT16,
            kind => bail!("to sum over the ranks' GPUs takes float32 or bfloat16, got {kind:?}"),
        };
        if !values.is_contiguous() {
            bail!("to sum over the ranks' GPUs takes numbers in a row");
        }
        Ok(GpuNumbers(values.shallow_clone(), kind))
    }
}

/// Whether NCCL begins on a GPU, by libtorch's number, with one rank. That has nothing to sum.
///
/// # Errors
/// Why it does not, or that it takes longer than [`ALONE`].
pub fn begins_alone(gpu: usize) -> Result<()> {
    let (sender, begun) = mpsc::channel();
    let begin = move || {
        let begin = || {
            let gpu = Gpu::of(Device::Cuda(gpu));
            let gpu = gpu.map_err(|why| anyhow!("this process {why}"))?;
            let mut communicator = Communicator::new(gpu)?;
            communicator.connect(gpu.unique_id()?, 0, 1)?;
            communicator.close();
            Ok(())
        };
        let _ = sender.send(begin()); // who asked may be gone
    };
    thread::Builder::new().spawn(begin)?;
    let begun = begun.recv_timeout(ALONE);
    begun.unwrap_or_else(|_| {
        super::lose_thread();
        bail!("NCCL does not begin within {} s", ALONE.as_secs())
    })
}
