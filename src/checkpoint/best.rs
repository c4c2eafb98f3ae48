//! The link to the best checkpoint.

use super::name;
use crate::console;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// The link to the best checkpoint by evaluation, beside the checkpoints.
pub(super) const BEST: &str = "best";

/// How the names of links begin that are to become [`BEST`], and how long it takes at most to make one.
const LINK_PREFIX: &str = ".best-";
const LINKING: Duration = Duration::from_secs(60);

/// Let the link `best` in `directory` lead to the checkpoint of this step; without one, or if that is not
/// there, there is no link. It is for people: where it cannot be made, training goes on with a warning.
///
/// Trainer and evaluator both may call it, at any time.
pub fn link_best(directory: &Path, best: Option<u64>) {
    let link = directory.join(BEST);
    let target = best.map(name).filter(|name| directory.join(name).is_dir());
    let linked = match (target, fs::read_link(&link)) {
        (Some(target), Ok(now)) if now == Path::new(&target) => Ok(()),
        // Relative, so that the run may be moved.
        (Some(target), _) => tempfile::Builder::new()
            .prefix(LINK_PREFIX)
            .make_in(directory, |path| symlink(&target, path))
            .and_then(|made| made.into_temp_path().persist(&link).map_err(Into::into)),
        (None, Ok(_)) => fs::remove_file(&link),
        (None, Err(_)) => Ok(()),
    };
    match linked {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            console::warning(format_args!("failed to link {}: {error}", link.display()))
        }
        _ => {} // if it is not found, the other process was faster
    }
}

/// Whether this is a link that was made to become `best` and that nobody is making any more: the evaluator may be
/// making one now, which takes moments.
pub(super) fn is_stale_link(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let link = fs::symlink_metadata(path).ok().filter(|it| it.is_symlink());
    let made = link.and_then(|link| link.modified().ok());
    let age = made.and_then(|made| made.elapsed().ok());
    name.is_some_and(|name| name.starts_with(LINK_PREFIX)) && age.is_some_and(|age| age > LINKING)
}
