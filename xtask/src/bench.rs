//! `cargo xtask bench`: hands over to the benchmark program in `benches/`.
//!
//! It measures nothing itself.

use crate::{process, workspace};

/// Runs the `rbd-bench` program, built for release, with the caller's arguments.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut command = workspace::cargo();
    command.args([
        "run",
        "--release",
        "--package",
        "rbd-benches",
        "--bin",
        "rbd-bench",
        "--",
    ]);
    command.args(arguments);
    process::run(&mut command)
}
