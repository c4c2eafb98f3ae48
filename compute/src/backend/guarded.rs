//! The errors of this module's C++, of guarded.hpp.

use anyhow::{Result, bail};
use std::ffi::c_char;

/// guarded.hpp's `ErrorText`.
#[repr(C)]
pub struct RawError {
    text: *mut c_char,
    capacity: usize,
}

/// Call a function with room for an error's text.
///
/// # Errors
/// What it wrote, if it says that it failed.
pub fn call(function: impl FnOnce(RawError) -> bool) -> Result<()> {
    let mut text = [0_u8; 1024];
    let error = RawError {
        text: text.as_mut_ptr().cast(),
        capacity: text.len(),
    };
    if function(error) {
        return Ok(());
    }
    let end = text.iter().position(|&byte| byte == 0);
    let text = String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]);
    bail!("{}", without_source(&text));
}

/// An error's text without the place in libtorch's or Gloo's source, `[/pytorch/.../pair.cc:547] `, before it.
fn without_source(text: &str) -> &str {
    let place = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    match place {
        Some((place, rest)) if place.contains('/') => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_loses_the_place_in_the_source_alone() {
        let closed = "Connection closed by peer [127.0.0.1]:4321";
        let text = format!("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] {closed}");
        assert_eq!(without_source(&text), closed);
        assert_eq!(without_source(closed), closed);
        assert_eq!(
            without_source("[127.0.0.1]:1 refuses"),
            "[127.0.0.1]:1 refuses"
        );
    }
}
