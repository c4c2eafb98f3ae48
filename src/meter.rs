//! What the process takes of the machine.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Reads this process's use of CPU and memory.
pub struct Meter {
    system: System,
    pid: Pid,
}

/// A reading.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Cores kept busy since the last reading; 0 at the first.
    pub cores: f64,
    /// Resident memory, in MiB.
    pub memory_mib: f64,
}

impl Meter {
    /// A meter of the calling process.
    pub fn new() -> Self {
        let mut meter = Meter {
            system: System::new(),
            pid: Pid::from_u32(std::process::id()),
        };
        meter.read();
        meter
    }

    /// Read now; `None` where the system does not tell.
    pub fn read(&mut self) -> Option<Usage> {
        let kinds = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let only = ProcessesToUpdate::Some(&[self.pid]);
        self.system.refresh_processes_specifics(only, false, kinds);
        let process = self.system.process(self.pid)?;
        Some(Usage {
            cores: f64::from(process.cpu_usage()) / 100.0,
            memory_mib: process.memory() as f64 / f64::from(1 << 20),
        })
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_busy_process_uses_a_core_and_what_it_holds() {
        let mut meter = Meter::new();
        let held = vec![1u8; 64 << 20];
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            std::hint::black_box(&held);
        }
        let usage = meter.read().unwrap();
        assert!(usage.cores > 0.1, "{usage:?}");
        assert!(usage.memory_mib > 64.0, "{usage:?}");
    }
}
