//! The variables that `srun` sets for each task of a job's step (<https://slurm.schedmd.com/srun.html>, "OUTPUT ENVIRONMENT
//! VARIABLES"). All tasks of a step are the ranks of one run.

use super::{Endpoint, Launch, Origin, Placed, Variables};
use crate::user_error;
use anyhow::Result;
use std::iter;

/// Jobs of these names are somebody's shell, who starts one process in it.
const SHELLS: [&str; 2] = ["bash", "interactive"];

/// Ports of steps: below those that the system gives to whoever asks for any.
const FIRST_PORT: u64 = 12_000;
const PORTS: u64 = 20_000;

/// The launch of a task: one rank. `None` outside of a step with several tasks.
pub(super) fn launch(variables: &Variables) -> Result<Option<Placed>> {
    let name = variables.get("SLURM_JOB_NAME").unwrap_or_default();
    let Some(step) = variables.get("SLURM_STEP_ID") else {
        return Ok(None); // the batch script itself, or a shell of `salloc`
    };
    let world: Option<usize> = match variables.number("SLURM_STEP_NUM_TASKS")? {
        None => variables.number("SLURM_NTASKS")?,
        tasks => tasks,
    };
    let world = world.unwrap_or(1);
    if world <= 1 || SHELLS.contains(&&*name) {
        return Ok(None);
    }
    let needed = |name: &str| -> Result<usize> {
        let missing = || user_error!("{name} is not set, though SLURM_STEP_ID is; want both");
        variables.number(name)?.ok_or_else(missing)
    };
    let (rank, local_rank) = (needed("SLURM_PROCID")?, needed("SLURM_LOCALID")?);
    let list = variables
        .get("SLURM_STEP_NODELIST")
        .or_else(|| variables.get("SLURM_JOB_NODELIST"))
        .unwrap_or_default();
    let node: usize = variables.number("SLURM_NODEID")?.unwrap_or(0);
    let tasks = variables
        .get("SLURM_STEP_TASKS_PER_NODE")
        .or_else(|| variables.get("SLURM_TASKS_PER_NODE"))
        .unwrap_or_default();
    let counts = tasks_per_node(&tasks);
    let local_world = match counts.get(node) {
        Some(&count) if count > local_rank && count <= world => count,
        _ => local_rank.saturating_add(1),
    };
    let cores = match variables.number("SLURM_CPUS_PER_TASK")? {
        None => {
            let of_node: Option<usize> = variables.number("SLURM_CPUS_ON_NODE")?;
            of_node.map(|cores| (cores / local_world).max(1))
        }
        cores => cores,
    };
    let job = variables.get("SLURM_JOB_ID").unwrap_or_default();
    let (address, port) = variables.master()?;
    let host = match address {
        Some(host) => host,
        // One node needs no network.
        _ if local_world == world => "127.0.0.1".to_owned(),
        _ => first_host(&list).ok_or_else(|| {
            user_error!(
                "SLURM_STEP_NODELIST: got {list:?}, want a list of hosts, such as node[1-4]; or set MASTER_ADDR to the \
                 host of task 0"
            )
        })?,
    };
    let port = match port {
        Some(port) => port,
        None => port_of(&job, &step),
    };
    let launch = Launch {
        world,
        rank,
        count: 1,
        local_rank,
        local_world,
        cores,
        rendezvous: None,
        origin: Origin::Slurm,
    };
    Ok(Some(Placed {
        launch,
        endpoint: Some(Endpoint { host, port }),
        agent_store: false,
        id: Some(format!("slurm job {job}, step {step}")),
    }))
}

/// The port of a step's ranks: all come to the same one, and two steps on one host hardly ever do.
fn port_of(job: &str, step: &str) -> u16 {
    let number = |text: &str| text.parse().unwrap_or(0_u64);
    // A job has few steps: they follow one another, and jobs are far apart.
    let place = number(job).wrapping_mul(61).wrapping_add(number(step));
    u16::try_from(FIRST_PORT + place % PORTS).unwrap_or(29_500)
}

/// The first host of a list such as `node[03-07,11],other`, as `scontrol show hostnames` has it.
pub(super) fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list;
    while let Some(end) = rest.find(['[', ',']) {
        host.push_str(&rest[..end]);
        if rest[end..].starts_with(',') {
            rest = "";
            break;
        }
        let (numbers, after) = rest[end + 1..].split_once(']')?;
        host.push_str(numbers.split(['-', ',']).next()?);
        rest = after;
    }
    host.push_str(rest);
    (!host.is_empty()).then_some(host)
}

/// The tasks of each node of a list such as `2(x3),1`.
pub(super) fn tasks_per_node(list: &str) -> Vec<usize> {
    let counts = list.split(',').filter_map(|part| {
        let (count, times) = match part.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (part, 1_usize),
        };
        let count: usize = count.trim().parse().ok()?;
        Some(iter::repeat_n(count, times.min(1 << 16)))
    });
    counts.flatten().collect()
}
