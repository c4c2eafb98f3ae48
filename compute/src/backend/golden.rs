//! The network, its losses, gradients and updates against TensorFlow's.

use super::native::{self, activations, gradients};
use super::{DeviceLosses, Optimizer, upload};
use crate::model::Network;
use crate::testing::golden::{Golden, Tensor, assert_chi_square, assert_close, path};
use burn::tensor::{Device, Int, Tensor as Burn};
use runboard::checkpoint::NamedTensor;
use runboard::schedule::{self, Average, Schedule};
use runboard::spec::{self, Fidelity, Spec};

/// Every tensor of floats, relative to its largest value.
const BOUND: f64 = 1e-4;
/// Losses.
const LOSS_BOUND: f64 = 1e-5;
const CASES: [&str; 3] = ["tutorial", "strong", "other"];

/// A case of the golden file: the network that TensorFlow ran, on the batch that it ran it on.
struct Case<'a> {
    name: &'a str,
    golden: &'a Golden,
    spec: Spec,
    network: Network,
    device: Device,
}

impl<'a> Case<'a> {
    fn of(name: &'a str, golden: &'a Golden) -> Self {
        let shape = |parameter: &str| &golden.get(&format!("{name}/initial/{parameter}")).shape;
        let mut whole = Spec::default();
        let spec = &mut whole.network;
        (spec.pool, spec.norm) = settings(golden.get(&format!("{name}/settings")));
        spec.conv1.channels = shape("conv1/biases")[0];
        spec.conv2.channels = shape("conv2/biases")[0];
        spec.local3.units = shape("local3/biases")[0];
        spec.local4.units = shape("local4/biases")[0];
        let crop = golden.get(&format!("{name}/images")).shape[1];
        let device = Device::libtorch();
        let values = golden.below(&format!("{name}/initial")).into_iter();
        let values = values.map(|(name, tensor)| NamedTensor {
            name: name.to_owned(),
            shape: tensor.shape.clone(),
            values: tensor.floats(),
        });
        let network = Network::init(spec, crop, spec::Seed(1), &device)
            .with_tensors(&values.collect::<Vec<_>>())
            .unwrap();
        Case {
            name,
            golden,
            spec: whole,
            network,
            device,
        }
    }

    fn want(&self, what: &str) -> &Tensor {
        self.golden.get(&format!("{}/{what}", self.name))
    }

    fn batch(&self) -> (Burn<4>, Burn<1, Int>) {
        let images = self.want("images");
        let labels = self.want("labels").values.iter().map(|&label| label as i64);
        let side = images.shape[1];
        upload(images.floats(), labels.collect(), side, &self.device)
    }

    fn assert_parameters(&self, directory: &str, tensors: &[NamedTensor]) {
        for got in tensors {
            let name = format!("{directory}/{}", got.name);
            let want = self.want(&name);
            assert_eq!(got.shape, want.shape, "{name}");
            let name = format!("{}/{name}", self.name);
            assert_close(&name, &got.values, &want.values, BOUND);
        }
    }
}

fn settings(tensor: &Tensor) -> (spec::Pool, spec::Norm) {
    let [radius, bias, alpha, beta, size, stride] = tensor.values[..] else {
        panic!("got {} settings, want 6", tensor.values.len());
    };
    let (size, stride) = (size as usize, stride as usize);
    let pool = spec::Pool { size, stride };
    let radius = radius as usize;
    (
        pool,
        spec::Norm {
            name: spec::NormName::Lrn,
            radius,
            bias,
            alpha,
            beta,
        },
    )
}

#[test]
fn layers_are_tensorflows() {
    let golden = Golden::read("network");
    for case in CASES.map(|name| Case::of(name, &golden)) {
        let layers = activations(&case.network, &case.spec, case.batch().0).unwrap();
        let names: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
        let want = "conv1 pool1 norm1 conv2 norm2 pool2 local3 local4 softmax_linear";
        assert_eq!(names.join(" "), want);
        for NamedTensor {
            name,
            shape,
            values,
        } in &layers
        {
            let want = case.want(&format!("activations/{name}"));
            assert_eq!(shape, &want.shape, "{name}");
            assert_close(
                &format!("{}/{name}", case.name),
                values,
                &want.values,
                BOUND,
            );
            let zeros = values.iter().filter(|&&x| x == 0.0).count() as f64 / values.len() as f64;
            let want = case.want(&format!("sparsity/{name}")).values[0];
            assert!(
                (zeros - want).abs() < 1e-6,
                "{name}: sparsity {zeros}, want {want}"
            );
        }
        let logits = case.network.forward(&case.spec.network, case.batch().0);
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let want = &case.want("activations/softmax_linear").values;
        assert_close(
            &format!("{}/burn's logits", case.name),
            &logits,
            want,
            BOUND,
        );
    }
}

#[test]
fn losses_and_gradients_are_tensorflows() {
    let golden = Golden::read("network");
    for case in CASES.map(|name| Case::of(name, &golden)) {
        let (images, labels) = case.batch();
        let (losses, gradient_network) =
            gradients(&case.network, &case.spec, 0, images, labels).unwrap();
        let losses = DeviceLosses::read(&[&losses]).unwrap()[0];
        let [_, _, local3, local4, _] = losses.weight_decay;
        assert!(
            local3 + local4 > 0.01 * losses.total,
            "decay would not show"
        );
        for (name, got) in [
            ("total_loss", losses.total),
            ("cross_entropy", losses.cross_entropy),
            ("local3/weight_loss", local3),
            ("local4/weight_loss", local4),
        ] {
            let want = case.want(&format!("loss/{name}")).values[0];
            let off = (got / want - 1.0).abs();
            println!("{:<48} {off:.1e}", format!("{}/{name}", case.name));
            assert!(off < LOSS_BOUND, "{name}: got {got}, want {want}");
        }
        case.assert_parameters("gradients", &gradient_network.named());
    }
}

#[test]
fn weights_and_averages_are_tensorflows_after_one_and_five_steps() {
    let golden = Golden::read("network");
    for case in CASES.map(|name| Case::of(name, &golden)) {
        let spec = Spec::default();
        let schedule = Schedule::new(&spec, 50_000);
        let mut optimizer = Optimizer::new(&spec, &case.network).unwrap();
        for step in 0..5 {
            let (images, labels) = case.batch();
            let (losses, gradient_network) =
                gradients(optimizer.network(), &case.spec, 0, images, labels).unwrap();
            let rates = schedule.rates(step);
            optimizer
                .step(step, &gradient_network, &losses, rates)
                .unwrap();
            if let 0 | 4 = step {
                for (group, tensors) in optimizer.state() {
                    case.assert_parameters(&format!("{group}-{}", step + 1), &tensors);
                }
            }
        }
    }
}

#[test]
fn local_response_normalisation_is_tensorflows() {
    let golden = Golden::read("operations");
    for case in golden.numbered("lrn") {
        let norm = settings(golden.get(&format!("{case}/settings"))).1;
        differentiate(&golden, &case, |x| {
            native::local_response_norm(x, &norm).unwrap()
        });
    }
}

#[test]
fn pooling_is_tensorflows() {
    let golden = Golden::read("operations");
    for case in golden.numbered("pool") {
        let pool = settings(golden.get(&format!("{case}/settings"))).0;
        differentiate(&golden, &case, |x| native::pool(x, &pool).unwrap());
    }
}

/// Hold an operation's output and its gradient under the upstream one to TensorFlow's.
fn differentiate(golden: &Golden, case: &str, operation: impl Fn(&tch::Tensor) -> tch::Tensor) {
    let tensor = |name: &str| {
        let tensor = golden.get(&format!("{case}/{name}"));
        let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
        tch::Tensor::from_slice(&tensor.floats())
            .reshape(shape)
            .permute([0, 3, 1, 2])
    };
    let input = tensor("input").set_requires_grad(true);
    let output = operation(&input);
    let downstream = (&output * tensor("upstream")).sum(tch::Kind::Float);
    let gradient = &tch::Tensor::run_backward(&[&downstream], &[&input], false, false)[0];
    for (name, got) in [("output", &output), ("gradient", gradient)] {
        let got = got.detach().permute([0, 2, 3, 1]);
        let want = golden.get(&format!("{case}/{name}"));
        let shape: Vec<usize> = got.size().iter().map(|&size| size as usize).collect();
        assert_eq!(shape, want.shape, "{case}/{name}");
        let got = Vec::<f32>::try_from(got.contiguous().flatten(0, -1)).unwrap();
        assert_close(&format!("{case}/{name}"), &got, &want.values, BOUND);
    }
}

#[test]
fn schedules_are_tensorflows() {
    #[derive(serde::Deserialize)]
    struct Rates {
        images: usize,
        batch_size: usize,
        epochs_per_decay: f64,
        steps_per_drop: u64,
        staircase: std::collections::BTreeMap<u64, f64>,
        glide: std::collections::BTreeMap<u64, f64>,
        ema_decay: std::collections::BTreeMap<u64, f64>,
    }
    let text = std::fs::read_to_string(path("schedule.json")).unwrap();
    let golden: Rates = serde_json::from_str(&text).unwrap();
    let mut spec = Spec::default();
    spec.train.batch_size = golden.batch_size;
    let optimizer = &spec.optimizer;
    assert_eq!(optimizer.epochs_per_decay, golden.epochs_per_decay);
    assert_eq!(golden.steps_per_drop, 136_718);
    for (staircase, rates) in [(true, &golden.staircase), (false, &golden.glide)] {
        spec.optimizer.staircase = staircase;
        let schedule = Schedule::new(&spec, golden.images);
        for (&step, want) in rates {
            let got = schedule.learning_rate(step);
            assert!(
                (got / want - 1.0).abs() < 1e-6,
                "step {step}: got {got}, want {want}"
            );
        }
    }
    for (&updates, want) in &golden.ema_decay {
        let got = schedule::ema_decay(spec.optimizer.ema_decay, updates);
        assert!(
            (got - want).abs() < 1e-7,
            "n = {updates}: got {got}, want {want}"
        );
    }
}

#[test]
fn averages_of_the_losses_are_tensorflows_debiased_and_from_zero() {
    let golden = Golden::read("operations");
    for (name, fidelity) in [("debiased", Fidelity::Exact), ("plain", Fidelity::Tutorial)] {
        let mut average = Average::default();
        let values = golden.get("average/values").values.iter().map(|&value| {
            average.update(value);
            average.value(fidelity) as f32
        });
        let want = &golden.get(&format!("average/{name}")).values;
        assert_close(name, &values.collect::<Vec<_>>(), want, LOSS_BOUND);
    }
}

/// What cannot be golden: every layer's weights are normal within two of its own deviations, and nothing
/// lies beyond or heaps up at the ends.
#[test]
fn initial_weights_are_truncated_normals() {
    let spec = spec::Network::default();
    let network = Network::init(&spec, 24, spec::Seed(1), &Device::libtorch());
    let deviations = spec.layers(24).map(|layer| layer.stddev);
    // Probability of half a deviation's width, outwards from the mean: differences of the normal
    // distribution function at 0, 0.5, 1, 1.5 and 2, over the 0.954500 within two deviations.
    let halves = [0.191462, 0.149882, 0.091848, 0.044057].map(|share| share / 0.954500);
    for (weights, deviation) in network.named().iter().step_by(2).zip(deviations) {
        let mut cells: Vec<_> = [3, 2, 1, 0, 0, 1, 2, 3]
            .map(|half| (0, halves[half]))
            .to_vec();
        for &weight in &weights.values {
            let z = f64::from(weight) / deviation;
            assert!(z.abs() <= 2.0 + 1e-6, "{}: {z} deviations", weights.name);
            cells[((z + 2.0) * 2.0).clamp(0.0, 7.0) as usize].0 += 1;
        }
        assert_chi_square(&weights.name, &cells, 7.0, 1.0);
        let near = |z: f64| (z.abs() - 2.0).abs() < 0.01;
        let heaped = (weights.values.iter()).filter(|&&w| near(f64::from(w) / deviation));
        // Density 0.05399 / 0.9545 at both ends, five standard deviations of a count.
        let expected = 2.0 * 0.01 * 0.05426 / 0.954500 * weights.values.len() as f64;
        let excess = heaped.count() as f64 - expected;
        assert!(excess.abs() < 5.0 * expected.sqrt().max(1.0), "{excess}");
    }
}
