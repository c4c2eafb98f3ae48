//! Which libtorch this process has loaded, and its part for NVIDIA's GPUs.

use runboard::compute::GpuLibraries;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fs;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// libtorch's part for NVIDIA's GPUs.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Whether burn-tch makes tensors on a GPU: it panics at the first one if there was no such part when it was built, with whatever
/// libtorch it runs. tools/setup.py shows it one.
const FOR_GPUS: bool = matches!(env!("RUNBOARD_FOR_GPUS").as_bytes(), b"true");

/// The directory of the libtorch that is loaded, as the loader found it.
pub fn directory() -> Option<PathBuf> {
    // A line for each part of each library that is mapped, which ends in its path (man 5 proc_pid_maps).
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps
        .lines()
        .find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = &library[library.find('/')?..];
    Path::new(path).parent().map(Path::to_owned)
}

/// Loads libtorch's part for NVIDIA's GPUs, once, where the libtorch that is loaded has it. No symbol of it is named anywhere: its
/// operations are there when it is, and libtorch itself looks for them when it is first asked for a GPU. So one program serves
/// a libtorch with that part and one without.
///
/// # Errors
/// What the loader says, if it is there and cannot be loaded.
pub fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(load).clone()
}

fn load() -> Result<(), String> {
    let library = directory().map(|directory| directory.join(CUDA_LIBRARY));
    let Some(library) = library.filter(|library| library.exists()) else {
        return Ok(());
    };
    if !FOR_GPUS {
        return Err(
            "this program refuses GPUs, as it was built with a libtorch that has no libtorch_cuda.so".to_owned(),
        );
    }
    let path = CString::new(library.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: libtorch's own library, whose constructors may run at any time; the name is a C string.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlopen has failed in this thread, so there is a message, a C string until the next call of its kind here.
    let said = unsafe { CStr::from_ptr(libc::dlerror()) };
    Err(said.to_string_lossy().into_owned())
}

/// The versions of NVIDIA's libraries; none where libtorch's part for GPUs is not loaded.
pub fn of_gpus() -> Option<GpuLibraries> {
    load_cuda().ok()?;
    directory().filter(|directory| directory.join(CUDA_LIBRARY).exists())?;
    Some(GpuLibraries {
        cuda: told_by(c"cudaRuntimeGetVersion").map(cuda_version),
        cudnn: cudnn().map(in_hundreds),
        nccl: told_by(c"ncclGetVersion").map(in_hundreds),
    })
}

/// 13010 is 13.1, of CUDA's libraries and of the driver's.
pub fn cuda_version(version: c_int) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// 91900 is 9.19.0.
fn in_hundreds(version: c_int) -> String {
    let [major, minor, patch] = [version / 10_000, version / 100 % 100, version % 100];
    format!("{major}.{minor}.{patch}")
}

/// What a function of this name writes that is loaded, if it succeeds.
fn told_by(function: &CStr) -> Option<c_int> {
    let function = loaded(function)?;
    // SAFETY: functions of this kind, cudaRuntimeGetVersion and ncclGetVersion, take a pointer to the number and return whether
    // they have failed (CUDA's and NCCL's references).
    let function: unsafe extern "C" fn(*mut c_int) -> c_int = unsafe { mem::transmute(function) };
    let mut version = 0;
    // SAFETY: as above; the number lives as long as the call.
    let failed = unsafe { function(&mut version) };
    (failed == 0).then_some(version)
}

fn cudnn() -> Option<c_int> {
    let function = loaded(c"cudnnGetVersion")?;
    // SAFETY: it takes nothing and returns a number (cuDNN's reference).
    let function: unsafe extern "C" fn() -> usize = unsafe { mem::transmute(function) };
    // SAFETY: as above.
    c_int::try_from(unsafe { function() }).ok()
}

/// The address of a function of a library that is loaded for all to use.
pub(super) fn loaded(function: &CStr) -> Option<*mut c_void> {
    // SAFETY: a search by a C string, which changes nothing.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, function.as_ptr()) };
    (!found.is_null()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_that_of_the_libtorch_that_is_loaded() {
        tch::get_num_threads();
        let directory = directory().unwrap();
        assert!(directory.join("libtorch_cpu.so").is_file());
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../libtorch/lib");
        if own.canonicalize().is_ok_and(|own| own == directory) {
            assert_eq!(env!("RUNBOARD_FOR_GPUS"), "true", "as `make setup` has it");
        }
        if !FOR_GPUS && directory.join(CUDA_LIBRARY).exists() {
            assert!(load_cuda().unwrap_err().contains("refuses GPUs"));
            return;
        }
        assert_eq!(load_cuda(), Ok(()));
        assert_eq!(of_gpus().is_some(), directory.join(CUDA_LIBRARY).exists());
    }

    #[test]
    fn version_of_a_library_is_what_its_number_means() {
        assert_eq!(cuda_version(13_010), "13.1");
        assert_eq!(in_hundreds(91_900), "9.19.0");
        assert_eq!(in_hundreds(22_809), "2.28.9");
    }
}
