//! The same network in somebody else's program, to be timed beside runboard.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Somebody else's training of the same network: a script in benches/reference.
#[derive(Clone, Debug)]
pub struct Reference {
    /// What it is called in tables.
    pub name: &'static str,
    /// The python that has what it needs.
    pub python: PathBuf,
    /// The script's file.
    pub script: &'static str,
    /// What it is told.
    pub arguments: Vec<String>,
    /// Whether it also tells how long a forward pass over the test images takes.
    pub evaluates: bool,
}

impl Reference {
    /// The script of this directory on the images in `data`, until it is stopped.
    pub fn command(
        &self,
        scripts: &Path,
        data: &Path,
        batch_size: usize,
        threads: usize,
    ) -> Command {
        let mut command = Command::new(&self.python);
        command
            .arg(scripts.join(self.script))
            .arg("--data")
            .arg(data)
            .args(["--batch-size", &batch_size.to_string()])
            .args(["--threads", &threads.to_string()])
            .args(&self.arguments);
        command
    }
}

/// PyTorch in all its ways on this device: eager and compiled, on a GPU as a CUDA graph and in bfloat16, too.
pub fn pytorch(python: &Path, device: &str) -> Vec<Reference> {
    const BEST: &str = "--lrn band --channels-last";
    let torch = |name, arguments: &str, evaluates| {
        let arguments = format!("--device {device} {arguments}");
        Reference {
            name,
            python: python.to_owned(),
            script: "torch_cifar10.py",
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            evaluates,
        }
    };
    let mut all = vec![
        torch("pytorch-eager", "--mode eager", true),
        torch("pytorch-best", &format!("--mode eager {BEST}"), true),
    ];
    // What takes minutes to compile comes last: where time is short it is left out.
    let compile = format!("--mode compile {BEST}");
    if device == "cpu" {
        all.push(torch("pytorch-compile", &compile, false));
    } else {
        let (graph, amp) = (format!("--mode graph {BEST}"), "--amp");
        all.push(torch("pytorch-graph", &graph, false));
        let graph = format!("{graph} {amp}");
        all.push(torch("pytorch-graph-bf16", &graph, false));
        all.push(torch("pytorch-compile", &compile, false));
        let compile = format!("{compile} {amp}");
        all.push(torch("pytorch-compile-bf16", &compile, false));
    }
    all
}

/// The recipe of the experiment `fast` in PyTorch on this device.
pub fn pytorch_fast(python: &Path, device: &str) -> Reference {
    let arguments = ["--device", device, "--steps", "1000000000"];
    Reference {
        name: "pytorch-fast",
        python: python.to_owned(),
        script: "torch_fast.py",
        arguments: arguments.map(str::to_owned).to_vec(),
        evaluates: false,
    }
}
