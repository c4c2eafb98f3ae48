//! How the ranks of a run meet, and what they compare.

use crate::backend;
use crate::backend::group::{Apart, Fewer, Group, Hello, Lost, Meeting, Place};
use crate::model::Network;
use anyhow::{Result, bail};
use nix::unistd::getppid;
use runboard::bail_user;
use runboard::compute::BUILD;
use runboard::console;
use runboard::launch::{Launch, Rendezvous};
use runboard::run::{self, RunDir};
use runboard::spec::{DeviceName, OptimizerName, ProcessGroup, Spec};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{mem, thread};
use sysinfo::System;

/// How long a rank of this host may take to read the images before it meets the others. One that dies meanwhile is
/// noticed at once.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// Between two tries to listen.
const AGAIN: Duration = Duration::from_secs(1);

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
            let listener = listen(run, rendezvous, lost.as_ref())?;
            console::timed(format_args!(
                "rank 0 waits for the other {} at {}, for {} s at most",
                launch.world - 1,
                match rendezvous.agent_store {
                    true => listener.local_addr()?.to_string(),
                    false => rendezvous.endpoint.to_string(),
                },
                fewer.map_or(rendezvous.timeout_secs, |fewer| {
                    fewer.wait.as_secs().min(rendezvous.timeout_secs)
                })
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
        hello: hello(run, spec, launch)?,
        lost,
        fewer,
        starter: Some(format!("{host} {}", getppid())),
    })
}

/// Listen as rank 0. A trainer that is started again may find that the host has lost its address, or that its name is not to be looked up:
/// the network may have been what has ended the one before, and comes back.
fn listen(run: &RunDir, rendezvous: &Rendezvous, lost: Option<&Lost>) -> Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(rendezvous.timeout_secs);
    let mut is_told = false;
    loop {
        let error = match rendezvous.listen() {
            Err(error) if run::is_started_again(run) => error,
            listening => return listening,
        };
        if let Some(why) = lost.and_then(|lost| lost()) {
            bail!(why);
        }
        if Instant::now() >= deadline {
            // No longer a mistake of who started it.
            bail!("{error:#}");
        }
        if !mem::replace(&mut is_told, true) {
            console::warning(format_args!(
                "{error:#}; it was so before: waiting for {} s at most until it is again",
                rendezvous.timeout_secs
            ));
        }
        thread::sleep(AGAIN);
    }
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
fn hello(run: &RunDir, spec: &Spec, launch: &Launch) -> Result<Hello> {
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
    // Each rank makes the update for itself, to the same bits: what it sums for that has another order on a GPU.
    if spec.optimizer.name == OptimizerName::Muon || spec.optimizer.clip_norm > 0.0 {
        let (_, name) = backend::training_device(&spec.compute, launch)?;
        let kind = if DeviceName::is_gpu(&name) {
            "GPU"
        } else {
            "CPU"
        };
        hello.push(("device".to_owned(), kind.to_owned()));
    }
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
