//! Training in several processes, on this host and others. The trainer is rank 0 and starts those of its host, which take
//! their part of each batch and make the same steps; a supervisor on each other host starts its own
//! (`supervisor::node`). All that people and other processes see is the trainer's.

use super::input::{BatchSource, StepInput};
use super::reporter::RankTimes;
use super::step_rates;
use crate::backend::group::{Fewer, Group, Hello, Lost, Meeting, Member, Place};
use crate::backend::{self, Labels, Optimizer, PartGradients};
use crate::model::Network;
use anyhow::{Context, Error, Result, bail, ensure};
use burn::tensor::Tensor;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::getppid;
use runboard::bail_user;
use runboard::checkpoint::Rollback;
use runboard::checkpoint::{NamedTensor, TensorGroups};
use runboard::compute::BUILD;
use runboard::console;
use runboard::data::Share;
use runboard::error::{self, ExitError, LOST_RANK, is_user_error};
use runboard::files;
use runboard::launch::Launch;
use runboard::parent::bind_to_parent;
use runboard::paths;
use runboard::run::{self, Completion, Role, RunDir};
use runboard::schedule::Schedule;
use runboard::shutdown::Shutdown;
use runboard::spec::{ProcessGroup, Spec};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fmt};
use sysinfo::System;
use tempfile::TempDir;

/// How long a rank of this host may take to read the images before it meets the others. One that dies meanwhile is
/// noticed at once.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// How long the other ranks of one host wait for rank 0, which may be paused with them: it ends them when it ends, however
/// that happens, and it is the one that notices a rank which is lost.
const PATIENCE: Duration = Duration::from_secs(30 * 86_400);

/// The ranks compare their weights every so many steps, and after each checkpoint.
const COMPARE_EVERY: u64 = 100;

/// Of the time that the others wait for rank 0, it lets at most one part in so many pass without a sign of life.
const SIGNS_OF_LIFE: u32 = 4;

/// How often a rank gives its supervisor a sign of life.
const SIGN: Duration = Duration::from_secs(1);

/// The processes of this host's ranks but this one, which is rank 0.
pub(super) struct RankProcesses {
    children: Arc<Mutex<Vec<(Role, Child)>>>,
    /// Where ranks of one host meet: no other user can open it. None where they meet those of others.
    directory: Option<TempDir>,
    /// Whether training was started because a rank, of any host, was lost.
    was_lost: bool,
}

impl RankProcesses {
    /// Start them; none where one process trains alone.
    ///
    /// # Errors
    /// The system's.
    pub fn start(run: &RunDir, launch: &Launch, was_lost: bool) -> Result<Option<Self>> {
        if launch.world == 1 {
            return Ok(None);
        }
        let directory = match launch.rendezvous {
            Some(_) => None,
            None => Some(tempfile::tempdir().context("failed to make a directory to meet in")?),
        };
        let processes = RankProcesses {
            children: Arc::default(),
            directory,
            was_lost,
        };
        for index in 1..launch.count {
            let launch = launch.of_rank(index);
            let role = Role::Train {
                rank: u32::try_from(launch.rank)?,
            };
            let child = start_rank(run, role, &launch, processes.store().as_deref())
                .with_context(|| format!("failed to start the process {role}"))?;
            processes.lock().push((role, child));
        }
        Ok(Some(processes))
    }

    fn store(&self) -> Option<PathBuf> {
        let directory = self.directory.as_ref();
        directory.map(|directory| directory.path().join("store"))
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
fn start_rank(run: &RunDir, role: Role, launch: &Launch, store: Option<&Path>) -> Result<Child> {
    let mut log = OpenOptions::new();
    let log = log.create(true).append(true).open(run.log(role))?;
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = env::args_os().next() {
        command.arg0(name); // runboard's, to whoever looks
    }
    command
        .arg("rank")
        .arg("--run")
        .arg(paths::unexpanded(run.path()))
        .args(["--launch", &serde_json::to_string(launch)?])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(store) = store {
        command.arg("--store").arg(store);
    }
    let ignore_requests = || {
        for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: no handler is given that could be called.
            unsafe { signal(stop, SigHandler::SigIgn) }?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `ignore_requests` makes plain system calls,
    // and its errors are bare numbers that need no memory.
    unsafe { command.pre_exec(ignore_requests) };
    bind_to_parent(&mut command, Signal::SIGKILL);
    Ok(command.spawn()?)
}

/// The ranks, as one of them sees them.
pub(super) struct Ranks {
    /// On rank 0, which ends the others of its host when it drops them: first, so that they do not report the group's end
    /// as an error.
    _processes: Option<RankProcesses>,
    group: Group,
    /// The step whose gradients are summed next.
    next: u64,
    /// Whether this rank has begun to tell the others that it makes it, and has not yet all sums of it.
    is_summing: bool,
    /// The first step not to make.
    end: u64,
    /// Between two checkpoints.
    checkpoint_every: u64,
    /// How long the others wait for rank 0.
    patience: Duration,
    /// When they last heard of it.
    heard: Instant,
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

/// How training ends, as rank 0 tells the others.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Ending {
    /// All that is to be trained is trained.
    Finished,
    /// It was stopped by this signal, or by whatever counts as one.
    Stopped(i32),
    /// It goes on from an earlier checkpoint, when all have met again.
    Again,
    /// By this error of rank 0's, and its exit code.
    Failed(String, i32),
}

impl Ending {
    pub fn of(result: &Result<Completion>) -> Self {
        match result {
            Ok(Completion::Finished) => Ending::Finished,
            Ok(Completion::Stopped(signal)) => Ending::Stopped(*signal),
            Err(error) => Ending::Failed(format!("{error:#}"), error::exit_code(error)),
        }
    }
}

/// What the ranks say before the sums of a step, in one of their own. It is positive if any rank says so.
#[derive(Clone, Copy, Debug, Default)]
struct Notes {
    /// A rank's supervisor was asked to stop.
    stop: bool,
    /// Rank 0 makes no more steps.
    over: bool,
    /// Rank 0 makes the step later, and is alive: they say it all again.
    later: bool,
}

impl Notes {
    /// What a rank adds to a sum, with its numbers if it takes part: the checksum of its weights, 0 where none is
    /// compared, and how many seconds it waited for its batch. The sums then have those of all ranks, in order.
    fn to_sum(self, ranks: usize, own: Option<(usize, f32, f32)>) -> Vec<f32> {
        let notes = [self.stop, self.over, self.later].map(|it| f32::from(u8::from(it)));
        let mut values = notes.to_vec();
        values.resize(notes.len() + 2 * ranks, 0.0);
        if let Some((rank, checksum, waited)) = own {
            values[notes.len() + rank] = checksum;
            values[notes.len() + ranks + rank] = waited;
        }
        values
    }

    /// What the ranks have added, the checksums and the seconds.
    fn of_sums(sums: &[f32]) -> (Self, &[f32], &[f32]) {
        let (notes, numbers) = sums.split_at(3);
        let (checksums, waits) = numbers.split_at(numbers.len() / 2);
        let [stop, over, later] = [0, 1, 2].map(|at| notes[at] > 0.0);
        (Notes { stop, over, later }, checksums, waits)
    }
}

/// Make sure that the ranks have the same weights, by their checksums.
///
/// # Errors
/// Names the ranks whose weights are not those of most; of two that differ, rank 1.
fn compare(step: u64, checksums: &[f32], members: &[Member]) -> Result<()> {
    let count = |&checksum: &f32| checksums.iter().filter(|it| **it == checksum).count();
    // The last of several that are as frequent, and so rank 0's.
    let Some(&most) = checksums.iter().rev().max_by_key(|it| count(it)) else {
        return Ok(());
    };
    let others = checksums.iter().zip(members);
    let others = others.filter(|(checksum, _)| **checksum != most);
    let names: Vec<String> = others.map(|(_, member)| member.to_string()).collect();
    if !names.is_empty() {
        let has = if names.len() == 1 { "has" } else { "have" };
        let rest = match members.len() - names.len() {
            1 => "rank 0".to_owned(),
            rest => format!("the other {rest}"),
        };
        bail!(
            "the weights of the ranks differ before step {step}: {} {has} others than {rest}; the memory or a processor \
             of that host may be faulty",
            names.join(", ")
        );
    }
    Ok(())
}

/// The gradients and losses of a whole batch, and what the ranks said of its step.
pub(super) struct Mean {
    pub batch: PartGradients,
    pub times: RankTimes,
    /// Whether a rank asks for training to stop.
    pub asks_to_stop: bool,
}

/// The error of a rank that cannot go on because another one does not.
#[derive(Debug)]
struct LostRank(String);

impl fmt::Display for LostRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LostRank {}

/// That of an operation of the group.
fn lost(error: Error) -> Error {
    ExitError::new(LOST_RANK, LostRank(format!("{error:#}"))).into()
}

/// The names and shapes of groups of tensors.
type Shapes = Vec<(String, Vec<(String, Vec<usize>)>)>;

impl Ranks {
    /// Meet the ranks that were started, and tell them what training begins with. Where one of them was lost before and has not come
    /// back, the spec may let training begin with fewer.
    ///
    /// # Errors
    /// A rank that has died or differs; a request to stop while this one waits for the others.
    pub fn lead(
        processes: RankProcesses,
        run: &RunDir,
        spec: &Spec,
        launch: &Launch,
        beginning: &Beginning,
        optimizer: &Optimizer,
        stop: &Shutdown,
    ) -> Result<Self> {
        let fewer = (spec.compute.elastic && processes.was_lost).then_some(Fewer {
            wait: Duration::from_secs(spec.compute.timeout_secs),
            batch: spec.train.batch_size,
        });
        let (children, stop) = (Arc::clone(&processes.children), stop.clone());
        let lost = move || {
            if stop.requested().is_some() {
                return Some("training was asked to stop before all ranks had come".to_owned());
            }
            if fewer.is_some() {
                return None; // it is waited for as one of another host
            }
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
        let store = processes.store();
        let lost = Some(Box::new(lost) as Lost);
        let mut group = connect(run, spec, launch, store.as_deref(), lost, fewer)?;
        if group.members().len() < launch.world {
            let members: Vec<String> = group.members().iter().map(Member::to_string).collect();
            console::warning(format_args!(
                "training goes on with {} of {} ranks, as compute.elastic says: {}",
                members.len(),
                launch.world,
                members.join(", ")
            ));
        }
        meet_on_gpus(&mut group, spec, optimizer.network())?;
        let state = optimizer.state();
        group.broadcast(serde_json::to_vec(&(beginning, shapes(&state)))?)?;
        let values = state.values().flatten().flat_map(|tensor| &tensor.values);
        group.broadcast(values.flat_map(|value| value.to_le_bytes()).collect())?;
        Ok(Ranks {
            _processes: Some(processes),
            group,
            next: beginning.first,
            is_summing: false,
            end: beginning.end,
            checkpoint_every: spec.train.checkpoint_every,
            patience: timeout(spec, launch),
            heard: Instant::now(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.group.members().len()
    }

    /// Wait until the GPUs' sums have come, before anything of them is read.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn settle(&mut self) -> Result<()> {
        self.group.settle()
    }

    /// Whether one of them was lost.
    pub fn has_lost(&self) -> bool {
        self.group.has_ended()
    }

    /// The gradients and losses of the whole batch of the next step, of which this rank computes those of its part, `images`
    /// and `labels`, for which it `waited` so long. Every now and then, compare the weights. `None` if rank 0 makes no more
    /// steps.
    ///
    /// `asked` says whether this rank's supervisor was asked to stop, each time that the ranks tell one another.
    ///
    /// # Errors
    /// A rank that is lost, weights that differ, and libtorch's.
    pub fn gradients(
        &mut self,
        weights: &Network,
        spec: &Spec,
        (images, labels): (Tensor<4>, Labels),
        waited: Duration,
        mut asked: impl FnMut() -> bool + Send,
    ) -> Result<Option<Mean>> {
        let (step, rank) = (self.next, self.group.rank());
        let after_checkpoint = step % self.checkpoint_every == 1 % self.checkpoint_every;
        let mut checksum = 0.0;
        if after_checkpoint || step.is_multiple_of(COMPARE_EVERY) {
            checksum = f32::from(backend::checksum(weights)?);
        }
        let own = (rank, checksum, waited.as_secs_f32());
        let mut tell = move |group: &mut Group| {
            let notes = Notes {
                stop: asked(),
                ..Notes::default()
            };
            group.start_sum(notes.to_sum(group.members().len(), Some(own)))
        };
        self.is_summing = true;
        let mut told = Some(tell(&mut self.group));
        let (mut stop, mut waits) = (false, Vec::new());
        let begins = |group: &mut Group| {
            while let Some(sum) = told.take() {
                let sums = group.finish_sum(sum)?;
                let (notes, checksums, all_waits) = Notes::of_sums(&sums);
                if notes.over {
                    return Ok(false);
                }
                if notes.later {
                    told = Some(tell(group));
                    continue;
                }
                compare(step, checksums, group.members())?;
                stop = notes.stop;
                let all_waits = all_waits.iter().copied().map(Duration::from_secs_f32);
                let ranks = group.members().iter().map(|member| member.rank);
                waits = ranks.zip(all_waits).collect();
            }
            Ok(true)
        };
        let batch = (images, labels);
        let batch = backend::batch_gradients(&mut self.group, weights, spec, step, batch, begins);
        if batch.is_err()
            && let Some(told) = told
        {
            // So that the others can hear next why this rank leaves.
            let _ = self.group.finish_sum(told);
        }
        let batch = batch.map_err(|error| match rank {
            1.. if self.group.has_ended() => lost(error),
            _ => error,
        })?;
        self.is_summing = false;
        self.heard = Instant::now();
        let Some((batch, all_reduce)) = batch else {
            return Ok(None);
        };
        self.next += 1;
        Ok(Some(Mean {
            batch,
            times: RankTimes {
                all_reduce,
                waited: waits,
            },
            asks_to_stop: stop,
        }))
    }

    /// In the place of a step, tell the others these notes.
    fn tell(&mut self, notes: Notes) -> Result<()> {
        let sums = notes.to_sum(self.group.members().len(), None);
        self.group.all_reduce(sums)?;
        Ok(())
    }

    /// On rank 0: let the others know now and then that it is alive, while it waits for something else than a step. That
    /// one of them is lost is for the next step to say.
    pub fn keep_alive(&mut self) {
        if self.next < self.end && self.heard.elapsed() >= self.patience / SIGNS_OF_LIFE {
            let later = Notes {
                later: true,
                ..Notes::default()
            };
            let _ = self.tell(later);
            self.heard = Instant::now();
        }
    }

    /// On rank 0: tell the others how training ends, and let them go. What one of them cannot hear any more changes
    /// nothing: its supervisor finds out.
    pub fn end(mut self, ending: &Ending) {
        let mut tell = || {
            ensure!(!self.is_summing, "the others wait for the sums of a step");
            if self.next < self.end {
                // They are in the next step, or about to begin it.
                let over = Notes {
                    over: true,
                    ..Notes::default()
                };
                self.tell(over)?;
            }
            self.group.broadcast(serde_json::to_vec(ending)?)?;
            self.group.barrier()
        };
        if tell().is_err()
            && let Ending::Failed(why, _) = ending
        {
            self.group.leave(why);
        }
    }

    /// On the other ranks: how training ends.
    fn ending(mut self) -> Result<Ending> {
        let ending = self.group.broadcast(Vec::new()).map_err(lost)?;
        let _ = self.group.barrier(); // they have all heard it, or are lost
        Ok(serde_json::from_slice(&ending)?)
    }
}

/// Files that a rank is told of.
#[derive(Clone, Copy, Debug, Default)]
pub struct RankFiles<'a> {
    /// Where ranks of one host meet.
    pub store: Option<&'a Path>,
    /// Where to write the first step, once the ranks have met and begin, for who supervises this one. Its time is then that
    /// of the rank's last sign of life.
    pub began: Option<&'a Path>,
}

impl RankFiles<'_> {
    /// Give a sign of life, if `last` is long ago. One that the disk refuses is not missed for a while.
    fn give_sign(&self, last: &mut Instant) {
        if let Some(began) = self.began.filter(|_| last.elapsed() >= SIGN) {
            *last = Instant::now();
            let file = File::options().write(true).open(began);
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
    }
}

/// Train as one of the ranks but the first, until that says that training is over.
///
/// # Errors
/// What this rank cannot do, another rank that is lost, and what rank 0 failed at.
pub fn train_rank(
    run: &RunDir,
    launch: &Launch,
    files: RankFiles,
    stop: &Shutdown,
) -> Result<Completion> {
    let spec = run::read_spec(run)?;
    loop {
        match train_until_ending(run, &spec, launch, files, stop)? {
            Ending::Finished => return Ok(Completion::Finished),
            Ending::Stopped(signal) => return Ok(Completion::Stopped(signal)),
            Ending::Again => {}
            Ending::Failed(why, code) => {
                // One that would repeat itself here ends this rank's supervisor, too.
                let code = if code == 1 { LOST_RANK } else { code };
                let why = LostRank(format!("rank 0 ended: {why}"));
                return Err(ExitError::new(code, why).into());
            }
        }
    }
}

/// Meet the others, and train with them.
fn train_until_ending(
    run: &RunDir,
    spec: &Spec,
    launch: &Launch,
    files: RankFiles,
    stop: &Shutdown,
) -> Result<Ending> {
    let (device, name) = backend::training_device(&spec.compute, launch)?;
    backend::prepare(&spec.compute, launch.threads(&spec.compute))?;
    let images = Arc::new(run::data::read_training(run, spec)?.images);
    let fresh = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let mut group = connect(run, spec, launch, files.store, None, None)?;
    meet_on_gpus(&mut group, spec, &fresh).map_err(|error| match is_user_error(&error) {
        true => error,
        false => lost(error),
    })?;
    let (rank, ranks) = (group.rank(), group.members().len());
    let (begin, shapes): (Beginning, Shapes) =
        serde_json::from_slice(&group.broadcast(Vec::new()).map_err(lost)?)?;
    let values = group.broadcast(Vec::new()).map_err(lost)?;
    let mut ranks_of = Ranks {
        _processes: None,
        group,
        next: begin.first,
        is_summing: false,
        end: begin.end,
        checkpoint_every: spec.train.checkpoint_every,
        patience: timeout(spec, launch),
        heard: Instant::now(),
    };
    let train = || {
        if let Some(began) = files.began {
            files::replace(began, begin.first.to_string().as_bytes())?;
        }
        let mut optimizer = Optimizer::restore(spec, &fresh, &tensors(shapes, &values))?;
        let schedule = Schedule::new(spec, images.len());
        let (share, gpu) = (Share { rank, ranks }, name != "cpu");
        let mut input = BatchSource::start(&images, spec, share, begin.first, &device, gpu)?;
        console::timed(format_args!(
            "rank {} of {} trains on {name}, steps {} to {}",
            launch.rank,
            launch.world,
            begin.first,
            begin.end.saturating_sub(1)
        ));
        let mut sign = Instant::now();
        for step in begin.first..begin.end {
            let StepInput {
                images,
                labels,
                waited,
            } = input.next()?;
            let weights = optimizer.network();
            let asked = || {
                files.give_sign(&mut sign);
                stop.requested().is_some()
            };
            let part = (images, labels);
            let Some(mean) = ranks_of.gradients(weights, spec, part, waited, asked)? else {
                break;
            };
            let rates = step_rates(&schedule, &spec.train, &begin.rollbacks, step);
            let (losses, gradients) = mean.batch.add_decay(weights, spec)?;
            optimizer.step(step, &gradients, &losses, rates)?;
        }
        Ok(())
    };
    if let Err(error) = train() {
        ranks_of.group.leave(&format!("{error:#}"));
        return Err(error);
    }
    ranks_of.ending()
}

/// Meet the other ranks. On rank 0 `lost` says whether one of them cannot come any more, and `fewer` how it begins without.
fn connect(
    run: &RunDir,
    spec: &Spec,
    launch: &Launch,
    store: Option<&Path>,
    lost: Option<Lost>,
    fewer: Option<Fewer>,
) -> Result<Group> {
    let place = match (&launch.rendezvous, store) {
        (Some(rendezvous), _) if launch.leads() => {
            let listener = rendezvous.listen()?;
            console::timed(format_args!(
                "rank 0 waits for the other {} at {}, for {} s at most",
                launch.world - 1,
                match rendezvous.agent_store {
                    true => listener.local_addr()?.to_string(),
                    false => rendezvous.endpoint.to_string(),
                },
                rendezvous.timeout_secs
            ));
            Place::Listener(listener, rendezvous.clone())
        }
        (Some(rendezvous), _) => Place::Remote(rendezvous.clone()),
        (None, Some(store)) => Place::File(store.to_owned()),
        (None, None) => bail!("there is no place to meet"),
    };
    let rendezvous = launch.rendezvous.as_ref();
    let host = System::host_name().unwrap_or_default();
    Group::connect(Meeting {
        place,
        rank: launch.rank,
        world: launch.world,
        join_timeout: rendezvous.map_or(JOIN_TIMEOUT, |it| Duration::from_secs(it.timeout_secs)),
        timeout: timeout(spec, launch),
        hello: hello(run, spec)?,
        lost,
        fewer,
        starter: Some(format!("{host} {}", getppid())),
    })
}

/// Let the ranks' GPUs sum the gradients, if the spec leaves that open or wants it.
///
/// # Errors
/// That it wants what cannot be; a rank that is lost.
fn meet_on_gpus(group: &mut Group, spec: &Spec, network: &Network) -> Result<()> {
    let wanted = spec.compute.process_group;
    if wanted == ProcessGroup::Gloo {
        return Ok(());
    }
    let device = backend::device_of(network)?;
    let Err(why) = group.meet_on_gpus(device)? else {
        return Ok(());
    };
    if wanted == ProcessGroup::Nccl {
        bail_user!("compute.process_group: got nccl, want auto or gloo: {why}");
    }
    if device.is_cuda() && group.rank() == 0 {
        console::warning(format_args!(
            "gradients are summed through the hosts' memory (Gloo), not between the GPUs (NCCL): {why}"
        ));
    }
    Ok(())
}

/// What all ranks must have in common: all but where a host has the images, and what it computes with.
fn hello(run: &RunDir, spec: &Spec) -> Result<Hello> {
    const OWN: [&str; 5] = [
        "data.folder",
        "compute.device",
        "compute.devices",
        "compute.threads",
        "eval.device",
    ];
    let images = run::data::fingerprint_digits(run)?.unwrap_or_default();
    let mut hello = vec![
        ("runboard".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("build".to_owned(), BUILD.to_owned()),
        ("images".to_owned(), images),
    ];
    let values = spec.values()?.into_iter();
    hello.extend(values.filter(|(field, _)| !OWN.contains(&&**field)));
    Ok(Hello(hello))
}

/// How long an operation of the group may take.
fn timeout(spec: &Spec, launch: &Launch) -> Duration {
    match launch.rendezvous {
        None if !launch.leads() => PATIENCE,
        _ => Duration::from_secs(spec.compute.timeout_secs),
    }
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
    fn ranks_whose_weights_are_not_those_of_most_are_named() {
        let compared = |checksums: &[f32]| {
            let member = |rank| Member {
                rank,
                host: "h".to_owned(),
                pid: 9,
            };
            let members: Vec<Member> = (0..checksums.len()).map(member).collect();
            let error = compare(200, checksums, &members).err()?.to_string();
            let what = error.strip_prefix("the weights of the ranks differ before step 200: ");
            let (what, _) = what.unwrap().split_once(';').unwrap();
            Some(what.replace(" on h (pid 9)", ""))
        };
        let named = |text: &str| Some(text.to_owned());
        assert_eq!(compared(&[7.0, 7.0, 7.0]), None);
        assert_eq!(
            compared(&[7.0, 65535.0]),
            named("rank 1 has others than rank 0")
        );
        assert_eq!(
            compared(&[7.0, 8.0, 7.0]),
            named("rank 1 has others than the other 2")
        );
        assert_eq!(
            compared(&[8.0, 7.0, 7.0]),
            named("rank 0 has others than the other 2")
        );
        assert_eq!(
            compared(&[7.0, 8.0, 9.0]),
            named("rank 1, rank 2 have others than rank 0")
        );
        assert_eq!(
            compared(&[7.0, 8.0, 8.0, 7.0]),
            named("rank 1, rank 2 have others than the other 2")
        );
    }

    #[test]
    fn numbers_of_a_rank_are_at_its_place_in_the_sums() {
        let notes = |stop, later| Notes {
            stop,
            over: false,
            later,
        };
        let one = notes(false, false).to_sum(2, Some((0, 7.0, 0.25)));
        let other = notes(true, false).to_sum(2, Some((1, 8.0, 0.5)));
        let sums: Vec<f32> = one.iter().zip(&other).map(|(a, b)| a + b).collect();
        let (all, checksums, waits) = Notes::of_sums(&sums);
        assert!(all.stop && !all.over && !all.later);
        assert_eq!((checksums, waits), (&[7.0, 8.0][..], &[0.25, 0.5][..]));
        assert_eq!(notes(false, true).to_sum(2, None).len(), one.len());
    }

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
