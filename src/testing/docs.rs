//! docs/reliability.md names tests; they must be there.

use std::fs;
use std::path::Path;
use walkdir::WalkDir;

#[test]
fn reliability_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let code: String = ["src", "tests", "compute"]
        .iter()
        .flat_map(|directory| WalkDir::new(root.join(directory)))
        .map(Result::unwrap)
        .filter(|file| file.path().extension().is_some_and(|it| it == "rs"))
        .map(|file| fs::read_to_string(file.path()).unwrap())
        .collect();
    let is_test = |name: &&str| {
        name.matches('_').count() > 1 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let names = page.split('`').skip(1).step_by(2);
    let names: Vec<&str> = names
        .map(|name| name.trim_end_matches('.'))
        .filter(is_test)
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            code.contains(&format!("fn {name}")),
            "docs/reliability.md: no test {name}"
        );
    }
}
