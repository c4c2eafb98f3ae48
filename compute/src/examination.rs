//! What this program finds where it runs, for `runboard doctor`.

use crate::backend;
use crate::backend::group::begins_alone;
use crate::trainer;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use runboard::compute::{Driver, Examination, Gpu};
use std::path::Path;

/// Looks at libraries, driver and GPUs, and tries a checkpoint of the device, if it is there, in `directory`, if one is given.
pub fn examine(device: &str, directory: Option<&Path>) -> Examination {
    let machine = backend::machine();
    let nvml = Nvml::init();
    let told = |error: &NvmlError| error.to_string();
    let is_there = machine.gpu("", device).is_ok();
    Examination {
        libtorch: backend::libraries::directory(),
        libraries: backend::libraries::of_gpus(),
        driver: nvml
            .as_ref()
            .map_err(told)
            .and_then(|nvml| driver(nvml).map_err(|it| told(&it))),
        gpus: nvml.as_ref().map(gpus).unwrap_or_default(),
        checkpoint: directory.filter(|_| is_there).map(|directory| {
            let tried = trainer::round_trip(device, directory);
            tried.map_err(|error| format!("{error:#}"))
        }),
        nccl: directory
            .and_then(|_| machine.gpu("", device).ok()?)
            .map(|gpu| begins_alone(gpu).map_err(|error| format!("{error:#}"))),
        machine,
    }
}

fn driver(nvml: &Nvml) -> Result<Driver, NvmlError> {
    let cuda = nvml.sys_cuda_driver_version().ok();
    Ok(Driver {
        version: nvml.sys_driver_version()?,
        cuda: cuda.map(backend::libraries::cuda_version),
    })
}

fn gpus(nvml: &Nvml) -> Vec<Gpu> {
    let devices = 0..nvml.device_count().unwrap_or(0);
    devices
        .map(|index| match nvml.device_by_index(index) {
            Ok(device) => gpu(&device),
            Err(error) => Gpu {
                name: format!("one that does not answer: {error}"),
                memory: None,
                memory_used: None,
                compute_capability: None,
                processes: None,
            },
        })
        .collect()
}

fn gpu(device: &Device) -> Gpu {
    let memory = device.memory_info().ok();
    let capability = device.cuda_compute_capability().ok();
    let number = |part: i32| u32::try_from(part).unwrap_or(0);
    Gpu {
        name: device
            .name()
            .unwrap_or_else(|error| format!("one without a name: {error}")),
        memory: memory.as_ref().map(|memory| memory.total),
        memory_used: memory.as_ref().map(|memory| memory.used),
        compute_capability: capability.map(|it| (number(it.major), number(it.minor))),
        processes: device.running_compute_processes().ok().map(|all| all.len()),
    }
}
