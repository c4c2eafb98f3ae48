//! Sweeps: many runs of one spec, each with other values of a few fields.

mod block;
pub mod csv;
pub mod definition;
pub mod directory;
pub mod display;
mod enumerate;
pub mod executor;
mod hints;
pub mod images;
mod machine;
pub mod point;
pub mod progress;
pub mod random;
mod ranking;
mod read;
pub mod results;
pub mod schedule;
pub mod slot;
mod standing;
pub mod supervise;
pub mod table;
#[cfg(test)]
mod tests;

pub use csv::csv_line;
pub use definition::{
    Case, Choice, Definition, Goal, Halving, Launcher, Method, Metric, MetricName, OnFailure,
    Parameter, Score,
};
pub use directory::SweepDir;
pub use point::{Point, labels, plain};
pub use ranking::{deviation, mean};
pub use standing::Standing;

use crate::run::{self, RunDir, WeightsOrigin};
use crate::spec::{Base, Experiment, Override, Section, Spec};
use crate::{bail_user, user_error};
use anyhow::Result;
use serde_yaml::Value;
use std::collections::HashSet;

/// The most points that run at once.
const MAX_PARALLEL: usize = 1_024;

/// A sweep that is to be run: its definition and all that follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The spec of every point but for the fields that the point sets.
    pub base: Spec,
    pub definition: Definition,
    /// In the order of their numbers, which begin at 1. Each is valid.
    pub points: Vec<Point>,
    /// The spec of each point, in the same order.
    pub specs: Vec<Spec>,
    /// Where the weights come from that each point begins with, if they are no new ones.
    pub weights_from: Option<WeightsOrigin>,
}

impl Sweep {
    /// The sweep that the section of an experiment defines; none if it has no such section. By default so many points
    /// run at once as there are GPUs, `gpus`, if the spec's device is one. Where that is not known, the sweep is for any machine.
    ///
    /// # Errors
    /// A user error, with its place, for whatever is wrong with the section or with any point.
    pub fn of(experiment: &Experiment, gpus: Option<usize>) -> Result<Option<Self>> {
        match &experiment.sweep {
            Some(section) => {
                let sweep = Sweep::new(&experiment.spec, section, gpus)?;
                sweep.refuse_without_effect(experiment)?;
                Ok(Some(sweep))
            }
            None => Ok(None),
        }
    }

    /// What the sweep of an experiment does, without its points, wherever it may run; `None` if it has none.
    ///
    /// # Errors
    /// A user error for a section that defines none.
    pub fn definition_of(experiment: &Experiment) -> Result<Option<Definition>> {
        let section = experiment.sweep.as_ref();
        let definition = section.map(|it| Definition::read(it, experiment.spec.seed, 1));
        definition.transpose()
    }

    /// Refuse a value that the command line sets and no point takes.
    fn refuse_without_effect(&self, experiment: &Experiment) -> Result<()> {
        let is_given = |field: &str| experiment.origin(field) == Some("--set");
        let is_set_by_all = |field: &&str| self.points.iter().all(|it| it.set.contains_key(*field));
        let fields = self.definition.fields();
        if let Some(field) = fields
            .into_iter()
            .filter(is_set_by_all)
            .find(|it| is_given(it))
        {
            bail_user!(
                "--set {field}: no effect in a sweep each of whose points sets it; want --sweep {field}=VALUE,VALUE for \
                 other values of it"
            );
        }
        if is_given("seed") && !self.definition.seeds.contains(&self.base.seed.0) {
            bail_user!(
                "--set seed: no effect in a sweep that lists its seeds; want --sweep seed={}",
                self.base.seed.0
            );
        }
        Ok(())
    }

    fn new(base: &Spec, section: &Section, gpus: Option<usize>) -> Result<Self> {
        let parallel = match base.compute.device.as_str() {
            "auto" if base.compute.devices.is_empty() => gpus.unwrap_or(1).max(1),
            _ => 1,
        };
        let mut definition = Definition::read(section, base.seed, parallel)?;
        let is_local = definition.launcher == Launcher::Local;
        if let Some(gpus) = gpus.filter(|_| is_local) {
            machine::check(&definition, &base.compute, gpus, &section.root())?;
        }
        let points = enumerate::points(
            &definition,
            &Base::new(base, section.clone())?,
            &section.root(),
        )?;
        let (points, specs): (Vec<Point>, Vec<Spec>) = points.into_iter().unzip();
        if !is_local && section.root().get("parallel").is_none() {
            definition.parallel = MAX_PARALLEL; // all, and those that are added later
        }
        let sweep = Sweep {
            base: base.clone(),
            definition,
            points,
            specs,
            weights_from: None,
        };
        // Epochs have to wait for the images.
        let steps: Option<Vec<u64>> = sweep.specs.iter().map(|spec| spec.train.steps).collect();
        if let Some((path, message)) = steps.and_then(|it| sweep.halving_fault(&it)) {
            return Err(section.root().at(&path).error(message));
        }
        Ok(sweep)
    }

    /// The sweep with these points, which were checked with this base.
    ///
    /// # Errors
    /// A user error for a point that is not valid after all.
    fn with_points(base: Spec, definition: Definition, points: Vec<Point>) -> Result<Self> {
        let inherited = Base::new(&base, Section::of_values(Value::Null))?;
        let specs = points.iter().map(|point| point.spec(&inherited));
        Ok(Sweep {
            specs: specs.collect::<Result<_>>()?,
            base,
            definition,
            points,
            weights_from: None,
        })
    }

    /// How many points run at once.
    pub fn at_once(&self) -> usize {
        self.definition.parallel.min(self.points.len())
    }

    /// The point of this number.
    pub fn point(&self, number: usize) -> Option<&Point> {
        self.points.iter().find(|point| point.number == number)
    }

    fn spec(&self, point: &Point) -> Option<&Spec> {
        let mut all = self.points.iter().zip(&self.specs);
        let (_, spec) = all.find(|(it, _)| it.number == point.number)?;
        Some(spec)
    }

    /// Whether a run of the point that nobody stops saves a checkpoint after a step: by its cadence, or for halving.
    pub fn saves(&self, point: &Point) -> impl Fn(u64) -> bool + use<> {
        let every = self
            .spec(point)
            .map_or(1, |spec| spec.train.checkpoint_every);
        let rungs = self.definition.rungs(u64::MAX);
        move |step| step.is_multiple_of(every) || rungs.contains(&(step + 1))
    }

    /// How many steps the sweep gives a point, whose run may have been resumed to train more; `None` if they follow from how
    /// many images there are, and the run does not tell.
    fn steps_of(&self, point: &Point, run: &RunDir) -> Option<u64> {
        let spec = self.spec(point)?;
        match spec.train.steps {
            Some(steps) => Some(steps),
            None => {
                let images = spec.training_images(run::data::train_images(run).ok()?);
                Some(spec.train.total_steps(images.ok()?))
            }
        }
    }

    /// How many threads a point of this spec has in all its processes that train together, and so how many cores of so many it
    /// takes if it runs on the CPU.
    pub fn threads(&self, spec: &Spec, cores: usize) -> usize {
        let threads = match spec.compute.threads {
            0 => cores / self.definition.parallel,
            threads => threads,
        };
        threads.max(spec.compute.ranks())
    }

    /// How many steps each point trains, where there are so many images in the training files.
    ///
    /// # Errors
    /// A user error if they are too few for a point, or if halving cannot compare points of so many steps: they differ, or
    /// the first rung is not before their end.
    pub fn steps(&self, images: usize) -> Result<Vec<u64>> {
        let mut steps = Vec::with_capacity(self.points.len());
        for (point, spec) in self.points.iter().zip(&self.specs) {
            let images = spec.training_images(images);
            let images = images.map_err(|error| user_error!("point {}: {error:#}", point.name))?;
            steps.push(spec.train.total_steps(images));
        }
        match self.halving_fault(&steps) {
            Some((path, message)) => bail_user!("sweep.{}: {message}", path.join(".")),
            None => Ok(steps),
        }
    }

    /// Why halving cannot compare points of so many steps, and the path of the entry that says so.
    fn halving_fault(&self, steps: &[u64]) -> Option<(Vec<String>, String)> {
        let (halving, &first) = (self.definition.early_terminate?, steps.first()?);
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        if let Some(other) = steps.iter().find(|other| **other != first) {
            let message = format!(
                "got points of {first} and of {other} steps, want the same number, at whose rungs halving compares them"
            );
            return Some((path(&["early_terminate"]), message));
        }
        (halving.min_iter >= first).then(|| {
            let message = format!(
                "got {}, want less than {first}, the steps of a point",
                halving.min_iter
            );
            (path(&["early_terminate", "min_iter"]), message)
        })
    }

    /// The sweep with what these overrides, such as `sweep.runs=50`, change. Points that there are keep number and
    /// name; those that come are numbered on.
    ///
    /// # Errors
    /// A user error if a point would go, if the decisions of a halving would change, and for whatever is wrong.
    pub fn extended(&self, overrides: &[Override], gpus: usize) -> Result<Self> {
        let section = Section::of_values(self.definition.to_value()).with(overrides)?;
        let extended = Sweep::new(&self.base, &section, Some(gpus))?;
        let (before, after) = (&self.definition, &extended.definition);
        let shown = || {
            let settings: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            settings.join(" ")
        };
        if before.method.name() != after.method.name() {
            bail_user!(
                "{}: got method {}, want {}, with which the sweep began",
                shown(),
                after.method.name(),
                before.method.name()
            );
        }
        let there: HashSet<&str> = self.points.iter().map(|point| point.id.as_str()).collect();
        let points = extended.points.into_iter().zip(extended.specs);
        let (kept, mut added): (Vec<_>, Vec<_>) =
            points.partition(|(point, _)| there.contains(point.id.as_str()));
        if kept.len() < self.points.len() {
            let kept: HashSet<&str> = kept.iter().map(|(point, _)| point.id.as_str()).collect();
            let gone = self.points.iter().filter(|it| !kept.contains(&*it.id));
            let gone: Vec<&str> = gone.map(|point| point.name.as_str()).collect();
            let more = match gone.len() {
                1 => String::new(),
                many => format!(" and {} more", many - 1),
            };
            bail_user!(
                "{}: the sweep would lose {}{more}; want what only adds points, or a new sweep",
                shown(),
                gone[0]
            );
        }
        let decides = |it: &Definition| (it.metric, it.early_terminate);
        let is_other = decides(before) != decides(after) || !added.is_empty();
        if is_other && (before.early_terminate.is_some() || after.early_terminate.is_some()) {
            bail_user!(
                "{}: halving has compared the points of a rung with one another; want a new sweep for others",
                shown()
            );
        }
        let last = self.points.last().map_or(0, |point| point.number);
        for (number, (point, _)) in (last + 1..).zip(&mut added) {
            point.renumber(number);
        }
        let (points, specs): (Vec<Point>, Vec<Spec>) = added.into_iter().unzip();
        Ok(Sweep {
            base: extended.base,
            definition: extended.definition,
            points: [self.points.clone(), points].concat(),
            specs: [self.specs.clone(), specs].concat(),
            weights_from: self.weights_from.clone(),
        })
    }
}
