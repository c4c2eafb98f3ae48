//! What differs between a spec and the defaults.

use super::reference::defaults;
use super::{Spec, fields};
use anyhow::{Context, Result};

/// A field whose value is not the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path of the field.
    pub field: &'static str,
    /// The value, as YAML.
    pub value: String,
    /// The default, as YAML.
    pub default: String,
}

impl Spec {
    /// The fields whose values are not the defaults, in the order of the struct.
    ///
    /// # Errors
    /// As [`Spec::to_yaml`].
    pub fn differences(&self) -> Result<Vec<Difference>> {
        let defaults = defaults()?;
        let values = serde_yaml::from_str(&self.to_yaml()?).context("failed to read the spec")?;
        let difference = |field| {
            let (value, default) = (
                fields::value(&values, field)?,
                fields::value(&defaults, field)?,
            );
            (value != default).then(|| Difference {
                field,
                value: fields::text(value),
                default: fields::text(default),
            })
        };
        Ok(fields::paths().filter_map(difference).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_the_fields_with_other_values() {
        let mut spec = Spec::default();
        assert_eq!(spec.differences().unwrap(), []);
        spec.input.contrast.lower = 0.3;
        spec.network.conv1.stddev = 0.05;
        spec.data.folder = "a b".into();
        let found = spec.differences().unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.field, it.value.as_str(), it.default.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("data.folder", "a b", "data/cifar10"),
                ("input.contrast.lower", "0.3", "0.2"),
                ("network.conv1.stddev", "0.05", "0.0001"),
            ]
        );
    }
}
