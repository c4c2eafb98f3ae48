//! Operations that a GPU is given again and again: recorded once as a CUDA graph, and then issued as one.
//!
//! A step of this network is some hundred operations of a few microseconds each, which a processor issues more slowly than a
//! GPU does them (docs/performance.md). A graph does the same operations on the same memory, each after those that it came after.

use super::gpu::Graph;
use anyhow::Result;
use runboard::console;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use tch::{Device, Kind, Tensor};

/// How often operations are issued one by one first: cuDNN chooses its algorithms, and libraries take their memory, both of
/// which cannot be recorded.
const WARM_UP: u32 = 3;

/// The calls of [`Recorder::run`] after which all take the same time: the warm-up, and the one that records.
pub const CALLS_TO_RECORD: u64 = WARM_UP as u64 + 1;

/// Whether a recording has failed in this process. libtorch's allocator is not as it was then, and nothing more is recorded.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// Issues operations again and again, on a GPU as a graph.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Of the last call.
    operands: Operands,
    /// So many calls have had those, or more.
    calls: u32,
    recording: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    graph: Graph,
    /// Which the operations read in the inputs' place.
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// What operations are on, and a graph of them is for.
#[derive(Debug, Default, PartialEq)]
struct Operands {
    /// Where the lasting ones are.
    places: Vec<usize>,
    /// What the inputs are like.
    inputs: Vec<(Vec<i64>, Kind)>,
}

impl Operands {
    fn of(lasting: &[&Tensor], inputs: &[Tensor]) -> Self {
        let places = lasting.iter().map(|it| it.data_ptr() as usize);
        let inputs = inputs.iter().map(|it| (it.size(), it.kind()));
        Operands {
            places: places.collect(),
            inputs: inputs.collect(),
        }
    }
}

impl Recorder {
    /// The outputs of operations on these tensors: `lasting` ones stay where they are from call to call, such as weights, and
    /// the operations may change them; `inputs` may be others each time, of the same shapes. `compute` is given the inputs, must
    /// issue the same operations each time, and must not wait for the device. What else it reads stays where it is.
    ///
    /// The outputs hold until the next call, which overwrites them.
    ///
    /// # Errors
    /// Those of `compute`, and libtorch's.
    pub fn run(
        &mut self,
        lasting: &[&Tensor],
        inputs: &[Tensor],
        mut compute: impl FnMut(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let device = lasting.first().map_or(Device::Cpu, |first| first.device());
        let Device::Cuda(gpu) = device else {
            return compute(inputs);
        };
        let operands = Operands::of(lasting, inputs);
        if operands != self.operands {
            *self = Recorder {
                operands,
                ..Recorder::default()
            };
        }
        if self.recording.is_none() && self.calls == WARM_UP && !HAS_FAILED.load(Relaxed) {
            self.recording = record(gpu, inputs, &mut compute)?;
        }
        self.calls = self.calls.saturating_add(1);
        match &mut self.recording {
            Some(recording) => recording.replay(inputs),
            None => compute(inputs),
        }
    }
}

/// Record operations, which are not done by this; none where they cannot be recorded.
fn record(
    gpu: usize,
    inputs: &[Tensor],
    compute: &mut impl FnMut(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Option<Recording>> {
    let own = inputs.iter().map(Tensor::f_zeros_like);
    let inputs = own.collect::<Result<Vec<_>, _>>()?;
    Ok(match Graph::record(gpu, || compute(&inputs)) {
        Ok((graph, outputs)) => Some(Recording {
            graph,
            inputs,
            outputs,
        }),
        Err(error) => {
            HAS_FAILED.store(true, Relaxed);
            console::warning(format_args!(
                "the GPU's operations are issued one by one, as they cannot be recorded as a graph: {error:#}"
            ));
            None
        }
    })
}

impl Recording {
    fn replay(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        for (own, other) in self.inputs.iter_mut().zip(inputs) {
            own.f_copy_(other)?;
        }
        self.graph.replay()?;
        Ok(self.outputs.iter().map(Tensor::shallow_clone).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_a_cpu_are_done_each_time_with_the_inputs_of_that_time() {
        let mut recorder = Recorder::default();
        let sum = Tensor::from_slice(&[0.0f32]);
        for call in 1..=2 * WARM_UP {
            let input = Tensor::from_slice(&[call as f32]);
            let outputs = recorder.run(&[&sum], &[input], |inputs| {
                let mut sum = sum.shallow_clone();
                Ok(vec![sum.f_add_(&inputs[0])? * 2.0])
            });
            let want = f64::from(call * (call + 1));
            assert_eq!(outputs.unwrap()[0].double_value(&[0]), want);
        }
    }
}
