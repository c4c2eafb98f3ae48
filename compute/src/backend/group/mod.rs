//! Processes that train together: libtorch's process groups (c10d), with Gloo over TCP, and NCCL between GPUs.
//!
//! Ranks meet by a store (`meeting`), build a group and then sum, send and wait together. The additions of Gloo's sums have a
//! fixed order, so they have the same bits on every rank and in every run; those of NCCL's are in an order of its own. Whatever a rank does not do in time is an error on all
//! others that names it (`failure`), never a hang: calls that may not return are made on a thread of their own (`worker`),
//! while the caller may compute.
//!
//! c10d.cpp and ffi.rs hold all that is C++ and its calls, nccl.rs those of NCCL.

mod failure;
mod ffi;
mod gpus;
mod meeting;
mod nccl;
mod reduce;
mod sockets;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;
mod worker;

pub use meeting::{Fewer, Hello, Lost, Meeting, Member, Place};

pub use gpus::Apart;
pub use nccl::begins_alone;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use failure::{Blame, End};
use ffi::{Gloo, Ranks, Shared, Store};
use meeting::{Meetup, Party, StorePlace};
use nccl::{Communicator, Gpu, GpuNumbers};
use reduce::{reduce, reduce_rounded};
use runboard::console;
use runboard::spec::ReducePrecision;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sockets::Socket;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};
use worker::{Pending, Worker};

/// How much longer than its own timeout libtorch may take to say that something took too long.
const SLACK: Duration = Duration::from_secs(2);

/// How long a rank whose operation took too long waits for the others to say so too. Those that do not are to blame.
const GRACE: Duration = Duration::from_secs(5);

/// So many bytes at most a rank tells the others at once.
const SAID: usize = 2048;

/// Between two looks into the store.
const POLL: Duration = Duration::from_millis(10);

/// Why a group that this rank has left has no more operations.
const LEFT: &str = "this rank has left";

/// Whether a thread of a group's waits for something that does not come.
static LOST: AtomicBool = AtomicBool::new(false);

/// End this process, which has nothing left to do, at once if a thread of a group's is lost: what libtorch and CUDA do when a
/// process ends might wait for the same.
pub fn end_if_lost(code: u8) {
    if LOST.load(Ordering::Relaxed) || nccl::is_aborting() {
        ffi::end(code.into());
    }
}

/// Note that a thread waits for something that does not come.
fn lose_thread() {
    LOST.store(true, Ordering::Relaxed);
}

/// The processes that train together, as one of them sees it.
///
/// All ranks must call the same operations in the same order, with the same lengths. After an error each further
/// operation ends with the same one.
pub struct Group {
    worker: Worker<Links>,
    /// Where the store is.
    store: StorePlace,
    rank: usize,
    members: Vec<Member>,
    timeout: Duration,
    /// The ranks' ends of the connections.
    addresses: HashMap<SocketAddr, usize>,
    /// Whether the ranks' GPUs sum.
    on_gpus: bool,
    /// A sum that they are at: before the next operation is waited for, this one is.
    summing: Option<Pending<Result<Duration>>>,
    /// How long the GPU was at its sums, as far as nobody has asked.
    summed: Duration,
    /// Why there are no more operations.
    ended: Option<String>,
}

/// A sum that is under way.
pub struct PendingSum(Pending<Result<Vec<f32>>>);

/// Means that are under way.
pub(super) struct PendingMean(Pending<Result<()>>);

/// What the group's thread holds.
#[derive(Default)]
struct Links {
    nccl: Option<Communicator>,
    gloo: Option<Gloo>,
    /// The connections of Gloo's, each with the rank at its other end.
    connections: Vec<(Socket, usize)>,
    store: Option<Store>,
    /// Whether an operation has failed: there are no more, also of those that are under way.
    failed: bool,
}

impl Links {
    fn store(&self) -> Result<&Store> {
        self.store.as_ref().context("there is no store")
    }

    fn gloo(&mut self) -> Result<&mut Gloo> {
        let gloo = self.gloo.as_mut().filter(|_| !self.failed);
        gloo.context("there is no group")
    }

    /// The rank that is gone, by its connection, if one is.
    fn lost(&self) -> Option<End> {
        sockets::lost(&self.connections).map(|rank| End::Closed(Some(rank)))
    }

    fn nccl(&self) -> Result<&Communicator> {
        let nccl = self.nccl.as_ref().filter(|_| !self.failed);
        nccl.context("the GPUs have not met")
    }

    /// Tell the others why this rank's part is over, and close its connections. Returns how the ranks' parts have ended, as far as
    /// it is known.
    fn tell_end(&mut self, end: &End, ranks: Ranks) -> Result<Vec<Option<End>>> {
        // First: rank 0, and the store with it, may be gone as soon as all have told.
        let known = self
            .store()
            .and_then(|store| failure::ends(store, ranks.count));
        let told = self.store().and_then(|store| end.tell(store, ranks.own));
        // Now the others notice.
        self.gloo = None;
        self.nccl = None;
        told?;
        let mut known = known.unwrap_or_else(|_| vec![None; ranks.count]);
        known[ranks.own] = Some(end.clone());
        Ok(known)
    }

    /// Who is to blame, once that is settled; `known` is how the ranks' parts have ended.
    fn find_blame(&self, mut known: Vec<Option<End>>, ranks: Ranks) -> Result<Blame> {
        let deadline = Instant::now() + GRACE;
        loop {
            let ends = failure::ends(self.store()?, ranks.count);
            // A store that goes meanwhile has told enough.
            let is_gone = ends.is_err();
            known = ends.unwrap_or(known);
            if is_gone || failure::is_settled(ranks.own, &known) || Instant::now() >= deadline {
                return Ok(Blame::of(ranks.own, &known));
            }
            thread::sleep(POLL);
        }
    }
}

impl Group {
    /// Meet the other ranks and connect to them. Where rank 0 may begin with fewer, this process's rank in the group is its
    /// place among those that begin.
    ///
    /// # Errors
    /// Ranks that are about to do different things, or more of them than there should be, are a user's error on all
    /// that are concerned. A rank that does not come in time is an error that names it.
    pub fn connect(mut meeting: Meeting) -> Result<Self> {
        let Meeting {
            rank,
            world,
            timeout,
            join_timeout,
            ..
        } = meeting;
        if rank >= world {
            bail!("there is no rank {rank} among {world}, want 0 to world - 1");
        }
        let party = Party::new(&mut meeting);
        let deadline = party.deadline();
        let place = meeting.place;
        let name = place.to_string();
        let worker = Worker::start()?;
        let meet = move |links: &mut Links| {
            let Meetup {
                store,
                members,
                address,
                place,
            } = party.meet_at(place)?;
            links.store = Some(store);
            Ok((members, address, place))
        };
        let pending = worker.start_call(meet);
        let met = loop {
            let until = deadline.get();
            let left = until.saturating_duration_since(Instant::now());
            let met = pending.wait(left + SLACK + meeting::HEARD);
            // Put off meanwhile, it is waited for on.
            if met.is_some() || deadline.get() == until {
                break met;
            }
        };
        let seconds = join_timeout.as_secs_f64();
        let late = || meeting::not_met(format!("{name} does not answer within {seconds} s"));
        let met = met.unwrap_or_else(|| {
            lose_thread();
            Err(late())
        });
        let (members, address, place) = met.context("failed to meet the other ranks")?;
        let is_own = |member: &Member| member.rank == rank;
        let own = members.iter().position(is_own);
        let rank = own.context("the ranks have begun without this one")?;
        if address.is_unspecified() {
            bail!("a group listens at one address of this host, not at all of them ({address})");
        }
        let mut group = Group {
            worker,
            store: place,
            rank,
            members,
            timeout,
            addresses: HashMap::new(),
            on_gpus: false,
            summing: None,
            summed: Duration::ZERO,
            ended: None,
        };
        let ranks = group.ranks();
        let build = move |links: &mut Links| build(links, ranks, address, timeout);
        group.addresses = group
            .run(build)
            .context("failed to connect to the other ranks")?;
        Ok(group)
    }

    /// This process's rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> Ranks {
        Ranks {
            own: self.rank,
            count: self.members.len(),
        }
    }

    /// All ranks, in order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether an operation has failed, so that there are no others.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The sum of each value over all ranks. The additions' order is that of [`tree_sum`].
    ///
    /// # Errors
    /// A rank that does not take part in time.
    pub fn all_reduce(&mut self, values: Vec<f32>) -> Result<Vec<f32>> {
        let sum = self.start_sum(values);
        self.finish_sum(sum)
    }

    /// Start [`Group::all_reduce`]; [`Group::finish_sum`] waits for it.
    pub fn start_sum(&mut self, mut values: Vec<f32>) -> PendingSum {
        let (ranks, count) = (self.ranks(), values.len());
        let sum = move |links: &mut Links| {
            if ranks.count > 1 && count > 0 {
                values.resize(count.next_multiple_of(ranks.count), 0.0);
                let mut shared = Shared::new(Tensor::f_from_slice(&values)?, ranks.count)?;
                reduce(links.gloo()?, ranks, &mut shared, 1.0)?;
                values.copy_from_slice(shared.numbers());
                values.truncate(count);
            }
            Ok(values)
        };
        PendingSum(self.start(sum))
    }

    /// Wait for a sum.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn finish_sum(&mut self, sum: PendingSum) -> Result<Vec<f32>> {
        let sums = self.finish(sum.0);
        sums.context("failed to sum over the ranks")
    }

    /// Start to replace floats in a row on the host by their means over all ranks, where they are; the order is that of the
    /// sums. They travel in this precision, to which the means are rounded as well: they are the same on all ranks. Whoever holds the
    /// tensor leaves it alone until [`Group::finish_mean`] returns, and for good if that fails.
    ///
    /// # Errors
    /// Floats that do not lie so, or are not as many for each rank.
    pub(super) fn start_mean(
        &mut self,
        values: Tensor,
        precision: ReducePrecision,
    ) -> Result<PendingMean> {
        let ranks = self.ranks();
        let mut values = Shared::new(values, ranks.count)?;
        let mean = move |links: &mut Links| {
            let (gloo, divisor) = (links.gloo()?, ranks.count as f32);
            match precision {
                ReducePrecision::Float32 => reduce(gloo, ranks, &mut values, divisor),
                ReducePrecision::Bf16 => reduce_rounded(gloo, ranks, &mut values, divisor),
            }
        };
        Ok(PendingMean(self.start(mean)))
    }

    /// Wait for means.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub(super) fn finish_mean(&mut self, mean: PendingMean) -> Result<()> {
        let mean = self.finish(mean.0);
        mean.context("failed to sum over the ranks")
    }

    /// Let the ranks' GPUs sum by NCCL, if each rank has one of its own, this one `device`. All ranks call it. Otherwise, on all
    /// of them, why not.
    ///
    /// # Errors
    /// A rank that does not take part in time.
    pub fn meet_on_gpus(&mut self, device: Device) -> Result<Result<(), Apart>> {
        let gpu = Gpu::of(device);
        self.meet_on(gpu)
    }

    fn meet_on(&mut self, gpu: Result<Gpu, String>) -> Result<Result<(), Apart>> {
        let met = gpus::meet(self, gpu);
        let met = met.context("failed to bring the ranks' GPUs together")?;
        self.on_gpus = met.is_ok();
        Ok(met)
    }

    /// What each rank says, in order; of this one `own`.
    fn gather<T: Serialize + DeserializeOwned>(&mut self, own: &T) -> Result<Vec<T>> {
        self.gather_or(own, None)
    }

    /// As [`Group::gather`]; if that fails, this rank has ended by `end`.
    fn gather_or<T: Serialize + DeserializeOwned>(
        &mut self,
        own: &T,
        end: Option<End>,
    ) -> Result<Vec<T>> {
        let (rank, world) = (self.rank, self.members.len());
        let said = serde_json::to_vec(own)?;
        ensure!(
            said.len() <= SAID,
            "{} bytes to say, want {SAID}",
            said.len()
        );
        // A sum in which each rank has a place of its own: bytes are exact in floats, and so are zeros added to them.
        let mut places = vec![0.0; world * SAID];
        let place = places[rank * SAID..].iter_mut().zip(&said);
        place.for_each(|(place, byte)| *place = f32::from(*byte));
        let sum = self.start_sum(places);
        let sums = self.finish_within(sum.0, self.timeout, end)?;
        let all = sums.chunks_exact(SAID).map(|place| {
            let bytes = place.iter().take_while(|byte| **byte != 0.0);
            let bytes: Vec<u8> = bytes.map(|byte| *byte as u8).collect();
            Ok(serde_json::from_slice(&bytes)?)
        });
        all.collect()
    }

    /// Whether the ranks' GPUs sum.
    pub fn is_on_gpus(&self) -> bool {
        self.on_gpus
    }

    /// Replace numbers, each time in a row on this rank's GPU, by their sums over all ranks. Work that the GPU is given later finds them;
    /// [`Group::settle`] says whether they came.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub(super) fn sum_on_gpus(&mut self, values: &[Tensor]) -> Result<()> {
        let numbers: Vec<_> = values.iter().map(GpuNumbers::new).collect::<Result<_>>()?;
        let timeout = self.timeout;
        let issue = move |links: &mut Links| {
            let issued = links.nccl()?.sum(&numbers);
            issued.map_err(|error| nccl::end_of(&error, || links.lost()))?;
            Ok(numbers)
        };
        let numbers = self.run(issue).context("failed to sum over the ranks")?;
        let wait = move |links: &mut Links| {
            let waited = links.nccl()?.wait(timeout, || links.lost());
            let waited = waited.map_err(|error| nccl::end_of(&error, || links.lost()));
            if waited.is_err() {
                links.nccl = None; // who waits for the GPU now goes on
            }
            drop(numbers);
            Ok(waited?)
        };
        self.summing = Some(self.start(wait));
        Ok(())
    }

    /// Wait until the GPUs' sum has come, if they are at one. What a GPU has computed since is of no use if this fails.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn settle(&mut self) -> Result<()> {
        let settled = match &self.ended {
            Some(why) => Err(anyhow!("{why}")),
            None => self.finish_summing(),
        };
        settled.context("failed to sum over the ranks")
    }

    /// How long the GPU was at sums, with its waiting for the others, since this was asked before.
    pub(super) fn take_time_on_gpus(&mut self) -> Duration {
        std::mem::take(&mut self.summed)
    }

    /// Replace the bytes by those of rank 0, whatever their number there.
    ///
    /// # Errors
    /// A rank that does not take part in time.
    pub fn broadcast(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let send = move |links: &mut Links| {
            let gloo = links.gloo()?;
            let length = broadcast(gloo, &u64::try_from(bytes.len())?.to_le_bytes(), 8)?;
            let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
            broadcast(gloo, &bytes, usize::try_from(length)?)
        };
        self.run(send).context("failed to get what rank 0 has")
    }

    /// Sum on GPUs no more. All ranks call it, before any of them leaves.
    fn leave_gpus(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.on_gpus) {
            return Ok(());
        }
        self.barrier()?; // the last sum of each is done
        let close = |links: &mut Links| {
            if let Some(communicator) = links.nccl.take() {
                communicator.close();
            }
            Ok(())
        };
        self.run(close).context("failed to end NCCL")
    }

    /// Wait until all ranks are here.
    ///
    /// # Errors
    /// A rank that does not come in time.
    pub fn barrier(&mut self) -> Result<()> {
        let wait = |links: &mut Links| links.gloo()?.barrier();
        self.run(wait).context("failed to wait for the other ranks")
    }

    /// Wait until all ranks are here, and leave with them. Nobody waits for this one any more, so nothing is told in the store:
    /// rank 0 ends the processes of its host next, and a rank that dies while it writes into the file of a store
    /// leaves half a value, at whose end c10d reads forever.
    ///
    /// # Errors
    /// A rank that does not come in time.
    pub fn close(mut self) -> Result<()> {
        self.leave_gpus()?;
        self.barrier()?;
        self.ended = Some(LEFT.to_owned());
        self.worker.call(GRACE, |links| links.gloo = None);
        Ok(())
    }

    /// Leave the group; the others' next operation fails, and they say that this rank ended for this reason.
    pub fn leave(mut self, why: &str) {
        self.end(End::Left(Some(why.to_owned())));
    }

    /// Make an operation on the group's thread.
    fn run<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&mut Links) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pending = self.start(operation);
        self.finish(pending)
    }

    /// Start an operation, after those before it.
    fn start<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&mut Links) -> Result<T> + Send + 'static,
    ) -> Pending<Result<T>> {
        self.worker.start_call(|links| {
            let result = operation(links);
            links.failed |= result.is_err();
            result
        })
    }

    /// Wait for an operation. They are waited for in the order in which they were started.
    fn finish<T>(&mut self, operation: Pending<Result<T>>) -> Result<T> {
        self.finish_summing()?;
        self.finish_within(operation, self.timeout, None)
    }

    fn finish_summing(&mut self) -> Result<()> {
        if let Some(summing) = self.summing.take() {
            let summed = self.finish_within(summing, self.timeout, None)?;
            self.summed += summed;
        }
        Ok(())
    }

    /// Wait for an operation so long; if it fails, this rank has ended by `end`, or by what the error means.
    fn finish_within<T>(
        &mut self,
        operation: Pending<Result<T>>,
        timeout: Duration,
        end: Option<End>,
    ) -> Result<T> {
        if let Some(why) = &self.ended {
            bail!("{why}");
        }
        let meant = match operation.wait(timeout + SLACK) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => match error.downcast_ref::<End>() {
                Some(end) => end.clone(),
                None => End::of(&format!("{error:#}"), &self.addresses),
            },
            None => {
                // What the thread holds of the group closes with the process.
                lose_thread();
                self.reopen();
                End::TimedOut
            }
        };
        Err(self.fail(end.unwrap_or(meant)))
    }

    /// Another connection to the store, on another thread.
    fn reopen(&mut self) {
        let (world, timeout) = (self.members.len(), self.timeout);
        let Ok(worker) = Worker::start() else {
            return;
        };
        let place = self.store.clone();
        let open = move |links: &mut Links| links.store = place.open(world, timeout).ok();
        worker.call(GRACE, open);
        self.worker = worker;
    }

    /// End the group with the error that says why.
    fn fail(&mut self, end: End) -> Error {
        let why = match (self.end(end), &self.store) {
            (Some(blame), _) => blame.text(&self.members, self.timeout.as_secs_f64()),
            (None, StorePlace::File(path)) => {
                format!("the ranks' store {} cannot be used", path.display())
            }
            (None, StorePlace::At(_)) => {
                let zero = &self.members[0];
                format!("{zero}, which keeps the store, is gone or does not answer")
            }
        };
        self.ended = Some(why.clone());
        anyhow!(why)
    }

    /// Tell the others why this rank's part is over, close its connections, and find out who is to blame. `None` if the
    /// store does not answer.
    fn end(&mut self, end: End) -> Option<Blame> {
        let ranks = self.ranks();
        self.last_call(move |links| {
            let known = links.tell_end(&end, ranks)?;
            links.find_blame(known, ranks)
        })
    }

    /// Make the last call of a group that has not ended. `None` if that fails, or does not return.
    fn last_call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Links) -> Result<T> + Send + 'static,
    ) -> Option<T> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = Some(LEFT.to_owned());
        let parted = self.worker.call(GRACE + SLACK, call);
        if parted.is_none() {
            console::warning(
                "the ranks' store does not answer; this rank ends without having told the others",
            );
        }
        parted?.ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let ranks = self.ranks();
        self.last_call(move |links| links.tell_end(&End::Left(None), ranks));
    }
}

/// Build the group, and learn the ranks' ends of its connections.
fn build(
    links: &mut Links,
    ranks: Ranks,
    address: IpAddr,
    timeout: Duration,
) -> Result<HashMap<SocketAddr, usize>> {
    let deadline = Instant::now() + timeout;
    // Which sockets are new tells only if one group is built at a time.
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Without the system's table errors name no ranks.
    let open = || sockets::open().unwrap_or_default();
    let before: HashSet<u64> = open().iter().map(|it| it.inode).collect();
    let store = links.store.as_ref().context("there is no store")?;
    // At a loopback address all ranks are on this host, where that is faster (c10d.cpp).
    let sends_first = address.is_loopback();
    let gloo = Gloo::new(store, ranks, address, sends_first, timeout)?;
    let own: Vec<_> = open()
        .into_iter()
        .filter(|it| !before.contains(&it.inode))
        .collect();
    drop(one);
    links.gloo = Some(gloo);
    // A child process would keep the connections open, and hide from the others that this one is dead.
    for socket in &own {
        ffi::close_on_exec(socket.descriptor);
    }
    let addresses: HashSet<SocketAddr> = own.iter().map(|socket| socket.local).collect();
    let key = |rank| format!("addresses/{rank}");
    let store = links.store()?;
    store.set(&key(ranks.own), &serde_json::to_vec(&addresses)?)?;
    let mut ends = HashMap::new();
    for rank in 0..ranks.count {
        let theirs = loop {
            if let Some(value) = store.get(&key(rank))? {
                break serde_json::from_slice::<HashSet<SocketAddr>>(&value)?;
            }
            if Instant::now() >= deadline {
                bail!("Timed out waiting for rank {rank}");
            }
            thread::sleep(POLL);
        };
        ends.extend(theirs.into_iter().map(|address| (address, rank)));
    }
    // Others may have come to the store meanwhile.
    let with_rank = |socket: Socket| Some((socket, *ends.get(&socket.remote?)?));
    links.connections = own.into_iter().filter_map(with_rank).collect();
    Ok(ends)
}

/// So many bytes of rank 0.
fn broadcast(gloo: &mut Gloo, bytes: &[u8], length: usize) -> Result<Vec<u8>> {
    let (input, _) = gloo.memory(length, 0)?;
    if bytes.len() == length {
        input.copy_from_slice(bytes);
    }
    gloo.broadcast(length)?;
    let (input, _) = gloo.memory(length, 0)?;
    Ok(input.to_vec())
}
