//! What the libraries of a process that computes read from its environment when they are loaded, before any code
//! of ours runs.

use super::Machine;
use crate::spec::{Precision, Spec};
use anyhow::{Error, Result};
use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A variable and its value; one that the user has set stays as it is.
pub type Variable = (&'static str, &'static str);

/// OpenMP's threads wait for work without spinning. With two processes on the same cores, or two pools of threads in
/// one, the threads that spin take the time of those that work (docs/performance.md).
const PASSIVE_WAIT: Variable = ("OMP_WAIT_POLICY", "PASSIVE");

/// glibc asks for large pages of memory where the kernel has them on request: a step's tables of points and products have
/// more small ones than the processor keeps addresses of (docs/performance.md).
const LARGE_PAGES: Variable = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// libtorch multiplies float32 matrices as TensorFloat-32
/// (<https://docs.pytorch.org/docs/stable/cuda_environment_variables.html>). Its convolutions do so by default.
const TF32: Variable = ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1");
/// NVIDIA's libraries never do, in convolutions neither
/// (<https://docs.nvidia.com/deeplearning/cudnn/backend/latest/developer/misc.html#tensor-ops-tf32>).
const NO_TF32: Variable = ("NVIDIA_TF32_OVERRIDE", "0");

/// The variables that every process which computes needs, without those which this process has to pass on.
pub fn of_every_process() -> impl Iterator<Item = Variable> {
    let wanted = [PASSIVE_WAIT, LARGE_PAGES].into_iter();
    wanted.filter(|(name, _)| !is_set(name))
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some()
}

/// The variables that a process needs that computes what `spec` says on this machine, without those that are set.
pub fn missing(spec: &Spec, machine: &Machine) -> Vec<Variable> {
    // A device that is not there is for the process itself to report.
    let on_gpu = |device: &str| matches!(machine.gpu("", device), Ok(Some(_)));
    let mut devices = spec.compute.devices.iter().chain([&spec.compute.device]);
    let evaluates = machine.evaluation_device(spec).is_ok_and(|it| it != "cpu");
    let gpu = devices.any(|device| on_gpu(device)) || evaluates;
    missing_of(spec.compute.precision, gpu, is_set)
}

/// The variables that are not set, with an NVIDIA GPU or without.
fn missing_of(precision: Precision, gpu: bool, set: impl Fn(&str) -> bool) -> Vec<Variable> {
    let rounding = match precision {
        Precision::Float32 => Some(NO_TF32),
        Precision::Tf32 | Precision::Bf16 => Some(TF32),
        Precision::Tf32Conv => None,
    };
    let wanted = [
        Some(PASSIVE_WAIT),
        Some(LARGE_PAGES),
        rounding.filter(|_| gpu),
    ];
    let wanted = wanted.into_iter().flatten();
    wanted.filter(|(name, _)| !set(name)).collect()
}

/// Make sure that the environment has what a process needs that computes what `spec` says: start this program anew, as
/// the same process, if something is missing.
///
/// # Errors
/// The program cannot be started again.
pub fn ensure(spec: &Spec, machine: &Machine) -> Result<()> {
    let missing = missing(spec, machine);
    if missing.is_empty() {
        return Ok(());
    }
    let mut words = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let error = command.args(words).envs(missing).exec();
    Err(Error::new(error).context("failed to start runboard again with its environment completed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_variables_follow_from_device_precision_and_what_is_set() {
        let nothing = |_: &str| false;
        let always = [PASSIVE_WAIT, LARGE_PAGES];
        assert_eq!(missing_of(Precision::Float32, false, nothing), always);
        for precision in [Precision::Tf32, Precision::Bf16] {
            let want = [PASSIVE_WAIT, LARGE_PAGES, TF32];
            assert_eq!(missing_of(precision, true, nothing), want);
        }
        assert_eq!(missing_of(Precision::Tf32Conv, true, nothing), always);
        let float = missing_of(Precision::Float32, true, nothing);
        assert_eq!(float, [PASSIVE_WAIT, LARGE_PAGES, NO_TF32]);
        let supervised = |name: &str| [PASSIVE_WAIT.0, LARGE_PAGES.0].contains(&name);
        assert_eq!(missing_of(Precision::Tf32, true, supervised), [TF32]);
        assert_eq!(missing_of(Precision::Tf32, false, supervised), []);
        let tunables = |name: &str| name == LARGE_PAGES.0;
        assert_eq!(missing_of(Precision::Tf32, false, tunables), [PASSIVE_WAIT]);
    }
}
