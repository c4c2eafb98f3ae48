//! How a process of `runboard run` was launched among others that train the same run: by flags, by torchrun's variables or
//! by Slurm's, in this order. Which ranks are its own, and where rank 0 is. Nothing here connects the ranks: `backend::group`
//! does.

pub mod address;
mod flags;
mod slurm;
mod torchrun;

pub use flags::Flags;

use crate::spec::{Compute, Spec, uneven};
use crate::{bail_user, user_error};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::thread;

/// How long the ranks wait for one another to come, in seconds, if nobody says otherwise.
const RENDEZVOUS_SECS: u64 = 300;

/// The network interface of a host to itself.
const LOOPBACK: &str = "lo";

/// The ranks of one process among all that train a run together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// How many ranks there are, on all hosts.
    pub world: usize,
    /// The first rank of this process.
    pub rank: usize,
    /// How many ranks this process has, one after the other.
    pub count: usize,
    /// The first one's number among the ranks of this host.
    pub local_rank: usize,
    /// How many ranks this host has.
    pub local_world: usize,
    /// The cores that are each rank's, if the launcher shares them out.
    pub cores: Option<usize>,
    /// Where they meet; `None` for ranks that one process of one host starts, which need no network.
    pub rendezvous: Option<Rendezvous>,
    /// Who says so.
    pub origin: Origin,
}

/// Where ranks of several processes meet, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendezvous {
    /// Where rank 0 listens; or, with `agent_store`, where torchrun has a store of its own.
    pub endpoint: Endpoint,
    /// Whether rank 0 listens at a port of its own, and says in torchrun's store at which.
    pub agent_store: bool,
    /// The name of this host's network interface to the others; `None` for that of the route to rank 0.
    pub interface: Option<String>,
    /// What ranks of one run have in common, and those of another have not.
    pub id: String,
    /// How long to wait for all ranks to come.
    pub timeout_secs: u64,
}

/// `HOST:PORT`, as `node1:29500`, `10.0.0.1:29500` or `[fd00::1]:29500`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

/// Who says how a process was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// `compute.devices`, or nobody.
    Spec,
    /// `--nnodes` and so on.
    Flags,
    /// `RANK`, `WORLD_SIZE` and so on, as torchrun sets them.
    Torchrun,
    /// `srun`.
    Slurm,
}

impl Launch {
    /// That of a process which starts so many ranks itself: all there are.
    pub fn on_one_host(ranks: usize) -> Self {
        Launch {
            world: ranks,
            rank: 0,
            count: ranks,
            local_rank: 0,
            local_world: ranks,
            cores: None,
            rendezvous: None,
            origin: Origin::Spec,
        }
    }

    /// That of this process, which is to train by this spec: by the flags, or else by the variables that `variable` knows.
    /// `id` is what the run is called if nobody says otherwise.
    ///
    /// # Errors
    /// A user error for what is missing or does not fit together, or does not fit the spec.
    pub fn find(
        flags: &Flags,
        variable: impl Fn(&str) -> Option<String>,
        spec: &Spec,
        id: &str,
    ) -> Result<Self> {
        let variables = Variables(&variable);
        let placed = match flags.launch(spec.compute.ranks())? {
            Some(placed) => Some(placed),
            None => match torchrun::launch(&variables)? {
                Some(placed) => Some(placed),
                None => slurm::launch(&variables)?,
            },
        };
        let launch = match placed {
            Some(placed) => placed.resolve(flags, id)?,
            None => Launch::on_one_host(spec.compute.ranks()),
        };
        launch.check(spec)?;
        Ok(launch)
    }

    /// Whether this process has rank 0: it makes the run directory and supervises.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// That of the rank which comes `index` ranks after this process's first one, in a process of its own.
    pub fn of_rank(&self, index: usize) -> Self {
        Launch {
            rank: self.rank + index,
            count: 1,
            local_rank: self.local_rank + index,
            ..self.clone()
        }
    }

    /// The device that this process's first rank trains on, of `gpus` that there are.
    pub fn device(&self, compute: &Compute, gpus: usize) -> String {
        let listed = compute.devices.get(self.local_rank);
        match (listed, &*compute.device) {
            (Some(device), _) => device.clone(),
            // Each rank of a host has a GPU of its own, but where each sees none but its own.
            (None, "auto" | "cuda") if gpus > 1 && self.local_world > 1 => {
                format!("cuda:{}", self.local_rank)
            }
            (None, device) => device.to_owned(),
        }
    }

    /// The field that names this device.
    pub fn device_field(&self, compute: &Compute) -> String {
        match self.local_rank {
            rank if rank < compute.devices.len() => format!("compute.devices[{rank}]"),
            _ => "compute.device".to_owned(),
        }
    }

    /// The threads of a rank, of those that the spec shares out among all of this host; 0 for libtorch's choice.
    pub fn threads(&self, compute: &Compute) -> usize {
        match (compute.threads, self.cores) {
            (threads, _) if self.local_world == 1 => threads,
            (0, Some(cores)) => cores,
            (0, None) => {
                let cores = thread::available_parallelism().map_or(1, NonZero::get);
                (cores / self.local_world).max(1)
            }
            (threads, _) => (threads / self.local_world).max(1),
        }
    }

    fn check(&self, spec: &Spec) -> Result<()> {
        let (batch, world) = (spec.train.batch_size, self.world);
        if let Some(near) = uneven(batch, world, "ranks") {
            bail_user!(
                "train.batch_size: got a batch of {batch} images for {world} ranks ({}), want an equal part for each: \
                 {near}",
                self.origin
            );
        }
        let (devices, ranks) = (spec.compute.devices.len(), self.local_world);
        if devices != 0 && devices != ranks {
            bail_user!(
                "compute.devices: got {devices} devices for {ranks} ranks on this host ({}), want one for each, or \
                 none: --set compute.devices=[]",
                self.origin
            );
        }
        Ok(())
    }
}

impl Origin {
    /// The program that it is of, for people.
    pub fn launcher(self) -> &'static str {
        match self {
            Origin::Spec | Origin::Flags => "runboard",
            Origin::Torchrun => "torchrun",
            Origin::Slurm => "srun",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Spec => "compute.devices",
            Origin::Flags => "--nnodes and --nproc-per-node",
            Origin::Torchrun => "RANK and WORLD_SIZE",
            Origin::Slurm => "srun",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("got {text:?}, want HOST:PORT, such as node1:29500");
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|&port| port > 0);
        let port = port.ok_or_else(wanted)?;
        if host.is_empty() || bare.is_none() && host.contains(':') {
            return Err(wanted());
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
        })
    }
}

/// Variables of the environment; an empty one is none.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The value of a variable, as a number.
    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.trim().parse().ok();
        let number = number.ok_or_else(|| user_error!("{name}: got {value:?}, want a number"))?;
        Ok(Some(number))
    }

    /// The master's address and port of torchrun, which people also set for `srun`.
    fn master(&self) -> Result<(Option<String>, Option<u16>)> {
        Ok((self.get("MASTER_ADDR"), self.number("MASTER_PORT")?))
    }
}

/// A launch as far as its origin says: flags may say more.
struct Placed {
    /// Without a rendezvous.
    launch: Launch,
    /// `None` if there is nobody to meet.
    endpoint: Option<Endpoint>,
    /// Whether that is a store of the launcher's.
    agent_store: bool,
    /// What the launcher calls the run.
    id: Option<String>,
}

impl Placed {
    fn resolve(self, flags: &Flags, id_of_run: &str) -> Result<Launch> {
        let Launch {
            world,
            rank,
            count,
            local_rank,
            local_world,
            origin,
            ..
        } = self.launch;
        let is_beyond = |rank: usize, world| rank.saturating_add(count) > world;
        if is_beyond(rank, world) || is_beyond(local_rank, local_world) || local_world > world {
            bail_user!(
                "got rank {rank} of {world}, {local_rank} of {local_world} on this host ({origin}); want each less than \
                 its number"
            );
        }
        let id = flags.id.clone().or(self.id);
        // The endpoint may have another of this host's addresses, at which nobody else need be.
        let loopback = self.agent_store && local_world == world;
        let interface = loopback.then(|| LOOPBACK.to_owned());
        let rendezvous = self.endpoint.map(|endpoint| Rendezvous {
            endpoint,
            agent_store: self.agent_store,
            interface: flags.interface.clone().or(interface),
            id: id.unwrap_or_else(|| id_of_run.to_owned()),
            timeout_secs: flags.timeout_secs.unwrap_or(RENDEZVOUS_SECS),
        });
        Ok(Launch {
            rendezvous,
            ..self.launch
        })
    }
}

#[cfg(test)]
mod tests;
