//! The order of the modules, which docs/ARCHITECTURE.md draws: none imports one that stands after it.

use super::imports::assert_order;

#[test]
fn modules_import_none_that_stands_after_them() {
    assert_order(&[
        "model",
        "backend",
        "trainer",
        "evaluator",
        "examination",
        "main",
    ]);
}
