//! How the ranks' GPUs come together.

use super::failure::End;
use super::meeting::Member;
use super::nccl::{Card, Communicator, Gpu, UniqueId};
use super::{Links, exchange, said};
use anyhow::{Context, Error, Result, anyhow};
use std::cell::RefCell;
use std::time::Duration;
use tch::{Kind, Tensor};

/// How many floats the first sum has: about as many as a step's, as NCCL opens its connections for a sum of a size.
const FIRST_SUM: i64 = 1 << 20;

/// The key under which each rank says whether it has met the others.
const OUTCOME: &str = "nccl";

/// Which rank has failed, and why.
type Failure = (usize, String);

/// Whether a rank has met the others.
type Outcome = Result<(), Failure>;

/// Why the ranks' GPUs do not sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apart {
    /// They are not such that they could.
    Unfit(String),
    /// They could, but it failed this time.
    Failed(String),
}

/// See [`Group::meet_on_gpus`](super::Group::meet_on_gpus). What one rank cannot do all learn, so that all or none do it.
pub(super) fn meet(
    links: &mut Links,
    gpu: Result<Gpu, String>,
    rank: usize,
    members: &[Member],
    limit: Duration,
) -> Result<Result<(), Apart>> {
    let (store, world) = (links.store()?, members.len());
    let text = |error: Error| format!("{error:#}");
    let card = gpu.clone().and_then(|gpu| gpu.card().map_err(text));
    let cards = exchange(store, "card", rank, world, &card, limit)?;
    if let Some(why) = obstacle(&cards, members) {
        return Ok(Err(Apart::Unfit(why)));
    }
    let failed = |(rank, why): &Failure| Apart::Failed(format!("{}: {why}", members[*rank]));
    // All that a rank can fail at alone comes before that for which the others would wait.
    let made = gpu.and_then(|gpu| {
        let id = match rank {
            0 => gpu.unique_id().map_err(text)?.0.to_vec(),
            _ => Vec::new(),
        };
        let ones = Tensor::f_ones([FIRST_SUM], (Kind::Float, gpu.device));
        let ones = ones.map_err(|error| text(error.into()))?;
        Ok((id, ones, Communicator::new(gpu).map_err(text)?))
    });
    let made = made.map_err(|why| (rank, why));
    let id = made.as_ref().map(|(id, ..)| id.clone());
    let ids = exchange(
        store,
        "nccl id",
        rank,
        world,
        &id.map_err(Clone::clone),
        limit,
    )?;
    if let Some(failure) = failure(&ids) {
        return Ok(Err(failed(failure)));
    }
    let (_, ones, mut communicator) = made.map_err(|(_, why)| anyhow!(why))?;
    let id = ids.into_iter().next().and_then(Result::ok);
    let id = id.and_then(|id| id.try_into().ok());
    let id = UniqueId(id.context("rank 0 has given no id of NCCL's")?);
    // Whoever waits for a rank that has failed hears of it.
    let told = RefCell::new(None);
    let lost = || {
        let of_all = (0..world).map(|rank| said(store, OUTCOME, rank).ok()?);
        let of_all: Vec<Outcome> = of_all.flatten().collect();
        let failure = failure(&of_all)?.clone();
        let end = End::Failed(failure.1.clone());
        told.replace(Some(failure));
        Some(end)
    };
    let met = communicator
        .connect(id, rank, world)
        .and_then(|()| communicator.try_sum(&ones, world, limit, lost));
    let own = met.map_err(|error| told.take().unwrap_or_else(|| (rank, text(error))));
    let outcomes: Vec<Outcome> = exchange(store, OUTCOME, rank, world, &own, limit)?;
    if let Some(failure) = failure(&outcomes) {
        return Ok(Err(failed(failure)));
    }
    links.nccl = Some(communicator);
    Ok(Ok(()))
}

/// The first of the ranks' failures.
fn failure<T>(outcomes: &[Result<T, Failure>]) -> Option<&Failure> {
    outcomes.iter().find_map(|outcome| outcome.as_ref().err())
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
