//! The functions of c10d.cpp, safe to call: all unsafe code of process groups.

use super::super::guarded::{RawError, call};
use anyhow::{Result, bail};
use bytemuck::Pod;
use half::bf16;
use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// c10d.cpp's `Store`.
#[repr(C)]
struct RawStore {
    _opaque: [u8; 0],
}

/// c10d.cpp's `Gloo`.
#[repr(C)]
struct RawGloo {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn runboard_store_serve(
        socket: RawFd,
        port: u16,
        host: *const c_char,
        timeout_ms: i64,
        store: *mut *mut RawStore,
        error: RawError,
    ) -> bool;
    fn runboard_store_join(
        port: u16,
        host: *const c_char,
        timeout_ms: i64,
        store: *mut *mut RawStore,
        error: RawError,
    ) -> bool;
    fn runboard_store_open(
        path: *const c_char,
        world: i32,
        timeout_ms: i64,
        store: *mut *mut RawStore,
        error: RawError,
    ) -> bool;
    fn runboard_store_free(store: *mut RawStore);
    fn runboard_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const u8,
        length: usize,
        error: RawError,
    ) -> bool;
    fn runboard_store_add(
        store: *mut RawStore,
        key: *const c_char,
        value: *mut i64,
        error: RawError,
    ) -> bool;
    fn runboard_store_has(
        store: *mut RawStore,
        key: *const c_char,
        has: *mut bool,
        error: RawError,
    ) -> bool;
    fn runboard_store_get(
        store: *mut RawStore,
        key: *const c_char,
        value: *mut u8,
        capacity: usize,
        length: *mut usize,
        error: RawError,
    ) -> bool;
    fn runboard_gloo_new(
        store: *mut RawStore,
        rank: i32,
        world: i32,
        address: *const c_char,
        sends_first: bool,
        timeout_ms: i64,
        gloo: *mut *mut RawGloo,
        error: RawError,
    ) -> bool;
    fn runboard_gloo_free(gloo: *mut RawGloo);
    fn runboard_gloo_reserve(
        gloo: *mut RawGloo,
        input: i64,
        output: i64,
        input_bytes: *mut *mut u8,
        output_bytes: *mut *mut u8,
        error: RawError,
    ) -> bool;
    fn runboard_gloo_all_to_all(gloo: *mut RawGloo, values: *const c_void, error: RawError)
    -> bool;
    fn runboard_gloo_exchange(gloo: *mut RawGloo, values: *const c_void, error: RawError) -> bool;
    fn runboard_gloo_all_gather(gloo: *mut RawGloo, values: *const c_void, error: RawError)
    -> bool;
    fn runboard_gloo_broadcast(gloo: *mut RawGloo, length: i64, error: RawError) -> bool;
    fn runboard_gloo_barrier(gloo: *mut RawGloo, error: RawError) -> bool;
}

/// A host or address as c10d wants it.
fn c_string(text: impl Into<Vec<u8>>) -> Result<CString> {
    Ok(CString::new(text)?)
}

fn millis(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)
}

/// Keys and values that the ranks share until there is a group, and of which they learn why it failed.
///
/// Its calls can wait without end while the process that keeps the store is stopped.
pub struct Store(NonNull<RawStore>);

// SAFETY: nothing of a store belongs to the thread that made it. c10d takes a lock for each request (TCPStore.hpp,
// activeOpLock_; FileStore.hpp, activeFileOpLock_), and its own threads use stores that another one made.
unsafe impl Send for Store {}

impl Store {
    /// Keep a store in this process, for all that connect to the socket.
    pub fn serve(listener: TcpListener, timeout: Duration) -> Result<Self> {
        let address = listener.local_addr()?;
        let host = c_string(address.ip().to_string())?;
        let socket = listener.into_raw_fd();
        Self::new(|store, error| {
            // SAFETY: host is a C string that lives until the call returns; the socket is c10d's from here on.
            unsafe {
                runboard_store_serve(
                    socket,
                    address.port(),
                    host.as_ptr(),
                    millis(timeout),
                    store,
                    error,
                )
            }
        })
    }

    /// The store at an address, which may come until the timeout.
    pub fn join(address: SocketAddr, timeout: Duration) -> Result<Self> {
        let host = c_string(address.ip().to_string())?;
        Self::new(|store, error| {
            // SAFETY: host is a C string that lives until the call returns.
            unsafe {
                runboard_store_join(address.port(), host.as_ptr(), millis(timeout), store, error)
            }
        })
    }

    /// The store in a file, which the first one makes.
    pub fn open(path: &Path, world: usize, timeout: Duration) -> Result<Self> {
        let path = c_string(path.as_os_str().as_bytes())?;
        let world = i32::try_from(world)?;
        Self::new(|store, error| {
            // SAFETY: path is a C string that lives until the call returns.
            unsafe { runboard_store_open(path.as_ptr(), world, millis(timeout), store, error) }
        })
    }

    fn new(open: impl FnOnce(*mut *mut RawStore, RawError) -> bool) -> Result<Self> {
        let mut store = ptr::null_mut();
        call(|error| open(&mut store, error))?;
        let Some(store) = NonNull::new(store) else {
            bail!("c10d made no store");
        };
        Ok(Store(store))
    }

    /// Set a key's value.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = c_string(key)?;
        call(|error| {
            // SAFETY: the store lives as long as self; key and value live until the call returns, which copies both.
            unsafe {
                runboard_store_set(
                    self.0.as_ptr(),
                    key.as_ptr(),
                    value.as_ptr(),
                    value.len(),
                    error,
                )
            }
        })
    }

    /// Add to a key's number, 0 at first; returns the sum.
    pub fn add(&self, key: &str, value: i64) -> Result<i64> {
        let key = c_string(key)?;
        let mut value = value;
        call(|error| {
            // SAFETY: the store lives as long as self; key and value live until the call returns.
            unsafe { runboard_store_add(self.0.as_ptr(), key.as_ptr(), &mut value, error) }
        })?;
        Ok(value)
    }

    /// A key's value, if it has one already.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = c_string(key)?;
        let mut has = false;
        call(|error| {
            // SAFETY: the store lives as long as self; key and has live until the call returns.
            unsafe { runboard_store_has(self.0.as_ptr(), key.as_ptr(), &mut has, error) }
        })?;
        if !has {
            return Ok(None);
        }
        let mut value = vec![0; 4096];
        loop {
            let mut length = 0;
            call(|error| {
                // SAFETY: the store lives as long as self; at most value.len() bytes are written to value.
                unsafe {
                    runboard_store_get(
                        self.0.as_ptr(),
                        key.as_ptr(),
                        value.as_mut_ptr(),
                        value.len(),
                        &mut length,
                        error,
                    )
                }
            })?;
            let fits = length <= value.len();
            value.resize(length, 0);
            if fits {
                return Ok(Some(value));
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: c10d.cpp made it, and nothing else frees it.
        unsafe { runboard_store_free(self.0.as_ptr()) }
    }
}

/// This rank's number, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Ranks {
    pub own: usize,
    pub count: usize,
}

/// A group of Gloo's, whose operations end with an error at its timeout. After one there is no other.
pub struct Gloo(NonNull<RawGloo>);

impl Gloo {
    /// A group of ranks that listens at `address` alone and finds the others by the store. Whether sends come first is worth time, and
    /// each rank's own choice (c10d.cpp).
    pub fn new(
        store: &Store,
        ranks: Ranks,
        address: IpAddr,
        sends_first: bool,
        timeout: Duration,
    ) -> Result<Self> {
        let address = c_string(address.to_string())?;
        let (rank, world) = (i32::try_from(ranks.own)?, i32::try_from(ranks.count)?);
        let mut raw = ptr::null_mut();
        call(|error| {
            // SAFETY: the store lives as long as the reference, and the group shares its ownership; address is a C
            // string that lives until the call returns.
            unsafe {
                runboard_gloo_new(
                    store.0.as_ptr(),
                    rank,
                    world,
                    address.as_ptr(),
                    sends_first,
                    millis(timeout),
                    &mut raw,
                    error,
                )
            }
        })?;
        let Some(raw) = NonNull::new(raw) else {
            bail!("c10d made no group");
        };
        Ok(Gloo(raw))
    }

    /// The memory that a broadcast replaces and that an exchange writes, at least so many bytes of each. The contents stay from
    /// one call to the next with the same lengths.
    pub fn memory(&mut self, input: usize, output: usize) -> Result<(&mut [u8], &mut [u8])> {
        let (mut at_input, mut at_output) = (ptr::null_mut(), ptr::null_mut());
        let lengths = (i64::try_from(input)?, i64::try_from(output)?);
        call(|error| {
            // SAFETY: the group lives as long as self; both pointers are written.
            unsafe {
                runboard_gloo_reserve(
                    self.0.as_ptr(),
                    lengths.0,
                    lengths.1,
                    &mut at_input,
                    &mut at_output,
                    error,
                )
            }
        })?;
        if at_input.is_null() || at_output.is_null() {
            bail!("c10d gave no memory");
        }
        // SAFETY: two tensors of at least these lengths, which stay in place until the next call that borrows the group
        // mutably, as these slices do. After an operation that succeeded nobody else reads or writes them; after one
        // that failed `Group` makes no other. Fresh memory is zero.
        Ok(unsafe {
            (
                slice::from_raw_parts_mut(at_input, input),
                slice::from_raw_parts_mut(at_output, output),
            )
        })
    }

    /// Exchange numbers with each other rank, as many with one as with another: the first ones are for rank 0, and the first of the
    /// output are those of rank 0. There is nothing in this rank's own place of the output.
    pub fn all_to_all<T: Number>(&mut self, values: &Shared<T>) -> Result<()> {
        self.memory(0, values.bytes())?;
        // SAFETY: the group lives as long as self, and its output was made long enough; the tensor lives until the call
        // returns, and none of Gloo's threads goes on with its memory: see c10d.cpp.
        call(|error| unsafe { runboard_gloo_all_to_all(self.0.as_ptr(), values.raw(), error) })
    }

    /// Give all numbers to each other rank; the output has those of rank 0 first, and nothing in this rank's own place.
    pub fn exchange<T: Number>(&mut self, values: &Shared<T>, ranks: usize) -> Result<()> {
        self.memory(0, ranks * values.bytes())?;
        // SAFETY: as in all_to_all.
        call(|error| unsafe { runboard_gloo_exchange(self.0.as_ptr(), values.raw(), error) })
    }

    /// Replace the numbers of each other rank by what it has in its own place, those of rank 0 first.
    pub fn all_gather<T: Number>(&mut self, values: &Shared<T>) -> Result<()> {
        // SAFETY: as in all_to_all; `Shared` says why the values may be written.
        call(|error| unsafe { runboard_gloo_all_gather(self.0.as_ptr(), values.raw(), error) })
    }

    /// Replace the input's first bytes by those of rank 0.
    pub fn broadcast(&mut self, length: usize) -> Result<()> {
        self.memory(length, 0)?;
        let length = i64::try_from(length)?;
        // SAFETY: the group lives as long as self, and its memory was made long enough.
        call(|error| unsafe { runboard_gloo_broadcast(self.0.as_ptr(), length, error) })
    }

    /// Wait for all ranks.
    pub fn barrier(&mut self) -> Result<()> {
        // SAFETY: the group lives as long as self.
        call(|error| unsafe { runboard_gloo_barrier(self.0.as_ptr(), error) })
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // SAFETY: c10d.cpp made it, and nothing else frees it.
        unsafe { runboard_gloo_free(self.0.as_ptr()) }
    }
}

/// A number as libtorch knows it, by the kind of tensors of it.
pub trait Number: Pod {
    const KIND: Kind;
}

impl Number for f32 {
    const KIND: Kind = Kind::Float;
}

impl Number for bf16 {
    const KIND: Kind = Kind::BFloat16;
}

/// Numbers in a row on the host that an operation reads and writes where they are.
pub struct Shared<T>(Tensor, PhantomData<T>);

impl<T: Number> Shared<T> {
    /// The tensor's. Until the operation has ended nobody else may read or write its memory; after one that failed, nobody ever.
    ///
    /// # Errors
    /// Values of another kind, on a device, or not in a row, and those that are not to be divided by the number of ranks.
    pub fn new(values: Tensor, ranks: usize) -> Result<Self> {
        let in_a_row =
            values.kind() == T::KIND && values.device() == Device::Cpu && values.is_contiguous();
        if !in_a_row || !values.numel().is_multiple_of(ranks) {
            bail!("to sum over {ranks} ranks takes numbers in a row on the host, as many for each");
        }
        Ok(Shared(values, PhantomData))
    }

    /// So many of any value.
    ///
    /// # Errors
    /// As [`Shared::new`], and libtorch's.
    pub fn any(count: usize, ranks: usize) -> Result<Self> {
        let options = (T::KIND, Device::Cpu);
        Shared::new(Tensor::f_empty([i64::try_from(count)?], options)?, ranks)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.numel()
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }

    /// The numbers, between two operations.
    pub fn numbers(&mut self) -> &mut [T] {
        // SAFETY: a tensor of so many numbers of this kind in a row on the host; by `new` nobody else reads or writes them, and an
        // operation has ended: `Gloo` returns from each after that.
        unsafe { slice::from_raw_parts_mut(self.0.data_ptr().cast(), self.len()) }
    }

    /// The C++ tensor.
    fn raw(&self) -> *const c_void {
        self.0.as_ptr().cast()
    }
}

/// End the process without what is to be done before, but for what C's streams hold, such as NCCL's words.
pub fn end(code: i32) -> ! {
    // SAFETY: none means all streams; a plain number, and nothing of this process goes on.
    unsafe {
        libc::fflush(ptr::null_mut());
        libc::_exit(code)
    }
}

/// Close a file descriptor in programs that this process starts.
pub fn close_on_exec(descriptor: RawFd) {
    // SAFETY: fcntl takes plain numbers here, and refuses a descriptor that is none.
    unsafe {
        libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
    }
}
