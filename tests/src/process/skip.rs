//! Tests that cannot run on this machine say so where the test command finds it.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

use super::program::find;

/// Notes that a test does not run here, and why.
pub fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    let Some(path) = env::var_os("RBD_SKIP_LOG") else {
        return;
    };
    let log = OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut log) = log {
        // One write, so that lines of tests running at the same time do not mix.
        let line = format!("{test}: {reason}\n");
        drop(log.write_all(line.as_bytes()));
    }
}

/// Whether one of these programs is missing; then the test is skipped.
#[must_use]
pub fn lacks(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return false;
    }
    skip(test, &format!("{} not installed", missing.join(", ")));
    true
}

/// Whether this is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
