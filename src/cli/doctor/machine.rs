//! Cores, memory, limits, clock and TensorBoard.

use super::finding::Finding;
use crate::hint;
use crate::home::Home;
use crate::overview::{bytes, count};
use chrono::{DateTime, Datelike, Local};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde_json::json;
use std::env;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use sysinfo::System;

/// Memory of the two processes of a run of the tutorial's network on the CPU, in bytes, and as much again for others.
const MEMORY: u64 = 2_000_000_000;

/// Open files of a run at most, and of a sweep of as many points as there are cores.
const OPEN_FILES: u64 = 256;

/// Processes and threads of a run at most, each core's counted.
const PROCESSES: u64 = 256;

/// Bytes of a file: a checkpoint of the tutorial's network takes a hundredth.
const FILE_SIZE: u64 = 1 << 30;

/// A clock before this year was never set.
const YEAR: i32 = 2025;

pub fn findings(home: &Home) -> Vec<Finding> {
    vec![
        cores(),
        vector_units(),
        memory(),
        limits(),
        clock(),
        tensorboard(home),
    ]
}

fn cores() -> Finding {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let load = System::load_average().one;
    Finding::good(
        "cores",
        format!("{}; a load of {load:.1} in the last minute", count(cores, "core")),
    )
    .with(json!({"cores": cores, "load": load}))
    .note_if(
        load > cores as f64 / 2.0,
        "other processes compute here, which makes steps slow and their times useless; `top` tells which",
    )
}

fn vector_units() -> Finding {
    let name = vectors();
    Finding::good("vector units", name)
        .with(json!({"widest": name}))
        .note_if(
            name == "SSE2",
            "steps on the CPU take several times as long as with AVX2; of a virtual machine choose a processor that has it",
        )
}

/// The widest vectors of those that there are kernels for.
#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    let all = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        true if all => "AVX-512",
        true => "AVX2",
        false => "SSE2",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    "those of this processor"
}

fn memory() -> Finding {
    let mut system = System::new();
    system.refresh_memory();
    let (mut total, mut available) = (system.total_memory(), system.available_memory());
    if let Some(limits) = system.cgroup_limits() {
        total = total.min(limits.total_memory);
        available = available.min(limits.free_memory);
    }
    Finding::good(
        "memory",
        format!("{}, of which {} are free", bytes(total), bytes(available)),
    )
    .with(json!({"total": total, "available": available}))
    .note_if(
        available < MEMORY,
        format!(
            "a run of the tutorial's network wants {}; end what takes memory, or lower train.batch_size and eval.batch_size",
            bytes(MEMORY)
        ),
    )
}

fn limits() -> Finding {
    let limit = |resource| getrlimit(resource).map_or(RLIM_INFINITY, |(soft, _)| soft);
    let limits = [
        (
            "open files",
            limit(Resource::RLIMIT_NOFILE),
            OPEN_FILES,
            "ulimit -n 4096",
        ),
        (
            "processes",
            limit(Resource::RLIMIT_NPROC),
            PROCESSES,
            "ulimit -u 4096",
        ),
        (
            "a file's size",
            limit(Resource::RLIMIT_FSIZE),
            FILE_SIZE,
            "ulimit -f unlimited",
        ),
        (
            "address space",
            limit(Resource::RLIMIT_AS),
            RLIM_INFINITY,
            "ulimit -v unlimited",
        ),
    ];
    let told = |value: u64| match value {
        RLIM_INFINITY => "unlimited".to_owned(),
        value => value.to_string(),
    };
    let found = limits.map(|(name, limit, ..)| format!("{name} {}", told(limit)));
    let low = limits.iter().filter(|(_, limit, least, _)| limit < least);
    let low: Vec<_> = low
        .map(|(name, .., command)| format!("{name}: `{command}`"))
        .collect();
    let number = |value: u64| (value != RLIM_INFINITY).then_some(value);
    Finding::good("limits", found.join(", "))
        .with(json!({
            "open_files": number(limits[0].1),
            "processes": number(limits[1].1),
            "file_size": number(limits[2].1),
            "address_space": number(limits[3].1),
        }))
        .note_if(
            !low.is_empty(),
            format!(
                "these may be too low for a run, raise them in this shell or in what starts it: {}",
                low.join(", ")
            ),
        )
}

fn clock() -> Finding {
    let now = Local::now();
    clock_at(now, is_synchronised())
}

fn clock_at(now: DateTime<Local>, synchronised: Option<bool>) -> Finding {
    let how = match synchronised {
        Some(true) => ", set by the network",
        Some(false) => ", not set by the network",
        None => "",
    };
    Finding::good("clock", format!("{}{how}", now.format("%Y-%m-%d %H:%M:%S %:z")))
        .with(json!({"time": now.to_rfc3339(), "synchronised": synchronised}))
        .fails_if(
            now.year() < YEAR,
            "set it, `timedatectl set-ntp true` or `date --set`: runs are named and sorted by it, and certificates of downloads fail",
        )
        .note_if(
            synchronised == Some(false),
            "nothing to do for runs on this machine alone; on several, whose times are compared: `timedatectl set-ntp true`",
        )
}

/// Whether the kernel knows the clock to be right; none where that cannot be told.
fn is_synchronised() -> Option<bool> {
    // SAFETY: a structure of numbers, of which the mode 0 asks to change nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes the one structure that it is given.
    let code = unsafe { libc::adjtimex(&mut state) };
    (code >= 0).then_some(code != libc::TIME_ERROR)
}

fn tensorboard(home: &Home) -> Finding {
    let own = home.path().join(".venv-tensorboard/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(own).chain(env::split_paths(&path));
    let found: Option<PathBuf> = places
        .map(|place| place.join("tensorboard"))
        .find(|program| program.is_file());
    let shown = found.as_ref().map(|program| program.display().to_string());
    Finding::good(
        "TensorBoard",
        shown.clone().unwrap_or_else(|| "not found".to_owned()),
    )
    .with(json!({"program": shown}))
    .note_if(
        found.is_none(),
        format!(
            "curves are written all the same; to see them: {}, or copy runs/ to where there is one",
            hint::hint(
                "tensorboard",
                "pip install tensorboard 'setuptools<81' && tensorboard --logdir runs"
            )
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn clock_that_was_never_set_fails() {
        let at = |year| Local.with_ymd_and_hms(year, 1, 2, 3, 4, 5).unwrap();
        assert_eq!(clock_at(at(1970), Some(false)).state, State::Fails);
        assert_eq!(clock_at(at(2026), Some(false)).state, State::Note);
        assert_eq!(clock_at(at(2026), None).state, State::Good);
        assert_eq!(clock_at(at(2026), Some(true)).state, State::Good);
    }
}
