//! What this device computes, held to what TensorFlow and PyTorch computed: the layers, the losses, the gradients and the
//! updates of small networks, two operations, the update rules. Tests do so, and whoever has a new machine. The values are
//! in the program, and their scripts in `tests/reference/`.

mod network;
mod operations;
mod rules;
#[cfg(test)]
mod tests;

use anyhow::Result;
use burn::tensor::Device;
use runboard::compute::Comparison;
use runboard::reference::deviation;
use runboard::spec::Precision;

/// The files of tests/reference, in the program.
const NETWORK: &[u8] = include_bytes!("../../../../tests/reference/network.safetensors");
const OPERATIONS: &[u8] = include_bytes!("../../../../tests/reference/operations.safetensors");
const OPTIMIZER: &[u8] = include_bytes!("../../../../tests/reference/optimizer.safetensors");
const OPTIMIZER_CASES: &str = include_str!("../../../../tests/reference/optimizer.json");

/// Everything that golden values say, on this device. What comes before the first `/` of a name is what is compared, what
/// follows where: the case, the step, the layer.
///
/// # Errors
/// libtorch's.
pub fn compare(device: &Device, precision: Precision) -> Result<Vec<Comparison>> {
    let mut comparisons = Comparisons::new(device, precision)?;
    comparisons.networks()?;
    comparisons.operations()?;
    comparisons.rules()?;
    comparisons.smoothing()?;
    Ok(comparisons.done)
}

/// How far values may be from the golden ones: relative to the largest of a tensor, by what the factors of products are
/// rounded to.
#[derive(Clone, Copy, Debug)]
struct Tolerances {
    /// Layers.
    values: f64,
    /// Gradients. A rounding decides which pixel of a pool is the largest, and with it where a gradient goes.
    gradients: f64,
    losses: f64,
    /// The share of zeros in a layer, of which some have 27 values. The order of a sum decides about one next to zero.
    zeros: f64,
    /// Weights and averages after up to five steps.
    weights: f64,
    /// Weights after 20 updates in which nothing is multiplied but by scalars, and by Muon's products of matrices.
    updates: f64,
    products: f64,
}

impl Tolerances {
    fn of(precision: Precision, on_gpu: bool) -> Self {
        let float = Tolerances {
            values: 1e-4,
            gradients: 1e-4,
            losses: 1e-5,
            zeros: if on_gpu { 0.04 } else { 1e-6 },
            weights: 1e-4,
            updates: 1e-5,
            products: 1e-5,
        };
        match precision {
            // 10 bits of mantissa are 8 times as fine as 7, but a gradient goes to another pixel or it does not.
            Precision::Tf32 | Precision::Tf32Conv if on_gpu => Tolerances {
                values: 0.005,
                gradients: 0.25,
                losses: 0.002,
                zeros: 0.08,
                weights: 0.03,
                products: 0.02,
                ..float
            },
            // Two or three times what libtorch's operations show on a CPU.
            Precision::Bf16 => Tolerances {
                values: 0.03,
                gradients: 0.5,
                losses: 0.01,
                zeros: 0.12,
                // After five steps: an H200 comes to 0.15, AVX-512 to less than 0.1.
                weights: if on_gpu { 0.25 } else { 0.1 },
                // They are TensorFloat-32 on a GPU.
                products: if on_gpu { 0.02 } else { 1e-5 },
                ..float
            },
            _ => float,
        }
    }
}

/// What was compared so far.
struct Comparisons {
    device: Device,
    precision: Precision,
    tolerances: Tolerances,
    done: Vec<Comparison>,
}

impl Comparisons {
    fn new(device: &Device, precision: Precision) -> Result<Self> {
        Ok(Comparisons {
            device: device.clone(),
            precision,
            tolerances: Tolerances::of(precision, native(device)? != tch::Device::Cpu),
            done: Vec::new(),
        })
    }

    /// Compare the values of a tensor.
    fn add(&mut self, name: String, got: &[f32], want: &[f64], tolerance: f64) {
        self.add_deviation(name, deviation(got, want), tolerance);
    }

    fn add_deviation(&mut self, name: String, deviation: f64, tolerance: f64) {
        self.done.push(Comparison::new(name, deviation, tolerance));
    }
}

/// libtorch's name of a device.
fn native(device: &Device) -> Result<tch::Device> {
    let tensor = burn::tensor::Tensor::<1>::zeros([1], device);
    Ok(super::tch_tensor(tensor)?.device())
}
