//! What the process uses of the machine: cores, memory, GPU.

use nvml_wrapper::{Device, Nvml};
use std::process;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

const MIB: f64 = (1 << 20) as f64;

/// Reads this process's use of the machine.
pub struct SystemMetrics {
    system: System,
    pid: Pid,
    nvml: Option<Nvml>,
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub struct ProcessUsage {
    /// Cores kept busy since the last reading; 0 at the first.
    pub cores: f64,
    /// Resident memory, in MiB.
    pub memory_mib: f64,
}

/// What everything that runs on the GPU uses of it together; `None` for what the GPU does not report, such as the
/// utilisation of a part of one (MIG).
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuUsage {
    /// Share of the last moments in which a kernel was running, 0 to 1.
    pub utilisation: Option<f64>,
    /// Memory in use, in MiB.
    pub memory_mib: Option<f64>,
}

impl SystemMetrics {
    /// Of the calling process; `gpu` says whether it computes on an NVIDIA GPU.
    pub fn new(gpu: bool) -> Self {
        let mut metrics = SystemMetrics {
            system: System::new(),
            pid: Pid::from_u32(process::id()),
            nvml: gpu.then(Nvml::init).and_then(Result::ok),
        };
        metrics.read_process();
        metrics
    }

    /// Read the use of cores and memory; `None` where the system does not report it.
    pub fn read_process(&mut self) -> Option<ProcessUsage> {
        let kinds = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let only = ProcessesToUpdate::Some(&[self.pid]);
        self.system.refresh_processes_specifics(only, false, kinds);
        let process = self.system.process(self.pid)?;
        Some(ProcessUsage {
            cores: f64::from(process.cpu_usage()) / 100.0,
            memory_mib: process.memory() as f64 / MIB,
        })
    }

    /// Read the GPU that this process computes on; nothing without one, or where it is not known which one it is.
    ///
    /// CUDA and NVML count GPUs differently, so it is the only one there is or else the one that lists
    /// this process (in a container it may list other process numbers).
    pub fn read_gpu(&self) -> GpuUsage {
        let Some(device) = self.device() else {
            return GpuUsage::default();
        };
        let utilisation = device.utilization_rates().ok();
        let memory = device.memory_info().ok();
        GpuUsage {
            utilisation: utilisation.map(|rates| f64::from(rates.gpu) / 100.0),
            memory_mib: memory.map(|memory| memory.used as f64 / MIB),
        }
    }

    fn device(&self) -> Option<Device<'_>> {
        let nvml = self.nvml.as_ref()?;
        let count = nvml.device_count().ok()?;
        (0..count)
            .filter_map(|i| nvml.device_by_index(i).ok())
            .find(|device| {
                let listed = device.running_compute_processes().unwrap_or_default();
                count == 1 || listed.iter().any(|other| other.pid == process::id())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::path::Path;
    use std::process::Command;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn process_usage_is_the_cores_kept_busy_and_the_memory_held() {
        work(0.05); // Linux does not tell the use of one that has hardly worked yet
        let begin = Instant::now();
        let mut metrics = SystemMetrics::new(false);
        let held = vec![1u8; 64 << 20];
        work(0.3);
        let usage = metrics.read_process().unwrap();
        std::hint::black_box(held);
        // As much of a core as others left to it, and what other tests use meanwhile.
        let share = 0.3 / begin.elapsed().as_secs_f64();
        assert!(usage.cores > share / 2.0, "{usage:?}, want {share}");
        assert!(usage.memory_mib > 64.0, "{usage:?}");
        assert!(metrics.read_gpu().memory_mib.is_none());
    }

    /// Keep a core busy for so many seconds of this thread's own, however long that takes.
    fn work(seconds: f64) {
        let own = || {
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: the call writes the one time that it is given.
            let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
            assert_eq!(code, 0);
            time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
        };
        let end = own() + seconds;
        while own() < end {}
    }

    /// The real calls of NVIDIA's library, answered by a stand-in for it (compute/tests/nvml.c), which the loader finds
    /// in its place. Plays both sides: run again by itself, with the variable set, it is the process that reads.
    #[test]
    fn gpu_usage_is_that_of_this_process_and_none_where_the_driver_fails() {
        const MACHINE: &str = "NVML_STAND_IN";
        if env::var_os(MACHINE).is_some() {
            let usage = SystemMetrics::new(true).read_gpu();
            println!("read {:?} {:?}", usage.utilisation, usage.memory_mib);
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .arg(directory.path().join("libnvidia-ml.so.1"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml.c"))
            .status();
        assert!(built.unwrap().success());
        let mut path = directory.path().as_os_str().to_owned();
        if let Some(others) = env::var_os("LD_LIBRARY_PATH") {
            path.push(":");
            path.push(others);
        }
        let name = thread::current().name().unwrap().to_owned();
        for (machine, want) in [
            ("one", "Some(0.4) Some(2048.0)"),
            ("two", "Some(0.75) Some(3072.0)"),
            ("part", "None Some(2048.0)"),
            ("old", "Some(0.4) None"),
            ("lost", "None None"),
            ("none", "None None"),
        ] {
            let done = Command::new(env::current_exe().unwrap())
                .args(["--exact", &name, "--test-threads=1", "--nocapture"])
                .env(MACHINE, machine)
                .env("LD_LIBRARY_PATH", &path)
                .output()
                .unwrap();
            let out = String::from_utf8(done.stdout).unwrap();
            assert!(done.status.success(), "{machine}: {out}");
            assert!(out.contains(&format!("read {want}\n")), "{machine}: {out}");
        }
    }
}
