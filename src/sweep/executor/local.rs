//! Points as children of the sweep's process, on the cores and GPUs of this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{End, Ended, Executor, Room, TAIL};
use crate::overview::count;
use crate::run::{Lock, RunDir, SupervisorStatus};
use crate::spec::{DeviceName, Spec};
use crate::supervisor::Child;
use crate::sweep::slot::Slots;
use crate::sweep::{Sweep, SweepDir};

/// See the module. A point is a child of the calling *thread*: it ends well when that ends, however that happens.
pub struct Local<'a> {
    sweep: &'a Sweep,
    /// The GPUs that points may have, as `cuda:N`; none for the CPU.
    gpus: &'a [String],
    /// runboard itself.
    program: &'a Path,
    slots: Slots,
    children: BTreeMap<usize, Child>,
    waits: Option<String>,
}

impl<'a> Local<'a> {
    /// Makes sure that there can be slots, before there is anything of a sweep.
    ///
    /// # Errors
    /// As [`Slots::of_this_machine`].
    pub fn check() -> Result<()> {
        Slots::of_this_machine(String::new()).map(drop)
    }

    /// # Errors
    /// If there is no directory for the locks of cores and GPUs.
    pub fn new(
        directory: &SweepDir,
        sweep: &'a Sweep,
        gpus: &'a [String],
        program: &'a Path,
    ) -> Result<Self> {
        let owner = format!("{} (pid {})", directory.id(), process::id());
        Ok(Local {
            sweep,
            gpus,
            program,
            slots: Slots::of_this_machine(owner)?,
            children: BTreeMap::new(),
            waits: None,
        })
    }

    fn signal(&mut self, signal: Signal) {
        self.children.values_mut().for_each(|it| it.signal(signal));
    }

    fn send(&self, signal: Signal) {
        self.children.values().for_each(|it| it.send(signal));
    }
}

impl Executor for Local<'_> {
    fn reserve(&mut self, spec: &Spec) -> Result<Option<Room>> {
        let threads = self.sweep.threads(spec, self.slots.cores());
        let slot = match self.gpus {
            [] => self.slots.take_cores(threads)?,
            gpus => self.slots.take_gpu(gpus)?,
        };
        self.waits = match (&slot, self.gpus) {
            (Some(_), _) => None,
            (None, []) => Some(self.slots.wait_for_cores(threads)),
            (None, gpus) => Some(self.slots.wait_for_gpu(gpus)),
        };
        Ok(slot.map(|slot| Room {
            device: slot.device.clone(),
            threads,
            slot: Some(slot),
        }))
    }

    fn start(
        &mut self,
        point: usize,
        run: &RunDir,
        lock: Option<Lock>,
        arguments: &[OsString],
        room: Room,
    ) -> Result<Option<String>> {
        let slot = room.slot.context("a point was to start without a slot")?;
        let child = Child::start_supervisor(self.program, run, lock, arguments, &slot.files)?;
        slot.set_holder(&format!("{} (pid {})", run.id(), child.pid()));
        self.children.insert(point, child);
        let threads = match DeviceName::is_gpu(&slot.device) {
            true => String::new(),
            false => format!(" with {}", count(room.threads, "thread")),
        };
        Ok(Some(format!("on {}{threads}", slot.device)))
    }

    fn poll(&mut self, _notice: &mut dyn FnMut(&str)) -> Result<Vec<End>> {
        for child in self.children.values_mut() {
            child.poll()?;
        }
        let ended = self
            .children
            .extract_if(.., |_, child| child.exit_status().is_some());
        let ends = ended.map(|(point, mut child)| End {
            point,
            how: Ended::of(child.exit_status().and_then(|status| status.code())),
            text: format!("its supervisor ended ({})", child.end()),
            log: child.tail(TAIL),
        });
        Ok(ends.collect())
    }

    fn is_running(&self, point: usize) -> bool {
        self.children.contains_key(&point)
    }

    fn has_written(&self, point: usize, status: &SupervisorStatus) -> bool {
        let child = self.children.get(&point);
        child.is_some_and(|child| child.wrote(status))
    }

    fn waits(&self) -> Option<String> {
        self.waits.clone()
    }

    fn leave(&mut self) {
        self.slots.leave();
        self.waits = None;
    }

    fn stop(&mut self) {
        self.leave();
        // One that a point may get from others as well without taking it for a second request.
        self.signal(Signal::SIGHUP);
    }

    fn kill(&mut self) {
        // Two that are different, of which none is lost; a supervisor that is frozen must go on to see them.
        for signal in [Signal::SIGCONT, Signal::SIGTERM, Signal::SIGINT] {
            self.signal(signal);
        }
    }

    fn pause(&mut self) -> bool {
        self.send(Signal::SIGTSTP);
        self.leave(); // or others would wait for it
        true
    }

    fn go_on(&mut self) {
        self.send(Signal::SIGCONT);
    }
}
