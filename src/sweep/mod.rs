//! Sweeps: many runs of one spec, each with other values of a few fields.

mod block;
pub mod definition;
pub mod directory;
pub mod display;
mod enumerate;
pub mod images;
pub mod point;
pub mod progress;
mod ranking;
mod read;
pub mod results;
pub mod schedule;
pub mod slot;
pub mod supervise;
#[cfg(test)]
mod tests;

pub use definition::{
    Case, Choice, Definition, Goal, Halving, Method, Metric, MetricName, OnFailure, Parameter,
    Score,
};
pub use directory::SweepDir;
pub use point::Point;

use crate::bail_user;
use crate::spec::{Base, Experiment, Override, Section, Spec};
use anyhow::Result;
use std::collections::{BTreeSet, HashSet};

/// A sweep that is to be run: its definition and all that follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The spec of every point but for the fields that the point sets.
    pub base: Spec,
    pub definition: Definition,
    /// In the order of their numbers, which begin at 1. Each is valid.
    pub points: Vec<Point>,
}

impl Sweep {
    /// The sweep that the section of an experiment defines; none if it has no such section. By default so many points
    /// run at once as there are GPUs, `gpus`, if the spec's device is one.
    ///
    /// # Errors
    /// A user error, with its place, for whatever is wrong with the section or with any point.
    pub fn of(experiment: &Experiment, gpus: usize) -> Result<Option<Self>> {
        match &experiment.sweep {
            Some(section) => Sweep::new(&experiment.spec, section, gpus).map(Some),
            None => Ok(None),
        }
    }

    fn new(base: &Spec, section: &Section, gpus: usize) -> Result<Self> {
        let parallel = match base.compute.device.as_str() {
            "auto" => gpus.max(1),
            _ => 1,
        };
        let definition = Definition::read(section, base.seed, parallel)?;
        let points = enumerate::points(
            &definition,
            &Base::new(base, section.clone())?,
            &section.root(),
        )?;
        Ok(Sweep {
            base: base.clone(),
            definition,
            points,
        })
    }

    /// The spec of each point.
    ///
    /// # Errors
    /// None for points that were checked with this base.
    pub fn specs(&self) -> Result<Vec<Spec>> {
        self.points
            .iter()
            .map(|point| point.spec(&self.base))
            .collect()
    }

    /// How many validation images the points hold out.
    pub fn validation_images(&self) -> BTreeSet<usize> {
        let base = self.base.data.validation_images;
        let set = |point: &Point| point.set.get("data.validation_images")?.as_u64();
        let images = self.points.iter().map(set);
        images
            .map(|images| images.map_or(base, |images| images as usize))
            .collect()
    }

    /// The sweep with what these overrides, such as `sweep.runs=50`, change. Points that there are keep number and
    /// name; those that come are numbered on.
    ///
    /// # Errors
    /// A user error if a point would go, if the decisions of a halving would change, and for whatever is wrong.
    pub fn extended(&self, overrides: &[Override]) -> Result<Self> {
        let section = Section::of_values(self.definition.to_value()).with(overrides)?;
        let extended = Sweep::new(&self.base, &section, 1)?;
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
        let (kept, mut added): (Vec<Point>, Vec<Point>) = extended
            .points
            .into_iter()
            .partition(|point| there.contains(point.id.as_str()));
        if kept.len() < self.points.len() {
            let kept: HashSet<&str> = kept.iter().map(|point| point.id.as_str()).collect();
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
        for (number, point) in (last + 1..).zip(&mut added) {
            point.renumber(number);
        }
        Ok(Sweep {
            base: extended.base,
            definition: extended.definition,
            points: self.points.iter().cloned().chain(added).collect(),
        })
    }
}
