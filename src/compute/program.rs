//! Where the program is, how it is started and asked, and that it is of the same build as this one.

use super::{environment, libtorch};
use crate::bundle::Bundle;
use crate::files::sha256;
use crate::parent::bind_to_parent;
use crate::{bail_user, hint};
use anyhow::{Context, Error, Result, bail};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program's file, beside runboard's own.
const NAME: &str = "runboard-compute";

/// Hexadecimal digits that stand for the program's file in a run's provenance.
const DIGEST_DIGITS: usize = 16;

/// Tells the program of which build its starter is.
const BUILD_VARIABLE: &str = "RUNBOARD_BUILD";

/// Digest of the sources of this library, which is in both programs.
pub const BUILD: &str = env!("RUNBOARD_BUILD");

/// The program's file.
///
/// # Errors
/// A user error if it is not there.
pub fn path() -> Result<PathBuf> {
    let own = env::current_exe().context("failed to find runboard's own binary")?;
    let path = own.with_file_name(NAME);
    if !path.is_file() {
        bail_user!(
            "no program {}, which trains and evaluates; want it beside {}: {}",
            path.display(),
            own.display(),
            remedy()
        );
    }
    Ok(path)
}

/// How the program is got back where it is missing or damaged.
pub fn remedy() -> String {
    match Bundle::find() {
        Ok(None) => format!(
            "{} builds both",
            hint::make("build")
                .unwrap_or_else(|| "`make build` in runboard's directory".to_owned())
        ),
        _ => "unpack the bundle anew".to_owned(),
    }
}

/// What tells the program's file from others: the first digits of its SHA-256, if it can be read.
pub(super) fn digest() -> Option<String> {
    let bytes = fs::read(path().ok()?).ok()?;
    let mut digest = sha256(bytes);
    digest.truncate(DIGEST_DIGITS);
    Some(digest)
}

/// Makes sure, in the program, that whoever started it is of the same build: one of the two may be left from an earlier one.
///
/// # Errors
/// A user error if it is of another.
pub fn check_build() -> Result<()> {
    check(env::var_os(BUILD_VARIABLE).as_deref())
}

fn check(starter: Option<&OsStr>) -> Result<()> {
    if starter.is_some_and(|build| build != BUILD) {
        bail_user!(
            "{NAME} and the runboard that starts it are of different builds; want the same: `make build` builds both, and a \
             run that was started before goes on with `runboard resume`"
        );
    }
    Ok(())
}

/// A command of `program` that has the environment of a process that computes.
///
/// # Errors
/// A user error if there is no libtorch for it.
fn command(program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.env(BUILD_VARIABLE, BUILD);
    command.envs(libtorch::variable()?);
    command.envs(environment::of_every_process());
    Ok(command)
}

/// As [`command`], for a child of a supervisor: people see it as runboard's.
///
/// # Errors
/// As [`command`].
pub fn supervised(program: &Path) -> Result<Command> {
    let mut command = command(program)?;
    command.arg0(program.with_file_name("runboard"));
    Ok(command)
}

/// Goes on as the program, in the same process and with the same arguments.
///
/// # Errors
/// As [`path`] and [`command`], and if it cannot be started.
pub fn replace_this_process() -> Result<i32> {
    let program = path()?;
    let mut command = command(&program)?;
    let mut words = env::args_os();
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let error = command.args(words).exec();
    Err(Error::new(error).context(format!("failed to start {}", program.display())))
}

/// What NCCL writes (<https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html>), which would be among the words of an
/// answer.
const NCCL_LOG: &str = "NCCL_DEBUG";

/// The program while it is asked.
#[derive(Debug)]
pub(super) struct Asked {
    child: Child,
    named: String,
}

impl Asked {
    /// Another program in its place.
    #[cfg(test)]
    pub fn fake(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Self::spawn(command, "sh".to_owned()).unwrap()
    }

    /// Asks these words. If this is dropped the program ends, as nothing comes on its standard input. It also ends with the
    /// thread that starts it here.
    ///
    /// # Errors
    /// As [`path`], and if it cannot be started.
    pub fn start(words: &[impl AsRef<OsStr>]) -> Result<Self> {
        let program = path()?;
        let named = format!("{} {}", program.display(), hint::shell(words));
        let mut command = command(&program)?;
        command.env_remove(NCCL_LOG);
        bind_to_parent(command.args(words), Signal::SIGKILL);
        Self::spawn(command, named)
    }

    fn spawn(mut command: Command, named: String) -> Result<Self> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {named}"))?;
        Ok(Asked { child, named })
    }

    /// The next line that it answers, before it is told more; empty if it ends without one.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        // By the byte, so that the rest is left for others to read.
        for byte in self.child.stdout.iter_mut().flat_map(Read::bytes) {
            match byte.with_context(|| format!("failed to read the answer of {}", self.named))? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        Ok(line)
    }

    /// What it answers, as JSON, but for lines that were read already, to `input` on its standard input.
    ///
    /// # Errors
    /// Its own, a user error as such.
    pub fn answer<A: DeserializeOwned>(mut self, input: &[u8]) -> Result<A> {
        if let Some(mut stdin) = self.child.stdin.take() {
            // One that has ended says why.
            let _ = stdin.write_all(input);
        }
        let named = self.named;
        let output = self
            .child
            .wait_with_output()
            .with_context(|| format!("failed to wait for {named}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim_end();
            match (output.status.code(), said.strip_prefix("error: ")) {
                (Some(crate::error::BAD_INPUT), Some(error)) => bail_user!("{error}"),
                (_, Some(error)) => bail!("{error}"),
                // The loader, which found no libtorch, or a signal.
                (_, None) => bail!(
                    "{}",
                    failure(&named, output.status, libtorch::found(), said)
                ),
            }
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("failed to read the answer of {named}"))
    }
}

/// How the program has ended without an error of its own, and with which libtorch, if that was looked for.
fn failure(named: &str, status: ExitStatus, libtorch: Option<&Path>, said: &str) -> String {
    let libtorch = libtorch.map(|it| format!(", with the libtorch in {}", it.display()));
    let libtorch = libtorch.unwrap_or_default();
    let colon = if said.is_empty() { "" } else { ": " };
    format!("{named} has failed, {status}{libtorch}{colon}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn failure_names_the_libtorch_that_was_found_and_what_was_said() {
        let killed = ExitStatus::from_raw(7);
        let libtorch = Some(Path::new("/opt/torch"));
        assert_eq!(
            failure("x machine", killed, libtorch, ""),
            "x machine has failed, signal: 7 (SIGBUS), with the libtorch in /opt/torch"
        );
        let ended = ExitStatus::from_raw(127 << 8);
        assert_eq!(
            failure("x machine", ended, None, "no libc10.so"),
            "x machine has failed, exit status: 127: no libc10.so"
        );
    }

    #[test]
    fn build_of_the_starter_must_be_this_one() {
        check(None).unwrap(); // started by hand
        check(Some(OsStr::new(BUILD))).unwrap();
        let error = check(Some(OsStr::new("0123456789abcdef"))).unwrap_err();
        assert!(is_user_error(&error));
        assert_eq!(
            error.to_string(),
            "runboard-compute and the runboard that starts it are of different builds; want the same: `make build` builds \
             both, and a run that was started before goes on with `runboard resume`"
        );
    }

    #[test]
    fn path_names_the_program_that_is_missing() {
        // Nothing is beside the binary of these tests.
        let error = path().unwrap_err();
        assert!(is_user_error(&error));
        let said = error.to_string();
        assert!(said.starts_with("no program /"), "{said}");
        assert!(said.contains("/runboard-compute, which trains"), "{said}");
        assert!(said.contains("make build"), "{said}");
    }
}
