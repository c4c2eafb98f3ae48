//! `runboard export`: a run's network as files that PyTorch reads.
//!
//! The weights are PyTorch's own names and layouts, so that the Python file beside them, which is the same for every network,
//! only has to load them; `network.json` says which network it is.

use super::form::print_json;
use super::network::statistics;
use super::which::{CheckpointArg, Chosen};
use super::{BestRunArg, path};
use crate::checkpoint::{self, Checkpoint, CheckpointState, NamedTensor, safetensors};
use crate::data::{ChannelStatistics, SIDE, views};
use crate::overview::bytes;
use crate::run::{self, Evaluation, Journal, RunDir, commands, data as run_data};
use crate::spec::{LAYERS, Precision, Spec};
use crate::{bail_user, console, files};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

/// Version of `network.json`.
const VERSION: u32 = 1;

/// The files of an export.
const WEIGHTS: &str = "weights.safetensors";
const NETWORK: &str = "network.json";
const PYTHON: &str = "network.py";

/// Rebuilds the network in PyTorch.
const PYTHON_TEXT: &str = include_str!("network.py");

/// What to export, and where.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    run: BestRunArg,
    #[command(flatten)]
    checkpoint: CheckpointArg,
    /// Directory to make; there must be none yet [default: NAME-TIMESTAMP-step-N]
    #[arg(long, short, value_name = "DIR", value_parser = path())]
    output: Option<PathBuf>,
    /// Say nothing
    #[arg(long, short)]
    quiet: bool,
    /// Write JSON, whose names docs/json.md explains
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// Writes the averaged weights of a checkpoint, what the network is and sees, and the Python file.
pub fn export(arguments: &Arguments) -> Result<i32> {
    let run = arguments.run.find()?;
    let spec = run::read_spec(&run)?;
    let chosen = arguments.checkpoint.find(&run)?;
    let (id, step) = (run.id(), chosen.entry.step);
    let default = || PathBuf::from(format!("{}-step-{step}", id.replace('/', "-")));
    let directory = arguments.output.clone().unwrap_or_else(default);
    check_is_free(&directory)?;
    let Checkpoint { state, tensors } = chosen.load(&run)?;
    let Chosen { entry, reason } = chosen;
    let group = checkpoint::averaged(&tensors);
    let weights = of_pytorch(checkpoint::group(&tensors, group)?, &spec)
        .with_context(|| format!("failed to export {}", entry.path.display()))?;
    let network = network(&run, &spec, &state, group)?;
    let network = format!("{}\n", serde_json::to_string_pretty(&network)?);
    let weights = safetensors(&weights)?;
    let contents: [(&str, &[u8]); 3] = [
        (WEIGHTS, &weights),
        (NETWORK, network.as_bytes()),
        (PYTHON, PYTHON_TEXT.as_bytes()),
    ];
    files::create_dir_of(&directory, &contents)?;
    if arguments.json {
        let all = json!({
            "run": id,
            "step": step,
            "folder": directory.display().to_string(),
            "files": contents.map(|(name, _)| name),
        });
        print_json(&all)?;
    } else if !arguments.quiet {
        let shown = directory.display();
        console::output(format_args!(
            "exported {id} at step {step}{reason}, to {shown}\n  \
             {WEIGHTS}  {}\n  \
             {NETWORK}         labels, input and layers\n  \
             {PYTHON}           PyTorch's network of them: python {shown}/{PYTHON} IMAGE",
            bytes(weights.len() as u64)
        ))?;
    }
    if !arguments.quiet && spec.compute.precision == Precision::Bf16 {
        console::stderr_line(
            "the run computes in bf16 (compute.precision), network.py in float32: predictions differ by its rounding",
        );
    }
    Ok(0)
}

/// Makes sure that the directory can be made.
fn check_is_free(directory: &Path) -> Result<()> {
    if directory.as_os_str().is_empty() {
        bail_user!("-o: got nothing, want a directory to make");
    }
    if directory.symlink_metadata().is_ok() {
        bail_user!(
            "{} is there already; want another place: -o DIR",
            directory.display()
        );
    }
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => bail_user!(
            "-o {}: there is no directory {}",
            directory.display(),
            parent.display()
        ),
        _ => Ok(()),
    }
}

/// The network's parameters as PyTorch's layers have them: `conv1.weight` [out, in, row, column] as it is, `local3.weight` [out,
/// in]. The first dense layer's inputs run over row, column, channel here, over channel, row, column there.
fn of_pytorch(tensors: &[NamedTensor], spec: &Spec) -> Result<Vec<NamedTensor>> {
    let [_, side] = spec.network.pooled_sides(spec.input.crop);
    let channels = spec.network.conv2.channels;
    let shapes = spec.network.parameter_shapes(spec.input.crop).into_iter();
    let export = |(name, shape): (String, Vec<usize>)| {
        let tensor = tensors.iter().find(|it| it.name == name);
        let tensor = tensor.filter(|it| it.shape == shape);
        let tensor = tensor.with_context(|| format!("no parameter {name} of shape {shape:?}"))?;
        let (layer, kind) = name.split_once('/').unwrap_or((&name, ""));
        let kind = match kind {
            "weights" => "weight",
            _ => "bias",
        };
        let (shape, values) = match shape[..] {
            [inputs, outputs] => {
                // The input here that is input `at` there.
                let place = |at: usize| match layer == LAYERS[2] {
                    true => at % (side * side) * channels + at / (side * side),
                    false => at,
                };
                let values = (0..outputs).flat_map(|output| {
                    (0..inputs).map(move |at| tensor.values[place(at) * outputs + output])
                });
                (vec![outputs, inputs], values.collect())
            }
            _ => (shape, tensor.values.clone()),
        };
        Ok(NamedTensor {
            name: format!("{layer}.{kind}"),
            shape,
            values,
        })
    };
    shapes.map(export).collect()
}

/// What the network is, what it sees and what its outputs mean.
fn network(run: &RunDir, spec: &Spec, state: &CheckpointState, group: &str) -> Result<Json> {
    let evaluations = Journal::read(&run.evaluations())?;
    let scored = evaluations.iter().rfind(|it| it.step == state.step);
    let score = scored.and_then(Evaluation::score);
    let statistics = statistics(run, spec, state, commands::resume_with_data)?;
    let statistic = |of: fn(&ChannelStatistics) -> [f64; 3]| statistics.as_ref().map(of);
    let views = views(spec.eval.tta, &spec.input).into_iter();
    let views = views.map(|view| {
        let crop = view.augmentation;
        json!({ "top": crop.top, "left": crop.left, "mirror": crop.mirror, "weight": view.weight })
    });
    let network = &spec.network;
    Ok(json!({
        "version": VERSION,
        "runboard": env!("CARGO_PKG_VERSION"),
        "run": run.id(),
        "step": state.step,
        "weights": group,
        "accuracy": score.map(|score| score.accuracy),
        "labels": run_data::classes(run, &spec.data)?,
        "input": {
            "side": SIDE,
            "crop": spec.input.crop,
            "normalize": spec.input.normalize,
            "mean": statistic(|it| it.mean),
            "deviation": statistic(|it| it.deviation),
            "tta": spec.eval.tta,
            "views": views.collect::<Vec<_>>(),
        },
        "network": {
            "conv1": { "channels": network.conv1.channels, "kernel": network.conv1.kernel },
            "conv2": { "channels": network.conv2.channels, "kernel": network.conv2.kernel },
            "pool": network.pool,
            "norm": network.norm,
            "local3": { "units": network.local3.units },
            "local4": { "units": network.local4.units },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_dense_layers_are_transposed_and_the_first_ones_inputs_by_channel() {
        let mut spec = Spec::default();
        spec.input.crop = 8; // 2 x 2 after two poolings
        spec.network.conv2.channels = 3;
        (spec.network.local3.units, spec.network.local4.units) = (2, 4);
        let shapes = spec.network.parameter_shapes(8).into_iter();
        let tensors: Vec<NamedTensor> = shapes
            .map(|(name, shape)| NamedTensor {
                values: (0..shape.iter().product())
                    .map(|at: usize| at as f32)
                    .collect(),
                name,
                shape,
            })
            .collect();
        let exported = of_pytorch(&tensors, &spec).unwrap();
        let named = |name: &str| exported.iter().find(|it| it.name == name).unwrap();
        assert_eq!(exported.len(), 10);
        assert_eq!(named("conv1.weight").values, tensors[0].values);
        let local3 = named("local3.weight");
        assert_eq!(local3.shape, [2, 12]);
        // Of the second output: row 0, column 0, channel 0; then column 1 of the same channel; then channel 1.
        let place =
            |row: usize, column: usize, channel: usize| ((2 * row + column) * 3 + channel) * 2 + 1;
        let second = &local3.values[12..];
        assert_eq!(second[0], place(0, 0, 0) as f32);
        assert_eq!(second[1], place(0, 1, 0) as f32);
        assert_eq!(second[2], place(1, 0, 0) as f32);
        assert_eq!(second[4], place(0, 0, 1) as f32);
        assert_eq!(named("local4.weight").shape, [4, 2]);
        assert_eq!(
            named("local4.weight").values,
            [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]
        );
        assert_eq!(named("softmax_linear.bias").shape, [10]);
        let error = of_pytorch(&tensors[1..], &spec).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no parameter conv1/weights of shape [64, 3, 5, 5]"
        );
    }
}
