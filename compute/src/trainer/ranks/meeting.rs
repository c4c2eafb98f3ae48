//! How the ranks of a run meet, and what they compare.

use crate::backend;
use crate::backend::group::{Apart, Fewer, Group, Hello, Lost, Meeting, Place};
use crate::model::Network;
use anyhow::{Result, bail};
use nix::unistd::getppid;
use runboard::bail_user;
use runboard::compute::BUILD;
use runboard::console;
use runboard::launch::Launch;
use runboard::run::{self, RunDir};
use runboard::spec::{ProcessGroup, Spec};
use std::path::Path;
use std::time::Duration;
use sysinfo::System;

/// How long a rank of this host may take to read the images before it meets the others. One that dies meanwhile is
/// noticed at once.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// How long the other ranks of one host wait for rank 0, which may be paused with them: it ends them when it ends, however
/// that happens, and it is the one that notices a rank which is lost.
const PATIENCE: Duration = Duration::from_secs(30 * 86_400);

/// Meet the other ranks. On rank 0 `lost` says whether one of them cannot come any more, and `fewer` how it begins without.
pub fn connect(
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

/// Let the ranks' GPUs sum the gradients, if the spec wants that, or leaves it open: then not where it asks for the same bits each
/// time, which NCCL does not promise.
///
/// # Errors
/// That it wants what cannot be, or fails; a rank that is lost.
pub fn meet_on_gpus(group: &mut Group, spec: &Spec, network: &Network) -> Result<()> {
    let wanted = spec.compute.process_group;
    let wants_same_bits = wanted == ProcessGroup::Auto && spec.compute.deterministic;
    if wanted == ProcessGroup::Gloo || wants_same_bits {
        return Ok(());
    }
    let device = backend::device_of(network)?;
    let Err(apart) = group.meet_on_gpus(device)? else {
        return Ok(());
    };
    if wanted == ProcessGroup::Nccl {
        // Nobody leaves before all know why.
        group.barrier()?;
    }
    let why = match (apart, wanted) {
        (Apart::Unfit(why), ProcessGroup::Nccl) => {
            bail_user!("compute.process_group: got nccl, want auto or gloo: {why}")
        }
        (Apart::Failed(why), ProcessGroup::Nccl) => bail!("the GPUs have not met: {why}"),
        (Apart::Unfit(_), _) if !device.is_cuda() => return Ok(()),
        (Apart::Unfit(why) | Apart::Failed(why), _) => why,
    };
    if group.rank() == 0 {
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
pub fn timeout(spec: &Spec, launch: &Launch) -> Duration {
    match launch.rendezvous {
        None if !launch.leads() => PATIENCE,
        _ => Duration::from_secs(spec.compute.timeout_secs),
    }
}
