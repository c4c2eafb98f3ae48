//! `/proc/PID/stat`: what the kernel tells of a process (proc_pid_stat(5)).

use std::fs;

use nix::sys::signal::Signal;

/// PF_EXITING of the kernel's task flags: the thread is on its way out.
const EXITING: u64 = 0x4;

/// Some fields of the line.
pub(crate) struct ProcStat {
    /// Field 3, one letter.
    state: String,
    /// Field 4: the pid of its parent.
    pub parent: i32,
    /// Field 8: the process group that its terminal is with; not positive where it has none.
    pub foreground: i32,
    /// Field 9: flags of its first thread.
    flags: u64,
    /// Field 31: the signals that its first thread has yet to take, a bit each.
    pending: u64,
    /// Field 22: when it started, in clock ticks since the boot.
    pub start_ticks: u64,
}

impl ProcStat {
    /// That of a process; none if it is not there.
    pub fn of(pid: impl Into<i64>) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{}/stat", pid.into())).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // Field 2, the command's name, may hold blanks and brackets itself.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(ProcStat {
            state: field(3)?.to_owned(),
            parent: field(4)?.parse().ok()?,
            foreground: field(8)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            pending: field(31)?.parse().ok()?,
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

    /// Whether it runs none of its program any more, having been killed or having ended, although it may still be alive: until
    /// the kernel has freed what it held.
    pub fn is_ending(&self) -> bool {
        let killed = 1 << (Signal::SIGKILL as i32 - 1);
        self.flags & EXITING != 0 || self.pending & killed != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;

    #[test]
    fn process_that_is_killed_is_ending_before_it_has_ended() {
        // A line as proc_pid_stat(5) has it, of a program named `a) b`, up to a few fields after the 31st.
        let of = |flags: u64, pending: u64| {
            let rest = format!("S 12 13 13 34816 13 {flags} 96 0 0 0 0 0 0 0 20 0 1 0 5061 9 5");
            let memory = "18446744073709551615 1 2 3 0 0";
            ProcStat::parse(&format!("13 (a) b) {rest} {memory} {pending} 0 0 0\n")).unwrap()
        };
        let process = of(0x0040_0000, 0x4000);
        assert_eq!((process.parent, process.start_ticks), (12, 5061));
        assert!(process.is_alive() && !process.is_ending());
        assert!(of(0x0040_0000, 0x4100).is_ending());
        assert!(of(0x0040_0004, 0).is_ending());
        assert!(!ProcStat::of(process::id()).unwrap().is_ending());
    }
}
