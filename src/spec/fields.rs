//! The table of all fields of a spec: the schema of its files and the range of every value.

use super::names;
use super::rule::Rule::{
    self, Above, Below, Bool, Device, Directory, Int, MultipleOf, Name, Odd, OneOf, Text, Within,
};
use super::rule::describe;
use serde_yaml::Value;

const COUNT: Rule = Int(1, 1_000_000_000);
const BATCH: Rule = Int(1, 65_536);
const THREADS: Rule = Int(0, 1_024);
const SEED: Rule = Int(0, u64::MAX);
const WIDTH: Rule = Int(1, 4_096);
// "Same" padding of an even kernel is lopsided, so kernels are odd.
const KERNEL: Rule = Odd(1, 15);
// A deviation of 0 (all weights equal) is a legitimate experiment. The upper bounds of this and the
// following rules are far above use and far below what overflows an f32, which weights are stored in.
const STDDEV: Rule = Within(0.0, 1_000.0);
const BIAS: Rule = Within(-1_000.0, 1_000.0);
const DECAY: Rule = Within(0.0, 1_000.0);
const FACTOR: Rule = Within(0.0, 100.0);
const POOL: Rule = Int(1, 8);
const MILLION: f64 = 1_000_000.0;

/// Every field, in the order of the struct; first the one key that files have and a spec has not.
const FIELDS: &[(&str, Rule)] = &[
    ("extends", Name),
    ("description", Text),
    ("seed", SEED),
    ("fidelity", OneOf(&["exact", "tutorial"])),
    ("compute.device", Device),
    ("compute.threads", THREADS),
    ("compute.precision", OneOf(&["float32", "tf32", "bf16"])),
    ("data.source", OneOf(&["cifar10", "synthetic"])),
    ("data.folder", Directory),
    ("data.download", Bool),
    ("data.prefetch", Int(1, 1_024)),
    ("data.workers", Int(1, 64)),
    // Spread evenly over the five training files of the CIFAR-10 layout.
    ("data.synthetic.train_images", MultipleOf(5, 10, 5_000_000)),
    ("data.synthetic.test_images", Int(10, 5_000_000)),
    ("data.synthetic.seed", SEED),
    // The images are 32 pixels wide.
    ("input.crop", Int(1, 32)),
    ("input.flip", Bool),
    // A full 255 already turns black into white.
    ("input.brightness", Within(0.0, 255.0)),
    ("input.contrast.lower", FACTOR),
    ("input.contrast.upper", FACTOR),
    ("input.standardize", Bool),
    ("network.conv1.channels", WIDTH),
    ("network.conv1.kernel", KERNEL),
    ("network.conv1.stddev", STDDEV),
    ("network.conv1.bias", BIAS),
    ("network.conv1.weight_decay", DECAY),
    ("network.conv2.channels", WIDTH),
    ("network.conv2.kernel", KERNEL),
    ("network.conv2.stddev", STDDEV),
    ("network.conv2.bias", BIAS),
    ("network.conv2.weight_decay", DECAY),
    ("network.pool.size", POOL),
    ("network.pool.stride", POOL),
    ("network.norm.radius", Int(0, 64)),
    // The base of a negative power: 0 would divide by zero where all neighbours are 0.
    ("network.norm.bias", Above(0.0, MILLION)),
    ("network.norm.alpha", Within(0.0, MILLION)),
    ("network.norm.beta", Above(0.0, 5.0)),
    ("network.local3.units", WIDTH),
    ("network.local3.stddev", STDDEV),
    ("network.local3.bias", BIAS),
    ("network.local3.weight_decay", DECAY),
    ("network.local4.units", WIDTH),
    ("network.local4.stddev", STDDEV),
    ("network.local4.bias", BIAS),
    ("network.local4.weight_decay", DECAY),
    ("network.softmax_linear.stddev", STDDEV),
    ("network.softmax_linear.bias", BIAS),
    ("network.softmax_linear.weight_decay", DECAY),
    ("optimizer.learning_rate", Above(0.0, MILLION)),
    ("optimizer.decay_factor", Above(0.0, 1.0)),
    ("optimizer.epochs_per_decay", Above(0.0, 1e9)),
    ("optimizer.staircase", Bool),
    // At 1 the average would never leave its initial value.
    ("optimizer.ema_decay", Below(0.0, 1.0)),
    ("train.steps", COUNT),
    ("train.batch_size", BATCH),
    ("train.log_every", COUNT),
    ("train.scalars_every", COUNT),
    ("train.histograms_every", COUNT),
    ("train.images_every", COUNT),
    ("train.checkpoint_every", COUNT),
    ("train.keep_checkpoints", COUNT),
    ("train.keep_every", Int(0, 1_000_000_000)),
    ("train.keep_best", Bool),
    ("train.on_divergence", OneOf(&["stop", "rollback"])),
    ("train.max_rollbacks", Int(1, 1_000)),
    // At 1 the same would happen again.
    ("train.rollback_factor", Above(0.0, 0.99)),
    ("train.restarts", Int(0, 1_000_000)),
    ("eval.policy", OneOf(&["every", "latest"])),
    // At least 10 ms, so that polling never spins; at most a day.
    ("eval.interval_secs", Within(0.01, 86_400.0)),
    ("eval.batch_size", BATCH),
    ("eval.threads", THREADS),
];

/// The rule of the field at this dotted path; none for a section and for an unknown path.
pub(super) fn rule(field: &str) -> Option<&'static Rule> {
    let (_, rule) = FIELDS.iter().find(|(path, _)| *path == field)?;
    Some(rule)
}

/// The dotted paths of all fields.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(path, _)| *path)
}

/// The keys of a section, in the table's order; the top level is the section "". Empty if there is no
/// such section.
pub(super) fn keys(section: &str) -> Vec<&'static str> {
    let mut keys: Vec<&str> = paths()
        .filter_map(|path| {
            let rest = match section {
                "" => path,
                _ => path.strip_prefix(section)?.strip_prefix('.')?,
            };
            rest.split('.').next()
        })
        .collect();
    keys.dedup(); // a section's fields stand together
    keys
}

/// The dotted path of a section's key.
pub(super) fn join(section: &str, key: &str) -> String {
    match section {
        "" => key.to_owned(),
        _ => format!("{section}.{key}"),
    }
}

/// What the field or section at this path wants, to follow "want".
pub(super) fn wanted(path: &str) -> String {
    match rule(path) {
        Some(rule) => rule.to_string(),
        None => format!("a mapping of {}", keys(path).join(", ")),
    }
}

/// Pass a scalar that the field allows; else a message of what was found and what is wanted.
pub(super) fn check(field: &str, value: Value) -> Result<Value, String> {
    match rule(field) {
        Some(rule) => rule.check(value),
        None => Err(format!("got {}, want {}", describe(&value), wanted(field))),
    }
}

/// The message for a key that a section does not have.
pub(super) fn unknown_key(section: &str, key: &str) -> String {
    let known = keys(section);
    let mut message = format!("unknown key, want one of {}", known.join(", "));
    // The right name in the wrong section is an easy slip in a nested file.
    let same = |path: &&str| path.rsplit_once('.').is_some_and(|(_, last)| last == key);
    let near = match names::nearest(key, known.iter().copied()) {
        Some(near) => vec![near],
        None => paths().filter(same).take(2).collect(),
    };
    if !near.is_empty() {
        message += &format!("; did you mean '{}'?", near.join("' or '"));
    }
    message
}
