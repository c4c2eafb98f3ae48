//! The bytes of a checkpoint directory.

use super::tensors::{NamedTensor, TensorGroups, WEIGHTS};
use super::{Checkpoint, CheckpointState, Lease};
use crate::files::{self, sha256};
use crate::spec::MAX_WEIGHTS;
use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Version of the layout; a reader refuses others.
const FORMAT: u32 = 1;
const STATE: &str = "state.json";
pub(super) const MANIFEST: &str = "manifest.json";
/// No manifest is longer; what is read of a longer file is no manifest.
const MANIFEST_BYTES: u64 = 64 << 10;
/// No other file is longer: the largest network's weights as f32, with room for biases and a header.
const MAX_BYTES: u64 = 4 * MAX_WEIGHTS + (1 << 20);
/// No checkpoint has more groups of tensors: weights, moving average, and what an update rule remembers of each weight.
const MAX_GROUPS: usize = 8;

/// The part of a manifest that every version has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

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

/// Write all files of `checkpoint` into `directory` and sync them.
pub fn write(directory: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let mut manifest = Manifest {
        format: FORMAT,
        files: BTreeMap::new(),
    };
    let mut write = |name: String, bytes: Vec<u8>| -> Result<()> {
        files::write_atomic(&directory.join(&name), &bytes)?;
        let digested = Digested {
            bytes: bytes.len() as u64,
            sha256: sha256(&bytes),
        };
        manifest.files.insert(name, digested);
        Ok(())
    };
    for (group, tensors) in &checkpoint.tensors {
        write(file_name(group), safetensors(tensors)?)?;
    }
    write(
        STATE.to_owned(),
        serde_json::to_vec_pretty(&checkpoint.state)?,
    )?;
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    files::write_atomic(&directory.join(MANIFEST), &manifest)
}

/// The file of a group of tensors.
fn file_name(group: &str) -> String {
    format!("{group}.safetensors")
}

/// The group of tensors that a file of this name holds; none where no group has such a name. A name that leads out of
/// the directory is no group's.
fn group_name(file: &str) -> Option<&str> {
    let group = file.strip_suffix(".safetensors")?;
    let simple = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    ((1..=32).contains(&group.len()) && group.bytes().all(simple)).then_some(group)
}

/// Read and verify all files of a leased checkpoint: its state, and the groups of tensors that the manifest lists.
pub fn read(directory: &Path, lease: &Lease) -> Result<Checkpoint> {
    let text = read_all(lease.manifest(), MANIFEST_BYTES);
    let text = text.with_context(|| format!("failed to read {MANIFEST}"))?;
    let format: Format = serde_json::from_slice(&text).context(MANIFEST)?;
    ensure!(
        format.format == FORMAT,
        "{MANIFEST}: got format {}, want {FORMAT}",
        format.format
    );
    let manifest: Manifest = serde_json::from_slice(&text).context(MANIFEST)?;
    let verified = |name: &str| -> Result<Vec<u8>> {
        let want = manifest.files.get(name);
        let want = want.with_context(|| format!("{MANIFEST}: no entry for {name}"))?;
        let failed = || format!("failed to read {name}");
        let file = files::open_regular(&directory.join(name)).with_context(failed)?;
        // Before memory is taken for it.
        let got = file.metadata().with_context(failed)?.len();
        ensure!(
            got == want.bytes,
            "{name}: got {got} bytes, want {}",
            want.bytes
        );
        ensure!(
            got <= MAX_BYTES,
            "{name}: got {got} bytes, want at most {MAX_BYTES}"
        );
        let bytes = read_all(&file, want.bytes).with_context(failed)?;
        let got = sha256(&bytes);
        ensure!(
            got == want.sha256,
            "{name}: checksum mismatch: got {got}, want {}",
            want.sha256
        );
        Ok(bytes)
    };
    let state: CheckpointState = serde_json::from_slice(&verified(STATE)?).context(STATE)?;
    let mut groups = TensorGroups::new();
    for file in manifest.files.keys().filter(|file| *file != STATE) {
        let group = group_name(file).with_context(|| {
            format!("{MANIFEST}: got a file {file:?}, want {STATE} or GROUP.safetensors")
        })?;
        ensure!(
            groups.len() < MAX_GROUPS,
            "{MANIFEST}: got more than {MAX_GROUPS} files of tensors, want at most {MAX_GROUPS}"
        );
        let tensors = tensors(&verified(file)?).with_context(|| file.clone())?;
        groups.insert(group.to_owned(), tensors);
    }
    ensure!(
        groups.contains_key(WEIGHTS),
        "{MANIFEST}: no entry for {}",
        file_name(WEIGHTS)
    );
    Ok(Checkpoint {
        state,
        tensors: groups,
    })
}

fn read_all(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The SHA-256 of a checkpoint's manifest, which holds those of all its files; `None` where there is no manifest
/// to be read.
pub fn fingerprint(directory: &Path) -> Option<String> {
    #[cfg(test)]
    OPENED.set(OPENED.get() + 1);
    let manifest = files::read_small(&directory.join(MANIFEST), MANIFEST_BYTES).ok()?;
    Some(sha256(&manifest))
}

#[cfg(test)]
thread_local! {
    /// How often this thread's test has opened a manifest for its fingerprint, or a directory to list it.
    pub(super) static OPENED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A file of these tensors.
pub fn safetensors(named: &[NamedTensor]) -> Result<Vec<u8>> {
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

/// Refuse a file whose tensors lie beyond its end: the library adds their offsets up before it compares them,
/// and the sum may be too large a number.
/// <https://github.com/huggingface/safetensors#format>: length of the header in 8 bytes, little-endian, header
fn check_offsets(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Extent {
        data_offsets: (u64, u64),
    }
    let (length, rest) = bytes.split_first_chunk().context("no header")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let header = rest.get(..length).context("the header is cut off")?;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
    for (name, entry) in header {
        // What else there is, such as metadata, is the library's to check.
        if let Ok(Extent { data_offsets }) = Extent::deserialize(entry) {
            let (end, most) = (data_offsets.1, rest.len() - length);
            ensure!(
                end <= most as u64,
                "{name}: its data ends at byte {end}, want at most {most}"
            );
        }
    }
    Ok(())
}

/// In alphabetical order, which is not the network's: readers go by name.
fn tensors(bytes: &[u8]) -> Result<Vec<NamedTensor>> {
    check_offsets(bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let mut named = Vec::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            bail!("{name}: got {:?}, want F32", view.dtype());
        }
        let values = view.data().chunks_exact(4);
        named.push(NamedTensor {
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

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{load, save};
    use super::*;
    use std::fs;

    #[test]
    fn damaged_checkpoint_is_refused_with_what_differs() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(7)).unwrap();
        let ema = path.join("ema.safetensors");
        let mut bytes = fs::read(&ema).unwrap();
        bytes.pop();
        fs::write(&ema, &bytes).unwrap();
        let short = format!("{:#}", load(&path).unwrap_err());
        let want = format!(
            "ema.safetensors: got {} bytes, want {}",
            bytes.len(),
            bytes.len() + 1
        );
        assert!(short.ends_with(&want), "{short}");
        bytes.push(1);
        fs::write(&ema, &bytes).unwrap();
        let flipped = format!("{:#}", load(&path).unwrap_err());
        assert!(
            flipped.contains("ema.safetensors: checksum mismatch: got "),
            "{flipped}"
        );
        fs::remove_file(path.join("manifest.json")).unwrap();
        let missing = format!("{:#}", load(&path).unwrap_err());
        assert!(missing.contains("failed to read "), "{missing}");
    }

    #[test]
    fn manifest_damaged_anywhere_is_refused_or_means_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(7)).unwrap();
        let manifest = path.join(MANIFEST);
        let whole = fs::read(&manifest).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&manifest, &bytes).unwrap();
            // A changed blank between two words is no damage.
            if let Ok(checkpoint) = load(&path) {
                assert_eq!(checkpoint, sample(7), "byte {at}");
            }
        }
        for length in 0..whole.len() {
            fs::write(&manifest, &whole[..length]).unwrap();
            load(&path).expect_err("cut short");
        }
    }

    #[test]
    fn format_of_another_version_is_named_whatever_else_the_manifest_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(7)).unwrap();
        let refusal = |manifest: &str| {
            fs::write(path.join(MANIFEST), manifest).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            let (_, refusal) = error.split_once("step-00000007: ").unwrap();
            refusal.to_owned()
        };
        let other = refusal("{\"format\": 2, \"files\": \"elsewhere\"}");
        assert_eq!(other, "manifest.json: got format 2, want 1");
        let empty = refusal("{\"format\": 1, \"files\": {}}");
        assert_eq!(empty, "manifest.json: no entry for state.json");
        assert!(refusal("").starts_with("manifest.json: EOF"));
        let endless = format!("{}{{", " ".repeat(1 << 20));
        assert!(refusal(&endless).starts_with("manifest.json: EOF"));
    }

    #[test]
    fn groups_are_those_that_the_manifest_lists() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoint = sample(7);
        let momentum = checkpoint.tensors["ema"].clone();
        checkpoint.tensors.insert("momentum".into(), momentum);
        let path = save(directory.path(), &checkpoint).unwrap();
        assert!(path.join("momentum.safetensors").exists());
        fs::write(path.join("notes.safetensors"), "of somebody else").unwrap();
        assert_eq!(load(&path).unwrap(), checkpoint);

        let manifest = path.join(MANIFEST);
        let text = fs::read_to_string(&manifest).unwrap();
        let refusal = |file: &str| {
            let edited = text.replace("momentum.safetensors", file);
            fs::write(&manifest, edited).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            let (_, refusal) = error.split_once("step-00000007: ").unwrap();
            refusal.to_owned()
        };
        for file in [
            "../secret.safetensors",
            "/etc/passwd",
            ".safetensors",
            "A.safetensors",
        ] {
            assert_eq!(
                refusal(file),
                format!("manifest.json: got a file {file:?}, want state.json or GROUP.safetensors")
            );
        }
        let absent = refusal("absent.safetensors");
        assert!(
            absent.starts_with("failed to read absent.safetensors: "),
            "{absent}"
        );
        checkpoint.tensors.remove("weights");
        let path = save(directory.path(), &checkpoint).unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        let want = ": manifest.json: no entry for weights.safetensors";
        assert!(error.ends_with(want), "{error}");
    }

    #[test]
    fn groups_are_bounded_in_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoint = sample(7);
        for group in 2..=MAX_GROUPS {
            assert!(checkpoint.tensors.len() == group);
            let path = save(directory.path(), &checkpoint).unwrap();
            assert_eq!(load(&path).unwrap(), checkpoint);
            let tensors = checkpoint.tensors["ema"].clone();
            checkpoint.tensors.insert(format!("group_{group}"), tensors);
        }
        let path = save(directory.path(), &checkpoint).unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        let want = ": manifest.json: got more than 8 files of tensors, want at most 8";
        assert!(error.ends_with(want), "{error}");
    }

    #[test]
    fn tensors_beyond_the_files_end_are_refused() {
        // Each fits into the address space; the last one ends, with the header, behind its end.
        let bytes = (1_u64 << 61) - 1;
        let entry = |index: u64| {
            let (begin, end) = (index * bytes, (index + 1) * bytes);
            format!(
                "\"{index}\":{{\"dtype\":\"U8\",\"shape\":[{bytes}],\"data_offsets\":[{begin},{end}]}}"
            )
        };
        let entries: Vec<String> = (0..8).map(entry).collect();
        let header = format!("{{{}}}", entries.join(","));
        let file = [&header.len().to_le_bytes(), header.as_bytes()].concat();
        let error = tensors(&file).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("0: its data ends at byte {bytes}, want at most 0")
        );
    }

    #[test]
    fn file_larger_than_any_network_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = save(directory.path(), &sample(7)).unwrap();
        let length: u64 = 1 << 40;
        let ema = File::options()
            .write(true)
            .open(path.join("ema.safetensors"))
            .unwrap();
        ema.set_len(length).unwrap();
        let manifest = path.join(MANIFEST);
        let mut value: Manifest = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        value.files.get_mut("ema.safetensors").unwrap().bytes = length;
        fs::write(&manifest, serde_json::to_vec(&value).unwrap()).unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        let want = "ema.safetensors: got 1099511627776 bytes, want at most 1074790400";
        assert!(error.ends_with(want), "{error}");
    }
}
