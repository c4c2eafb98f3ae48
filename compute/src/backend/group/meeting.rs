//! How ranks meet before there is a group: each says in the store who it is and what it is about to train, rank 0
//! compares, and all learn whether they belong together. A group of ranks that do not would wait and fail without a
//! reason.

use super::ffi::Store;
use anyhow::{Context, Error, Result, anyhow};
use runboard::user_error;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, process, thread};
use sysinfo::System;

/// Between two looks into the store.
const POLL: Duration = Duration::from_millis(10);

/// How long who has refused the others waits for them to learn why.
pub(super) const HEARD: Duration = Duration::from_secs(5);

/// Says which rank cannot come any more, if one cannot.
pub type Lost = Box<dyn Fn() -> Option<String> + Send>;

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
}

/// Where the store is, by which ranks find one another.
#[derive(Debug)]
pub enum Place {
    /// For ranks on one host: a file that is not there yet, in a directory that is no other user's.
    File(PathBuf),
    /// For rank 0, which keeps the store: a socket that others reach; see [`Place::listen`].
    Listener(TcpListener),
    /// For the other ranks: the socket's address.
    Address(SocketAddr),
}

impl Place {
    /// Rank 0's place at an address of this host, with port 0 for any that is free. It listens at this address alone:
    /// whoever can connect can disturb the group, as c10d knows no passwords.
    ///
    /// # Errors
    /// The address is not this host's, or taken.
    pub fn listen(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("failed to listen at {address} for the other ranks"))?;
        Ok(Place::Listener(listener))
    }

    /// Where others find it.
    pub(super) fn reopened(&self) -> Result<Self> {
        Ok(match self {
            Place::File(path) => Place::File(path.clone()),
            Place::Listener(listener) => Place::Address(listener.local_addr()?),
            Place::Address(address) => Place::Address(*address),
        })
    }

    /// The address of this host by which the others reach it: that of the route to the store.
    pub(super) fn own_address(&self) -> Result<IpAddr> {
        Ok(match self {
            Place::File(_) => Ipv4Addr::LOCALHOST.into(),
            Place::Listener(listener) => listener.local_addr()?.ip(),
            Place::Address(address) => {
                let any: IpAddr = match address {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let route = || {
                    let socket = UdpSocket::bind((any, 0))?;
                    socket.connect(address)?; // sends nothing
                    socket.local_addr()
                };
                let local = route().with_context(|| format!("no route to rank 0 at {address}"))?;
                local.ip()
            }
        })
    }

    pub(super) fn open(self, world: usize, timeout: Duration) -> Result<Store> {
        match self {
            Place::File(path) => Store::open(&path, world, timeout),
            Place::Listener(listener) => Store::serve(listener, timeout),
            Place::Address(address) => Store::join(address, timeout).with_context(|| {
                let seconds = timeout.as_secs_f64();
                format!("rank 0 at {address} does not answer within {seconds} s")
            }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "the store {}", path.display()),
            Place::Listener(_) => write!(f, "the store"),
            Place::Address(address) => write!(f, "rank 0 at {address}"),
        }
    }
}

/// What ranks compare before they train together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// Of the frozen spec.
    pub spec: String,
    /// Of the images.
    pub data: String,
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
}

impl Introduction {
    /// In what it differs from rank 0's, if in anything.
    fn difference(&self, zero: &Self) -> Option<String> {
        let (own, other) = (&self.hello, &zero.hello);
        let worlds = [self.world, zero.world].map(|world| format!("{world} ranks"));
        let fields = [
            ("is one of", &worlds[0], &worlds[1]),
            ("has runboard", &own.version, &other.version),
            ("has the spec", &own.spec, &other.spec),
            ("has the images", &own.data, &other.data),
        ];
        let (has, own, other) = fields.into_iter().find(|(_, own, other)| own != other)?;
        let (member, zero) = (&self.member, &zero.member);
        Some(format!("{member} {has} {own}, {zero} {has} {other}"))
    }
}

/// What rank 0 tells all others.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// All are there and fit.
    Go(Vec<Member>),
    /// Some do not fit.
    Differ(String),
    /// Some did not come.
    Missing(String),
}

impl Verdict {
    fn result(self) -> Result<Vec<Member>> {
        match self {
            Verdict::Go(members) => Ok(members),
            Verdict::Differ(text) => Err(user_error!("{text}")),
            Verdict::Missing(text) => Err(anyhow!(text)),
        }
    }
}

/// Who this rank is to the others, and until when it waits for them.
pub(super) struct Party {
    introduction: Introduction,
    limit: Duration,
    deadline: Instant,
    lost: Option<Lost>,
}

impl Party {
    pub(super) fn new(meeting: &mut Meeting) -> Self {
        Party {
            lost: meeting.lost.take(),
            introduction: Introduction {
                member: Member::own(meeting.rank),
                world: meeting.world,
                hello: meeting.hello.clone(),
            },
            limit: meeting.join_timeout,
            deadline: Instant::now() + meeting.join_timeout,
        }
    }

    /// Meet the others; returns all ranks in order.
    ///
    /// # Errors
    /// Ranks that differ in what they are about to do, or of which there is one too many, are a user's error; so
    /// says every rank that is concerned. One that does not come is none.
    pub(super) fn meet(&self, store: &Store) -> Result<Vec<Member>> {
        let Introduction { member, world, .. } = &self.introduction;
        if store.add(&format!("taken/{}", member.rank), 1)? > 1 {
            return Err(self.taken(store));
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
            return result;
        }
        let members = self.wait_for_verdict(store)?.result()?;
        if members.len() <= member.rank {
            let (zero, ranks) = (&members[0], members.len());
            return Err(user_error!(
                "{member} is one of {world} ranks, {zero} one of {ranks} ranks"
            ));
        }
        Ok(members)
    }

    /// The error of a rank that another process has.
    fn taken(&self, store: &Store) -> Error {
        let rank = self.introduction.member.rank;
        // It may have taken the rank and not have introduced itself yet.
        let by = loop {
            match introduction(store, rank) {
                Ok(Some(introduction)) => break introduction.member.to_string(),
                Ok(None) if Instant::now() < self.deadline => thread::sleep(POLL),
                _ => break format!("another rank {rank}"),
            }
        };
        user_error!("rank {rank} is taken: {by} was there before")
    }

    /// Wait for all to come, and compare them.
    fn judge(&self, store: &Store) -> Result<Verdict> {
        let own = &self.introduction;
        let mut came: Vec<Option<Introduction>> = vec![None; own.world];
        loop {
            for (rank, came) in came.iter_mut().enumerate() {
                if came.is_none() {
                    *came = introduction(store, rank)?;
                }
            }
            let there = came.iter().flatten();
            let differences: Vec<String> = there.filter_map(|it| it.difference(own)).collect();
            if !differences.is_empty() {
                return Ok(Verdict::Differ(differences.join("; ")));
            }
            if came.iter().all(Option::is_some) {
                let members = came.into_iter().flatten().map(|it| it.member);
                return Ok(Verdict::Go(members.collect()));
            }
            if let Some(lost) = self.lost.as_ref().and_then(|lost| lost()) {
                return Ok(Verdict::Missing(lost));
            }
            if Instant::now() >= self.deadline {
                return Ok(Verdict::Missing(self.missing(store)));
            }
            thread::sleep(POLL);
        }
    }

    fn wait_for_verdict(&self, store: &Store) -> Result<Verdict> {
        loop {
            if let Some(verdict) = store.get("verdict")? {
                store.add("heard", 1)?;
                return Ok(serde_json::from_slice(&verdict)?);
            }
            if Instant::now() >= self.deadline {
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

fn introduction_key(rank: usize) -> String {
    format!("introduction/{rank}")
}

fn introduction(store: &Store, rank: usize) -> Result<Option<Introduction>> {
    let value = store.get(&introduction_key(rank))?;
    Ok(value.map(|it| serde_json::from_slice(&it)).transpose()?)
}
