//! What a sweep is: which points it has, how they are run and how they are ranked.

use super::random::Distribution;
use crate::spec::Section;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml::Value;

/// The section `sweep` of an experiment, resolved. It is written as a person would write it, and read back as that is.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub method: Method,
    pub metric: Metric,
    /// Fields that differ from point to point; none for [`Method::Points`].
    pub parameters: Vec<Parameter>,
    /// Fields that belong together: every point has the values of one case. For [`Method::Points`] the points.
    pub cases: Vec<Case>,
    /// Every setting is run with each of these. At least one.
    pub seeds: Vec<u64>,
    /// How many points run at once. At least 1.
    pub parallel: usize,
    /// `cpu` or `cuda:N`, one for each point that runs; none for all GPUs that there are, or else the CPU.
    pub devices: Option<Vec<String>>,
    pub launcher: Launcher,
    pub on_failure: OnFailure,
    /// No point begins any more when the metric of one has reached this.
    pub target: Option<f64>,
    pub early_terminate: Option<Halving>,
}

/// What runs the points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// This machine.
    Local,
    /// Slurm, a job each.
    Slurm(SlurmOptions),
}

/// What `sbatch` is told of each point's job; what is not said Slurm decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlurmOptions {
    /// Options with one text, among [`SlurmOptions::TEXTS`], in that order.
    pub texts: Vec<(&'static str, String)>,
    pub gpus_per_task: Option<usize>,
    pub cpus_per_task: Option<usize>,
    /// Further options, as `--exclusive`. They come last, and so before those above.
    pub options: Vec<String>,
}

impl SlurmOptions {
    /// The options of `sbatch` that are a key with one text, as it takes it: time as minutes, or `HOURS:MINUTES:SECONDS`; mem as
    /// `8G`.
    pub const TEXTS: [&str; 5] = ["partition", "account", "qos", "time", "mem"];

    /// The arguments of `sbatch`, but for the cores.
    pub fn arguments(&self) -> Vec<String> {
        let texts = self.texts.iter();
        let texts = texts.map(|(key, text)| format!("--{key}={text}"));
        let gpus = self
            .gpus_per_task
            .map(|gpus| format!("--gpus-per-task={gpus}"));
        // Slurm wants the number of tasks with it.
        let tasks = gpus.as_ref().map(|_| "--ntasks=1".to_owned());
        let all = texts.chain(gpus).chain(tasks);
        all.chain(self.options.iter().cloned()).collect()
    }

    fn to_value(&self) -> Value {
        let mut entries = Entries::default();
        for (key, text) in &self.texts {
            entries.add(key, text.clone());
        }
        let numbers = [
            ("gpus_per_task", self.gpus_per_task),
            ("cpus_per_task", self.cpus_per_task),
        ];
        for (key, number) in numbers {
            if let Some(number) = number {
                entries.add(key, number as u64);
            }
        }
        if !self.options.is_empty() {
            entries.add("options", list(&self.options));
        }
        entries.0.into()
    }
}

/// How the points are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// All combinations of the parameters' values.
    Grid,
    /// So many settings drawn at random; each depends on the seed, its number and those before it alone.
    Random { runs: usize, seed: u64 },
    /// As listed.
    Points,
}

impl Method {
    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Grid => "grid",
            Method::Random { .. } => "random",
            Method::Points => "points",
        }
    }
}

/// By what points are ranked: of the validation images where the spec holds some out, else of the test images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metric {
    pub name: MetricName,
    pub goal: Goal,
    pub of: Score,
}

/// A number that an evaluation finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricName {
    /// Of the averaged weights, in 0..=1.
    Accuracy,
    /// Mean cross-entropy of the averaged weights.
    Loss,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    Maximize,
    Minimize,
}

/// Of which checkpoint of a run the metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    Best,
    Last,
}

/// What a failed point does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nothing.
    Continue,
    /// No further point begins, and those that run are stopped.
    Stop,
}

/// Synchronous successive halving: at `min_iter` steps, and whenever `eta` times as many are trained, the best 1/`eta` of
/// the points go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halving {
    /// Steps of the first rung.
    pub min_iter: u64,
    /// At least 2.
    pub eta: u64,
}

impl Halving {
    /// The rungs from that of so many steps on at which points of `end` steps are compared, of which there are so many settings
    /// then: the steps, and how many settings are left there.
    pub fn compared(self, first: u64, settings: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let next = move |(steps, settings): &(u64, u64)| {
            Some((steps.checked_mul(self.eta)?, settings.div_ceil(self.eta)))
        };
        let rungs = std::iter::successors(Some((first, settings)), next);
        rungs.take_while(move |(steps, settings)| *settings > 1 && *steps < end)
    }
}

/// A field and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Dotted path.
    pub field: String,
    pub choice: Choice,
}

/// What a field's value is chosen from.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// At least one, each allowed by the field.
    Values(Vec<Value>),
    /// Of [`Method::Random`] alone.
    Distribution(Distribution),
}

/// A part of a sweep: points that train until they are compared, or to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// How many steps they have trained then.
    pub until: u64,
    /// How many they are.
    pub points: u64,
}

/// Fields that belong together.
pub type Case = Vec<Parameter>;

impl Definition {
    /// The section that defines the same sweep, with nothing left to a default.
    pub fn to_value(&self) -> Value {
        let mut section = Entries::default();
        section.add("method", self.method.name());
        if let Method::Random { runs, seed } = self.method {
            section.add("runs", runs as u64);
            section.add("seed", seed);
        }
        // Plain names alone.
        section.add(
            "metric",
            serde_yaml::to_value(self.metric).unwrap_or_default(),
        );
        let cases: Vec<Value> = self.cases.iter().map(|case| mapping(case)).collect();
        if self.method == Method::Points {
            section.add("points", cases);
        } else {
            section.add("parameters", mapping(&self.parameters));
            if !cases.is_empty() {
                section.add("cases", cases);
            }
        }
        section.add("seeds", list(&self.seeds));
        section.add("parallel", self.parallel as u64);
        if let Some(devices) = &self.devices {
            section.add("devices", list(devices));
        }
        if let Launcher::Slurm(options) = &self.launcher {
            let mut inner = Entries::default();
            inner.add("slurm", options.to_value());
            section.add("launcher", inner.0);
        }
        let on_failure = serde_yaml::to_value(self.on_failure).unwrap_or_default();
        section.add("on_failure", on_failure);
        if let Some(target) = self.target {
            section.add("target", target);
        }
        if let Some(halving) = self.early_terminate {
            let mut inner = Entries::default();
            inner.add("type", "halving");
            inner.add("min_iter", halving.min_iter);
            inner.add("eta", halving.eta);
            section.add("early_terminate", inner.0);
        }
        section.0.into()
    }

    /// The steps at which halving compares points of so many steps; none without it.
    pub fn rungs(&self, steps: u64) -> Vec<u64> {
        let Some(halving) = self.early_terminate else {
            return Vec::new();
        };
        let next = |rung: &u64| rung.checked_mul(halving.eta);
        let rungs = std::iter::successors(Some(halving.min_iter), next);
        rungs.take_while(|&rung| rung < steps).collect()
    }

    /// What a sweep comes to whose points train so many steps each, if none fails: at each rung of halving the best settings go
    /// on, with all of their seeds, and the last one trains to its end. Without halving it is one stage, to the end of the longest point.
    pub fn stages(&self, steps: &[u64]) -> Vec<Stage> {
        let seeds = self.seeds.len().max(1);
        let stage = |(until, settings)| Stage {
            until,
            points: settings * seeds as u64,
        };
        let settings = (steps.len() / seeds) as u64;
        // All points of a halving train the same number of steps.
        let end = steps.iter().copied().max().unwrap_or(0);
        let Some(halving) = self.early_terminate else {
            return vec![stage((end, settings))];
        };
        let rungs: Vec<_> = halving.compared(halving.min_iter, settings, end).collect();
        let left = rungs
            .last()
            .map_or(settings, |(_, last)| last.div_ceil(halving.eta));
        rungs.into_iter().chain([(end, left)]).map(stage).collect()
    }

    /// How many steps are trained in all, if no point fails, by points of so many steps.
    pub fn steps(&self, steps: &[u64]) -> u64 {
        if self.early_terminate.is_none() {
            return steps.iter().sum();
        }
        let mut trained = 0;
        let of_stage = |stage: Stage| {
            let more = stage.until - trained;
            trained = stage.until;
            stage.points * more
        };
        self.stages(steps).into_iter().map(of_stage).sum()
    }

    /// How many sessions of points there are in all, if no point fails, of points of so many steps: one in each stage.
    pub fn starts(&self, steps: &[u64]) -> u64 {
        self.stages(steps).iter().map(|stage| stage.points).sum()
    }

    /// The fields that differ between points, in the order of the definition: those of cases first.
    pub fn fields(&self) -> Vec<&str> {
        let mut fields: Vec<&str> = Vec::new();
        for parameter in self.cases.iter().flatten().chain(&self.parameters) {
            if !fields.contains(&parameter.field.as_str()) {
                fields.push(&parameter.field);
            }
        }
        fields
    }
}

impl Parameter {
    /// The only value that it has, if it has only one.
    pub fn constant(&self) -> Option<&Value> {
        match &self.choice {
            Choice::Values(values) if values.len() == 1 => values.first(),
            _ => None,
        }
    }
}

fn list<T: Clone + Into<Value>>(items: &[T]) -> Vec<Value> {
    items.iter().cloned().map(Into::into).collect()
}

fn mapping(parameters: &[Parameter]) -> Value {
    let mut entries = Entries::default();
    for parameter in parameters {
        let mut choice = Entries::default();
        match &parameter.choice {
            Choice::Values(values) => choice.add("values", values.clone()),
            Choice::Distribution(distribution) => {
                choice.add("distribution", distribution.name());
                let bounds: &[(&str, Value)] = match *distribution {
                    Distribution::Uniform { min, max }
                    | Distribution::LogUniformValues { min, max } => {
                        &[("min", min.into()), ("max", max.into())]
                    }
                    Distribution::IntUniform { min, max } => {
                        &[("min", min.into()), ("max", max.into())]
                    }
                    Distribution::QUniform { min, max, q } => {
                        &[("min", min.into()), ("max", max.into()), ("q", q.into())]
                    }
                };
                for (key, bound) in bounds {
                    choice.add(key, bound.clone());
                }
            }
        }
        entries.add(&parameter.field, choice.0);
    }
    entries.0.into()
}

/// A mapping that grows.
#[derive(Default)]
struct Entries(serde_yaml::Mapping);

impl Entries {
    fn add(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }
}

impl Serialize for Definition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Definition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Section::of_values(Value::deserialize(deserializer)?);
        Definition::read(&section, Default::default(), 1).map_err(D::Error::custom)
    }
}
