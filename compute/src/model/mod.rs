//! The network: its parameters as a burn module, their initialisation, and the forward pass in burn's
//! own operations, which defines what `backend` computes natively.

mod eigen;
mod whitening;

pub use runboard::spec::LAYERS;

use anyhow::{Result, ensure};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use runboard::checkpoint::NamedTensor;
use runboard::data::{Images, Preprocessor};
use runboard::spec::{self, Init, LayerParameters, NormName};
use std::collections::HashMap;

/// A convolution's parameters.
#[derive(Module, Debug)]
pub struct Convolution {
    /// [out channels, in channels, height, width]
    pub weights: Param<Tensor<4>>,
    /// [out channels]
    pub biases: Param<Tensor<1>>,
}

/// A dense layer's parameters.
#[derive(Module, Debug)]
pub struct Dense {
    /// [in, out]; the first one's input runs over row, column, channel, as in TensorFlow
    pub weights: Param<Tensor<2>>,
    /// [out]
    pub biases: Param<Tensor<1>>,
}

/// One value for each parameter of the network. The weights are one, their moving average and their
/// gradients are others. The fields' names are the first half of TensorBoard's tags.
#[derive(Module, Debug)]
pub struct Network {
    pub conv1: Convolution,
    pub conv2: Convolution,
    pub local3: Dense,
    pub local4: Dense,
    pub softmax_linear: Dense,
}

/// Parameters of a layer: weights and biases.
pub const PER_LAYER: usize = 2;

/// Parameters of the network, layer by layer.
pub const PARAMETERS: usize = PER_LAYER * LAYERS.len();

/// The layers without parameters, as their outputs are called: the poolings and the normalisations.
pub const POOLS: [&str; 2] = ["pool1", "pool2"];
pub const NORMS: [&str; 2] = ["norm1", "norm2"];

impl Network {
    /// Fresh weights: each layer's distribution for every weight, a constant for every bias. The values follow
    /// from `seed` and the parameter alone, not from the device. Weights of [`Init::Whitening`] are zeros until
    /// [`Network::whitened`] sets them.
    pub fn init(spec: &spec::Network, crop: usize, seed: spec::Seed, device: &Device) -> Self {
        let mut init = Initializer {
            seed,
            drawn: 0,
            device,
        };
        let [conv1, conv2, local3, local4, softmax_linear] = spec.layers(crop);
        Network {
            conv1: init.convolution(&conv1),
            conv2: init.convolution(&conv2),
            local3: init.dense(&local3),
            local4: init.dense(&local4),
            softmax_linear: init.dense(&softmax_linear),
        }
    }

    /// This network, with the weights of a first convolution of [`Init::Whitening`] that whiten the patches of these
    /// training images; as it is with another.
    pub fn whitened(mut self, spec: &spec::Spec, images: &Images) -> Self {
        let layer = &spec.network.conv1;
        if layer.init == Init::Whitening {
            let preprocessor = Preprocessor::new(&spec.input, Some(images));
            let values = whitening::whitening(layer, &preprocessor, images);
            self.conv1.weights = self.conv1.weights.map(|zeros| {
                let data = TensorData::new(values, zeros.dims());
                Tensor::from_data(data, &zeros.device())
            });
        }
        self
    }

    /// The logits in burn's own operations: [n, height, width, 3] -> [n, classes]. It works on any
    /// device, with autodiff or without; training and evaluation use `backend`, which agrees with it.
    pub fn forward(&self, spec: &spec::Network, images: Tensor<4>) -> Tensor<2> {
        let x = images.permute([0, 3, 1, 2]); // [n, 3, h, w]
        let x = same_convolution(x, &self.conv1); // [n, 64, h, w]
        let x = pool(relu(x), &spec.pool); // [n, 64, h/2, w/2]
        let x = local_response_norm(x, &spec.norm);
        let x = same_convolution(x, &self.conv2); // [n, 64, h/2, w/2]
        let x = local_response_norm(relu(x), &spec.norm);
        let x = pool(x, &spec.pool); // [n, 64, h/4, w/4]
        let x = x.permute([0, 2, 3, 1]).flatten(1, 3); // [n, h/4 * w/4 * 64]
        let x = relu(affine(x, &self.local3)); // [n, 384]
        let x = relu(affine(x, &self.local4)); // [n, 192]
        affine(x, &self.softmax_linear) // [n, 10]
    }

    /// Every parameter copied to the host, in the order of the fields.
    pub fn named(&self) -> Vec<NamedTensor> {
        let mut export = ToHost::default();
        self.visit(&mut export);
        export.named
    }

    /// This network with its values replaced by those of `tensors`, on the same device.
    ///
    /// # Errors
    /// Where a parameter is missing, left over, or has another shape.
    pub fn with_tensors(self, tensors: &[NamedTensor]) -> Result<Self> {
        let own = self.named();
        let mut values = HashMap::new();
        for (index, want) in own.iter().enumerate() {
            let found = tensors.iter().find(|n| n.name == want.name);
            let found = found.ok_or_else(|| anyhow::anyhow!("no parameter {}", want.name))?;
            ensure!(
                found.shape == want.shape,
                "parameter {}: got shape {:?}, want {:?}",
                want.name,
                found.shape,
                want.shape
            );
            values.insert(
                index,
                TensorData::new(found.values.clone(), want.shape.clone()),
            );
        }
        let is_own = |tensor: &NamedTensor| own.iter().any(|own| own.name == tensor.name);
        if let Some(extra) = tensors.iter().find(|tensor| !is_own(tensor)) {
            let (got, name) = (tensors.len(), &extra.name);
            anyhow::bail!("got {got} parameters, want {PARAMETERS}; one too many is {name}");
        }
        ensure!(
            tensors.len() == PARAMETERS,
            "got {} parameters, want {PARAMETERS}, each once",
            tensors.len()
        );
        Ok(self.map(&mut ReplaceValues { values, index: 0 }))
    }
}

/// Draws parameters, each from a stream of its own.
struct Initializer<'a> {
    seed: spec::Seed,
    drawn: u64,
    device: &'a Device,
}

impl Initializer<'_> {
    fn convolution(&mut self, layer: &LayerParameters) -> Convolution {
        Convolution {
            weights: self.weights(layer),
            biases: self.biases(layer),
        }
    }

    fn dense(&mut self, layer: &LayerParameters) -> Dense {
        Dense {
            weights: self.weights(layer),
            biases: self.biases(layer),
        }
    }

    fn weights<const D: usize>(&mut self, layer: &LayerParameters) -> Param<Tensor<D>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.0);
        rng.set_stream(WEIGHT_STREAMS + self.drawn);
        self.drawn += 1;
        let values: Vec<f32> = (0..layer.weights.iter().product())
            .map(|_| draw(&mut rng, layer))
            .collect();
        Param::from_data(TensorData::new(values, layer.weights.clone()), self.device)
    }

    fn biases(&self, layer: &LayerParameters) -> Param<Tensor<1>> {
        let values = vec![layer.bias; layer.biases];
        Param::from_data(TensorData::new(values, [layer.biases]), self.device)
    }
}

/// The generator's streams from here on belong to the weights.
const WEIGHT_STREAMS: u64 = 1 << 63;

/// A weight of the layer's distribution.
fn draw(rng: &mut ChaCha8Rng, layer: &LayerParameters) -> f32 {
    let [inputs, outputs] = layer.fans().map(|fan| fan as f64);
    match layer.init {
        Init::TruncatedNormal => truncated_normal(rng, layer.stddev),
        Init::HeNormal => {
            let z: f64 = StandardNormal.sample(rng);
            (z * (2.0 / inputs).sqrt()) as f32
        }
        Init::Xavier => {
            let bound = (6.0 / (inputs + outputs)).sqrt();
            rng.random_range(-bound..bound) as f32
        }
        Init::Whitening => 0.0,
    }
}

/// A normal of the given standard deviation, drawn again while beyond two of them
/// (tf.truncated_normal_initializer).
fn truncated_normal(rng: &mut ChaCha8Rng, stddev: f64) -> f32 {
    loop {
        let z: f64 = StandardNormal.sample(rng);
        if z.abs() <= 2.0 {
            return (z * stddev) as f32;
        }
    }
}

/// Output size of a window that TensorFlow's SAME padding moves over `size` cells.
pub fn same_size(size: usize, stride: usize) -> usize {
    size.div_ceil(stride)
}

/// Cells that SAME padding adds before and after `size` cells; the odd one goes after.
/// Source: <https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2>
pub fn same_padding(size: usize, window: usize, stride: usize) -> (usize, usize) {
    let total = ((same_size(size, stride) - 1) * stride + window).saturating_sub(size);
    (total / 2, total - total / 2)
}

fn same_convolution(x: Tensor<4>, layer: &Convolution) -> Tensor<4> {
    let pad = layer.weights.dims()[2] / 2; // the kernel is odd, so SAME is symmetric
    let options = ConvOptions::new([1, 1], [pad, pad], [1, 1], 1);
    conv2d(x, layer.weights.val(), Some(layer.biases.val()), options)
}

fn pool(x: Tensor<4>, spec: &spec::Pool) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let same = |size| same_padding(size, spec.size, spec.stride);
    let options = MaxPoolOptions::new([spec.size; 2])
        .with_stride([spec.stride; 2])
        .with_padding_pairs([same(height), same(width)]);
    max_pool2d(x, options)
}

/// x / (bias + alpha * sum of x^2 over the channels within `radius`)^beta, as tf.nn.lrn.
fn local_response_norm(x: Tensor<4>, spec: &spec::Norm) -> Tensor<4> {
    if spec.name == NormName::None {
        return x;
    }
    let [n, channels, height, width] = x.dims();
    let radius = spec.radius;
    let squares = x.clone().powi_scalar(2);
    let edge = Tensor::zeros([n, radius, height, width], &x.device());
    let padded = if radius > 0 {
        Tensor::cat(vec![edge.clone(), squares, edge], 1)
    } else {
        squares
    };
    let sum = (1..=2 * radius).fold(padded.clone().narrow(1, 0, channels), |sum, shift| {
        sum + padded.clone().narrow(1, shift, channels)
    });
    x * ((sum * spec.alpha) + spec.bias).powf_scalar(-spec.beta)
}

fn affine(x: Tensor<2>, layer: &Dense) -> Tensor<2> {
    x.matmul(layer.weights.val()) + layer.biases.val().unsqueeze()
}

/// Collects every parameter under its path.
#[derive(Default)]
struct ToHost {
    path: Vec<String>,
    named: Vec<NamedTensor>,
}

impl ModuleVisitor for ToHost {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        self.named.push(NamedTensor {
            name: self.path.join("/"),
            shape: tensor.dims().to_vec(),
            values: tensor.into_data().iter::<f32>().collect(),
        });
    }
}

/// Puts values in place of the parameters, by their position.
struct ReplaceValues {
    values: HashMap<usize, TensorData>,
    index: usize,
}

impl ModuleMapper for ReplaceValues {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let data = self.values.remove(&self.index);
        self.index += 1;
        match data {
            Some(data) => param.map(|old| Tensor::from_data(data, &old.device())),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        // tf.nn.max_pool of 24, 12, 5 and 6 cells: after only, after only, both sides, none
        assert_eq!(same_padding(24, 3, 2), (0, 1));
        assert_eq!(same_padding(5, 3, 2), (1, 1));
        assert_eq!(same_padding(6, 2, 2), (0, 0));
        assert_eq!(same_padding(7, 2, 3), (0, 1));
        assert_eq!(same_padding(6, 2, 3), (0, 0));
    }

    #[test]
    fn parameters_are_those_that_the_spec_lists() {
        let device = crate::backend::device("compute.device", "cpu").unwrap().0;
        let spec = spec::Network::default();
        let want = spec.parameter_shapes(24);
        assert_eq!(want.len(), PARAMETERS);
        assert_eq!(want[4], ("local3/weights".to_owned(), vec![2304, 384]));
        let network = Network::init(&spec, 24, spec::Seed(1), &device);
        let got = network.named().into_iter();
        let got: Vec<_> = got.map(|tensor| (tensor.name, tensor.shape)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn initial_weights_have_the_specs_distribution_and_depend_on_the_seed_alone() {
        let device = crate::backend::device("compute.device", "cpu").unwrap().0;
        let spec = spec::Network::default();
        let named = |seed| Network::init(&spec, 24, spec::Seed(seed), &device).named();
        let first = named(1);
        // A normal cut at two deviations keeps sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)) = 0.8796 of its own.
        let values = &first[4].values;
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 4.0 * 0.04 / n.sqrt());
        assert!((variance.sqrt() / 0.04 - 0.8796).abs() < 0.003);
        assert!(values.iter().all(|v| v.abs() <= 0.08));
        assert!(values.iter().any(|v| v.abs() > 0.079));
        assert!(first[5].values.iter().all(|&v| v == 0.1));
        assert_eq!(first, named(1));
        assert_ne!(first[0].values, named(2)[0].values);
        assert_ne!(first[4].values[..64], first[6].values[..64]);
    }

    #[test]
    fn initial_weights_of_he_and_glorot_have_their_distributions() {
        let device = crate::backend::device("compute.device", "cpu").unwrap().0;
        let moments = |values: &[f32]| {
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
            (mean * n.sqrt(), variance.sqrt())
        };
        let mut spec = spec::Network::default();
        // A convolution and a dense layer: fan-in 64 * 5 * 5 and 2304, fan-out 64 * 5 * 5 and 384.
        for (init, wants) in [
            (Init::HeNormal, [2.0 / 1600.0, 2.0 / 2304.0]),
            (Init::Xavier, [2.0 / 3200.0, 2.0 / 2688.0]),
        ] {
            (spec.conv2.init, spec.local3.init) = (init, init);
            let named = Network::init(&spec, 24, spec::Seed(1), &device).named();
            for (values, want) in [&named[2].values, &named[4].values].into_iter().zip(wants) {
                let (mean, deviation) = moments(values);
                let want = f64::sqrt(want);
                assert!(mean.abs() < 4.0 * want, "{mean} deviations of the mean");
                assert!((deviation / want - 1.0).abs() < 0.01, "{deviation}, {want}");
                let largest = values.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
                let largest = f64::from(largest) / want;
                match init {
                    // A normal of 100,000 values and more, which is not cut off.
                    Init::HeNormal => assert!((4.0..6.5).contains(&largest), "{largest}"),
                    // A uniform one ends at sqrt(3) deviations.
                    _ => assert!((1.73..1.7321).contains(&largest), "{largest}"),
                }
            }
        }
    }

    #[test]
    fn whitening_sets_the_weights_of_the_first_convolution_and_no_others() {
        let device = crate::backend::device("compute.device", "cpu").unwrap().0;
        let mut spec = spec::Spec::default();
        let images = Images::noise(spec::Seed(1), 20);
        let fresh =
            |spec: &spec::Spec| Network::init(&spec.network, spec.input.crop, spec.seed, &device);
        let plain = fresh(&spec);
        assert!(plain.clone().whitened(&spec, &images).named() == plain.named());
        spec.network.conv1.init = Init::Whitening;
        let whitened = fresh(&spec).whitened(&spec, &images).named();
        assert_eq!(whitened[0].shape, [64, 3, 5, 5]);
        assert!(whitened[0].values.iter().all(|it| it.abs() > 0.0));
        assert!(whitened[1..] == plain.named()[1..]);
    }

    #[test]
    fn tensors_replace_parameters_by_name_and_shape() {
        let device = crate::backend::device("compute.device", "cpu").unwrap().0;
        let spec = spec::Network::default();
        let network = |seed| Network::init(&spec, 24, spec::Seed(seed), &device);
        let mut values = network(1).named();
        values.reverse();
        let copied = network(2).with_tensors(&values).unwrap();
        assert_eq!(copied.named(), network(1).named());
        let mut missing = values.clone();
        missing.pop();
        let error = network(2).with_tensors(&missing).unwrap_err();
        assert_eq!(error.to_string(), "no parameter conv1/weights");
        let mut extra = values.clone();
        extra.insert(3, values[0].clone());
        extra[3].name = "conv3/weights".to_owned();
        let error = network(2).with_tensors(&extra).unwrap_err();
        let want = "got 11 parameters, want 10; one too many is conv3/weights";
        assert_eq!(error.to_string(), want);
        values[0].shape = vec![5, 2];
        let error = network(2).with_tensors(&values).unwrap_err();
        let want = "parameter softmax_linear/biases: got shape [5, 2], want [10]";
        assert_eq!(error.to_string(), want);
    }
}
