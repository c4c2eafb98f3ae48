//! The network of an experiment: its layers and their initialisation.

use serde::{Deserialize, Serialize};

/// Red, green, blue: the channels of an image.
pub const CHANNELS: usize = 3;

/// Number of classes of a data set.
pub const CLASS_COUNT: usize = 10;

/// The layers that have parameters, from first to last. Keys of a spec, and the first half of a parameter's name.
pub const LAYERS: [&str; 5] = ["conv1", "conv2", "local3", "local4", "softmax_linear"];

/// The parameters of a layer: their shapes, and how they begin.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerParameters {
    pub name: &'static str,
    /// [out channels, in channels, height, width] of a convolution, [in, out] of a dense layer.
    pub weights: Vec<usize>,
    /// Number of biases: one for each output.
    pub biases: usize,
    /// How the weights are drawn.
    pub init: Init,
    /// Standard deviation of the weights' truncated normal.
    pub stddev: f64,
    /// Value of every bias.
    pub bias: f32,
}

impl LayerParameters {
    /// Values that make one output, and values that one input has a part in.
    pub fn fans(&self) -> [usize; 2] {
        match self.weights[..] {
            [outputs, inputs, height, width] => [inputs, outputs].map(|it| it * height * width),
            _ => [self.weights[0], self.biases],
        }
    }
}

/// How the weights of a layer are drawn. Fan-in and fan-out are the numbers of values that make one output, and that one
/// input has a part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// A normal distribution of the layer's `stddev`, cut off at twice that, as TensorFlow's.
    #[default]
    TruncatedNormal,
    /// A normal distribution of standard deviation sqrt(2 / fan-in), as torch.nn.init.kaiming_normal_.
    HeNormal,
    /// Uniform within sqrt(6 / (fan-in + fan-out)), as torch.nn.init.xavier_uniform_.
    Xavier,
    /// Such that the patches of the training images become uncorrelated; conv1 only.
    Whitening,
}

/// Two convolutions with pooling and local response normalisation, two dense layers, a linear one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub conv1: Convolution,
    pub conv2: Convolution,
    pub pool: Pool,
    pub norm: Norm,
    pub local3: Dense,
    pub local4: Dense,
    pub softmax_linear: Linear,
    /// Share of the outputs of local3 and local4 that a training step leaves out.
    pub dropout: f32,
}

impl Default for Network {
    fn default() -> Self {
        let conv = |bias| Convolution {
            channels: 64,
            kernel: 5,
            init: Init::TruncatedNormal,
            stddev: 1e-4,
            bias,
            weight_decay: 0.0,
            frozen: false,
        };
        let dense = |units| Dense {
            units,
            init: Init::TruncatedNormal,
            stddev: 0.04,
            bias: 0.1,
            weight_decay: 0.004,
            frozen: false,
        };
        Network {
            conv1: conv(0.0),
            conv2: conv(0.1),
            pool: Pool::default(),
            norm: Norm::default(),
            local3: dense(384),
            local4: dense(192),
            softmax_linear: Linear {
                init: Init::TruncatedNormal,
                stddev: 1.0 / 192.0,
                bias: 0.0,
                weight_decay: 0.0,
                frozen: false,
            },
            dropout: 0.0,
        }
    }
}

/// What the weights of a layer are called.
pub fn weights_name(layer: &str) -> String {
    format!("{layer}/weights")
}

impl Network {
    /// Name and shape of every parameter, layer by layer, for images of `crop` pixels a side.
    pub fn parameter_shapes(&self, crop: usize) -> Vec<(String, Vec<usize>)> {
        let parameters = |layer: LayerParameters| {
            let biases = format!("{}/biases", layer.name);
            [
                (weights_name(layer.name), layer.weights),
                (biases, vec![layer.biases]),
            ]
        };
        self.layers(crop).into_iter().flat_map(parameters).collect()
    }

    /// The layers that have parameters, in the order of [`LAYERS`], for images of `crop` pixels a side.
    pub fn layers(&self, crop: usize) -> [LayerParameters; LAYERS.len()] {
        let [conv1, conv2, local3, local4, softmax_linear] = LAYERS;
        let convolution = |name, inputs, spec: &Convolution| LayerParameters {
            name,
            weights: vec![spec.channels, inputs, spec.kernel, spec.kernel],
            biases: spec.channels,
            init: spec.init,
            stddev: spec.stddev,
            bias: spec.bias,
        };
        let dense = |name, inputs, outputs, init, stddev, bias| LayerParameters {
            name,
            weights: vec![inputs, outputs],
            biases: outputs,
            init,
            stddev,
            bias,
        };
        let [_, side] = self.pooled_sides(crop);
        let features = side * side * self.conv2.channels;
        let (l3, l4, last) = (&self.local3, &self.local4, &self.softmax_linear);
        [
            convolution(conv1, CHANNELS, &self.conv1),
            convolution(conv2, self.conv1.channels, &self.conv2),
            dense(local3, features, l3.units, l3.init, l3.stddev, l3.bias),
            dense(local4, l3.units, l4.units, l4.init, l4.stddev, l4.bias),
            dense(
                softmax_linear,
                l4.units,
                CLASS_COUNT,
                last.init,
                last.stddev,
                last.bias,
            ),
        ]
    }

    /// Side of an image of `crop` pixels a side after the first pooling and after the second. The convolutions keep
    /// the side; a pooling divides it by the stride and rounds up.
    pub fn pooled_sides(&self, crop: usize) -> [usize; 2] {
        let first = crop.div_ceil(self.pool.stride);
        [first, first.div_ceil(self.pool.stride)]
    }

    /// Multiplications of a forward pass of one image of `crop` pixels a side, by the definition: a convolution uses its weights
    /// once at each place of its input.
    pub fn products(&self, crop: usize) -> u64 {
        let [pooled, _] = self.pooled_sides(crop);
        let places = [crop.pow(2), pooled.pow(2), 1, 1, 1];
        let layers = self.layers(crop).into_iter().zip(places);
        let products =
            layers.map(|(layer, places)| layer.weights.iter().product::<usize>() * places);
        products.sum::<usize>() as u64
    }

    /// Decay of each layer's weights, in the order of [`LAYERS`]; 0 where they are frozen.
    pub fn weight_decays(&self) -> [f64; LAYERS.len()] {
        let mut decays = [
            self.conv1.weight_decay,
            self.conv2.weight_decay,
            self.local3.weight_decay,
            self.local4.weight_decay,
            self.softmax_linear.weight_decay,
        ];
        for (decay, frozen) in decays.iter_mut().zip(self.frozen()) {
            if frozen {
                *decay = 0.0;
            }
        }
        decays
    }

    /// Whether each layer's weights stay as they began, in the order of [`LAYERS`].
    pub fn frozen(&self) -> [bool; LAYERS.len()] {
        [
            self.conv1.frozen,
            self.conv2.frozen,
            self.local3.frozen,
            self.local4.frozen,
            self.softmax_linear.frozen,
        ]
    }
}

/// A convolution of stride 1, padded to the same size, followed by relu.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// Output channels.
    pub channels: usize,
    /// Side of the square kernel; odd.
    pub kernel: usize,
    /// How the weights are drawn.
    pub init: Init,
    /// Standard deviation of the truncated normal that initialises the weights.
    pub stddev: f64,
    /// Initial value of every bias.
    pub bias: f32,
    /// The loss gains weight_decay * sum(w^2) / 2.
    pub weight_decay: f64,
    /// The weights, not the biases, stay as they began.
    pub frozen: bool,
}

/// A dense layer followed by relu.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    pub units: usize,
    pub init: Init,
    pub stddev: f64,
    pub bias: f32,
    pub weight_decay: f64,
    pub frozen: bool,
}

/// The last layer, one unit a class, no activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    pub init: Init,
    pub stddev: f64,
    pub bias: f32,
    pub weight_decay: f64,
    pub frozen: bool,
}

/// Max-pooling with TensorFlow's SAME padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Side of the square window.
    pub size: usize,
    pub stride: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { size: 3, stride: 2 }
    }
}

/// What both normalisations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormName {
    /// Local response normalisation.
    #[default]
    Lrn,
    /// They pass on what they get.
    None,
}

/// Local response normalisation: x / (bias + alpha * sum of x^2 over 2 * radius + 1 channels)^beta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    pub name: NormName,
    pub radius: usize,
    pub bias: f64,
    pub alpha: f64,
    pub beta: f64,
}

impl Default for Norm {
    fn default() -> Self {
        Norm {
            name: NormName::Lrn,
            radius: 4,
            bias: 1.0,
            alpha: 0.001 / 9.0,
            beta: 0.75,
        }
    }
}
