//! A spec that the points of a sweep are made of.

use super::layer::{Layer, Origin, Point};
use super::load::{merge, resolve};
use super::section::Section;
use super::{Spec, fields};
use anyhow::Result;
use serde_yaml::{Mapping, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A spec that others are made of, each with other values of a few fields.
pub struct Base {
    layer: Layer,
    section: Arc<Section>,
}

impl Base {
    /// This spec; `section` is where the other values are.
    ///
    /// # Errors
    /// As [`Spec::to_frozen_yaml`].
    pub fn new(spec: &Spec, section: Section) -> Result<Self> {
        let text = spec.to_frozen_yaml()?;
        Ok(Base {
            layer: Layer::from_frozen_text(PathBuf::from("the base of the sweep"), text)?,
            section: Arc::new(section),
        })
    }

    /// The spec with these values of fields, each of which the field allows. `paths` is where in the section they are,
    /// and `label` what the point is called.
    ///
    /// # Errors
    /// A user error, with its place, if the values do not go together.
    pub fn with(
        &self,
        values: &BTreeMap<String, Value>,
        paths: BTreeMap<String, Vec<String>>,
        label: String,
    ) -> Result<Spec> {
        let mut tree = Value::Mapping(Mapping::new());
        for (field, value) in values {
            merge(&mut tree, &fields::nested(field, value.clone()));
        }
        let layer = Layer {
            source: Origin::Point(Point {
                section: Arc::clone(&self.section),
                paths,
                label,
            }),
            values: tree,
            sweep: None,
        };
        resolve(&[&self.layer, &layer])
    }
}
