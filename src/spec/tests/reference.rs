//! `runboard fields`, docs/spec.md and experiments/schema.json.

use super::*;
use crate::spec::reference::{list, markdown};
use std::collections::BTreeSet;

/// Compare a file of this repository with what the program writes; WRITE_DOCS=1 writes it, as `make docs`.
fn assert_renewed(path: &str, want: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&file, want).unwrap();
    }
    let found = fs::read_to_string(file).unwrap();
    assert!(
        found == want,
        "{path} is out of date; `make docs` renews it"
    );
}

#[test]
fn spec_page_and_schema_are_up_to_date() {
    assert_renewed("docs/spec.md", &markdown().unwrap());
    assert_renewed("experiments/schema.json", &schema().unwrap());
}

#[test]
fn schema_is_named_in_the_first_line_of_shipped_experiments() {
    for name in available(&shipped()).unwrap() {
        let text = fs::read_to_string(shipped().join(format!("{name}.yaml"))).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first, "# yaml-language-server: $schema=schema.json",
            "{name}"
        );
    }
}

#[test]
fn section_table_has_every_section_of_the_fields() {
    let mut sections = BTreeSet::new();
    for path in fields::paths() {
        let ends = path.match_indices('.').map(|(end, _)| &path[..end]);
        sections.extend(ends.chain([""]));
    }
    let listed: BTreeSet<&str> = fields::sections().iter().map(|(path, _)| *path).collect();
    assert_eq!(listed, sections);
    assert_eq!(fields::sections().len(), sections.len());
}

#[test]
fn meanings_are_sentences() {
    for field in fields::all() {
        assert!(field.meaning.ends_with('.'), "{}", field.path);
        assert!(!field.meaning.contains("  "), "{}", field.path);
    }
}

#[test]
fn field_list_fits_a_terminal_and_shows_default_range_and_meaning() {
    for line in list(None).unwrap().lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(
        list(Some("keep_every")).unwrap(),
        "train.keep_every\n    \
             default  0\n    \
             allowed  a whole number from 0 to 1000000000\n    \
             Checkpoints of steps that are multiples of this are kept as well. 0: none.\n    \
             resume --set may change it"
    );
    // As a file has them, not as the f32 that they become.
    assert!(
        list(Some("contrast.lower"))
            .unwrap()
            .contains("default  0.2\n")
    );
    assert!(list(Some("extends")).unwrap().contains("default  none\n"));
}

#[test]
fn field_pattern_is_a_part_of_the_path_or_all_of_it_with_wildcards() {
    let found = |pattern: &str| -> Vec<String> {
        let list = list(Some(pattern)).unwrap();
        let paths = list
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(' '));
        paths.map(str::to_owned).collect()
    };
    assert_eq!(
        found("contrast"),
        ["input.contrast.lower", "input.contrast.upper"]
    );
    assert_eq!(found("eval.*s").len(), 2); // interval_secs, threads
    assert_eq!(
        found("*.batch_size"),
        ["train.batch_size", "eval.batch_size"]
    );
    assert_eq!(found("network.conv?.kernel").len(), 2);
    assert_eq!(found("*").len(), fields::all().len() + sweep_keys().len());
    assert_eq!(found("sweep.r*"), ["sweep.runs"]);
    assert_eq!(found("seed*"), ["seed"]);
}

#[test]
fn unknown_field_pattern_is_refused_with_the_nearest_names() {
    let message = |pattern: &str| {
        let error = list(Some(pattern)).unwrap_err();
        assert!(is_user_error(&error));
        error.to_string()
    };
    let all = format!("`{}` lists them all", crate::hint::runboard(&["fields"]));
    assert_eq!(
        message("batchsize"),
        format!(
            "no field matches 'batchsize'; did you mean train.batch_size or eval.batch_size? {all}"
        )
    );
    assert_eq!(
        message("train.step_s"),
        format!("no field matches 'train.step_s'; did you mean train.steps? {all}")
    );
    assert_eq!(message("zzz*"), format!("no field matches 'zzz*'; {all}"));
}
