//! What the unit tests of several modules share, partly with those of the library.

#[path = "../../../src/testing/golden.rs"]
pub mod golden;
#[path = "../../../src/testing/imports.rs"]
mod imports;
mod module_order;

use crate::backend;
use runboard::run::Provenance;
use std::path::Path;

/// That of a run on the CPU, outside any checkout.
pub fn provenance() -> Provenance {
    let software = backend::machine().software("cpu".to_owned());
    Provenance::collect(Path::new("/"), software, Some(0))
}
