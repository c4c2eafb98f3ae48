//! The entries of the section `sweep`, for people and for editors. What they may hold is checked where sweeps are read.

use super::section::SWEEP;

/// An entry: its key, its default, what it may hold, and what it means.
pub(super) struct Entry {
    pub key: &'static str,
    pub default: &'static str,
    pub allowed: &'static str,
    pub meaning: &'static str,
}

impl Entry {
    /// Its dotted path.
    pub fn path(&self) -> String {
        format!("{SWEEP}.{}", self.key)
    }
}

const fn entry(
    key: &'static str,
    default: &'static str,
    allowed: &'static str,
    meaning: &'static str,
) -> Entry {
    Entry {
        key,
        default,
        allowed,
        meaning,
    }
}

pub(super) const ABOUT: &str = "Many runs of the spec, each with other values of a few fields (docs/sweeps.md). Not of a \
    run's spec: each point is a run with a spec of its own. A file that has it cannot be extended.";

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        "method",
        "grid",
        "grid, random or points",
        "grid: all combinations of the parameters' values. random: `runs` draws of them. points: what `points` lists.",
    ),
    entry(
        "metric",
        "{name: accuracy, goal: maximize, of: best}",
        "name: accuracy or loss; goal: maximize or minimize; of: best or last",
        "What points are ranked by: of their best or last checkpoint, over the validation images where \
         data.validation_images is set, else over the test images.",
    ),
    entry(
        "parameters",
        "none",
        "a mapping of dotted fields to values",
        "The fields that differ. A list, or {values: [...]}, or 1..3 for whole numbers; of a field that holds a list a \
         list of lists. With random also {min: ..., max: ...}, which is uniform, or int_uniform for whole numbers, unless \
         distribution names another one: log_uniform_values, or q_uniform for the multiples of q.",
    ),
    entry(
        "cases",
        "none",
        "a list of mappings as in parameters",
        "Values that belong together: grid runs every case with all combinations of the parameters, random draws one \
         of them first.",
    ),
    entry(
        "points",
        "none",
        "a list of mappings of dotted fields to one value",
        "The points, with method points only.",
    ),
    entry(
        "runs",
        "none",
        "a whole number from 1 to 10000",
        "How many settings random draws; required there. More of them leave the first ones as they are.",
    ),
    entry(
        "seed",
        "1",
        "a whole number",
        "Seed of random's draws. That of the runs is in seeds.",
    ),
    entry(
        "seeds",
        "the spec's seed",
        "a whole number, or a list of seeds",
        "Every setting is run with each; 3 means the spec's seed and the two that follow. Settings are ranked by the \
         mean over their seeds.",
    ),
    entry(
        "parallel",
        "the number of devices",
        "a whole number from 1 to 1024",
        "How many points run at once: at most one a GPU, or one a core of the CPU, of which 1 is the default.",
    ),
    entry(
        "devices",
        "all GPUs, else the CPU",
        "a list of cpu and cuda:N",
        "What the points run on, given out one to a run.",
    ),
    entry(
        "launcher",
        "local",
        "local, slurm, or {slurm: {...}} with partition, account, qos, time, mem, gpus_per_task, cpus_per_task, options",
        "What runs the points: this machine, or Slurm, a job each (docs/distributed.md). parallel is then how many jobs there \
         are at once, by default all.",
    ),
    entry(
        "on_failure",
        "continue",
        "continue or stop",
        "What happens to the other points when one fails.",
    ),
    entry(
        "target",
        "none",
        "a number",
        "The sweep is over when the metric of a point has reached it: no further point begins, and those that run are stopped, that one too.",
    ),
    entry(
        "early_terminate",
        "none",
        "{type: halving, min_iter: STEPS, eta: 3}",
        "Successive halving: when all points have trained min_iter steps the best 1/eta go on, again at eta times as many \
         steps, and so on; the others stop there, with their checkpoints.",
    ),
];

/// The names of the distributions of numbers.
pub const DISTRIBUTIONS: [&str; 4] = ["uniform", "log_uniform_values", "int_uniform", "q_uniform"];

/// Why a field cannot differ between the points of a sweep, and what to do; none if it can.
pub fn sweep_refusal(field: &str) -> Option<&'static str> {
    match field {
        "seed" => Some(
            "want seeds: [1, 2, 3] in sweep itself, for every setting: points that differ by the seed alone are averaged",
        ),
        "compute.device" | "compute.devices" => {
            Some("want devices: [cuda:0, cuda:1] in sweep, beside parameters")
        }
        "data.prefetch" | "data.workers" => None,
        field if field.starts_with("data.") => {
            Some("points are compared on the same images; want it in the spec")
        }
        _ => None,
    }
}

/// The keys of the section, in the order of the reference.
pub fn sweep_keys() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.key).collect()
}
