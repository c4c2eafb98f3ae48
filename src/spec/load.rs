//! From the layers of an experiment (defaults, the files it extends, its own file, overrides) to one [`Spec`].

use super::constraints::violation;
use super::layer::{Layer, Origin, storable};
use super::read::FieldError;
use super::section::Section;
use super::{Data, Fidelity, Override, Spec, fields, names, unused};
use crate::user_error;
use anyhow::{Context, Result};
use serde_yaml::Value;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::{self, Path, PathBuf};

/// A spec and what it is called.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Name of the experiment: of its file, less the extension.
    pub name: String,
    /// All layers resolved.
    pub spec: Spec,
    /// What makes a sweep of it: many runs, each of this spec with other values of a few fields.
    pub sweep: Option<Section>,
    /// Fields that are set, and where.
    origins: BTreeMap<&'static str, String>,
    /// Whether `data.folder` is set on the command line, where paths are relative to the current directory.
    folder_is_given: bool,
}

/// Load an experiment by its name (`baseline` means `baseline.yaml` in the directory `experiments`) or by
/// the path of a file that ends in `.yaml` or `.yml`; what a file extends is looked up beside it, then in `experiments`.
///
/// # Errors
/// A user error that names file, line, column and field for whatever is wrong with the input.
pub fn load(
    name_or_path: impl AsRef<Path>,
    experiments: &Path,
    overrides: &[Override],
) -> Result<Experiment> {
    let (name, path) = names::resolve(name_or_path.as_ref(), experiments)?;
    let mut own = Layer::from_file(path.clone())?;
    let mut sweep = own.sweep.take();
    let mut files = Files {
        experiments,
        open: Vec::new(),
        read: Vec::new(),
    };
    files.add(path, own)?;
    let mut layers: Vec<Layer> = files.read.into_iter().map(|(_, layer)| layer).collect();
    let (of_sweep, overrides): (Vec<_>, Vec<_>) =
        overrides.iter().cloned().partition(Override::is_of_sweep);
    Override::refuse_repeated_values(&of_sweep)?;
    if !of_sweep.is_empty() {
        let section = sweep.unwrap_or_else(|| Section::of_values(Value::Null));
        sweep = Some(section.with(&of_sweep)?);
    }
    for setting in &overrides {
        layers.push(Layer::from_override(setting)?);
    }
    for field in fields::directories() {
        // The others do not count: their variables need not be set.
        if let Some(top) = layers.iter_mut().rfind(|layer| layer.sets(field)) {
            top.expand_path(field)?;
        }
    }
    let spec = resolve(&layers)?;
    let set = |path| layers.iter().rfind(|layer| layer.sets(path));
    let origin = |path| Some((path, set(path)?.source.origin(path)));
    Ok(Experiment {
        name,
        spec,
        sweep,
        origins: fields::paths().filter_map(origin).collect(),
        folder_is_given: set("data.folder").is_some_and(|layer| layer.source.is_override()),
    })
}

impl Experiment {
    /// Where the fields are set that are set, as [`Experiment::origin`] says it of one.
    pub fn origins(&self) -> BTreeMap<String, String> {
        let origins = self.origins.iter();
        origins
            .map(|(field, place)| ((*field).to_owned(), place.clone()))
            .collect()
    }

    /// Where a field is set: `experiments/small.yaml:5:11`, `--set`, or what else an override was given by. None if it
    /// has its default because nothing sets it.
    pub fn origin(&self, field: &str) -> Option<&str> {
        self.origins.get(field).map(String::as_str)
    }

    /// Make `data.folder` absolute: a run must find its images again from any directory, and in a later session. A
    /// relative one is in `home`, or in the current directory if it is given on the command line. Returns whether it
    /// is the default one.
    ///
    /// # Errors
    /// A user error if the working directory has a name that a spec cannot hold.
    pub fn fix_paths(&mut self, home: &Path) -> Result<bool> {
        let absolute = |base: &Path, folder: &Path| {
            let folder = base.join(folder);
            path::absolute(&folder)
                .with_context(|| format!("failed to make {} absolute", folder.display()))
        };
        let base = match self.folder_is_given {
            true => Path::new(""),
            false => home,
        };
        let fixed = absolute(base, &self.spec.data.folder)?;
        storable(&fixed).map_err(|problem| user_error!("data.folder: {problem}"))?;
        let is_default = fixed == absolute(home, &Data::default().folder)?;
        self.spec.data.folder = fixed;
        Ok(is_default)
    }
}

impl Spec {
    /// The spec as YAML, every field of it.
    ///
    /// # Errors
    /// If the data directory's path is not Unicode.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml::to_string(self).context("failed to write the spec as YAML")
    }
}

/// An experiment's file and those that it extends, each after all that it extends itself.
struct Files<'a> {
    experiments: &'a Path,
    /// Those whose bases are being read, from the experiment's own file on.
    open: Vec<PathBuf>,
    /// Those that are read with all their bases. A value of a later one takes precedence.
    read: Vec<(PathBuf, Layer)>,
}

impl Files<'_> {
    /// Read a file's bases and put it after them. One that several extend counts once, before all of these.
    fn add(&mut self, path: PathBuf, layer: Layer) -> Result<()> {
        self.open.push(path.clone());
        for name in layer.extends() {
            let base = names::find_base(&name, &path, self.experiments)
                .map_err(|error| layer.source.error_at("extends", &error.to_string()))?;
            if self.read.iter().any(|(known, _)| *known == base) {
                continue;
            }
            self.check(&base, &layer.source)?;
            let below = Layer::from_file(base.clone())?;
            if let Some(section) = &below.sweep {
                let message = format!(
                    "got {name}, which is a sweep ({}), want an experiment without one; what both need may be a third \
                     experiment that both extend",
                    section.origin()
                );
                return Err(layer.source.error_at("extends", &message));
            }
            self.add(base, below)?;
        }
        self.open.pop();
        self.read.push((path, layer));
        Ok(())
    }

    /// Make sure that a file may extend this one.
    fn check(&self, base: &PathBuf, source: &Origin) -> Result<()> {
        const MOST: usize = 8; // with more, no reader finds out where a value comes from
        if self.open.contains(base) {
            let names: Vec<_> = self
                .open
                .iter()
                .chain([base])
                .filter_map(|path| path.file_stem()?.to_str())
                .collect();
            return Err(source.error(FieldError {
                place: source.place("extends"),
                message: format!("cyclic extends: {}", names.join(" -> ")),
                ..FieldError::default()
            }));
        }
        if self.open.len() + self.read.len() >= MOST {
            let message =
                format!("got more than {MOST} files that extend one another, want at most {MOST}");
            return Err(source.error_at("extends", &message));
        }
        Ok(())
    }
}

/// Merge the layers over the defaults and check what the layers cannot check singly.
pub(super) fn resolve<L: Borrow<Layer>>(layers: &[L]) -> Result<Spec> {
    let layers: Vec<&Layer> = layers.iter().map(Borrow::borrow).collect();
    let topmost = layers.iter().rev();
    let fidelity = topmost
        .filter_map(|layer| layer.values.get("fidelity"))
        .next();
    let fidelity = match fidelity.and_then(Value::as_str) {
        Some("tutorial") => Fidelity::Tutorial,
        _ => Fidelity::Exact,
    };
    let defaults = Spec::defaults(fidelity);
    let mut merged = serde_yaml::to_value(defaults).context("failed to build the defaults")?;
    for (index, layer) in layers.iter().enumerate() {
        for [field, other] in fields::alternatives().filter(|[field, _]| layer.sets(field)) {
            // On the command line each override is a layer.
            let same = |below: &&&Layer| below.source.is_override() && layer.source.is_override();
            let below = layers[..index].iter().rev().take_while(same);
            if let Some(both) = [layer].into_iter().chain(below).find(|it| it.sets(other)) {
                let found = both.source.describe(other);
                let message = format!("got {found} as well, want one of the two");
                return Err(layer.source.error_at(field, &message));
            }
            unset(&mut merged, other);
        }
        merge(&mut merged, &layer.values);
    }
    if let Value::Mapping(top) = &mut merged {
        top.retain(|key, _| key.as_str().is_none_or(fields::is_in_spec));
    }
    // At the topmost layer that sets any of the fields: it could have known the others.
    let error_at = |fields: &[&str], message: String| {
        let set = layers.iter().rev().find_map(|layer| {
            let field = fields.iter().find(|field| layer.sets(field))?;
            Some(layer.source.error_at(field, &message))
        });
        set.unwrap_or_else(|| user_error!("{}: {message}", fields.join(", ")))
    };
    // The layers hold allowed values only; this speaks up where a rule is looser than its field's type.
    let spec: Spec = serde_path_to_error::deserialize(merged)
        .map_err(|error| error_at(&[&error.path().to_string()], error.inner().to_string()))?;
    if let Some(violation) = violation(&spec) {
        return Err(error_at(violation.fields, violation.message));
    }
    for unused in unused::fields(&spec) {
        // Whoever switches something off above need not unset all that belongs to it. The command line is one, whatever
        // the order of its overrides.
        let topmost = layers.iter().copied().rfind(|layer| {
            layer.sets(&unused.field) || unused.by.iter().any(|field| layer.sets(field))
        });
        let is_override = |layer: &Layer| layer.source.is_override();
        let same: Vec<&Layer> = match topmost {
            Some(topmost) if is_override(topmost) => {
                let all = layers.iter().copied();
                all.filter(|layer| is_override(layer)).collect()
            }
            topmost => topmost.into_iter().collect(),
        };
        let mut set = same.iter().filter(|layer| layer.sets(&unused.field));
        // A resolved spec sets every field.
        if let Some(layer) = set.find(|layer| !layer.sets("version")) {
            let message = format!("no effect with {}", unused.message);
            return Err(layer.source.error_at(&unused.field, &message));
        }
    }
    Ok(spec)
}

/// Remove the field at this path, if it is there.
fn unset(values: &mut Value, path: &str) {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let keys = section.split('.').filter(|key| !key.is_empty());
    let section = keys
        .into_iter()
        .try_fold(values, |value, key| value.get_mut(key));
    if let Some(Value::Mapping(section)) = section {
        section.remove(key);
    }
}

/// Replace the values of `base` by those of `upper`, mapping by mapping.
pub(super) fn merge(base: &mut Value, upper: &Value) {
    match (base, upper) {
        (Value::Mapping(base), Value::Mapping(upper)) => {
            for (key, value) in upper {
                match base.get_mut(key) {
                    Some(lower) => merge(lower, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, upper) => *base = upper.clone(),
    }
}
