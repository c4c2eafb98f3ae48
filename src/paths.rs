//! Paths as users write them: `~` and variables expanded, as a shell does it.
//!
//! A shell does so itself before a program sees its arguments, but not in quotes, in the middle of a word
//! (`--set data.folder=~/images`), in YAML, and in environment variables.

use crate::user_error;
use anyhow::Result;
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Expands `~` at the beginning, and `$NAME`, `${NAME}` and `${NAME:-DEFAULT}`; `$$` is a `$`.
///
/// # Errors
/// A user error if a variable is not set, a `${` has no `}`, or if the path begins with `~` otherwise.
pub fn expand(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    if has_open_variable(path.as_os_str().as_bytes()) {
        return Err(user_error!(
            "'{}' has a ${{ without a }}; want ${{NAME}}, or $$ for a plain $",
            path.display()
        ));
    }
    let variable = |name: &str| match env::var_os(name) {
        Some(value) if !value.is_empty() => Ok(Some(PathBuf::from(value))),
        _ => Err(()),
    };
    let expanded = shellexpand::path::full_with_context(path, env::home_dir, variable);
    let expanded = expanded.map_err(|error| {
        let name = error.var_name.to_string_lossy();
        user_error!("the variable {name} is not set or empty; want it set, or $$ for a plain $")
    })?;
    match expanded.as_os_str().as_bytes().starts_with(b"~") {
        true => Err(user_error!(
            "nothing expands '{}'; want ~/ for the home directory, or ./~ for a plain ~",
            expanded.display()
        )),
        false => Ok(expanded.into_owned()),
    }
}

/// Whether a `${` is not closed. `$$` is a plain `$`.
fn has_open_variable(path: &[u8]) -> bool {
    match path {
        [b'$', b'$', rest @ ..] => has_open_variable(rest),
        [b'$', b'{', rest @ ..] => match rest.iter().position(|&byte| byte == b'}') {
            Some(end) => has_open_variable(&rest[end..]),
            None => true,
        },
        [_, rest @ ..] => has_open_variable(rest),
        [] => false,
    }
}

/// What [`expand`] makes this path of. It has no leading dash, so that no program takes it for an option.
pub fn unexpanded(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let mut written: Vec<u8> = match bytes.first() {
        Some(b'~' | b'-') => b"./".to_vec(),
        _ => Vec::new(),
    };
    for &byte in bytes {
        written.push(byte);
        if byte == b'$' {
            written.push(byte);
        }
    }
    PathBuf::from(OsString::from_vec(written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use std::ffi::OsStr;

    /// Bytes that are no UTF-8.
    fn foreign() -> &'static Path {
        Path::new(OsStr::from_bytes(b"r\xff$/x"))
    }

    #[test]
    fn expand_replaces_home_and_variables() {
        let home = env::home_dir().unwrap();
        let manifest = env!("CARGO_MANIFEST_DIR"); // cargo sets it for tests, too
        for (path, want) in [
            ("~", home.clone()),
            ("~/a b", home.join("a b")),
            ("${CARGO_MANIFEST_DIR}/a", Path::new(manifest).join("a")),
            ("$CARGO_MANIFEST_DIR", manifest.into()),
            ("${RUNBOARD_NOT_SET:-a}/b", "a/b".into()),
            ("a$$b/~/c~", "a$b/~/c~".into()),
            ("./~", "./~".into()),
            ("", "".into()),
        ] {
            assert_eq!(expand(path).unwrap(), want, "{path}");
        }
        assert_eq!(expand(foreign()).unwrap(), foreign());
    }

    #[test]
    fn expand_refuses_what_it_cannot_replace() {
        for path in ["$RUNBOARD_NOT_SET/a", "a/${RUNBOARD_NOT_SET}"] {
            let error = expand(path).unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(
                error.to_string(),
                "the variable RUNBOARD_NOT_SET is not set or empty; want it set, or $$ for a plain $"
            );
        }
        for path in ["${HOME", "a/$$${HOME/b"] {
            let error = expand(path).unwrap_err().to_string();
            let want = "has a ${ without a }; want ${NAME}, or $$ for a plain $";
            assert_eq!(error, format!("'{path}' {want}"));
        }
        assert_eq!(
            expand("~nobody/a").unwrap_err().to_string(),
            "nothing expands '~nobody/a'; want ~/ for the home directory, or ./~ for a plain ~"
        );
    }

    #[test]
    fn expand_takes_back_unexpanded() {
        for path in ["a/b", "~/$x/$$", "-x", "./-x", "/", "${", "~"] {
            let again = expand(unexpanded(Path::new(path))).unwrap();
            let plain = again.strip_prefix(".").unwrap_or(&again);
            assert_eq!(
                plain,
                Path::new(path).strip_prefix(".").unwrap_or(Path::new(path))
            );
        }
        assert_eq!(expand(unexpanded(foreign())).unwrap(), foreign());
    }
}
