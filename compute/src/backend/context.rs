//! What libtorch's operations may round and choose on a GPU.

use super::guarded::{RawError, call};
use anyhow::{Context, Result};
use runboard::spec::{Compute, Precision};
use std::env;

unsafe extern "C" {
    fn runboard_context_set(
        tf32_products: bool,
        tf32_convolutions: bool,
        deterministic: bool,
        error: RawError,
    ) -> bool;
    #[cfg(test)]
    fn runboard_context_get(bits: *mut std::ffi::c_int, error: RawError) -> bool;
}

/// cuBLAS reads it when it is used for the first time; with this value its products have the same bits each time
/// (<https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility>).
const WORKSPACE: &str = "CUBLAS_WORKSPACE_CONFIG";
const FIXED_WORKSPACE: &str = ":4096:8";

/// Sets, for this process, what `compute.precision` and `compute.deterministic` say. Nothing of it changes what a CPU
/// computes.
///
/// # Errors
/// libtorch refuses.
pub(super) fn set(compute: &Compute) -> Result<()> {
    let (products, convolutions) = match compute.precision {
        Precision::Float32 => (false, false),
        // Where something is left in float32, as Muon's products are.
        Precision::Tf32 | Precision::Bf16 => (true, true),
        Precision::Tf32Conv => (false, true),
    };
    if compute.deterministic && env::var_os(WORKSPACE).is_none() {
        // SAFETY: other Rust code reads variables under the lock that this takes, and libtorch's threads, which would not, do
        // not compute yet.
        unsafe { env::set_var(WORKSPACE, FIXED_WORKSPACE) };
    }
    let deterministic = compute.deterministic;
    // SAFETY: plain values, to a function that throws nothing and keeps nothing; the text's place lives until the call returns.
    call(|error| unsafe { runboard_context_set(products, convolutions, deterministic, error) })
        .context("libtorch refuses compute.precision or compute.deterministic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_what_the_spec_says() {
        let get = |precision, deterministic| {
            let compute = Compute {
                precision,
                deterministic,
                ..Compute::default()
            };
            set(&compute).unwrap();
            let mut bits = 0;
            // SAFETY: the number's place and the text's live until the call returns.
            call(|error| unsafe { runboard_context_get(&mut bits, error) }).unwrap();
            bits
        };
        let (products, convolutions, benchmark, deterministic) = (1, 2, 4, 8);
        assert_eq!(get(Precision::Float32, true), deterministic);
        assert_eq!(get(Precision::Float32, false), benchmark);
        assert_eq!(get(Precision::Tf32Conv, false), convolutions | benchmark);
        for precision in [Precision::Bf16, Precision::Tf32] {
            let want = products | convolutions | benchmark;
            assert_eq!(get(precision, false), want, "{precision:?}");
        }
    }
}
