//! Operations that a GPU is given again and again: recorded once as a CUDA graph, and then issued as one.
//!
//! A step of this network is some hundred operations of a few microseconds each, which a processor issues more slowly than a
//! GPU does them (docs/performance.md). A graph does the same operations in the same order on the same memory.

use super::gpu::Graph;
use anyhow::Result;
use runboard::console;
use tch::{Device, Tensor};

/// How often operations are issued one by one first: cuDNN chooses its algorithms, and libraries take their memory, both of
/// which cannot be recorded.
const WARM_UP: u32 = 3;

/// Issues operations again and again, on a GPU as a graph.
#[derive(Debug, Default)]
pub struct Recorder {
    state: State,
}

#[derive(Debug)]
enum State {
    /// So often more, one by one.
    WarmUp(u32),
    Recorded(Recording),
    /// One by one for ever.
    Plain,
}

impl Default for State {
    fn default() -> Self {
        State::WarmUp(WARM_UP)
    }
}

#[derive(Debug)]
struct Recording {
    graph: Graph,
    /// Where the lasting operands were.
    places: Vec<usize>,
    /// Which the operations read in the inputs' place.
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Recorder {
    /// The outputs of operations on these tensors: `lasting` ones stay where they are from call to call, such as weights, and
    /// the operations may change them; `inputs` may be others each time, of the same shapes. `compute` is given the inputs, must
    /// issue the same operations each time, and must not wait for the device.
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
        let places: Vec<usize> = lasting.iter().map(|it| it.data_ptr() as usize).collect();
        match &mut self.state {
            State::WarmUp(0) => self.record(gpu, places, inputs, &mut compute)?,
            State::WarmUp(left) => *left -= 1,
            State::Recorded(recording) if !recording.serves(&places, inputs) => {
                self.state = State::default();
            }
            State::Recorded(_) | State::Plain => {}
        }
        match &mut self.state {
            State::Recorded(recording) => recording.replay(inputs),
            State::WarmUp(_) | State::Plain => compute(inputs),
        }
    }

    /// Record the operations, which are not done by this. Where they cannot be recorded, they are issued one by one as before.
    fn record(
        &mut self,
        gpu: usize,
        places: Vec<usize>,
        inputs: &[Tensor],
        compute: &mut impl FnMut(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<()> {
        let own = inputs.iter().map(Tensor::f_zeros_like);
        let inputs = own.collect::<Result<Vec<_>, _>>()?;
        self.state = match Graph::record(gpu, || compute(&inputs)) {
            Ok((graph, outputs)) => State::Recorded(Recording {
                graph,
                places,
                inputs,
                outputs,
            }),
            Err(error) => {
                console::warning(format_args!(
                    "the GPU's operations are issued one by one, as they cannot be recorded as a graph: {error:#}"
                ));
                State::Plain
            }
        };
        Ok(())
    }
}

impl Recording {
    /// Whether these are operands as those that were recorded.
    fn serves(&self, places: &[usize], inputs: &[Tensor]) -> bool {
        let same = |(own, other): (&Tensor, &Tensor)| {
            own.size() == other.size() && own.kind() == other.kind()
        };
        self.places == places
            && self.inputs.len() == inputs.len()
            && self.inputs.iter().zip(inputs).all(same)
    }

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
