//! The variables that torchrun sets for each process it starts, and that people set by hand
//! (<https://docs.pytorch.org/docs/stable/elastic/run.html>, "Environment Variables").
//!
//! torchrun itself keeps a store at MASTER_PORT, and says so by TORCHELASTIC_USE_AGENT_STORE.

use super::{Endpoint, Launch, Origin, Placed, Variables};
use crate::bail_user;
use anyhow::Result;

/// The launch that the variables describe: one rank. `None` without them.
pub(super) fn launch(variables: &Variables) -> Result<Option<Placed>> {
    let rank: Option<usize> = variables.number("RANK")?;
    let world: Option<usize> = variables.number("WORLD_SIZE")?;
    let (rank, world) = match (rank, world) {
        (None, None) => return Ok(None),
        (Some(rank), Some(world)) => (rank, world),
        (rank, _) => {
            let [set, missing] = match rank {
                Some(_) => ["RANK", "WORLD_SIZE"],
                None => ["WORLD_SIZE", "RANK"],
            };
            bail_user!(
                "{set} is set, but {missing} is not; want both, as torchrun sets them, or none of them"
            );
        }
    };
    let local_rank = variables.number("LOCAL_RANK")?;
    let local_world = variables.number("LOCAL_WORLD_SIZE")?;
    let endpoint = match (world, variables.master()?) {
        (0 | 1, _) => None,
        (_, (Some(host), Some(port))) => Some(Endpoint { host, port }),
        (_, (address, _)) => bail_user!(
            "RANK and WORLD_SIZE are set, but {} is not; want MASTER_ADDR and MASTER_PORT, where rank 0 is, too",
            match address {
                None => "MASTER_ADDR",
                Some(_) => "MASTER_PORT",
            }
        ),
    };
    let local_rank = local_rank.unwrap_or(0);
    let launch = Launch {
        world,
        rank,
        count: 1,
        local_rank,
        local_world: local_world.unwrap_or(local_rank.saturating_add(1)),
        cores: None,
        rendezvous: None,
        origin: Origin::Torchrun,
    };
    Ok(Some(Placed {
        launch,
        endpoint,
        agent_store: variables.get("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True"),
        id: variables.get("TORCHELASTIC_RUN_ID"),
    }))
}
