//! Random edits of what people write.

use super::Filter;
use crate::error::is_user_error;
use crate::testing::fuzz::{check, edited_text};
use ::console::measure_text_width;

#[test]
fn filter_is_read_or_refused_with_its_place() {
    let valid = "not (accuracy>0.7 or size>=1.5 GiB and age<30d) and state='stopped early' or name~'lr-*' and loss!=none";
    let words: [&[u8]; 12] = [
        b"(",
        b")",
        b"not ",
        b" and ",
        b" or ",
        b"'",
        b"\"",
        b"~",
        b"!=",
        b"&&",
        b"tags",
        "größe 図".as_bytes(),
    ];
    check(2_000, |rng| {
        let text =
            String::from_utf8_lossy(&edited_text(rng, valid.as_bytes(), &words)).into_owned();
        if let Err(error) = Filter::parse("--where", &text) {
            assert!(is_user_error(&error), "{text}: {error:#}");
            let message = error.to_string();
            let lines: Vec<&str> = message.lines().collect();
            let [.., shown, mark] = lines[..] else {
                panic!("{text}: {message}");
            };
            // The mark is under the expression, or just behind it.
            assert!(
                measure_text_width(mark) <= measure_text_width(shown).max(2) + 1,
                "{text}: {message}"
            );
            assert!(mark.ends_with('^'), "{message}");
        }
    });
}
