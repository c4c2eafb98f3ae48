//! The directory of a bundle, if this program is in one: both programs and the experiments, packed by `make bundle` to be used on
//! a machine where they were not built (docs/gpu.md).

use crate::bail_user;
use crate::files::read_if_there;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::env;
use std::path::PathBuf;

/// Beside the programs: how they were built, by tools/bundle.py.
const FILE: &str = "bundle.json";
const MAX_BYTES: u64 = 1 << 20;

/// What is known of a bundle.
#[derive(Clone, Debug, Deserialize)]
pub struct Bundle {
    /// Where it is.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The version of libtorch that it was built for.
    pub libtorch: String,
}

impl Bundle {
    /// The bundle that this program is in; none if it is in a clone or installed.
    ///
    /// # Errors
    /// If its file cannot be read; a user error if it is not what was packed.
    pub fn find() -> Result<Option<Bundle>> {
        let program = env::current_exe().context("failed to find runboard's own binary")?;
        let file = program.with_file_name(FILE);
        let Some(bytes) = read_if_there(&file, MAX_BYTES)? else {
            return Ok(None);
        };
        let mut bundle: Bundle = match serde_json::from_slice(&bytes) {
            Ok(bundle) => bundle,
            Err(error) => bail_user!(
                "{}: {error}; want the file that was packed: unpack the bundle anew",
                file.display()
            ),
        };
        bundle.directory = program.parent().map(Into::into).unwrap_or_default();
        Ok(Some(bundle))
    }
}
