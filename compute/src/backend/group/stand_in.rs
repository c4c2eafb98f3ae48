//! Functions in the place of NCCL's and CUDA's, for tests where there is no GPU: sums of floats on the host, over processes that
//! leave them in files of one directory. As on a GPU, a sum is issued at once, done later, and waits without end for a rank that does not come.

use super::nccl::{BFLOAT16, FLOAT32, Functions, Gpu, UniqueId};
use half::bf16;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tch::Device;

/// What a process's stand-in says of itself.
pub static VERSION: AtomicI32 = AtomicI32::new(22_809);
/// Whether it refuses to make a communicator.
pub static REFUSES: AtomicBool = AtomicBool::new(false);

/// Whether a sum is waited for before it counts as issued: then what is computed on the host finds it done, as what is issued
/// to a GPU does.
pub static WAITS: AtomicBool = AtomicBool::new(false);

/// Whether the last sum is done, of this process.
static DONE: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// A number of CUDA's or NCCL's that means an error.
const ERROR: c_int = 3;
const NOT_READY: c_int = 600;

struct Communicator {
    directory: PathBuf,
    rank: usize,
    world: usize,
    sums: usize,
    aborted: Arc<AtomicBool>,
}

/// A GPU at this place of the host's bus.
pub fn gpu(index: c_int) -> Gpu {
    Gpu {
        functions: Functions {
            version,
            unique_id,
            init,
            all_reduce,
            async_error,
            abort,
            nccl_error,
            last_error,
            set_device,
            bus_id,
            new_event,
            record,
            query,
            elapsed,
            destroy_event,
            cuda_error,
            forget_error,
        },
        index,
        device: Device::Cpu,
    }
}

unsafe extern "C" fn version(version: *mut c_int) -> c_int {
    // SAFETY: the caller gives room for a number.
    unsafe { *version = VERSION.load(Ordering::Relaxed) };
    0
}

unsafe extern "C" fn unique_id(id: *mut UniqueId) -> c_int {
    let directory = tempfile::tempdir().unwrap().keep();
    let path = directory.to_str().unwrap().as_bytes();
    // SAFETY: the caller gives room for an id.
    unsafe { (&mut (*id).0)[..path.len()].copy_from_slice(path) };
    0
}

unsafe extern "C" fn init(raw: *mut *mut c_void, world: c_int, id: UniqueId, rank: c_int) -> c_int {
    if REFUSES.load(Ordering::Relaxed) {
        return ERROR;
    }
    let path = id.0.split(|&byte| byte == 0).next().unwrap();
    let communicator = Box::new(Communicator {
        directory: String::from_utf8(path.to_vec()).unwrap().into(),
        rank: usize::try_from(rank).unwrap(),
        world: usize::try_from(world).unwrap(),
        sums: 0,
        aborted: Arc::default(),
    });
    // SAFETY: the caller gives room for a pointer.
    unsafe { *raw = Box::into_raw(communicator).cast() };
    0
}

/// The numbers of a rank, once it has left them.
fn left(path: &Path, kind: c_int) -> Option<Vec<f32>> {
    let bytes = fs::read(path).ok()?;
    Some(match kind {
        BFLOAT16 => {
            let numbers = bytemuck::pod_collect_to_vec::<_, bf16>(&bytes);
            numbers.into_iter().map(bf16::to_f32).collect()
        }
        _ => bytemuck::pod_collect_to_vec(&bytes),
    })
}

unsafe extern "C" fn all_reduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    kind: c_int,
    _operation: c_int,
    raw: *mut c_void,
    _stream: *mut c_void,
) -> c_int {
    // SAFETY: made by init, and not freed before abort.
    let own = unsafe { &mut *raw.cast::<Communicator>() };
    let size = match kind {
        FLOAT32 => size_of::<f32>(),
        BFLOAT16 => size_of::<bf16>(),
        _ => return ERROR,
    };
    // SAFETY: the caller gives so many numbers of this size.
    let values = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count * size) };
    let name = |rank: usize| own.directory.join(format!("{}-{rank}", own.sums));
    let unfinished = own.directory.join(format!("{}.part", own.rank));
    fs::write(&unfinished, values).unwrap();
    fs::rename(&unfinished, name(own.rank)).unwrap();
    let paths: Vec<PathBuf> = (0..own.world).map(name).collect();
    own.sums += 1;
    let done = Arc::new(AtomicBool::new(false));
    // As on a stream, a sum is done after the one before it.
    let before = DONE.lock().unwrap().replace(Arc::clone(&done));
    let is_turn = move || before.as_ref().is_none_or(|it| it.load(Ordering::Acquire));
    let (aborted, to) = (Arc::clone(&own.aborted), to as usize);
    let sum = thread::spawn(move || {
        while !aborted.load(Ordering::Relaxed) {
            let parts: Option<Vec<Vec<f32>>> = paths.iter().map(|path| left(path, kind)).collect();
            let Some(parts) = parts.filter(|_| is_turn()) else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let sum = |at: usize| parts.iter().map(|part| part[at]).sum::<f32>();
            for at in 0..count {
                // SAFETY: as above, and so many have room there; the caller leaves the memory alone until the sum is done.
                unsafe {
                    match kind {
                        BFLOAT16 => *(to as *mut bf16).add(at) = bf16::from_f32(sum(at)),
                        _ => *(to as *mut f32).add(at) = sum(at),
                    }
                }
            }
            done.store(true, Ordering::Release);
            return;
        }
    });
    if WAITS.load(Ordering::Relaxed) {
        sum.join().unwrap();
    }
    0
}

unsafe extern "C" fn async_error(_raw: *mut c_void, error: *mut c_int) -> c_int {
    // SAFETY: the caller gives room for a number.
    unsafe { *error = 0 };
    0
}

unsafe extern "C" fn abort(raw: *mut c_void) -> c_int {
    // SAFETY: made by init, and not used any more.
    let own = unsafe { Box::from_raw(raw.cast::<Communicator>()) };
    own.aborted.store(true, Ordering::Relaxed);
    0
}

unsafe extern "C" fn nccl_error(_status: c_int) -> *const c_char {
    c"internal error".as_ptr()
}

unsafe extern "C" fn last_error(_raw: *mut c_void) -> *const c_char {
    c"the stand-in refuses".as_ptr()
}

unsafe extern "C" fn set_device(_index: c_int) -> c_int {
    0
}

unsafe extern "C" fn bus_id(text: *mut c_char, length: c_int, index: c_int) -> c_int {
    let bus = CString::new(format!("0000:{index:02x}:00.0")).unwrap();
    let bus = bus.as_bytes_with_nul();
    assert!(bus.len() <= usize::try_from(length).unwrap());
    // SAFETY: the caller gives room for so many bytes.
    unsafe { ptr::copy_nonoverlapping(bus.as_ptr().cast(), text, bus.len()) };
    0
}

unsafe extern "C" fn new_event(event: *mut *mut c_void, _flags: c_uint) -> c_int {
    // SAFETY: the caller gives room for a pointer; this one is never followed.
    unsafe { *event = ptr::dangling_mut::<u8>().cast() };
    0
}

unsafe extern "C" fn record(_event: *mut c_void, _stream: *mut c_void) -> c_int {
    0
}

unsafe extern "C" fn query(_event: *mut c_void) -> c_int {
    let done = DONE.lock().unwrap();
    match done
        .as_ref()
        .is_none_or(|done| done.load(Ordering::Acquire))
    {
        true => 0,
        false => NOT_READY,
    }
}

unsafe extern "C" fn elapsed(
    milliseconds: *mut f32,
    _begin: *mut c_void,
    _end: *mut c_void,
) -> c_int {
    // SAFETY: the caller gives room for a number.
    unsafe { *milliseconds = 0.5 };
    0
}

unsafe extern "C" fn destroy_event(_event: *mut c_void) -> c_int {
    0
}

unsafe extern "C" fn cuda_error(_status: c_int) -> *const c_char {
    c"an error".as_ptr()
}

unsafe extern "C" fn forget_error() -> c_int {
    0
}
