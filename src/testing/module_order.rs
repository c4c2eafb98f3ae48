//! The order of the modules, which docs/ARCHITECTURE.md draws: none imports one that stands after it.

use super::imports::assert_order;

#[test]
fn modules_import_none_that_stands_after_them() {
    assert_order(&[
        "error",
        "console",
        "files",
        "paths",
        "bundle",
        "home",
        "hint",
        "proc_stat",
        "shutdown",
        "parent",
        "measure",
        "reference",
        "slurm",
        "spec",
        "launch",
        "schedule",
        "data",
        "pictures",
        "events",
        "run",
        "checkpoint",
        "hparams",
        "compute",
        "overview",
        "supervisor",
        "sweep",
        "catalog",
        "report",
        "verify",
        "cli",
        "main",
    ]);
}
