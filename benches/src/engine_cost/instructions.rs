//! Counts instructions per write: the same on a busy machine as on a quiet one.
//!
//! It runs this program again under valgrind, twice with different numbers of writes, so that
//! setting up does not count.

use std::env;
use std::process::Command;

/// Instructions per write of the case of this name.
pub(super) fn per_write(case: &str) -> Result<u64, String> {
    let few = collected(case, WRITES)?;
    let many = collected(case, 3 * WRITES)?;
    Ok(many.saturating_sub(few) / (2 * WRITES))
}

/// All instructions of a run with so many writes.
fn collected(case: &str, writes: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("cannot find my program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["engine", "--rounds", "1", "--only", case, "--writes"])
        .arg(writes.to_string())
        .output()
        .map_err(|error| format!("cannot start valgrind (package valgrind): {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    parse(&text).ok_or_else(|| format!("valgrind ended with {}: {text}", output.status))
}

/// The number in callgrind's line `==PID== Collected : NUMBER`.
fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// Enough that a checkpoint's flushes come at their usual rate.
const WRITES: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_count_is_found_among_what_valgrind_says() {
        let text = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(parse(text), Some(123_456));
        assert_eq!(parse("valgrind: no such file"), None);
    }
}
