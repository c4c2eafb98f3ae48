//! What users of other programs call fields.

/// Their names, and the fields.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("lr", &["optimizer.learning_rate"]),
    ("lrate", &["optimizer.learning_rate"]),
    ("wd", &["optimizer.weight_decay"]),
    (
        "l2",
        &["network.local3.weight_decay", "network.local4.weight_decay"],
    ),
    ("eps", &["optimizer.epsilon"]),
    ("optimizer", &["optimizer.name"]),
    ("ema", &["optimizer.ema_decay"]),
    ("grad_clip", &["optimizer.clip_norm"]),
    ("clip_grad_norm", &["optimizer.clip_norm"]),
    ("max_grad_norm", &["optimizer.clip_norm"]),
    ("grad_accum", &["optimizer.gradient_accumulation"]),
    ("accumulation_steps", &["optimizer.gradient_accumulation"]),
    ("scheduler", &["schedule.name"]),
    ("lr_scheduler", &["schedule.name"]),
    ("gamma", &["schedule.factor"]),
    ("milestones", &["schedule.knots"]),
    ("warmup_steps", &["schedule.warmup"]),
    ("warmup_epochs", &["schedule.warmup"]),
    ("bs", &["train.batch_size"]),
    ("batch", &["train.batch_size"]),
    ("epochs", &["train.epochs"]),
    ("n_epochs", &["train.epochs"]),
    ("num_epochs", &["train.epochs"]),
    ("max_epochs", &["train.epochs"]),
    ("max_steps", &["train.steps"]),
    ("iterations", &["train.steps"]),
    ("save_every", &["train.checkpoint_every"]),
    ("early_stopping", &["stop.patience"]),
    ("random_seed", &["seed"]),
    ("manual_seed", &["seed"]),
    ("num_workers", &["data.workers"]),
    ("dataset", &["data.source", "data.folder"]),
    ("val_split", &["data.validation_images"]),
    ("augmentation", AUGMENTATION),
    ("augment", AUGMENTATION),
    ("transforms", AUGMENTATION),
    ("amp", &["compute.precision"]),
    ("mixed_precision", &["compute.precision"]),
    ("dtype", &["compute.precision"]),
    ("reduce_dtype", &["compute.reduce_precision"]),
    ("communication_data_type", &["compute.reduce_precision"]),
    ("gpu", &["compute.device"]),
    ("gpus", &["compute.devices"]),
];

const AUGMENTATION: &[&str] = &[
    "input.flip",
    "input.crop",
    "input.pad",
    "input.cutout",
    "input.cutmix",
    "input.brightness",
    "input.contrast.lower",
    "input.contrast.upper",
];

/// The fields that users of other programs mean by this name; none by another one.
pub fn meant_by(name: &str) -> &'static [&'static str] {
    let name = name.to_lowercase().replace('-', "_");
    let found = SYNONYMS.iter().find(|(theirs, _)| *theirs == name);
    found.map_or(&[], |(_, ours)| ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Field;

    #[test]
    fn synonyms_are_of_fields_that_there_are() {
        for (name, fields) in SYNONYMS {
            assert_eq!(meant_by(name), *fields, "{name} is there twice");
            for path in *fields {
                assert!(Field::all().any(|field| field.path == *path), "{path}");
            }
            assert!(Field::all().all(|field| field.path != *name), "{name}");
        }
        assert_eq!(meant_by("LR-Scheduler"), ["schedule.name"]);
        assert_eq!(meant_by("learning_rate"), [""; 0]);
    }
}
