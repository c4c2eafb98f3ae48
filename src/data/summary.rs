//! The number of images of each class, as a table for people.

use super::files::class_names;
use super::format::{CLASS_COUNT, Split};
use super::images::Images;
use anyhow::Result;
use std::fmt;
use std::path::Path;

/// Images of each class in each split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names in the order of the labels.
    pub classes: Vec<String>,
    /// Training images of each class.
    pub train: [usize; CLASS_COUNT],
    /// Test images of each class.
    pub test: [usize; CLASS_COUNT],
}

/// Reads every file of the data set in `directory` (as [`Images::read`] finds it) and counts.
///
/// # Errors
/// As [`Images::read`] and [`class_names`].
pub fn check(directory: &Path) -> Result<Summary> {
    let count = |split| -> Result<[usize; CLASS_COUNT]> {
        let images = Images::read(directory, split)?;
        let mut counts = [0; CLASS_COUNT];
        for index in 0..images.len() {
            counts[usize::from(images.label(index))] += 1;
        }
        Ok(counts)
    };
    Ok(Summary {
        train: count(Split::Train)?,
        test: count(Split::Test)?,
        classes: class_names(directory)?,
    })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>8} {:>8}", "class", "train", "test")?;
        for ((name, train), test) in self.classes.iter().zip(self.train).zip(self.test) {
            writeln!(f, "{name:<20} {train:>8} {test:>8}")?;
        }
        let (train, test): (usize, usize) = (self.train.iter().sum(), self.test.iter().sum());
        write!(f, "{:<20} {train:>8} {test:>8}", "all")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Synthetic;

    #[test]
    fn summary_counts_by_class_and_split() {
        let home = tempfile::tempdir().unwrap();
        let parameters = Synthetic {
            train_images: 21,
            test_images: 10,
            ..Synthetic::default()
        };
        let directory = crate::data::synthesize(&parameters, home.path()).unwrap();
        let summary = check(&directory).unwrap();
        assert_eq!(summary.train, [3, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(summary.test, [1; 10]);
        let text = summary.to_string();
        assert_eq!(text.lines().count(), 12);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "disc                        3        1"
        );
        assert_eq!(
            text.lines().last().unwrap(),
            "all                        21       10"
        );
    }
}
