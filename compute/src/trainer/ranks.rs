//! Training in several processes of this host. The trainer is rank 0 and starts the others, which take their part of
//! each batch and make the same steps; all that people and other processes see is the trainer's. Whatever ends the trainer
//! ends them.

use super::input::{BatchSource, StepInput};
use super::step_rates;
use crate::backend::group::{Group, Hello, Lost, Meeting, Place};
use crate::backend::{self, DeviceLosses, Optimizer};
use crate::model::Network;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::getppid;
use runboard::checkpoint::Rollback;
use runboard::checkpoint::{NamedTensor, TensorGroups};
use runboard::console;
use runboard::data::Share;
use runboard::files;
use runboard::paths;
use runboard::run::{self, Role, RunDir};
use runboard::schedule::Schedule;
use runboard::spec::Spec;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};
use tempfile::TempDir;

/// How long a rank may take to read the images before it meets the others. One that dies meanwhile is noticed at once.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// How long the other ranks wait for rank 0, which may wait for a score itself: it ends them when it ends, however that
/// happens, and it is the one that notices a rank which is lost.
const PATIENCE: Duration = Duration::from_secs(30 * 86_400);

/// The ranks compare their weights every so many steps.
const COMPARE_EVERY: u64 = 100;

/// The processes of the ranks but this one, which is rank 0.
pub(super) struct RankProcesses {
    children: Arc<Mutex<Vec<(Role, Child)>>>,
    /// Where the ranks meet: no other user can open it.
    directory: TempDir,
}

impl RankProcesses {
    /// Start them; none where one process trains alone.
    ///
    /// # Errors
    /// The system's.
    pub fn start(run: &RunDir, spec: &Spec) -> Result<Option<Self>> {
        if spec.compute.ranks() == 1 {
            return Ok(None);
        }
        let directory = tempfile::tempdir().context("failed to make a directory to meet in")?;
        let processes = RankProcesses {
            children: Arc::default(),
            directory,
        };
        for rank in 1..spec.compute.ranks() {
            let role = Role::Train {
                rank: u32::try_from(rank)?,
            };
            let child = start_rank(run, role, rank, &processes.store())
                .with_context(|| format!("failed to start the process {role}"))?;
            processes.lock().push((role, child));
        }
        Ok(Some(processes))
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Role, Child)>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RankProcesses {
    fn drop(&mut self) {
        for (_, child) in self.lock().iter_mut() {
            // They have nothing to save.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Start the process of a rank. It ends with this process, and by nothing else that is meant for it: a request to stop
/// reaches the whole process group, but it is rank 0 that ends training.
fn start_rank(run: &RunDir, role: Role, rank: usize, store: &Path) -> Result<Child> {
    let mut log = OpenOptions::new();
    let log = log.create(true).append(true).open(run.log(role))?;
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = env::args_os().next() {
        command.arg0(name); // runboard's, to whoever looks
    }
    command
        .arg("train")
        .arg("--run")
        .arg(paths::unexpanded(run.path()))
        .args(["--rank", &rank.to_string(), "--store"])
        .arg(store)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let parent = process::id();
    let bind_to_parent = move || {
        for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: no handler is given that could be called.
            unsafe { signal(stop, SigHandler::SigIgn) }?;
        }
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid().as_raw() as u32 != parent {
            return Err(Errno::ESRCH.into()); // it ended before this one could be bound
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `bind_to_parent` makes plain system calls,
    // and its errors are bare numbers that need no memory.
    unsafe { command.pre_exec(bind_to_parent) };
    Ok(command.spawn()?)
}

/// The ranks, as one of them sees them.
pub(super) struct Ranks {
    /// On rank 0, which ends the others when it drops them: first, so that they do not report the group's end as an error.
    _processes: Option<RankProcesses>,
    group: Group,
}

/// Which steps to train, and how.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Beginning {
    /// The first step to make.
    pub first: u64,
    /// The first one not to make.
    pub end: u64,
    /// Those of the run, which lowered the learning rate.
    pub rollbacks: Vec<Rollback>,
}

/// The names and shapes of groups of tensors.
type Shapes = Vec<(String, Vec<(String, Vec<usize>)>)>;

impl Ranks {
    /// Meet the ranks that were started, and tell them what training begins with.
    ///
    /// # Errors
    /// A rank that has died or differs.
    pub fn lead(
        processes: RankProcesses,
        run: &RunDir,
        spec: &Spec,
        beginning: &Beginning,
        optimizer: &Optimizer,
    ) -> Result<Self> {
        let children = Arc::clone(&processes.children);
        let lost = move || {
            let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
            children.iter_mut().find_map(|(role, child)| {
                let status = child.try_wait().ok()??;
                let role_log = format!("{role}.log");
                Some(format!(
                    "the {} ended ({status}); {role_log} says more",
                    role.process_name()
                ))
            })
        };
        let mut group = connect(run, spec, 0, &processes.store(), Some(Box::new(lost)))?;
        let state = optimizer.state();
        group.broadcast(serde_json::to_vec(&(beginning, shapes(&state)))?)?;
        let values = state.values().flatten().flat_map(|tensor| &tensor.values);
        group.broadcast(values.flat_map(|value| value.to_le_bytes()).collect())?;
        Ok(Ranks {
            _processes: Some(processes),
            group,
        })
    }

    /// The gradients and losses of the whole batch of a step, of those of this rank's part. Every now and then, compare
    /// the weights.
    ///
    /// # Errors
    /// A rank that is lost, and weights that differ.
    pub fn mean(
        &mut self,
        step: u64,
        weights: &Network,
        (losses, gradients): (DeviceLosses, Network),
    ) -> Result<(DeviceLosses, Network)> {
        let mut own = 0.0;
        if step.is_multiple_of(COMPARE_EVERY) {
            own = f32::from(backend::checksum(weights)?);
        }
        let mut sum = [own];
        let (gradients, losses) =
            backend::mean_over_ranks(&mut self.group, &gradients, &losses, &mut sum)?;
        if sum[0] != own * self.group.members().len() as f32 {
            bail!(
                "the weights of the ranks differ before step {step}: {} has others",
                self.group.members()[self.group.rank()]
            );
        }
        Ok((losses, gradients))
    }
}

/// Train as one of the ranks but the first, which started this process and ends it.
///
/// # Errors
/// What this rank cannot do, or another rank that is lost.
pub fn train_rank(run: &RunDir, rank: usize, store: &Path) -> Result<()> {
    let spec = run::read_spec(run)?;
    let (device, name) = backend::device(spec.compute.training_device(rank))?;
    backend::prepare(backend::rank_threads(&spec.compute));
    let images = Arc::new(run::data::read_training(run, &spec)?.images);
    let fresh = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let mut ranks = Ranks {
        _processes: None,
        group: connect(run, &spec, rank, store, None)?,
    };
    let (begin, shapes): (Beginning, Shapes) =
        serde_json::from_slice(&ranks.group.broadcast(Vec::new())?)?;
    let values = ranks.group.broadcast(Vec::new())?;
    let train = || {
        let mut optimizer = Optimizer::restore(&spec, &fresh, &tensors(shapes, &values))?;
        let (schedule, share) = (Schedule::new(&spec, images.len()), share(&spec, rank));
        let gpu = name != "cpu";
        let mut input = BatchSource::start(&images, &spec, share, begin.first, &device, gpu)?;
        console::timed(format_args!(
            "rank {rank} of {} trains {} on {name}, steps {} to {}",
            share.ranks,
            run.id(),
            begin.first,
            begin.end.saturating_sub(1)
        ));
        for step in begin.first..begin.end {
            let StepInput { images, labels, .. } = input.next()?;
            let weights = optimizer.network();
            let part = backend::gradients(weights, &spec, step, images, labels)?;
            let (losses, gradients) = ranks.mean(step, weights, part)?;
            let rates = step_rates(&schedule, &spec.train, &begin.rollbacks, step);
            optimizer.step(step, &gradients, &losses, rates)?;
        }
        Ok(())
    };
    if let Err(error) = train() {
        ranks.group.leave(&format!("{error:#}"));
        return Err(error);
    }
    loop {
        thread::park(); // rank 0 has yet to save what was trained, and then ends this process
    }
}

/// Meet the other ranks; `lost` says whether one of them cannot come any more.
fn connect(
    run: &RunDir,
    spec: &Spec,
    rank: usize,
    store: &Path,
    lost: Option<Lost>,
) -> Result<Group> {
    let spec_digest = files::sha256(fs::read(run.spec())?);
    Group::connect(Meeting {
        place: Place::File(store.to_owned()),
        rank,
        world: spec.compute.ranks(),
        join_timeout: JOIN_TIMEOUT,
        timeout: match rank {
            0 => Duration::from_secs(spec.compute.timeout_secs),
            _ => PATIENCE,
        },
        hello: Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spec: spec_digest[..16].to_owned(),
            data: run::data::fingerprint_digits(run)?.unwrap_or_default(),
        },
        lost,
    })
}

/// The part of each batch that is a rank's.
pub(super) fn share(spec: &Spec, rank: usize) -> Share {
    let ranks = spec.compute.ranks();
    Share { rank, ranks }
}

fn shapes(groups: &TensorGroups) -> Shapes {
    let shapes = groups.iter().map(|(group, tensors)| {
        let shapes = tensors.iter().map(|it| (it.name.clone(), it.shape.clone()));
        (group.clone(), shapes.collect())
    });
    shapes.collect()
}

/// The groups of these shapes, with the values of all tensors one after the other.
fn tensors(shapes: Shapes, values: &[u8]) -> TensorGroups {
    let mut values = (values.chunks_exact(4))
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let mut group = |shapes: Vec<(String, Vec<usize>)>| {
        let tensors = shapes.into_iter().map(|(name, shape)| NamedTensor {
            name,
            values: values.by_ref().take(shape.iter().product()).collect(),
            shape,
        });
        tensors.collect()
    };
    let groups = shapes.into_iter();
    groups.map(|(name, shapes)| (name, group(shapes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_from_their_shapes_and_values() {
        let tensor = |name: &str, shape: &[usize], first: f32| NamedTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: (0..shape.iter().product())
                .map(|at| first + at as f32)
                .collect(),
        };
        let groups = TensorGroups::from([
            (
                "weights".to_owned(),
                vec![tensor("a", &[2, 3], 0.5), tensor("b", &[1], -7.0)],
            ),
            ("momentum".to_owned(), vec![tensor("a", &[], f32::MIN)]),
        ]);
        let values = groups.values().flatten().flat_map(|tensor| &tensor.values);
        let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        assert!(tensors(shapes(&groups), &bytes) == groups);
    }
}
