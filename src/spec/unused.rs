//! Fields that have no effect with the others: where one is set, it is a mistake, not silence.

use super::{AverageName, LAYERS, OptimizerName, ScheduleName, Spec};
use serde::Serialize;

/// A field that has no effect with the others.
pub(super) struct Unused {
    pub field: String,
    /// The fields that make it so.
    pub by: Vec<String>,
    /// Their values and what these would have to be, as the rest of a sentence that begins with "has no effect with".
    pub message: String,
}

/// Fields and the choices that use them.
type Uses = &'static [(&'static str, &'static [&'static str])];

const SOURCE: Uses = &[
    ("data.download", &["cifar10"]),
    ("data.synthetic.train_images", &["synthetic"]),
    ("data.synthetic.test_images", &["synthetic"]),
    ("data.synthetic.seed", &["synthetic"]),
];

const OPTIMIZER: Uses = &[
    ("optimizer.sgd_learning_rate", &["muon"]),
    ("optimizer.momentum", &["sgd", "muon"]),
    ("optimizer.nesterov", &["sgd", "muon"]),
    ("optimizer.dampening", &["sgd"]),
    ("optimizer.betas", &["adamw"]),
    ("optimizer.epsilon", &["adamw"]),
];

const AVERAGE: Uses = &[
    ("optimizer.ema_decay", &["ema", "lookahead"]),
    ("average.warmup", &["ema"]),
    ("average.start_epoch", &["ema", "lookahead"]),
    ("average.every", &["ema", "lookahead"]),
    ("average.power", &["lookahead"]),
];

const NORM: Uses = &[
    ("network.norm.radius", &["lrn"]),
    ("network.norm.bias", &["lrn"]),
    ("network.norm.alpha", &["lrn"]),
    ("network.norm.beta", &["lrn"]),
];

const SCHEDULE: Uses = &[
    ("optimizer.decay_factor", &["exponential"]),
    ("optimizer.epochs_per_decay", &["exponential"]),
    ("optimizer.staircase", &["exponential"]),
    ("schedule.knots", &["multistep", "piecewise"]),
    ("schedule.factors", &["piecewise"]),
    ("schedule.interpolation", &["one_cycle", "piecewise"]),
    ("schedule.factor", &["multistep"]),
    ("schedule.initial_factor", &["one_cycle"]),
    ("schedule.final_factor", &["cosine", "one_cycle"]),
    ("schedule.peak", &["one_cycle"]),
];

const DIVERGENCE: Uses = &[
    ("train.max_rollbacks", &["rollback"]),
    ("train.rollback_factor", &["rollback"]),
];

/// The fields that have no effect with the others.
pub(super) fn fields(spec: &Spec) -> Vec<Unused> {
    let mut found = Vec::new();
    let mut add = |field: &str, by: &[&str], message: &str| {
        found.push(Unused {
            field: field.to_owned(),
            by: by.iter().map(|&field| field.to_owned()).collect(),
            message: message.to_owned(),
        });
    };
    if spec.input.pad == 0 {
        let message = "input.pad 0, want input.pad of at least 1";
        add("input.pad_mode", &["input.pad"], message);
    }
    if spec.train.batch_size == 1 && spec.input.cutmix > 0 {
        let message =
            "train.batch_size 1, want at least 2: the squares are of the batch's other images";
        add("input.cutmix", &["train.batch_size"], message);
    }
    // Without a momentum they have no effect anyway, by the optimizer's name.
    if spec.optimizer.momentum == 0.0 && spec.optimizer.name.has_momentum() {
        let message = "optimizer.momentum 0, want one above 0";
        add("optimizer.nesterov", &["optimizer.momentum"], message);
        if spec.optimizer.name == OptimizerName::Sgd {
            add("optimizer.dampening", &["optimizer.momentum"], message);
        }
    }
    if spec.schedule.name == ScheduleName::OneCycle {
        if spec.schedule.peak == 0.0 {
            let message = "schedule.peak 0, before which there is nothing, want one above 0";
            add("schedule.initial_factor", &["schedule.peak"], message);
        }
        if spec.schedule.peak == 100.0 {
            let message = "schedule.peak 100, after which there is nothing, want one below 100";
            add("schedule.final_factor", &["schedule.peak"], message);
        }
    }
    if spec.optimizer.ema_decay == 0.0 && spec.average.name != AverageName::None {
        let message = "optimizer.ema_decay 0, where the average is the weights, want one above 0";
        for field in ["average.warmup", "average.start_epoch", "average.power"] {
            add(field, &["optimizer.ema_decay"], message);
        }
    }
    if spec.schedule.warmup == 0.0 {
        let message = "schedule.warmup 0, want one above 0";
        add("schedule.warmup_factor", &["schedule.warmup"], message);
        if !spec.schedule.has_knots() {
            let message = "no knots and no warm-up, which are counted in it";
            add(
                "schedule.unit",
                &["schedule.name", "schedule.warmup"],
                message,
            );
        }
    }
    found.extend(by_choice("data.source", spec.data.source, SOURCE));
    found.extend(by_choice("optimizer.name", spec.optimizer.name, OPTIMIZER));
    found.extend(by_choice("average.name", spec.average.name, AVERAGE));
    let norm = &spec.network.norm;
    found.extend(by_choice("network.norm.name", norm.name, NORM));
    // The shapes, which depend on the crop, do not matter here.
    let layers = spec.network.layers(spec.input.crop);
    for (layer, init) in LAYERS.iter().zip(layers.map(|layer| layer.init)) {
        let stddev = format!("network.{layer}.stddev");
        let uses = [(&*stddev, &["truncated_normal"][..])];
        found.extend(by_choice(&format!("network.{layer}.init"), init, &uses));
    }
    for (layer, frozen) in LAYERS.iter().zip(spec.network.frozen()) {
        let decay = format!("network.{layer}.weight_decay");
        let uses = [(&*decay, &["false"][..])];
        found.extend(by_choice(&format!("network.{layer}.frozen"), frozen, &uses));
    }
    found.extend(by_choice("schedule.name", spec.schedule.name, SCHEDULE));
    let policy = spec.train.on_divergence;
    found.extend(by_choice("train.on_divergence", policy, DIVERGENCE));
    found
}

/// The fields that the choice of one field does not use.
fn by_choice(by: &str, choice: impl Serialize, uses: &[(&str, &[&str])]) -> Vec<Unused> {
    // A name always has a text.
    let text = serde_yaml::to_string(&choice).unwrap_or_default();
    let chosen = text.trim_end();
    let unused = |(field, users): &(&str, &[&str])| Unused {
        field: (*field).to_owned(),
        by: vec![by.to_owned()],
        message: format!("{by} {chosen}, want {}", users.join(" or ")),
    };
    let found = uses.iter().filter(|(_, users)| !users.contains(&chosen));
    found.map(unused).collect()
}
