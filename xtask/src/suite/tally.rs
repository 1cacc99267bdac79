//! Counting what test programs say.
//!
//! A test that finds it cannot run here returns early, which its test program counts as passed.
//! So that this does not hide, such a test appends one line, `NAME: REASON`, to the file named
//! by `RBD_SKIP_LOG`; it is then counted as skipped and its reason printed at the end.

/// The sum over all test programs so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tests that said they passed, including those that then turn out to have been skipped.
    passed: usize,
    /// Tests that failed, and test programs that ended without a result.
    pub(super) failed: usize,
    ignored: usize,
    /// The names of what failed.
    pub(super) failures: Vec<String>,
    /// The lines of the skip log, each once.
    pub(super) skipped: Vec<String>,
}

impl Tally {
    /// Takes notice of one line a test program printed.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(results) = line.strip_prefix("test result: ") {
            self.passed += count(results, "passed");
            self.failed += count(results, "failed");
            self.ignored += count(results, "ignored");
        } else if let Some(test) = line.strip_prefix("test ") {
            if let Some((name, _)) = test.split_once(" ... FAILED") {
                self.failures.push(name.to_owned());
            } else if let Some((name, reason)) = test.split_once(" ... ignored") {
                let reason = reason.trim_start_matches([',', ' ']);
                let reason = if reason.is_empty() { "ignored" } else { reason };
                self.skipped.push(format!("{name}: {reason}"));
            }
        }
    }

    /// Takes in the skip log.
    pub(super) fn add_skipped(&mut self, log: &str) {
        for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let line = line.strip_prefix("skipped:").unwrap_or(line).trim();
            if !self.skipped.iter().any(|known| known == line) {
                self.skipped.push(line.to_owned());
            }
        }
    }

    /// The last line of a run.
    pub(super) fn summary(&self) -> String {
        let skipped = self.skipped.len().max(self.ignored);
        let ran_but_skipped = skipped - self.ignored;
        let passed = self.passed.saturating_sub(ran_but_skipped);
        format!("{passed} passed, {} failed, {skipped} skipped", self.failed)
    }
}

/// The number before a word in `ok. 5 passed; 0 failed; 1 ignored; …`.
fn count(results: &str, word: &str) -> usize {
    results
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}
