//! What the program finds where it runs: libraries, driver, GPUs, and whether a checkpoint comes back as it was.

use super::machine::Machine;
use super::program::Asked;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What it finds. What went wrong is in place of what was to be found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Examination {
    pub machine: Machine,
    /// Where the libtorch is that it has loaded, its directory `lib`.
    pub libtorch: Option<PathBuf>,
    /// NVIDIA's libraries, where libtorch's part for GPUs is loaded.
    pub libraries: Option<GpuLibraries>,
    /// NVIDIA's driver.
    pub driver: Result<Driver, String>,
    /// The GPUs that the driver knows, whether libtorch sees them or not.
    pub gpus: Vec<Gpu>,
    /// A checkpoint of the device, if that is there and one was asked for.
    pub checkpoint: Option<Result<RoundTrip, String>>,
    /// Whether NCCL begins on the device, or why it does not, if that is a GPU and a checkpoint of it is tried.
    pub nccl: Option<Result<(), String>>,
}

/// Versions of NVIDIA's libraries, as `13.0`; none of one that is not loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuLibraries {
    pub cuda: Option<String>,
    pub cudnn: Option<String>,
    pub nccl: Option<String>,
}

/// NVIDIA's driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    pub version: String,
    /// The version of CUDA up to which it serves, as `13.0`.
    pub cuda: Option<String>,
}

/// A GPU as the driver tells of it; none of what it does not tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    pub name: String,
    /// Bytes, and those of them that are in use.
    pub memory: Option<u64>,
    pub memory_used: Option<u64>,
    /// Major and minor number.
    pub compute_capability: Option<(u32, u32)>,
    /// Processes that compute on it.
    pub processes: Option<usize>,
}

/// A step of training, whose checkpoint was written and read back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrip {
    pub bytes: u64,
    pub write_seconds: f64,
    pub read_seconds: f64,
    /// Whether weights, average and the rule's memory came back bit for bit.
    pub same: bool,
}

impl Examination {
    /// The GPU that a device as a spec's `compute.device` means, as the driver tells of it: where it and libtorch may count
    /// otherwise, one of a machine whose GPUs are the same.
    pub fn gpu(&self, device: &str) -> Option<&Gpu> {
        let index = self.machine.gpu("", device).ok()??;
        self.gpus.get(index)
    }
}

/// What the program finds. `device` is as a spec's `compute.device`; if it is there, a checkpoint of it is tried in `directory`,
/// where one is given.
///
/// # Errors
/// If it is missing, of another build, or fails.
pub fn examine(device: &str, directory: Option<&Path>) -> Result<Examination> {
    let mut words: Vec<&OsStr> = vec!["examine".as_ref(), "--device".as_ref(), device.as_ref()];
    if let Some(directory) = directory {
        words.extend(["--directory".as_ref(), directory.as_os_str()]);
    }
    Asked::start(&words)?.answer(&[])
}
