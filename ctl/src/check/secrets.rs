//! Whether files with a shared secret can be read by others.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Finding, doubtful};

/// Files among these that hold a secret and are open to group or others.
pub(super) fn findings(files: &[PathBuf]) -> Vec<Finding> {
    let mut seen: Vec<&Path> = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        if seen.contains(&file.as_path()) {
            continue;
        }
        seen.push(file);
        findings.extend(exposed(file));
    }
    findings
}

fn exposed(file: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    if mode & 0o077 == 0 || !holds_secret(&std::fs::read_to_string(file).ok()?) {
        return None;
    }
    let file = file.display();
    Some(doubtful(
        file.to_string(),
        format!("holds a shared secret and has mode {:04o}", mode & 0o7777),
        format!("chmod 600 {file}"),
    ))
}

/// Whether the option is set outside a comment.
fn holds_secret(text: &str) -> bool {
    let mut lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    lines.any(|line| line.contains("shared-secret"))
}
