//! The one distinction that callers of runboard need among errors: whose mistake it was.

use std::fmt::{self, Write};

/// Bad input: a spec, a data file, a name on the command line. `main` exits with 2 for it, and with 1
/// for everything else.
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

impl std::error::Error for UserError {}

/// An [`anyhow::Error`] around a [`UserError`], formatted as `format!` does.
#[macro_export]
macro_rules! user_error {
    ($($arg:tt)*) => {
        ::anyhow::Error::new($crate::error::UserError(format!($($arg)*)))
    };
}

/// Return early with a [`UserError`], formatted as `format!` does.
#[macro_export]
macro_rules! bail_user {
    ($($arg:tt)*) => {
        return Err($crate::user_error!($($arg)*))
    };
}

/// Whether a [`UserError`] is anywhere in the chain.
pub fn is_user_error(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<UserError>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn context_does_not_hide_whose_mistake_it_was() {
        let bad = anyhow::Result::<()>::Err(user_error!("got {}, want 1", 2))
            .context("failed to read x")
            .unwrap_err();
        assert!(is_user_error(&bad));
        assert_eq!(format!("{bad:#}"), "failed to read x: got 2, want 1");
        assert!(!is_user_error(&anyhow::anyhow!("disk on fire")));
    }

    #[test]
    fn what_is_quoted_cannot_command_a_terminal() {
        let error = user_error!("\u{1b}[2J\0: caf\u{e9}\nwant {}", "\u{9b}a");
        assert_eq!(error.to_string(), "\\u{1b}[2J\\0: caf\u{e9}\nwant \\u{9b}a");
    }
}
