//! libtorch, driver and GPUs, and whether the device computes what it should.

use super::finding::Finding;
use crate::compute::{
    Comparison, Driver, Examination, Gpu, GpuLibraries, Machine, RoundTrip, goldens,
    libtorch_version, remedy, worst,
};
use crate::hint;
use crate::overview::bytes;
use crate::spec::Precision;
use anyhow::Result;
use serde_json::json;
use std::env;
use std::fs;
use std::path::Path;

/// Share of a GPU's memory that nobody minds: a desktop's.
const BUSY: f64 = 0.1;

/// GPUs before Ampere have neither TensorFloat-32 nor bfloat16
/// (<https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities>).
const AMPERE: (u32, u32) = (8, 0);

/// PCI's number of the maker of GPUs, and the class of displays and of those without a screen
/// (<https://pcisig.com/membership/member-companies>, <https://pci-ids.ucw.cz/read/PD/03>).
const NVIDIA: &str = "0x10de";
const DISPLAY: &str = "0x03";

/// Where NVIDIA's kernel module tells its version.
const KERNEL_MODULE: &str = "/proc/driver/nvidia/version";

/// What was asked for, as a spec's `compute.device`.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub device: &'a str,
    /// Whether there is an NVIDIA GPU on the machine's bus.
    pub on_bus: bool,
}

impl Asked<'_> {
    /// Whether a GPU that does not work is why runs do not.
    fn wants_gpu(self) -> bool {
        self.device.starts_with("cuda")
    }
}

/// Whether there is an NVIDIA GPU on the machine's bus, with a driver or without.
pub fn gpu_on_bus() -> bool {
    let devices = fs::read_dir("/sys/bus/pci/devices")
        .into_iter()
        .flatten()
        .flatten();
    let mut devices = devices.map(|device| device.path());
    let begins = |path: &Path, file: &str, with: &str| {
        fs::read_to_string(path.join(file)).is_ok_and(|text| text.starts_with(with))
    };
    devices.any(|path| begins(&path, "vendor", NVIDIA) && begins(&path, "class", DISPLAY))
}

/// What is to be said of a program that does not answer: its error, and what that says is wanted.
pub fn failed(name: &str, error: &anyhow::Error) -> Finding {
    let said = format!("{error:#}");
    let (found, advice) = match said.split_once("; want ") {
        Some((found, wanted)) => (found, format!("want {wanted}")),
        None => (
            said.as_str(),
            format!(
                "install that libtorch anew, or the program: {}; what the loader misses is a library of libtorch's or of the system's",
                remedy()
            ),
        ),
    };
    Finding::good(name, found).fails_if(true, advice)
}

/// Where the program does not answer: why, and what the kernel says of the driver.
pub fn without_program(asked: Asked, error: &anyhow::Error) -> Vec<Finding> {
    let text = fs::read_to_string(KERNEL_MODULE);
    let driver = match text.ok().as_deref().and_then(module_version) {
        Some(version) => Ok(Driver {
            version,
            cuda: None,
        }),
        None => Err("its kernel module is not loaded".to_owned()),
    };
    vec![
        failed("libtorch", error),
        self::driver(asked, &driver, None),
    ]
}

/// The version in the kernel's words on NVIDIA's module, such as `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64
/// 580.95.05  Release Build ...`: the first word of numbers and points.
fn module_version(text: &str) -> Option<String> {
    let is_number = |it: &str| it.parse::<u32>().is_ok();
    let mut words = text.lines().next()?.split_whitespace();
    let version = words.find(|word| word.contains('.') && word.split('.').all(is_number));
    version.map(str::to_owned)
}

/// Of what the program has found.
pub fn findings(asked: Asked, examined: &Examination) -> Vec<Finding> {
    let mut findings = vec![
        libtorch(examined),
        driver(asked, &examined.driver, examined.libraries.as_ref()),
    ];
    findings.extend(
        examined
            .gpus
            .iter()
            .enumerate()
            .map(|(index, it)| gpu(index, it)),
    );
    findings.push(device(asked, examined));
    findings.push(precision(asked, examined));
    findings.push(nccl(examined));
    findings.extend(examined.checkpoint.as_ref().map(checkpoint));
    findings
}

fn libtorch(examined: &Examination) -> Finding {
    let directory = examined.libtorch.as_deref();
    let version = directory.and_then(Path::parent).and_then(libtorch_version);
    let built = &examined.machine.libtorch;
    let shown = version.as_ref().unwrap_or(built);
    let kind = match (&examined.libraries, &examined.machine.cuda_failure) {
        (Some(libraries), _) => format!(
            "with CUDA {} and cuDNN {}",
            libraries.cuda.as_deref().unwrap_or("of an unknown version"),
            libraries
                .cudnn
                .as_deref()
                .unwrap_or("of an unknown version")
        ),
        (None, Some(failure)) => format!("whose part for GPUs cannot be loaded: {failure}"),
        (None, None) => "for the CPU".to_owned(),
    };
    let place = directory.map_or_else(String::new, |it| format!(", in {}", it.display()));
    Finding::good("libtorch", format!("{shown} {kind}{place}"))
        .with(json!({
            "version": shown,
            "built_for": built,
            "directory": directory.map(Path::to_string_lossy),
            "cuda": examined.libraries.as_ref().map(|it| &it.cuda),
            "cudnn": examined.libraries.as_ref().map(|it| &it.cudnn),
        }))
        .note_if(
            examined.machine.cuda_failure.is_some(),
            "NVIDIA's libraries are missing where libtorch looks for them, beside it as pip installs them: install torch anew",
        )
}

fn driver(
    asked: Asked,
    driver: &Result<Driver, String>,
    libraries: Option<&GpuLibraries>,
) -> Finding {
    const NAME: &str = "driver";
    match driver {
        Ok(driver) => {
            let serves = driver.cuda.as_deref();
            let wanted = libraries.and_then(|libraries| libraries.cuda.as_deref());
            let shown = serves.map_or_else(String::new, |cuda| format!(", for CUDA up to {cuda}"));
            let too_old = matches!((major(serves), major(wanted)), (Some(serves), Some(wanted)) if serves < wanted);
            Finding::good(NAME, format!("NVIDIA's {}{shown}", driver.version))
                .with(json!({"version": driver.version, "cuda": serves}))
                .fails_if(
                    too_old && asked.device != "cpu",
                    format!(
                        "libtorch's CUDA is {}: install a newer driver, or the torch 2.11 of a CUDA that this one serves",
                        wanted.unwrap_or_default()
                    ),
                )
        }
        Err(error) if asked.on_bus => Finding::good(NAME, format!("none that answers, but an NVIDIA GPU: {error}"))
            .fails_if(
                asked.device != "cpu",
                "install NVIDIA's driver, or load it (`nvidia-smi` tells of it); start a container with `--gpus all`",
            )
            .note_if(true, "nothing to do for the CPU"),
        Err(_) => Finding::good(NAME, "none, and no NVIDIA GPU is seen").fails_if(
            asked.wants_gpu(),
            "want an NVIDIA GPU and its driver; start a container with `--gpus all`; or take `--device cpu`",
        ),
    }
}

fn major(version: Option<&str>) -> Option<u32> {
    version?.split('.').next()?.parse().ok()
}

fn gpu(index: usize, gpu: &Gpu) -> Finding {
    let mut found = gpu.name.clone();
    if let (Some(memory), Some(used)) = (gpu.memory, gpu.memory_used) {
        found += &format!(", {}, of which {} are in use", bytes(memory), bytes(used));
    }
    if let Some((major, minor)) = gpu.compute_capability {
        found += &format!(", compute capability {major}.{minor}");
    }
    let share = match (gpu.memory, gpu.memory_used) {
        (Some(memory), Some(used)) => used as f64 / memory.max(1) as f64,
        _ => 0.0,
    };
    Finding::good(format!("GPU {index}"), found)
        .with(json!(gpu))
        .note_if(gpu.memory.is_none(), "`nvidia-smi` and the kernel's log (`dmesg | grep -i xid`) tell what is wrong with it")
        .note_if(
            share > BUSY || gpu.processes.is_some_and(|it| it > 0),
            "others compute on it, `nvidia-smi` tells who; choose another one by compute.device, or times are useless",
        )
}

/// What a run would compute on.
fn device(asked: Asked, examined: &Examination) -> Finding {
    let machine = &examined.machine;
    let chosen = machine.device("--device", asked.device);
    let (gpus, known) = (machine.gpus, examined.gpus.len());
    let shown = match &chosen {
        Ok(device) => device.clone(),
        Err(error) => error.to_string(),
    };
    let unused = asked.device != "cpu" && gpus < known;
    let values = json!({"device": chosen.as_ref().ok(), "gpus": gpus});
    Finding::good("device", shown)
        .with(values)
        .fails_if(
            chosen.is_err() || (unused && gpus == 0),
            blind(machine, examined),
        )
        .note_if(
            unused,
            format!(
                "libtorch sees {gpus} of {known} GPUs: {}",
                blind(machine, examined)
            ),
        )
}

/// Why libtorch may see fewer GPUs than there are.
fn blind(machine: &Machine, examined: &Examination) -> String {
    let visible = env::var("CUDA_VISIBLE_DEVICES").ok();
    match (&machine.cuda_failure, &examined.libraries, visible) {
        (Some(_), ..) => "see libtorch above".to_owned(),
        (None, None, _) => format!(
            "libtorch is one for the CPU: {}",
            hint::hint(
                "setup TORCH=cuda",
                "pip install torch==2.11.0, or LIBTORCH set to one with CUDA"
            )
        ),
        (None, Some(_), Some(visible)) => {
            format!("CUDA_VISIBLE_DEVICES is {visible:?}: unset it, or name another device")
        }
        (None, Some(_), None) => "see the driver above, or name another device".to_owned(),
    }
}

/// What factors of products can be rounded to for speed.
fn precision(asked: Asked, examined: &Examination) -> Finding {
    const NAME: &str = "TF32, bf16";
    let on_gpu = matches!(examined.machine.gpu("", asked.device), Ok(Some(_)));
    if !on_gpu {
        return Finding::good(
            NAME,
            "for GPUs; on the CPU tf32, the default, is float32, and bf16 is slower than it",
        )
        .with(json!({"tf32": false, "bf16": false}));
    }
    let known = examined
        .gpu(asked.device)
        .and_then(|gpu| gpu.compute_capability);
    let Some(capability) = known else {
        return Finding::good(
            NAME,
            "not known: the driver does not tell the GPU's compute capability",
        );
    };
    let has = capability >= AMPERE;
    let found = if has {
        "the GPU has both"
    } else {
        "the GPU has neither"
    };
    Finding::good(NAME, found)
        .with(json!({"tf32": has, "bf16": has}))
        .note_if(
            !has,
            "compute.precision: tf32, the default, is float32 there; leave bf16",
        )
}

/// By what the gradients of several GPUs are summed.
fn nccl(examined: &Examination) -> Finding {
    let libraries = examined.libraries.as_ref();
    let version = libraries.and_then(|libraries| libraries.nccl.as_deref());
    let shown = version.unwrap_or("of an unknown version");
    let found = match &examined.nccl {
        None => "for GPUs; the gradients of several CPUs are summed by Gloo".to_owned(),
        Some(Ok(())) => format!("{shown}, begins"),
        Some(Err(error)) => format!("{shown}: {error}"),
    };
    let begins = examined.nccl.as_ref().map(Result::is_ok);
    Finding::good("NCCL", found)
        .with(json!({"version": version, "begins": begins}))
        .note_if(
            begins == Some(false),
            "several GPUs sum their gradients by Gloo then, through the host's memory; NCCL_DEBUG=INFO in the environment of a run tells more",
        )
}

fn checkpoint(tried: &Result<RoundTrip, String>) -> Finding {
    const NAME: &str = "checkpoint";
    match tried {
        Err(error) => Finding::good(NAME, error.clone()).fails_if(
            true,
            "a step of training, or writing and reading its checkpoint, fails: what is found above tells why, or the error's own words",
        ),
        Ok(trip) => Finding::good(
            NAME,
            format!(
                "a step's {} written in {:.2} s, verified and read in {:.2} s{}",
                bytes(trip.bytes),
                trip.write_seconds,
                trip.read_seconds,
                if trip.same { ", the same bits" } else { ", with other bits" }
            ),
        )
        .with(json!(trip))
        .fails_if(
            !trip.same,
            "the disk, the memory or the GPU is faulty: test them before you train here, and try `--device cpu`",
        ),
    }
}

/// Compares what the device computes with golden values, in each of its precisions.
pub fn self_tests(asked: Asked, examined: &Examination) -> impl Iterator<Item = Finding> {
    let precisions: &[_] = match examined.machine.gpu("", asked.device) {
        Err(_) => &[], // `device` fails
        Ok(None) => &[Precision::Float32],
        Ok(Some(_)) => &[Precision::Float32, Precision::Tf32, Precision::Bf16],
    };
    let answers = goldens(asked.device, precisions);
    precisions.iter().zip(answers).map(|(&precision, answer)| {
        let name = format!("self-test {}", precision.name());
        match answer {
            Err(error) => failed(&name, &error),
            Ok(comparisons) => compared(name, precision, &comparisons),
        }
    })
}

fn compared(name: String, precision: Precision, comparisons: &[Comparison]) -> Finding {
    let Some(worst) = worst(comparisons) else {
        return Finding::good(name, "nothing was compared").fails_if(true, "build runboard anew");
    };
    let failing = comparisons.iter().filter(|it| !it.passed).count();
    let deviation = match worst.deviation {
        Some(deviation) => format!("{deviation:.1e}"),
        None => "no finite number".to_owned(),
    };
    let found = format!(
        "{} of {} tensors and losses of layers, gradients and updates are TensorFlow's and PyTorch's; the worst, {}, deviates by \
         {deviation} of {:.1e} allowed",
        comparisons.len() - failing,
        comparisons.len(),
        worst.name,
        worst.tolerance
    );
    Finding::good(name, found)
        .with(json!({
            "compared": comparisons.len(),
            "failing": failing,
            "worst": worst.name,
            "deviation": worst.deviation,
            "tolerance": worst.tolerance,
        }))
        .fails_if(
            failing > 0,
            format!(
                "do not train here with compute.precision: {}; driver, libtorch or GPU is faulty: compare with `--device cpu`, update the \
                 driver, and look for Xid in the kernel's log (`dmesg | grep -i xid`)",
                precision.name()
            ),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_the_kernel_module_is_found_in_its_words() {
        for (text, want) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 12.2.0\n",
                Some("550.54.15"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@host)\n",
                Some("580.95.05"),
            ),
            ("", None),
            ("NVRM version: none\nGCC version: 12.2.0\n", None),
        ] {
            assert_eq!(module_version(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn driver_is_told_where_the_program_does_not_answer() {
        let asked = Asked {
            device: "auto",
            on_bus: false,
        };
        let error = anyhow::anyhow!("no libtorch; want one");
        let findings = without_program(asked, &error);
        let names: Vec<_> = findings.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["libtorch", "driver"]);
        assert_eq!(findings[0].advice.as_deref(), Some("want one"));
    }
}
