//! Which modules of a crate import which.

use std::fs;
use std::path::Path;
use walkdir::WalkDir;

/// Each of the crate's modules is one of `modules` and imports none that stands after it there.
pub fn assert_order(modules: &[&str]) {
    // `None` for macros and the errors of the crate's root.
    let position = |module: &str| modules.iter().position(|known| *known == module);
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let tests = ["tests", "fuzz", "fuzz.rs", "golden.rs", "testing", "lib.rs"];
    for file in WalkDir::new(&src).into_iter().map(Result::unwrap) {
        let inside = file.path().strip_prefix(&src).unwrap();
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        if inside.extension().is_none_or(|it| it != "rs")
            || parts.iter().any(|part| tests.contains(part))
        {
            continue;
        }
        let module = parts[0].trim_end_matches(".rs");
        let own = position(module).unwrap_or_else(|| panic!("src/{module} is not in the order"));
        let text = fs::read_to_string(file.path()).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for name in code.split("crate::").skip(1).flat_map(imported) {
            assert!(
                position(name).is_none_or(|position| position <= own),
                "src/{} imports {name}, which stands after {module}",
                inside.display()
            );
        }
    }
}

/// The modules that `crate::REST` names: one, or all in braces.
fn imported(rest: &str) -> Vec<&str> {
    let list = rest
        .strip_prefix('{')
        .and_then(|list| list.split_once("};"));
    match list {
        Some((list, _)) => list.split(',').map(first_word).collect(),
        None => vec![first_word(rest)],
    }
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}
