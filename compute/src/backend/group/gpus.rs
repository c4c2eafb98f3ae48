//! How the ranks' GPUs come together: what one of them cannot do all learn, so that all or none do it.

use super::failure::End;
use super::meeting::Member;
use super::nccl::{self, Card, Communicator, Gpu, UniqueId};
use super::{Group, Links};
use anyhow::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// How long it may take at least until NCCL has made the first sum.
const FIRST_TIMEOUT: Duration = Duration::from_secs(60);

/// How many floats the first sum has: about as many as a step's, as NCCL opens its connections for a sum of a size.
const FIRST_SUM: i64 = 1 << 20;

/// Letters of a reason that the others are told.
const REASON: usize = 300;

/// A key that is in the store once a rank has not met the others, for those that wait for it meanwhile.
const FAILED: &str = "nccl failed";

/// Why the ranks' GPUs do not sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apart {
    /// They are not such that they could.
    Unfit(String),
    /// They could, but it failed this time.
    Failed(String),
}

/// Why a rank has not met the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failure {
    why: String,
    /// Whether it may be that of another rank.
    is_of_others: bool,
}

impl Failure {
    fn of(error: &Error) -> Self {
        Failure {
            why: format!("{error:#}").chars().take(REASON).collect(),
            is_of_others: nccl::is_of_others(error),
        }
    }
}

/// See [`Group::meet_on_gpus`].
pub(super) fn meet(group: &mut Group, gpu: Result<Gpu, String>) -> Result<Result<(), Apart>> {
    let card = gpu.clone().and_then(|gpu| {
        let card = gpu.card();
        card.map_err(|error| Failure::of(&error).why)
    });
    let cards = group.gather(&card)?;
    if let Some(why) = obstacle(&cards, group.members()) {
        return Ok(Err(Apart::Unfit(why)));
    }
    let (rank, world) = (group.rank(), group.members().len());
    // All that a rank can fail at alone comes before that for which the others would wait.
    let prepare = move |links: &mut Links| {
        let id = gpu.map_err(Error::msg).and_then(|gpu| {
            links.nccl = Some(Communicator::new(gpu)?);
            match rank {
                0 => Ok(gpu.unique_id()?.0.to_vec()),
                _ => Ok(Vec::new()),
            }
        });
        Ok(id.map_err(|error| Failure::of(&error)))
    };
    let id: Result<Vec<u8>, Failure> = group.run(prepare)?;
    let ids = group.gather(&id)?;
    if let Some(apart) = apart(&ids, group.members()) {
        group.run(forget)?;
        return Ok(Err(apart));
    }
    let id = ids.into_iter().next().and_then(Result::ok);
    let id = id.and_then(|id| id.try_into().ok());
    let id = UniqueId(id.context("rank 0 has given no id of NCCL's")?);
    let limit = group.timeout.max(FIRST_TIMEOUT);
    let deadline = Instant::now() + limit;
    let connect = move |links: &mut Links| {
        let met = first_sum(links, id, (rank, world), deadline);
        if met.is_err() {
            links.nccl = None;
            links.store()?.set(FAILED, b"1")?;
        }
        Ok(met.map_err(|error| Failure::of(&error)))
    };
    let connecting = group.start(connect);
    let outcome = group.finish_within(connecting, limit, None)?;
    // The others may wait where they do not hear of it, as NCCL connects: then this rank's reason counts.
    let own = outcome.as_ref().err().filter(|it| !it.is_of_others);
    let end = own.map(|failure| End::Failed(failure.why.clone()));
    let outcomes = group.gather_or(&outcome, end)?;
    let apart = apart(&outcomes, group.members());
    if apart.is_some() {
        group.run(forget)?;
    }
    Ok(apart.map_or(Ok(()), Err))
}

fn forget(links: &mut Links) -> Result<()> {
    links.nccl = None;
    Ok(())
}

/// Connect to the other ranks, and sum once, both until the deadline.
fn first_sum(
    links: &mut Links,
    id: UniqueId,
    (rank, world): (usize, usize),
    deadline: Instant,
) -> Result<()> {
    let communicator = links.nccl.as_mut().context("there is no GPU")?;
    communicator.connect(id, rank, world)?;
    let (communicator, store) = (links.nccl()?, links.store()?);
    let ones = Tensor::f_ones([FIRST_SUM], (Kind::Float, communicator.device()))?;
    let has_failed = || store.get(FAILED).ok()?.map(|_| End::Closed(None));
    let lost = || links.lost().or_else(has_failed);
    let left = deadline.saturating_duration_since(Instant::now());
    communicator.try_sum(&ones, world, left, lost)
}

/// That a rank has failed, if one has: the first one with a reason of its own.
fn apart<T>(outcomes: &[Result<T, Failure>], members: &[Member]) -> Option<Apart> {
    let failures = outcomes.iter().zip(members);
    let failures = failures.filter_map(|(outcome, member)| Some((outcome.as_ref().err()?, member)));
    let (failure, member) = failures.min_by_key(|(failure, _)| failure.is_of_others)?;
    Some(Apart::Failed(format!("{member}: {}", failure.why)))
}

/// Why these ranks' GPUs cannot sum by NCCL, which wants one version and a GPU for each rank.
fn obstacle(cards: &[Result<Card, String>], members: &[Member]) -> Option<String> {
    let mut before: Vec<(&Card, &Member)> = Vec::new();
    for (card, member) in cards.iter().zip(members) {
        let card = match card {
            Ok(card) => card,
            Err(why) => return Some(format!("{member} {why}")),
        };
        for (other, with) in &before {
            if other.place == card.place {
                return Some(format!("{with} and {member} are on one GPU"));
            }
            if other.version != card.version {
                let (one, two) = (other.version, card.version);
                return Some(format!("{with} has NCCL {one}, {member} has {two}"));
            }
        }
        before.push((card, member));
    }
    None
}
