//! The options that say which processes train together.

use super::{Endpoint, Launch, Origin, Placed};
use crate::bail_user;
use crate::spec::Spec;
use anyhow::Result;
use clap::Args;
use clap::builder::TypedValueParser;
use std::env;
use std::ffi::OsString;

/// Which processes train together. Without these options torchrun's variables say so (RANK, WORLD_SIZE, LOCAL_RANK,
/// MASTER_ADDR, MASTER_PORT), or else Slurm's, under `srun`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Several hosts (docs/distributed.md)")]
pub struct Flags {
    /// Number of hosts that train together; each runs this command
    #[arg(long = "nnodes", value_name = "N", value_parser = counted())]
    pub nodes: Option<usize>,
    /// This host's number, from 0; host 0 has the run directory
    #[arg(long, value_name = "N")]
    pub node_rank: Option<usize>,
    /// Where they meet: an address of host 0, and a port that is free there
    #[arg(long = "rdzv-endpoint", value_name = "HOST:PORT")]
    pub endpoint: Option<Endpoint>,
    /// Processes on each host [default: one for each of compute.devices, or one]
    #[arg(long = "nproc-per-node", value_name = "N", value_parser = counted())]
    pub ranks_per_node: Option<usize>,
    /// Network interface of this host to the others [default: that of the route to host 0]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// What the run is called where they meet [default: the experiment's name]
    #[arg(long = "rdzv-id", value_name = "ID")]
    pub id: Option<String>,
    /// How long to wait until all have come [default: 300]
    #[arg(long = "rdzv-timeout", value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout_secs: Option<u64>,
}

impl Flags {
    /// The launch of this process, which is to train by this spec; `id` is what the run is called if nobody says otherwise.
    ///
    /// # Errors
    /// As [`Launch::find`].
    pub fn find(&self, spec: &Spec, id: &str) -> Result<Launch> {
        Launch::find(self, |name| env::var(name).ok(), spec, id)
    }

    /// As they are written on a command line.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let text = |value: &dyn ToString| value.to_string();
        let given = [
            ("nnodes", self.nodes.as_ref().map(|it| text(it))),
            ("node-rank", self.node_rank.as_ref().map(|it| text(it))),
            ("rdzv-endpoint", self.endpoint.as_ref().map(|it| text(it))),
            (
                "nproc-per-node",
                self.ranks_per_node.as_ref().map(|it| text(it)),
            ),
            ("interface", self.interface.clone()),
            ("rdzv-id", self.id.clone()),
            (
                "rdzv-timeout",
                self.timeout_secs.as_ref().map(|it| text(it)),
            ),
        ];
        let given = given.into_iter();
        given
            .filter_map(|(option, value)| Some(format!("--{option}={}", value?).into()))
            .collect()
    }

    /// `None` if they do not say how many ranks there are.
    pub(super) fn launch(&self, devices: usize) -> Result<Option<Placed>> {
        let Flags {
            nodes,
            node_rank,
            ranks_per_node,
            endpoint,
            ..
        } = self;
        if nodes.is_none() && ranks_per_node.is_none() {
            let given = [
                node_rank.map(|_| "--node-rank"),
                endpoint.as_ref().map(|_| "--rdzv-endpoint"),
            ];
            if let Some(option) = given.into_iter().flatten().next() {
                bail_user!("{option}: want --nnodes, the number of hosts, with it");
            }
            return Ok(None);
        }
        let (nodes, count) = (nodes.unwrap_or(1), ranks_per_node.unwrap_or(devices));
        if nodes == 1 {
            if node_rank.is_some_and(|rank| rank > 0) {
                bail_user!("--node-rank: want 0, as there is one host, or more of them: --nnodes");
            }
            let launch = Launch {
                origin: Origin::Flags,
                ..Launch::on_one_host(count)
            };
            return Ok(Some(Placed {
                launch,
                endpoint: None,
                agent_store: false,
                id: None,
            }));
        }
        let Some(node_rank) = *node_rank else {
            bail_user!(
                "--nnodes: got {nodes} hosts; want --node-rank with it, 0 on the first host, which has the run directory, up to {}",
                nodes - 1
            );
        };
        if node_rank >= nodes {
            bail_user!(
                "--node-rank: got {node_rank} of {nodes} hosts, want 0 to {}",
                nodes - 1
            );
        }
        let Some(endpoint) = endpoint.clone() else {
            bail_user!(
                "--nnodes: got {nodes} hosts; want --rdzv-endpoint HOST:PORT with it, the same on all hosts: an address of \
                 the first one, and a port that is free there"
            );
        };
        let launch = Launch {
            world: nodes * count,
            rank: node_rank * count,
            origin: Origin::Flags,
            ..Launch::on_one_host(count)
        };
        Ok(Some(Placed {
            launch,
            endpoint: Some(endpoint),
            agent_store: false,
            id: None,
        }))
    }
}

/// Takes a number of hosts or processes.
fn counted() -> impl TypedValueParser<Value = usize> {
    let number = clap::value_parser!(u64).range(1..=65_536);
    number.try_map(usize::try_from)
}
