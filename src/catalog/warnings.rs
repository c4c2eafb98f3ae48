//! The warnings in a run's logs.

use std::io::{BufRead, BufReader, Read};

use super::Entry;
use crate::files::open_regular;
use crate::run::Role;

/// The longest line of a log that is looked at, in bytes.
const MAX_LINE: u64 = 64 << 10;

impl Entry {
    /// The warnings in each of its logs, each text once, in the order in which they came; a log without any is left out.
    pub fn warnings(&self) -> Vec<(Role, Vec<String>)> {
        let Some(run) = self.run() else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for role in [Role::Supervisor, Role::TRAIN, Role::Eval] {
            let Ok(file) = open_regular(&run.log(role)) else {
                continue;
            };
            let mut reader = BufReader::new(file);
            let (mut found, mut line): (Vec<String>, Vec<u8>) = (Vec::new(), Vec::new());
            // A line without an end is looked at in pieces.
            while (&mut reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .unwrap_or(0)
                > 0
            {
                if line.starts_with(b"warning: ") {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if !found.contains(&text) {
                        found.push(text);
                    }
                }
                line.clear();
            }
            if !found.is_empty() {
                all.push((role, found));
            }
        }
        all
    }
}
