//! The network as TensorBoard's Graphs tab draws it.
//!
//! Layers, their order and their shapes are those of a forward pass that really ran, variables those of
//! the module; only the names of TensorFlow's operations are added, grouped as in the tutorial.

use crate::backend;
use crate::model::{LAYERS, NORMS, Network, POOLS};
use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use runboard::checkpoint::NamedTensor;
use runboard::events::Graph;
use runboard::spec::weights_name;
use runboard::spec::{self, AverageName, NormName, OptimizerName, ScheduleName, Spec};

/// Draw a training step of `network`: input, layers, losses, gradients, updates and averages.
///
/// # Errors
/// libtorch's.
pub fn graph(spec: &Spec, network: &Network, device: &Device) -> Result<Graph> {
    let (batch, side) = (spec.train.batch_size, spec.input.crop);
    let images = |n| [n, side, side, runboard::data::CHANNELS];
    let shape = images(batch);
    // Of one image: the shapes of a batch are the same but for the number of its images.
    let mut layers = Vec::new();
    backend::activations(
        network,
        spec,
        Tensor::zeros(images(1), device),
        |mut layer| {
            layer.shape[0] = batch;
            layers.push(layer);
            Ok(())
        },
    )?;
    let parameters = network.named();

    let mut graph = Graph::new();
    graph.node("images", "IteratorGetNext", &[], &shape);
    graph.node("labels", "IteratorGetNext", &[], &[batch]);
    let mut input = ("images".to_owned(), shape.to_vec());
    for layer in &layers {
        let output = match parameters
            .iter()
            .find(|p| p.name == weights_name(&layer.name))
        {
            Some(weights) => weighted(&mut graph, layer, weights, &input),
            None => unweighted(&mut graph, spec, layer, &input.0)?,
        };
        input = (output, layer.shape.clone());
    }
    let losses = losses(&mut graph, spec, &input.0, batch);
    updates(&mut graph, spec, &parameters, &losses);
    Ok(graph)
}

/// A convolution or dense layer; the name of its last node.
fn weighted(
    graph: &mut Graph,
    layer: &NamedTensor,
    weights: &NamedTensor,
    (input, input_shape): &(String, Vec<usize>),
) -> String {
    let name = |part: &str| format!("{}/{part}", layer.name);
    let (w, b) = (name("weights"), name("biases"));
    let order = match weights.shape.len() {
        4 => "out, in, height, width",
        _ => "in, out",
    };
    graph
        .node(&w, "VariableV2", &[], &weights.shape)
        .attribute("shape_order", order);
    let channels = &layer.shape[layer.shape.len() - 1..];
    graph.node(&b, "VariableV2", &[], channels);
    let (product, output) = (name("product"), name(&layer.name));
    if weights.shape.len() == 4 {
        graph
            .node(&product, "Conv2D", &[input, &w], &layer.shape)
            .attribute("strides", [1, 1, 1, 1])
            .attribute("padding", "SAME")
            .attribute("data_format", "NHWC");
    } else if input_shape.len() == 4 {
        let flat = name("Reshape");
        graph.node(
            &flat,
            "Reshape",
            &[input],
            &[input_shape[0], weights.shape[0]],
        );
        graph.node(&product, "MatMul", &[&flat, &w], &layer.shape);
    } else {
        graph.node(&product, "MatMul", &[input, &w], &layer.shape);
    }
    if Some(layer.name.as_str()) == LAYERS.last().copied() {
        graph.node(&output, "BiasAdd", &[&product, &b], &layer.shape);
    } else {
        let sum = name("BiasAdd");
        graph.node(&sum, "BiasAdd", &[&product, &b], &layer.shape);
        graph.node(&output, "Relu", &[&sum], &layer.shape);
    }
    output
}

/// A pooling or a normalisation; the name of its node.
fn unweighted(graph: &mut Graph, spec: &Spec, layer: &NamedTensor, input: &str) -> Result<String> {
    let (pool, norm) = (&spec.network.pool, &spec.network.norm);
    let name = layer.name.as_str();
    if POOLS.contains(&name) {
        graph
            .node(&layer.name, "MaxPool", &[input], &layer.shape)
            .attribute("ksize", [1, pool.size, pool.size, 1])
            .attribute("strides", [1, pool.stride, pool.stride, 1])
            .attribute("padding", "SAME");
    } else if NORMS.contains(&name) && norm.name == NormName::None {
        graph.node(&layer.name, "Identity", &[input], &layer.shape);
    } else if NORMS.contains(&name) {
        graph
            .node(&layer.name, "LRN", &[input], &layer.shape)
            .attribute("depth_radius", norm.radius)
            .attribute("bias", norm.bias)
            .attribute("alpha", norm.alpha)
            .attribute("beta", norm.beta);
    } else {
        bail!("got a layer {name}, want one with weights, a pooling or a normalisation");
    }
    Ok(layer.name.clone())
}

/// Cross-entropy, the layers' weight decay and their sum; the name of the sum.
fn losses(graph: &mut Graph, spec: &Spec, logits: &str, batch: usize) -> String {
    let each = "cross_entropy/cross_entropy_per_example";
    let op = "SparseSoftmaxCrossEntropyWithLogits";
    graph.node(each, op, &[logits, "labels"], &[batch]);
    graph.node("cross_entropy/cross_entropy", "Mean", &[each], &[]);
    let mut terms = vec!["cross_entropy/cross_entropy".to_owned()];
    for (layer, decay) in LAYERS.iter().zip(spec.network.weight_decays()) {
        if decay != 0.0 {
            let (l2, loss) = (format!("{layer}/L2Loss"), format!("{layer}/weight_loss"));
            graph.node(&l2, "L2Loss", &[&format!("{layer}/weights")], &[]);
            graph
                .node(&loss, "Mul", &[&l2], &[])
                .attribute("weight_decay", decay);
            terms.push(loss);
        }
    }
    let terms: Vec<&str> = terms.iter().map(String::as_str).collect();
    graph.node("total_loss", "AddN", &terms, &[]);
    "total_loss".to_owned()
}

/// The gradient of each parameter, the step along it, and the average that follows, if one is kept.
fn updates(graph: &mut Graph, spec: &Spec, parameters: &[NamedTensor], loss: &str) {
    let schedule = match spec.schedule.name {
        ScheduleName::Exponential => "ExponentialDecay",
        _ => "PiecewiseLearningRate",
    };
    graph.node("train/learning_rate", schedule, &["train/global_step"], &[]);
    graph.node("train/global_step", "VariableV2", &[], &[]);
    let layers = LAYERS.iter().zip(spec.network.frozen());
    let frozen = layers.filter(|(_, frozen)| *frozen);
    let frozen: Vec<String> = frozen.map(|(layer, _)| weights_name(layer)).collect();
    for NamedTensor { name, shape, .. } in parameters {
        if frozen.contains(name) {
            continue; // it stays as it is
        }
        let (gradient, step) = (format!("gradients/{name}"), format!("train/{name}"));
        graph.node(&gradient, "Gradient", &[loss, name], shape);
        let inputs = [name, "train/learning_rate", &gradient];
        graph.node(&step, update_operation(&spec.optimizer), &inputs, shape);
        match spec.average.name {
            AverageName::None => {}
            AverageName::Ema => {
                let average = format!("ExponentialMovingAverage/{name}");
                let inputs = [&step, "train/global_step"];
                graph.node(&average, "AssignMovingAverage", &inputs, shape);
            }
            // It is assigned to the parameter as well.
            AverageName::Lookahead => {
                let average = format!("Lookahead/{name}");
                let inputs = [name, step.as_str(), "train/global_step"];
                graph.node(&average, "AssignLookahead", &inputs, shape);
            }
        }
    }
}

/// What the graph calls the rule that changes a parameter: TensorFlow's names where it has the rule.
fn update_operation(optimizer: &spec::Optimizer) -> &'static str {
    match optimizer.name {
        OptimizerName::Sgd if optimizer.momentum > 0.0 => "ApplyMomentum",
        OptimizerName::Sgd => "ApplyGradientDescent",
        OptimizerName::Adamw => "ApplyAdamW",
        OptimizerName::Muon => "ApplyMuon",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The updates of the first layer.
    fn drawn_updates(spec: &Spec) -> String {
        let parameter = |name: &str| NamedTensor {
            name: name.to_owned(),
            shape: vec![1],
            values: Vec::new(),
        };
        let parameters = ["conv1/weights", "conv1/biases"].map(parameter);
        let mut graph = Graph::new();
        updates(&mut graph, spec, &parameters, "total_loss");
        format!("{graph:?}")
    }

    #[test]
    fn weights_that_are_frozen_are_drawn_without_an_update() {
        let mut spec = Spec::default();
        spec.network.conv1.frozen = true;
        let drawn = drawn_updates(&spec);
        assert!(drawn.contains("train/conv1/biases"), "{drawn}");
        assert!(!drawn.contains("conv1/weights"), "{drawn}");
    }

    #[test]
    fn average_is_drawn_as_the_one_that_is_kept() {
        let drawn = |name| {
            let mut spec = Spec::default();
            spec.average.name = name;
            let drawn = drawn_updates(&spec);
            assert!(drawn.contains("train/conv1/weights"), "{drawn}");
            let words = [
                "ExponentialMovingAverage/conv1/weights",
                "AssignMovingAverage",
                "Lookahead/conv1/weights",
                "AssignLookahead",
            ];
            words.map(|word| drawn.contains(word))
        };
        assert_eq!(drawn(AverageName::Ema), [true, true, false, false]);
        assert_eq!(drawn(AverageName::Lookahead), [false, false, true, true]);
        assert_eq!(drawn(AverageName::None), [false; 4]);
    }

    #[test]
    fn layers_are_drawn_for_the_number_of_images_in_a_batch() {
        let device = crate::backend::device("compute.device", "cpu").unwrap().0;
        let mut spec = Spec::default();
        let network = Network::init(&spec.network, spec.input.crop, spec::Seed(3), &device);
        spec.train.batch_size = 7_654_321; // more than memory has room for
        let drawn = format!("{:?}", graph(&spec, &network, &device).unwrap());
        let layers = LAYERS.len() + POOLS.len() + NORMS.len();
        assert!(drawn.matches("{size: 7654321}").count() > layers);
        assert!(!drawn.contains("{size: 1}"), "{drawn}");
    }

    #[test]
    fn layer_without_weights_is_drawn_by_what_it_is_and_not_by_its_first_letters() {
        let drawn = |name: &str| {
            let layer = NamedTensor {
                name: name.to_owned(),
                shape: vec![1, 2, 2, 3],
                values: Vec::new(),
            };
            let mut graph = Graph::new();
            unweighted(&mut graph, &Spec::default(), &layer, "images").map(|_| graph)
        };
        for name in POOLS.into_iter().chain(NORMS) {
            drawn(name).unwrap();
        }
        let error = drawn("pooled").unwrap_err().to_string();
        let want = "got a layer pooled, want one with weights, a pooling or a normalisation";
        assert_eq!(error, want);
    }
}
