//! What a run takes on the disk, and what is free there.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use walkdir::WalkDir;

use crate::run::{Role, RunDir};

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// The checkpoints.
    pub checkpoints: u64,
    /// The event files.
    pub curves: u64,
    /// What is free; `None` where that cannot be told.
    pub free: Option<u64>,
}

impl DiskUse {
    /// That of `run` now.
    pub fn of(run: &RunDir) -> Self {
        let events = [
            run.events(Role::TRAIN),
            run.events(Role::Eval),
            run.earlier_hparams(),
        ];
        let free = statvfs(run.path()).ok();
        DiskUse {
            checkpoints: size(&run.checkpoints()),
            curves: events.iter().map(|directory| size(directory)).sum(),
            free: free.map(|disk| disk.blocks_available() * disk.fragment_size()),
        }
    }
}

/// Bytes of the files below a directory, links not followed. What vanishes meanwhile counts nothing.
pub fn size(directory: &Path) -> u64 {
    let files = WalkDir::new(directory).into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::provenance;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn disk_use_is_that_of_files_and_not_of_links_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::create(directory.path(), "a", "", &provenance()).unwrap();
        assert_eq!(DiskUse::of(&run).checkpoints, 0);
        let checkpoint = run.checkpoints().join("step-00000001");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::write(checkpoint.join("weights"), [0; 1000]).unwrap();
        fs::write(checkpoint.join("manifest"), [0; 24]).unwrap();
        symlink("step-00000001", run.checkpoints().join("best")).unwrap();
        fs::create_dir_all(run.events(Role::Eval)).unwrap();
        fs::write(run.events(Role::Eval).join("events"), [0; 7]).unwrap();
        let disk = DiskUse::of(&run);
        assert_eq!((disk.checkpoints, disk.curves), (1024, 7));
        assert!(disk.free.is_some());
    }
}
