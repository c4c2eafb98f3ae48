//! Which libtorch this process has loaded, and its part for NVIDIA's GPUs.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
    let library = directory().map(|directory| directory.join("libtorch_cuda.so"));
    let Some(library) = library.filter(|library| library.exists()) else {
        return Ok(());
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_that_of_the_libtorch_that_is_loaded() {
        tch::get_num_threads();
        let directory = directory().unwrap();
        assert!(directory.join("libtorch_cpu.so").is_file());
        assert_eq!(load_cuda(), Ok(()));
    }
}
