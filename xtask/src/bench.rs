//! `cargo xtask bench`: hands over to the benchmark program in `benches/`, or to the lab.
//!
//! It measures nothing itself.

use crate::{lab, process, workspace};

/// Runs the `rbd-bench` program, built for release, with the caller's arguments.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(("lab", arguments)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return lab::bench::run(arguments);
    }
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
