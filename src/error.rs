//! What `main` needs to know of an error: with which exit code it ends the process, and with it whose mistake it
//! was.

use std::error::Error;
use std::fmt::{self, Write};

/// Exit code of a failure that has no code of its own.
pub const FAILURE: i32 = 1;

/// Exit code of bad input.
pub const BAD_INPUT: i32 = 2;

/// Exit code of a rank that ends because another one has, of the ranks that train together.
pub const LOST_RANK: i32 = 5;

/// Exit code of a rank to which the others have not come in time.
pub const NOT_MET: i32 = 6;

/// Exit code of training that diverged.
pub const DIVERGED: i32 = 4;

/// An error with an exit code of its own. Its text and its causes are those of the error inside, so that it can
/// stand for it anywhere.
#[derive(Debug)]
pub struct ExitError {
    code: i32,
    error: Box<dyn Error + Send + Sync>,
}

impl ExitError {
    /// `error`, or a text that is one, which ends the process with `code`.
    pub fn new(code: i32, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        ExitError {
            code,
            error: error.into(),
        }
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for ExitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The exit code of an error: that of the first [`ExitError`] in its chain, else 1.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    let code = |cause: &(dyn Error + 'static)| Some(cause.downcast_ref::<ExitError>()?.code);
    error.chain().find_map(code).unwrap_or(FAILURE)
}

/// Bad input: a spec, a data file, a name on the command line. `main` exits with [`BAD_INPUT`] for it.
#[derive(Debug)]
pub struct UserError(pub String);

/// The text, with control characters but line breaks escaped: what it quotes of the input must not command
/// a terminal.
impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\n' => f.write_char(letter)?,
                _ if letter.is_control() => write!(f, "{}", letter.escape_debug())?,
                _ => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

impl Error for UserError {}

/// An [`anyhow::Error`] around a [`UserError`], formatted as `format!` does.
#[macro_export]
macro_rules! user_error {
    ($($arg:tt)*) => {
        ::anyhow::Error::new($crate::error::ExitError::new(
            $crate::error::BAD_INPUT,
            $crate::error::UserError(format!($($arg)*)),
        ))
    };
}

/// Return early with a [`UserError`], formatted as `format!` does.
#[macro_export]
macro_rules! bail_user {
    ($($arg:tt)*) => {
        return Err($crate::user_error!($($arg)*))
    };
}

/// Whether the input is to blame: a [`UserError`] is in the chain.
pub fn is_user_error(error: &anyhow::Error) -> bool {
    exit_code(error) == BAD_INPUT
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn exit_code_is_found_behind_context() {
        let bad = anyhow::Result::<()>::Err(user_error!("got {}, want 1", 2))
            .context("failed to read x")
            .unwrap_err();
        assert!(is_user_error(&bad));
        assert_eq!(format!("{bad:#}"), "failed to read x: got 2, want 1");
        let other = anyhow::anyhow!("disk on fire");
        assert_eq!((is_user_error(&other), exit_code(&other)), (false, 1));
    }

    #[test]
    fn user_error_escapes_control_characters() {
        let error = user_error!("\u{1b}[2J\0: caf\u{e9}\nwant {}", "\u{9b}a");
        assert_eq!(error.to_string(), "\\u{1b}[2J\\0: caf\u{e9}\nwant \\u{9b}a");
    }
}
