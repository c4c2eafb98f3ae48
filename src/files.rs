//! Files and directories that are either the old ones or the new ones, never half of each, and patience with a
//! disk that refuses them.

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result};
use backon::{BlockingRetryable, ConstantBuilder};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::sys::signal::{SigHandler, Signal, signal};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{console, user_error};

/// How often [`retry_io`] tries again, and how long it waits before each time.
const RETRIES: usize = 4;
const PAUSE: Duration = Duration::from_secs(2);

/// The SHA-256 of these bytes, as 64 hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Replaces `path` by `bytes`, durably: after a crash or a power cut the file holds the old bytes or all
/// of the new ones, and after an `Ok` the new ones. The directory must exist.
///
/// # Errors
/// If the directory cannot be written or the disk is full; the old file then stays as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, true).with_context(|| format!("failed to write {}", path.display()))
}

/// [`write_atomic`] without its waits for the disk: readers never see half a file, but a power cut may
/// take the last version. For files that are rewritten all the time, such as a status.
///
/// # Errors
/// As [`write_atomic`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes, false).with_context(|| format!("failed to write {}", path.display()))
}

/// Makes the names in `directory` durable: files created, renamed or removed there stay so after a power cut.
///
/// # Errors
/// If the directory cannot be opened or synced.
pub fn sync_dir(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("failed to sync {}", directory.display()))
}

/// Makes a directory where there is none, but not those around it: a run that is removed while its processes
/// write stays so.
///
/// # Errors
/// If the directory cannot be made.
pub fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("failed to create {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces the directory at `path` by one of these files; the one around it is made where it is missing. There
/// is never half a directory, but for a moment there may be none.
///
/// # Errors
/// If the directory cannot be written or the disk is full; the old directory then stays as it was.
pub fn replace_dir(path: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let written = path
        .parent()
        .map_or(Ok(()), make_dir)
        .and_then(|()| fill(&temporary, files))
        .and_then(|()| remove_dir(path))
        .and_then(|()| {
            fs::rename(&temporary, path)
                .with_context(|| format!("failed to create {}", path.display()))
        });
    if written.is_err() {
        let _ = remove_dir(&temporary); // best effort, and the next try does it again
    }
    written
}

/// Makes the directory `path` of these files; it is whole or not there whatever happens meanwhile, and what is there already
/// stays. The directory around it must exist.
///
/// # Errors
/// A user error if there is something at `path`; if it cannot be written.
pub fn create_dir_of(path: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}{TEMPORARY_SUFFIX}", process::id()));
    let written = fill(&temporary, files).and_then(|()| match rename_new(&temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(user_error!("{} is there already", path.display()))
        }
        renamed => renamed.with_context(|| format!("failed to create {}", path.display())),
    });
    if written.is_err() {
        let _ = remove_dir(&temporary); // best effort
    }
    written.and_then(|()| sync_dir(dir_of(path)))
}

/// A rename that replaces nothing.
///
/// # Errors
/// As that of the system; [`ErrorKind::AlreadyExists`] if there is something at `to`.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE);
    match renamed {
        // A file system that cannot promise it: nobody else writes there meanwhile.
        Err(Errno::EINVAL | Errno::ENOSYS) => match to.symlink_metadata() {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        renamed => Ok(renamed?),
    }
}

fn fill(directory: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    remove_dir(directory)?;
    make_dir(directory)?;
    for (name, bytes) in files {
        write_atomic(&directory.join(name), bytes)?;
    }
    Ok(())
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Does a write that no later one makes up for: while it fails, it is tried again for some seconds.
///
/// # Errors
/// That of the last try.
pub fn retry_io<T>(write: impl FnMut() -> Result<T>) -> Result<T> {
    let mut warned = false;
    write
        .retry(
            ConstantBuilder::default()
                .with_delay(PAUSE)
                .with_max_times(RETRIES),
        )
        .notify(|error, _| {
            if !mem::replace(&mut warned, true) {
                let seconds = RETRIES as u64 * PAUSE.as_secs();
                console::warning(format_args!("{error:#}; trying again for {seconds} s"));
            }
        })
        .call()
}

/// Whether this is the disk's refusal of a write, which another time it may take: full, out of quota, against
/// a limit, without permission, or without an answer.
pub fn is_retryable(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &io::Error| {
        matches!(
            cause.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::FileTooLarge
                | ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::TimedOut
        )
    })
}

/// Makes a limit on the size of files (`ulimit -f`) an error of the write that meets it, as a full disk is,
/// and not a signal that ends the process.
pub fn ignore_sigxfsz() {
    // SAFETY: ignoring a signal runs no code. That it may fail changes nothing.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Opens a regular file to read it, and nothing else: to open a named pipe would wait for a writer.
///
/// # Errors
/// I/O errors; [`ErrorKind::InvalidData`] for what is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_regular_with(path, File::options().read(true))
}

/// As [`open_regular`], with other options, to write it say.
///
/// # Errors
/// As [`open_regular`].
pub fn open_regular_with(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let refused = || invalid("it is no regular file".into());
    // Regular files ignore the first; by the second no terminal becomes this process's own.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = options.clone().custom_flags(flags.bits()).open(path);
    let file = file.map_err(|error| match error.kind() {
        ErrorKind::IsADirectory => refused(),
        // A socket or a pipe without reader, or a link that leads back to itself.
        _ if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ELOOP)) => refused(),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused()),
    }
}

/// The bytes of a regular file that has at most `most` of them.
///
/// # Errors
/// As [`open_regular`]; [`ErrorKind::InvalidData`] for a longer file, too.
pub fn read_small(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    // Read at once: a buffer that grows with what comes takes a system call each time.
    let length = file.metadata()?.len().min(most);
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(invalid(format!("got more than {most} bytes")));
    }
    Ok(bytes)
}

/// [`read_small`] of a file that need not be there; `None` where it is not.
///
/// # Errors
/// If it cannot be read, and a user error for one that is longer or no regular file, with its path.
pub fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match read_small(path, most) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(user_error!("{}: {error}", path.display()))
        }
        bytes => bytes
            .map(Some)
            .with_context(|| format!("failed to read {}", path.display())),
    }
}

/// `text` without the byte-order mark that some editors begin a file with, or several, of files that were joined.
pub fn without_bom(text: String) -> String {
    match text.trim_start_matches('\u{feff}') {
        rest if rest.len() < text.len() => rest.to_owned(),
        _ => text,
    }
}

/// Tells a process how the names of its temporary directories begin, where whoever started it removes what it leaves.
const TEMPORARY_DIRS: &str = "RUNBOARD_TEMPORARY_DIRS";

/// A directory in that of the temporary files, which no other user can open. It goes when this is dropped; where this
/// process is killed, [`TemporaryDirs`] of whoever started it removes it, if that lives.
///
/// # Errors
/// If it cannot be made.
pub fn temporary_dir(purpose: &str) -> Result<TempDir> {
    let place = env::temp_dir();
    let prefix = env::var(TEMPORARY_DIRS).unwrap_or_else(|_| "runboard-".to_owned());
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&place);
    made.with_context(|| {
        format!(
            "failed to make a directory {purpose} in {}; TMPDIR names another place",
            place.display()
        )
    })
}

/// The temporary directories of a child process.
#[derive(Debug)]
pub struct TemporaryDirs {
    /// In their names.
    random: u64,
}

impl TemporaryDirs {
    /// Those of the process that `command` will be. They are known by a name that nobody else gives: other machines and
    /// containers may have the same directory, and the same process ids.
    pub fn of(command: &mut Command) -> Self {
        let dirs = TemporaryDirs {
            random: RandomState::new().build_hasher().finish(),
        };
        command.env(TEMPORARY_DIRS, dirs.prefix());
        dirs
    }

    fn prefix(&self) -> String {
        format!("runboard-{:016x}-", self.random)
    }

    /// Removes those that are left, as far as they can be removed. The process has ended.
    pub fn remove(&self) {
        let prefix = self.prefix();
        let entries = fs::read_dir(env::temp_dir()).into_iter().flatten();
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Removes what writes of `path` left beside it that were cut short, by a SIGKILL say, as far as it can be
/// removed. Nobody else may be writing it.
pub fn remove_stale(path: &Path) {
    remove_stale_of(dir_of(path), &temporary_prefix(path));
}

/// Removes the temporary files of [`replace_by`] with this prefix that were cut short. Nobody else may be writing one.
pub fn remove_stale_of(directory: &Path, prefix: &str) {
    let entries = fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(TEMPORARY_SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What the names begin with of the temporary files that become `path`.
fn temporary_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!(".{}.", name.to_string_lossy())
}

const TEMPORARY_SUFFIX: &str = ".tmp";

/// The directory that a file or directory of this path is in.
pub fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    replace_by(path, &temporary_prefix(path), durable, |file| {
        file.write_all(bytes)
    })
}

/// Replaces `path` by what `write` writes into a temporary file beside it, whose name begins with `prefix`; durably, as
/// [`write_atomic`] does, or without waiting for the disk.
///
/// # Errors
/// If the directory cannot be written or the disk is full; the old file then stays as it was.
pub fn replace_by(
    path: &Path,
    prefix: &str,
    durable: bool,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let directory = dir_of(path);
    // A temporary file is private by default; a run directory may be read by everyone the umask allows.
    let mut file = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(TEMPORARY_SUFFIX)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)?;
    write(file.as_file_mut())?; // whose error does not name the temporary file
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    match durable {
        true => File::open(directory)?.sync_all(), // the rename itself
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_of_files_is_whole_and_replaces_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a");
        let files: [(&str, &[u8]); 2] = [("x", b"1"), ("y", b"2")];
        create_dir_of(&path, &files).unwrap();
        assert_eq!(fs::read(path.join("y")).unwrap(), b"2");
        let error = create_dir_of(&path, &[("x", b"3")]).unwrap_err();
        assert!(crate::error::is_user_error(&error));
        assert_eq!(
            error.to_string(),
            format!("{} is there already", path.display())
        );
        assert_eq!(fs::read(path.join("x")).unwrap(), b"1");
        // A file that cannot be written takes all back.
        create_dir_of(&parent.path().join("b"), &[("x", b"1"), ("no/y", b"2")]).unwrap_err();
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn write_atomic_replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        write_atomic(&path, b"a long first version").unwrap();
        write_atomic(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        replace(&path, b"shorter").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"shorter");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_ne!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o200,
            0,
            "not even writable by its owner"
        );
    }

    #[test]
    fn remove_stale_removes_the_temporary_files_of_its_path_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        replace(&path, b"whole").unwrap();
        let others = ["b.json", ".b.json.x.tmp", ".a.json", "a.json.tmp"];
        for name in others.iter().chain(&[".a.json.x.tmp", ".a.json.y.tmp"]) {
            fs::write(directory.path().join(name), "half").unwrap();
        }
        remove_stale(&path);
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 1 + others.len());
        assert!(
            others
                .iter()
                .all(|name| directory.path().join(name).exists())
        );
        remove_stale(&directory.path().join("none/a.json"));
    }

    #[test]
    fn read_small_refuses_large_files_and_what_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_small(&path, 5).unwrap(), b"12345");
        let refused = |path: &Path| {
            let error = read_small(path, 4).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            error.to_string()
        };
        assert_eq!(refused(&path), "got more than 4 bytes");
        assert_eq!(refused(directory.path()), "it is no regular file");
        let pipe = directory.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(refused(&pipe), "it is no regular file");
        let append = open_regular_with(&pipe, File::options().append(true));
        assert_eq!(append.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(refused(Path::new("/dev/zero")), "it is no regular file");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        assert_eq!(refused(&link), "it is no regular file");
        let missing = read_small(&directory.path().join("none"), 4).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn write_atomic_names_the_file_when_it_fails_and_leaves_no_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none/a.json");
        let error = format!("{:#}", write_atomic(&missing, b"x").unwrap_err());
        assert!(
            error.starts_with(&format!("failed to write {}: ", missing.display())),
            "{error}"
        );

        let taken = directory.path().join("taken"); // a directory, which no file can replace
        fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn replace_dir_replaces_a_directory_as_a_whole_or_leaves_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/step-1");
        replace_dir(&path, &[("a", b"1"), ("b", b"2")]).unwrap();
        replace_dir(&path, &[("a", b"3")]).unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"3");
        assert!(!path.join("b").exists());
        // A name in a directory that is not there cannot be written.
        replace_dir(&path, &[("a", b"4"), ("none/b", b"5")]).unwrap_err();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"3");
        let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "something is left beside it");
        // What lies further out is another's to make.
        let gone = directory.path().join("gone");
        replace_dir(&gone.join("deep/step-1"), &[("a", b"1")]).unwrap_err();
        assert!(!gone.exists());
    }
}
