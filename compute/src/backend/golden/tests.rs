//! Every golden value on the CPU, and what is on no device: schedules, averages of the losses, initial weights.

use super::network::{CASES, Case};
use super::*;
use crate::model::Network;
use crate::testing::golden::{assert_chi_square, path};
use runboard::reference::Golden;
use runboard::schedule::{self, Average, Schedule};
use runboard::spec::{self, Fidelity, Spec};

fn compared(precision: Precision) -> Vec<Comparison> {
    let comparisons = compare(&Device::libtorch(), precision).unwrap();
    for Comparison {
        name, deviation, ..
    } in &comparisons
    {
        println!("{name:<60} {:.1e}", deviation.unwrap_or(f64::NAN));
    }
    for it in &comparisons {
        assert!(it.passed, "{it:?}");
    }
    comparisons
}

#[test]
fn layers_losses_gradients_updates_and_rules_are_tensorflows_and_pytorchs() {
    let comparisons = compared(Precision::Float32);
    let count = |group: &str| {
        let prefix = format!("{group}/");
        let of_group = comparisons.iter().filter(|it| it.name.starts_with(&prefix));
        of_group.count()
    };
    let (cases, parameters) = (3, 10);
    for (group, want) in [
        ("layers", cases * 9),
        ("zeros", cases * 9),
        ("logits", cases),
        ("losses", cases * 4),
        ("gradients", cases * parameters),
        // What the kernels do is not all that the CPU can.
        ("libtorch-losses", cases * 4),
        ("libtorch-gradients", cases * parameters),
        ("weights-1", cases * parameters),
        ("weights-5", cases * parameters),
        ("ema-1", cases * parameters),
        ("ema-5", cases * parameters),
        ("lrn", 7 * 2),
        ("pool", 32 * 2),
        ("rules", 13 * 4 * parameters),
        ("smoothing", 3 * 2),
        ("libtorch-smoothing", 3 * 2),
    ] {
        assert_eq!(count(group), want, "{group}");
    }
    // TensorFloat-32 is a GPU's.
    assert_eq!(compared(Precision::Tf32), comparisons);
}

#[test]
fn bfloat16_is_within_its_tolerances_and_beyond_those_of_float32() {
    let comparisons = compared(Precision::Bf16);
    let float = Tolerances::of(Precision::Float32, false).values;
    let layers = |it: &&Comparison| it.name.starts_with("layers/") && !it.name.contains("conv1");
    let beyond = |it: &Comparison| it.deviation.unwrap() > float;
    assert!(comparisons.iter().filter(layers).all(beyond));
}

#[test]
fn comparison_of_another_networks_weights_fails() {
    let golden = Golden::parse(NETWORK).unwrap();
    let device = Device::libtorch();
    let mut comparisons = Comparisons::new(&device, Precision::Float32).unwrap();
    let mut case = Case::of("tutorial", &golden, &device, Precision::Float32).unwrap();
    case.spec.network.norm.alpha *= 1.5; // of little weight
    comparisons.layers(&case).unwrap();
    assert!(comparisons.done.iter().any(|it| !it.passed));
}

#[test]
fn burns_logits_are_tensorflows() {
    let golden = Golden::parse(NETWORK).unwrap();
    let device = Device::libtorch();
    for name in CASES {
        let case = Case::of(name, &golden, &device, Precision::Float32).unwrap();
        let logits = case
            .network
            .forward(&case.spec.network, case.batch().unwrap().0);
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let want = &case.want("activations/softmax_linear").unwrap().values;
        assert!(deviation(&logits, want) < 1e-4, "{name}");
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
    let golden = Golden::parse(OPERATIONS).unwrap();
    for (name, fidelity) in [("debiased", Fidelity::Exact), ("plain", Fidelity::Tutorial)] {
        let mut average = Average::default();
        let values = golden
            .get("average/values")
            .unwrap()
            .values
            .iter()
            .map(|&value| {
                average.update(value);
                average.value(fidelity) as f32
            });
        let want = &golden.get(&format!("average/{name}")).unwrap().values;
        assert!(
            deviation(&values.collect::<Vec<_>>(), want) < 1e-5,
            "{name}"
        );
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
