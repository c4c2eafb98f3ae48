//! What fidelity is tested with: where the golden files are, and chi-square tests for what is random.

// Each package that includes this file uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// The file beside the script.
pub fn path(name: &str) -> PathBuf {
    // Of the one package or the other.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = package.ancestors().map(|it| it.join("tests/reference"));
    let mut directory = directory.filter(|it| it.is_dir());
    directory.next().expect("tests/reference").join(name)
}

/// Holds counts of equally likely cells to a uniform distribution; see [`assert_chi_square`].
#[track_caller]
pub fn assert_uniform(what: &str, counts: &[usize], degrees: f64, factor: f64) {
    let share = 1.0 / counts.len() as f64;
    let cells: Vec<_> = counts.iter().map(|&count| (count, share)).collect();
    assert_chi_square(what, &cells, degrees, factor);
}

/// Pearson's chi-square of (count, probability) cells, times `factor`, lies between the 0.1 % and the
/// 99.9 % quantile for so many degrees of freedom: neither uneven nor evener than chance.
#[track_caller]
pub fn assert_chi_square(what: &str, cells: &[(usize, f64)], degrees: f64, factor: f64) {
    let total = cells.iter().map(|cell| cell.0).sum::<usize>() as f64;
    let term =
        |&(count, share): &(usize, f64)| (count as f64 - total * share).powi(2) / (total * share);
    let statistic = factor * cells.iter().map(term).sum::<f64>();
    // Wilson and Hilferty's approximation of the quantiles; 3.09 is the normal's.
    let spread = 2.0 / (9.0 * degrees);
    let quantile = |z: f64| degrees * (1.0 - spread + z * spread.sqrt()).powi(3);
    let (low, high) = (quantile(-3.09), quantile(3.09));
    println!("{what:<48} {statistic:.1} of {low:.1} to {high:.1}");
    assert!(
        (low..high).contains(&statistic),
        "{what}: chi-square {statistic:.1}, want {low:.1} to {high:.1}"
    );
}
