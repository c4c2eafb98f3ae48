//! `/proc/PID/stat`: what the kernel tells of a process (proc_pid_stat(5)).

use std::fs;

/// Some fields of the line.
pub(crate) struct ProcStat {
    /// Field 3, one letter.
    state: String,
    /// Field 4: the pid of its parent.
    pub parent: i32,
    /// Field 8: the process group that its terminal is with; not positive where it has none.
    pub foreground: i32,
    /// Field 22: when it started, in clock ticks since the boot.
    pub start_ticks: u64,
}

impl ProcStat {
    /// That of a process; none if it is not there.
    pub fn of(pid: impl Into<i64>) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.into())).ok()?;
        // Field 2, the command's name, may hold blanks and brackets itself.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(ProcStat {
            state: field(3)?.to_owned(),
            parent: field(4)?.parse().ok()?,
            foreground: field(8)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
        })
    }

    /// Not one that only waits to be reaped.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state.as_str(), "Z" | "X")
    }

    pub fn is_frozen(&self) -> bool {
        matches!(self.state.as_str(), "T" | "t")
    }
}
