//! The order of the modules, which docs/ARCHITECTURE.md draws: none imports one that stands after it.

use std::fs;
use std::path::Path;
use walkdir::WalkDir;

const ROOMS: [&str; 18] = [
    "error",
    "console",
    "files",
    "shutdown",
    "spec",
    "schedule",
    "data",
    "pictures",
    "events",
    "model",
    "backend",
    "run",
    "checkpoint",
    "trainer",
    "evaluator",
    "supervisor",
    "cli",
    "main",
];

/// Where a module stands; `None` for macros and for what only tests import.
fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

#[test]
fn no_module_imports_one_that_stands_after_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = WalkDir::new(&src).into_iter().map(Result::unwrap);
    for path in files.map(|file| file.path().to_owned()) {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap();
        let room = room.trim_end_matches(".rs");
        let test = ["tests", "fuzz", "fuzz.rs", "golden.rs", "testing", "lib.rs"];
        if path.is_dir()
            || inside
                .iter()
                .any(|part| test.iter().any(|test| part == *test))
        {
            continue;
        }
        let own = floor(room).unwrap_or_else(|| panic!("src/{room} has no place in the order"));
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code = code.replace("use crate::{\n    ", "use crate::{"); // as rustfmt breaks a long list
        for import in code.split("crate::").skip(1) {
            let names = import
                .strip_prefix('{')
                .and_then(|list| list.split('}').next());
            for name in names.unwrap_or(import).split(',') {
                let name = name
                    .trim()
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                let imported = floor(name.unwrap_or_default());
                assert!(
                    imported.is_none_or(|imported| imported <= own),
                    "{} imports {name:?}, which stands after it",
                    inside.display()
                );
                if names.is_none() {
                    break;
                }
            }
        }
    }
}
