//! What an evaluation had computed when it gave way to a stop, for the next evaluator to go on with.
//!
//! The logits of every batch are kept, in the order in which they were computed. The next evaluator takes them in place of
//! computing them, and so counts the same in the same order: its scores are those of an evaluation that nothing interrupted,
//! bit for bit. They are in `evaluation.partial`, a line of JSON and then 32-bit floats, little-endian:
//!
//! ```text
//! {"version":3,"subject":{"manifest":"5ca1...","build":"0.1.0 ...","device":"cpu","threads":2,"deterministic":false,"batch_size":128,
//! "views":1,"passes":2},"seconds":7.5,"sha256":"ab1e..."}
//! ```
//!
//! The file is a saving, no record: one that is damaged, or of something else, is passed over.

use anyhow::Result;
use runboard::files::{read_small, sha256, write_atomic};
use runboard::run::RunDir;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

const VERSION: u32 = 3;

/// No first line is longer, in bytes.
const MAX_HEADER: usize = 4096;

/// What logits are of, to their last bits. All else that they depend on stays the same as long as a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// SHA-256 of the checkpoint's manifest.
    pub manifest: String,
    /// The build that computed them.
    pub build: String,
    pub device: String,
    /// How many threads computed them.
    pub threads: usize,
    /// `compute.deterministic`.
    pub deterministic: bool,
    /// Images in a batch, at most.
    pub batch_size: usize,
    /// Views of each test image.
    pub views: usize,
    /// How often a set of images goes through a network: the averaged weights, the weights, the validation images.
    pub passes: usize,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    subject: Subject,
    /// How long it took to compute them.
    seconds: f64,
    /// Of the floats' bytes.
    sha256: String,
}

/// Logits of the first batches of an evaluation, and how long it took to compute them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PartialEvaluation {
    pub logits: Vec<f32>,
    pub took: Duration,
}

impl PartialEvaluation {
    /// What the run has kept of the evaluation of `subject`, which has `most` logits in all; nothing where that is not
    /// there, is damaged or of another subject.
    pub fn load(run: &RunDir, subject: &Subject, most: usize) -> Self {
        let bytes = read_small(&run.partial_evaluation(), (MAX_HEADER + 4 * most) as u64);
        let parsed = bytes.ok().and_then(|bytes| parse(&bytes, subject));
        let whole = parsed.filter(|partial| partial.logits.len() <= most);
        whole.unwrap_or_default()
    }

    /// Keep it for the next evaluator.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, run: &RunDir, subject: &Subject) -> Result<()> {
        let floats: Vec<u8> = self.logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        let header = Header {
            version: VERSION,
            subject: subject.clone(),
            seconds: self.took.as_secs_f64(),
            sha256: sha256(&floats),
        };
        let mut bytes = serde_json::to_vec(&header)?;
        bytes.push(b'\n');
        bytes.extend(floats);
        write_atomic(&run.partial_evaluation(), &bytes)
    }
}

/// Remove what is kept, of whatever it is: an evaluation has ended.
///
/// # Errors
/// The file is there and cannot be removed.
pub(super) fn remove(run: &RunDir) -> std::io::Result<()> {
    match fs::remove_file(run.partial_evaluation()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn parse(bytes: &[u8], subject: &Subject) -> Option<PartialEvaluation> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (header, floats) = (&bytes[..end], &bytes[end + 1..]);
    let header: Header = serde_json::from_slice(header).ok()?;
    let is_it = header.version == VERSION && header.subject == *subject;
    let may_be = (0.0..1e9).contains(&header.seconds);
    if !is_it || !may_be || header.sha256 != sha256(floats) {
        return None;
    }
    let (floats, []) = floats.as_chunks() else {
        return None;
    };
    Some(PartialEvaluation {
        logits: floats
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        took: Duration::from_secs_f64(header.seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::provenance;

    #[test]
    fn partial_evaluation_is_read_back_bit_for_bit_and_only_whole_and_of_its_subject() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        let subject = Subject {
            manifest: "5ca1".to_owned(),
            build: "a build".to_owned(),
            device: "cpu".to_owned(),
            threads: 2,
            deterministic: false,
            batch_size: 4,
            views: 1,
            passes: 2,
        };
        let partial = PartialEvaluation {
            logits: vec![0.1, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 2.0],
            took: Duration::from_millis(7_500),
        };
        let load = |subject: &Subject| PartialEvaluation::load(&run, subject, 4);
        let nothing = PartialEvaluation::default();
        assert_eq!(load(&subject), nothing);
        partial.save(&run, &subject).unwrap();
        let loaded = load(&subject);
        assert_eq!(loaded, partial);
        assert!(loaded.logits[1].is_sign_negative());
        let others: [fn(&mut Subject); 7] = [
            |subject| subject.manifest.push('7'),
            |subject| subject.build.push('7'),
            |subject| subject.device.push_str("da"),
            |subject| subject.threads += 1,
            |subject| subject.deterministic = true,
            |subject| subject.batch_size += 1,
            |subject| subject.views += 1,
        ];
        for change in others {
            let mut other = subject.clone();
            change(&mut other);
            assert_eq!(load(&other), nothing, "{other:?}");
        }
        assert_eq!(PartialEvaluation::load(&run, &subject, 3), nothing);

        let path = run.partial_evaluation();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(load(&subject), nothing, "cut at byte {at}");
        }
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, damaged).unwrap();
        assert_eq!(load(&subject), nothing);

        remove(&run).unwrap();
        assert!(!path.exists());
        remove(&run).unwrap();
    }
}
