//! Whether a machine has what a sweep asks for.

use super::definition::Definition;
use crate::bail_user;
use crate::spec::{Compute, DeviceName, Node};
use anyhow::Result;
use std::thread;

/// Check that the devices are there, and that there is one for each of the points that run at once: a GPU, or as many cores
/// of the CPU as processes train it together. `base` is of the spec, `gpus` how many libtorch sees.
pub(super) fn check(
    definition: &Definition,
    base: &Compute,
    gpus: usize,
    section: &Node,
) -> Result<()> {
    if let Some(gpu) = base.devices.iter().find(|it| DeviceName::is_gpu(it)) {
        bail_user!(
            "compute.devices: got {gpu} in the spec of a sweep, whose points have one GPU each; want [], or cpu alone, \
             such as [cpu, cpu]"
        );
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let index = |device: &str| device.strip_prefix("cuda:")?.parse::<usize>().ok();
    if base.ranks() > 1
        && let Some(gpu) = definition
            .devices
            .iter()
            .flatten()
            .find(|it| DeviceName::is_gpu(it))
    {
        let message =
            format!("got {gpu}, but each point trains on compute.devices, want devices: [cpu]");
        return Err(section.error_at("devices", message));
    }
    let missing = |device: &&String| index(device).is_some_and(|index| index >= gpus);
    let listed = definition.devices.as_deref().unwrap_or_default();
    if let Some(device) = listed.iter().find(missing) {
        let found = match gpus {
            0 => "no GPU".to_owned(),
            1 => "one GPU, cuda:0".to_owned(),
            many => format!("{many} GPUs, cuda:0 to cuda:{}", many - 1),
        };
        let message = format!("got {device}, but libtorch sees {found}");
        return Err(section.error_at("devices", message));
    }
    let (most, what) = match listed {
        _ if base.ranks() > 1 => (
            (cores / base.ranks()).max(1),
            "times that the cores of the CPU have one for each of compute.devices",
        ),
        [] if base.device == "cpu" || gpus == 0 => (cores, "cores of the CPU"),
        [] if base.device == "auto" => (gpus, "GPUs"),
        [] => (1, "device of the spec, compute.device"),
        [only] if !DeviceName::is_gpu(only) => (cores, "cores of the CPU"),
        listed => (listed.len(), "devices"),
    };
    if definition.parallel > most {
        let parallel = definition.parallel;
        let message = format!("got {parallel} at once, want at most {most}, the number of {what}");
        return Err(section.error_at("parallel", message));
    }
    Ok(())
}
