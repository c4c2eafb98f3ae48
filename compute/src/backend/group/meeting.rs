//! How ranks meet before there is a group: each says in the store who it is and what it is about to train, rank 0
//! compares, and all learn whether they belong together. A group of ranks that do not would wait and fail without a
//! reason.
//!
//! The keys of the store, which is in a file on one host, and in rank 0's process otherwise:
//!
//! | key | who writes it | what |
//! |---|---|---|
//! | `id` | rank 0 | what the run is called; who trains another one is refused |
//! | `taken/N` | each process of rank N adds 1 | whoever comes second finds out by `introduction/N` whether it replaces the first |
//! | `introduction/N` | rank N | its host and process, how many ranks it was told of, its `Hello`, who started it |
//! | `misfit` | a rank that rank 0 does not look for, as its number is too high | in what they differ |
//! | `verdict` | rank 0, when all have come or the time is up | who begins, or why nobody does |
//! | `heard` | each other rank adds 1 when it has the verdict | rank 0 waits for that where it ends, and the store with it |
//! | `runboard/ID/rank 0`, in torchrun's store | rank 0 | where its own store is |

use super::ffi::Store;
use super::worker::Worker;
use anyhow::{Context, Error, Result, anyhow, bail};
use runboard::console;
use runboard::error::{ExitError, NOT_MET, is_user_error};
use runboard::launch::address::route_to;
use runboard::launch::{Endpoint, Rendezvous};
use runboard::user_error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem, process, thread};
use sysinfo::System;

/// Between two looks into the store.
const POLL: Duration = Duration::from_millis(10);

/// Between two tries to meet in a store of rank 0's.
const AGAIN: Duration = Duration::from_millis(200);

/// How long who listens at rank 0's address may take to answer as a store. Another program may have the port of a rank 0
/// that is gone, and c10d would wait for its answer without end.
const ANSWER: Duration = Duration::from_secs(5);

/// Under which a rank that rank 0 does not look for says in what they differ.
const MISFIT: &str = "misfit";

/// So many differences are named.
const NAMED: usize = 3;

/// How long who has refused the others waits for them to learn why.
pub(super) const HEARD: Duration = Duration::from_secs(5);

/// Says which rank cannot come any more, if one cannot.
pub type Lost = Box<dyn Fn() -> Option<String> + Send>;

/// The error of a rank that waits no longer for others, which is no fault of its own.
pub(super) fn not_met(why: String) -> Error {
    ExitError::new(NOT_MET, why).into()
}

/// Where and as what to meet.
pub struct Meeting {
    /// Where.
    pub place: Place,
    /// This process's rank, 0 to `world` - 1.
    pub rank: usize,
    /// How many ranks there are.
    pub world: usize,
    /// How long to wait for all of them to come.
    pub join_timeout: Duration,
    /// How long one operation of the group may take.
    pub timeout: Duration,
    /// What all of them must have in common.
    pub hello: Hello,
    /// On rank 0, how to notice that a rank cannot come any more.
    pub lost: Option<Lost>,
    /// On rank 0, whether it may begin without those that do not come, and how.
    pub fewer: Option<Fewer>,
    /// Who started this process, and starts another one in its place if it ends; `None` if nobody does. Who has the same
    /// rank and was started by another is one too many.
    pub starter: Option<String>,
}

/// How rank 0 begins without ranks that do not come.
#[derive(Clone, Copy, Debug)]
pub struct Fewer {
    /// How long it waits for them, and `join_timeout` at most.
    pub wait: Duration,
    /// The images of a batch, of which each rank has an equal part.
    pub batch: usize,
}

impl Fewer {
    /// How many of so many ranks can begin.
    fn most(self, ranks: usize) -> usize {
        let fits = |count: &usize| self.batch.is_multiple_of(*count);
        (1..=ranks).rev().find(fits).unwrap_or(1)
    }
}

/// Where the store is, by which ranks find one another.
#[derive(Debug)]
pub enum Place {
    /// For ranks on one host: a file that is not there yet, in a directory that is no other user's.
    File(PathBuf),
    /// For rank 0, which keeps the store: a socket that others reach, and how they find it. It listens at one address
    /// alone: whoever can connect can disturb the group, as c10d knows no passwords.
    Listener(TcpListener, Rendezvous),
    /// For the other ranks: how they find rank 0.
    Remote(Rendezvous),
}

/// A place that is open.
pub(super) struct Meetup {
    pub store: Store,
    /// All ranks, in order.
    pub members: Vec<Member>,
    /// The address of this host by which the others reach it: that of the route to the store.
    pub address: IpAddr,
    /// Where the store is.
    pub place: StorePlace,
}

/// Where a store is that is there.
#[derive(Clone, Debug)]
pub(super) enum StorePlace {
    /// A file of this host's.
    File(PathBuf),
    /// In rank 0's process.
    At(Rendezvous),
}

impl StorePlace {
    /// Another connection to it.
    pub fn open(self, world: usize, timeout: Duration) -> Result<Store> {
        match self {
            StorePlace::File(path) => Store::open(&path, world, timeout),
            StorePlace::At(rendezvous) => {
                let deadline = Instant::now() + timeout;
                Store::join(rendezvous.reach(deadline)?, timeout)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "the store {}", path.display()),
            Place::Listener(..) => write!(f, "the store"),
            Place::Remote(it) if it.agent_store => {
                write!(f, "torchrun's store at {}, or rank 0", it.endpoint)
            }
            Place::Remote(rendezvous) => write!(f, "rank 0 at {}", rendezvous.endpoint),
        }
    }
}

/// What ranks compare before they train together: names of what they have, and the values, the most important first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello(pub Vec<(String, String)>);

impl Hello {
    /// What the first has where they differ, and what the second has there.
    fn differences(&self, other: &Self) -> Option<[String; 2]> {
        let mut seen = BTreeSet::new();
        let names = self.0.iter().chain(&other.0).map(|(name, _)| name);
        let names = names.filter(|name| seen.insert(*name));
        let value = |hello: &Self, name: &str| {
            let found = hello.0.iter().find(|(known, _)| known == name);
            found.map_or_else(
                || format!("no {name}"),
                |(_, value)| format!("{name} {value}"),
            )
        };
        let values = names.map(|name| [value(self, name), value(other, name)]);
        let differ: Vec<[String; 2]> = values.filter(|[own, other]| own != other).collect();
        let text = |side: usize| {
            let named: Vec<&str> = differ.iter().take(NAMED).map(|it| &*it[side]).collect();
            let more = if differ.len() > NAMED {
                " and others"
            } else {
                ""
            };
            format!("{}{more}", named.join(", "))
        };
        (!differ.is_empty()).then(|| [text(0), text(1)])
    }
}

/// A rank, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its rank.
    pub rank: usize,
    /// The name of its host.
    pub host: String,
    /// Its process there.
    pub pid: u32,
}

impl Member {
    fn own(rank: usize) -> Self {
        Member {
            rank,
            host: System::host_name().unwrap_or_else(|| "an unnamed host".into()),
            pid: process::id(),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Member { rank, host, pid } = self;
        write!(f, "rank {rank} on {host} (pid {pid})")
    }
}

/// What a rank says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Introduction {
    member: Member,
    world: usize,
    hello: Hello,
    starter: Option<String>,
}

impl Introduction {
    /// In what it differs from rank 0's, if in anything.
    fn difference(&self, zero: &Self) -> Option<String> {
        let (member, other) = (&self.member, &zero.member);
        if self.world != zero.world {
            let (own, zero) = (self.world, zero.world);
            return Some(format!(
                "{member} is one of {own} ranks, {other} is one of {zero} ranks"
            ));
        }
        let [own, zero] = self.hello.differences(&zero.hello)?;
        Some(format!("{member} has {own}; {other} has {zero}"))
    }

    /// Whether this process takes the place of one that was there before.
    fn replaces(&self, former: &Self) -> bool {
        self.starter.is_some() && self.starter == former.starter
    }
}

/// What rank 0 tells all others.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// These begin, of so many that there were to be: all, or fewer.
    Go(usize, Vec<Member>),
    /// Some do not fit.
    Differ(String),
    /// Some did not come in time.
    Missing(String),
    /// Rank 0 waits no longer, for this reason.
    Ended(String),
}

impl Verdict {
    /// Whether a rank that there was to be does not begin.
    fn leaves_out(&self, rank: usize) -> bool {
        match self {
            Verdict::Go(world, members) => {
                rank < *world && members.iter().all(|member| member.rank != rank)
            }
            Verdict::Differ(_) | Verdict::Missing(_) | Verdict::Ended(_) => false,
        }
    }

    /// How many ranks there were to be, and those that begin.
    fn result(self) -> Result<(usize, Vec<Member>)> {
        match self {
            Verdict::Go(world, members) => Ok((world, members)),
            Verdict::Differ(text) => Err(user_error!("{text}")),
            Verdict::Missing(text) => Err(not_met(text)),
            Verdict::Ended(text) => Err(anyhow!(text)),
        }
    }
}

/// Until when a rank waits for the others, as who waits for the rank sees it too.
#[derive(Clone)]
pub(super) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    fn at(instant: Instant) -> Self {
        Deadline(Arc::new(Mutex::new(instant)))
    }

    pub(super) fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, instant: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = instant;
    }
}

/// Who this rank is to the others, and until when it waits for them.
pub(super) struct Party {
    introduction: Introduction,
    limit: Duration,
    /// Begins again whenever the others are seen to train without this rank.
    deadline: Deadline,
    lost: Option<Lost>,
    fewer: Option<Fewer>,
}

impl Party {
    pub(super) fn new(meeting: &mut Meeting) -> Self {
        Party {
            lost: meeting.lost.take(),
            fewer: meeting.fewer,
            introduction: Introduction {
                member: Member::own(meeting.rank),
                world: meeting.world,
                hello: meeting.hello.clone(),
                starter: meeting.starter.clone(),
            },
            limit: meeting.join_timeout,
            deadline: Deadline::at(Instant::now() + meeting.join_timeout),
        }
    }

    /// Until when it waits for them.
    pub(super) fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// Meet the others at this place.
    ///
    /// # Errors
    /// Ranks that differ in what they are about to do, or of which there is one too many, are a user's error; so
    /// says every rank that is concerned. One that does not come is none.
    pub(super) fn meet_at(&self, place: Place) -> Result<Meetup> {
        let world = self.introduction.world;
        match place {
            Place::File(path) => {
                let store = Store::open(&path, world, self.limit)?;
                Ok(Meetup {
                    members: self.meet(&store)?.only()?,
                    store,
                    address: Ipv4Addr::LOCALHOST.into(),
                    place: StorePlace::File(path),
                })
            }
            Place::Listener(listener, rendezvous) => {
                let address = listener.local_addr()?;
                let store = Store::serve(listener, self.limit)?;
                store.set("id", rendezvous.id.as_bytes())?;
                let endpoint = Endpoint {
                    host: address.ip().to_string(),
                    port: address.port(),
                };
                if rendezvous.agent_store {
                    let told = endpoint.to_string();
                    self.agent_store(&rendezvous)?
                        .set(&told_key(&rendezvous.id), told.as_bytes())?;
                }
                let reopened = Rendezvous {
                    endpoint,
                    agent_store: false,
                    interface: None,
                    ..rendezvous
                };
                Ok(Meetup {
                    members: self.meet(&store)?.only()?,
                    store,
                    address: address.ip(),
                    place: StorePlace::At(reopened),
                })
            }
            Place::Remote(rendezvous) => self.join(rendezvous),
        }
    }

    /// Meet in rank 0's store. One whose ranks have begun, or have failed to meet, goes with its process: rank 0 makes
    /// another one when it begins again. So a rank that another process has may become free: that process is perhaps lost,
    /// with its host, and rank 0 does not know it yet.
    fn join(&self, rendezvous: Rendezvous) -> Result<Meetup> {
        let mut said = [false; 2];
        // What rank 0's store has said of this rank, and why it could not be asked since.
        let (mut told, mut unreached) = (None, None);
        loop {
            let meet = || {
                // Rank 0 is at another port when it begins again, if torchrun's store tells where.
                let (there, deadline) = match rendezvous.agent_store {
                    true => (self.told(&rendezvous)?, Instant::now()),
                    false => (rendezvous.clone(), self.deadline.get()),
                };
                let address = there.reach(deadline)?;
                let store = self.store_at(address, &there)?;
                self.check_run(&store, &there)?;
                let named = there.own_address()?;
                let met = self.meet(&store)?;
                let address = named.map_or_else(|| route_to(address), Ok)?;
                Ok((met, store, address, there))
            };
            match meet() {
                Ok((Met::Members(members), store, address, there)) => {
                    return Ok(Meetup {
                        store,
                        members,
                        address,
                        place: StorePlace::At(there),
                    });
                }
                Ok((Met::Begun, ..)) => (told, unreached) = (None, None),
                Ok((Met::LeftOut, ..)) => {
                    self.deadline.set(Instant::now() + self.limit);
                    let rank = self.introduction.member.rank;
                    if !mem::replace(&mut said[0], true) {
                        console::timed(format_args!(
                            "training goes on without rank {rank}, which waits until it is started again"
                        ));
                    }
                    let error = anyhow!("training went on without rank {rank}");
                    (told, unreached) = (Some(error), None);
                }
                Ok((Met::Taken(error), ..)) => {
                    if !mem::replace(&mut said[1], true) {
                        let seconds = self.limit.as_secs_f64();
                        console::timed(format_args!(
                            "{error}; waiting up to {seconds} s for that process to end"
                        ));
                    }
                    (told, unreached) = (Some(error), None);
                }
                Err(error) if is_user_error(&error) => return Err(error),
                // One that was there before says more than that nobody answers any more.
                Err(error) if unreached.is_none() || Instant::now() < self.deadline.get() => {
                    unreached = Some(error);
                }
                Err(_) => {}
            }
            if Instant::now() >= self.deadline.get() {
                let (seconds, endpoint) = (self.limit.as_secs_f64(), &rendezvous.endpoint);
                return Err(match (told, unreached) {
                    (Some(told), Some(error)) => not_met(format!(
                        "{told}; since then {error:#}; the run may have ended, or been stopped"
                    )),
                    (Some(told), None) if is_user_error(&told) => told,
                    (told, unreached) => not_met(told.or(unreached).map_or_else(
                        || format!("rank 0 at {endpoint} did not begin again within {seconds} s"),
                        |error| format!("{error:#}"),
                    )),
                });
            }
            thread::sleep(AGAIN);
        }
    }

    /// How long this rank still waits for others, and at least a moment.
    fn left(&self) -> Duration {
        let left = self
            .deadline
            .get()
            .saturating_duration_since(Instant::now());
        left.max(AGAIN)
    }

    /// Rank 0's store at its address.
    fn store_at(&self, address: SocketAddr, rendezvous: &Rendezvous) -> Result<Store> {
        let left = self.left();
        let join = move |_: &mut ()| Store::join(address, left);
        let answer = Worker::start()?.call(left.min(ANSWER), join);
        let late = || {
            let (seconds, endpoint) = (rendezvous.timeout_secs, &rendezvous.endpoint);
            Err(anyhow!(
                "rank 0 at {endpoint} does not answer within {seconds} s"
            ))
        };
        answer.unwrap_or_else(late)
    }

    /// torchrun's store, as soon as that answers.
    fn agent_store(&self, rendezvous: &Rendezvous) -> Result<Store> {
        let endpoint = &rendezvous.endpoint;
        let open = || Store::join(rendezvous.reach(self.deadline.get())?, self.left());
        open().with_context(|| format!("torchrun's store at {endpoint} does not answer"))
    }

    /// How rank 0 is found, as it has said in torchrun's store.
    fn told(&self, rendezvous: &Rendezvous) -> Result<Rendezvous> {
        let store = self.agent_store(rendezvous)?;
        let key = told_key(&rendezvous.id);
        loop {
            if let Some(told) = store.get(&key)? {
                let told = String::from_utf8_lossy(&told).parse();
                return Ok(Rendezvous {
                    endpoint: told.map_err(|error: String| anyhow!("{key}: {error}"))?,
                    agent_store: false,
                    ..rendezvous.clone()
                });
            }
            if Instant::now() >= self.deadline.get() {
                let (seconds, endpoint) = (self.limit.as_secs_f64(), &rendezvous.endpoint);
                return Err(anyhow!(
                    "rank 0 has not said in torchrun's store at {endpoint} within {seconds} s where it listens"
                ));
            }
            thread::sleep(POLL);
        }
    }

    /// Make sure that the store is that of the same run.
    fn check_run(&self, store: &Store, rendezvous: &Rendezvous) -> Result<()> {
        let Rendezvous { endpoint, id, .. } = rendezvous;
        let theirs = loop {
            match store.get("id")? {
                Some(theirs) => break String::from_utf8_lossy(&theirs).into_owned(),
                None if Instant::now() < self.deadline.get() => thread::sleep(POLL),
                None => return Err(anyhow!("{endpoint} has a store that is not runboard's")),
            }
        };
        if theirs != *id {
            return Err(user_error!(
                "rank 0 at {endpoint} trains {theirs}, this rank {id}; want another port for each run, or the same \
                 --rdzv-id"
            ));
        }
        Ok(())
    }

    /// Meet the others.
    fn meet(&self, store: &Store) -> Result<Met> {
        let Introduction { member, world, .. } = &self.introduction;
        if store.add(&format!("taken/{}", member.rank), 1)? > 1 {
            let verdict = verdict(store)?;
            if verdict.is_some_and(|verdict| verdict.leaves_out(member.rank)) {
                return Ok(Met::LeftOut);
            }
            let former = self.wait_for_introduction(store, member.rank);
            if let Some(zero) = introduction(store, 0)? {
                self.check_world(store, &zero)?;
            }
            match former {
                Some(former) if self.introduction.replaces(&former) => {}
                former => return Ok(Met::Taken(self.taken(former))),
            }
            if store.get("verdict")?.is_some() {
                return Ok(Met::Begun);
            }
        }
        let introduction = serde_json::to_vec(&self.introduction)?;
        store.set(&introduction_key(member.rank), &introduction)?;
        if member.rank == 0 {
            let verdict = self.judge(store)?;
            store.set("verdict", &serde_json::to_vec(&verdict)?)?;
            let result = verdict.result();
            if result.is_err() {
                self.wait_until_heard(store)?;
            }
            return Ok(Met::Members(result?.1));
        }
        let (ranks, members) = self.wait_for_verdict(store)?.result()?;
        if ranks <= member.rank {
            let zero = &members[0];
            return Err(user_error!(
                "{member} is one of {world} ranks, {zero} is one of {ranks} ranks"
            ));
        }
        Ok(match members.iter().find(|it| it.rank == member.rank) {
            Some(own) if own == member => Met::Members(members),
            Some(_) => Met::Begun,
            None => Met::LeftOut,
        })
    }

    /// Who has a rank. It may have taken it and not have introduced itself yet.
    fn wait_for_introduction(&self, store: &Store, rank: usize) -> Option<Introduction> {
        loop {
            match introduction(store, rank) {
                Ok(Some(introduction)) => return Some(introduction),
                Ok(None) if Instant::now() < self.deadline.get() => thread::sleep(POLL),
                _ => return None,
            }
        }
    }

    /// Make sure that rank 0 was told of as many ranks as this one. It looks for those of its own number alone, and of any other
    /// hears by [`MISFIT`].
    ///
    /// # Errors
    /// A user's, if not.
    fn check_world(&self, store: &Store, zero: &Introduction) -> Result<()> {
        if self.introduction.world == zero.world {
            return Ok(());
        }
        let difference = self.introduction.difference(zero).unwrap_or_default();
        // Answered when the store has it. Rank 0, whose process the store is of, may have ended by what another rank told.
        let _ = store
            .set(MISFIT, difference.as_bytes())
            .and_then(|()| store.get(MISFIT));
        Err(user_error!("{difference}"))
    }

    /// The error of a rank that another process has.
    fn taken(&self, by: Option<Introduction>) -> Error {
        let rank = self.introduction.member.rank;
        let by = by.map_or_else(
            || format!("another rank {rank}"),
            |it| it.member.to_string(),
        );
        user_error!("rank {rank} is taken: {by} was there before")
    }

    /// Wait for all to come, and compare them.
    fn judge(&self, store: &Store) -> Result<Verdict> {
        let own = &self.introduction;
        let mut came: Vec<Option<Introduction>> = vec![None; own.world];
        let began = Instant::now();
        loop {
            for (rank, came) in came.iter_mut().enumerate() {
                if came.is_none() {
                    *came = introduction(store, rank)?;
                }
            }
            let there = came.iter().flatten();
            let mut differences: Vec<String> = there.filter_map(|it| it.difference(own)).collect();
            let all = came.iter().all(Option::is_some);
            // Who is one too many does not keep the others from beginning; but those that are missing will not come then. Where
            // training goes on with fewer ranks, they are missing because they were lost.
            if !all
                && self.fewer.is_none()
                && differences.is_empty()
                && let Some(misfit) = store.get(MISFIT)?
            {
                differences.push(String::from_utf8_lossy(&misfit).into_owned());
            }
            if !differences.is_empty() {
                return Ok(Verdict::Differ(differences.join("; ")));
            }
            let late = Instant::now() >= self.deadline.get();
            let begins = |fewer: &Fewer| all || late || began.elapsed() >= fewer.wait;
            let fewer = self.fewer.filter(begins);
            if all || fewer.is_some() {
                // Once more, as some may have been replaced.
                let members =
                    (0..own.world).map(|rank| Ok(introduction(store, rank)?.map(|it| it.member)));
                let members: Result<Vec<Option<Member>>> = members.collect();
                let mut members: Vec<Member> = members?.into_iter().flatten().collect();
                if let Some(fewer) = fewer {
                    members.truncate(fewer.most(members.len()));
                }
                return Ok(Verdict::Go(own.world, members));
            }
            if let Some(lost) = self.lost.as_ref().and_then(|lost| lost()) {
                return Ok(Verdict::Ended(lost));
            }
            if late {
                return Ok(Verdict::Missing(self.missing(store)));
            }
            thread::sleep(POLL);
        }
    }

    fn wait_for_verdict(&self, store: &Store) -> Result<Verdict> {
        let mut compared = false;
        loop {
            if let Some(verdict) = verdict(store)? {
                store.add("heard", 1)?;
                return Ok(verdict);
            }
            if !compared && let Some(zero) = introduction(store, 0)? {
                compared = true;
                if self.introduction.member.rank >= zero.world {
                    self.check_world(store, &zero)?;
                }
            }
            if Instant::now() >= self.deadline.get() {
                return Ok(Verdict::Missing(self.missing(store)));
            }
            thread::sleep(POLL);
        }
    }

    /// The store goes with rank 0's process.
    fn wait_until_heard(&self, store: &Store) -> Result<()> {
        let deadline = Instant::now() + HEARD;
        let others = 1..self.introduction.world;
        let there = others.filter(|&rank| matches!(introduction(store, rank), Ok(Some(_))));
        let there = i64::try_from(there.count())?;
        while store.add("heard", 0)? < there && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Who has not come.
    fn missing(&self, store: &Store) -> String {
        let world = self.introduction.world;
        let missing = (0..world).filter(|&rank| !matches!(introduction(store, rank), Ok(Some(_))));
        let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
        let seconds = self.limit.as_secs_f64();
        match &missing[..] {
            [] => format!("rank 0 did not begin within {seconds} s"),
            [one] => format!("rank {one} of {world} did not come within {seconds} s"),
            several => format!(
                "ranks {} of {world} did not come within {seconds} s",
                several.join(", ")
            ),
        }
    }
}

/// What became of a meeting.
enum Met {
    /// These begin, this process among them.
    Members(Vec<Member>),
    /// The ranks have begun with the process that was there before this one.
    Begun,
    /// They have begun without this rank.
    LeftOut,
    /// Another process has this rank, as the error says.
    Taken(Error),
}

impl Met {
    /// The members, where there is no other meeting to wait for.
    fn only(self) -> Result<Vec<Member>> {
        match self {
            Met::Members(members) => Ok(members),
            Met::Taken(error) => Err(error),
            Met::Begun | Met::LeftOut => {
                bail!("the group in this store has begun without this process")
            }
        }
    }
}

/// What rank 0 has told all others, if it has.
fn verdict(store: &Store) -> Result<Option<Verdict>> {
    let verdict = store.get("verdict")?;
    Ok(verdict.map(|it| serde_json::from_slice(&it)).transpose()?)
}

/// Under which rank 0 says in torchrun's store where it listens.
fn told_key(id: &str) -> String {
    format!("runboard/{id}/rank 0")
}

fn introduction_key(rank: usize) -> String {
    format!("introduction/{rank}")
}

fn introduction(store: &Store, rank: usize) -> Result<Option<Introduction>> {
    let value = store.get(&introduction_key(rank))?;
    Ok(value.map(|it| serde_json::from_slice(&it)).transpose()?)
}
