//! Input made to break the reader.

use super::*;

/// Aliases that would multiply to billions of nodes, and nesting deeper than any stack.
#[test]
fn reader_refuses_alias_bombs_and_deep_nesting() {
    let mut bomb = String::from("description: x\nseed: &a [x,x,x,x,x,x,x,x,x]\n");
    bomb += &format!("train: [{}]\n", "*a,".repeat(20_000));
    assert!(bad(&bomb).starts_with("experiments/bad.yaml:2:7: seed: got a list"));
    assert!(bad("train: &a {steps: *a}").contains("train.steps: got a mapping"));
    for text in ["[", "{", "a: {", "- ", "? "] {
        let deep = text.repeat(5_000);
        assert!(bad(&deep).starts_with("experiments/bad.yaml:"), "{text}");
    }
}
