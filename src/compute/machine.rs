//! What the program sees of this machine, and what it was built with.

use super::program::{self, Asked};
use crate::launch::Launch;
use crate::run::Software;
use crate::spec::{Compute, DeviceName, Spec};
use crate::{bail_user, hint};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// What the program says of itself and of this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// burn's version.
    pub burn: String,
    /// libtorch's version.
    pub libtorch: String,
    /// The processor's extensions that the program was built for, by Rust's names.
    pub target_features: Vec<String>,
    /// The number of GPUs that libtorch sees.
    pub gpus: usize,
    /// Why libtorch's part for NVIDIA's GPUs, which is there, cannot be loaded.
    pub cuda_failure: Option<String>,
}

/// What the program says, which is asked once.
///
/// # Errors
/// If it is missing, of another build, or fails.
pub fn machine() -> Result<&'static Machine> {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    if let Some(machine) = MACHINE.get() {
        return Ok(machine);
    }
    let machine = Asked::start(&["machine"])?.answer(&[])?;
    Ok(MACHINE.get_or_init(|| machine))
}

impl Machine {
    /// The index of the GPU that a spec's device means; none for the CPU. `field` is where the device is given.
    ///
    /// # Errors
    /// A GPU that is not there is the user's error.
    pub fn gpu(&self, field: &str, device: &str) -> Result<Option<usize>> {
        let gpus = self.gpus;
        let index = match device.parse() {
            Ok(DeviceName::Cpu) => None,
            Ok(DeviceName::Auto) => (gpus > 0).then_some(0),
            Ok(DeviceName::Gpu(index)) => Some(index),
            Err(want) => bail_user!("{field}: got '{device}', {want}"),
        };
        match index {
            Some(index) if index >= gpus => bail_user!(
                "{field}: got '{device}', but libtorch sees {gpus} GPUs; want cpu{}",
                if gpus > 0 {
                    format!(" or cuda:0 to cuda:{}", gpus - 1)
                } else if let Some(failure) = &self.cuda_failure {
                    format!(", or libtorch's part for GPUs, which cannot be used: {failure}")
                } else if index == 0 {
                    let libtorch =
                        hint::make("setup TORCH=cuda").map(|make| format!(" (`{make}`)"));
                    let libtorch = libtorch.unwrap_or_default();
                    format!(", or libtorch with CUDA{libtorch} and an NVIDIA driver")
                } else {
                    String::new()
                }
            ),
            index => Ok(index),
        }
    }

    /// The device that a spec's device means, for people: `cpu` or `cuda:N`.
    ///
    /// # Errors
    /// As [`Machine::gpu`].
    pub fn device(&self, field: &str, device: &str) -> Result<String> {
        let gpu = self.gpu(field, device)?;
        Ok(gpu.map_or("cpu".to_owned(), |index| format!("cuda:{index}")))
    }

    /// The devices that this process's ranks train on, as people are told.
    ///
    /// # Errors
    /// As [`Machine::gpu`].
    pub fn training_devices(&self, compute: &Compute, launch: &Launch) -> Result<String> {
        let names = self.own_devices(compute, launch)?.join(", ");
        Ok(match launch.world - launch.count {
            0 => names,
            1 => format!("{names} and that of another rank"),
            others => format!("{names} and those of {others} other ranks"),
        })
    }

    /// Whether this process's ranks train on CPUs. Those of other processes are not known, and are taken to do as these.
    ///
    /// # Errors
    /// As [`Machine::gpu`].
    pub fn trains_on_cpus(&self, compute: &Compute, launch: &Launch) -> Result<bool> {
        let own = self.own_devices(compute, launch)?;
        Ok(!own.iter().any(|device| DeviceName::is_gpu(device)))
    }

    /// The device of each of this process's ranks.
    fn own_devices(&self, compute: &Compute, launch: &Launch) -> Result<Vec<String>> {
        let device = |index| {
            let rank = launch.of_rank(index);
            self.device(
                &rank.device_field(compute),
                &rank.device(compute, self.gpus),
            )
        };
        (0..launch.count).map(device).collect()
    }

    /// The device of the evaluator, for people: where nothing names one and several devices train, the last GPU that does
    /// not.
    ///
    /// # Errors
    /// As [`Machine::gpu`].
    pub fn evaluation_device(&self, spec: &Spec) -> Result<String> {
        let compute = &spec.compute;
        if spec.eval.device != "auto" {
            return self.device("eval.device", &spec.eval.device);
        }
        let trains = |gpu: &usize| {
            let mut devices = compute.devices.iter();
            devices.any(|device| matches!(self.gpu("", device), Ok(Some(index)) if index == *gpu))
        };
        let mut others = (0..self.gpus).rev().filter(|gpu| !trains(gpu));
        let idle = match &*compute.device {
            "auto" if !compute.devices.is_empty() => others.next(),
            _ => None,
        };
        match idle {
            Some(gpu) => Ok(format!("cuda:{gpu}")),
            None => self.device("compute.device", &compute.device),
        }
    }

    /// What computes on this device, for a run's provenance.
    pub fn software(&self, device: String) -> Software {
        Software {
            burn: self.burn.clone(),
            libtorch: self.libtorch.clone(),
            device,
            program: program::digest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;

    fn with_gpus(gpus: usize) -> Machine {
        Machine {
            burn: "0.22.1".to_owned(),
            libtorch: "2.11.0".to_owned(),
            target_features: vec!["sse2".to_owned()],
            gpus,
            cuda_failure: None,
        }
    }

    #[test]
    fn device_follows_from_the_gpus_that_there_are() {
        for (gpus, device, want) in [
            (0, "cpu", "cpu"),
            (0, "auto", "cpu"),
            (2, "cpu", "cpu"),
            (2, "auto", "cuda:0"),
            (2, "cuda", "cuda:0"),
            (2, "cuda:1", "cuda:1"),
        ] {
            assert_eq!(with_gpus(gpus).device("a.field", device).unwrap(), want);
        }
        let devices = vec!["cuda:1".to_owned(), "cpu".to_owned()];
        let compute = Compute {
            devices,
            ..Compute::default()
        };
        let mut launch = Launch::on_one_host(2);
        let names = |launch: &_| with_gpus(2).training_devices(&compute, launch).unwrap();
        assert_eq!(names(&launch), "cuda:1, cpu");
        let on_cpus = |compute: &_, launch: &_| with_gpus(2).trains_on_cpus(compute, launch);
        assert!(!on_cpus(&compute, &launch).unwrap());
        let cpus = Compute {
            devices: vec!["cpu".to_owned(); 2],
            ..Compute::default()
        };
        assert!(on_cpus(&cpus, &launch).unwrap());
        launch.world = 6;
        assert!(on_cpus(&cpus, &launch).unwrap());
        assert_eq!(names(&launch), "cuda:1, cpu and those of 4 other ranks");
    }

    #[test]
    fn missing_gpu_is_a_user_error() {
        for (gpus, device, want) in [
            (
                0,
                "cuda:1",
                "compute.device: got 'cuda:1', but libtorch sees 0 GPUs; want cpu",
            ),
            (
                2,
                "cuda:2",
                "compute.device: got 'cuda:2', but libtorch sees 2 GPUs; want cpu or cuda:0 to cuda:1",
            ),
            (
                1,
                "gpu",
                "compute.device: got 'gpu', want auto, cpu, cuda or cuda:N",
            ),
        ] {
            let error = with_gpus(gpus)
                .device("compute.device", device)
                .unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn missing_gpu_of_several_devices_is_named_by_its_place() {
        let compute = Compute {
            devices: vec!["cpu".to_owned(), "cuda:2".to_owned()],
            ..Compute::default()
        };
        let launch = Launch::on_one_host(2);
        let error = with_gpus(2)
            .training_devices(&compute, &launch)
            .unwrap_err();
        assert!(is_user_error(&error));
        assert_eq!(
            error.to_string(),
            "compute.devices[1]: got 'cuda:2', but libtorch sees 2 GPUs; want cpu or cuda:0 to cuda:1"
        );
    }

    #[test]
    fn evaluator_is_on_the_last_gpu_that_does_not_train_where_several_devices_do() {
        let mut spec = Spec::default();
        let mut on = |device: &str, devices: &[&str], eval: &str| {
            spec.compute.device = device.to_owned();
            spec.compute.devices = devices.iter().map(|it| (*it).to_owned()).collect();
            spec.eval.device = eval.to_owned();
            let device = with_gpus(3).evaluation_device(&spec);
            device.unwrap_or_else(|error| error.to_string())
        };
        assert_eq!(on("auto", &["cuda:0", "cuda:1"], "auto"), "cuda:2");
        assert_eq!(on("auto", &["cuda:2", "cuda"], "auto"), "cuda:1");
        assert_eq!(on("auto", &["cpu", "cpu"], "auto"), "cuda:2");
        let all = ["cuda:0", "cuda:1", "cuda:2"];
        assert_eq!(on("auto", &all, "auto"), "cuda:0");
        // One device alone trains and evaluates, and one that is named is kept.
        assert_eq!(on("auto", &[], "auto"), "cuda:0");
        assert_eq!(on("cpu", &["cuda:0", "cuda:1"], "auto"), "cpu");
        assert_eq!(on("auto", &["cuda:0"], "cuda:1"), "cuda:1");
        assert_eq!(
            on("auto", &[], "cuda:3"),
            "eval.device: got 'cuda:3', but libtorch sees 3 GPUs; want cpu or cuda:0 to cuda:2"
        );
    }
}
