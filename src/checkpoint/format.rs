//! The bytes of a checkpoint directory.

use super::{Checkpoint, State};
use crate::files;
use crate::model::Named;
use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Version of the layout; a reader refuses others.
const FORMAT: u32 = 1;
const WEIGHTS: &str = "weights.safetensors";
const EMA: &str = "ema.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, Digested>,
}

#[derive(Serialize, Deserialize)]
struct Digested {
    bytes: u64,
    sha256: String,
}

/// Write all files of `checkpoint` into `folder` and sync them.
pub fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let state = serde_json::to_vec_pretty(&checkpoint.state)?;
    let files = [
        (WEIGHTS, safetensors(&checkpoint.weights)?),
        (EMA, safetensors(&checkpoint.ema)?),
        (STATE, state),
    ];
    let mut manifest = Manifest {
        format: FORMAT,
        files: BTreeMap::new(),
    };
    for (name, bytes) in &files {
        files::write_atomic(&folder.join(name), bytes)?;
        let digested = Digested {
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        };
        manifest.files.insert((*name).to_owned(), digested);
    }
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    files::write_atomic(&folder.join(MANIFEST), &manifest)
}

/// Read and verify all files of a checkpoint.
pub fn read(folder: &Path) -> Result<Checkpoint> {
    let text = read_file(&folder.join(MANIFEST))?;
    let manifest: Manifest = serde_json::from_slice(&text).context(MANIFEST)?;
    ensure!(
        manifest.format == FORMAT,
        "{MANIFEST}: got format {}, want {FORMAT}",
        manifest.format
    );
    let verified = |name: &str| -> Result<Vec<u8>> {
        let want = manifest.files.get(name);
        let want = want.with_context(|| format!("{MANIFEST}: no entry for {name}"))?;
        let bytes = read_file(&folder.join(name))?;
        let got = bytes.len() as u64;
        ensure!(
            got == want.bytes,
            "{name}: got {got} bytes, want {}",
            want.bytes
        );
        let got = sha256(&bytes);
        ensure!(
            got == want.sha256,
            "{name}: checksum mismatch: got {got}, want {}",
            want.sha256
        );
        Ok(bytes)
    };
    let state: State = serde_json::from_slice(&verified(STATE)?).context(STATE)?;
    Ok(Checkpoint {
        state,
        weights: tensors(&verified(WEIGHTS)?).context(WEIGHTS)?,
        ema: tensors(&verified(EMA)?).context(EMA)?,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn safetensors(named: &[Named]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = named
        .iter()
        .map(|n| n.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views: Vec<(&str, TensorView)> = named
        .iter()
        .zip(&bytes)
        .map(|(n, bytes)| {
            let view = TensorView::new(Dtype::F32, n.shape.clone(), bytes)?;
            Ok((n.name.as_str(), view))
        })
        .collect::<Result<_>>()?;
    Ok(safetensors::serialize(views, None)?)
}

/// In alphabetical order, which is not the network's: readers go by name.
fn tensors(bytes: &[u8]) -> Result<Vec<Named>> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut named = Vec::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            bail!("{name}: got {:?}, want F32", view.dtype());
        }
        let values = view.data().chunks_exact(4);
        named.push(Named {
            name,
            shape: view.shape().to_vec(),
            values: values
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        });
    }
    named.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(named)
}
