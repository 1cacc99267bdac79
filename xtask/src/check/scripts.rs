//! Shell scripts: the shell can parse them, and shellcheck has nothing to say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::step::Verdict;
use super::tidy::source_files;
use crate::process;

/// Checks the continuous-integration script and every script under `cluster/` and
/// `tests/cluster/`.
pub(super) fn check(root: &Path) -> Verdict {
    let scripts = scripts(root);
    let mut found = Vec::new();
    for script in &scripts {
        if let Err(message) = process::run(Command::new("bash").arg("-n").arg(script)) {
            found.push(message);
        }
    }
    let syntax = Verdict::of_complaints(&found);
    if syntax != Verdict::Passed {
        return syntax;
    }
    if process::find_program("shellcheck").is_none() {
        return Verdict::Skipped(format!(
            "shellcheck is not installed; {} script(s) parse",
            scripts.len()
        ));
    }
    Verdict::of(process::run(Command::new("shellcheck").args(&scripts)))
}

fn scripts(root: &Path) -> Vec<PathBuf> {
    let mut candidates = source_files(&root.join("cluster"), &[]);
    candidates.extend(source_files(&root.join("tests/cluster"), &[]));
    candidates.push(root.join(".ci/run"));
    candidates.retain(|path| fs::read(path).is_ok_and(|bytes| is_script(&bytes)));
    candidates
}

/// Whether a file begins by naming a shell.
pub(super) fn is_script(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    line.starts_with(b"#!") && line.ends_with(b"sh")
}
