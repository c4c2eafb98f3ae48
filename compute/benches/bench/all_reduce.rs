//! The sum of a step's gradients over two processes of this host, alone.

use crate::setting::Setting;
use anyhow::{Context, Result};
use runboard::console;
use runboard::spec::{Compute, Spec};
use runboard_compute::backend;
use runboard_compute::backend::group::{Group, Hello, Meeting, Place};
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many floats the gradients of a step are.
pub fn floats(spec: &Spec) -> usize {
    let shapes = spec.network.parameter_shapes(spec.input.crop);
    let sizes = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>());
    sizes.sum()
}

/// Sum for ever. The first process starts the second, which is told the store where they meet.
pub fn work(setting: &Setting, store: Option<PathBuf>) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(3600);
    backend::prepare(&Compute::default(), 1)?;
    let directory = tempfile::tempdir()?;
    let rank = usize::from(store.is_some());
    let store = match store {
        Some(store) => store,
        None => {
            let store = directory.path().join("store");
            let mut second =
                Command::new(env::current_exe().context("failed to find the benchmark")?);
            second
                .args(env::args_os().skip(1))
                .arg("--store")
                .arg(&store);
            second.stdout(Stdio::null()).spawn()?; // it ends with the group
            store
        }
    };
    let mut group = Group::connect(Meeting {
        place: Place::File(store),
        rank,
        world: 2,
        join_timeout: LIMIT,
        timeout: LIMIT,
        hello: Hello::default(),
        lost: None,
        fewer: None,
        starter: None,
    })?;
    let mut values = vec![0.0; floats(&setting.spec)];
    for step in 0u64.. {
        values = group.all_reduce(values)?;
        if step.is_multiple_of(10) {
            console::timed(format_args!("step {step}, a sum"));
        }
    }
    Ok(())
}
