//! Random checkpoints: edited files, and headers that lie about their tensors.

use super::tests::sample;
use super::{load, restore, save};
use crate::error::is_user_error;
use crate::testing::fuzz::{check, edited, edited_text, pick};
use crate::testing::heap::within;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

const FILES: [&str; 4] = [
    "weights.safetensors",
    "ema.safetensors",
    "state.json",
    "manifest.json",
];

const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"null",
    b"\xff",
    b"\"F64\"",
    b"\"F4\"",
    b"\"shape\":[18446744073709551615,2]",
    b"\"data_offsets\":[0,18446744073709551615]",
    b"\"__metadata__\":{\"a\":\"b\"},",
    b"\"step\": 7,",
    b"\"rollbacks\": [{\"diverged\": 18446744073709551615, \"to\": 18446744073709551615}],",
    b"../../weights.safetensors",
    &[b'['; 1_000],
];

/// A safetensors file whose tensors follow each other as they should, but for what a few numbers say.
fn lying(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0_u64;
    // The eighth of them ends where no number does.
    let eighth = (1 << 61) - 1;
    let huge = rng.random_bool(0.3);
    for index in 0..rng.random_range(0..11) {
        let elements: u64 = match huge {
            true => eighth,
            false => pick(rng, &[0, 1, 2, 6, 1 << 32, eighth]),
        };
        let (dtype, bytes) = pick(rng, &[("U8", 1), ("F32", 4), ("F64", 8), ("F4", 0)]);
        let dtype = if huge { "U8" } else { dtype };
        let bytes = if huge { 1 } else { bytes };
        let begin = end;
        end = begin.saturating_add(elements.saturating_mul(bytes));
        let shape = match rng.random_bool(0.2) {
            true => json!([elements, pick(rng, &[0_u64, 1, 2, 1 << 63, u64::MAX])]),
            false => json!([elements]),
        };
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        header.insert(format!("tensor{index}"), entry);
    }
    let header = Value::from(header).to_string();
    let length = match rng.random_bool(0.9) {
        true => header.len() as u64,
        false => pick(rng, &[0, 1, 100_000_001, u64::MAX - 8, u64::MAX]),
    };
    let data = vec![0; end.min(100) as usize];
    [&length.to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Let the manifest say what is there.
fn seal(directory: &Path) {
    let manifest = directory.join("manifest.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    for name in &FILES[..3] {
        let bytes = fs::read(directory.join(name)).unwrap();
        let sha256 = format!("{:x}", Sha256::digest(&bytes));
        value["files"][*name] = json!({"bytes": bytes.len(), "sha256": sha256});
    }
    fs::write(manifest, value.to_string()).unwrap();
}

#[test]
fn checkpoints_are_whole_or_named() {
    let original = tempfile::tempdir().unwrap();
    let original = save(original.path(), &sample(7)).unwrap();
    let files = FILES.map(|name| fs::read(original.join(name)).unwrap());
    check(300, |rng| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("step-00000007");
        fs::create_dir(&path).unwrap();
        for (name, file) in FILES.iter().zip(&files) {
            fs::write(path.join(name), file).unwrap();
        }
        let at = rng.random_range(0..FILES.len());
        let new = match at {
            2.. => edited_text(rng, &files[at], WORDS),
            _ if rng.random_bool(0.5) => lying(rng),
            _ => edited(rng, &files[at], WORDS),
        };
        fs::write(path.join(FILES[at]), new).unwrap();
        if at < 3 && rng.random_bool(0.9) {
            seal(&path);
        }

        match within(1 << 20, || load(&path)) {
            Ok(checkpoint) => {
                assert_eq!(checkpoint.state.step, 7);
                for named in checkpoint.tensors.values().flatten() {
                    let size: usize = named.shape.iter().product();
                    assert_eq!(named.values.len(), size, "{}", named.name);
                }
                assert!(restore(directory.path()).unwrap().is_some());
            }
            Err(error) => {
                let named = format!("failed to load checkpoint {}: ", path.display());
                assert!(format!("{error:#}").starts_with(&named), "{error:#}");
                let refused = restore(directory.path()).unwrap_err();
                assert!(is_user_error(&refused), "{refused:#}");
            }
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    });
}
