//! What the fuzz tests share: how many cases to run, and valid files with random edits.
//!
//! Each reader of foreign bytes has its target beside it, a test in a module `fuzz`. `cargo test` runs a few
//! cases, always the same ones. `make fuzz` sets `FUZZ_SECONDS`, the time for each target, and every case is
//! a new one. `FUZZ_SEED` repeats the case of which a failure tells.

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Run `property`, which panics where it does not hold, on random input, `cases` times or as the environment
/// says.
pub fn check(cases: u64, property: impl Fn(&mut ChaCha8Rng)) {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("FUZZ_SEED") {
        return property(&mut ChaCha8Rng::seed_from_u64(seed));
    }
    let limit = number("FUZZ_SECONDS");
    let (first, begin) = (limit.map_or(0, |_| time_seed()), Instant::now());
    let mut done: u64 = 0;
    while limit.map_or(done < cases, |limit| begin.elapsed().as_secs() < limit) {
        let seed = first.wrapping_add(done);
        let case = || property(&mut ChaCha8Rng::seed_from_u64(seed));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(case)) {
            eprintln!("to reproduce it: FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        done += 1;
    }
    if limit.is_some() {
        println!("{done} cases in {} s", begin.elapsed().as_secs());
    }
}

/// A first seed that no other run has.
fn time_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// One of `choices`, uniformly.
pub fn pick<T: Clone>(rng: &mut ChaCha8Rng, choices: &[T]) -> T {
    choices.choose(rng).expect("there are choices").clone()
}

/// Numbers at the edges of what parsers take, and words in their place.
const NUMBERS: [&str; 24] = [
    "0",
    "-0",
    "-1",
    "1",
    "255",
    "256",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551614",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "99999999999999999999999999999999999999999",
    "1e308",
    "-1e999",
    "1e-320",
    "0.5",
    ".nan",
    "null",
    "true",
    "\"\"",
    "[]",
];

/// `text` after up to five edits: letters cut out or copied elsewhere, numbers replaced by extreme ones, some
/// of `words` put in.
pub fn edited_text(rng: &mut ChaCha8Rng, text: &[u8], words: &[&[u8]]) -> Vec<u8> {
    edited_by(rng, text, words, 0..11)
}

/// As [`edited_text`], and random bytes are put in, bytes overwritten by extreme numbers.
pub fn edited(rng: &mut ChaCha8Rng, file: &[u8], words: &[&[u8]]) -> Vec<u8> {
    edited_by(rng, file, words, 0..16)
}

fn edited_by(rng: &mut ChaCha8Rng, file: &[u8], words: &[&[u8]], kinds: Range<u8>) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..rng.random_range(0..6) {
        let kind = rng.random_range(kinds.clone());
        edit(rng, &mut bytes, words, kind);
    }
    bytes
}

fn edit(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, words: &[&[u8]], kind: u8) {
    let length = bytes.len();
    let at = rng.random_range(0..=length);
    let some = at..(at + rng.random_range(1..100)).min(length);
    match kind {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(some)),
        2 => {
            let to = rng.random_range(0..=length);
            let copied = bytes[some].to_vec();
            bytes.splice(to..to, copied);
        }
        3..6 => {
            let places = digits(bytes);
            if !places.is_empty() {
                let number = pick(rng, &NUMBERS);
                bytes.splice(pick(rng, &places), number.bytes());
            }
        }
        6 => overwrite(bytes, at, &word(rng, words)),
        7..11 => drop(bytes.splice(at..at, word(rng, words))),
        11..13 => drop(bytes.splice(at..at, random(rng))),
        _ => overwrite(bytes, at, &binary_number(rng)),
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let end = (at + new.len()).min(bytes.len());
    bytes.splice(at..end, new.iter().copied());
}

fn word(rng: &mut ChaCha8Rng, words: &[&[u8]]) -> Vec<u8> {
    match words {
        [] => random(rng),
        _ => pick(rng, words).to_vec(),
    }
}

fn random(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(1..9)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A random or an extreme number, little-endian, of 1 to 8 bytes.
fn binary_number(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let high = u64::MAX;
    let random = rng.random();
    let number = pick(
        rng,
        &[
            random,
            0,
            1,
            1 << 31,
            1 << 32,
            1 << 63,
            high / 2,
            high - 15,
            high - 7,
            high,
        ],
    );
    number.to_le_bytes()[..pick(rng, &[1, 2, 4, 8])].to_vec()
}

/// Where the runs of digits are.
fn digits(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut end = 0;
    let runs = bytes.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let places = runs.map(|run| {
        end += run.len();
        end - run.len()..end
    });
    places
        .filter(|place| bytes[place.start].is_ascii_digit())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn edits_are_of_every_kind_and_repeatable() {
        let text = b"a: 12, b: 345";
        for wanted in [
            &b"word"[..],
            b"18446744073709551615",
            b"a: 12, b: 3",
            b"\xff\xff\xff\xff",
        ] {
            let met = Cell::new(0);
            check(2_000, |rng| {
                let edited = edited(rng, text, &[b"word"]);
                let found = edited.windows(wanted.len()).any(|part| part == wanted);
                met.set(met.get() + u32::from(found && edited != text));
            });
            assert!(met.get() > 0, "{}", wanted.escape_ascii());
        }
        let case = || edited(&mut ChaCha8Rng::seed_from_u64(5), text, &[b"word"]);
        assert_eq!(case(), case());
    }

    #[test]
    fn check_fails_where_the_property_does_not_hold() {
        let met = Cell::new(0);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            check(50, |rng| {
                met.set(met.get() + 1);
                assert!(rng.random_range(0..10) < 8);
            });
        }));
        assert!(failed.is_err());
        assert!((2..50).contains(&met.get()), "{}", met.get());
    }
}
